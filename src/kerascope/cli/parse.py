"""From the words of the command line to Python values; what makes no sense is wrong usage (exit status 2)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from kerascope.cli.io import read_array, read_names
from kerascope.cli.targets import class_of
from kerascope.cli.terminal import wrong_usage
from kerascope.errors import BadInputError, unknown_name

if TYPE_CHECKING:
    from kerascope.cli.pictures import Pictures


def samples(text: str | None) -> slice | None:
    """Return `start:stop[:step]`, or one sample's number, as a slice."""
    if text is None:
        return None
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if len(parts) == 1 and parts[0] is not None:
            return slice(parts[0], parts[0] + 1 or None)
        if not 2 <= len(parts) <= 3 or 0 in parts[2:]:
            raise ValueError(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no range of samples. Write start:stop, as 0:10, or one number.",
            param_hint="--samples",
        ) from None
    return slice(*parts)


_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def memory(text: str) -> int:
    """Return `1GiB`, `512MiB` or a number of bytes as bytes."""
    number = text.strip().rstrip("KMGTiBkmgtb ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        found = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        found = 0
    if found < 1:
        raise typer.BadParameter(f"{text!r} is no size. Write 1GiB, 512MiB or bytes.", param_hint="--memory-budget")
    return found


def dims(text: str | None) -> tuple[str, ...] | None:
    """Return `time,sensor` as names."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise typer.BadParameter(f"{text!r} is no list of different names. Write time,sensor.", param_hint="--dims")
    return names


def coords(pairs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return `sensor=FILE` pairs as names or numbers by dim."""
    found = {}
    for pair in pairs:
        dim, equals, spec = pair.partition("=")
        if not (dim and equals and spec):
            raise typer.BadParameter(f"{pair!r} is not DIM=FILE, as sensor=names.txt.", param_hint="--coord")
        found[dim.strip()] = read_names(spec, f"--coord {dim}")
    return found


def class_names(spec: str | None) -> tuple[str, ...] | None:
    """Return a file or `a,b,c` as class names."""
    return None if spec is None else tuple(map(str, read_names(spec, "--class-names").tolist()))


def labels(spec: str | None, names: Sequence[str] | None, count: int, chosen: slice | None) -> list[str] | None:
    """Return the true class of each sample by name, for the samples chosen.

    Args:
        spec: a file with one label per sample, numbers or names.
        names: the class names, to show numbers as names.
        count: how many samples the data hold.
        chosen: which of them are explained; None: all.
    """
    if spec is None:
        return None
    values = read_names(spec, "--labels")
    if len(values) != count:
        raise BadInputError(f"--labels holds {len(values)} labels for {count} samples in the data.")
    known = dict(enumerate(names or ()))
    numbered = values.dtype.kind in "iu"
    return [known.get(v, f"class {v}") if numbered else str(v) for v in values[chosen or slice(None)].tolist()]


def class_indices(spec: str, names: Sequence[str] | None) -> np.ndarray:
    """Return a file's classes, numbers or names, as indices."""
    option = "--background-labels"
    return np.array([class_of(str(value), names, option) for value in read_names(spec, option).tolist()])


def baseline(text: str | None, inputs: Sequence[str], pictures: Pictures | None = None) -> Any:
    """Return a number, `zeros`, `mean`, `median`, or the array (or pictures) in a file or folder."""
    if text is None or text in ("zeros", "mean", "median"):
        return text
    try:
        return float(text)
    except ValueError:
        if not Path(text.rpartition("::")[0] or text).exists():
            raise typer.BadParameter(
                f"{text!r} is no number, no file, and not zeros, mean or median.", param_hint="--baseline"
            ) from None
        return np.asarray(read_array(text, inputs=inputs, pictures=pictures))


def patterns(path: Path) -> Any:
    """Return the patterns in a file."""
    from kerascope.patterns.store import Patterns

    return Patterns.open(path)


def estimator(words: Sequence[str]) -> str | dict[str, str]:
    """Return `linear`, or `LAYER=linear` words as estimators by layer; `*` stands for a word without a layer."""
    from kerascope.patterns.store import ESTIMATORS

    plain = [word for word in words if "=" not in word]
    named = dict(word.rpartition("=")[::2] for word in words if "=" in word)
    for word in (*plain, *named.values()):
        if word not in ESTIMATORS:
            raise wrong_usage(unknown_name("estimator", word, ESTIMATORS), "--estimator")
    if len(plain) > 1:
        raise typer.BadParameter(f"{' and '.join(plain)} are two estimators for every layer.", param_hint="--estimator")
    if named and plain and plain[0] != "relu":
        return {"*": plain[0], **named}
    return named or (plain[0] if plain else "relu")


def options(pairs: Sequence[str]) -> list[tuple[str | None, str, Any]]:
    """Return `[METHOD:]name=value` as method (None: all), name and value.

    Values are Python literals (`0.1`, `(1, 8)`, `True`, also `true`), else text; `@file.npy` is the array in a file.
    """
    found = []
    for pair in pairs:
        left, equals, text = pair.partition("=")
        method, colon, name = left.rpartition(":")
        if not (equals and name.strip().isidentifier()) or (colon and not method):
            raise typer.BadParameter(
                f"{pair!r} is not name=value, as steps=128 (or METHOD:name=value).", param_hint="--option"
            )
        found.append((method.strip() or None, name.strip(), _literal(text.strip())))
    return found


_WORDS = {"true": True, "false": False, "none": None}


def _literal(text: str) -> Any:
    if text.startswith("@"):
        return np.asarray(read_array(text[1:]))
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def options_by_method(
    methods: Sequence[str | None], given: Sequence[tuple[str | None, str, Any]]
) -> list[dict[str, Any]]:
    """Return the options of each method, of the recommended one too; see `registry.shared_options`."""
    from kerascope.registry import shared_options

    return shared_options([method or "" for method in methods], given)


def methods(names: Sequence[str]) -> list[str | None]:
    """Return the methods asked for, checked; none means the recommended one."""
    from kerascope.registry import METHODS

    for name in names:
        if name not in METHODS:
            raise wrong_usage(unknown_name("method", name, METHODS), "--method")
    if len(set(names)) < len(names):
        raise typer.BadParameter("the same method is asked for twice.", param_hint="--method")
    return list(names) or [None]
