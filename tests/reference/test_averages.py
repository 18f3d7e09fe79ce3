"""Integrated gradients, expected gradients and SmoothGrad, step by step: nodes, baselines, noise, errors.

What they sum to is in test_conservation.py, closed forms in test_linear.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import kerascope as ks
from kerascope.methods.path import gauss_legendre
from kerascope.methods.session import Session
from tests.reference.nets import mlp, samples
from tests.reference.run import Bench, explain, same


@pytest.fixture
def points() -> Iterator[list[np.ndarray]]:
    """The inputs at which gradients were asked for, one array (rows, features) a call."""
    seen: list[np.ndarray] = []
    gradients = Session.gradients

    def watched(session: Session, inputs: Any, selection: Any) -> Any:
        seen.append(np.array(inputs[0]))
        return gradients(session, inputs, selection)

    with mock.patch.object(Session, "gradients", watched):
        yield seen


@pytest.fixture
def bench(float64) -> Bench:
    """A smooth network over 5 features, 3 samples and 4 background samples."""
    return Bench(mlp("tanh"), samples((5,)), background=samples((5,), 4, seed=9))


# Integrated gradients ---------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 64, 301])
def test_quadrature(steps):
    """Nodes lie inside (0, 1), weights sum to exactly 1, polynomials up to degree 2 n - 1 are exact."""
    nodes, weights = gauss_legendre(steps)
    assert len(nodes) == len(weights) == steps
    assert math.fsum(weights) == 1.0
    assert np.all((nodes > 0) & (nodes < 1) & (weights > 0))
    for degree in range(min(2 * steps, 12)):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-14)
    if steps < 300:
        assert abs(weights @ nodes ** (2 * steps) - 1 / (2 * steps + 1)) > 0


def test_integrated_gradients_by_loops(bench):
    """(x - b) times the weighted sum of gradients on the line from b to x, baseline by baseline."""
    background = bench.session.background[0]
    nodes, weights = gauss_legendre(5)
    expected = np.zeros((3, 5))
    for i, x in enumerate(bench.x):
        for b in background:
            for t, w in zip(nodes, weights, strict=True):
                gradient = bench.values("gradient", (b + t * (x - b))[None])[0]
                expected[i] += w * (x - b) * gradient / len(background)
    same(bench.values("integrated_gradients", baseline=background, steps=5), expected)


def test_baselines(bench):
    """None is the background's mean; words, numbers, one array and several are understood; which, is said."""
    background = bench.session.background[0]
    given = samples((5,), 2, seed=4)
    meant = {
        "mean of 4 background samples": (None, background.mean(axis=0, keepdims=True)),
        "median of 4 background samples": ("median", np.median(background, axis=0, keepdims=True)),
        "zeros": ("zeros", np.zeros((1, 5))),
        "0.5 in every cell": (0.5, np.full((1, 5), 0.5)),
        "a given baseline": (given[0], given[:1]),
        "2 given baselines": (given, given),
    }
    for text, (baseline, arrays) in meant.items():
        found = bench("integrated_gradients", baseline=baseline, steps=4)
        same(found.baseline, arrays)
        assert found.attrs["baseline"]["text"] == text
        assert found.attrs["baseline"]["count"] == len(arrays)
        same(found.attrs["baseline"]["output"], np.full(3, bench.logits(arrays)[:, 0].mean()))
        same(found.values, bench.values("integrated_gradients", baseline=arrays, steps=4))


def test_wrong_baselines(float64):
    """Each is refused before anything is computed, and said why."""
    model, x = mlp("tanh"), samples((5,))
    wrong = [
        ({}, ks.MissingBaselineError, "baseline='zeros'"),
        ({"baseline": "mean"}, ks.MissingBaselineError, "give background="),
        ({"baseline": "blur"}, ks.UnknownNameError, "Unknown baseline 'blur'"),
        ({"baseline": np.zeros(4)}, ks.BadInputError, r"baseline= has shape \(4,\); .* \(5,\), or .* \(M, 5\)"),
        ({"baseline": np.full(5, np.inf)}, ks.BadInputError, "finite"),
        ({"baseline": 0.0, "steps": 0}, ks.BadInputError, "steps"),
        ({"baseline": 0.0, "steps": 2.5}, ks.BadInputError, "steps"),
    ]
    for options, error, words in wrong:
        with pytest.raises(error, match=words):
            explain(model, x, "integrated_gradients", **options)
    with pytest.raises(ks.MissingBaselineError, match=r"expected_gradients compares .* or baseline='zeros'"):
        explain(model, x, "expected_gradients")
    with pytest.raises(ks.BadInputError, match="draws"):
        explain(model, x, "expected_gradients", background=x, draws=0)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_samples_that_are_the_baseline(batch_size, float64):
    """Some are: zero maps and a warning that counts, whatever the batches are. All are: refused."""
    x = samples((5,), 4)
    x[1] = x[3]
    bench = Bench(mlp("tanh"), x, background=x[3:], batch_size=batch_size)
    for name in ("integrated_gradients", "expected_gradients"):
        found = bench(name)
        assert np.all(found.values[[1, 3]] == 0)
        assert np.all(np.abs(found.values[[0, 2]]).sum(axis=1) > 0)
        assert [text for text in found.warnings if text.startswith("2 of the samples cannot be told from the baseline")]
        with pytest.raises(ks.BadInputError, match="Every sample equals every baseline"):
            bench(name, x[[1, 3]])
    assert np.any(bench.values("integrated_gradients", x[3:], baseline=x[:2]) != 0)


def test_the_top_class_is_that_of_the_clean_input(bench):
    """On the way from the baseline, and under noise, it is the clean input's top class that is explained."""
    x = samples((5,), 12, seed=2)
    top = np.argmax(bench.logits(x), axis=1)
    rng = np.random.default_rng(0)
    assert np.any(np.argmax(bench.logits(x + rng.normal(size=x.shape)), axis=1) != top)
    for name, options in (
        ("smoothgrad", {"noise": 0.8, "draws": 4}),
        ("integrated_gradients", {"baseline": 3.0, "steps": 4}),
        ("expected_gradients", {"draws": 4}),
    ):
        fixed = bench.values(name, x, target=top, **options)
        np.testing.assert_array_equal(bench.values(name, x, target=None, **options), fixed)


# Expected gradients -------------------------------------------------------------------------


def test_expected_gradients_are_stratified(bench, points):
    """Every background sample meets every stratum of (0, 1) once, at the same places for every sample."""
    background = bench.session.background[0]
    found = bench("expected_gradients", draws=18)  # rounded up to 5 for each of 4
    every = np.concatenate(points)
    assert len(every) == 3 * 20
    places = []
    for i, x in enumerate(bench.x):
        rows = every[i::3]
        per_baseline = []
        for b, line in zip(background, rows.reshape(4, 5, 5), strict=True):
            t = (line - b) @ (x - b) / np.sum((x - b) ** 2)
            same(line, b + t[:, None] * (x - b))
            assert sorted(np.floor(t * 5).astype(int)) == [0, 1, 2, 3, 4]
            per_baseline.append(t)
        places.append(per_baseline)
    same(places[1], places[0])
    assert np.std(np.asarray(places[0]) * 5 % 1) > 0.1  # drawn, not on a grid
    products = np.zeros((3, 5))
    for d in range(20):
        gradients = bench.values("gradient", every[3 * d : 3 * d + 3])
        products += (bench.x - background[d // 5]) * gradients / 20
    same(found.values, products)


def test_expected_gradients_have_the_error_of_independent_draws(bench, points):
    """The standard error is the standard deviation over the draws, divided by the root of their number."""
    found = bench("expected_gradients", draws=20)
    background, every = bench.session.background[0], np.concatenate(points)
    for i, x in enumerate(bench.x):
        draws = np.stack([x - background[d // 5] for d in range(20)]) * bench.values("gradient", every[i::3])
        same(found.standard_error[i], draws.std(axis=0, ddof=1) / np.sqrt(20))


# SmoothGrad ---------------------------------------------------------------------------------


def noise_of(points: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the noise (draws, rows, features) that was added."""
    return np.concatenate(points).reshape(-1, *x.shape) - x


def test_smoothgrad_by_loops(bench, points):
    """The mean of gradients at the noisy copies, and the standard error of that mean."""
    found = bench("smoothgrad", draws=7, noise=0.3)
    copies = np.concatenate(points).reshape(7, 3, 5)
    gradients = np.stack([bench.values("gradient", copy) for copy in copies])
    same(found.values, gradients.mean(axis=0))
    same(found.standard_error, gradients.std(axis=0, ddof=1) / np.sqrt(7))
    assert np.isnan(found.completeness_gap).all()


def test_the_noise_follows_the_range(points, float64):
    """Its scale is `noise` times the range of the background, or of each sample where there is none."""
    x = samples((5,), 3) * np.array([[1.0], [10.0], [0.1]])
    background = samples((5,), 4, seed=9)
    for given, scale in ((background, np.full(3, np.ptp(background))), (None, np.ptp(x, axis=1))):
        points.clear()
        Bench(mlp("tanh"), x, background=given)("smoothgrad", draws=400, noise=0.2)
        drawn = noise_of(points, x)
        same(drawn / scale[:, None], np.broadcast_to(drawn[:, :1] / scale[0], drawn.shape), 1e-6)
        assert np.std(drawn[:, 0]) == pytest.approx(0.2 * scale[0], rel=0.03)
        assert abs(np.mean(drawn[:, 0])) < 0.02 * scale[0]


def test_the_noise_is_that_of_the_seed(bench, points):
    """Another draw, another noise; the same seed, the same; no sample's noise depends on its batch."""
    bench("smoothgrad", draws=4, seed=5)
    first = noise_of(points, bench.x)
    assert len(np.unique(np.round(first[:, 0, 0], 9))) == 4
    points.clear()
    bench.session.batch_size = 2
    bench("smoothgrad", draws=4, seed=5)
    two, one = np.split(np.concatenate(points), [8])  # two samples, then the third
    drawn = np.concatenate([two.reshape(4, 2, 5), one.reshape(4, 1, 5)], axis=1) - bench.x
    same(drawn, first)
    bench.session.batch_size = 32
    points.clear()
    bench("smoothgrad", draws=4, seed=6)
    assert np.max(np.abs(noise_of(points, bench.x) - first)) > 0.01


def test_the_noise_is_numpys(bench, points):
    """So no backend's generator plays a part: draw k of seed s is the stream (s, k, number of the input)."""
    bench("smoothgrad", draws=3, noise=0.5, seed=11)
    scale = 0.5 * np.ptp(bench.session.background[0])
    drawn = [np.random.default_rng((11, k, 0)).normal(size=5) * scale for k in range(3)]
    same(noise_of(points, bench.x)[:, 0], drawn)


def test_smoothgrad_averages_any_method(bench):
    """Its base may be any method, and is refused what that is refused."""
    for base in (ks.LRP(), ks.IntegratedGradients(steps=3), ks.Occlusion(fill=0.0), ks.SmoothGrad(draws=2)):
        found = bench(ks.SmoothGrad(base, draws=3))
        assert np.all(np.isfinite(found.values))
        assert np.all(found.standard_error >= 0)
    with pytest.raises(ks.IncompatibleMethodError, match="ReLU"):
        bench(ks.SmoothGrad(ks.DeepTaylor()))
    with pytest.raises(ks.BadInputError, match="method object"):
        ks.SmoothGrad("gradient")
    with pytest.raises(ks.BadInputError, match="draws"):
        ks.SmoothGrad(draws=0)
