"""Averages over draws: running means with their standard errors."""

from __future__ import annotations

import numpy as np


def add_rows(total: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Add values to the rows they belong to; rows may recur, in the order in which `Session.pairs` gives them."""
    for start in range(0, len(rows), len(total)):  # so many in a row are different ones
        piece = slice(start, start + len(total))
        total[rows[piece]] += values[piece]


class Moments:
    """Mean, variance and their standard errors of maps (N, T, *S) that come draw by draw.

    Sums of powers run over the differences to each sample's first draw: where all draws are equal the variance is
    zero, not the rounding of a difference of squares. ``order`` is the highest power: 4 for `variance_error`.
    """

    def __init__(self, shape: tuple[int, ...], order: int = 2) -> None:
        self.first = np.zeros(shape)
        self.sums = [np.zeros(shape) for _ in range(order)]

    def add(self, draws: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
        """Take in the values of some pairs (draw, row); a row's draw 0 has to come first."""
        values = values.astype("float64")
        self.first[rows[draws == 0]] = values[draws == 0]
        difference = values - self.first[rows]
        for power, total in enumerate(self.sums, 1):
            add_rows(total, rows, difference**power)

    def mean(self, draws: int) -> np.ndarray:
        """Return the mean over the draws."""
        return np.asarray(self.first + self.sums[0] / draws)

    def error(self, draws: int) -> np.ndarray:
        """Return the standard error of the mean; nan for a single draw, of which it is not known."""
        if draws < 2:
            return np.full(self.first.shape, np.nan)
        return np.asarray(np.sqrt(self.variance(draws) / (draws - 1)))

    def variance(self, draws: int) -> np.ndarray:
        """Return the variance over the draws, with divisor n."""
        return np.asarray(np.maximum(self.sums[1] / draws - np.square(self.sums[0] / draws), 0))

    def variance_error(self, draws: int) -> np.ndarray:
        """Return the standard error of the variance: sqrt((m4 - m2^2) / n); nan for a single draw."""
        if draws < 2:
            return np.full(self.first.shape, np.nan)
        m1, m2, m3, m4 = (total / draws for total in self.sums)
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        return np.asarray(np.sqrt(np.maximum(fourth - np.square(self.variance(draws)), 0) / draws))
