"""The report of evidence, sample by sample: what a report shows beside the map, and how it was tested."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerascope.evidence import grouping, sentences
from kerascope.report.build import Telling, build, heading
from kerascope.report.data import Page, Ranked, Stretch, Tables
from kerascope.report.html import refuse_existing, write
from kerascope.report.words import Fact
from kerascope.view.text import number, sample_label

if TYPE_CHECKING:
    import pandas as pd

    from kerascope.evidence.record import Evidence
    from kerascope.view.panel import Axis, Panel

HEADER = ("drop", "p", "q")
NOTE = (
    "Lines in bold are called. p: family-wise over the lines of the matrix, against the references; q: false discovery "
    "rate over the samples; drop: what the explained number loses when the part is replaced by other samples' values, "
    "with a 95 % interval. Sums are signed; share is the part of the sum of absolute relevance."
)
NOTHING = "Nothing stands out from the references."


def write_report(
    evidence: Evidence,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    overwrite: bool = False,
    truth: Any = None,
    samples: Sequence[int] | None = None,
) -> Path:
    """Write the report of evidence; see `Evidence.report`."""
    refuse_existing(Path(path), overwrite)
    telling = Telling(
        page=lambda n, panel: _page(evidence, n, panel),
        ordered=tuple(evidence.attrs["ordered"]),
        facts=facts_of_test(evidence),
        warnings=tuple(evidence.warnings),
    )
    named = title or heading(evidence.explanation, "Evidence for")
    shown = build([evidence.explanation], title=named, truth=truth, samples=samples, telling=telling)
    return write(shown, path, overwrite=overwrite)


_SOURCES = {
    "given": "inputs given as free of the evidence",
    "other classes": "inputs without the evidence",
    "the class itself": "inputs of the class, without evidence against it",
    "background": "the whole background, whatever it carries",
}
"""What references are, by `Study.source`."""


def facts_of_test(evidence: Evidence) -> tuple[Fact, ...]:
    """Return how the evidence was tested."""
    attrs, counts = evidence.attrs, sentences.of_references(evidence)
    facts = [
        Fact("Test", f"level {attrs['level']:g}, {attrs['sign']} evidence, family-wise over the lines of a matrix"),
        Fact("References", f"{counts}: {_SOURCES[attrs['references_from']]}, explained for the same number"),
    ]
    least = min(attrs["references"].values(), default=0)
    facts.append(Fact("Smallest p", f"1/{least + 1}: a p-value never falls below what the references allow"))
    if attrs.get("fills"):
        facts.append(Fact("Check by the model", f"{attrs['fills']} background samples' values at the same cells"))
        said = [f"{dim} {value:.2f}" for dim, value in attrs["agreement"].items() if value is not None]
        if said:
            facts.append(Fact("Agreement", f"correlation of sums and drops over the lines replaced: {', '.join(said)}"))
    return tuple(facts)


def _page(evidence: Evidence, n: int, panel: Panel) -> Page:
    title = sentences.title(evidence, n, sample_label(evidence.explanation, n))
    findings = tuple(sentences.of_sample(evidence, n)) or (NOTHING,)
    return Page(title, findings, _tables(evidence, n, panel), target=sentences.class_name(evidence, n))


def _tables(evidence: Evidence, n: int, panel: Panel) -> Tables:
    rows, columns = (table[table["sample"] == n] for table in (evidence.rows, evidence.columns))
    single = panel.kind == "line"
    segments = evidence.segments[evidence.segments["sample"] == n]
    found = {
        dim: _stretches(evidence, segments[segments["dim"] == dim], panel, dim) for dim in evidence.attrs["ordered"]
    }
    return Tables(
        rows=() if single else _ranked(evidence, rows),
        columns=_ranked(evidence, rows if single else columns),
        stretches=found,
        line_header=HEADER,
        stretch_header=HEADER,
        note=NOTE,
        all_drawn=True,
        most=None,
    )


def _ranked(evidence: Evidence, table: pd.DataFrame) -> tuple[Ranked, ...]:
    return tuple(
        Ranked(
            int(line["index"]),
            str(line["name"]),
            float(line["sum"]),
            float(line["abs_sum"]),
            float(line["share"]),
            _test(evidence, line),
            bool(line["called"]),
        )
        for line in table.to_dict("records")
    )


def _stretches(evidence: Evidence, table: pd.DataFrame, panel: Panel, dim: str) -> tuple[Stretch, ...]:
    along: Axis = panel.rows if dim == panel.rows.dim else panel.columns
    found = []
    for s in table.to_dict("records"):
        span = f"all ({along.span(s['start'], s['stop'])})" if s["whole"] else along.span(s["start"], s["stop"])
        place = (int(s["start"]), int(s["stop"]), span)
        values = (float(s["score"]), float(s["share"]), _test(evidence, s))
        lines = grouping.together(evidence, dim, int(s["line"]))
        found.append(Stretch(dim, int(s["line"]), str(s["name"]), int(s["sign"]), *place, *values, lines))
    return tuple(found)


def _test(evidence: Evidence, found: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return a line's drop with its interval, p and q as the tables show them."""
    drop = ""
    if not math.isnan(found["drop"]):
        low, high = found["drop_low"], found["drop_high"]
        drop = number(found["drop"]) + ("" if math.isnan(low) else f" ({number(low)} to {number(high)})")
    p = sentences.p_text(evidence, int(found["sample"]), found["p"]).removeprefix("p ").removeprefix("= ")
    return drop, p.replace("<=", "≤"), f"{found['q']:.2g}"
