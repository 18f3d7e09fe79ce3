"""LIME: its kernels by the normal equations, as few coalitions as can settle it (A4), no completeness (N12)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference.nets import linear, mlp, samples, weights_of
from tests.reference.run import Bench, differ, same, total
from tests.reference.test_shapley import LABELS, SHAPE, game, net

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_lime_by_the_normal_equations_of_both_kernels(distance: str) -> None:
    """exp(-d^2 / width^2) with d = 1 - sqrt(share) or sqrt(1 - share) of the players present."""
    fills = samples(SHAPE, 2, seed=4)
    bench = Bench(net(), samples(SHAPE))
    found = bench("lime", draws=40, groups="columns", distance=distance, width=0.4, seed=3, baseline=fills)
    present = np.random.default_rng((3, 2)).random((40, 4)) < 0.5
    share = present.mean(axis=1)
    d = 1 - np.sqrt(share) if distance == "cosine" else np.sqrt(1 - share)
    weight = np.exp(-(d**2) / 0.4**2)
    matrix = np.concatenate([np.ones((40, 1)), present], axis=1)
    for n, x in enumerate(bench.x):
        v = game(bench.model, x, LABELS["columns"], fills)
        answers = np.array([v({int(p) for p in np.flatnonzero(z)}) for z in present])
        normal = matrix.T @ (weight[:, None] * matrix)
        same(found.group_values[n], np.linalg.solve(normal, matrix.T @ (weight * answers))[1:])


def test_a4_as_few_coalitions_as_there_are_unknowns() -> None:
    """d + 1 affinely independent ones settle a linear function: w (x - x0), for narrow and wide kernels.

    Narrow kernels weigh some coalitions by 1e-22; the fit keeps 1e-7 of the solution all the same.
    """
    x, x0 = samples((5,)), samples((5,), 1, seed=3)
    bench = Bench(linear(), x)
    w, settled = weights_of(bench.model.layers[-1])[0][:, 0], 0
    for seed in range(40):
        for width in (0.2, 0.25, 5.0):
            found = bench("lime", baseline=x0, draws=6, width=width, seed=seed)
            if not any("do not settle" in text for text in found.warnings):
                settled += 1
                same(found.values, w * (x - x0), 1e-7)
    assert settled > 10


def test_a4_the_intercept_is_the_output_at_the_baseline() -> None:
    """It is not handed out; a fit that leaves no residual at coefficients w (x - x0) has no other."""
    x0 = samples((5,), 1, seed=3)
    bench = Bench(linear(), samples((5,)))
    found = bench("lime", baseline=x0, draws=40)
    assert np.max(found.standard_error) < 1e-12
    same(total(found.values) + bench.logits(x0)[0, 0], bench.logits()[:, 0])


def test_n12_coefficients_are_not_complete() -> None:
    """They miss f(x) - f(x0) where players interact, and promise nothing; on a linear function they do not miss it."""
    for model, compare in ((mlp(), differ), (linear(), same)):
        bench = Bench(model, samples((5,)))
        found = bench("lime", baseline="zeros", draws=400)
        compare(total(found.values), bench.logits()[:, 0] - bench.logits(np.zeros((1, 5)))[0, 0])
        assert np.all(np.isnan(found.completeness_gap))
