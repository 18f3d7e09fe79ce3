"""Noisy linear imputation against a dense system written out in loops."""

from __future__ import annotations

import numpy as np
import pytest

import kerascope as ks
from kerascope.methods.imputation import NOISE, imputer, interpolated

pytestmark = pytest.mark.backend_free


def dense(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Solve for the missing cells of one matrix by Gauss-Seidel sweeps over the definition."""
    height, width = missing.shape
    found = np.where(missing, values[~missing].mean(), values)
    for _ in range(4000):
        for i, j in np.argwhere(missing):
            top, total = 0.0, 0.0
            for a in range(max(i - 1, 0), min(i + 2, height)):
                for b in range(max(j - 1, 0), min(j + 2, width)):
                    if (a, b) != (i, j):
                        weight = 1 / 6 if a == i or b == j else 1 / 12
                        top, total = top + weight * found[a, b], total + weight
            found[i, j] = top / total
    return found


def test_missing_cells_are_weighted_means_of_their_neighbours():
    rng = np.random.default_rng(0)
    values, missing = rng.normal(size=(5, 6)), rng.random((5, 6)) < 0.4
    np.testing.assert_allclose(imputer(missing)(values), dense(values, missing), atol=1e-9)


def test_a_line_is_interpolated_linearly():
    values = np.array([1.0, 9, 9, 9, 5.0, 7.0])
    missing = np.array([False, True, True, True, False, False])
    np.testing.assert_allclose(imputer(missing)(values), [1, 2, 3, 4, 5, 7])


def test_a_constant_matrix_is_reproduced():
    missing = np.zeros((4, 7), bool)
    missing[1:3] = True
    np.testing.assert_allclose(imputer(missing)(np.full((3, 4, 7), 2.5)), 2.5)


@pytest.mark.parametrize("axis", [0, 2])
def test_channels_apart_and_noise_as_stated(axis):
    rng = np.random.default_rng(1)
    shape = (3, 4, 5) if axis == 0 else (4, 5, 3)
    x, noise = rng.normal(size=(2, *shape)), rng.normal(size=shape)
    mask = rng.random((4, 5)) < 0.3
    masks = np.expand_dims(mask, axis)[None]
    found = interpolated(x, np.array([1, 0]), np.array([0, 0]), masks, axis, noise)
    for row, n in enumerate((1, 0)):
        for channel in range(3):
            one, of = np.take(x[n], channel, axis), np.take(noise, channel, axis)
            expected = np.where(mask, imputer(mask)(one) + NOISE * np.ptp(x[n]) * of, one)
            np.testing.assert_allclose(np.take(found[row], channel, axis), expected)


def test_nothing_left_is_refused():
    with pytest.raises(ks.BadInputError, match="a window covers all of them"):
        imputer(np.ones((2, 2), bool))
