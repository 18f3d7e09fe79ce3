"""From explanations to what a report shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerascope.errors import BadInputError
from kerascope.record import Array, parts
from kerascope.report import words
from kerascope.report.answer import answer
from kerascope.report.data import Method, Page, Ranked, Report, Sample, Shown, Stretch, Tables, View
from kerascope.view.heatmap import outline, symmetric_limit
from kerascope.view.panel import Axis, Panel, counted_once, panel_of, pixel_height, repeats
from kerascope.view.text import headline, sample_label, single

if TYPE_CHECKING:
    import pandas as pd

    from kerascope.explanation import Explanation

MOST_SAMPLES, MOST_TARGETS, MOST_STRETCHES = 50, 10, 12
"""How many samples and targets a file holds unless asked otherwise, and how many stretches each map keeps."""

MOST_CELLS = 4_000_000
"""Cells of inputs and maps in one file: about 25 MB. Fewer samples are shown where more would be needed."""


@dataclass(frozen=True)
class Telling:
    """What was found out about samples beyond their maps, for a report of it.

    Args:
        page: what is told of a sample (its index among those explained), given how its input is drawn.
        ordered: the dims along which it has stretches.
        facts: what holds for all samples; warnings: in place of the explanation's.
        unit: what a page is about: a sample, or a class or group of them, of which the report is given no choice.
    """

    page: Callable[[int, Panel], Page]
    ordered: tuple[str, ...] = ()
    facts: tuple[words.Fact, ...] = ()
    warnings: Sequence[str] = ()
    unit: str = "sample"


def build(
    explanations: Sequence[Explanation],
    *,
    title: str | None = None,
    truth: Any = None,
    samples: Sequence[int] | None = None,
    telling: Telling | None = None,
) -> Report:
    """Collect what a report shows.

    Args:
        explanations: of the same inputs, by different methods or for different targets.
        title: heading; None names the model.
        truth: bool array (N, rows, columns), or (N, *S), outlined; by input where there are several.
        samples: indices of the samples shown; None takes the first 50.
        telling: what a test says of the samples of one explanation, in place of the ranking of its map.

    Returns:
        The report's data.

    Raises:
        BadInputError: no explanation, or of different inputs; truth of another shape; an index out of range.
    """
    if not explanations:
        raise BadInputError("A report needs at least one explanation; got none.")
    full = explanations[0]
    unit = "sample" if telling is None else telling.unit
    chosen, notes = choose_samples(explanations, samples, unit=unit)
    check_same_inputs(explanations, chosen)
    several = [e[chosen] for e in explanations]  # of results opened lazily, only these are read
    first = several[0]
    given = parts(first.inputs, first.input_names)
    panels = tuple(panel_of(first, k) for k in given)
    masks = [truth_mask(truth, p, (len(full), *given[p.key].shape[1:])) for p in panels]
    pages = [] if telling is None else [telling.page(n, panels[0]) for n in chosen]
    labels = [page.label for page in pages if page.label] or [sample_label(full, n) for n in chosen]
    shown = tuple(_sample(first, s, n, labels[s], panels, masks) for s, n in enumerate(chosen))
    ordered = first.attrs.get("ordered") if telling is None else telling.ordered
    dims = tuple(p.stretch_dims(ordered) for p in panels)
    drawn = list(zip(panels, dims, strict=True))
    named = zip(several, method_labels(several), strict=True)
    return Report(
        title=heading(first) if title is None else title,
        panels=panels,
        methods=tuple(_method(e, label, telling) for e, label in named),
        samples=shown,
        views=tuple(v for m, e in enumerate(several) for v in _views(e, m, labels, drawn, pages)),
        value_limits=tuple(_value_limits([s.inputs[k].cells for s in shown]) for k in range(len(panels))),
        stretch_dims=dims,
        notes=tuple(dict.fromkeys([*notes, *_notes(several, panels)])),
        unit=unit,
    )


def heading(e: Explanation, lead: str = "What contributed to") -> str:
    """Return the heading of a report that was given none."""
    name = (e.attrs.get("model") or {}).get("name")
    return f"{lead} the output of {name or 'the model'}"


def _notes(several: Sequence[Explanation], panels: Sequence[Panel]) -> list[str]:
    """Return what the reader should know of how things are shown."""
    notes = []
    if len({str((e.attrs.get("model") or {}).get("fingerprint")) for e in several}) > 1:
        notes.append("The explanations are of different models, or of one model with different weights.")
    for e, label in zip(several, method_labels(several), strict=True):
        notes += _target_note(e, label)
    if len(panels) > 1:
        notes.append("Sums, shares and stretches are given for each input by itself.")
    for panel in panels:
        notes += _panel_notes(panel, len(panels) > 1, _once(several))
    return notes


def _once(several: Sequence[Explanation]) -> str:
    """Name the explanations whose maps are the same for every channel: ``""``, ``"that"``, ``"that by cam"``."""
    labels = [label for e, label in zip(several, method_labels(several), strict=True) if repeats(e) > 1]
    return "" if not labels else "that" if len(labels) == len(several) else f"that by {', '.join(labels)}"


def check_same_inputs(explanations: Sequence[Explanation], chosen: Sequence[int]) -> None:
    """Raise BadInputError unless all explain the same samples; their values are compared for those chosen."""
    first = explanations[0]
    for place, other in enumerate(explanations[1:], start=2):
        if len(other) != len(first):
            why = f"has {len(other)} samples, the first has {len(first)}"
        elif other.input_names != first.input_names:
            why = f"has inputs {list(other.input_names)}, the first has {list(first.input_names)}"
        elif other.dims != first.dims:
            why = f"has dims {other.dims}, the first {first.dims}"
        else:
            why = _difference(other[list(chosen)], first[list(chosen)])
        if why:
            raise BadInputError(
                f"One report shows one set of inputs: explanation {place} {why}. Explain the same samples "
                "with each method, or write a report for each."
            )


def _difference(other: Explanation, first: Explanation) -> str:
    """Say how inputs differ from those of the first explanation; empty where they are the same."""
    known = parts(first.inputs, first.input_names)
    for key, x in parts(other.inputs, other.input_names).items():
        if x.shape != known[key].shape:
            return f"has inputs of shape {x.shape}, the first of shape {known[key].shape}"
        if not np.array_equal(x, known[key], equal_nan=x.dtype.kind == "f"):
            return "explains other values than the first"
    return ""


def choose_samples(
    explanations: Sequence[Explanation], samples: Sequence[int] | None, *, unit: str = "sample"
) -> tuple[list[int], list[str]]:
    """Return the indices of the samples (or classes, or groups) to show, and what to say about those left out."""
    first = explanations[0]
    count = len(first)
    wanted = range(count) if samples is None else [int(n) for n in samples]
    if count == 0 or len(wanted) == 0:
        raise BadInputError("A report needs at least one sample; got none.")
    bad = [n for n in wanted if not -count <= n < count]
    if bad:
        raise BadInputError(f"samples={bad[0]} is out of range: there are {count} samples, 0 to {count - 1}.")
    wanted = [n % count for n in wanted]
    maps = sum(min(targets_of(e), MOST_TARGETS) for e in explanations)
    each = sum(x.size for x in parts(first[:1].inputs, first.input_names).values()) * (1 + maps)
    room = max(1, MOST_CELLS // max(1, each))
    most = min(room, MOST_SAMPLES) if samples is None else room
    if len(wanted) <= most:
        return list(wanted), []
    what = "classes" if unit == "class" else f"{unit}s"
    why = "to keep the file small" + ("; samples=[…] chooses others" if samples is None and unit == "sample" else "")
    some = "Shown: the first" if samples is None else "Shown: of those chosen, the first"
    return list(wanted[:most]), [f"{some} {most} of {len(wanted)} {what}: {len(wanted) - most} are left out {why}."]


def targets_of(e: Explanation) -> int:
    """Return how many targets each sample has."""
    return int(np.shape(e.explained)[1]) if np.ndim(e.explained) == 2 else 1


def truth_mask(truth: Any, panel: Panel, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Return the truth of an input as bool (N, rows, columns); shape is that of all its samples, (N, *S)."""
    given = truth.get(panel.key) if isinstance(truth, Mapping) else truth
    if given is None:
        return None
    mask = np.asarray(given)
    if mask.dtype.kind not in "bui":
        raise BadInputError(f"truth must be an array of True and False; got dtype {mask.dtype}.")
    want = (shape[0], panel.rows.size, panel.columns.size)
    if mask.shape == shape:
        others = tuple(a + 1 for a in range(len(shape) - 1) if a not in panel.matrix_axes)
        return np.asarray(mask.any(axis=others) if others else mask, dtype=bool).reshape(want)
    if mask.shape != want:
        raise BadInputError(f"truth must have shape {want}, one mask for each sample; got {mask.shape}.")
    return mask.astype(bool)


def _sample(
    first: Explanation,
    s: int,
    n: int,
    label: str,
    panels: Sequence[Panel],
    masks: Sequence[npt.NDArray[np.bool_] | None],
) -> Sample:
    """Return the inputs of one sample: s counts those shown, n those explained."""
    given, inputs = parts(first.inputs, first.input_names), []
    for panel, mask in zip(panels, masks, strict=True):
        one = given[panel.key][s]
        photo = panel.photo(one) if panel.kind == "picture" else None
        border = () if mask is None else tuple(outline(mask[n]))
        inputs.append(Shown(panel.cells(one).astype(np.float32), photo, border, pixel_height(first, panel, s)))
    return Sample(n, label, tuple(inputs))


def method_labels(explanations: Sequence[Explanation]) -> list[str]:
    """Return a name for each explanation: its method, with what tells it from others of the same method."""
    names = [e.method_name for e in explanations]
    options = [(e.attrs.get("method") or {}).get("options") or {} for e in explanations]
    labels = []
    for i, name in enumerate(names):
        twins = [j for j, other in enumerate(names) if other == name]
        different = {k: v for k, v in options[i].items() if any(options[j].get(k) != v for j in twins)}
        labels.append(f"{name} ({words.options_text(different)})" if different else name)
    return [f"{x} (no. {i + 1})" if labels.count(x) > 1 else x for i, x in enumerate(labels)]


def _method(e: Explanation, label: str, telling: Telling | None) -> Method:
    said = e.attrs.get("method") or {}
    given = e.attrs.get("rules") or ()
    rules = tuple((str(r.get("node")), str(r.get("layer")), str(r.get("rule"))) for r in given)
    warnings = tuple(str(w) for w in (e.warnings if telling is None else telling.warnings))
    facts = (*(telling.facts if telling else ()), *words.method_facts(e))
    shown = min(targets_of(e), MOST_TARGETS)
    family, question = (str(said.get(key) or "") for key in ("family", "question"))
    return Method(label, family, question, shown, facts, warnings, rules)


def _target_note(e: Explanation, label: str) -> list[str]:
    left = targets_of(e) - MOST_TARGETS
    shown = f"{label}: the first {MOST_TARGETS} targets are shown"
    return [f"{shown}, {left} are left out."] if left > 0 else []


_REDRAWN = {
    "means": "the ImageNet means are added back",
    "standard": "the ImageNet deviations and means are put back",
    "stretch": "its values are stretched to their own range",
}


def _panel_notes(panel: Panel, several: bool, once: str) -> list[str]:
    """Say what was summed, averaged, turned or rescaled to draw an input; ``once``: maps that were not summed."""
    lead, notes = (f"Input {panel.key}: " if several else ""), []
    summed = f"Relevance is summed over the {panel.depth} channels"
    if once:
        same = "the same for every channel, and shown once"
        summed = f"Relevance is {same}" if once == "that" else f"{summed} ({once} is {same})"
    if panel.kind == "picture":
        how = _REDRAWN.get(panel.picture or "")
        notes = [f"{lead}To show the picture, {how}."] if how else []
        return [*notes, f"{lead}{summed}."] if panel.depth > 1 else notes
    if panel.depth > 1:
        notes.append(f"{lead}{summed}, the input is their mean.")
    if not panel.upright:
        notes.append(f"{lead}The matrix is drawn turned: {panel.rows.dim} from left to right.")
    return notes


def _value_limits(cells: Sequence[Array]) -> tuple[float, float]:
    """Return the lowest and highest finite value."""
    ends = [(c[np.isfinite(c)].min(), c[np.isfinite(c)].max()) for c in cells if np.isfinite(c).any()]
    return (float(min(a for a, _ in ends)), float(max(b for _, b in ends))) if ends else (0.0, 1.0)


def _views(
    e: Explanation,
    m: int,
    labels: Sequence[str],
    drawn: Sequence[tuple[Panel, tuple[str, ...]]],
    pages: Sequence[Page],
) -> list[View]:
    """Return the views of one explanation: every sample, target and input."""
    out = []
    for s, t in itertools.product(range(len(labels)), range(min(targets_of(e), MOST_TARGETS))):
        one = single(e, s, t)
        same = repeats(one) > 1
        one = counted_once(one)
        maps = [one.matrix(0, input=panel.key or None) for panel, _ in drawn]
        facts = words.sample_facts(one, 0, 0, sum(float(x.sum(dtype=np.float64)) for x in maps))
        head, name = headline(one, 0, 0, labels[s]), one.target_name(0)
        for k, ((panel, dims), cells) in enumerate(zip(drawn, maps, strict=True)):
            cells = cells.reshape(panel.rows.size, panel.columns.size).astype(np.float32)
            if pages:
                page = replace(pages[s], facts=(*pages[s].facts, *facts))
            else:
                tables = tables_of(one, panel, dims)
                sums = words.promises_sum(one, 0, 0)
                said = answer(cells, panel, tables, sums=sums, repeated=same)
                page = Page(head, (said,), tables, facts)
            out.append(_view((m, s, t, k), page.target or name, cells, page))
    return out


def _view(place: tuple[int, int, int, int], target_name: str, cells: npt.NDArray[np.float32], page: Page) -> View:
    return View(
        *place,
        target_name=target_name,
        cells=cells,
        limit=symmetric_limit(cells),
        tight=symmetric_limit(cells, quantile=0.99),
        row_sums=cells.sum(axis=1, dtype=np.float64).astype(np.float32),
        column_sums=cells.sum(axis=0, dtype=np.float64).astype(np.float32),
        tables=page.tables,
        headline=page.headline,
        findings=page.findings,
        facts=page.facts,
    )


def tables_of(one: Explanation, panel: Panel, dims: Sequence[str]) -> Tables:
    """Return the ranked rows and columns and the best stretches of one map.

    Args:
        one: an explanation of one sample and one target.
        panel: how the input is drawn.
        dims: the axes along which stretches are wanted.
    """
    key, single = panel.key or None, panel.kind == "line"
    rows = () if single else _ranked(one.rows(input=key), panel.rows)
    columns = _ranked(one.rows(input=key) if single else one.columns(input=key), panel.columns)
    finite = bool(np.isfinite(parts(one.values, one.input_names)[panel.key]).all())
    ordered = one.attrs.get("ordered")
    wanted = [dim for dim in dims if finite and (ordered is None or dim in ordered)]
    tables = {dim: one.segments(dim, input=key) for dim in wanted}
    found = {dim: _stretches(tables[dim], panel, dim) if dim in wanted else () for dim in dims}
    return Tables(rows, columns, found, counts={dim: len(table) for dim, table in tables.items()})


def _ranked(table: pd.DataFrame, axis: Axis) -> tuple[Ranked, ...]:
    fields = (table[name].tolist() for name in ("index", "sum", "abs_sum", "share"))
    return tuple(Ranked(i, axis.names[i], s, a, share) for i, s, a, share in zip(*fields, strict=True))


def _stretches(table: pd.DataFrame, panel: Panel, dim: str) -> tuple[Stretch, ...]:
    """Return the best stretches along a dim."""
    best = table.head(MOST_STRETCHES)
    along = panel.rows if dim == panel.rows.dim else panel.columns
    other = panel.columns if along is panel.rows else panel.rows
    fields = (best[name].tolist() for name in ("line", "sign", "start", "stop", "score", "share"))
    found = []
    for line, sign, start, stop, score, share in zip(*fields, strict=True):
        name = "all" if line < 0 else other.title(line)
        found.append(Stretch(dim, line, name, sign, start, stop, along.span(start, stop), score, share))
    return tuple(found)
