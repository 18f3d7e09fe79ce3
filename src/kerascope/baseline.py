"""The absent input: what a sample is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, MissingBaselineError, counted, unknown_name
from kerascope.model.view import ModelView

Arrays = tuple[np.ndarray, ...]

_WORDS = ("zeros", "mean", "median")


@dataclass(frozen=True)
class Asked:
    """Who needs an absent input: the method, and the option that gives one.

    ``also``: words that the method itself understands. ``cells``: single cells are replaced, also whole numbers.
    """

    method: str
    option: str = "baseline"
    also: tuple[str, ...] = ()
    cells: bool = False

    def missing(self) -> MissingBaselineError:
        """Return the error for a method that was given none."""
        return MissingBaselineError(
            f"{self.method} compares with an absent input, and none was given: give background=… (some training "
            f"samples) or {self.option}='zeros'."
        )


def resolve(
    value: Any, view: ModelView, background: Arrays | None, shapes: Sequence[tuple[int, ...]], asked: Asked
) -> tuple[Arrays, str]:
    """Turn what the user gave as ``baseline`` into arrays.

    Args:
        value: None (the background's mean), ``"zeros"``, ``"mean"``, ``"median"``, a number, one array shaped
            like a sample or several (M, *S); for models with several inputs a list or dict of these.
        view: the model.
        background: samples that stand for "nothing special", one array (M, *S) per input, or None.
        shapes: the inputs' shapes without the batch axis.
        asked: who asks, for the error.

    Returns:
        One array (M, *S) per input, and in words what it is.

    Raises:
        MissingBaselineError: if nothing was given and there is no background.
        BadInputError: if it does not fit the model's input.
    """
    arrays, text = _resolved(value, view, background, shapes, asked)
    for array, spec in zip(arrays, view.signature.specs, strict=True):
        if asked.cells and spec.dtype.startswith(("int", "uint")) and not np.array_equal(array, np.round(array)):
            raise BadInputError(
                f"{asked.option}: input {spec.name!r} takes whole numbers ({spec.dtype}), and the {text} holds others. "
                "Give a whole number, an array of them, or background samples."
            )
    return arrays, text


def _resolved(
    value: Any, view: ModelView, background: Arrays | None, shapes: Sequence[tuple[int, ...]], asked: Asked
) -> tuple[Arrays, str]:
    if value is None:
        value = "mean"
    if isinstance(value, str):
        return _named(value, view, background, shapes, asked)
    by_input = len(shapes) > 1 and isinstance(value, (list, tuple, Mapping))
    if not by_input and np.ndim(_finite(value, asked)) == 0:
        number = float(value)
        return tuple(np.full((1, *shape), number, view.dtype) for shape in shapes), f"{number:g} in every cell"
    per_input = view.signature.flatten(value) if len(shapes) > 1 else [value]
    arrays = tuple(_as_baseline(v, shape, view.dtype, asked) for v, shape in zip(per_input, shapes, strict=True))
    if len({len(array) for array in arrays}) > 1:
        raise BadInputError(f"Every input needs as many baselines; got {[len(array) for array in arrays]}.")
    count = len(arrays[0])
    return arrays, f"a given {asked.option}" if count == 1 else f"{count} given {asked.option}s"


def _named(
    value: str, view: ModelView, background: Arrays | None, shapes: Sequence[tuple[int, ...]], asked: Asked
) -> tuple[Arrays, str]:
    if value not in _WORDS:
        raise unknown_name(asked.option, value, (*_WORDS, *asked.also))
    if value == "zeros":
        return tuple(np.zeros((1, *shape), view.dtype) for shape in shapes), "zeros"
    if background is None:
        raise asked.missing()
    reduce = np.mean if value == "mean" else np.median
    arrays = (reduce(array.astype("float64"), axis=0, keepdims=True) for array in background)
    return tuple(a.astype(view.dtype) for a in arrays), f"{value} of {counted(len(background[0]), 'background sample')}"


def _finite(value: Any, asked: Asked) -> Any:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiub" or not np.all(np.isfinite(array)):
        raise BadInputError(
            f"{asked.option}= must hold finite numbers, or be one of {', '.join(map(repr, _WORDS))}; got {value!r:.80}."
        )
    return array[()]


def _as_baseline(value: Any, shape: tuple[int, ...], dtype: str, asked: Asked) -> np.ndarray:
    array = np.asarray(_finite(value, asked))
    if array.shape == shape:
        return array[None].astype(dtype)
    if len(array.shape) and len(array) and array.shape[1:] == shape:
        return array.astype(dtype)
    without_channel = [shape[:-1]] if shape and shape[-1] == 1 else []
    without_channel += [shape[1:]] if shape and shape[0] == 1 else []
    if array.shape in without_channel:
        return array.reshape(1, *shape).astype(dtype)
    if len(array.shape) and len(array) and array.shape[1:] in without_channel:
        return array.reshape(-1, *shape).astype(dtype)
    several = "(M, " + ", ".join(map(str, shape)) + ")"
    raise BadInputError(f"{asked.option}= has shape {array.shape}; expected one sample {shape}, or several {several}.")
