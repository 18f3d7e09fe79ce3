"""Stretches of cells whose mean relevance stands out over many samples: cluster permutation tests.

Maris and Oostenveld 2007, "Nonparametric statistical testing of EEG- and MEG-data", J. Neurosci. Methods 164: cells
with a large t are joined with their neighbours, a cluster's mass is the sum of its t, and the largest mass under
permutation is the null, so that p holds for all clusters of the matrix together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLD = 2.0
"""Cells whose |t| is below it join no cluster; it changes the power of the test, never its level."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of one matrix: ``labels`` (H, W), 0 outside; ``mass`` and ``p`` (C,), cluster 1 first."""

    labels: Ints
    mass: Floats
    p: Floats


def differs_from_zero(maps: Floats, ordered: Sequence[bool], *, draws: int, seed: int) -> Clusters:
    """Test where the mean of maps (N, H, W) is not zero: the signs of whole maps are flipped at random.

    ``ordered``: for each matrix axis, whether neighbours along it belong together.
    """
    rng = np.random.default_rng(seed)

    def shuffled() -> Floats:
        return _t_of_mean(rng.choice([-1.0, 1.0], len(maps))[:, None, None] * maps)

    return _tested(_t_of_mean(maps), shuffled, ordered, draws)


def differs_between(
    maps: Floats, first: NDArray[np.bool_], ordered: Sequence[bool], *, draws: int, seed: int
) -> Clusters:
    """Test where the means of two groups of maps differ: membership in ``first`` (N,) is permuted."""
    rng = np.random.default_rng(seed)

    def shuffled() -> Floats:
        return _t_of_difference(maps, rng.permutation(first))

    return _tested(_t_of_difference(maps, first), shuffled, ordered, draws)


def _tested(t: Floats, shuffled: Callable[[], Floats], ordered: Sequence[bool], draws: int) -> Clusters:
    labels, mass = _clusters(t, ordered)
    null = np.array([np.abs(_clusters(shuffled(), ordered)[1]).max(initial=0) for _ in range(draws)])
    p = np.array([(1 + np.sum(null >= abs(m))) / (1 + draws) for m in mass])
    return Clusters(labels, mass, p)


def _clusters(t: Floats, ordered: Sequence[bool]) -> tuple[Ints, Floats]:
    """Join neighbouring cells of one sign; return labels and the sums of t."""
    from scipy import ndimage

    neighbours = ndimage.generate_binary_structure(2, 1)
    if not ordered[0]:
        neighbours[[0, 2], 1] = False
    if len(ordered) < 2 or not ordered[1]:
        neighbours[1, [0, 2]] = False
    positive, ups = ndimage.label(t > THRESHOLD, structure=neighbours)
    negative, downs = ndimage.label(t < -THRESHOLD, structure=neighbours)
    labels = np.where(negative > 0, negative + ups, positive).astype(np.int64)
    index = np.arange(1, ups + downs + 1)
    return labels, np.asarray(ndimage.sum_labels(t, labels, index), dtype=np.float64)


def _t_of_mean(maps: Floats) -> Floats:
    spread = maps.std(axis=0, ddof=1) / np.sqrt(len(maps))
    mean = maps.mean(axis=0)
    return np.asarray(np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0))


def _t_of_difference(maps: Floats, first: NDArray[np.bool_]) -> Floats:
    """Return Student's t for two groups with one variance."""
    a, b = maps[first], maps[~first]
    difference = a.mean(axis=0) - b.mean(axis=0)
    pooled = (len(a) - 1) * a.var(axis=0, ddof=1) + (len(b) - 1) * b.var(axis=0, ddof=1)
    spread = np.sqrt(pooled / (len(maps) - 2) * (1 / len(a) + 1 / len(b)))
    return np.asarray(np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 0))
