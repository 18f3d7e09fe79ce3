"""Which cells of a sample move together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, unknown_name

_WORDS = ("cells", "rows", "columns")


@dataclass(frozen=True, eq=False)
class Groups:
    """A partition of a sample's matrix.

    ``labels``: int array over the matrix dims, 0 to ``count`` - 1. ``channel_axis``: the sample axis the
    labels leave out (a cell is all its channels), or None.
    """

    labels: np.ndarray
    channel_axis: int | None

    @property
    def count(self) -> int:
        """The number of groups G."""
        return int(self.labels.max()) + 1

    @property
    def cells(self) -> np.ndarray:
        """The labels laid over a whole sample (*S), channels included by broadcasting."""
        return self.labels if self.channel_axis is None else np.expand_dims(self.labels, self.channel_axis)


def resolve(value: Any, shape: tuple[int, ...], channel_axis: int | None) -> Groups:
    """Turn what the user gave as ``groups`` into labels.

    Args:
        value: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))``, or an int array.
        shape: the shape of one sample.
        channel_axis: which of its axes holds channels, or None.

    Raises:
        BadInputError: if the labels do not fit the sample.
    """
    matrix = tuple(size for axis, size in enumerate(shape) if axis != channel_axis)
    if isinstance(value, str):
        labels = _named(value, matrix)
    elif isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str):
        labels = _blocks(value[0], value[1], matrix)
    else:
        labels = _given(value, matrix)
    return Groups(labels, channel_axis)


def _named(value: str, matrix: tuple[int, ...]) -> np.ndarray:
    if value not in _WORDS:
        raise unknown_name("kind of groups", value, (*_WORDS, "('blocks', (h, w))", "an int array"))
    if value == "cells":
        return np.arange(int(np.prod(matrix))).reshape(matrix)
    axis = 0 if value == "rows" else 1
    if len(matrix) <= axis:
        raise BadInputError(f"groups={value!r} needs a sample with rows and columns; this one has shape {matrix}.")
    return np.broadcast_to(
        np.arange(matrix[axis]).reshape([-1 if a == axis else 1 for a in range(len(matrix))]), matrix
    )


def _blocks(word: str, size: Any, matrix: tuple[int, ...]) -> np.ndarray:
    if word != "blocks":
        raise unknown_name("kind of groups", word, ("blocks",))
    sizes = (size,) if np.ndim(size) == 0 else tuple(size)
    if len(sizes) != len(matrix) or any(not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise BadInputError(f"groups=('blocks', {size!r}): expected one positive size for each axis of {matrix}.")
    counts = [-(-n // s) for n, s in zip(matrix, sizes, strict=True)]
    places = np.indices(matrix)
    block = tuple(place // s for place, s in zip(places, sizes, strict=True))
    return np.asarray(np.ravel_multi_index(block, counts))


def _given(value: Any, matrix: tuple[int, ...]) -> np.ndarray:
    labels = np.asarray(value)
    if labels.dtype.kind not in "iu":
        raise BadInputError(f"groups= must be a word, ('blocks', (h, w)) or an int array; got {value!r:.80}.")
    if labels.shape != matrix:
        raise BadInputError(f"groups= has shape {labels.shape}; expected the shape of one matrix, {matrix}.")
    return np.unique(labels, return_inverse=True)[1].reshape(matrix)
