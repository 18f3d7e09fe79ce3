"""The lines of a matrix (its rows, its columns, or the whole of a one-axis sample), tested against references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerascope.evidence import null
from kerascope.evidence.study import References

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_SHARE = 0.25
"""A line is called only if its sum is at least this share of the sample's largest."""


@dataclass(frozen=True)
class Direction:
    """Which way lines run through a matrix.

    ``matrix``: sizes of a sample's matrix axes, two or one. ``axis``: the one whose indices are the lines; None:
    the sample, with one axis, is a single line.
    """

    matrix: tuple[int, ...]
    axis: int | None

    def of(self, maps: Floats) -> Floats:
        """Return maps (N, H, W) as lines (N, L, T)."""
        if self.axis == 0:
            return maps
        return np.swapaxes(maps, 1, 2)

    def mask(self, line: int, start: int, stop: int) -> Bools:
        """Return the cells start .. stop of a line, over the matrix axes."""
        cells = np.zeros(self.matrix, dtype=np.bool_)
        if len(self.matrix) == 1:
            cells[slice(start, stop) if self.axis is None else line] = True
        elif self.axis == 0:
            cells[line, start:stop] = True
        else:
            cells[start:stop, line] = True
        return cells


@dataclass(frozen=True, eq=False)
class Lines:
    """Tested lines of N samples.

    ``view`` (N, L, T) the maps, line by line; ``sums`` (N, L); ``signs`` (N, L) of the evidence sought in each
    line; ``scores`` = signs * sums; ``p``, ``q``, ``called`` (N, L); ``p_clean`` likewise, against the cleanest
    classes only, None where no references are mixed; ``mixed``: by how much they are, per reference set.
    """

    direction: Direction
    view: Floats
    sums: Floats
    signs: Floats
    p: Floats
    q: Floats
    called: Bools
    p_clean: Floats | None
    mixed: tuple[float, ...]

    @property
    def scores(self) -> Floats:
        """The sums in the sign that is sought."""
        return self.signs * self.sums


def tested(maps: Floats, references: Sequence[References], direction: Direction, *, level: float, sign: str) -> Lines:
    """Compare the line sums of each sample with the largest of every reference of that sample."""
    view = direction.of(maps)
    sums = view.sum(axis=2)
    signs = _signs(sums, sign)
    scores = signs * sums
    p, p_clean, mixed = np.ones_like(sums), np.full_like(sums, np.nan), []
    for one in {id(r): r for r in references}.values():
        mine = np.array([r is one for r in references])
        totals = direction.of(one.maps).sum(axis=2)
        maxima = (_signs(totals, sign) * totals).max(axis=1)
        p[mine] = null.p_values(scores[mine], maxima)
        found = null.mixture(maxima, one.labels)
        if found and found.is_mixed:
            mixed.append(found.ratio)
            p_clean[mine] = null.p_values(scores[mine], maxima[np.isin(one.labels, found.clean)])
    large = scores >= LEAST_SHARE * scores.max(axis=1, keepdims=True)
    called = (p <= level) & large & (scores > 0)
    return Lines(direction, view, sums, signs, p, null.q_values(p), called, p_clean if mixed else None, tuple(mixed))


def _signs(sums: Floats, sign: str) -> Floats:
    if sign == "both":
        return np.where(sums < 0, -1.0, 1.0)
    return np.full_like(sums, 1.0 if sign == "positive" else -1.0)
