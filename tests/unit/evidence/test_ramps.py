"""Stretches by ramp fit against a search in loops."""

from __future__ import annotations

import numpy as np
import pytest

from kerascope.evidence.ramps import fit_ramps, from_shares

pytestmark = pytest.mark.backend_free


def by_loops(line: np.ndarray) -> tuple[int, int, float]:
    totals = np.concatenate([[0.0], np.cumsum(line)])
    best = (0, 0, -np.inf)
    for a in range(len(line)):
        for b in range(a + 1, len(line) + 1):
            ramp = [min(max((t - a) / (b - a), 0.0), 1.0) for t in range(len(totals))]
            value = np.corrcoef(totals, ramp)[0, 1]
            if value > best[2]:
                best = (a, b, float(value))
    return best


def test_the_best_ramp_is_found():
    lines = np.random.default_rng(0).normal(0.3, 1, (6, 23))
    found = fit_ramps(lines)
    for line, start, stop, value in zip(lines, *found, strict=True):
        a, b, best = by_loops(line)
        assert value == pytest.approx(best, abs=1e-12)
        assert (start, stop) == (a, b)


@pytest.mark.parametrize(("length", "a", "b"), [(20, 3, 7), (128, 0, 128), (300, 131, 143), (1000, 17, 900)])
def test_a_clean_stretch_is_found_to_the_cell(length, a, b):
    line = np.zeros((1, length))
    line[0, a:b] = 0.7
    found = fit_ramps(line)
    assert (int(found.start[0]), int(found.stop[0])) == (a, b)
    assert found.correlation[0] == pytest.approx(1)


def test_scale_and_offset_free():
    lines = np.random.default_rng(1).normal(size=(4, 40))
    found, scaled = fit_ramps(lines), fit_ramps(lines * 1e-9)
    assert np.array_equal(found.start, scaled.start)
    assert np.array_equal(found.stop, scaled.stop)


def test_a_line_without_relevance_is_a_whole_line():
    found = fit_ramps(np.zeros((2, 9)))
    assert found.start.tolist() == [0, 0]
    assert found.stop.tolist() == [9, 9]


def test_no_lines():
    assert len(fit_ramps(np.zeros((0, 9))).start) == 0


def test_stretch_from_shares_interpolates_and_widens():
    points = np.array([0, 4, 8, 12, 16, 20])
    shares = np.array([0.0, 0.0, 0.2, 1.0, 1.0, 1.0])
    # P passes .1 at 4 + 4 * .1/.2 = 6 (last place at or below .1 is 4), .9 at 8 + 4 * .7/.8 = 11.5; width 5.5.
    assert from_shares(shares, points, 20) == (round(6 - 5.5 / 8), round(11.5 + 5.5 / 8))


def test_stretch_from_shares_ignores_a_peak_that_falls_again():
    points = np.array([0, 4, 8, 12, 16])
    assert from_shares(np.array([0.0, 0.95, 0.05, 0.05, 1.0]), points, 16) is not None
    start, stop = from_shares(np.array([0.0, 0.95, 0.05, 0.05, 1.0]), points, 16)
    assert start >= 11
    assert stop == 16


def test_stretch_from_shares_needs_ninety_percent():
    assert from_shares(np.array([0.0, 0.2, 0.3]), np.array([0, 4, 8]), 8) is None
