"""The absent input: what a sample is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, unknown_name
from kerascope.methods.base import missing_baseline
from kerascope.methods.session import Arrays, Session

_WORDS = ("zeros", "mean", "median")


def resolve(value: Any, session: Session, shapes: Sequence[tuple[int, ...]], method: str) -> tuple[Arrays, str]:
    """Turn what the user gave as ``baseline`` into arrays.

    Args:
        value: None (the background's mean), ``"zeros"``, ``"mean"``, ``"median"``, a number, one array shaped
            like a sample or several (M, *S); for models with several inputs a list or dict of these.
        session: holds the background samples.
        shapes: the inputs' shapes without the batch axis.
        method: who asks, for the error.

    Returns:
        One array (M, *S) per input, and in words what it is.

    Raises:
        MissingBaselineError: if nothing was given and there is no background.
    """
    if value is None:
        value = "mean"
        if session.background is None:
            raise missing_baseline(method)
    dtype = session.view.dtype
    if isinstance(value, str):
        return _named(value, session, shapes, method)
    if isinstance(value, (int, float, np.integer, np.floating)):
        return tuple(np.full((1, *shape), value, dtype) for shape in shapes), f"{value:g} in every cell"
    per_input = session.view.signature.flatten(value) if len(shapes) > 1 else [value]
    arrays = tuple(_as_baseline(v, shape, dtype) for v, shape in zip(per_input, shapes, strict=True))
    if len({len(array) for array in arrays}) > 1:
        raise BadInputError(f"Every input needs as many baselines; got {[len(array) for array in arrays]}.")
    count = len(arrays[0])
    return arrays, "a given baseline" if count == 1 else f"{count} given baselines"


def _named(value: str, session: Session, shapes: Sequence[tuple[int, ...]], method: str) -> tuple[Arrays, str]:
    dtype = session.view.dtype
    if value not in _WORDS:
        raise unknown_name("baseline", value, _WORDS)
    if value == "zeros":
        return tuple(np.zeros((1, *shape), dtype) for shape in shapes), "zeros"
    if session.background is None:
        raise missing_baseline(method)
    reduce = np.mean if value == "mean" else np.median
    arrays = tuple(reduce(array.astype("float64"), axis=0, keepdims=True).astype(dtype) for array in session.background)
    return arrays, f"{value} of {len(session.background[0])} background samples"


def _as_baseline(value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or not np.all(np.isfinite(array)):
        raise BadInputError("baseline= must hold finite numbers.")
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
    raise BadInputError(f"baseline= has shape {array.shape}; expected one sample {shape} or several (M, {str(shape)[1:]}.")
