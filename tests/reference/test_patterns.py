"""PatternNet and PatternAttribution: estimators against loops over patches, the toy, identities of the way back."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.patterns import fit as fitting
from kerascope.patterns.fit import fit_on, open_view
from kerascope.patterns.quality import rho_of
from kerascope.patterns.units import units_of
from tests.conftest import UNTOUCHED, numeric_state, set_numeric_state
from tests.reference import nets
from tests.reference.run import Bench, differ, fitted, predict, same, total

pytestmark = pytest.mark.usefixtures("float64")


def kernels_of(model: Any, x: Any) -> dict[str, np.ndarray]:
    """Return the folded kernels by node."""
    view, _ = open_view(model, x)
    units = units_of(view.logits, channels_first=view.channels_first)
    return {unit.name: np.asarray(keras.ops.convert_to_numpy(unit.kernel)) for unit in units}


# The estimators, against NumPy -----------------------------------------------------------


def patches_2d(
    x: np.ndarray, size: tuple[int, int], *, stride: int = 1, dilation: int = 1, padding: str = "valid"
) -> np.ndarray:
    """Cut out what a filter reads, one position at a time: (observations, kh, kw, C)."""
    reach = [dilation * (k - 1) + 1 for k in size]
    if padding == "same":
        short = [max((-(-n // stride) - 1) * stride + r - n, 0) for n, r in zip(x.shape[1:3], reach, strict=True)]
        x = np.pad(x, [(0, 0), *[(s // 2, s - s // 2) for s in short], (0, 0)])
    found = []
    for sample in x:
        for i in range(0, x.shape[1] - reach[0] + 1, stride):
            for j in range(0, x.shape[2] - reach[1] + 1, stride):
                found.append(sample[i : i + reach[0] : dilation, j : j + reach[1] : dilation])
    return np.array(found)


GEOMETRIES = {
    "valid": {},
    "same": {"padding": "same"},
    "stride 2": {"stride": 2, "padding": "same"},
    "dilation 2": {"dilation": 2},
}


def convolved(activation: str | None = None, **geometry: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return a convolution over (7, 6, 2), samples that are not centred, and their patches."""
    names = {"stride": "strides", "dilation": "dilation_rate", "padding": "padding"}
    options = {names[name]: value for name, value in geometry.items()}
    x = nets.samples((7, 6, 2), 5, low=-0.4)
    model = nets.stack((7, 6, 2), layers.Conv2D(3, (3, 2), activation=activation, name="conv", **options))
    return model, x, patches_2d(x, (3, 2), **geometry)


def linear_pattern(patches: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return cov(x, y) / var(y), one cell after the other."""
    flat = patches.reshape(len(patches), -1)
    cells = [np.cov(column, y, ddof=0)[0, 1] for column in flat.T]
    return (np.array(cells) / np.var(y)).reshape(patches.shape[1:])


def one_sided_pattern(patches: np.ndarray, w: np.ndarray, bias: float, sign: int) -> np.ndarray:
    """Return the two-component pattern by its formula; the mask sees the bias, the moments do not."""
    flat, weights = patches.reshape(len(patches), -1), w.reshape(-1)
    y = np.array([sum(a * b for a, b in zip(row, weights, strict=True)) for row in flat])
    side = (y + bias > 0) == (sign > 0)
    c = np.mean(flat[side] * y[side, None], axis=0) - np.mean(flat[side], axis=0) * np.mean(y)
    return (c / np.sum(weights * c)).reshape(patches.shape[1:])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_linear_pattern_is_covariance_over_variance(geometry: str) -> None:
    model, x, patches = convolved(**GEOMETRIES[geometry])
    found = fitted(model, x)["conv"]
    kernel = nets.weights_of(model.layers[-1])[0]
    assert (found.estimator, found.observations) == ("linear", len(patches))
    for j in range(3):
        y = patches.reshape(len(patches), -1) @ kernel[..., j].ravel()
        same(found.values[..., j], linear_pattern(patches, y), what=geometry)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("sign", [1, -1])
def test_one_sided_pattern_is_its_formula(geometry: str, sign: int) -> None:
    model, x, patches = convolved("relu", **GEOMETRIES[geometry])
    found = fitted(model, x, estimator="relu" if sign > 0 else {"conv": "relu_negative"})["conv"]
    kernel, bias = nets.weights_of(model.layers[-1])
    assert np.min(found.positives) > 5  # both sides of every threshold are seen
    for j in range(3):
        same(found.values[..., j], one_sided_pattern(patches, kernel[..., j], bias[j], sign))
        same((found.positive, found.negative)[sign < 0][..., j], found.values[..., j])
        same(found.other[..., j], one_sided_pattern(patches, kernel[..., j], bias[j], -sign))
        y = patches.reshape(len(patches), -1) @ kernel[..., j].ravel()
        assert found.positives[j] == np.sum(y + bias[j] > 0)


def test_linear_pattern_of_a_one_dimensional_convolution() -> None:
    x = nets.samples((9, 2), 6, low=-0.3)
    model = nets.stack((9, 2), layers.Conv1D(3, 4, strides=2, padding="same", name="conv"))
    kernel = nets.weights_of(model.layers[-1])[0]
    patches = patches_2d(x[:, :, None], (4, 1), stride=2, padding="same")[:, :, 0]
    found = fitted(model, x)["conv"]
    for j in range(3):
        y = patches.reshape(len(patches), -1) @ kernel[..., j].ravel()
        same(found.values[..., j], linear_pattern(patches, y))


def test_linear_pattern_of_a_depthwise_convolution() -> None:
    x = nets.samples((6, 5, 3), 5, low=-0.3)
    model = nets.stack((6, 5, 3), layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="conv"))
    kernel = nets.weights_of(model.layers[-1])[0]
    patches = patches_2d(x, (3, 3), padding="same")
    found = fitted(model, x)["conv"]
    assert found.dead.shape == (6,)
    for channel in range(3):
        for m in range(2):
            mine = patches[..., channel]
            y = mine.reshape(len(mine), -1) @ kernel[..., channel, m].ravel()
            same(found.values[..., channel, m], linear_pattern(mine, y))


def test_linear_pattern_of_a_grouped_convolution() -> None:
    x = nets.samples((6, 5, 4), 5, low=-0.3)
    model = nets.stack((6, 5, 4), layers.Conv2D(6, 2, groups=2, name="conv"))
    kernel = nets.weights_of(model.layers[-1])[0]
    patches = patches_2d(x, (2, 2))
    found = fitted(model, x)["conv"]
    for j in range(6):
        mine = patches[..., 2 * (j // 3) : 2 * (j // 3) + 2]
        y = mine.reshape(len(mine), -1) @ kernel[..., j].ravel()
        same(found.values[..., j], linear_pattern(mine, y))


def test_linear_pattern_of_a_transposed_convolution() -> None:
    """It is a convolution of the input with zeros put between its cells, which count as observed."""
    x = nets.samples((4, 2), 6, low=-0.3)
    model = nets.stack((4, 2), layers.Conv1DTranspose(3, 3, strides=2, padding="valid", name="conv"))
    kernel = nets.weights_of(model.layers[-1])[0]  # (taps, out, in)
    spread = np.zeros((6, 9 + 2, 2))
    spread[:, 2:-2:2] = x
    patches = np.array([sample[i : i + 3][::-1] for sample in spread for i in range(9)])
    same(
        np.einsum("mti,toi->mo", patches, kernel).reshape(6, 9, 3) + nets.weights_of(model.layers[-1])[1],
        predict(model, x),
    )
    found = fitted(model, x)["conv"]
    for j in range(3):
        y = patches.reshape(len(patches), -1) @ kernel[:, j].ravel()
        same(found.values[:, j], linear_pattern(patches, y))


@pytest.mark.parametrize(("equation", "shape"), [("abc,cd->abd", (4, None)), ("abc,bcd->abd", (4, 3))])
def test_linear_pattern_of_an_einsum(equation: str, shape: Any) -> None:
    x = nets.samples((4, 5), 30, low=-0.3)
    model = nets.stack((4, 5), layers.EinsumDense(equation, output_shape=(4, 3), name="mix"))
    kernel = nets.weights_of(model.layers[-1])[0]
    found = fitted(model, x, batch_size=7)["mix"]
    for j in range(3):
        if kernel.ndim == 2:  # positions share their neurons
            rows = x.reshape(-1, 5)
            same(found.values[:, j], linear_pattern(rows, rows @ kernel[:, j]))
        for i in range(4) if kernel.ndim == 3 else ():
            same(found.values[i, :, j], linear_pattern(x[:, i], x[:, i] @ kernel[i, :, j]))


def test_dense_layers_over_positions_share_their_neurons() -> None:
    x = nets.samples((4, 5), 8, low=-0.3)
    model = nets.stack((4, 5), layers.Dense(3, name="dense"))
    kernel, rows = nets.weights_of(model.layers[-1])[0], x.reshape(-1, 5)
    for j in range(3):
        same(fitted(model, x)["dense"].values[:, j], linear_pattern(rows, rows @ kernel[:, j]))


def test_a_sum_is_a_neuron_with_one_pattern_per_channel() -> None:
    inputs = layers.Input((4, 2))
    left, right = layers.Conv1D(3, 2, name="left")(inputs), layers.Conv1D(3, 2, name="right")(inputs)
    model = nets.weigh(keras.Model(inputs, layers.Subtract(name="sum")([left, right])))
    x = nets.samples((4, 2), 9)
    found = fitted(model, x)["sum"].values
    ends = [predict(keras.Model(inputs, tensor), x).reshape(-1, 3) for tensor in (left, right)]
    y = ends[0] - ends[1]
    assert found.shape == (2, 1, 3)
    for c in range(3):
        for k in range(2):
            same(found[k, 0, c], np.cov(ends[k][:, c], y[:, c], ddof=0)[0, 1] / np.var(y[:, c]))
    same(found[0] - found[1], np.ones((1, 3)))


MODELS: dict[str, Callable[[], Any]] = {
    "mlp": nets.mlp,
    "cnn": nets.cnn,
    "average": nets.average_head,
    "residual": nets.residual,
    "normalised": nets.normalised,
    "normalised before": lambda: nets.normalised(order="before"),
}


def shape_of(model: Any) -> tuple[int, ...]:
    return tuple(model.inputs[0].shape[1:])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("estimator", ["relu", "linear", "relu_negative"])
def test_filter_times_pattern_is_one(name: str, estimator: str) -> None:
    model = MODELS[name]()
    x = nets.samples(shape_of(model), 40)
    kernels = kernels_of(model, x)
    found = fitted(model, x, estimator={"*": estimator})
    assert set(found) == set(kernels)
    for layer in found:
        reads = tuple(axis for axis in range(kernels[layer].ndim) if axis not in found[layer].neurons)
        sums = np.sum(kernels[layer] * found[layer].values, axis=reads).ravel()
        same(sums, np.where(found[layer].dead, 0.0, 1.0), what=layer)
    assert np.mean([found[layer].dead.mean() for layer in found]) < 0.5


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_do_not_matter(size: int) -> None:
    model = nets.cnn()
    x = nets.samples((6, 6, 2), 30) + 3.0  # far from zero, where sums lose digits
    whole = fitted(model, x)
    shuffled = x[np.random.default_rng(5).permutation(len(x))]
    for other in (fitted(model, x, batch_size=size), fitted(model, shuffled, batch_size=size)):
        for layer in whole:
            same(other[layer].values, whole[layer].values, what=layer)
            assert np.array_equal(other[layer].positives, whole[layer].positives)


@pytest.mark.parametrize("size", [4, 30])
def test_long_sums_are_cut_and_progress_is_not(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nets.cnn(), nets.samples((6, 6, 2), 30)
    whole = fitted(model, x)
    monkeypatch.setattr(fitting, "_LONGEST_SUM", 36 * 3)  # 3 samples of the first convolution
    told: list[tuple[int, int]] = []
    cut = fitted(model, x, batch_size=size, progress=lambda *done: told.append(done))
    assert told == [(min(end, 30), 30) for end in range(size, 30 + size, size)]
    for layer in whole:
        same(cut[layer].values, whole[layer].values, what=layer)
        assert cut[layer].observations == whole[layer].observations


def test_compiled_is_the_same() -> None:
    model, x = nets.cnn(), nets.samples((6, 6, 2), 41)
    whole = fitted(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        found = ks.Patterns.fit(model, x, batch_size=4)
    for layer in whole:
        same(found[layer].values, whole[layer].values)


def test_which_estimator_stands_where() -> None:
    """A ReLU is found behind rearrangements; a tanh, a pooling and the logits get the linear estimator."""
    inputs = layers.Input((6, 2))
    h = layers.Conv1D(3, 2, name="direct", activation="relu")(inputs)
    h = layers.Conv1D(3, 2, name="pooled")(h)
    h = layers.ReLU()(layers.MaxPooling1D(2)(h))
    h = layers.Flatten()(layers.Conv1D(3, 1, name="flattened")(h))
    h = layers.Dense(4, name="bent", activation="tanh")(layers.ReLU()(h))
    branch = layers.Dense(4, name="skipped")(h)
    h = layers.Add(name="sum")([layers.ReLU()(branch), branch])
    model = nets.weigh(keras.Model(inputs, layers.Dense(2, name="logits")(h)))
    x = nets.samples((6, 2), 30)
    found = fitted(model, x)
    expected = {"direct": "relu", "flattened": "relu"}
    assert {name: found[name].estimator for name in found} == {
        name: expected.get(name, "linear")
        for name in ("direct", "pooled", "flattened", "bent", "skipped", "sum", "logits")
    }
    assert {fitted(model, x, estimator="linear")[name].estimator for name in found} == {"linear"}
    mixed = fitted(model, x, estimator={"s*": "relu", "direct": "linear"})
    assert [mixed[name].estimator for name in ("sum", "skipped", "direct", "flattened")] == [
        "relu",
        "relu",
        "linear",
        "relu",
    ]


def test_a_bias_moves_the_mask_and_nothing_else() -> None:
    model, x = nets.mlp(widths=(7,)), nets.samples((5,), 50)
    linear, sided, name = fitted(model, x, estimator="linear"), fitted(model, x), model.layers[0].name
    bias = model.layers[0].bias
    bias.assign(np.asarray(bias) + 0.4)
    same(fitted(model, x, estimator="linear")[name].values, linear[name].values)
    differ(fitted(model, x)[name].values, sided[name].values)


def test_known_sources_are_recovered() -> None:
    """x = A s with independent s, and neurons that read s off: their patterns are the columns of A."""
    rng = np.random.default_rng(3)
    mixing, sources = rng.normal(size=(6, 4)), rng.uniform(-1, 1, size=(40000, 4))
    model = nets.linear(6, 4)
    model.layers[0].kernel.assign(np.linalg.pinv(mixing).T)
    found = fitted(model, sources @ mixing.T)[model.layers[0].name].values
    assert np.max(np.abs(found - mixing)) < 5 / np.sqrt(len(sources)) * np.abs(mixing).max()


def test_white_data_give_the_filter_and_the_w_square_rule() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 5))
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0))
    x = x @ vectors / np.sqrt(values)  # the covariance is the identity to the last digit
    model = nets.linear(5, 3)
    w = nets.weights_of(model.layers[0])[0]
    patterns = fitted(model, x)
    same(patterns[model.layers[0].name].values, w / np.sum(w**2, axis=0))
    bench = Bench(model, x[:4])
    squares = w[:, 1] ** 2 / np.sum(w[:, 1] ** 2)
    same(bench.values("pattern_attribution", target=1, patterns=patterns), squares * bench.logits()[:, 1:2])


@pytest.mark.parametrize("name", ["pattern_attribution", "patternnet"])
def test_scalings_have_the_pattern_one_over_scale(name: str) -> None:
    x = nets.samples((4, 3), 6)
    scaled = nets.stack((4, 3), layers.Conv1D(1, 1, use_bias=False, name="mix"))
    one = nets.stack((4, 1), layers.Conv1D(1, 1, use_bias=False, name="one"))
    w = nets.weights_of(one.layers[0])[0]
    same(fitted(one, x[..., :1])["one"].values, 1 / w)
    model = keras.Sequential([layers.Input((4, 3)), layers.Rescaling(4.0, offset=1.0), *scaled.layers])
    patterns = fitted(model, x)
    found = Bench(model, x).values(name, target=ks.Output((2, 0)), patterns=patterns)
    # The kernel behind it sees 4 x + 1, whose pattern is 4 times that of x.
    plain = fitted(scaled, 4 * x + 1)
    before = Bench(scaled, 4 * x + 1).values(name, target=ks.Output((2, 0)), patterns=plain)
    same(found, before / 4 if name == "patternnet" else before)


def test_dead_neurons_have_no_pattern_and_are_counted() -> None:
    model, x = nets.mlp(widths=(7,)), nets.samples((5,), 40)
    kernel, bias = model.layers[0].kernel, np.asarray(model.layers[0].bias).copy()
    bias[:2] = -50.0  # never fire
    model.layers[0].bias.assign(bias)
    model.layers[0].kernel.assign(np.asarray(kernel) * (np.arange(7) != 2))  # never varies
    view, arrays = open_view(model, x)
    with pytest.warns(
        ks.KerascopeWarning, match=r"^3 neurons have no pattern.* 40 samples: 'dense\w*' \(3 of 7\)\."
    ) as said:
        patterns = fit_on(view, arrays, compile=False)
    assert len(said) == 1
    layer = patterns[model.layers[0].name]
    assert np.array_equal(layer.dead, [True] * 3 + [False] * 4)
    assert not layer.values[:, :3].any()
    assert np.array_equal(layer.positives[:2], [0, 0])
    e = Bench(model, x[:3])("pattern_attribution", patterns=patterns)
    assert np.isfinite(e.values).all()
    assert any("3 neurons have no pattern" in text for text in e.warnings)


# In float32 ------------------------------------------------------------------------------


@pytest.fixture
def float32(float64: None) -> Iterator[None]:
    """Undo what the mark of this module does: models and samples are float32 here."""
    before = numeric_state()
    set_numeric_state(UNTOUCHED)
    yield
    set_numeric_state(before)


def fitted_alive(model: Any, x: np.ndarray, **options: Any) -> ks.Patterns:
    """Fit; a warning of dead neurons is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ks.KerascopeWarning)
        return ks.Patterns.fit(model, x, **options)


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "dense": (lambda: layers.Dense(4), (5,)),
    "valid": (lambda: layers.Conv2D(4, (3, 2)), (5, 4, 2)),
    "same": (lambda: layers.Conv2D(4, (3, 2), padding="same"), (5, 4, 2)),
    "grouped": (lambda: layers.Conv2D(4, (3, 2), groups=2), (5, 4, 2)),
    "depthwise": (lambda: layers.DepthwiseConv2D((3, 2), depth_multiplier=2, padding="same"), (5, 4, 2)),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", output_shape=(6, 4)), (6, 5)),
}


def neurons_of(name: str, x: np.ndarray, kernel: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """Return each neuron's place in the kernel, and what it reads (observations, cells), in float64."""
    x = x.astype("float64")
    if x.ndim < 4:
        return [((..., j), x.reshape(-1, x.shape[-1])) for j in range(4)]
    patches = patches_2d(x, (3, 2), padding="valid" if name in ("valid", "grouped") else "same")
    if name == "depthwise":
        return [((..., c, m), patches[..., c].reshape(len(patches), -1)) for c in range(2) for m in range(2)]
    groups = [patches[..., j // 2 : j // 2 + 1] if name == "grouped" else patches for j in range(4)]
    return [((..., j), patch.reshape(len(patch), -1)) for j, patch in enumerate(groups)]


def far_away(shape: tuple[int, ...], data: str, count: int = 400) -> np.ndarray:
    """Return float32 samples whose offset is thousands of times their spread."""
    noise = np.random.default_rng(2).normal(size=(count, *shape))
    if data == "kelvin":
        return (300 + 0.1 * noise).astype("float32")
    if data == "channels apart":
        return (noise + np.linspace(-1000, 1000, shape[-1])).astype("float32")
    x = (noise + 1000).astype("float32")
    x[: count // 4] -= 700  # the first batches look like nothing that follows
    return x


@pytest.mark.parametrize("size", [1, 32, 400])
@pytest.mark.parametrize("data", ["kelvin", "channels apart", "drifting"])
@pytest.mark.parametrize("name", LAYERS)
def test_an_offset_costs_no_digits(name: str, data: str, size: int, float32: None) -> None:
    """Errors of float32 relative to the spread of the data, not to their offset; no live neuron is called dead."""
    make, shape = LAYERS[name]
    model, x = nets.stack(shape, make()), far_away(shape, data)
    layer, kernel = model.layers[0], nets.weights_of(model.layers[0])[0]
    found = fitted_alive(model, x, estimator="linear", batch_size=size)[layer.name]
    expected = np.zeros(kernel.shape)
    for place, read in neurons_of(name, x, kernel):
        expected[place] = linear_pattern(read, read @ kernel[place].ravel()).reshape(kernel[place].shape)
    same(found.values, expected, 1e-5)


@pytest.mark.parametrize("size", [1, 32, 100])
@pytest.mark.parametrize("name", ["dense", "valid", "same"])
def test_an_offset_costs_one_sided_patterns_no_digits(name: str, size: int, float32: None) -> None:
    make, shape = LAYERS[name]
    model, x = nets.stack(shape, make(), layers.ReLU()), far_away(shape, "kelvin", 100)
    layer, (kernel, _) = model.layers[0], nets.weights_of(model.layers[0])
    neurons = neurons_of(name, x, kernel)
    answers = np.stack([read @ kernel[place].ravel() for place, read in neurons], axis=1)
    low = np.sort(answers, axis=0)[len(answers) // 5 : len(answers) // 2]
    widest = np.diff(low, axis=0).argmax(axis=0), np.arange(4)  # no answer is rounded across a threshold in there
    layer.bias.assign(-(low[:-1] + low[1:])[widest] / 2)
    z = answers + nets.weights_of(layer)[1]
    found = fitted_alive(model, x, batch_size=size)[layer.name]
    expected = np.zeros(kernel.shape)
    for j, (place, read) in enumerate(neurons):
        y, active = answers[:, j], z[:, j] > 0
        c = (read[active] * (y[active] - y.mean())[:, None]).mean(axis=0)
        expected[place] = (c / (kernel[place].ravel() @ c)).reshape(kernel[place].shape)
    assert np.array_equal(found.positives, np.sum(z > 0, axis=0))
    same(found.values, expected, 1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_batches_and_order_do_not_matter_in_float32(name: str, float32: None) -> None:
    """What is left are the roundings of float32 sums, which grow with the root of their length: here 4000 at most."""
    make, shape = LAYERS[name]
    model = nets.stack(shape, make(), layers.ReLU())
    x = np.random.default_rng(2).normal(0.2, 1.0, size=(200, *shape)).astype("float32")
    whole = fitted_alive(model, x, batch_size=200)[model.layers[0].name]
    shuffled = x[np.random.default_rng(5).permutation(len(x))]
    for other, size in ((x, 1), (x, 45), (shuffled, 32), (shuffled, 200)):
        found = fitted_alive(model, other, batch_size=size)[model.layers[0].name]
        same(found.values, whole.values, 1e-6, what=f"batches of {size}")
        same(found.other, whole.other, 1e-6, what=f"batches of {size}")


def test_batches_and_order_in_a_deep_network_in_float32(float32: None) -> None:
    """Deeper layers read activations rounded to 1e-7; where w c is a small rest of its parts that shows 100-fold."""
    parts = [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    parts += [layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    parts += [layers.Conv2D(8, 1), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(10)]
    model = nets.stack((12, 12, 3), *parts)
    x = np.random.default_rng(3).normal(size=(90, 12, 12, 3)).astype("float32")
    whole = fitted_alive(model, x, batch_size=45)
    shuffled = x[np.random.default_rng(1).permutation(len(x))]
    for other, size in ((x, 8), (shuffled, 45)):
        found = fitted_alive(model, other, batch_size=size)
        for layer in whole:
            same(found[layer].values, whole[layer].values, 2e-5, what=layer)


@pytest.mark.parametrize("size", [1, 32, 200])
def test_constant_neurons_are_dead_at_any_offset(size: int, float32: None) -> None:
    x = far_away((5,), "kelvin", 200)
    x[:, 0] = 300.1
    model = nets.stack((5,), layers.Dense(4, name="first"), layers.Dense(3, name="second"))
    kernel = nets.weights_of(model.layers[0])[0]
    kernel[:, 1] = [0.7, 0, 0, 0, 0]  # reads the constant alone
    kernel[:, 2] = 0
    model.layers[0].kernel.assign(kernel)
    after = nets.weights_of(model.layers[1])[0]
    after[:, 2] = [0, 0.3, -1.7, 0]  # reads the two dead ones
    model.layers[1].kernel.assign(after)
    with pytest.warns(ks.KerascopeWarning, match="3 neurons have no pattern"):
        found = ks.Patterns.fit(model, x, estimator="linear", batch_size=size)
    assert np.array_equal(found["first"].dead, [False, True, True, False])
    assert np.array_equal(found["second"].dead, [False, False, True])


# The toy ---------------------------------------------------------------------------------


def toy(count: int = 100_000, *, mean: float = 0.0) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return x = (1, 0) y + (1, 1) e, a neuron (1, -1) that reads y off, and y."""
    rng = np.random.default_rng(0)
    y, e = rng.uniform(-1, 1, count), rng.normal(mean, 1.0, count)
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1, use_bias=False, name="dense")])
    model.layers[0].kernel.assign([[1.0], [-1.0]])
    return model, np.stack([y + e, e], axis=1), y


@pytest.mark.parametrize("estimator", ["linear", "relu", "relu_negative"])
def test_toy_patterns_are_the_signal(estimator: str) -> None:
    model, x, _ = toy()
    found = fitted(model, x, estimator={"dense": estimator})["dense"].values[:, 0]
    assert np.max(np.abs(found - [1, 0])) < 0.02


def test_toy_maps() -> None:
    model, x, y = toy()
    patterns = fitted(model, x)
    bench = Bench(model, x[:50])
    signal = np.stack([y[:50], np.zeros(50)], axis=1)
    for name in ("patternnet", "pattern_attribution"):
        assert np.max(np.abs(bench.values(name, patterns=patterns) - signal)) < 0.02
        one = bench.values(name, patterns=patterns, start="one")
        assert np.max(np.abs(one - [1, 0])) < 0.02
    same(bench.values("gradient"), np.tile([1.0, -1.0], (50, 1)))


def test_a_distractor_with_a_mean_moves_the_one_sided_patterns_only() -> None:
    model, x, _ = toy(mean=1.0)
    exact = {"linear": (1, 0), "relu": (2.5, 1.5), "relu_negative": (-0.5, -1.5)}
    for estimator, expected in exact.items():
        found = fitted(model, x, estimator={"dense": estimator})["dense"].values[:, 0]
        assert np.max(np.abs(found - expected)) < 0.03, estimator


def test_toy_quality() -> None:
    model, x, _ = toy()
    patterns = fitted(model, x[:50_000])
    quality = ks.signal_quality(model, patterns, x[50_000:], observations=50_000).iloc[0]
    assert quality["rho"] > 0.98
    assert abs(quality["filter"] - (1 - 1 / np.sqrt(13))) < 0.01
    assert np.isnan(quality["rho_rectified"])


def test_quality_of_a_random_direction_is_one_minus_its_correlation() -> None:
    """The residual of u (w x)/(w u) in two dimensions varies along one line: plain correlation with that."""
    x = toy(2000)[1]
    w, u = np.array([1.0, -1.0]), np.array([0.3, 0.8])
    x = x - x.mean(axis=0)
    y = x @ w
    residual = x - np.outer(y, u) / (w @ u)
    line = residual[:, 0]
    found = rho_of(x, x.T @ x / len(x), [(u / (w @ u), y)], y)
    assert abs(found - (1 - abs(np.corrcoef(line, y)[0, 1]))) < 1e-6


@pytest.mark.parametrize("estimator", ["relu", "linear"])
def test_covariance_with_the_answer_is_kept(estimator: str) -> None:
    """In sample cov(S(x), y) = cov(x, y) exactly, so rho of the answer as it is is 1, for both estimators."""
    model, x, patches = convolved("relu", padding="same")
    patterns = fitted(model, x, estimator=estimator)
    layer, (kernel, bias) = patterns["conv"], nets.weights_of(model.layers[-1])
    for j in range(3):
        flat = patches.reshape(len(patches), -1)
        y = flat @ kernel[..., j].ravel()
        active = (y + bias[j] > 0)[:, None]
        a = np.where(active, layer.positive[..., j].ravel(), layer.negative[..., j].ravel())
        signal = a * y[:, None]
        centred = y - y.mean()
        same(centred @ signal, centred @ flat)
    quality = ks.signal_quality(model, patterns, x, by="neuron")
    assert np.max(np.abs(quality["rho"] - 1)) < 1e-6
    assert quality["rho_rectified"].between(0, 1).all()
    assert (quality["rho"] > quality["random"]).all()


@pytest.mark.parametrize("name", ["cnn", "residual", "normalised"])
def test_quality_in_sample_is_one_at_every_layer(name: str) -> None:
    model = MODELS[name]()
    x = nets.samples(shape_of(model), 1100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = ks.signal_quality(model, fitted(model, x), x, observations=10**6)
    assert np.nanmin(quality["lowest"]) > 1 - 1e-6
    assert list(quality["layer"]) == list(fitted(model, x))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same"),
        lambda: layers.Conv2DTranspose(3, 2, strides=2),
        lambda: layers.Conv2D(4, 2, groups=2, dilation_rate=2),
    ],
    ids=["depthwise", "transposed", "grouped"],
)
def test_quality_knows_what_every_convolution_reads(layer: Callable[[], Any]) -> None:
    """A wrong patch would break that rho is 1 in sample."""
    model = nets.stack((6, 6, 2), layer())
    x = nets.samples((6, 6, 2), 30)
    quality = ks.signal_quality(model, fitted(model, x), x, observations=10**6, by="neuron")
    assert np.nanmin(quality["rho"]) > 1 - 1e-6
    assert quality["random"].max() < 0.999


# The way back ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn", "average", "residual"])
def test_patternnet_through_the_filters_is_the_gradient(name: str) -> None:
    model = MODELS[name]()
    x = nets.samples(shape_of(model), 6)
    kernels = {name: kernel for name, kernel in kernels_of(model, x).items() if "add" not in name}
    patterns = fitted(model, x).replaced(kernels)
    bench = Bench(model, x)
    gradient = bench.values("gradient", target=1)
    same(bench.values("patternnet", target=1, patterns=patterns, start="one"), gradient)
    times = bench.logits()[:, 1].reshape(-1, *[1] * (x.ndim - 1))
    same(bench.values("patternnet", target=1, patterns=patterns), gradient * times)


@pytest.mark.parametrize("name", ["mlp", "cnn", "average", "residual"])
def test_attribution_through_ones_is_the_gradient(name: str) -> None:
    model = MODELS[name]()
    x = nets.samples(shape_of(model), 6)
    patterns = fitted(model, x)
    patterns = patterns.replaced({layer: np.ones_like(patterns[layer].values) for layer in patterns})
    bench = Bench(model, x)
    same(
        bench.values("pattern_attribution", target=1, patterns=patterns, start="one"),
        bench.values("gradient", target=1),
    )


@pytest.mark.parametrize("method", ["patternnet", "pattern_attribution"])
def test_the_map_is_linear_in_each_layers_patterns(method: str) -> None:
    model, x = nets.cnn(), nets.samples((6, 6, 2), 4)
    bench, patterns = Bench(model, x), fitted(model, x)
    rng = np.random.default_rng(6)
    for layer in patterns:
        one, two = (rng.normal(size=patterns[layer].values.shape) for _ in range(2))
        maps = [bench.values(method, patterns=patterns.replaced({layer: a})) for a in (one, two, 2 * one - 3 * two)]
        same(maps[2], 2 * maps[0] - 3 * maps[1], what=layer)


def test_attribution_on_one_neuron_is_patternnet_times_the_filter() -> None:
    model, x = nets.linear(5, 3), nets.samples((5,), 20)
    bench, patterns, w = Bench(model, x), fitted(model, x), nets.weights_of(model.layers[0])[0]
    net, attribution = (bench.values(m, target=2, patterns=patterns) for m in ("patternnet", "pattern_attribution"))
    same(attribution, net * w[:, 2])


def test_attribution_of_a_linear_network_sums_to_the_output() -> None:
    """Dense and unpadded layers, sums, biases, linear patterns: every neuron hands on all it got."""
    inputs = layers.Input((7, 6, 2))
    h = layers.Conv2D(4, 3)(inputs)
    h = layers.Add()([layers.Conv2D(3, 2)(h), layers.Conv2D(3, 2)(h)])
    h = layers.Conv2D(3, 2, strides=2)(h)
    h = layers.Dense(4)(layers.Flatten()(h))
    model = nets.weigh(keras.Model(inputs, layers.Dense(3)(h)))
    x = nets.samples((7, 6, 2), 60)
    bench, patterns = Bench(model, x), fitted(model, x)
    values = bench.values("pattern_attribution", target=1, patterns=patterns)
    same(total(values), bench.logits()[:, 1])
    e = bench("pattern_attribution", target=1, patterns=patterns, start="one")
    same(total(np.asarray(e.values)), np.ones(60))
    assert np.isnan(e.completeness_gap).all()  # true here, promised nowhere
    padded = nets.stack((7, 6, 2), layers.Conv2D(3, 3, padding="same"), layers.Flatten(), layers.Dense(3))
    lost = Bench(padded, x).values("pattern_attribution", target=1, patterns=fitted(padded, x))
    differ(total(lost), predict(padded, x)[:, 1])


def test_rescaling_a_hidden_neuron_changes_nothing() -> None:
    model, x = nets.mlp(), nets.samples((5,), 60)
    twin = nets.mlp()
    (w, b), (v, _) = nets.weights_of(twin.layers[0]), nets.weights_of(twin.layers[1])
    s = np.linspace(0.5, 2.5, 7)
    twin.layers[0].set_weights([w * s, b * s])
    twin.layers[1].kernel.assign(v / s[:, None])
    for method in ("patternnet", "pattern_attribution"):
        maps = [Bench(m, x[:5]).values(method, patterns=fitted(m, x)) for m in (model, twin)]
        same(*maps, what=method)


@pytest.mark.parametrize("estimator", ["linear", "relu"])
def test_a_shifted_input_changes_one_sided_patterns_only(estimator: str) -> None:
    model, x = nets.mlp(), nets.samples((5,), 60)
    twin, m = nets.mlp(), np.linspace(-2, 3, 5)
    w, b = nets.weights_of(twin.layers[0])
    twin.layers[0].bias.assign(b - m @ w)
    for method in ("patternnet", "pattern_attribution"):
        plain = Bench(model, x[:5]).values(method, patterns=fitted(model, x, estimator=estimator))
        moved = Bench(twin, x[:5] + m).values(method, patterns=fitted(twin, x + m, estimator=estimator))
        (same if estimator == "linear" else differ)(moved, plain, what=method)


def test_scaling_the_logits() -> None:
    """Attribution grows with the logit; PatternNet, started from it, does not: the pattern shrinks as much."""
    model, x = nets.mlp(), nets.samples((5,), 60)
    twin = nets.mlp()
    twin.layers[-1].set_weights([3 * weight for weight in nets.weights_of(twin.layers[-1])])
    maps = {
        method: [Bench(m, x[:5]).values(method, patterns=fitted(m, x)) for m in (model, twin)]
        for method in ("patternnet", "pattern_attribution")
    }
    same(maps["patternnet"][1], maps["patternnet"][0])
    same(maps["pattern_attribution"][1], 3 * maps["pattern_attribution"][0])


def test_patterns_of_a_deep_linear_net_superpose_where_units_are_uncorrelated() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5))
    x -= x.mean(axis=0)
    model = nets.stack((5,), layers.Dense(4, use_bias=False), layers.Dense(2, use_bias=False))
    v = nets.weights_of(model.layers[1])[0]

    def both(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model.layers[0].kernel.assign(w)
        patterns = fitted(model, x)
        found = Bench(model, x[:3]).values("patternnet", patterns=patterns, start="one")
        return found[0], linear_pattern(x, x @ w @ v[:, 0])

    mixed = rng.normal(size=(5, 4))
    values, vectors = np.linalg.eigh(np.cov((x @ mixed).T, ddof=0))
    same(*both(mixed @ vectors / np.sqrt(values)))  # hidden units white
    differ(*both(mixed), 0.05)


@pytest.mark.parametrize("name", ["cnn", "residual"])
def test_projection_changes_the_size_alone(name: str) -> None:
    model = MODELS[name]()
    x = nets.samples(shape_of(model), 40)
    bench, patterns = Bench(model, x[:6]), fitted(model, x)
    plain = bench("patternnet", target="all", patterns=patterns)
    projected = bench("patternnet", target="all", patterns=patterns, project=True)
    scale = np.exp(projected.attrs["log_scale"])
    assert scale.shape == (6, 3)
    assert np.ptp(scale) > 1e-3
    same(projected.values * scale.reshape(6, 3, *[1] * (x.ndim - 1)), plain.values)
    assert plain.attrs["log_scale"] is None


def test_batch_norm_folded_by_hand_is_the_same() -> None:
    model, x = nets.normalised(), nets.samples((6, 6, 2), 40)
    first, norm = model.layers[0], model.layers[1]
    patterns = fitted(model, x)
    gamma, beta, mean, variance = nets.weights_of(norm)
    k = gamma / np.sqrt(variance + norm.epsilon)
    kernel, bias = nets.weights_of(first)
    by_hand = nets.stack((6, 6, 2), layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"))
    by_hand.layers[0].set_weights([kernel * k, (bias - mean) * k + beta])
    same(patterns[first.name].values, fitted(by_hand, x, estimator={"conv": "relu"})["conv"].values)


@pytest.mark.parametrize("method", ["patternnet", "pattern_attribution"])
def test_a_contrast_is_the_difference(method: str) -> None:
    model, x = nets.cnn(), nets.samples((6, 6, 2), 40)
    bench, patterns = Bench(model, x[:5]), fitted(model, x)
    a, b, contrast = (bench.values(method, target=t, patterns=patterns) for t in (0, 2, ks.Contrast(0, 2)))
    same(contrast, a - b)


# Refusals --------------------------------------------------------------------------------


def test_refusals() -> None:
    model, x = nets.mlp(), nets.samples((5,), 30)
    with pytest.raises(ks.MissingPatternsError, match=r"fit them: ks\.Patterns\.fit\(model, x_train\)"):
        ks.explain(model, x, "patternnet")
    patterns = fitted(model, x)
    with pytest.raises(ks.IncompatibleMethodError, match="a function of the logits has none"):
        ks.explain(model, x, "patternnet", patterns=patterns, target=lambda z: z[:, 0])
    with pytest.raises(ks.BadInputError, match=r"must be ks\.Patterns.*got str"):
        ks.PatternNet("patterns.npz")  # type: ignore[arg-type]
    with pytest.raises(ks.BadInputError, match="start must be"):
        ks.PatternNet(start="zero")  # type: ignore[arg-type]
    other = nets.mlp(seed=4)
    with pytest.raises(ks.StaleModelError, match="fitted to another model"):
        ks.explain(other, x, "pattern_attribution", patterns=patterns)
    with pytest.raises(ks.StaleModelError, match="fitted to another model"):
        ks.signal_quality(other, patterns, x)
    with pytest.raises(ks.BadInputError, match=r"must have shape \(5, 7\); got \(7, 5\)"):
        patterns.replaced({model.layers[0].name: np.ones((7, 5))})
    with pytest.raises(ks.UnknownNameError, match=r"layer in estimator 'conv\*'"):
        fitted(model, x, estimator={"conv*": "linear"})
    with pytest.raises(ks.UnknownNameError, match="estimator 'leaky'"):
        fitted(model, x, estimator="leaky")
    with pytest.raises(ks.IncompatibleMethodError, match="no layer with a kernel"):
        fitted(nets.stack((5,), layers.ReLU()), x)


def test_a_unit_before_a_folded_normalisation_is_refused() -> None:
    model, x = nets.normalised(), nets.samples((6, 6, 2), 30)
    patterns = fitted(model, x)
    bench, conv = Bench(model, x[:3]), model.layers[0].name
    with pytest.raises(ks.IncompatibleMethodError, match=f"{conv!r}.*BatchNormalization folded in"):
        bench.values("patternnet", target=ks.Neuron(conv, (2, 2, 1)), patterns=patterns)
    behind = ks.Neuron(model.layers[1].name, (2, 2, 1))
    assert np.any(bench.values("patternnet", target=behind, patterns=patterns))


def test_other_activations_are_named() -> None:
    model, x = nets.mlp("tanh"), nets.samples((5,), 30)
    e = Bench(model, x)("pattern_attribution", patterns=fitted(model, x))
    assert any("(tanh) it takes the derivative" in text for text in e.warnings)
    assert dataclasses.replace(e.method).patterns.estimator == "relu"


def test_one_sided_patterns_of_large_pictures(float32: None) -> None:
    """Sums over 40000 places: what is taken off the input is added back to the last digit, on every backend."""
    model = nets.stack((200, 200, 3), layers.Conv2D(4, 3, padding="same"), layers.ReLU())
    layer, rng = model.layers[0], np.random.default_rng(3)
    kernel = (0.02 * rng.normal(size=(3, 3, 3, 4))).astype("float32")
    layer.set_weights([kernel, np.array([-4, -1, 0, 2], "float32")])
    x = rng.uniform(0, 255, size=(2, 200, 200, 3)).astype("float32")
    found = fitted_alive(model, x, batch_size=1)[layer.name]
    patches = patches_2d(x, (3, 3), padding="same")
    read = patches.reshape(-1, 27).astype("float64")
    answers = read @ kernel.reshape(27, 4).astype("float64")
    for j, bias in enumerate((-4, -1, 0, 2)):
        active = answers[:, j] + bias > 0
        c = (read[active] * answers[active, j, None]).mean(axis=0) - read[active].mean(axis=0) * answers[:, j].mean()
        same(found.values[..., j].ravel(), c / (kernel[..., j].ravel() @ c), 1e-5)
