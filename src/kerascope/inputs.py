"""From what a user gives as samples to checked arrays in the shape the model takes, with named axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, unknown_name
from kerascope.model.view import InputSpec, Signature

_SCAN = 4096
"""Samples per piece when values are checked."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked samples, one array (N, *S) per model input, and what was said about them."""

    arrays: tuple[np.ndarray, ...]
    notes: tuple[str, ...]
    dims: tuple[str, ...] | None = None
    coords: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.arrays[0])


def read_samples(x: Any, signature: Signature, *, what: str = "x") -> Samples:
    """Check samples and bring them into the shape the model takes.

    Args:
        x: one array (N, *S), one sample, or a dict or list of arrays for models with several inputs; anything
            that can be sliced and turned into NumPy (memmap, HDF5, Zarr, xarray).
        signature: how the model takes its inputs.
        what: the argument's name, for errors.

    Raises:
        BadInputError: for a wrong shape, something that is not numeric, NaN or Inf, or no samples at all.
    """
    flat = signature.flatten(x)
    several = len(flat) > 1
    arrays, notes = [], []
    dims = coords = None
    for value, spec in zip(flat, signature.specs, strict=True):
        name = f"{what}[{spec.name!r}]" if several else what
        array = _numeric(value, name)
        array, said = _fit(array, spec, name)
        if hasattr(value, "dims") and hasattr(value, "coords") and not several:
            dims, coords = _labels(value, array)
        _check_finite(array, name)
        arrays.append(array)
        notes.extend(said)
    if len({len(array) for array in arrays}) > 1:
        raise BadInputError(f"The inputs hold different numbers of samples: {[len(array) for array in arrays]}.")
    return Samples(tuple(arrays), tuple(notes), dims, coords)


def _numeric(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind == "b":
        array = array.astype("float32")
    if array.dtype.kind not in "fiu":
        raise BadInputError(f"{name} must hold numbers; its dtype is {array.dtype}.")
    if array.ndim == 0 or array.size == 0:
        raise BadInputError(f"{name} holds no samples: its shape is {array.shape}.")
    return array


def _matches(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w is None or w == s for s, w in zip(shape, wanted, strict=True))


def _fit(array: np.ndarray, spec: InputSpec, name: str) -> tuple[np.ndarray, list[str]]:
    """Add a batch axis to a lone sample, add or drop a channel axis of size 1; refuse anything else."""
    dtype = spec.dtype if spec.dtype.startswith(("int", "uint")) else _float(array, spec)
    for candidate, said in _readings(array, spec.shape):
        if _matches(candidate.shape[1:], spec.shape):
            return np.asarray(candidate, dtype), [f"{name}: {note}" for note in said]
    raise BadInputError(
        f"{name} has shape {array.shape}; the model takes (N, {', '.join('any' if s is None else str(s) for s in spec.shape)})"
        f"{', or one sample without the first axis' if array.ndim != len(spec.shape) + 1 else ''}."
    )


def _float(array: np.ndarray, spec: InputSpec) -> str:
    return "float64" if spec.dtype == "float64" else "float32"


def _readings(array: np.ndarray, wanted: tuple[int | None, ...]) -> list[tuple[np.ndarray, list[str]]]:
    lone = "one sample was given; it got a batch axis of size 1"
    readings: list[tuple[np.ndarray, list[str]]] = [(array, [])]
    if array.ndim == len(wanted):
        readings.append((array[None], [lone]))
    missing = [axis for axis in (len(wanted) - 1, 0) if wanted and wanted[axis] == 1]
    for axis in missing:
        note = "a channel axis of size 1 was added, as the model takes it"
        readings.append((np.expand_dims(array, axis + 1), [note]))
        if array.ndim == len(wanted) - 1:
            readings.append((np.expand_dims(array, axis)[None], [lone, note]))
    for axis in (-1, 1):
        if array.ndim == len(wanted) + 2 and array.shape[axis] == 1:
            readings.append((np.squeeze(array, axis), ["a channel axis of size 1 was dropped, as the model takes none"]))
    return [reading for reading in readings if reading[0].ndim == len(wanted) + 1]


def _check_finite(array: np.ndarray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    for start in range(0, len(array), _SCAN):
        bad = ~np.isfinite(array[start : start + _SCAN])
        if bad.any():
            place = np.argwhere(bad)[0]
            place[0] += start
            value = array[tuple(place)]
            count = int(sum(np.sum(~np.isfinite(array[i : i + _SCAN])) for i in range(0, len(array), _SCAN)))
            raise BadInputError(
                f"{name} holds {count} values that are NaN or infinite; the first is {value} in sample {place[0]} at "
                f"{tuple(int(i) for i in place[1:])}. Fill or leave out what is missing before explaining."
            )


def _labels(value: Any, array: np.ndarray) -> tuple[tuple[str, ...], dict[str, Any]]:
    names = tuple(str(dim) for dim in value.dims)
    names = names[1:] if len(names) == array.ndim or len(names) == array.ndim - 1 and len(value) == len(array) else names
    coords = {dim: np.asarray(value.coords[dim]) for dim in names if dim in value.coords}
    return names, coords


def name_dims(
    dims: Sequence[str] | None, shape: tuple[int, ...], *, channels_first: bool
) -> tuple[str, ...]:
    """Return a name for each axis of one sample.

    Args:
        dims: the user's names; the channel axis may be left out. None: ``row, column, channel`` or, for other
            ranks, ``feature`` or ``axis_0 …``.
        shape: the shape of one sample as the model takes it.
        channels_first: where the model holds channels.

    Raises:
        BadInputError: if the number of names does not fit.
    """
    rank = len(shape)
    if dims is None:
        plain = {1: ("feature",), 2: ("row", "column")}.get(rank)
        if plain is not None:
            return plain
        if rank == 3:
            return ("channel", "row", "column") if channels_first else ("row", "column", "channel")
        return tuple(f"axis_{i}" for i in range(rank))
    names = (dims,) if isinstance(dims, str) else tuple(dims)
    if len(names) == rank - 1:
        names = ("channel", *names) if channels_first else (*names, "channel")
    if len(names) != rank:
        raise BadInputError(
            f"dims={tuple(dims)!r} names {len(names)} axes; one sample has {rank}, of sizes {shape} (the channel axis may "
            "be left out)."
        )
    return names


def check_coords(coords: Mapping[str, Any] | None, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Check that coordinates belong to a dim and have its length.

    Raises:
        UnknownNameError: for a dim that does not exist.
        BadInputError: for a wrong length.
    """
    checked = {}
    for name, values in (coords or {}).items():
        if name not in sizes:
            raise unknown_name("dim", name, sizes)
        array = np.asarray(values)
        if array.shape != (sizes[name],):
            raise BadInputError(f"coords for {name!r} have shape {array.shape}; the dim has {sizes[name]} entries.")
        checked[name] = array
    return checked
