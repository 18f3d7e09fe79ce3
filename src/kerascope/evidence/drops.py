"""The check by the model: what the explained number loses when cells are replaced by other samples' values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerascope.methods.session import Session
from kerascope.target import Selection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Replacer:
    """Samples of which parts are replaced by the values of background samples at the same cells.

    ``x`` (N, *S); ``fills`` (F, *S); ``axes``: which axes of a sample are the two (or one) of its matrix; all
    other axes (channels) are replaced along with their cell. ``selection`` (N rows) says what is explained.
    """

    session: Session
    selection: Selection
    x: Floats
    fills: Floats
    axes: tuple[int, ...]

    def whole(self) -> Floats:
        """Return the explained number of every sample as it is (N,)."""
        logits = self.session.logits((self.x,), self.selection)
        return np.asarray(self.selection.numbers_own(logits)[:, 0], dtype=np.float64)

    def replaced(self, samples: Ints, mask_of: Callable[[int], Bools]) -> Floats:
        """Return the explained numbers with parts replaced, once for every fill: (F, D).

        Args:
            samples: int array (D,), which sample each replacement is made in.
            mask_of: the cells replaced in the d-th one: bool, over the matrix axes.
        """
        count, fills = len(samples), len(self.fills)
        found = np.empty((fills, count))
        step = self.session.rows_at_once
        for at in range(0, count * fills, step):
            flat = np.arange(at, min(at + step, count * fills))
            which, fill = flat // fills, flat % fills
            masks = {int(d): self._over_sample(mask_of(int(d))) for d in np.unique(which)}
            rows = samples[which]
            stacked = np.stack([masks[int(d)] for d in which])
            changed = np.where(stacked, self.fills[fill], self.x[rows])
            selection = self.selection.rows(rows)
            logits = self.session.logits((changed,), selection)
            found[fill, which] = selection.numbers_own(logits)[:, 0]
        return found

    def _over_sample(self, mask: Bools) -> Bools:
        """Let a mask over the matrix axes broadcast over a sample."""
        rank = self.x.ndim - 1
        return np.asarray(np.expand_dims(mask, tuple(axis for axis in range(rank) if axis not in self.axes)))


@dataclass(frozen=True, eq=False)
class Drops:
    """Mean drops over fills and their intervals, each (D,)."""

    mean: Floats
    low: Floats
    high: Floats


def with_intervals(drops: Floats, confidence: float = 0.95) -> Drops:
    """Average drops (F, D) over the fills; the interval is Student's t over fills, nan for a single one."""
    from scipy import stats

    count = len(drops)
    mean = drops.mean(axis=0)
    if count < 2:
        unknown = np.full_like(mean, np.nan)
        return Drops(mean, unknown, unknown)
    half = stats.t.ppf(0.5 + confidence / 2, count - 1) * drops.std(axis=0, ddof=1) / np.sqrt(count)
    return Drops(mean, mean - half, mean + half)


def symmetric(whole: Floats, part: Floats, rest: Floats, line: Floats) -> Floats:
    """Return the part's drop as one of two players, the part and the rest of its line (Shapley value).

    half of [f(x) - f(part replaced) + f(rest replaced) - f(line replaced)], element by element.
    """
    return np.asarray((whole - part + rest - line) / 2)
