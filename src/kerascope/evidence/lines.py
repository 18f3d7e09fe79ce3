"""The lines of a matrix (its rows, its columns, or the whole of a one-axis sample), tested against references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerascope.evidence import null
from kerascope.evidence.grouping import Members
from kerascope.evidence.study import References

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEAST_SHARE = 0.25
"""A line is called only if its sum is at least this share of the sample's largest."""


@dataclass(frozen=True)
class Direction:
    """Which way lines run through a matrix.

    ``matrix``: sizes of a sample's matrix axes, two or one. ``axis``: the one whose indices are the lines; None:
    the sample, with one axis, is a single line. ``members``: the indices that make up each line, where groups of
    them are tested together; None: each is a line.
    """

    matrix: tuple[int, ...]
    axis: int | None
    members: Members | None = None

    def of(self, maps: Floats) -> Floats:
        """Return maps (N, H, W) as lines (N, L, T), those of a group summed."""
        view = maps if self.axis == 0 else np.swapaxes(maps, 1, 2)
        if self.members is None:
            return view
        return np.stack([view[:, list(group)].sum(axis=1) for group in self.members], axis=1)

    def first(self, lines: Ints) -> Ints:
        """Return the index along the axis at which each line begins: itself, or the first of its group."""
        return lines if self.members is None else np.array([group[0] for group in self.members])[lines]

    def names(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return a name for each line: its label, or those of its group joined by a plus sign."""
        if self.members is None:
            return labels
        return np.array(["+".join(str(labels[i]) for i in group) for group in self.members], dtype=object)

    def mask(self, line: int, start: int, stop: int) -> Bools:
        """Return the cells start .. stop of a line, over the matrix axes."""
        cells = np.zeros(self.matrix, dtype=np.bool_)
        which = [line] if self.members is None else list(self.members[line])
        if len(self.matrix) == 1:
            cells[slice(start, stop) if self.axis is None else which] = True
        elif self.axis == 0:
            cells[which, start:stop] = True
        else:
            cells[start:stop, which] = True
        return cells


@dataclass(frozen=True, eq=False)
class Lines:
    """Tested lines of N samples.

    ``maps`` (N, H, W); ``view`` (N, L, T) the same line by line; ``sums`` (N, L); ``signs`` (N, L) of the evidence
    sought in each line; ``scores`` = signs * sums; ``p``, ``q``, ``called`` (N, L); ``p_clean`` likewise, against the
    cleanest classes only, None where no references are mixed; ``mixed``: by how much they are, per reference set.
    """

    direction: Direction
    maps: Floats
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

    def absolute(self) -> Floats:
        """Return the absolute relevance in each cell of the lines (N, L, T)."""
        return self.direction.of(np.abs(self.maps))


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
    return Lines(
        direction, maps, view, sums, signs, p, null.q_values(p), called, p_clean if mixed else None, tuple(mixed)
    )


def _signs(sums: Floats, sign: str) -> Floats:
    if sign == "both":
        return np.where(sums < 0, -1.0, 1.0)
    return np.full_like(sums, 1.0 if sign == "positive" else -1.0)
