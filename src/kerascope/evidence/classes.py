"""The report of a cohort: one page for each class, with its mean map and what its samples have in common."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.errors import counted
from kerascope.evidence import grouping, sentences
from kerascope.evidence.pages import facts_of_test
from kerascope.explanation import Explanation
from kerascope.record import PER_SAMPLE, each
from kerascope.report.build import Telling, build
from kerascope.report.data import Curve, Page, Plain, Ranked, Stretch, Tables
from kerascope.report.html import refuse_existing, write
from kerascope.report.words import Fact
from kerascope.view.text import number, percent

if TYPE_CHECKING:
    import pandas as pd

    from kerascope.evidence.cohort import Cohort
    from kerascope.view.panel import Panel

_SAID, _CURVES, _MARGIN = 3, 2, 4
"""Lines, stretches and clusters in the sentences on top; lines whose stretches are laid on each other; cells around."""

LINE_HEADER = ("called in", "mean sum, 95 %", "mean drop")
STRETCH_HEADER = ("samples", "start, quartiles", "length, quartiles", "mean drop")
NOTE = (
    "Means over the samples of a class. Called in: share of samples in which the line is called, with Wilson's 95 % "
    "interval; the intervals of mean sums are from samples drawn with replacement. Stretches: medians and quartiles "
    "of where they start and how long they are. Share: part of the sum of absolute relevance, mean over samples."
)


def write_report(
    cohort: Cohort, path: str | os.PathLike[str], *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write the report of a cohort; see `Cohort.report`."""
    refuse_existing(Path(path), overwrite)
    evidence = cohort.evidence
    labels = list(cohort.maps)
    one = "group" if cohort.attrs["labels_given"] else "class"
    said = (Fact("Shown", f"means over the samples of each {one}"), *facts_of_test(evidence))
    telling = Telling(
        page=lambda n, panel: _page(cohort, labels[n], panel),
        ordered=tuple(evidence.attrs["ordered"]),
        facts=(*said, Fact("Permutations", f"{cohort.attrs['draws']}, seed {cohort.attrs['seed']}")),
        warnings=tuple(evidence.warnings),
        unit=one,
    )
    name = (evidence.explanation.attrs.get("model") or {}).get("name") or "the model"
    shown = build([means(cohort)], title=title or f"What classes have in common for {name}", telling=telling)
    return write(shown, path, overwrite=overwrite)


def means(cohort: Cohort) -> Explanation:
    """Return the means over the samples of each group as an explanation, one sample a group."""
    e, labels = cohort.evidence.explanation, list(cohort.maps)
    groups = [np.flatnonzero(cohort.labels == label) for label in labels]

    def mean(array: Any) -> Any:
        whole = np.asarray(array)  # read from a store once
        return np.stack([whole[g].mean(axis=0) for g in groups])

    def of(arrays: Any) -> Any:
        return each(mean, arrays)

    attrs = {key: value for key, value in e.attrs.items() if key not in PER_SAMPLE}
    if attrs.get("baseline"):
        attrs["baseline"] = {**attrs["baseline"], "output": []}
    names = np.array([group_name(cohort, label) for label in labels], dtype=object)
    kept = ("values", "inputs", "outputs", "explained", "completeness_gap", "absorbed")
    fields: dict[str, Any] = {
        **{name: None if getattr(e, name) is None else of(getattr(e, name)) for name in kept},
        **dict.fromkeys(("standard_error", "group_values", "layer_map")),
        "target": "what each sample was explained for",
        "coords": {**{dim: values for dim, values in e.coords.items() if dim != "sample"}, "sample": names},
        "attrs": {**attrs, "target": {"kind": "object", "text": "what each sample was explained for"}},
    }
    return replace(e, **fields)


def group_name(cohort: Cohort, label: Any) -> str:
    """Return the name of a group: the label it was given, or what its samples were explained for."""
    if cohort.attrs["labels_given"]:
        return label if isinstance(label, str) else f"group {label}"
    found = cohort.evidence.explanation
    return sentences.of_class(found, int(label), found.target_name(0))


def _page(cohort: Cohort, label: Any, panel: Panel) -> Page:
    count = int(np.sum(cohort.labels == label))
    name = group_name(cohort, label)
    tables = _tables(cohort, label, panel)
    title = f"{name}: {counted(count, 'sample')}"
    return Page(title, tuple(said(cohort, label)), tables, target=f"{count}", label=name)


def said(cohort: Cohort, label: Any) -> list[str]:
    """Say what is common to a group, a sentence each."""
    lines, segments = (of_group(table, label) for table in (cohort.lines, cohort.segments))
    texts = [
        f"{sentences.titled(line['dim'], str(line['name']))}: called in {line['called']} of {line['samples']} samples "
        f"({percent(line['share_low'])} to {percent(line['share_high'])}), {_mean(line)} on the mean"
        for line in lines[lines["called"] > 0].sort_values("called", ascending=False).head(_SAID).to_dict("records")
    ]
    for s in segments.head(_SAID).to_dict("records"):
        texts.append(
            f"{s['name']}, {_kind(s)} along {s['dim']}: in {percent(s['share'])} of the samples, start "
            f"{_quartiles(cohort, s, 'start')}, length {_quartiles(cohort, s, 'length')}"
        )
    for c in outstanding(cohort, label).head(_SAID).to_dict("records"):
        texts.append(f"at fixed places: {_where(cohort, c)}, p = {c['p']:.2g} (cluster permutation)")
    return texts or ["No line is called in any sample, and nothing stands out at fixed places."]


def outstanding(cohort: Cohort, label: Any) -> pd.DataFrame:
    """Return the clusters of a group that stand out: those with a p up to the level of the evidence."""
    return _to_level(cohort, of_group(cohort.clusters, label))


def differing(cohort: Cohort) -> pd.DataFrame:
    """Return the clusters in which two groups differ at the level of the evidence."""
    return _to_level(cohort, cohort.differences)


def _to_level(cohort: Cohort, table: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = table[table["p"] <= cohort.evidence.attrs["level"]]
    return found


def _kind(stretch: Mapping[Any, Any]) -> str:
    return "stretches" if stretch["sign"] > 0 else "negative stretches"


def of_group(table: pd.DataFrame, label: Any) -> pd.DataFrame:
    """Return the lines of a table that are of one group."""
    found: pd.DataFrame = table[table["label"] == label]
    return found


def _mean(line: Mapping[Any, Any]) -> str:
    return f"{number(line['sum'], signed=True)} ({number(line['sum_low'])} to {number(line['sum_high'])})"


def _quartiles(cohort: Cohort, found: Mapping[Any, Any], key: str) -> str:
    names = cohort.evidence.explanation.coords.get(found["dim"]) if key == "start" else None
    ends = [found[key], found[f"{key}_low"], found[f"{key}_high"]]
    texts = [f"{end:g}" if names is None else sentences.short(names[round(end)]) for end in ends]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def _where(cohort: Cohort, cluster: Mapping[Any, Any]) -> str:
    texts = []
    for dim in cohort.evidence.explanation.matrix_dims():
        names = cohort.evidence.explanation.labels(dim)
        first, last = (sentences.short(names[cluster[f"{dim}_{end}"]]) for end in ("first", "last"))
        ends = first if first == last else f"{first} to {last}"
        texts.append(sentences.titled(dim, ends))
    return ", ".join(texts)


def _tables(cohort: Cohort, label: Any, panel: Panel) -> Tables:
    evidence, dims = cohort.evidence, cohort.evidence.explanation.matrix_dims()
    lines = of_group(cohort.lines, label)
    ranked = [
        _ranked(cohort, label, lines[lines["dim"] == dim], table)
        for dim, table in zip(dims, (evidence.rows, evidence.columns), strict=False)
    ]
    segments = of_group(cohort.segments, label)
    stretches = {
        dim: tuple(_stretch(cohort, panel, s) for s in segments[segments["dim"] == dim].to_dict("records"))
        for dim in evidence.attrs["ordered"]
    }
    single = panel.kind == "line"
    return Tables(
        rows=() if single else ranked[0],
        columns=ranked[0] if single else ranked[-1],
        stretches=stretches,
        line_header=LINE_HEADER,
        stretch_header=STRETCH_HEADER,
        note=NOTE,
        others=_others(cohort, label),
        curves=_curves(cohort, label),
        all_drawn=True,
        wide=True,
    )


def _ranked(cohort: Cohort, label: Any, lines: pd.DataFrame, table: pd.DataFrame) -> tuple[Ranked, ...]:
    mine = table[cohort.labels[table["sample"].to_numpy(dtype=int)] == label]
    sizes = mine.groupby("index")[["abs_sum", "share"]].mean()
    found = []
    for line in lines.to_dict("records"):
        size = sizes.loc[line["index"]]
        often = f"{line['called']} of {line['samples']}"
        often += f" ({percent(line['share_low'])} to {percent(line['share_high'])})"
        drop = "" if math.isnan(line["drop"]) else number(line["drop"])
        numbers = (float(line["sum"]), float(size["abs_sum"]), float(size["share"]))
        strong = line["called"] > line["samples"] / 2
        found.append(Ranked(int(line["index"]), str(line["name"]), *numbers, (often, _mean(line), drop), strong))
    return tuple(found)


def _stretch(cohort: Cohort, panel: Panel, s: Mapping[Any, Any]) -> Stretch:
    along = panel.rows if s["dim"] == panel.rows.dim else panel.columns
    start = round(s["start"])
    stop = min(start + max(1, round(s["length"])), along.size)
    drop = "" if math.isnan(s["drop"]) else number(s["drop"])
    more = (str(s["count"]), _quartiles(cohort, s, "start"), _quartiles(cohort, s, "length"), drop)
    place = (int(s["line"]), str(s["name"]), int(s["sign"]), start, stop, along.span(start, stop))
    lines = grouping.together(cohort.evidence, s["dim"], int(s["line"]))
    return Stretch(s["dim"], *place, float(s["score"]), float(s["relevance_share"]), more, lines)


def _others(cohort: Cohort, label: Any) -> tuple[Plain, ...]:
    header = ("where", "cells", "mean", "p")

    def rows(table: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (_where(cohort, c), str(c["cells"]), number(c["mean"], signed=True), f"{c['p']:.2g}")
            for c in table.head(8).to_dict("records")
        )

    found = [Plain("Cells that stand out at fixed places", header, rows(outstanding(cohort, label)))]
    between = differing(cohort)
    if len(between):
        title = f"Where the groups differ: {between.iloc[0]['label']}"
        found.append(Plain(title, header, rows(between)))
    return tuple(found)


def _curves(cohort: Cohort, label: Any) -> tuple[Curve, ...]:
    """Return the input and the relevance over the stretches most often called, laid on each other."""
    found: list[Curve] = []
    for s in of_group(cohort.segments, label).head(_CURVES).to_dict("records"):
        laid = cohort.aligned(label, s["dim"], s["line"], sign=s["sign"], margin=_MARGIN)
        if len(laid) < 2:
            continue
        for what in ("input", "relevance"):
            title = f"{what.capitalize()} of {s['name']} around its {s['count']} {_kind(s)} along {s['dim']}"
            series = (tuple(laid[key].tolist()) for key in ("offset", what, f"{what}_sd"))
            found.append(Curve(title, f"{s['dim']} from the middle of the stretch", *series))
    return tuple(found)
