"""The sentences of a report: numbers as people write them, and what was explained in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerascope.view.picture import PREPARED, original_size, pixels
from kerascope.view.text import at, explained_word, is_class, number, percent, target_index

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

Grade = Literal["", "good", "fair", "poor"]

ONE_UNIT = "the output unit"
"""What the only unit of a model's output is called; `Explanation.class_name` calls it so."""

GOOD_GAP, FAIR_GAP = 0.01, 0.05
"""Completeness gaps, relative to what the map must sum to, below which it is called good or fair."""


@dataclass(frozen=True)
class Fact:
    """One line of "what was explained": a term, its text, and where it is graded, how well it did."""

    term: str
    text: str
    grade: Grade = ""


def gap_grade(gap: float, must: float) -> Grade:
    """Grade a completeness gap by its share of what the map must sum to: < 1 %, < 5 %, worse; "" for NaN."""
    if not math.isfinite(gap) or not math.isfinite(must):
        return ""
    share = abs(gap) / abs(must) if must != 0 else (0.0 if gap == 0 else math.inf)
    return "good" if share < GOOD_GAP else "fair" if share < FAIR_GAP else "poor"


def promises_sum(e: Explanation, sample: int, target: int) -> bool:
    """Say whether the method promises what a map sums to."""
    return math.isfinite(at(e.completeness_gap, sample, target))


def options_text(options: Mapping[str, Any]) -> str:
    """Return the options of a method in one line; those that were left to the method are left out."""
    return ", ".join(f"{key} = {_option_text(value)}" for key, value in options.items() if value is not None)


def _option_text(value: Any) -> str:
    """Return one option as text: a base method by its name and options."""
    if isinstance(value, Mapping) and isinstance(value.get("method"), Mapping):
        base = value["method"]
        inner = options_text(base.get("options") or {})
        return f"{base.get('name')}{f' ({inner})' if inner else ''}"
    return str(value.get("text", value)) if isinstance(value, Mapping) else str(value)


def sample_facts(e: Explanation, sample: int, target: int, total: float) -> tuple[Fact, ...]:
    """Return what holds for one sample and target.

    Args:
        e: the explanation.
        sample: its position.
        target: position along the axis of targets.
        total: sum of the map, over all inputs.
    """
    word = explained_word(e)
    facts = [Fact("Class" if is_class(e) else "Target", _class_text(e, sample, target))]
    facts.append(Fact("Explained number", f"{word} {number(at(e.explained, sample, target))}{_taken_off(e)}"))
    output = _output_text(e, sample)
    if output:
        facts.append(Fact("Model's output", output))
    size = original_size(e, sample)
    if size is not None:
        facts.append(Fact("Photograph", f"{pixels(*size)}; resized to the model, shown in its own proportions"))
    facts.append(Fact("Baseline", _baseline_text(e, sample)))
    if promises_sum(e, sample, target):
        facts.append(Fact("Sum of the map", number(total, signed=True)))
    facts.append(_gap_fact(e, sample, target, total))
    absorbed = at(e.absorbed, sample, target)
    if math.isfinite(absorbed) and absorbed != 0:
        start = at(e.explained, sample, target)
        share = f" ({percent(absorbed / start)} of the {word})" if start else ""
        facts.append(
            Fact(
                "Absorbed relevance",
                f"{number(absorbed, signed=True)}{share}: taken by biases, "
                "constants, stabilisers and padding, and given to no cell",
            )
        )
    facts += _error_facts(e, sample, target)
    return tuple(facts)


def _class_text(e: Explanation, sample: int, target: int) -> str:
    if not is_class(e):
        return e.target_name(sample, target)
    chosen = (e.attrs.get("target") or {}).get("text")
    name, index = e.target_name(sample, target), target_index(e, sample, target)
    named = name if name in (f"class {index}", ONE_UNIT) else f"{name} (index {index})"
    return f"{named}; asked for: {chosen}" if chosen else named


def _taken_off(e: Explanation) -> str:
    removed = (e.attrs.get("output") or {}).get("taken_off")
    return f", before the final {removed}, which was taken off" if removed else ""


def _output_text(e: Explanation, sample: int, most: int = 3) -> str:
    """Return the largest of the model's outputs for a sample; empty where they are no vector."""
    outputs: Any = e.outputs
    told = e.attrs.get("output") or {}
    if isinstance(outputs, Mapping):
        outputs = outputs.get(told.get("head"))
    elif isinstance(outputs, (list, tuple)):
        outputs = None if told.get("index") is None else outputs[told["index"]]
    if outputs is None or np.ndim(outputs) != 2:
        return ""
    row = np.asarray(outputs)[sample]
    names = e.class_names if e.class_names is not None and len(e.class_names) == len(row) else None
    top = np.argsort(-row, kind="stable")[:most]
    unnamed = ONE_UNIT if len(row) == 1 else "index {}"
    texts = [f"{names[i] if names else unnamed.format(i)} {number(row[i])}" for i in top]
    left = len(row) - len(top)
    return ", ".join(texts) + (f", and {left} more" if left else "")


def _baseline_text(e: Explanation, sample: int) -> str:
    said = e.attrs.get("baseline")
    if not said:
        return "none: this method compares with no absent input"
    value = said.get("output") or []
    output = f"; {explained_word(e)} there {number(_pick(value, sample))}" if len(value) > sample else ""
    count = int(said.get("count") or 1)
    many = f" ({count} baselines)" if count > 1 else ""
    return f"{said.get('text', 'given')}{many}{output}"


def _pick(values: Sequence[Any], sample: int) -> float:
    """Return one number per sample; the mean where there are several (targets)."""
    return float(np.mean(values[sample]))


def _gap_fact(e: Explanation, sample: int, target: int, total: float) -> Fact:
    gap = at(e.completeness_gap, sample, target)
    if not math.isfinite(gap):
        return Fact("Completeness", "this method does not promise what its map sums to")
    must = total - gap
    share = f"{percent(abs(gap) / abs(must))} of " if must else "beside "
    text = f"gap {number(gap, signed=True)}, {share}what the map must sum to ({number(must, signed=True)})"
    largest = e.attrs.get("largest_sum")
    if largest is not None and len(largest) > sample and _pick(largest, sample):
        inside = _pick(largest, sample)
        text += f"; {percent(abs(gap) / inside)} of the largest sum of absolute relevance at any operation"
        text += f" ({number(inside)})"
    return Fact("Completeness", text, gap_grade(gap, must))


def _error_facts(e: Explanation, sample: int, target: int) -> list[Fact]:
    """Return the size of the standard errors beside that of the map."""
    error = e.standard_error
    if not isinstance(error, np.ndarray):
        return []
    pick = (sample, target) if np.ndim(e.explained) == 2 else (sample,)
    of, size = error[pick], np.asarray(e.values)[pick]
    if not size.any():
        return []
    text = f"root mean square over cells {number(_rms(of))}, beside {number(_rms(size))} for the map"
    return [Fact("Standard error", text)]


def _rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x, dtype=np.float64)))))


def method_facts(e: Explanation) -> tuple[Fact, ...]:
    """Return what holds for all samples of an explanation: method, model, versions."""
    said, model, graph = (e.attrs.get(key) or {} for key in ("method", "model", "graph"))
    options = options_text(said.get("options") or {})
    facts = [Fact("Method", f"{e.method_name}{f' ({options})' if options else ''}")]
    for term, key in (
        ("Question", "question"),
        ("Family", "family"),
        ("Paper", "paper"),
        ("Promise", "promise"),
    ):
        if said.get(key):
            facts.append(Fact(term, str(said[key])))
    if e.attrs.get("method_reason"):
        facts.append(Fact("Chosen because", str(e.attrs["method_reason"])))
    if model:
        count = model.get("parameters")
        size = f", {count:,} parameters".replace(",", "\u2009").replace("\u2009 ", ", ") if count is not None else ""
        facts.append(Fact("Model", f"{model.get('name', '')}{size}; fingerprint {model.get('fingerprint', '')}"))
    if (e.attrs.get(PREPARED) or {}).get("text"):
        facts.append(Fact("Pictures", str(e.attrs[PREPARED]["text"])))
    facts += _graph_facts(graph)
    facts.append(Fact("Run", _run_text(e.attrs)))
    return tuple(facts)


def _graph_facts(graph: Mapping[str, Any]) -> list[Fact]:
    facts = []
    if graph.get("operations") is not None:
        facts.append(Fact("Traced into", f"{graph['operations']} operations"))
    terms = (("Folded", "folded"), ("Split", "split"), ("Taken off", "taken_off"), ("Notes", "notes"))
    return facts + [Fact(term, "; ".join(map(str, graph[key]))) for term, key in terms if graph.get(key)]


def _run_text(attrs: Mapping[str, Any]) -> str:
    parts = [f"seed {attrs['seed']}"] if attrs.get("seed") is not None else []
    parts += [f"batches of {attrs['batch_size']}"] if attrs.get("batch_size") else []
    parts += [str(attrs["dtype"])] if attrs.get("dtype") else []
    parts += [f"{name} {attrs[name]}" for name in ("kerascope", "keras") if attrs.get(name)]
    if attrs.get("backend"):
        parts.append(f"{attrs['backend']} {attrs.get('backend_version', '')}".strip())
    parts += [f"{label} {attrs[key]}" for label, key in (("NumPy", "numpy"), ("Python", "python")) if attrs.get(key)]
    return ", ".join(parts) or "not recorded"
