"""p- and q-values against counting in loops."""

from __future__ import annotations

import numpy as np
import pytest

from kerascope.evidence.null import mixture, needed, p_values, q_values

pytestmark = pytest.mark.backend_free


def test_p_counts_references_at_least_as_large():
    rng = np.random.default_rng(0)
    scores, maxima = rng.integers(0, 6, (7, 4)).astype(float), rng.integers(0, 6, 19).astype(float)
    expected = [[(1 + sum(m >= s for m in maxima)) / 20 for s in row] for row in scores]
    assert np.array_equal(p_values(scores, maxima), expected)
    assert p_values(np.array([99.0]), maxima) == 1 / 20  # never below


@pytest.mark.parametrize(("level", "count"), [(0.05, 19), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_needed_references_just_reach_the_level(level, count):
    assert needed(level) == count
    assert 1 / (count + 1) <= level + 1e-12
    assert count == 1 or 1 / count > level


def replica(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg by its definition, the line's own p in its sample's place."""
    q = np.empty_like(p)
    for sample, lines in enumerate(p):
        for line, own in enumerate(lines):
            family = [own if other == sample else p[other].min() for other in range(len(p))]
            thresholds = [t for t in family if t >= own]
            q[sample, line] = min(1.0, min(t * len(p) / sum(f <= t for f in family) for t in thresholds))
    return np.maximum(q, p)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (9, 4), (30, 6)])
def test_q_is_benjamini_hochberg_over_samples(shape):
    rng = np.random.default_rng(1)
    p = rng.integers(1, 40, shape) / 40  # with ties
    np.testing.assert_allclose(q_values(p), replica(p), rtol=1e-12)


def test_q_of_one_line_a_sample_is_scipys():
    from scipy import stats

    p = np.random.default_rng(2).random((25, 1)) ** 2
    np.testing.assert_allclose(q_values(p)[:, 0], stats.false_discovery_control(p[:, 0]), rtol=1e-12)


def test_mixture_compares_the_worst_class_with_the_cleanest():
    maxima = np.concatenate([np.linspace(0.5, 1.0, 21), np.linspace(5.0, 7.0, 21), np.linspace(0.6, 0.9, 21)])
    labels = np.repeat([3, 4, 8], 21)
    found = mixture(maxima, labels)
    assert found is not None
    assert found.clean == (3, 8)
    assert found.ratio == pytest.approx(6.0 / np.quantile(np.linspace(0.6, 0.9, 21), 0.95))
    assert found.is_mixed


def test_mixture_needs_two_classes_of_some_size():
    assert mixture(np.arange(9.0), np.zeros(9, int)) is None
    assert mixture(np.arange(9.0), np.array([0] * 8 + [1])) is None
