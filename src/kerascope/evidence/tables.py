"""The tables of evidence: pandas, long, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerascope.evidence.drops import Drops
from kerascope.evidence.lines import Lines
from kerascope.evidence.stretches import Found
from kerascope.explanation import Explanation
from kerascope.matrices.segments import WHOLE

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Measured = tuple[Ints, Ints, Drops]
"""Samples and lines that were replaced, and the drops."""


def targets_of(classes: Ints, found: Explanation) -> NDArray[Any]:
    """Return what stands in the column `target` for each sample: the class index, or the target's text."""
    if np.any(classes < 0):
        return np.full(len(classes), found.target_name(0), dtype=object)
    return classes


def line_table(found: Explanation, classes: Ints, dim: str, lines: Lines, measured: Measured | None) -> pd.DataFrame:
    """Rank the lines of each sample by p, then by drop, then by sum."""
    import pandas as pd

    count, size = lines.sums.shape
    absolute = lines.absolute().sum(axis=2)
    whole = absolute.sum(axis=1, keepdims=True)
    share = np.divide(absolute, whole, out=np.zeros_like(absolute), where=whole > 0)
    drop = np.full((3, count, size), np.nan)
    if measured is not None:
        sample, index, drops = measured
        drop[:, sample, index] = drops.mean, drops.low, drops.high
    names = lines.direction.names(found.labels(dim))
    columns: dict[str, Any] = {
        "sample": np.repeat(np.arange(count), size),
        "target": np.repeat(targets_of(classes, found), size),
        "index": np.tile(lines.direction.first(np.arange(size)), count),
        "name": np.tile(names, count),
        "sum": lines.sums.ravel(),
        "abs_sum": absolute.ravel(),
        "share": share.ravel(),
        "drop": drop[0].ravel(),
        "drop_low": drop[1].ravel(),
        "drop_high": drop[2].ravel(),
        "p": lines.p.ravel(),
        "q": lines.q.ravel(),
        "called": lines.called.ravel(),
    }
    if lines.p_clean is not None:
        columns["p_clean"] = lines.p_clean.ravel()
    signed = np.nan_to_num(lines.signs * drop[0], nan=-np.inf).ravel()
    order = np.lexsort((-lines.scores.ravel(), -signed, lines.p.ravel(), columns["sample"]))
    table = pd.DataFrame({name: column[order] for name, column in columns.items()})
    table.attrs = {
        "dim": dim,
        "p": "family-wise over the lines of one matrix: (1 + references with a line as large) / (1 + N)",
        "q": "Benjamini-Hochberg over samples",
        "drop": "loss of the explained number with the line replaced by background samples; 95 % interval over fills",
        "rank": "p, then drop, then sum, within each sample",
    }
    return table


def segment_table(
    found: Explanation, classes: Ints, stretches: Mapping[str, tuple[Lines, str | None, Found]]
) -> pd.DataFrame:
    """Put the called stretches of all dims into one table, the best of each sample first.

    Args:
        found: the explanation.
        classes: (N,).
        stretches: by the dim along which they run: the lines, the dim that names them, and the stretches.
    """
    import pandas as pd

    parts = [_part(found, classes, dim, *rest) for dim, rest in stretches.items()]
    parts = [part for part in parts if len(part)] or parts[:1]
    if not parts:
        return pd.DataFrame({name: [] for name in _COLUMNS})
    table = pd.concat(parts, ignore_index=True)
    strength = np.nan_to_num((table["sign"] * table["drop"]).to_numpy(dtype=float), nan=-np.inf)
    order = np.lexsort((-table["score"], -strength, table["p"], table["sample"]))
    table = table.iloc[order].reset_index(drop=True)
    table.attrs = {"score": "sign * sum of the map over the stretch", "p": "that of the stretch's line"}
    return table


_COLUMNS: Sequence[str] = (
    *("sample", "target", "dim", "line", "name", "sign", "start", "stop", "length", "score", "share", "whole"),
    *("drop", "drop_low", "drop_high", "p", "q", "called"),
)


def _part(
    found: Explanation, classes: Ints, dim: str, lines: Lines, named_by: str | None, stretches: Found
) -> pd.DataFrame:
    import pandas as pd

    at, line, start, stop = stretches.sample, stretches.line, stretches.start, stretches.stop
    running = np.concatenate([np.zeros((len(at), 1)), lines.view[at, line].cumsum(axis=1)], axis=1)
    absolute = lines.absolute()
    size = np.concatenate([np.zeros((len(at), 1)), absolute[at, line].cumsum(axis=1)], axis=1)
    each = np.arange(len(at))
    signs = lines.signs[at, line]
    whole = absolute.sum(axis=(1, 2))[at]
    inside = size[each, stop] - size[each, start]
    drops = stretches.drops
    nothing = np.full(len(at), np.nan)
    columns: dict[str, Any] = {
        "sample": at,
        "target": targets_of(classes, found)[at],
        "dim": np.full(len(at), dim, dtype=object),
        "line": lines.direction.first(line) if named_by else np.full(len(at), WHOLE),
        "name": lines.direction.names(found.labels(named_by))[line]
        if named_by
        else np.full(len(at), "all", dtype=object),
        "sign": signs.astype(int),
        "start": start,
        "stop": stop,
        "length": stop - start,
        "score": signs * (running[each, stop] - running[each, start]),
        "share": np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0),
        "whole": stretches.whole,
        "drop": drops.mean if drops else nothing,
        "drop_low": drops.low if drops else nothing,
        "drop_high": drops.high if drops else nothing,
        "p": lines.p[at, line],
        "q": lines.q[at, line],
        "called": np.ones(len(at), dtype=bool),
    }
    if lines.p_clean is not None:
        columns["p_clean"] = lines.p_clean[at, line]
    if dim in found.coords:
        columns |= {"start_coord": found.coords[dim][start], "stop_coord": found.coords[dim][stop - 1]}
    return pd.DataFrame(columns)
