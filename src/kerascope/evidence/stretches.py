"""The stretch of each called line: read from the map, then checked by the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerascope.evidence.drops import Drops, Replacer, symmetric, with_intervals
from kerascope.evidence.lines import Lines
from kerascope.evidence.ramps import fit_ramps, from_shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_HOLDS = 0.8
"""A stretch is kept if replacing it costs at least this share of what replacing its line costs."""
_GRID = 4
"""Else it is sought in the drops, at every fourth place,"""
_PLACES = 64
"""but at no more than so many places of a long line."""
_WHOLE = 0.75
"""A stretch that covers this share of its line is the whole line."""


@dataclass(frozen=True, eq=False)
class Found:
    """One stretch for each called line, entries (D,) in the order of ``np.nonzero(lines.called)``.

    ``searched``: those that were sought in the drops, since the one from the map did not hold. ``drops``: None
    where nothing was replaced.
    """

    sample: Ints
    line: Ints
    start: Ints
    stop: Ints
    whole: Bools
    searched: Bools
    drops: Drops | None


def find(lines: Lines, replacer: Replacer | None, base: Floats) -> Found:
    """Find the stretch of every called line.

    Args:
        lines: the tested lines.
        replacer: the model with fills; None: the map alone decides.
        base: the explained number of every sample (N,).
    """
    sample, line = np.nonzero(lines.called)
    length = lines.view.shape[2]
    signs = lines.signs[sample, line]
    ramps = fit_ramps(signs[:, None] * lines.view[sample, line])
    start, stop = ramps.start.copy(), ramps.stop.copy()
    searched = np.zeros(len(sample), dtype=np.bool_)
    if replacer is not None and len(sample):
        check = _Check(replacer, base, lines, sample, line)
        held = check.drops(start, stop).mean(axis=0)
        of_line = check.line.mean(axis=0)
        searched = ~((held >= _HOLDS * of_line) | (of_line <= 0))
        for d in np.flatnonzero(searched):
            better = check.search(int(d))
            if better:
                start[d], stop[d] = better
    whole = stop - start >= _WHOLE * length
    start[whole], stop[whole] = 0, length
    drops = None
    if replacer is not None and len(sample):
        drops = with_intervals(check.drops(start, stop) * signs)
    return Found(sample, line, start, stop, whole, searched, drops)


class _Check:
    """The drops of stretches and of their lines, in the sign of the evidence, (F, D)."""

    def __init__(self, replacer: Replacer, base: Floats, lines: Lines, sample: Ints, line: Ints) -> None:
        self.replacer, self.direction, self.length = replacer, lines.direction, lines.view.shape[2]
        self.sample, self.at, self.signs = sample, line, lines.signs[sample, line]
        self.base = base[sample]
        whole = [lines.direction.mask(at, 0, self.length) for at in range(lines.view.shape[1])]
        self.without_line = replacer.replaced(sample, lambda d: whole[line[d]])
        self.line = self.signs * (self.base - self.without_line)

    def drops(self, start: Ints, stop: Ints) -> Floats:
        """Return the symmetric drops of one stretch per line (F, D)."""
        every = np.arange(len(self.sample))
        return self._symmetric(every, start, stop)

    def search(self, d: int) -> tuple[int, int] | None:
        """Seek the stretch of one line in the curve of its drops."""
        step = max(_GRID, -(-self.length // _PLACES))
        points = np.unique(np.append(np.arange(0, self.length, step), self.length))
        inner = points[1:-1]
        same = np.full(len(inner), d)
        inside = self._symmetric(same, np.zeros(len(inner), dtype=np.int64), inner).mean(axis=0)
        total = self.line[:, d].mean()
        shares = np.concatenate([[0.0], inside / total, [1.0]])
        return from_shares(shares, points, self.length)

    def _symmetric(self, which: Ints, start: Ints, stop: Ints) -> Floats:
        samples, lines = self.sample[which], self.at[which]

        def part(d: int) -> Bools:
            return self.direction.mask(int(lines[d]), int(start[d]), int(stop[d]))

        def rest(d: int) -> Bools:
            return self.direction.mask(int(lines[d]), 0, self.length) & ~part(d)

        without_part = self.replacer.replaced(samples, part)
        without_rest = self.replacer.replaced(samples, rest)
        found = symmetric(self.base[which], without_part, without_rest, self.without_line[:, which])
        return np.asarray(self.signs[which] * found)
