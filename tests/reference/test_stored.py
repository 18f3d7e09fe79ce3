"""Backends agree (D2): maps computed once in float64 are found again on each, and in float32.

The maximum of two equal tensors and the derivative at a kink differ between backends: inputs lie off them.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference.every import CONTROLS, EVERY, GRADIENTS, LOCAL, MORE_LOCAL, PLAYERS, SIGNALS
from tests.reference.stored_cases import CASES, compute, path_of

GRADIENT_LIKE = (*GRADIENTS, *SIGNALS, *LOCAL, *CONTROLS, "occlusion")
UNSUITED = {
    "dense": {*LOCAL, *MORE_LOCAL},
    "convolutions": {"cam"},
    "global average": set(),
    "batch norm": {"cam"},
    "sequence": {"cam", "deep_taylor", "deep_taylor.bounded", *SIGNALS},
    "gated": {"cam", "deep_taylor", "deep_taylor.bounded", *SIGNALS},
    "two inputs": {*LOCAL, *MORE_LOCAL, *PLAYERS, "occlusion"},
}


def stored(name: str) -> dict[str, np.ndarray]:
    """Return the stored arrays of a case."""
    with np.load(path_of(name)) as arrays:
        return dict(arrays)


def deviations(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return how far each number is off, relative to the largest expected."""
    assert found.shape == expected.shape
    return np.abs(found - expected) / max(float(np.max(np.abs(expected), initial=0.0)), 1e-300)


@pytest.mark.parametrize("name", CASES)
def test_d2_float64(name, float64):
    """Every map, absorbed amount and layer map to 1e-9 of its largest value."""
    found, expected = compute(name, "float64"), stored(name)
    assert set(found) == set(expected)
    assert {key.split("|")[0] for key in expected} == set(EVERY) - UNSUITED[name]
    for key, array in expected.items():
        assert np.any(array) or key.endswith("absorbed"), f"{key}: zeros tell nothing"
        if key.endswith("absorbed"):  # of the size of rounding where there is nothing to absorb
            assert np.max(np.abs(found[key] - array)) < 1e-9 * max(1, np.max(np.abs(array))), key
        else:
            assert np.max(deviations(found[key], array), initial=0.0) < 1e-9, key


@pytest.mark.parametrize("name", ["global average", "gated"])
def test_d2_float32(name):
    """Gradient-like maps to 1e-5 of their maximum; rules with denominators median 1e-5, worst 1e-3."""
    found, expected = compute(name, "float32"), stored(name)
    for key, array in expected.items():
        if "|values" not in key:
            continue
        off = deviations(found[key].astype("float64"), array)
        if key.split("|")[0] in GRADIENT_LIKE:
            assert np.max(off) < 1e-5, key
        else:
            assert np.median(off) < 1e-5, key
            assert np.max(off) < 1e-3, key
        assert found[key].dtype == np.float32


def test_the_files_are_small():
    """A few numbers of many methods, not a data set."""
    assert sum(path_of(name).stat().st_size for name in CASES) < 400_000
