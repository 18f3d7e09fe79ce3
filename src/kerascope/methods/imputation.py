"""Missing cells from those around them: noisy linear imputation.

Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods", ICML: every missing cell is
the weighted mean of its neighbours, those beside it 1/6 and those across a corner 1/12 (at a border in the same
proportions), missing neighbours included; that is a sparse linear system.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from kerascope.errors import BadInputError

NOISE = 0.01
"""Standard deviation of what is added to interpolated cells, over the sample's range."""


def imputer(missing: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that fills the missing cells of arrays (..., *matrix).

    Args:
        missing: bool over the matrix axes, one or two.

    Raises:
        BadInputError: if nothing is left to interpolate from.
    """
    from scipy import sparse
    from scipy.sparse import linalg

    if missing.all():
        raise BadInputError("fill='linear' interpolates from the cells around, and a window covers all of them.")
    places = np.argwhere(missing)
    number = np.full(missing.shape, -1)
    number[missing] = np.arange(len(places))
    inside, outside = sparse.lil_matrix((len(places),) * 2), sparse.lil_matrix((len(places), missing.size))
    for row, place in enumerate(places):
        around = _neighbours(place, missing.shape)
        total = sum(weight for _, weight in around)
        inside[row, row] = 1.0
        for cell, weight in around:
            if missing[cell]:
                inside[row, number[cell]] -= weight / total
            else:
                outside[row, int(np.ravel_multi_index(cell, missing.shape))] = weight / total
    solve, known = linalg.splu(inside.tocsc()).solve, outside.tocsr()

    def fill(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(-1, missing.size).astype("float64")
        filled = flat.copy()
        filled[:, missing.ravel()] = solve(known @ flat.T).T
        return np.asarray(filled.reshape(values.shape))

    return fill


def _neighbours(place: np.ndarray, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
    found = []
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        cell = tuple(int(p) + s for p, s in zip(place, step, strict=True))
        if any(step) and all(0 <= c < n for c, n in zip(cell, shape, strict=True)):
            found.append((cell, 1 / 6 if sum(map(abs, step)) == 1 else 1 / 12))
    return found


def interpolated(
    x: np.ndarray,
    index: np.ndarray,
    which: np.ndarray,
    masks: np.ndarray,
    channel_axis: int | None,
    noise: np.ndarray,
) -> np.ndarray:
    """Return samples with their masked cells imputed, every channel by itself.

    Args:
        x: samples (N, *S).
        index: which sample each row is of (D,).
        which: which mask it gets (D,).
        masks: bool, broadcasting over a sample: 1 along the channel axis.
        channel_axis: which axis of a sample holds channels, or None.
        noise: standard normal numbers (*S).
    """
    changed = x[index].copy()
    span = np.ptp(x.reshape(len(x), -1), axis=1)
    for number in np.unique(which):
        rows = np.flatnonzero(which == number)
        mask = masks[number] if channel_axis is None else np.take(masks[number], 0, axis=channel_axis)
        values = changed[rows] if channel_axis is None else np.moveaxis(changed[rows], channel_axis + 1, 1)
        filled = imputer(mask)(values)
        filled = filled if channel_axis is None else np.moveaxis(filled, 1, channel_axis + 1)
        scale = NOISE * span[index[rows]].reshape(-1, *(1,) * noise.ndim)
        changed[rows] = np.where(masks[number], filled + scale * noise, changed[rows])
    return np.asarray(changed)
