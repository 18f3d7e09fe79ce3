"""From what a user gives as samples to checked arrays in the shape the model takes, with named axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, unknown_name
from kerascope.model.view import InputSpec, ModelView, Signature
from kerascope.record import check_dims

_SCAN = 4096
"""Samples per piece when values are checked."""

_LONE = "one sample was given; it got a batch axis of size 1"
_ADDED = "a channel axis of size 1 was added, as the model takes it"
_DROPPED = "a channel axis of size 1 was dropped, as the model takes none"


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked samples, one array (N, *S) per model input, and what was said about them.

    ``dims`` has, per input, the names of one sample's axes where the input brought them (a DataArray), else
    None; ``coords`` the labels that came with them.
    """

    arrays: tuple[np.ndarray, ...]
    notes: tuple[str, ...]
    dims: tuple[tuple[str, ...] | None, ...]
    coords: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Return N."""
        return len(self.arrays[0])


def read_samples(x: Any, signature: Signature, *, dtype: str = "float32", what: str = "x") -> Samples:
    """Check samples and bring them into the shape the model takes.

    Args:
        x: one array (N, *S), one sample, or a dict or list of arrays for models with several inputs; anything
            that can be sliced and turned into NumPy (memmap, HDF5, Zarr, xarray, tensors).
        signature: how the model takes its inputs.
        dtype: the precision floats are brought to: that in which the model is explained.
        what: the argument's name, for errors.

    Raises:
        BadInputError: for a wrong shape, something that is not numeric, NaN or Inf, or no samples at all.
    """
    flat = signature.flatten(x)
    arrays: list[np.ndarray] = []
    notes: list[str] = []
    dims: list[tuple[str, ...] | None] = []
    coords: dict[str, np.ndarray] = {}
    for value, spec in zip(flat, signature.specs, strict=True):
        name = f"{what}[{spec.name!r}]" if len(flat) > 1 else what
        given = _numeric(value, name)
        reading = _fit(given, spec, name)
        array = _cast(reading.array, spec, dtype, name)
        _check_finite(array, given, name)
        named, labels = _labels(value, reading)
        arrays.append(array)
        notes.extend(f"{name}: {note}" for note in reading.notes)
        dims.append(named)
        coords.update(labels)
    if len({len(array) for array in arrays}) > 1:
        counts = ", ".join(f"{spec.name}: {len(array)}" for spec, array in zip(signature.specs, arrays, strict=True))
        raise BadInputError(f"The inputs in {what} hold different numbers of samples ({counts}). Give as many of each.")
    return Samples(tuple(arrays), tuple(notes), tuple(dims), coords)


def _numeric(value: Any, name: str) -> np.ndarray:
    if np.ma.is_masked(value):
        raise BadInputError(f"{name} has masked cells. Fill them first, e.g. with x.filled(value).")
    try:
        array = _to_numpy(value)
    except BadInputError:  # of a file that is read on demand
        raise
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"{name} must be an array of numbers; {type(value).__name__} could not be turned into one ({error})."
        ) from error
    if array.dtype.kind == "b" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = array.astype("float32")
    if array.dtype.kind not in "fiu":
        raise BadInputError(
            f"{name} must hold numbers; its dtype is {array.dtype}. Give an array of floats or whole numbers."
        )
    if array.ndim == 0 or array.size == 0:
        raise BadInputError(f"{name} holds no samples: its shape is {array.shape}. Give at least one sample.")
    return array


def _to_numpy(value: Any) -> np.ndarray:
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    try:
        return np.asarray(tensor)
    except TypeError:  # NumPy has no bfloat16
        return np.asarray(tensor.float())


@dataclass(frozen=True, eq=False)
class _Reading:
    """One way to take an array: ``axes`` says which axis of the original each axis is, None for a new one."""

    array: np.ndarray
    axes: tuple[int | None, ...]
    notes: tuple[str, ...] = ()

    def lone(self) -> _Reading:
        return _Reading(self.array[None], (None, *self.axes), (_LONE, *self.notes))

    def with_axis(self, axis: int) -> _Reading:
        axes = (*self.axes[:axis], None, *self.axes[axis:])
        return _Reading(np.expand_dims(self.array, axis), axes, (*self.notes, _ADDED))

    def without_axis(self, axis: int) -> _Reading:
        axes = (*self.axes[:axis], *self.axes[axis + 1 :])
        return _Reading(np.squeeze(self.array, axis), axes, (*self.notes, _DROPPED))


def _readings(array: np.ndarray, wanted: tuple[int | None, ...]) -> Iterator[_Reading]:
    """Yield the ways to take an array, the plainest first: as it is, lone, with or without a channel axis."""
    rank = len(wanted)
    plain = _Reading(array, tuple(range(array.ndim)))
    if array.ndim == rank + 1:
        yield plain
    if array.ndim == rank:
        yield plain.lone()
    for axis in dict.fromkeys(axis for axis in (rank - 1, 0) if wanted and wanted[axis] == 1):
        if array.ndim == rank:
            yield plain.with_axis(axis + 1)
        if array.ndim == rank - 1:
            yield plain.lone().with_axis(axis + 1)
    if array.ndim == rank + 2:
        yield from (plain.without_axis(axis) for axis in (rank + 1, 1) if array.shape[axis] == 1)
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        yield plain.lone().without_axis(rank + 1)


def _fit(array: np.ndarray, spec: InputSpec, name: str) -> _Reading:
    """Add a batch axis to a lone sample, add or drop a channel axis of size 1; refuse anything else."""
    for reading in _readings(array, spec.shape):
        shape = reading.array.shape[1:]
        if all(want is None or want == size for size, want in zip(shape, spec.shape, strict=True)):
            return reading
    sizes = ", ".join("any" if size is None else str(size) for size in spec.shape)
    trailing = "," if len(spec.shape) == 1 else ""
    raise BadInputError(
        f"{name} has shape {array.shape}; the model takes samples of shape (N, {sizes}), or one of shape "
        f"({sizes}{trailing}). Bring the axes into that order and size."
    )


def _cast(array: np.ndarray, spec: InputSpec, dtype: str, name: str) -> np.ndarray:
    """Return the array in the precision wanted, in memory order, refusing what would be lost."""
    whole = spec.dtype.startswith(("int", "uint"))
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array, spec.dtype if whole else dtype)
    if whole and not np.array_equal(cast, array):
        raise BadInputError(
            f"{name} must hold whole numbers ({spec.dtype}), as this input of the model takes them; some of its values "
            "are none, or do not fit."
        )
    return cast


def _check_finite(array: np.ndarray, given: np.ndarray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    pieces = range(0, len(array), _SCAN)
    bad = [~np.isfinite(array[i : i + _SCAN]) for i in pieces]
    count = sum(int(piece.sum()) for piece in bad)
    if not count:
        return
    piece = next(k for k, found in enumerate(bad) if found.any())
    place = np.argwhere(bad[piece])[0]
    place[0] += pieces[piece]
    came = given.reshape(array.shape)[tuple(place)]
    what = "NaN or infinite" if not np.isfinite(came) else f"too large for {array.dtype}"
    raise BadInputError(
        f"{name} holds {count} value{'' if count == 1 else 's'} that {'is' if count == 1 else 'are'} {what}; the first "
        f"is {came} in sample {place[0]} at {tuple(int(i) for i in place[1:])}. Fill, scale or leave out such values "
        "before explaining."
    )


def _labels(value: Any, reading: _Reading) -> tuple[tuple[str, ...] | None, dict[str, np.ndarray]]:
    """Return the names and labels of the axes of a DataArray, as they are after reading."""
    if not (hasattr(value, "dims") and hasattr(value, "coords")):
        return None, {}
    names = [None if axis is None else str(value.dims[axis]) for axis in reading.axes]
    coords = {
        "sample" if place == 0 else name: np.asarray(value.coords[name])
        for place, name in enumerate(names)
        if name is not None and name in value.coords
    }
    return tuple(name or "channel" for name in names[1:]), coords


@dataclass(frozen=True, eq=False)
class Labels:
    """Names of axes, coordinates and classes, as an `Explanation` has them."""

    dims: tuple[str, ...] | dict[str, tuple[str, ...]]
    coords: dict[str, np.ndarray]
    class_names: tuple[str, ...] | None


def read_labels(
    samples: Samples,
    view: ModelView,
    dims: Any,
    coords: Mapping[str, Any] | None,
    class_names: Sequence[str] | None,
) -> Labels:
    """Check the names of axes, coordinates and classes against samples and model.

    Args:
        samples: what is explained; names that came with it stand where the user gives none.
        view: the model.
        dims: names of one sample's axes; with several inputs a dict by input, or a list in their order.
        coords: labels or positions by dim.
        class_names: one name per output unit.

    Raises:
        BadInputError: if a number of names or labels does not fit.
        UnknownNameError: for a dim or input that does not exist.
    """
    names = view.signature.names
    given = _dims_by_input(dims, names)
    named = {}
    for name, array, own, wanted in zip(names, samples.arrays, samples.dims, given, strict=True):
        chosen = name_dims(own if wanted is None else wanted, array.shape[1:], channels_first=view.channels_first)
        check_dims(chosen)
        named[name] = chosen
    brought = dict(samples.coords)
    for own, wanted, name in zip(samples.dims, given, names, strict=True):
        if own is not None and wanted is not None:  # the user's names replace those of a DataArray, in order
            renamed = dict(zip(own, named[name], strict=True))
            brought = {renamed.get(dim, dim): labels for dim, labels in brought.items()}
    if coords is not None and not isinstance(coords, Mapping):
        raise BadInputError(f"coords must be a dict, dim to labels, as {{'sensor': names}}; got {coords!r}.")
    merged = {**brought, **(coords or {})}
    sizes = {"sample": len(samples)}
    for name, array in zip(names, samples.arrays, strict=True):
        for dim, size in zip(named[name], array.shape[1:], strict=True):
            if sizes.setdefault(dim, size) != size and dim in merged:
                raise BadInputError(
                    f"Inputs have the sizes {sizes[dim]} and {size} along {dim!r}, so its coords fit only one of them: "
                    "give their dims different names."
                )
    checked = check_coords(merged, sizes)
    return Labels(named if len(names) > 1 else named[names[0]], checked, _class_names(class_names, view))


def _dims_by_input(dims: Any, names: tuple[str, ...]) -> list[Any]:
    """Return the dims given for each input, None where there are none."""
    if dims is None:
        return [None] * len(names)
    if isinstance(dims, Mapping):
        for name in dims:
            if name not in names:
                raise unknown_name("input in dims", name, names)
        return [dims.get(name) for name in names]
    if len(names) == 1:
        return [dims]
    if isinstance(dims, str) or len(dims) != len(names) or any(isinstance(item, str) for item in dims):
        raise BadInputError(
            f"The model takes {len(names)} inputs: give dims as a dict by input ({', '.join(names)}), or a list with "
            f"one tuple for each; got {dims!r}."
        )
    return list(dims)


def _class_names(names: Sequence[str] | None, view: ModelView) -> tuple[str, ...] | None:
    if names is None:
        return None
    widths = {head.name: int(head.shape[-1] or 0) if head.shape[1:] else 1 for head in view.heads}
    listed = isinstance(names, Iterable) and isinstance(names, Sized) and not isinstance(names, str)
    if not listed or len(names) not in widths.values():
        units = ", ".join(f"{name}: {width}" for name, width in widths.items())
        came = f"{len(names)} names" if listed else repr(names)
        raise BadInputError(f"class_names needs one name for each output unit ({units}); got {came}.")
    return tuple(str(name) for name in names)


def name_dims(dims: Sequence[str] | None, shape: tuple[int, ...], *, channels_first: bool) -> tuple[str, ...]:
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
    if not isinstance(dims, Iterable):
        raise BadInputError(f"dims must be names of axes, as ('time', 'sensor'); got {dims!r}.")
    names = (dims,) if isinstance(dims, str) else tuple(dims)
    given = names
    if len(names) == rank - 1:
        names = ("channel", *names) if channels_first else (*names, "channel")
    if len(names) != rank:
        raise BadInputError(
            f"dims={given!r} names {len(given)} axes; one sample has {rank}, of sizes {shape}. Give one name for each "
            "(the channel axis may be left out)."
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
            raise unknown_name("dim in coords", name, sizes)
        array = np.asarray(values)
        if array.shape != (sizes[name],):
            raise BadInputError(
                f"coords for {name!r} have shape {array.shape}; the dim has {sizes[name]} entries. Give one label for "
                "each."
            )
        checked[name] = array
    return checked
