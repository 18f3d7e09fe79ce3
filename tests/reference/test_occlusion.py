"""Occlusion against plain loops: windows, strides, borders, fills, groups, samples of one to three axes (H5, H6).

Not covered: H1 to H4, H7, H8 (RISE, Sobol, HSIC, Shapley sampling, TSR), the Shapley part of H6.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import cnn, mlp, samples, stack, weights_of
from tests.reference.run import Bench, explain, predict, same

SHAPE = (6, 6, 2)


def windows_by_loops(sizes: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[list[tuple]]:
    """Return the cells of every window: starts at 0, stride, 2 stride, ..., cut at the border."""
    found = []
    for corner in itertools.product(*(range(0, n, s) for n, s in zip(sizes, stride, strict=True))):
        ranges = [range(a, min(a + w, n)) for a, w, n in zip(corner, window, sizes, strict=True)]
        found.append(list(itertools.product(*ranges)))
    return found


def groups_by_loops(labels: np.ndarray) -> list[list[tuple]]:
    """Return the cells of every label."""
    return [[cell for cell in np.ndindex(labels.shape) if labels[cell] == label] for label in np.unique(labels)]


def by_loops(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, parts: list[list[tuple]], fills: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Occlude one sample part by part and fill by fill.

    Returns:
        Per fill, what each part loses (fills, parts), and the mean over the parts that cover each cell.
    """
    depth = len(parts[0][0])
    drops = np.zeros((len(fills), len(parts)))
    maps = np.zeros((len(fills), *x.shape[:depth]))
    for k, fill in enumerate(fills):
        count = np.zeros(x.shape[:depth])
        for p, cells in enumerate(parts):
            changed = x.copy()
            for cell in cells:
                changed[cell] = fill[cell]  # all channels of it
            drops[k, p] = f(x[None])[0] - f(changed[None])[0]
            for cell in cells:
                maps[k][cell] += drops[k, p]
                count[cell] += 1
        maps[k] /= np.maximum(count, 1)
    return drops, maps


def compare(bench: Bench, parts: list[list[tuple]], fills: np.ndarray, **options: Any) -> ks.Explanation:
    """Compare a map of the second logit with the loops, and return it."""
    found = bench("occlusion", target=1, **options)
    for i, x in enumerate(bench.x):
        drops, maps = by_loops(lambda batch: bench.logits(batch)[:, 1], x, parts, fills)
        mean = maps.mean(axis=0)
        expected = mean.reshape(*mean.shape, *(1,) * (x.ndim - mean.ndim))
        same(found.values[i], np.broadcast_to(expected, x.shape))
        if found.group_values is not None:
            same(found.group_values[i], drops.mean(axis=0))
        if found.standard_error is not None:
            error = maps.std(axis=0, ddof=1) / np.sqrt(len(fills))
            error = error.reshape(*error.shape, *(1,) * (x.ndim - error.ndim))
            same(found.standard_error[i], np.broadcast_to(error, x.shape))
    return found


@pytest.fixture
def bench(float64) -> Bench:
    """A CNN over (6, 6, 2) and three background samples."""
    return Bench(cnn(), samples(SHAPE, 2), background=samples(SHAPE, 3, seed=9))


@pytest.mark.parametrize(
    ("window", "stride"),
    [
        ((1, 1), (1, 1)),
        ((2, 3), (2, 3)),
        ((4, 4), (4, 4)),  # the last window of each axis is cut
        ((3, 3), (1, 1)),  # overlapping
        ((3, 2), (2, 1)),
        ((1, 2), (2, 3)),  # uncovered cells
        ((9, 1), (9, 1)),  # larger than the matrix
    ],
)
def test_windows(window, stride, bench):
    """A cell gets the mean over the windows that cover it, all channels of it moving together."""
    fills = np.full((1, *SHAPE), 0.3)
    parts = windows_by_loops((6, 6), window, stride)
    found = compare(bench, parts, fills, window=window, stride=stride, fill=0.3)
    bare = 36 - len({cell for part in parts for cell in part})
    said = [text for text in found.warnings if "uncovered" in text]
    assert (f"leave {bare} cell" in said[0]) if bare else not said
    tiles = f"Windows of {window} with stride {stride} do not tile"
    cut = stride == window and len({len(part) for part in parts}) > 1  # overlapping ones are always cut
    assert any(text.startswith(tiles) for text in found.warnings) == cut
    larger = [text for text in found.warnings if "larger than the matrix" in text]
    assert larger == (
        ["window=(9, 1) is larger than the matrix (6, 6): it was cut to (6, 1)."] if window == (9, 1) else []
    )
    assert found.standard_error is None
    assert found.group_values is None


def test_one_number_for_both_axes_and_the_default(bench):
    """window=2 is (2, 2), and the stride is the window; without either, a window is one cell."""
    same(bench.values("occlusion", window=2), bench.values("occlusion", window=(2, 2), stride=2))
    same(bench.values("occlusion"), bench.values("occlusion", window=1, stride=1))


def test_long_axes_get_a_sixteenth(float64):
    """An axis of more than 64 cells gets windows of a sixteenth of it, rounded up."""
    bench = Bench(stack((100, 2), layers.Flatten(), layers.Dense(3)), samples((100, 2), 1))
    parts = windows_by_loops((100, 2), (7, 1), (7, 1))
    found = compare(bench, parts, np.zeros((1, 100, 2)), fill="zeros")
    assert not any("tile" in text for text in found.warnings)  # nobody asked for these windows
    short = Bench(stack((64,), layers.Dense(3)), samples((64,), 1))
    compare(short, windows_by_loops((64,), (1,), (1,)), np.zeros((1, 64)), fill="zeros")


def test_fills(bench):
    """A number, a word, one array, several; a background's mean or median."""
    background = bench.session.background[0]
    parts = windows_by_loops((6, 6), (3, 3), (3, 3))
    one = samples(SHAPE, 1, seed=4)
    fills = {
        "zeros": np.zeros((1, *SHAPE)),
        "mean": background.mean(axis=0, keepdims=True),
        "median": np.median(background, axis=0, keepdims=True),
    }
    for word, fill in fills.items():
        compare(bench, parts, fill, window=3, fill=word)
    compare(bench, parts, one, window=3, fill=one[0])
    compare(bench, parts, samples(SHAPE, 3, seed=4), window=3, fill=samples(SHAPE, 3, seed=4))


def test_background_samples_as_fills(bench):
    """All background samples, or as many drawn ones as `fills` says: the same for every sample, with an error."""
    background = bench.session.background[0]
    parts = windows_by_loops((6, 6), (4, 4), (2, 2))
    found = compare(bench, parts, background, window=4, stride=2)
    assert found.standard_error.shape == found.values.shape
    assert not any("background" in text for text in found.warnings)
    drawn = bench("occlusion", window=4, stride=2, fills=2, target=1)
    matches = []
    for pair in itertools.combinations(range(3), 2):
        expected = bench.values("occlusion", window=4, stride=2, fill=background[list(pair)], target=1)
        matches.append(np.max(np.abs(drawn.values - expected)) < 1e-12)
    assert sum(matches) == 1
    assert drawn.attrs["baseline"]["text"] == "2 of 3 background samples"
    assert [text for text in drawn.warnings if "background" in text] == [
        "2 of 3 background samples were used (fills=2): values explain the difference from their mean, not from that "
        "of all."
    ]
    lone = bench("occlusion", window=4, fills=1)
    assert lone.standard_error is None


def test_every_background_sample_is_a_fill(float64):
    """However many there are."""
    background = samples(SHAPE, 40, seed=9)
    bench = Bench(cnn(), samples(SHAPE, 2), background=background)
    parts = windows_by_loops((6, 6), (2, 2), (2, 2))
    found = compare(bench, parts, background, window=2)
    assert found.attrs["baseline"]["text"] == "40 background samples"
    same(found.baseline, background)


LABELS = np.array([[7, 7, 7, 2, 2, 2]] * 3 + [[7, 0, 0, 0, 0, 2]] * 3)
GROUPS: dict[str, tuple[Any, np.ndarray]] = {
    "rows": ("rows", np.repeat(np.arange(6)[:, None], 6, axis=1)),
    "columns": ("columns", np.repeat(np.arange(6)[None], 6, axis=0)),
    "blocks": (
        ("blocks", (2, 4)),
        np.arange(6)[:, None] // 2 * 2 + np.arange(6)[None] // 4,
    ),
    "labels": (LABELS, LABELS),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name, bench):
    """Rows, columns, blocks and labelled regions move together: each cell repeats its group's value."""
    groups, labels = GROUPS[name]
    fills = np.full((1, *SHAPE), 0.3)
    found = compare(bench, groups_by_loops(labels), fills, groups=groups, fill=0.3)
    assert found.group_values.shape == (2, len(np.unique(labels)))


def test_several_targets(bench):
    """With several targets every array has their axis, and each is that of the target alone."""
    found = bench("occlusion", groups="rows", target=np.array([[0, 2], [1, 1]]))
    assert found.values.shape == (2, 2, *SHAPE)
    assert found.group_values.shape == (2, 2, 6)
    for t, target in enumerate(([0, 1], [2, 1])):
        alone = bench("occlusion", groups="rows", target=np.array(target))
        same(found.values[:, t], alone.values)
        same(found.group_values[:, t], alone.group_values)
        same(found.standard_error[:, t], alone.standard_error)


@pytest.mark.parametrize(
    ("shape", "parts", "window", "stride"),
    [
        ((7,), [], (2,), (2,)),
        ((7,), [], (3,), (1,)),
        ((5, 4), [lambda: layers.Conv1D(3, 2, activation="relu")], (2, 1), (2, 1)),
        ((4, 3, 3, 2), [lambda: layers.Conv3D(2, 2, activation="relu")], (2, 2, 1), (2, 1, 2)),
    ],
    ids=["features", "features overlapping", "matrix", "volume"],
)
def test_other_numbers_of_axes(shape, parts, window, stride, float64):
    """One axis, two without channels, three with."""
    model = stack(shape, *(part() for part in parts), layers.Flatten(), layers.Dense(3))
    bench, sizes = Bench(model, samples(shape, 2)), shape[: len(window)]
    found = windows_by_loops(sizes, window, stride)
    compare(bench, found, np.zeros((1, *shape)), window=window, stride=stride, fill="zeros")


def test_the_top_class_is_that_of_the_clean_input(float64):
    """Occluded inputs may have another class on top; it is the clean input's that is explained."""
    bench = Bench(mlp(), samples((5,), 6))
    top = np.argmax(bench.logits(), axis=1)
    emptied = bench.x.copy()
    emptied[:, 0] = 5.0
    assert np.any(np.argmax(bench.logits(emptied), axis=1) != top)
    same(bench.values("occlusion", fill=5.0, target=None), bench.values("occlusion", fill=5.0, target=top))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_h5_a_linear_model_under_overlapping_windows(window, float64):
    """A cell's value is the mean of the sums of w (x - fill) over the windows that cover it."""
    bench = Bench(stack((7,), layers.Dense(3)), samples((7,)))
    w = weights_of(bench.model.layers[0])[0][:, 0]
    shares = w * (bench.x - 0.5)
    expected = np.zeros_like(shares)
    for i in range(7):
        covering = [a for a in range(7) if a <= i < a + window]
        expected[:, i] = np.mean([shares[:, a : a + window].sum(axis=1) for a in covering], axis=0)
    same(bench.values("occlusion", window=window, stride=1, fill=0.5), expected)


def test_h6_rows_of_an_additive_function(float64):
    """f = sum of g(cells): a row's value is the sum of its cells' contributions."""
    inputs = layers.Input((4, 5))
    head = layers.Dense(2)
    model = keras.Model(inputs, head(layers.Flatten()(keras.ops.tanh(inputs))))
    x = samples((4, 5))
    bench, w = Bench(model, x), weights_of(head)[0][:, 0].reshape(4, 5)
    cells = w * (np.tanh(x) - np.tanh(0.2))
    found = bench("occlusion", groups="rows", fill=0.2)
    same(found.group_values, cells.sum(axis=2))
    same(found.values, np.repeat(cells.sum(axis=2, keepdims=True), 5, axis=2))
    same(bench("occlusion", groups="columns", fill=0.2).group_values, cells.sum(axis=1))
    same(bench.values("occlusion", fill=0.2), cells)


def test_what_does_not_fit(float64):
    """Every wrong window, group and fill is refused before anything is computed, and said why."""
    model, x = cnn(), samples(SHAPE, 2)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({}, ks.MissingBaselineError, "baseline='zeros'"),
        ({"baseline": "mean"}, ks.MissingBaselineError, "baseline='zeros'"),
        ({"baseline": np.zeros((5, 5))}, ks.BadInputError, r"baseline= has shape \(5, 5\)"),
        ({"baseline": 0.0, "fill": 0.0}, ks.BadInputError, "baseline= and fill= are two names"),
        ({"fill": "mean"}, ks.MissingBaselineError, "background="),
        ({"fill": "zero"}, ks.UnknownNameError, "Unknown fill 'zero'. Did you mean 'zeros'"),
        ({"fill": np.zeros((5, 5))}, ks.BadInputError, r"fill= has shape \(5, 5\)"),
        ({"fill": float("nan")}, ks.BadInputError, "fill= must hold finite numbers"),
        ({"fill": 0.0, "window": (1, 2, 3)}, ks.BadInputError, r"one for each axis of \(6, 6\)"),
        ({"fill": 0.0, "window": 0}, ks.BadInputError, "positive whole number"),
        ({"fill": 0.0, "window": True}, ks.BadInputError, "positive whole number"),
        ({"fill": 0.0, "stride": 1.5}, ks.BadInputError, "positive whole number"),
        ({"fill": 0.0, "groups": "row"}, ks.UnknownNameError, "Did you mean 'rows'"),
        ({"fill": 0.0, "groups": np.zeros((6, 5), int)}, ks.BadInputError, r"expected the shape .* \(6, 6\)"),
        ({"fill": 0.0, "groups": np.zeros((6, 6))}, ks.BadInputError, "int array"),
        ({"fill": 0.0, "groups": ("blocks", (2, 0))}, ks.BadInputError, "one positive size"),
        ({"fill": 0.0, "groups": "rows", "window": 2}, ks.BadInputError, "not both"),
        ({"fill": 0.0, "fills": 0}, ks.BadInputError, "fills must be a whole number of at least 1; got 0"),
        ({"fill": 0.0, "fills": 1.5}, ks.BadInputError, r"fills must be a whole number of at least 1; got 1\.5"),
    ]
    for options, error, words in wrong:
        with pytest.raises(error, match=words):
            explain(model, x, "occlusion", **options)
    two = [layers.Input((3,)), layers.Input((3,))]
    joined = keras.Model(two, layers.Dense(2)(layers.Concatenate()(two)))
    with pytest.raises(ks.IncompatibleMethodError, match=r"one input; this one has 2, .*integrated_gradients"):
        explain(joined, [samples((3,))] * 2, "occlusion", fill=0.0)


def test_interpolation_as_fill(float64):
    """fill="linear": what the output loses when a window is interpolated from around it, with the stated noise."""
    from kerascope.methods.imputation import NOISE, imputer

    bench = Bench(cnn(), samples((6, 6, 2)))
    found = bench("occlusion", fill="linear", groups="rows", seed=3)
    noise = np.random.default_rng((3, 1)).normal(size=(6, 6, 2))
    for row in range(6):
        missing = np.zeros((6, 6), bool)
        missing[row] = True
        changed = bench.x.copy()
        for n, x in enumerate(bench.x):
            filled = np.moveaxis(imputer(missing)(np.moveaxis(x, -1, 0)), 0, -1)
            changed[n] = np.where(missing[..., None], filled + NOISE * np.ptp(x) * noise, x)
        same(found.group_values[:, row], (bench.logits() - predict(bench.model, changed))[:, 0])
    assert found.standard_error is None


def test_windows_keep_to_the_memory_budget():
    """Masks are made piece by piece: those of 4096 windows over 4096 cells would be 16 MiB at once."""
    model = stack((64, 64, 1), layers.Flatten(), layers.Dense(2))
    x = samples((64, 64, 1), 1)
    explainer = ks.Explainer(model, "occlusion", fill=0.0, memory_budget=2**20, compile=False)
    explainer(x)
    tracemalloc.start()
    explainer(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_many_fills_keep_to_the_memory_budget():
    """One fill after the other: maps of 64 fills would be 8 MiB for each array that is made of them."""
    model = stack((64, 64, 1), layers.Flatten(), layers.Dense(2))
    x, background = samples((64, 64, 1), 4), samples((64, 64, 1), 64, seed=2)
    explainer = ks.Explainer(model, "occlusion", window=16, background=background, memory_budget=2**20, compile=False)
    told: list[float] = []
    explainer(x, progress=lambda done, total: told.append(done))
    assert told == sorted(told)
    assert len(told) > 30
    tracemalloc.start()
    explainer(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_what_replaces_the_cells_is_on_record(bench):
    """The fill is the baseline of the result: an array, or the background samples drawn."""
    assert bench("occlusion", fill=0.25).attrs["baseline"] == {"text": "0.25 in every cell", "count": 1, "output": None}
    drawn = bench("occlusion")
    assert drawn.attrs["baseline"]["text"] == "3 background samples"
    same(np.sort(drawn.baseline, axis=0), np.sort(bench.session.background[0], axis=0))
    assert bench("occlusion", fill="linear").attrs["baseline"] is None


def test_tokens_are_replaced_by_tokens():
    inputs = layers.Input((6,), dtype="int32")
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Embedding(9, 2)(inputs))))
    tokens = np.arange(12).reshape(2, 6) % 9
    for fill in ("mean", 0.5):
        with pytest.raises(ks.BadInputError, match="takes whole numbers"):
            ks.explain(model, tokens, "occlusion", fill=fill, background=tokens)
    with pytest.raises(ks.BadInputError, match="takes whole numbers"):
        ks.explain(model, tokens, "kernel_shap", baseline="mean", background=tokens)
    with pytest.raises(ks.IncompatibleMethodError, match="nothing is interpolated"):
        ks.explain(model, tokens, "occlusion", fill="linear")
    replaced = np.repeat(tokens, 6, axis=0)
    replaced[np.arange(12), np.tile(np.arange(6), 2)] = 3
    logits = predict(model, tokens), predict(model, replaced).reshape(2, 6, 2)
    found = ks.explain(model, tokens, "occlusion", fill=3, target=1)
    np.testing.assert_allclose(found.values, logits[0][:, None, 1] - logits[1][..., 1], atol=1e-6)
