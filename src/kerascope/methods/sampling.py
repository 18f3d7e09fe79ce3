"""Averages over draws: which rows go into one pass, and running means with their standard errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def chunks(draws: int, rows: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk over all pairs (draw, row) in pieces of at most ``size``; yields the draws and the rows."""
    for start in range(0, draws * rows, size):
        flat = np.arange(start, min(start + size, draws * rows))
        yield flat // rows, flat % rows


def add_rows(total: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Add values to the rows they belong to; rows may recur, in the order in which `chunks` gives them."""
    for start in range(0, len(rows), len(total)):  # so many in a row are different ones
        piece = slice(start, start + len(total))
        total[rows[piece]] += values[piece]


class Moments:
    """Mean and standard error of maps (N, T, *S) that come draw by draw.

    Sums run over the differences to each sample's first draw: where all draws are equal the error is zero,
    not the rounding of a difference of squares.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.first = np.zeros(shape)
        self.sum, self.squares = np.zeros(shape), np.zeros(shape)

    def add(self, draws: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
        """Take in the values of some pairs (draw, row); a row's draw 0 has to come first."""
        values = values.astype("float64")
        self.first[rows[draws == 0]] = values[draws == 0]
        difference = values - self.first[rows]
        add_rows(self.sum, rows, difference)
        add_rows(self.squares, rows, np.square(difference))

    def mean(self, draws: int) -> np.ndarray:
        """Return the mean over the draws."""
        return self.first + self.sum / draws

    def error(self, draws: int) -> np.ndarray:
        """Return the standard error of the mean; nan for a single draw, of which it is not known."""
        if draws < 2:
            return np.full(self.sum.shape, np.nan)
        variance = np.maximum(self.squares / draws - np.square(self.sum / draws), 0)
        return np.asarray(np.sqrt(variance / (draws - 1)))
