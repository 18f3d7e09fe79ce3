"""Shapley values in full and by draws, beyond test_shapley.py: ten players, and more pairs of orders than fills."""

from __future__ import annotations

import pytest
from keras import layers

from tests.reference.nets import cnn, samples, stack
from tests.reference.run import Bench, same

pytestmark = pytest.mark.usefixtures("float64")


def test_c19_ten_players() -> None:
    """KernelSHAP over all 1022 coalitions is the exact Shapley value."""
    bench = Bench(stack((10,), layers.Dense(8, activation="tanh"), layers.Dense(3)), samples((10,), 2))
    x0 = samples((10,), 2, seed=3)
    same(bench.values("kernel_shap", baseline=x0), bench.values("shapley_exact", baseline=x0))


@pytest.mark.parametrize("draws", [8, 9, 14])
def test_b19_fills_count_the_same_for_any_number_of_pairs(draws: int) -> None:
    """Values add up to f(x) less the mean at the fills, also where some fills have a pair more than others."""
    fills = samples((6, 6, 2), 3, seed=4)
    bench = Bench(cnn(), samples((6, 6, 2)))
    found = bench("shapley_sampling", draws=draws, groups="rows", baseline=fills)
    same(found.group_values.sum(axis=1), bench.logits()[:, 0] - bench.logits(fills)[:, 0].mean())
