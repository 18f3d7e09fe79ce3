"""Where in a line its relevance sits: the stretch over which the running sum rises.

The running sum of a line with one stretch of evidence is flat, rises, and is flat again. The stretch is that
whose ramp correlates best with it; no length has to be chosen, and single noisy cells do not cut it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GRID = 128
"""Ends are sought on at most so many places first, then one by one around the best."""


class Ramps(NamedTuple):
    """The best stretch of each line, and how well its ramp fits the running sum."""

    start: Ints
    stop: Ints
    correlation: Floats


def fit_ramps(lines: Floats) -> Ramps:
    """Find the stretch a <= t < b of each line whose ramp correlates best with the line's running sum.

    C(t) = sum of the first t cells, t = 0 .. T; the ramp is clip((t - a) / (b - a), 0, 1), height and intercept
    free. A line without any relevance gets the whole of it.

    Args:
        lines: array (L, T), signed so that the evidence sought is positive.

    Returns:
        start, stop (exclusive) and correlation, each (L,).

    Example:
        >>> found = fit_ramps(np.array([[0.0, 0.0, 1.0, 1.0, 0.0]]))
        >>> int(found.start[0]), int(found.stop[0])
        (2, 4)
    """
    count, length = lines.shape
    totals = np.concatenate([np.zeros((count, 1)), np.cumsum(lines, axis=1, dtype=np.float64)], axis=1)
    totals = _normalised(totals)
    points = np.unique(np.linspace(0, length, min(length, _GRID) + 1).round().astype(int))
    first, second = np.triu_indices(len(points), 1)
    start, stop, best = _best_of(totals, points[first], points[second])
    spacing = int(np.max(np.diff(points)))
    if spacing > 1:
        for line in range(count):
            near = np.arange(-spacing, spacing + 1)
            a, b = np.meshgrid(start[line] + near, stop[line] + near, indexing="ij")
            fits = (a >= 0) & (b <= length) & (a < b)
            found = _best_of(totals[line : line + 1], a[fits], b[fits])
            start[line], stop[line], best[line] = (part[0] for part in found)
    flat = ~np.any(totals, axis=1)
    start[flat], stop[flat], best[flat] = 0, length, 0.0
    return Ramps(start, stop, best)


def _best_of(totals: Floats, starts: Ints, stops: Ints) -> tuple[Ints, Ints, Floats]:
    """Return, for each line, the best of the given ramps."""
    places = np.arange(totals.shape[1])
    best = np.full(len(totals), -np.inf)
    which = np.zeros(len(totals), dtype=np.int64)
    block = max(1, 2**22 // totals.shape[1])
    for at in range(0, len(starts), block):
        a, b = starts[at : at + block, None], stops[at : at + block, None]
        ramps = _normalised(np.clip((places - a) / (b - a), 0, 1))
        found = totals @ ramps.T
        top = found.argmax(axis=1)
        value = found[np.arange(len(totals)), top]
        better = value > best
        best[better], which[better] = value[better], at + top[better]
    return starts[which].copy(), stops[which].copy(), best


def _normalised(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # Below this a constant row's centred cells are rounding, not a shape.
    varies = norm > 1e-12 * np.abs(rows).max(axis=1, keepdims=True)
    return np.asarray(np.divide(centred, norm, out=np.zeros_like(centred), where=varies))


def from_shares(shares: Floats, points: Ints, length: int) -> tuple[int, int] | None:
    """Return the stretch between 10 % and 90 % of what the model loses as more and more of a line is replaced.

    b = the first place with P >= .9 after which P stays above .1, a = the last place before it with P <= .1,
    both interpolated; the ends are moved out by (b - a) / 8.

    Args:
        shares: array (G,), P(b): the drop when cells 0 .. b are replaced, over that of the whole line.
        points: int array (G,), the places b, rising, from 0 to the line's length.
        length: cells of the line, T.

    Returns:
        start and stop, or None where P never reaches .9.
    """
    high = [i for i in np.flatnonzero(shares >= 0.9) if np.all(shares[i:] > 0.1)]
    if not high:
        return None
    at = int(high[0])
    b = _crossing(points, shares, at - 1, 0.9) if at else float(points[0])
    low = np.flatnonzero(shares[:at] <= 0.1)
    a = _crossing(points, shares, int(low[-1]), 0.1) if len(low) else 0.0
    margin = (b - a) / 8
    start = int(np.clip(round(a - margin), 0, length - 1))
    return start, int(np.clip(round(b + margin), start + 1, length))


def _crossing(points: Ints, shares: Floats, left: int, value: float) -> float:
    """Interpolate where the curve passes a value between two neighbouring places."""
    low, high = shares[left], shares[left + 1]
    part = 0.0 if high == low else float(np.clip((value - low) / (high - low), 0, 1))
    return float(points[left] + part * (points[left + 1] - points[left]))
