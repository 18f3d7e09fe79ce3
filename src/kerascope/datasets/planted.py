"""Smoothed noise with one motif in a row that tells the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kerascope.datasets.base import Dataset, Ints
from kerascope.errors import BadInputError

NOISE_SD = 0.12
"""Of the background, in units of the 0..1 range: four deviations stay inside."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted(Dataset):
    """What `planted` returns: a `Dataset` that also says where each motif lies.

    Attributes:
        row: int array (N,): the row that holds the motif, -1 without a motif.
        start: int array (N,): first column of the motif, -1 without one.
        stop: int array (N,): one past its last column, -1 without one.
        row_names: one name per row.
    """

    row: Ints
    start: Ints
    stop: Ints
    row_names: tuple[str, ...]


def planted(
    n: int,
    *,
    seed: int,
    shape: tuple[int, int] = (20, 64),
    classes: int = 4,
    length: int = 12,
    strength: float = 0.4,
    smoothing: int = 5,
) -> Planted:
    """Draw matrices of smoothed noise in 0..1 whose class is marked by a motif in a row of the class's own.

    ``x = clip(0.5 + 0.12 noise + strength motif, 0, 1)``; the motif is ``sin(3 pi t) ** 2`` for t in 0..1,
    three humps, at a column drawn uniformly. All classes share this one motif: only the row tells them apart.
    The last class has none. Sample i is of class ``i % (classes + 1)``, so every stretch of samples is
    balanced, and the first samples do not depend on `n`.

    Args:
        n: number of samples, at least 1.
        seed: where the random numbers start, 0 or more.
        shape: rows and columns of one matrix.
        classes: number of classes with a motif; one class without any comes on top.
        length: columns that a motif covers.
        strength: height of the humps, in units of the matrix (the noise has a standard deviation of 0.12).
        smoothing: columns of the Hann window that smooths the noise along each row; 1 leaves it white.

    Returns:
        A `Planted` with x (N, H, W) float32, y (N,), truth (N, H, W) bool, row, start and stop (N,).

    Raises:
        BadInputError: when a size is too small, the motif longer than a row, or classes outnumber rows.

    Example:
        >>> from kerascope import datasets
        >>> data = datasets.planted(10, seed=0)
        >>> data.x.shape, data.class_names[data.y[1]], data.row_names[data.row[1]]
        ((10, 20, 64), 'motif in r07', 'r07')
    """
    rows, columns = shape
    _check_sizes(n, seed, rows, columns, classes, length, smoothing)
    noise_seed, place_seed = np.random.SeedSequence(seed).spawn(2)  # apart: neither depends on n
    y = np.arange(n, dtype=np.int64) % (classes + 1)
    row_of_class = (
        (2 * np.arange(classes, dtype=np.int64) + 1) * rows // (2 * classes)
    )  # spread evenly: 2, 7, 12, 17 of 20

    places = np.random.default_rng(place_seed).random(n) * (columns - length + 1)
    row = np.append(row_of_class, -1)[y]
    start = np.where(y < classes, places.astype(np.int64), -1)
    stop = np.where(y < classes, start + length, -1)

    x = 0.5 + NOISE_SD * _smoothed_noise((n, rows, columns), smoothing, np.random.default_rng(noise_seed))
    truth = np.zeros(x.shape, dtype=np.bool_)
    for i in np.flatnonzero(y < classes):
        x[i, row[i], start[i] : stop[i]] += strength * _motif(length)
        truth[i, row[i], start[i] : stop[i]] = True

    row_names = tuple(f"r{r:0{len(str(rows - 1))}d}" for r in range(rows))
    return Planted(
        x=np.clip(x, 0.0, 1.0).astype(np.float32),
        y=y,
        truth=truth,
        class_names=(*(f"motif in {row_names[r]}" for r in row_of_class), "no motif"),
        coords={"row": np.array(row_names)},
        row=row,
        start=start,
        stop=stop,
        row_names=row_names,
    )


def _check_sizes(n: int, seed: int, rows: int, columns: int, classes: int, length: int, smoothing: int) -> None:
    """Raise BadInputError where `planted` was asked for something that cannot be drawn."""
    for name, value, least in (
        ("n", n, 1),
        ("seed", seed, 0),
        ("classes", classes, 1),
        ("length", length, 3),
        ("smoothing", smoothing, 1),
    ):
        if value < least:
            raise BadInputError(f"{name} must be at least {least}, not {value}.")
    if length > columns:
        raise BadInputError(f"A motif of length {length} does not fit into {columns} columns: shorten it.")
    if classes > rows:
        raise BadInputError(f"{classes} classes need a row each, but there are {rows} rows: ask for fewer classes.")


def _motif(length: int) -> npt.NDArray[np.float64]:
    """Return the motif, (length,), in 0..1: three humps, each a squared half wave."""
    t = (np.arange(length) + 0.5) / length
    return np.asarray(np.sin(3 * np.pi * t) ** 2)


def _smoothed_noise(shape: tuple[int, int, int], smoothing: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return Gaussian noise (N, H, W) of variance 1, smoothed along the last axis by a Hann window."""
    n, rows, columns = shape
    kernel = np.hanning(smoothing + 2)[1:-1]
    kernel /= np.sqrt(np.sum(kernel**2))  # keeps the variance at 1
    white = rng.standard_normal((n, rows, columns + smoothing - 1))
    return sum((weight * white[..., i : i + columns] for i, weight in enumerate(kernel)), np.zeros(shape))
