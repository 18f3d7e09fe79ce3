"""An explanation for people (tables) and for machines (plain data)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kerascope.report.answer import answer
from kerascope.report.data import Tables as Found
from kerascope.report.words import promises_sum
from kerascope.view.panel import counted_once, panel_of, repeats
from kerascope.view.text import explained_word, headline, is_class, number, percent, sample_label

if TYPE_CHECKING:
    import pandas as pd

    from kerascope.explanation import Explanation

TOP = 5
"""Lines of each ranked table."""
DETAILED = 10
"""Samples whose tables are printed; the rest is counted."""
_STRETCH = "stretch along"

Tables = Mapping[str, "pd.DataFrame"]


def tables_of(e: Explanation, *, input: str | None = None) -> dict[str, pd.DataFrame]:
    """Return the ranked tables of an explanation by title: lines along each matrix dim, stretches along each.

    Stretches along a dim with names (sensors, genes) are left out where the other dim has none: neighbours
    there seldom mean anything. Those along the pixels of a picture are left out too.
    """
    dims = e.matrix_dims(input=input)
    tables = {dims[0]: e.rows(input=input)}
    if len(dims) > 1:
        tables[dims[1]] = e.columns(input=input)
    if panel_of(e, input or "").kind == "picture":
        return tables
    named = [dim for dim in dims if dim in e.coords and e.coords[dim].dtype.kind in "OUT"]
    for dim in dims:
        if dim not in named or len(named) == len(dims):
            tables[f"{_STRETCH} {dim}"] = e.segments(dim, input=input)
    return tables


def print_explanation(console: Console, e: Explanation, *, labels: Sequence[str] | None = None) -> None:
    """Print what was explained, and the ranked rows, columns and stretches of the first samples.

    Args:
        console: where to.
        e: the explanation.
        labels: the true class of each sample, where it is known.
    """
    print_method(console, e)
    print_samples(console, e[:DETAILED], labels=labels)
    if len(e) > DETAILED:
        console.print(
            f"\n… and {len(e) - DETAILED} more samples: all of them with --json or --report FILE, "
            "some with --samples START:STOP.",
            soft_wrap=True,
        )


def print_method(console: Console, e: Explanation) -> None:
    """Print the method, what it explained, how well its map adds up, and the warnings."""
    said = {key: e.attrs.get(key) or {} for key in ("method", "output", "target", "model", "baseline", "preprocess")}
    console.print()
    console.print(Text(e.method_name, style="bold underline"), Text(str(said["method"].get("question", ""))))
    if e.attrs.get("method_reason"):
        console.print(f"  chosen because {e.attrs['method_reason']}", soft_wrap=True)
    taken = said["output"].get("taken_off")
    count = f"{len(e)} sample{'s' if len(e) != 1 else ''}"
    console.print(
        f"  explained: the {explained_word(e)}{f' (before the final {taken})' if taken else ''}, "
        f"{said['target'].get('text', 'of the target')}; {count}, model {said['model'].get('name', '')!r}",
        soft_wrap=True,
    )
    if said["preprocess"].get("text"):
        console.print(f"  pictures: {said['preprocess']['text']}", soft_wrap=True)
    if said["baseline"].get("text"):
        console.print(f"  compared with: {said['baseline']['text']}")
    console.print(f"  completeness: {_gap_text(e)}", soft_wrap=True)
    for warning in e.warnings:
        console.print(Text(f"  Warning: {warning}", style="yellow"), soft_wrap=True)


def print_samples(console: Console, e: Explanation, *, labels: Sequence[str] | None = None) -> None:
    """Print the ranked rows, columns and stretches of every sample and target."""
    repeated, e = repeats(e) > 1, counted_once(e)
    every = {name: tables_of(e, input=name) for name in e.input_names or (None,)}
    targets = e.explained.shape[1] if e.explained.ndim == 2 else 1
    if repeated:
        console.print("  relevance is the same for every channel, and told once")
    for sample in range(len(e)):
        for place in range(targets):
            title = headline(e, sample, place, sample_label(e, sample))
            console.print()
            console.print(Text(title + _label(e, sample, place, labels), style="bold"), soft_wrap=True)
            for name, tables in every.items():
                if name is not None:
                    console.print(Text(f"input {name}", style="italic"))
                console.print(Padding(_found(e, sample, place, name, tables), (0, 0, 0, 2)))


def _found(e: Explanation, sample: int, place: int, name: str | None, tables: Tables) -> Columns | Text:
    """Return the best lines of each table; of a picture, whose rows of pixels say little, a sentence."""
    panel = panel_of(e, name or "")
    if panel.kind != "picture":
        return _side_by_side({k: _of(e, table, sample, place) for k, table in tables.items()})
    sums = promises_sum(e, sample, place)
    return Text(answer(e.matrix(sample, place, input=name), panel, Found(), sums=sums))


def _gap_text(e: Explanation) -> str:
    """Return the largest completeness gap in words."""
    gap = np.abs(np.asarray(e.completeness_gap if e.completeness_gap is not None else np.nan, dtype=float))
    if not np.isfinite(gap).any():
        return "this method does not promise what its map sums to"
    worst = float(np.nanmax(gap))
    scale = float(np.abs(np.asarray(e.explained)).max())
    return f"largest gap {number(worst)}, beside explained numbers of up to {number(scale)}"


def _label(e: Explanation, sample: int, target: int, labels: Sequence[str] | None) -> str:
    """Return the true class where it is known, and whether it is the one explained."""
    if labels is None:
        return ""
    label = str(labels[sample])
    if not is_class(e):
        return f"  [labelled {label}]"
    agrees = label == e.target_name(sample, target)
    return f"  [labelled {label}{'' if agrees else ': not the class explained'}]"


def _of(e: Explanation, table: pd.DataFrame, sample: int, target: int) -> pd.DataFrame:
    """Return the best lines of a ranked table for one sample and target."""
    mine = table[table["sample"] == sample]
    if e.explained.ndim == 2 and isinstance(e.target, np.ndarray):
        mine = mine[mine["target"] == e.target[sample, target]]
    return mine.head(TOP)


def _side_by_side(tables: Tables) -> Columns:
    """Return the tables of one sample, beside each other where the terminal is wide enough."""
    shown = [
        _segment_table(title, table) if title.startswith(_STRETCH) else _line_table(title, table)
        for title, table in tables.items()
    ]
    return Columns(shown, padding=(0, 3))


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    for title, is_number in columns:
        table.add_column(title, justify="right" if is_number else "left", no_wrap=is_number)
    return table


def _line_table(dim: str, lines: pd.DataFrame) -> Table:
    table = _table((dim, False), ("sum", True), ("share", True))
    for line in lines.to_dict("records"):
        table.add_row(Text(str(line["name"])), number(line["sum"], signed=True), percent(line["share"]))
    return table


def _segment_table(title: str, segments: pd.DataFrame) -> Table:
    table = _table((title, False), ("score", True), ("share", True))
    for segment in segments.to_dict("records"):
        table.add_row(
            Text(stretch_text(segment)),
            number(segment["sign"] * segment["score"], signed=True),
            percent(segment["share"]),
        )
    if not len(segments):
        table.add_row(Text("none"), "", "")
    return table


def stretch_text(segment: Mapping[Any, Any]) -> str:
    """Return where a stretch lies, both ends included: ``r07, 12 to 23``."""
    first, last = segment["start"], segment["stop"] - 1
    if "start_coord" in segment:
        first, last = segment["start_coord"], segment["stop_coord"]
    span = f"{first}" if segment["length"] == 1 else f"{first} to {last}"
    return span if segment["name"] == "all" else f"{segment['name']}, {span}"


def as_data(e: Explanation, *, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Return an explanation's summary as plain data, the best lines of each table for every sample."""
    several = bool(e.input_names)
    every = {name: tables_of(e, input=name) for name in e.input_names or (None,)}
    targets = e.explained.shape[1] if e.explained.ndim == 2 else 1

    def ranked(tables: Tables, sample: int, place: int) -> dict[str, Any]:
        best = {
            title: _of(e, table, sample, place).drop(columns=["sample", "target"]).to_dict("records")
            for title, table in tables.items()
        }
        lines = [records for title, records in best.items() if not title.startswith(_STRETCH)]
        stretches = [r for title, records in best.items() if title.startswith(_STRETCH) for r in records]
        return {**dict(zip(("rows", "columns"), lines, strict=False)), "segments": stretches}

    def one(sample: int, place: int) -> dict[str, Any]:
        pick = (sample, place) if e.explained.ndim == 2 else (sample,)
        found: dict[str, Any] = {
            "sample": sample,
            "name": sample_label(e, sample).removeprefix("Sample "),
            "target": e.target[pick] if isinstance(e.target, np.ndarray) else None,
            "target_name": e.target_name(sample, place),
            "explained": e.explained[pick],
            "completeness_gap": None if e.completeness_gap is None else e.completeness_gap[pick],
            "absorbed": None if e.absorbed is None else e.absorbed[pick],
        }
        if labels is not None:
            found["label"] = labels[sample]
        if several:
            return {
                **found,
                "inputs": {name: ranked(tables, sample, place) for name, tables in every.items()},
            }
        return {**found, **ranked(every[None], sample, place)}

    return {
        "method": e.method_name,
        "options": (e.attrs.get("method") or {}).get("options", {}),
        "question": (e.attrs.get("method") or {}).get("question", ""),
        "method_reason": e.attrs.get("method_reason"),
        "explained": explained_word(e),
        "taken_off": (e.attrs.get("output") or {}).get("taken_off"),
        "target": (e.attrs.get("target") or {}).get("text"),
        "baseline": (e.attrs.get("baseline") or {}).get("text"),
        "preprocess": (e.attrs.get("preprocess") or {}).get("name"),
        "dims": e.dims,
        "warnings": list(e.warnings),
        "samples": [one(sample, place) for sample in range(len(e)) for place in range(targets)],
    }
