"""What `--target` says: a class, the classes on top, a contrast, a unit inside, a cell of a map; each of any head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from kerascope.cli.io import read_names
from kerascope.errors import BadTargetError, unknown_name

_NUMBER = re.compile("-?[0-9]+")
FORMS = "all, top, top:3, contrast:A,B, neuron:LAYER:3,4,0, cell:3,4,0; with @HEAD behind it where there are several"


def target(text: str | None, names: Sequence[str] | None) -> Any:
    """Return what is to be explained.

    Args:
        text: a class by number or name, `a,b,...` or a file (one per sample), `all`, `top`, `top:3`, `contrast:A,B`
            (`contrast:A`: against the mean of the others; `contrast`: of the top class), `neuron:LAYER:3,4,0`, or
            `cell:3,4,0`; `@HEAD` behind it names one of several outputs. None: the top class of each sample.
        names: the class names, where they are known.

    Raises:
        BadTargetError: for a word that is none of these; nearest class names are offered.
    """
    if text is None or text == "top":
        return None
    if _is_class(text, names):
        return class_of(text, names)
    rest, at, head = text.rpartition("@")
    if not at or Path(text).is_file() or _names_classes(text, names):
        return _of_head(text, names, None)
    return _of_head(rest, names, int(head) if _NUMBER.fullmatch(head) else head)


def _of_head(text: str, names: Sequence[str] | None, head: str | int | None) -> Any:
    from kerascope.target import Class, Contrast, Neuron, Output, TopClass

    kind, colon, rest = text.partition(":")
    if text == "top" or (kind == "top" and colon):
        return TopClass(_count(text, rest) if colon else 1, head)
    if text == "contrast":
        return Contrast(output=head)
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


def _names_classes(text: str, names: Sequence[str] | None) -> bool:
    """Whether this is a contrast or a list of classes that are known by name: an @ is then part of a name."""
    parts = text.removeprefix("contrast:").split(",")
    return all(_is_class(part.strip(), names) for part in parts)


def _classes(text: str, names: Sequence[str] | None) -> Any:
    if Path(text).is_file():
        return np.array([class_of(str(name), names) for name in read_names(text, "--target").tolist()])
    if "," in text and not _is_class(text, names):
        return np.array([class_of(part.strip(), names) for part in text.split(",")])
    return class_of(text, names)


def _count(text: str, count: str) -> int:
    if not _NUMBER.fullmatch(count) or int(count) < 1:
        raise typer.BadParameter(f"{text!r} is not top:K, as top:3.", param_hint="--target")
    return int(count)


def _index(text: str, places: str) -> Any:
    numbers = [part.strip() for part in places.split(",")]
    if not all(map(_NUMBER.fullmatch, numbers)):
        raise typer.BadParameter(
            f"{text!r} does not end in whole numbers with commas between them, as 3,4,0.", param_hint="--target"
        )
    return tuple(map(int, numbers))


def _is_class(text: str, names: Sequence[str] | None) -> bool:
    return bool(_NUMBER.fullmatch(text)) or text in (names or ())


def class_of(text: str, names: Sequence[str] | None, option: str = "--target") -> int:
    """Return the index of a class given by number or name; a name wins."""
    if names is not None and text in names:
        return list(names).index(text)
    if _NUMBER.fullmatch(text):
        return int(text)
    if names is None:
        also = f" Also: {FORMS}; one class per sample with commas or in a file." if option == "--target" else ""
        raise BadTargetError(
            f"{option} {text!r} is no class number, and no class names are known: give the number, or the names with "
            f"--class-names FILE.{also}"
        )
    raise BadTargetError(f"{option}: {unknown_name('class', text, names)}")
