"""Sums of a relevance map along its axes, and the ranked tables of its rows and columns.

A sample has axes `dims`. Its *matrix dims* are the axes that make it a matrix (the channel axis is not one);
its *map* is the signed sum over all other axes. Rows are the indices of the first matrix dim, columns those
of the second. Everything is summed in float64, a few samples at a time, so that no copy of the values is
made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

CHANNEL = "channel"
BLOCK_BYTES = 32 * 2**20
"""Most bytes of a float64 map that are held at once."""


def matrix_dims(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Return the axes that make a sample a matrix: two, or one where a sample has one axis.

    Both axes of a two-dimensional sample; the first two of the others that are not called "channel".

    Args:
        dims: names of one sample's axes.

    Returns:
        At most two names, in the order of `dims`.

    Example:
        >>> matrix_dims(("channel", "sensor", "time"))
        ('sensor', 'time')
    """
    if len(dims) <= 2:
        return tuple(dims)
    return tuple(dim for dim in dims if dim != CHANNEL)[:2]


def check_dim(dim: str, dims: tuple[str, ...]) -> None:
    """Raise UnknownNameError, naming the nearest ones, if a sample has no axis of this name."""
    if dim not in dims:
        raise unknown_name("dim", dim, dims)


def sum_to(values: NDArray[Any], dims: tuple[str, ...], keep: tuple[str, ...]) -> NDArray[Any]:
    """Sum values over all sample axes but some, in float64.

    Args:
        values: array (..., *S), any axes before those of a sample.
        dims: names of the sample axes S.
        keep: the names that stay, in the order of `dims`.

    Returns:
        Array (..., *kept sizes): float64, or the values themselves where there is nothing to sum.
    """
    lead = values.ndim - len(dims)
    axes = tuple(lead + axis for axis, dim in enumerate(dims) if dim not in keep)
    return values.sum(axis=axes, dtype=np.float64) if axes else values


def map_blocks(
    values: NDArray[Any], dims: tuple[str, ...], keep: tuple[str, ...]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the maps of a few samples at a time.

    Args:
        values: array (N, *S) or (N, T, *S).
        dims: names of the sample axes S.
        keep: the axes of the map, at least one.

    Yields:
        The index of the block's first sample, and its maps in float64: array (n, T, *kept sizes), T = 1 where
        the values have no axis of targets.
    """
    lead = values.ndim - len(dims)
    per_sample = 8 * math.prod(values.shape[1:lead]) * math.prod(values.shape[lead:])
    step = max(1, BLOCK_BYTES // max(1, per_sample))
    for start in range(0, len(values), step):
        block = np.asarray(sum_to(values[start : start + step], dims, keep), dtype=np.float64)
        yield start, block if lead == 2 else block[:, None]


def profile(values: NDArray[Any], dims: tuple[str, ...], dim: str, *, absolute: bool = False) -> NDArray[np.float64]:
    """Sum relevance over all axes of a sample but one.

    P[n, i] = sum of A over the cells of sample n that have index i along `dim`; with `absolute`, the sum of
    |A|,
    A being the map: the axes that are neither matrix dims nor `dim` are summed with their signs first.

    Args:
        values: array (N, *S) or (N, T, *S).
        dims: names of the sample axes S.
        dim: the axis that stays.
        absolute: sum absolute values.

    Returns:
        Array (N, size of dim) or (N, T, size of dim), float64.

    Raises:
        UnknownNameError: a sample has no such axis.

    Example:
        >>> profile(np.array([[[1.0, -3.0], [2.0, 2.0]]]), ("row", "column"), "row")
        array([[-2.,  4.]])
    """
    check_dim(dim, dims)
    if not absolute:
        return np.asarray(sum_to(values, dims, (dim,)), dtype=np.float64)
    keep = tuple(d for d in dims if d == dim or d in matrix_dims(dims))
    parts = [sum_to(np.abs(block), keep, (dim,)) for _, block in map_blocks(values, dims, keep)]
    shape = (
        *values.shape[: values.ndim - len(dims)],
        values.shape[values.ndim - len(dims) + dims.index(dim)],
    )
    return np.concatenate(parts).reshape(shape) if parts else np.zeros(shape)


def line_table(
    values: NDArray[Any], dims: tuple[str, ...], dim: str, *, names: NDArray[Any], targets: NDArray[Any]
) -> pd.DataFrame:
    """Rank the lines of each sample's map: one table line for each index along `dim`.

    Args:
        values: array (N, *S) or (N, T, *S).
        dims: names of the sample axes S.
        dim: the axis whose indices are ranked; one of the matrix dims.
        names: array (size of dim,), a name for each index.
        targets: array (N, T), what is written in the column `target`.

    Returns:
        Columns `sample, target, index, name, sum, abs_sum, share`, ranked within each sample and target by
        the absolute value of `sum`, the largest first. `share` = abs_sum / sum of |map| over the whole sample
        (0 where the map is zero throughout).
    """
    import pandas as pd

    if dim not in matrix_dims(dims):
        raise BadInputError(
            f"Lines are ranked along a matrix dim: {' or '.join(map(repr, matrix_dims(dims)))}. "
            f"Received {dim!r}, which is summed over. Use .profile for its sums."
        )
    count = len(names)
    samples, channels = len(values), targets.shape[1]
    total = profile(values, dims, dim).reshape(samples, channels, count)
    absolute = profile(values, dims, dim, absolute=True).reshape(samples, channels, count)
    whole = absolute.sum(axis=-1, keepdims=True)
    share = np.divide(absolute, whole, out=np.zeros_like(absolute), where=whole > 0)
    order = np.argsort(-np.abs(total), axis=-1, kind="stable")
    index = order.ravel()

    def ranked(array: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(array, order, axis=-1).ravel()

    table = pd.DataFrame(
        {
            "sample": np.repeat(np.arange(samples), channels * count),
            "target": np.repeat(targets.ravel(), count),
            "index": index,
            "name": names[index],
            "sum": ranked(total),
            "abs_sum": ranked(absolute),
            "share": ranked(share),
        }
    )
    table.attrs = {
        "dim": dim,
        "share": "abs_sum over the sum of absolute values of the sample's map",
        "rank": "absolute value of sum, within each sample and target",
    }
    return table
