"""Maps of cells summed along rows, columns and stretches (B20, K2 to K4), and rows that a network masks out (K6).

Rows, columns and segments as players are in test_shapley.py.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.matrices.segments import maximal_segments
from tests.reference.nets import samples, stack, weigh
from tests.reference.run import Bench, differ, same, total

pytestmark = pytest.mark.usefixtures("float64")
FROM_ZERO: dict[str, dict[str, Any]] = {
    "input_x_gradient": {},
    "integrated_gradients": {"baseline": "zeros", "steps": 6},
    "deeplift": {"baseline": "zeros"},
    "lrp.epsilon": {},
    "occlusion": {"fill": 0.0},
}


def small() -> Any:
    """Return a network over matrices (6, 5) with two channels."""
    return stack((6, 5, 2), layers.Conv2D(3, 2, activation="relu"), layers.Flatten(), layers.Dense(3))


def along(found: ks.Explanation, axis: str) -> np.ndarray:
    """Return the sums of a map along an axis, (N, cells of it)."""
    return np.asarray(found.profile(axis))


@pytest.mark.parametrize("method", FROM_ZERO)
def test_b20_every_way_to_sum_totals_the_same(method: str) -> None:
    """Channels, rows, columns, their tables and the matrices."""
    found = Bench(small(), samples((6, 5, 2)))(method, **FROM_ZERO[method])
    expected = total(found.values)
    for axis, table in (("row", found.rows()), ("column", found.columns())):
        same(along(found, axis).sum(axis=1), expected)
        same(table.groupby("sample")["sum"].sum(), expected)
    same([found.matrix(i).sum() for i in range(3)], expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_b20_stretches_and_what_lies_between_total_the_same(axis: str, sign: int) -> None:
    """Stretches of one sign do not overlap; their sums and all cells outside, none of that sign, make up the total."""
    found = Bench(small(), samples((6, 5, 2)))("lrp.epsilon")
    table = found.segments(axis)
    for i, matrix in enumerate(found.matrix(i) for i in range(3)):
        lines = matrix.T.copy() if axis == "row" else matrix.copy()
        stretches = table[(table["sample"] == i) & (table["sign"] == sign)]
        assert len(stretches) > 3
        taken = np.zeros(lines.shape, int)
        for line, start, stop in stretches[["line", "start", "stop"]].to_numpy():
            taken[line, start:stop] += 1
        assert taken.max() == 1
        assert np.all(sign * lines[taken == 0] <= 0)
        same(sign * stretches["score"].sum() + lines[taken == 0].sum(), total(found.values)[i])


def test_k2_a_planted_stretch() -> None:
    """Where all scores inside are above a number and all outside below it, the stretch less that number is the one."""
    rng, (start, stop), number = np.random.default_rng(0), (4, 9), 0.3
    scores = number - rng.uniform(0.01, 1.0, size=(50, 15))
    scores[:, start:stop] = number + rng.uniform(0.01, 1.0, size=(50, stop - start))
    found = maximal_segments(scores - number)
    assert np.array_equal(found.line, np.arange(50))
    assert np.all((found.start == start) & (found.stop == stop))


@pytest.mark.parametrize("method", FROM_ZERO)
def test_k3_transposing_matrix_and_model_turns_rows_into_columns(method: str) -> None:
    """Row sums of the one are column sums of the other."""
    model = stack((3, 4), layers.Flatten(), layers.Dense(5, activation="tanh"), layers.Dense(2))
    turned = keras.Sequential([layers.Input((4, 3)), layers.Permute((2, 1)), *model.layers])
    x = samples((3, 4))
    one = Bench(model, x)(method, **FROM_ZERO[method])
    other = Bench(turned, np.swapaxes(x, 1, 2))(method, **FROM_ZERO[method])
    same(along(one, "row"), along(other, "column"))
    same(along(one, "column"), along(other, "row"))


@pytest.mark.parametrize("method", FROM_ZERO)
def test_k4_permuting_rows_where_the_model_does_not_mind(method: str) -> None:
    """Row sums move along, column sums stay."""
    inputs = layers.Input((4, 3))
    pooled = layers.GlobalMaxPooling1D()(layers.Dense(5, activation="relu")(inputs))
    bench = Bench(weigh(keras.Model(inputs, layers.Dense(2)(pooled))), samples((4, 3)))
    order = [2, 0, 3, 1]
    one, moved = (bench(method, x, **FROM_ZERO[method]) for x in (bench.x, bench.x[:, order]))
    same(along(moved, "row"), along(one, "row")[:, order])
    same(along(moved, "column"), along(one, "column"))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gradient", {}),
        ("input_x_gradient", {}),
        ("occlusion", {"fill": -1.0, "groups": "rows"}),
    ],
)
def test_k6_rows_that_a_masking_layer_leaves_out(method: str, options: dict[str, Any]) -> None:
    """Rows of the mask's value score nothing, where what stands for the absent is left out too."""
    inputs = layers.Input((4, 3))
    hidden = layers.Dense(4, activation="tanh")(layers.Masking(-1.0)(inputs))
    model = weigh(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden))))
    x = samples((4, 3))
    x[:, 2:] = -1.0
    found = Bench(model, x).values(method, **options)
    assert np.all(found[:, 2:] == 0)
    assert np.all(np.any(found[:, :2] != 0, axis=2))
    differ(Bench(model, 0.5 * x).values(method, **options)[:, 2:], np.zeros((3, 2, 3)))
