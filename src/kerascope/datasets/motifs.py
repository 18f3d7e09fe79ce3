"""Autoregressive noise in which one motif, or two together, mark the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kerascope.datasets.base import Dataset, Ints
from kerascope.errors import BadInputError

_NOISE_SD = 0.12
_PERSISTENCE = 0.7
"""Correlation of neighbouring steps of the noise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Motifs(Dataset):
    """What `motifs` returns: a `Dataset` that also says where the motifs lie.

    Attributes:
        row: int array (N, 2): the rows that hold a motif, -1 where there is none.
        start: int array (N, 2): first step of each motif, -1 where there is none.
        stop: int array (N, 2): one past its last step, -1 where there is none.
    """

    row: Ints
    start: Ints
    stop: Ints


def motifs(
    n: int,
    *,
    seed: int,
    shape: tuple[int, int] = (16, 128),
    classes: int = 4,
    length: int = 12,
    strength: float = 0.4,
    correlation: float = 0.0,
    conjunction: bool = False,
) -> Motifs:
    """Draw matrices, sensor x time, of autoregressive noise in 0..1 whose class is marked by a motif.

    ``x = clip(0.5 + 0.12 noise + strength motif, 0, 1)``. Every class but the last owns two rows; its motif, a bump
    (even classes; it rises and falls over a sixth of its length, so that it fills its cells) or an oscillation (odd
    ones), lies in one of the two, at a random time. The last class has none.

    With ``conjunction`` there are four classes: the first has a bump in row 0 *and* an oscillation in row 1 of its
    two rows, the second only the bump, the third only the oscillation, the fourth neither: no motif alone tells the
    first class.

    Sample i is of class ``i % (number of classes)``; the first samples do not depend on `n`.

    Args:
        n: number of samples.
        seed: where the random numbers start.
        shape: rows and steps of one matrix.
        classes: number of classes with a motif; one without comes on top. Fixed to three where ``conjunction``.
        length: steps that a motif covers; as many as there are: the whole row.
        strength: height of the motif (the noise has a standard deviation of 0.12).
        correlation: of neighbouring rows' noise, 0 to below 1; falls off as its powers.
        conjunction: two motifs together make the first class.

    Returns:
        A `Motifs` with x (N, H, W) float32, y (N,), truth (N, H, W), row, start and stop (N, 2).

    Raises:
        BadInputError: when a size is too small or the rows do not suffice.

    Example:
        >>> from kerascope import datasets
        >>> data = datasets.motifs(10, seed=0, length=12)
        >>> data.x.shape, int(data.truth[0].sum()), int(data.truth[4].sum())
        ((10, 16, 128), 12, 0)
    """
    rows, steps = shape
    marked = 3 if conjunction else classes
    _check(n, seed, rows, steps, marked, length, correlation, conjunction)
    noise_seed, place_seed = np.random.SeedSequence(seed).spawn(2)
    y = np.arange(n, dtype=np.int64) % (marked + 1)
    draws = np.random.default_rng(place_seed).random((n, 3))
    starts = (draws[:, :2] * (steps - length + 1)).astype(np.int64)
    row = np.full((n, 2), -1, dtype=np.int64)
    if conjunction:
        row[:, 0] = np.where(np.isin(y, (0, 1)), rows // 4, -1)
        row[:, 1] = np.where(np.isin(y, (0, 2)), 3 * rows // 4, -1)
        kinds = np.tile([0, 1], (n, 1))
    else:
        row[:, 0] = np.where(y < marked, 2 * y + (draws[:, 2] < 0.5), -1)
        kinds = np.stack([y % 2, y % 2], axis=1)
    there = row >= 0
    start, stop = np.where(there, starts, -1), np.where(there, starts + length, -1)
    x = 0.5 + _NOISE_SD * _noise((n, rows, steps), correlation, np.random.default_rng(noise_seed))
    truth = np.zeros(x.shape, dtype=np.bool_)
    for i, k in zip(*np.nonzero(there), strict=True):
        cells = (i, row[i, k], slice(start[i, k], stop[i, k]))
        x[cells] += strength * _shape_of(int(kinds[i, k]), length)
        truth[cells] = True
    names = ("both", "first", "second", "neither") if conjunction else (*(f"motif {c}" for c in range(marked)), "none")
    return Motifs(
        x=np.clip(x, 0, 1).astype(np.float32),
        y=y,
        truth=truth,
        class_names=names,
        dims=("sensor", "time"),
        coords={"sensor": np.array([f"s{r:02d}" for r in range(rows)]), "time": np.arange(steps)},
        row=row,
        start=start,
        stop=stop,
    )


def _check(
    n: int, seed: int, rows: int, steps: int, marked: int, length: int, correlation: float, conjunction: bool
) -> None:
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("classes", marked, 1), ("length", length, 2)):
        if value < least:
            raise BadInputError(f"{name} must be at least {least}, not {value}.")
    if length > steps:
        raise BadInputError(f"A motif of length {length} does not fit into {steps} steps: shorten it.")
    needed = 4 if conjunction else 2 * marked
    if rows < needed:
        raise BadInputError(f"{marked} classes need {needed} rows, but there are {rows}: ask for fewer classes.")
    if not 0 <= correlation < 1:
        raise BadInputError(f"correlation must be at least 0 and below 1, not {correlation}.")


def _shape_of(kind: int, length: int) -> npt.NDArray[np.float64]:
    """Return a bump (0) or an oscillation of three periods or of period 8 steps if that is more (1), in -1..1."""
    t = (np.arange(length) + 0.5) / length
    if kind == 0:  # up and down within a sixth each: a bump that tapers more leaves cells that no map can show
        return np.asarray(np.sin(np.pi / 2 * np.minimum(1, 6 * np.minimum(t, 1 - t))) ** 2)
    periods = max(1.0, min(3.0, length / 4), length / 16)
    return np.asarray(np.sin(2 * np.pi * periods * t))


def _noise(shape: tuple[int, int, int], correlation: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return noise (N, H, W) of variance 1: autoregressive along time and along rows."""
    from_above = autoregressive(rng.standard_normal(shape), _PERSISTENCE, axis=2)
    return autoregressive(from_above, correlation, axis=1)


def autoregressive(white: npt.NDArray[np.float64], coefficient: float, axis: int) -> npt.NDArray[np.float64]:
    """Turn white noise into a stationary autoregressive process of order one along an axis, variance kept."""
    moved = np.moveaxis(white, axis, 0)
    found = np.empty_like(moved)
    found[0] = moved[0]
    share = np.sqrt(1 - coefficient**2)
    for t in range(1, len(moved)):
        found[t] = coefficient * found[t - 1] + share * moved[t]
    return np.moveaxis(found, 0, axis)
