"""A finding in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerascope.evidence.record import Evidence
from kerascope.explanation import Explanation
from kerascope.view.text import at, explained_word, number


def of_class(found: Explanation, label: int, target: str = "the target") -> str:
    """Return the name of a class, or "class 3"; ``target`` where what was explained is no class (-1)."""
    return target if label < 0 else found.class_name(label)


def class_name(evidence: Evidence, sample: int) -> str:
    """Return the name of the class a sample was explained for, or the target's text."""
    found = evidence.explanation
    return of_class(found, int(evidence.classes[sample]), found.target_name(sample))


def of_references(evidence: Evidence) -> str:
    """Say how many references there are for each class: ``60 for walking, 58 for running``."""
    counts = evidence.attrs["references"].items()
    return ", ".join(f"{count} for {of_class(evidence.explanation, int(label))}" for label, count in counts)


def titled(dim: str, name: str) -> str:
    """Return a name that can stand alone, ``sensor gyro_x``: with its dim in front, unless it begins with it."""
    return name if name.startswith(f"{dim} ") else f"{dim} {name}"


def title(evidence: Evidence, sample: int, name: str) -> str:
    """Return a sample's heading: ``Sample 3: walking, logit less the mean of the others 4.20``."""
    e = evidence.explanation
    word = explained_word(e)
    if (e.attrs.get("target") or {}).get("kind") == "contrast" or "minus" in e.target_name(sample):
        word = f"{word} less that of the others"
    return f"{name}: {class_name(evidence, sample)}, {word} {number(at(e.explained, sample, 0))}"


def of_sample(evidence: Evidence, sample: int) -> list[str]:
    """Say everything that was called in a sample, a sentence each: rows, columns, stretches."""
    dims = evidence.explanation.matrix_dims()
    rows, columns, stretches = evidence.of(sample)
    return [
        *(of_line(evidence, dims[0], line) for line in rows.to_dict("records")),
        *(of_line(evidence, dims[-1], line) for line in columns.to_dict("records")),
        *(of_segment(evidence, stretch) for stretch in stretches.to_dict("records")),
    ]


def of_line(evidence: Evidence, dim: str, line: Mapping[Any, Any]) -> str:
    """Say what a called row or column contributes: ``sensor gyro_x: +2.3 of 3.1 logit, p <= 0.005, …``."""
    return f"{titled(dim, str(line['name']))}: {_numbers(evidence, line, line['sum'])}"


def of_segment(evidence: Evidence, stretch: Mapping[Any, Any]) -> str:
    """Say what a stretch contributes: ``sensor gyro_x, time 3.1 to 4.0: +2.3 of 3.1 logit, p <= 0.005, …``."""
    dims = evidence.explanation.matrix_dims()
    other = [dim for dim in dims if dim != stretch["dim"]]
    name = str(stretch["name"])
    parts = [titled(other[0], name) if other else name] if name != "all" else []
    parts.append(f"all of {stretch['dim']}" if stretch["whole"] else f"{stretch['dim']} {span(stretch)}")
    return f"{', '.join(parts)}: {_numbers(evidence, stretch, stretch['sign'] * stretch['score'])}"


def span(stretch: Mapping[Any, Any]) -> str:
    """Return where a stretch begins and ends, both included, in real coordinates where there are any."""
    first, last = stretch["start"], stretch["stop"] - 1
    coordinate = stretch.get("start_coord")
    if coordinate is not None and not (isinstance(coordinate, float) and math.isnan(coordinate)):
        first, last = short(coordinate), short(stretch["stop_coord"])
    return f"{first}" if stretch["length"] == 1 else f"{first} to {last}"


def p_text(evidence: Evidence, sample: int, p: float) -> str:
    """Return a p-value; where no reference reached the line it is a bound, and is written as one."""
    count = evidence.attrs["references"].get(int(evidence.classes[sample]), 0)
    is_bound = np.isclose(p, 1 / (count + 1))
    return f"p {'<=' if is_bound else '='} {p:.2g}"


def _numbers(evidence: Evidence, found: Mapping[Any, Any], relevance: float) -> str:
    e, sample = evidence.explanation, int(found["sample"])
    share = f"{number(relevance, signed=True)} of {number(at(e.explained, sample, 0))} {explained_word(e)}"
    texts = [share, p_text(evidence, sample, found["p"])]
    if not math.isnan(found["drop"]):
        low, high = found["drop_low"], found["drop_high"]
        interval = "" if math.isnan(low) else f" ({number(low)} to {number(high)})"
        texts.append(f"replacing it costs {number(found['drop'])}{interval}")
    return ", ".join(texts)


def short(value: Any) -> str:
    """Return a coordinate as a text."""
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
