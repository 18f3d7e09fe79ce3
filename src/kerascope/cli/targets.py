"""What `--target` says: a class, the classes on top, a contrast, a unit inside, a cell of a map; each of any head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from kerascope.cli.io import read_names
from kerascope.errors import BadTargetError, unknown_name

FORMS = "all, top, top:3, contrast:A,B, neuron:LAYER:3,4,0, cell:3,4,0; with @HEAD behind it where there are several"


def target(text: str | None, names: Sequence[str] | None) -> Any:
    """Return what is to be explained.

    Args:
        text: a class by number or name, `a,b,...` or a file (one per sample), `all`, `top`, `top:3`, `contrast:A,B`
            (`contrast:A`: against the mean of the others), `neuron:LAYER:3,4,0`, or `cell:3,4,0`; `@HEAD` behind it
            names one of several outputs. None: the top class of each sample.
        names: the class names, where they are known.

    Raises:
        BadTargetError: for a word that is none of these; nearest class names are offered.
    """
    if text is None or text == "top":
        return None
    if _is_class(text, names):
        return class_of(text, names)
    if Path(text).is_file():
        return np.array([class_of(str(name), names) for name in read_names(text, "--target").tolist()])
    text, at, head = text.rpartition("@") if "@" in text else (text, "", "")
    return _of_head(text, names, (int(head) if head.isdigit() else head) if at else None)


def _of_head(text: str, names: Sequence[str] | None, head: str | int | None) -> Any:
    from kerascope.target import Class, Contrast, Neuron, Output, TopClass

    kind, colon, rest = text.partition(":")
    if text == "top" or (kind == "top" and colon):
        return TopClass(_count(text, rest) if colon else 1, head)
    if kind == "contrast" and colon:
        sides = [class_of(part.strip(), names) for part in rest.split(",")]
        if len(sides) > 2:
            raise typer.BadParameter(f"{text!r} is not contrast:A,B, as contrast:0,2.", param_hint="--target")
        return Contrast(sides[0], sides[1] if len(sides) > 1 else None, head)
    if kind == "neuron" and colon:
        layer, colon, index = rest.rpartition(":")
        if not (layer and index) or head is not None:
            raise typer.BadParameter(f"{text!r} is not neuron:LAYER:INDEX, as neuron:conv:3,0.", param_hint="--target")
        return Neuron(layer, _index(text, index))
    if kind == "cell" and colon:
        return Output(_index(text, rest), head)
    classes: Any = "all" if text == "all" else _classes(text, names)
    return classes if head is None else Class(classes, head)


def _classes(text: str, names: Sequence[str] | None) -> Any:
    if "," in text and not _is_class(text, names):
        return np.array([class_of(part.strip(), names) for part in text.split(",")])
    return class_of(text, names)


def _count(text: str, count: str) -> int:
    if not count.isdigit() or int(count) < 1:
        raise typer.BadParameter(f"{text!r} is not top:K, as top:3.", param_hint="--target")
    return int(count)


def _index(text: str, places: str) -> Any:
    numbers = [part.strip() for part in places.split(",")]
    if not all(part.lstrip("-").isdigit() for part in numbers):
        raise typer.BadParameter(
            f"{text!r} does not end in whole numbers with commas between them, as 3,4,0.", param_hint="--target"
        )
    return tuple(map(int, numbers))


def _is_class(text: str, names: Sequence[str] | None) -> bool:
    return text.lstrip("-").isdigit() or text in (names or ())


def class_of(text: str, names: Sequence[str] | None, option: str = "--target") -> int:
    """Return the index of a class given by number or name; a name wins."""
    if names is not None and text in names:
        return list(names).index(text)
    if text.lstrip("-").isdigit():
        return int(text)
    if names is None:
        also = f" Also: {FORMS}; one class per sample with commas or in a file." if option == "--target" else ""
        raise BadTargetError(
            f"{option} {text!r} is no class number, and no class names are known: give the number, or the names with "
            f"--class-names FILE.{also}"
        )
    raise BadTargetError(f"{option}: {unknown_name('class', text, names)}")
