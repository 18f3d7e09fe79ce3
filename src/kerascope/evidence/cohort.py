"""`cohort`: what the evidence of many samples has in common, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, unknown_name
from kerascope.evidence import clusters, grouping
from kerascope.evidence.record import Evidence
from kerascope.evidence.study import maps_of
from kerascope.matrices.profiles import matrix_dims

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import pandas as pd

Floats = NDArray[np.float64]

_FEW = 3
"""A group of fewer samples has no spread worth testing."""
_NAMED = 5
"""So many samples are named in a message."""
_SEGMENT = (
    *("label", "dim", "line", "name", "sign", "count", "share", "start", "start_low", "start_high"),
    *("length", "length_low", "length_high", "score", "drop", "relevance_share"),
)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Cohort:
    """What `kerascope.cohort` found.

    Attributes:
        lines: how often each line is called in a group: ``label, dim, index, name, samples, called, share,
            share_low, share_high`` (95 %, Wilson), ``sum, sum_low, sum_high`` (mean over samples, 95 % bootstrap),
            ``drop`` (mean where measured), most often called first.
        segments: where the called stretches of a line lie: ``label, dim, line, name, sign, count, share, start,
            start_low, start_high, length, length_low, length_high`` (medians and quartiles), ``score, drop,
            relevance_share`` (means; the last: of all absolute relevance of a sample).
        clusters: cells whose mean relevance stands out at fixed places: ``label, cluster, mass, p, cells, mean`` and
            the first and last index along both matrix dims.
        differences: the same between two groups explained for one target; empty unless there are just two.
        maps: the mean map of each group, (H, W), by label.
        evidence: what all this was read from.
        labels: the group of each sample (N,).
    """

    lines: pd.DataFrame
    segments: pd.DataFrame
    clusters: pd.DataFrame
    differences: pd.DataFrame
    maps: dict[Any, Floats]
    evidence: Evidence
    labels: NDArray[Any]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return a summary in a line."""
        level = self.evidence.attrs["level"]
        called, standing = int((self.lines["called"] > 0).sum()), int((self.clusters["p"] <= level).sum())
        counts = f"{called} lines called, {len(self.segments)} kinds of stretches, {standing} clusters"
        return f"<Cohort: {len(self.labels)} samples in {len(self.maps)} groups; at level {level:g}: {counts}>"

    def aligned(self, label: Any, dim: str, line: int, *, sign: int | None = None, margin: int = 0) -> pd.DataFrame:
        """Average the input and its relevance over the called stretches of one line, laid on each other.

        Stretches are laid with their middles together and cut to the median length.

        Args:
            label: the group.
            dim: the dim along which the stretches run.
            line: the line's index (-1 where a sample has one axis).
            sign: 1: stretches that speak for the class; -1: against it; None: all.
            margin: so many more cells on both sides.

        Returns:
            ``offset`` (cells from the middle), ``count``, ``input, input_sd, relevance, relevance_sd``.

        Raises:
            BadInputError: no stretch of that line and sign was called in the group.
        """
        return _aligned(self, label, dim, line, sign, margin)

    def report(self, path: str | os.PathLike[str], *, title: str | None = None, overwrite: bool = False) -> Path:
        """Write a self-contained HTML report: for each group its mean map, and what its samples have in common.

        Args:
            path: file to write.
            title: heading; None names the model.
            overwrite: replace a file of that name.

        Returns:
            The path written.

        Raises:
            OutputExistsError: the file exists and ``overwrite`` is False. Nothing is written.
        """
        from kerascope.evidence.classes import write_report

        return write_report(self, path, title=title, overwrite=overwrite)


def cohort(
    evidence: Evidence,
    labels: Any = None,
    *,
    draws: int = 1000,
    ordered: str | Sequence[str] | None = None,
    seed: int = 0,
) -> Cohort:
    """Say what is common to the samples of a class, and where two groups differ.

    How often each line is called, with intervals; where its stretches lie; and, for axes whose places mean the same in
    every sample, the cells whose mean relevance stands out (cluster permutation test, family-wise over the matrix).

    Args:
        evidence: what `kerascope.evidence` found.
        labels: the group of each sample (N,): numbers or words; None: the class it was explained for.
        draws: permutations, and bootstrap samples.
        ordered: the dims (or the dim) along which neighbouring cells join into clusters; None: those along which
            stretches ran.
        seed: of permutations and bootstrap.

    Returns:
        The `Cohort`.

    Raises:
        BadInputError: labels do not fit the samples or are missing, or this is no `Evidence`.

    Reference: Maris and Oostenveld 2007, J. Neurosci. Methods 164: 177-190.

    Example:
        >>> import kerascope as ks
        >>> data = ks.datasets.planted(10, seed=1)
        >>> x, background = data.x[..., None], ks.datasets.planted(120, seed=2).x[..., None]
        >>> model = ks.load_model(ks.datasets.demo_file("planted.keras"))
        >>> found = ks.evidence(model, x, background=background, target=data.y, **data.names)
        >>> best = cohort(found, draws=99).lines.iloc[0]
        >>> best["name"], int(best["called"]), int(best["samples"])
        ('r02', 2, 2)
    """
    if not isinstance(evidence, Evidence):
        raise BadInputError(
            f"cohort takes what kerascope.evidence found, an Evidence; got {type(evidence).__name__}. "
            "Call ks.evidence(model, x, background=...) first, or open what it saved."
        )
    groups = _groups(evidence, labels)
    if draws < 1:
        raise BadInputError(f"draws must be at least 1; got {draws}.")
    dims = matrix_dims(evidence.explanation.sample_dims())
    wanted = evidence.attrs["ordered"] if ordered is None else ordered
    chosen = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for dim in chosen:
        if dim not in dims:
            raise unknown_name("ordered dim", dim, dims)
    joins = [dim in chosen for dim in dims]
    maps = maps_of(evidence.explanation)
    known = sorted(set(groups.tolist()), key=str) if groups.dtype.kind in "OU" else np.unique(groups).tolist()
    found = {}
    for label in known:
        mine = maps[groups == label]
        if len(mine) >= _FEW:
            found[label] = (clusters.differs_from_zero(mine, joins, draws=draws, seed=seed), mine.mean(axis=0))
    clustered = [row for label, parts in found.items() for row in _cluster_rows(label, *parts, dims)]
    differences = []
    if len(known) == 2 and min(np.sum(groups == label) for label in known) >= _FEW and _one_target(evidence):
        first = groups == known[0]
        between = clusters.differs_between(maps, first, joins, draws=draws, seed=seed)
        difference = maps[first].mean(axis=0) - maps[~first].mean(axis=0)
        differences = _cluster_rows(f"{known[0]} less {known[1]}", between, difference, dims)
    return Cohort(
        lines=_line_table(evidence, groups, known, draws, seed),
        segments=_segment_table(evidence, groups, known),
        clusters=_cluster_table(clustered, dims),
        differences=_cluster_table(differences, dims),
        maps={label: maps[groups == label].mean(axis=0) for label in known},
        evidence=evidence,
        labels=groups,
        attrs={"draws": draws, "seed": seed, "ordered": chosen, "labels_given": labels is not None},
    )


def _groups(evidence: Evidence, labels: Any) -> NDArray[Any]:
    import pandas as pd

    if labels is None:
        return evidence.classes
    groups = np.asarray(labels)
    if groups.shape != (len(evidence),):
        raise BadInputError(f"labels must be one group for each of {len(evidence)} samples; got shape {groups.shape}.")
    missing = np.flatnonzero(pd.isna(np.asarray(labels, dtype=object)))
    if len(missing):
        named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise BadInputError(
            f"labels must name a group for every sample; those of {len(missing)} are missing (NaN or None): {named}. "
            "Give these a group of their own, or leave them out of the evidence."
        )
    return groups


def _one_target(evidence: Evidence) -> bool:
    return len(np.unique(evidence.classes)) == 1


def _cluster_rows(label: Any, found: clusters.Clusters, mean: Floats, dims: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in np.argsort(found.p, kind="stable"):
        cells = found.labels == number + 1
        where = np.nonzero(cells)
        row: dict[str, Any] = {
            "label": label,
            "cluster": len(rows) + 1,
            "mass": float(found.mass[number]),
            "p": float(found.p[number]),
            "cells": int(cells.sum()),
            "mean": float(mean[cells].mean()),
        }
        for dim, places in zip(dims, where, strict=False):
            row |= {f"{dim}_first": int(places.min()), f"{dim}_last": int(places.max())}
        rows.append(row)
    return rows


def _cluster_table(rows: list[dict[str, Any]], dims: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    places = [f"{dim}_{end}" for dim in dims for end in ("first", "last")]
    return pd.DataFrame(rows, columns=["label", "cluster", "mass", "p", "cells", "mean", *places])


def _line_table(evidence: Evidence, groups: NDArray[Any], known: Sequence[Any], draws: int, seed: int) -> pd.DataFrame:
    import pandas as pd

    dims = evidence.explanation.matrix_dims()
    parts = []
    for dim, table in zip(dims, (evidence.rows, evidence.columns), strict=False):
        wide = table.sort_values(["sample", "index"], kind="stable")
        first = wide[wide["sample"] == 0]
        index, names = first["index"].to_numpy(), first["name"].to_numpy()
        arrays = {key: wide[key].to_numpy().reshape(len(groups), -1) for key in ("sum", "drop", "called")}
        for label in known:
            mine = {key: array[groups == label] for key, array in arrays.items()}
            count, called = len(mine["called"]), mine["called"].sum(axis=0)
            low, high = wilson(called, count)
            at = bootstrap(mine["sum"].astype(float), draws, seed)
            measured = np.isfinite(mine["drop"].astype(float))
            drops, times = np.where(measured, mine["drop"], 0).sum(axis=0), measured.sum(axis=0)
            every = {
                "label": [label] * len(names),
                "dim": [dim] * len(names),
                "index": index,
                "name": names,
                "samples": count,
                "called": called,
                "share": called / count,
                "share_low": low,
                "share_high": high,
                "sum": mine["sum"].mean(axis=0),
                "sum_low": at[0],
                "sum_high": at[1],
                "drop": np.divide(drops, times, out=np.full(len(names), np.nan), where=times > 0),
            }
            part = pd.DataFrame(every)
            parts.append(part.sort_values(["called", "sum"], ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True)


def wilson(hits: NDArray[np.int64], count: int) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a share by Wilson (1927)."""
    z = 1.959963984540054
    share = hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half


def bootstrap(values: Floats, draws: int, seed: int) -> Floats:
    """Return the 95 % interval of column means (2, L), samples drawn with replacement."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws) / len(values)
    return np.asarray(np.quantile(weights @ values, [0.025, 0.975], axis=0))


def _segment_table(evidence: Evidence, groups: NDArray[Any], known: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    table = evidence.segments.assign(label=groups[evidence.segments["sample"].to_numpy(dtype=int)])
    rows = []
    for label in known:
        size = int(np.sum(groups == label))
        mine = table[table["label"] == label]
        for (dim, line, name, sign), part in mine.groupby(["dim", "line", "name", "sign"], sort=False):
            quartiles = {
                f"{key}{suffix}": float(np.quantile(part[key].to_numpy(dtype=float), q))
                for key in ("start", "length")
                for suffix, q in (("", 0.5), ("_low", 0.25), ("_high", 0.75))
            }
            rows.append(
                {
                    **{"label": label, "dim": dim, "line": line, "name": name, "sign": sign},
                    **{"count": len(part), "share": part["sample"].nunique() / size},
                    **quartiles,
                    **{"score": float(part["score"].mean()), "drop": float(part["drop"].mean())},
                    "relevance_share": float(part["share"].mean()),
                }
            )
    rows.sort(key=lambda row: (known.index(row["label"]), -row["count"], -row["score"]))
    return pd.DataFrame(rows, columns=list(_SEGMENT))


def _aligned(found: Cohort, label: Any, dim: str, line: int, sign: int | None, margin: int) -> pd.DataFrame:
    import pandas as pd

    evidence = found.evidence
    dims = evidence.explanation.matrix_dims()
    if dim not in dims:
        raise unknown_name("dim", dim, dims)
    table = evidence.segments
    mine = table[(table["dim"] == dim) & (table["line"] == line)]
    mine = mine[found.labels[mine["sample"].to_numpy(dtype=int)] == label]
    mine = mine if sign is None else mine[mine["sign"] == sign]
    if not len(mine):
        what = "No stretch" if sign is None else f"No stretch of sign {sign}"
        raise BadInputError(f"{what} along {dim!r} was called in line {line} of any sample of group {label!r}.")
    inputs, maps = _inputs(evidence), maps_of(evidence.explanation)
    members = grouping.together(evidence, dim, line)
    length = round(float(mine["length"].median())) + 2 * margin
    values = np.full((2, len(mine), length), np.nan)
    for at, one in enumerate(mine.itertuples()):
        begin = (one.start + one.stop - length) // 2
        for k, array in enumerate((inputs, maps)):
            together = np.stack([_series(array[one.sample], dims.index(dim), at_line) for at_line in members])
            series = together.mean(axis=0) if k == 0 else together.sum(axis=0)
            inside = np.arange(max(begin, 0), min(begin + length, len(series)))
            values[k, at, inside - begin] = series[inside]
    reached = np.isfinite(values[0]).any(axis=0)  # a margin may lie beyond the end in every sample
    values, offsets = values[:, :, reached], (np.arange(length) - (length - 1) / 2)[reached]
    count = np.isfinite(values[0]).sum(axis=0)
    mean, spread = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
    columns = {"offset": offsets, "count": count, "input": mean[0], "input_sd": spread[0]}
    return pd.DataFrame({**columns, "relevance": mean[1], "relevance_sd": spread[1]})


def _series(matrix: Floats, axis: int, line: int) -> Floats:
    """Return the cells of a line of a matrix (H, W) along an axis."""
    if line < 0:
        return matrix[:, 0]
    return matrix[line] if axis == 1 else matrix[:, line]


def _inputs(evidence: Evidence) -> Floats:
    """Return the inputs as matrices (N, H, W), the mean over channels."""
    dims = evidence.explanation.sample_dims()
    kept = matrix_dims(dims)
    other = tuple(1 + axis for axis, dim in enumerate(dims) if dim not in kept)
    array = np.asarray(evidence.explanation.inputs, dtype=np.float64)
    array = array.mean(axis=other) if other else array
    return array if array.ndim == 3 else array[:, :, None]
