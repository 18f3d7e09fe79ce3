"""What relevance looks like without the evidence: reference maxima, p-values, false discovery rates.

A matrix is tested line by line (a row, or a column). Its statistic is the largest line sum, so that the
p-values hold for all lines of the matrix together (family-wise); references are inputs without the evidence,
explained for the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def p_values(scores: Floats, maxima: Floats) -> Floats:
    """Return p = (1 + number of reference maxima >= score) / (1 + N), never below 1 / (N + 1).

    Args:
        scores: array of any shape, the line sums tested.
        maxima: array (N,), the largest line sum of each reference.

    Example:
        >>> p_values(np.array([0.5, 3.0]), np.array([0.0, 1.0, 2.0])).tolist()
        [0.75, 0.25]
    """
    ordered = np.sort(maxima)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1 + above) / (1 + len(ordered)), dtype=np.float64)


def needed(level: float) -> int:
    """Return how many references it takes for p to be able to reach a level."""
    return max(1, math.ceil(1 / level - 1e-9) - 1)


def q_values(p: Floats) -> Floats:
    """Return false discovery rates over samples, of p-values that already hold within each sample.

    Benjamini-Hochberg (1995) over one p-value per sample: a sample enters with its smallest, and for each of
    its other lines that line's p takes the sample's place.

    Args:
        p: array (samples, lines).

    Returns:
        Array (samples, lines), at least p; equal to p for a single sample.

    Example:
        >>> q_values(np.array([[0.01, 0.5], [0.02, 0.9]])).round(3).tolist()
        [[0.02, 0.5], [0.02, 0.9]]
    """
    best, count = np.sort(p.min(axis=1)), len(p)
    q = np.empty_like(p)
    for sample, lines in enumerate(p):
        others = np.delete(best, np.searchsorted(best, lines.min()))
        # Thresholds at which a line may be called: its own p, and every larger p of another sample.
        rank = np.arange(1, count) + 1  # of others[i], counting the line itself below it
        at_others = others * count / rank if count > 1 else others
        smallest = np.minimum.accumulate(at_others[::-1])[::-1] if count > 1 else others
        below = np.searchsorted(others, lines, side="right")
        own = lines * count / (below + 1)
        later = np.append(smallest, np.inf)[below]
        q[sample] = np.minimum(np.minimum(own, later), 1)
    return np.maximum(q, p)


@dataclass(frozen=True)
class Mixture:
    """How unequal the classes of the references are: the sign that some of them carry part of the evidence.

    ``ratio``: the largest class median of the reference maxima, over the 95 % quantile of the cleanest class.
    ``clean``: the classes whose median stays below that quantile.
    """

    ratio: float
    clean: tuple[int, ...]

    @property
    def is_mixed(self) -> bool:
        """Whether the references should not be trusted without a look."""
        return self.ratio > 2


def mixture(maxima: Floats, labels: NDArray[np.int64], least: int = 5) -> Mixture | None:
    """Compare the classes of the references; None where fewer than two have ``least`` samples.

    A class defined by two motifs together meets references of other classes that carry one of them: they are
    not free of the evidence, and the test loses its power.
    """
    classes = [int(c) for c in np.unique(labels) if np.sum(labels == c) >= least]
    if len(classes) < 2:
        return None
    medians = {c: float(np.median(maxima[labels == c])) for c in classes}
    quantiles = {c: float(np.quantile(maxima[labels == c], 0.95)) for c in classes}
    lowest = min(quantiles.values())
    highest = max(medians.values())
    ratio = highest / lowest if lowest > 0 else (math.inf if highest > 0 else 1.0)
    return Mixture(ratio, tuple(c for c in classes if medians[c] <= lowest))
