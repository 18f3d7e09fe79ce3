"""All maximal scoring stretches of a relevance map, by the algorithm of Ruzzo and Tompa.

Reference: Ruzzo and Tompa 1999, "A linear time algorithm for finding all maximal scoring subsequences", ISMB.
A stretch is *maximal* if every proper part of it scores less and no longer stretch around it has that
property. Maximal stretches are disjoint, and no length has to be chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError
from kerascope.matrices.profiles import check_dim, map_blocks, matrix_dims

if TYPE_CHECKING:
    import pandas as pd

OFFSET_QUANTILE = 0.9
WHOLE = -1
"""`line` of a stretch that lies in no single line: of a summed profile, or of a sample with one axis."""


class Stretches(NamedTuple):
    """Stretches in a stack of lines, one entry each: ``scores[line, start:stop]`` sums to `score`."""

    line: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    score: NDArray[np.float64]


def maximal_segments(scores: NDArray[Any]) -> Stretches:
    """Find all maximal scoring stretches in each line, in time linear in the number of scores.

    Args:
        scores: array (lines, length), finite.

    Returns:
        The stretches with a positive score, by line and start.

    Example:
        >>> found = maximal_segments(np.array([[4, -5, 3, -3, 1, 2, -2, 2, -2, 1, 5]]))
        >>> list(zip(found.start.tolist(), found.stop.tolist(), found.score.tolist()))
        [(0, 1, 4.0), (2, 3, 3.0), (4, 11, 7.0)]
    """
    lines, length = scores.shape
    total = np.zeros((lines, length + 1))
    np.cumsum(scores, axis=1, dtype=np.float64, out=total[:, 1:])
    # Neighbouring positive scores always end up together: the algorithm may start from whole runs of them.
    rising = np.zeros((lines, length + 2), dtype=np.int8)
    np.greater(scores, 0, out=rising[:, 1:-1], casting="unsafe")
    edges = np.diff(rising, axis=1)
    line, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    kept, first = _merge_runs(line, total[line, start], total[line, stop])
    line, start, stop = line[kept], start[first], stop[kept]
    score = total[line, stop] - total[line, start]
    real = score > 0  # a run too small to change the running total in float64 is none
    return Stretches(line[real], start[real], stop[real], score[real])


def _merge_runs(
    line: NDArray[np.int64], left: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge runs of positive scores into maximal stretches (steps 1 to 4 of the paper).

    `before[i]` points to the nearest candidate to the left whose left total is smaller. Following these
    pointers instead of walking over every candidate is what makes the whole linear.

    Args:
        line: the line of each run; runs come by line and position.
        left: the running total before each run.
        right: the running total after it.

    Returns:
        For each stretch the number of its last run, and that of its first.
    """
    low: list[float] = []  # of the candidates: total before, total after, first run, last run, pointer
    high: list[float] = []
    first: list[int] = []
    last: list[int] = []
    before: list[int] = []
    base, current = 0, -1  # candidates below `base` belong to earlier lines
    for run, (at, lo, hi) in enumerate(zip(line.tolist(), left.tolist(), right.tolist(), strict=True)):
        if at != current:
            base, current = len(low), at
        begin, size = run, len(low)
        j = size - 1
        while j >= base:
            if low[j] >= lo:
                j = before[j]
            elif high[j] >= hi:
                break
            else:  # the stretch from the start of j to here beats both: swallow all from j on
                lo, begin, size = low[j], first[j], j
                j = before[j]
        if size < len(low):
            del low[size:], high[size:], first[size:], last[size:], before[size:]
        low.append(lo)
        high.append(hi)
        first.append(begin)
        last.append(run)
        before.append(j)
    return np.array(last, dtype=np.int64), np.array(first, dtype=np.int64)


def offsets(maps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Say what is taken off each map before stretches are sought, and for which signs they are sought.

    Args:
        maps: array (B, lines, length).

    Returns:
        offset (B,): 0 for a map with cells of both signs, else the 90 % quantile of its absolute values;
        positive (B,) and negative (B,): whether the map has positive cells, and negative ones.
    """
    cells = maps.reshape(len(maps), -1)
    positive = np.any(cells > 0, axis=1, keepdims=True)[:, 0]
    negative = np.any(cells < 0, axis=1, keepdims=True)[:, 0]
    offset = np.zeros(len(maps))
    one_signed = positive != negative
    if one_signed.any():
        offset[one_signed] = np.quantile(np.abs(cells[one_signed]), OFFSET_QUANTILE, axis=1)
    return offset, positive, negative


def _stretches_of_maps(maps: NDArray[np.float64], first: int) -> tuple[list[dict[str, NDArray[Any]]], NDArray[Any]]:
    """Find the stretches along the last axis of each map, one sign after the other.

    Args:
        maps: array (B, lines, length).
        first: number of the first map, counted over all blocks.

    Returns:
        For each sign the columns `map, line, sign, start, stop, score, share`, and the offsets (B,).
    """
    offset, positive, negative = offsets(maps)
    lines = maps.shape[1]
    running = np.zeros((*maps.shape[:2], maps.shape[2] + 1))
    np.cumsum(np.abs(maps), axis=2, out=running[..., 1:])
    whole = running[..., -1].sum(axis=1)
    found = []
    for sign, wanted in ((1, positive), (-1, negative)):
        which = np.flatnonzero(wanted)
        scores = sign * maps[which] - offset[which, None, None]
        stretches = maximal_segments(scores.reshape(len(which) * lines, maps.shape[2]))
        at, line = which[stretches.line // lines], stretches.line % lines
        absolute = running[at, line, stretches.stop] - running[at, line, stretches.start]
        columns = {"map": first + at, "line": line, "sign": np.full(len(at), sign)}
        columns |= {"start": stretches.start, "stop": stretches.stop, "score": stretches.score}
        found.append(columns | {"share": absolute / whole[at]})
    return found, offset


def _as_lines(block: NDArray[np.float64], axis: int, summed: bool) -> NDArray[np.float64]:
    """Turn maps (n, T, H[, W]) into (n * T, lines, length), length being that of the given map axis."""
    shaped = np.moveaxis(block, 2 + axis, -1)
    length = shaped.shape[-1]
    flat = shaped.reshape(shaped.shape[0] * shaped.shape[1], -1, length)
    return flat.sum(axis=1, keepdims=True) if summed else flat


def _finite(block: NDArray[np.float64], first: int) -> None:
    bad = ~np.isfinite(block).all(axis=tuple(range(1, block.ndim)))
    if bad.any():
        raise BadInputError(
            f"Stretches need finite relevance. The map of sample {first + int(np.argmax(bad))} has NaN or "
            "infinite cells. Look at .warnings, or choose samples without such cells."
        )


def segment_table(
    values: NDArray[Any],
    dims: tuple[str, ...],
    dim: str,
    *,
    coords: dict[str, NDArray[Any]],
    names: NDArray[Any] | None,
    targets: NDArray[Any],
    summed: bool = False,
) -> pd.DataFrame:
    """Rank the maximal scoring stretches of each sample's map.

    With A the map and q its offset, stretches are those of A - q and, with sign -1, of -A - q. A map with
    cells of both signs has q = 0; one with a single sign is sought in that sign alone, less its own 90 %
    quantile.

    Args:
        values: array (N, *S) or (N, T, *S).
        dims: names of the sample axes S.
        dim: the matrix dim along which stretches run.
        coords: labels or positions for some dims, arrays (size,).
        names: array (lines,), names of the lines; None where the sample has one axis.
        targets: array (N, T), what is written in the column `target`.
        summed: seek stretches on the profile along `dim` (one line a sample) in place of the map.

    Returns:
        Columns `sample, target, dim, line, name, sign, start, stop, length, score, share`, ranked within each
        sample and target by `score`. `sign`: 1 or -1. `stop` is exclusive. `score`: sign * sum of the map
        over the stretch - offset * length. `share`: sum of |map| over the stretch, over that of the whole map
        (or profile). `line`: index along the other matrix dim, -1 ("all") where there is none. Where `coords`
        has `dim`, the coordinates of the first and of the last cell follow as `start_coord, stop_coord`.
        ``table.attrs["offset"]`` has the offset of each map (sample by sample, in each target by target),
        or one number if they are all the same.

    Raises:
        UnknownNameError: a sample has no such axis.
        BadInputError: `dim` is not a matrix dim, or the map is not finite.
    """
    check_dim(dim, dims)
    matrix = matrix_dims(dims)
    if dim not in matrix:
        raise BadInputError(
            f"Stretches run along a matrix dim: {' or '.join(map(repr, matrix))}. Received {dim!r}, "
            "which is summed over. Use .profile for its sums."
        )
    found: list[dict[str, NDArray[Any]]] = []
    taken = [np.zeros(0)]
    for first, block in map_blocks(values, dims, matrix):
        _finite(block, first)
        lines = _as_lines(block, matrix.index(dim), summed)
        stretches, offset = _stretches_of_maps(lines, first * targets.shape[1])
        found += stretches
        taken.append(offset)
    table = _ranked(found, dim, None if summed else names, targets, coords.get(dim))
    table.attrs = _said(dim, np.concatenate(taken), summed)
    return table


def _ranked(
    found: list[dict[str, NDArray[Any]]],
    dim: str,
    names: NDArray[Any] | None,
    targets: NDArray[Any],
    coord: NDArray[Any] | None,
) -> pd.DataFrame:
    """Put the stretches of all maps into one table, the best of each map first."""
    import pandas as pd

    ints, floats = ("map", "line", "sign", "start", "stop"), ("score", "share")
    empty = {name: np.zeros(0, dtype=np.int64) for name in ints} | {name: np.zeros(0) for name in floats}
    every = {name: np.concatenate([empty[name], *(part[name] for part in found)]) for name in empty}
    order = np.lexsort((every["start"], every["line"], -every["score"], every["map"]))
    every = {name: column[order] for name, column in every.items()}
    at, line = every["map"], every["line"]
    columns: dict[str, Any] = {
        "sample": at // targets.shape[1],
        "target": targets.ravel()[at],
        "dim": np.full(len(at), dim, dtype=object),
        "line": np.full(len(at), WHOLE) if names is None else line,
        "name": np.full(len(at), "all", dtype=object) if names is None else names[line],
        "sign": every["sign"],
        "start": every["start"],
        "stop": every["stop"],
        "length": every["stop"] - every["start"],
        "score": every["score"],
        "share": every["share"],
    }
    if coord is not None:
        columns |= {"start_coord": coord[every["start"]], "stop_coord": coord[every["stop"] - 1]}
    return pd.DataFrame(columns)


def _said(dim: str, offset: NDArray[np.float64], summed: bool) -> dict[Any, Any]:
    """Return what a reader of the table must know, as plain data."""
    same = len(offset) > 0 and bool((offset == offset[0]).all())
    what = "profile" if summed else "map"
    return {
        "algorithm": "Ruzzo and Tompa 1999",
        "dim": dim,
        "on": what,
        "offset": float(offset[0]) if same else offset.tolist(),
        "offset_rule": f"0 for a {what} with both signs, else its own {OFFSET_QUANTILE:.0%} quantile",
        "score": f"sign * sum of the {what} over the stretch - offset * length",
        "share": f"sum of absolute values over the stretch, over that of the whole {what}",
        "rank": "score, within each sample and target",
    }
