"""What an explanation's fields must look like: structure, names of axes, shapes that fit, sample indices."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, unknown_name

Array = NDArray[Any]
Arrays = Array | dict[str, Array] | list[Array] | tuple[Array, ...]
"""One array, or several in the structure that a model with several inputs (or outputs) takes (or gives)."""

SAMPLE, TARGET = "sample", "target"
VARIABLES = {
    "values": "attribution",
    "inputs": "input",
    "outputs": "output",
    "explained": "explained",
    "target": "target",
    "completeness_gap": "completeness_gap",
    "absorbed": "absorbed",
    "standard_error": "standard_error",
    "baseline": "baseline",
    "layer_map": "layer_map",
    "group_values": "group_values",
}
"""Field of the record: its variable in a dataset."""
RESERVED = frozenset({SAMPLE, "target_class", *VARIABLES.values()})
"""Names that no axis of a sample may have: they have a meaning of their own in datasets."""
PER_SAMPLE = frozenset({"largest_sum", "log_scale", "noise"})
"""Attributes that hold a list with one entry per sample."""

# Several arrays as one ----------------------------------------------------------------


def parts(arrays: Arrays, names: tuple[str, ...] | None = None) -> dict[str, Array]:
    """Return the arrays by name: ``{"": array}`` for one, else by key, by the names given, or by number."""
    if isinstance(arrays, dict):
        return dict(arrays)
    if isinstance(arrays, list | tuple):
        return dict(zip(names or [str(i) for i in range(len(arrays))], arrays, strict=True))
    return {"": arrays}


def each(function: Callable[[Array], Any], arrays: Arrays) -> Any:
    """Apply a function to one array or to each of several; the structure stays."""
    if isinstance(arrays, dict):
        return {name: function(array) for name, array in arrays.items()}
    if isinstance(arrays, list | tuple):
        return type(arrays)(function(array) for array in arrays)
    return function(arrays)


def kind_of(arrays: Arrays) -> str:
    """Name the structure: "array", "dict", "list" or "tuple"."""
    return next((kind.__name__ for kind in (dict, list, tuple) if isinstance(arrays, kind)), "array")


def joined(kind: str, found: dict[str, Array]) -> Arrays:
    """Put named arrays back into their structure: the inverse of `parts` and `kind_of`."""
    if kind == "array":
        return found[""]
    if kind == "dict":
        return found
    return list(found.values()) if kind == "list" else tuple(found.values())


# Names and labels ---------------------------------------------------------------------


def check_dims(dims: tuple[str, ...]) -> None:
    """Refuse names of axes that are no text, stand twice, or have a meaning of their own.

    Args:
        dims: names of one sample's axes.

    Raises:
        BadInputError: a name cannot be used.
    """
    for dim in dims:
        if not isinstance(dim, str) or not dim or "/" in dim or dim.startswith((".", "__")):
            raise BadInputError(f"A dim is a text without '/' that starts with neither '.' nor '__'. Received {dim!r}.")
        if dim in RESERVED:
            raise BadInputError(
                f"The dim name {dim!r} has a meaning of its own in results. Give another name, for example "
                f"'{dim}_axis'. Names taken: {', '.join(sorted(RESERVED))}."
            )
    if len(set(dims)) < len(dims):
        raise BadInputError(f"Every dim needs a name of its own. Received dims={dims!r}.")


def as_labels(dim: str, labels: object) -> Array:
    """Return the labels of one dim as numbers, truth values, times or text; other objects become their text.

    Args:
        dim: whose labels they are, for messages.
        labels: a sequence or array (size,).

    Raises:
        BadInputError: not one label per index.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise BadInputError(f"coords[{dim!r}] needs one label per index, shape (size,). Received shape {array.shape}.")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind in "OT":
        return np.array([str(label) for label in array.tolist()], dtype=np.str_)
    if array.dtype.kind in "Mm" and np.datetime_data(array.dtype)[0] not in (
        "D",
        "h",
        "m",
        "s",
        "ms",
        "us",
        "ns",
    ):
        raise BadInputError(
            f"coords[{dim!r}] has times of type {array.dtype}. Give them in days to nanoseconds, or as text."
        )
    if array.dtype.kind not in "biufUMm":
        raise BadInputError(f"coords[{dim!r}] holds neither numbers, times nor text, but {array.dtype}.")
    return array


# Shapes -------------------------------------------------------------------------------


def check_record(record: Mapping[str, Any]) -> None:
    """Check that the fields of an `Explanation` fit each other.

    Args:
        record: field: value.

    Raises:
        BadInputError: naming the field, the shape expected and the one that came.
    """
    for field in ("values", "inputs", "outputs", "explained"):
        if record[field] is None:
            raise BadInputError(f"An explanation needs {field!r}.")
    names = tuple(record["dims"]) if isinstance(record["dims"], dict) else None
    _check_structure(record, names)
    explained = record["explained"]
    if explained.ndim not in (1, 2):
        raise BadInputError(f"explained has shape (N,) or (N, T). Received {explained.shape}.")
    _check_inputs(record, names)
    lead = explained.shape
    for field in ("completeness_gap", "absorbed"):
        if record[field] is not None:
            _check_shape(field, record[field], lead)
    target = record["target"]
    if isinstance(target, np.ndarray):
        _check_shape("target", target, lead)
        if target.dtype.kind not in "iu":
            raise BadInputError(f"target holds class indices, whole numbers. Received {target.dtype}.")
    for field, rest in (("group_values", 1), ("layer_map", None)):
        array = record[field]
        if array is not None and (array.shape[: len(lead)] != lead or rest not in (None, array.ndim - len(lead))):
            raise BadInputError(f"{field} begins with the axes {lead}. Received shape {array.shape}.")
    for array in parts(record["outputs"]).values():
        if array.shape[:1] != lead[:1]:
            raise BadInputError(f"outputs has one line per sample: {lead[0]}. Received shape {array.shape}.")
    _check_coords(record, names)


def _check_structure(record: Mapping[str, Any], names: tuple[str, ...] | None) -> None:
    """Check that every field holds arrays, and those of the input the same structure of them."""
    for field in VARIABLES:
        arrays = record[field]
        if arrays is None or field == "target":
            continue
        several = isinstance(arrays, dict | list | tuple)
        if several and field not in ("values", "inputs", "outputs", "baseline", "standard_error"):
            raise BadInputError(f"{field} is one NumPy array. Received {type(arrays).__name__}.")
        for array in arrays.values() if isinstance(arrays, dict) else arrays if several else [arrays]:
            if not isinstance(array, np.ndarray):
                raise BadInputError(f"{field} holds NumPy arrays. Received {type(array).__name__}.")
        if several and field != "outputs" and (names is None or not _fits(arrays, names)):
            got = sorted(arrays) if isinstance(arrays, dict) else f"{len(arrays)} arrays"
            wanted = "one array, as dims has one tuple" if names is None else f"arrays for the inputs {list(names)}"
            raise BadInputError(f"{field} needs {wanted}. Received {got}.")
        if not several and names is not None and field in ("values", "inputs", "baseline", "standard_error"):
            raise BadInputError(
                f"dims names the inputs {list(names)}, so {field} is a dict or list. Received one array."
            )


def _fits(arrays: Any, names: tuple[str, ...]) -> bool:
    return set(arrays) == set(names) if isinstance(arrays, dict) else len(arrays) == len(names)


def _check_inputs(record: Mapping[str, Any], names: tuple[str, ...] | None) -> None:
    """Check values, standard errors and baselines against the inputs, and those against dims."""
    lead = record["explained"].shape
    baselines = set()
    for part, array in parts(record["inputs"], names).items():
        of = f" of {part!r}" if part else ""
        dims = record["dims"][part] if part else record["dims"]
        check_dims(dims)
        if array.ndim < 2 or len(dims) != array.ndim - 1:
            raise BadInputError(
                f"dims{of} names the axes of one sample. Received dims={dims} for inputs of shape "
                f"{array.shape}, whose first axis is that of the samples."
            )
        _check_shape(f"inputs{of}", array, lead[:1] + array.shape[1:])
        for field in ("values", "standard_error"):
            if record[field] is not None:
                _check_shape(f"{field}{of}", parts(record[field], names)[part], lead + array.shape[1:])
        if record["baseline"] is not None:
            baseline = parts(record["baseline"], names)[part]
            baselines.add(len(baseline) if baseline.ndim else 0)
            _check_shape(f"baseline{of}", baseline, baseline.shape[:1] + array.shape[1:])
    if len(baselines) > 1:
        raise BadInputError(f"baseline needs the same number for each input. Received {sorted(baselines)}.")


def _check_shape(field: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise BadInputError(f"{field} should have shape {shape}. Received {array.shape}.")


def _check_coords(record: Mapping[str, Any], names: tuple[str, ...] | None) -> None:
    """Check that each dim with labels exists and has as many indices as labels."""
    sizes: dict[str, set[int]] = {SAMPLE: {len(record["explained"])}}
    for part, array in parts(record["inputs"], names).items():
        for dim, size in zip(record["dims"][part] if part else record["dims"], array.shape[1:], strict=True):
            sizes.setdefault(dim, set()).add(size)
    for dim, labels in record["coords"].items():
        if dim not in sizes:
            raise unknown_name("dim in coords", dim, sizes)
        if len(sizes[dim]) > 1:
            raise BadInputError(
                f"Inputs have the sizes {sorted(sizes[dim])} along {dim!r}: give their dims different names."
            )
        if sizes[dim] != {len(labels)}:
            raise BadInputError(
                f"coords[{dim!r}] needs {sizes[dim].pop()} labels, one per index. Received {len(labels)}."
            )


# Samples ------------------------------------------------------------------------------


def position(kind: str, index: object, count: int) -> int:
    """Return an index from 0 to count - 1; negative ones count from the end.

    Args:
        kind: what is counted, for the message.
        index: a whole number.
        count: how many there are.

    Raises:
        BadInputError: there is none of this number.
    """
    try:
        number = operator.index(index)  # type: ignore[arg-type]
    except TypeError:
        raise BadInputError(f"A {kind} is chosen by a whole number. Received {index!r}.") from None
    if isinstance(index, bool) or not -count <= number < count:
        raise BadInputError(f"There are {count} {kind}s, 0 to {count - 1}. Received {index!r}.")
    return number % count


def sample_index(index: object, count: int) -> slice | Array:
    """Return a slice or an array of numbers from what stands in ``e[...]``; a single number keeps the axis.

    Args:
        index: a whole number, a slice, an array or list of whole numbers, or of `count` truth values.
        count: number of samples.

    Raises:
        BadInputError: it is none of these, or names a sample that is not there.
    """
    if isinstance(index, slice):
        return index
    array = np.asarray(index)
    if array.ndim == 0 and array.dtype.kind in "iu":
        number = position(SAMPLE, int(array), count)
        return slice(number, number + 1)
    if array.ndim == 1 and array.dtype == bool:
        if len(array) != count:
            raise BadInputError(f"A mask needs one truth value per sample: {count}. Received {len(array)}.")
        return np.flatnonzero(array)
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
        return np.array([position(SAMPLE, number, count) for number in array.tolist()], dtype=np.int64)
    raise BadInputError(
        "Samples are chosen along one axis by a number, a slice, whole numbers or a mask: e[3], e[2:5]. "
        f"Received {index!r:.60}. Use .profile, .rows() or .values for other axes."
    )


def taken_attrs(attrs: dict[str, Any], index: slice | Array, count: int) -> dict[str, Any]:
    """Choose samples from those attributes that hold one number per sample.

    Args:
        attrs: the attributes of an explanation.
        index: as `sample_index` gives it.
        count: number of samples.
    """

    def taken(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != count:
            return value
        return value[index] if isinstance(index, slice) else [value[i] for i in index.tolist()]

    chosen = {name: taken(value) if name in PER_SAMPLE else value for name, value in attrs.items()}
    baseline = attrs.get("baseline")
    if isinstance(baseline, Mapping) and "output" in baseline:
        chosen["baseline"] = {**baseline, "output": taken(baseline["output"])}
    return chosen
