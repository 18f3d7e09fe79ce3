"""An explanation's arrays under names: the fields of the record as an `xarray.Dataset`, and back, lazily."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.errors import BadInputError
from kerascope.record import SAMPLE, TARGET, VARIABLES, Array, Arrays, joined, kind_of, parts
from kerascope.store import MARKS, from_json, to_json

if TYPE_CHECKING:
    import xarray as xr

RECORD = "kerascope_record"
"""The attribute that holds what is neither an array nor an attribute of the record."""


# Record to dataset --------------------------------------------------------------------


def to_dataset(record: Mapping[str, Any]) -> xr.Dataset:
    """Name the arrays of a record and their axes; the arrays are not copied.

    Args:
        record: the fields of an `Explanation`, `method` being its text.

    Returns:
        Variables as in `VARIABLES` (``attribution_<input>`` with several inputs, ``output_<head>`` with
        several heads), dims ``sample[, target]`` and then the user's. With an axis of targets the class
        indices are `target_class`. Attributes that are not plain text or numbers are JSON.
    """
    import xarray as xr

    found: dict[str, tuple[tuple[str, ...], Array]] = {}
    fields: dict[str, dict[str, Any]] = {}
    for field, variable in VARIABLES.items():
        arrays = record[field]
        if arrays is None or (field == "target" and not isinstance(arrays, np.ndarray)):
            continue
        named = _named(field, variable, arrays, record)
        found |= {name: (dims, array) for name, dims, array in named.values()}
        fields[field] = {
            "kind": kind_of(arrays),
            "parts": {part: name for part, (name, _, _) in named.items()},
        }
    sizes = {dim: size for dims, array in found.values() for dim, size in zip(dims, array.shape, strict=True)}
    coords = {dim: _indexable(labels) for dim, labels in record["coords"].items()}
    labels = {dim: (dim, array) for dim, array in coords.items() if sizes.get(dim) == len(array)}
    classes = record["class_names"]
    if classes and sizes.get("class") == len(classes) and not _is_users("class", record):
        labels["class"] = ("class", np.array(classes))
    attrs = _attributes(record, fields, {name: array.dtype.str for name, (_, array) in found.items()})
    return xr.Dataset(found, coords=labels, attrs=attrs)


def _named(
    field: str, variable: str, arrays: Arrays, record: Mapping[str, Any]
) -> dict[str, tuple[str, tuple[str, ...], Array]]:
    """Return for each array of a field its part of the structure: variable name, dims, array."""
    lead = (SAMPLE, TARGET)[: record["explained"].ndim]
    inputs = input_dims(record)
    if field == "target" and len(lead) == 2:
        variable = "target_class"  # xarray does not let a variable of two axes have the name of one of them
    several = parts(arrays, None if field == "outputs" else tuple(inputs))
    words = _words(several)
    named = {}
    for part, array in several.items():
        name = f"{variable}_{words[part]}" if part else variable
        rest = array.ndim - len(lead)
        if field in ("values", "standard_error"):
            dims = lead + inputs[part]
        elif field in ("inputs", "baseline"):
            dims = (SAMPLE if field == "inputs" else _own("reference", record), *inputs[part])
        elif field == "outputs":
            dims = (SAMPLE, *_output_dims(words[part], array.ndim - 1, record))
        elif field == "layer_map":
            dims = lead + tuple(_own(f"layer_axis_{i}", record) for i in range(rest))
        else:
            dims = lead + (_own("group", record),) * rest
        named[part] = (name, dims, array)
    return named


def input_dims(record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the dims of each input as the dataset has them.

    Where two inputs have different sizes along an axis of the same name, it is ``<axis>_<input>`` for each.
    """
    if not isinstance(record["dims"], dict):
        return {"": record["dims"]}
    sizes: dict[str, set[int]] = {}
    for part, array in parts(record["inputs"], tuple(record["dims"])).items():
        for dim, size in zip(record["dims"][part], array.shape[1:], strict=True):
            sizes.setdefault(dim, set()).add(size)
    words = _words(record["dims"])

    def own(part: str, dim: str) -> str:
        name = dim if len(sizes[dim]) == 1 else f"{dim}_{words[part]}"
        while name != dim and name in sizes:
            name += "_"
        return name

    return {part: tuple(own(part, dim) for dim in dims) for part, dims in record["dims"].items()}


def _output_dims(word: str, count: int, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the axes of an output after the sample's: the last one holds the classes."""
    suffix = f"_{word}" if word else ""
    names = [f"output_axis_{i}{suffix}" for i in range(count - 1)] + [f"class{suffix}"][:count]
    return tuple(_own(name, record) for name in names)


def _words(names: Iterable[str]) -> dict[str, str]:
    """Return for each input or head a word of its own that may stand in the name of a variable."""
    words: dict[str, str] = {}
    for name in names:
        word = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        while word in words.values():
            word += "_"
        words[name] = word
    return words


def _is_users(name: str, record: Mapping[str, Any]) -> bool:
    return any(name in dims for dims in input_dims(record).values())


def _own(name: str, record: Mapping[str, Any]) -> str:
    """Return a name for an axis that no axis of a sample has."""
    while _is_users(name, record):
        name += "_"
    return name


def _indexable(labels: Array) -> Array:
    """Return labels as pandas can index them; what they were is recorded and comes back when opened."""
    kind = labels.dtype.kind
    if kind in "Mm":
        fine = np.datetime_data(labels.dtype)[0] in ("s", "ms", "us", "ns") and np.datetime_data(labels.dtype)[1] == 1
        return labels if fine else labels.astype(f"{kind}8[s]")
    if labels.dtype == np.float16:
        return labels.astype(np.float32)
    return labels.astype(labels.dtype.newbyteorder("="))


def _attributes(record: Mapping[str, Any], fields: dict[str, Any], dtypes: dict[str, str]) -> dict[str, Any]:
    """Return the record's attributes, nested ones as JSON, and what else a record needs."""
    attrs: dict[str, Any] = {}
    nested = []
    for name, value in record["attrs"].items():
        if name in (*MARKS, RECORD):
            raise BadInputError(f"The attribute name {name!r} is kerascope's own. Choose another name.")
        plain = isinstance(value, str | int) or (isinstance(value, float) and np.isfinite(value))
        if not plain or isinstance(value, bool | np.generic):
            nested.append(name)
            value = to_json(value)
        attrs[name] = value
    target = record["target"]
    attrs[RECORD] = to_json(
        {
            "kind": "Explanation",
            "fields": fields,
            "dtypes": dtypes,
            "dims": record["dims"],
            "coords": {dim: labels.dtype.str for dim, labels in record["coords"].items()},
            "class_names": record["class_names"],
            "warnings": record["warnings"],
            "method": record["method"],
            "target": None if isinstance(target, np.ndarray) else str(target),
            "json": nested,
        }
    )
    return attrs


# Dataset to record --------------------------------------------------------------------


@dataclass(frozen=True)
class Pending:
    """Arrays of one field that lie in a store: read when first asked for.

    Args:
        parts: by part of the structure, the variable and the dtype it had.
        kind: "array", "dict", "list" or "tuple".
        check: called before reading; raises if the store is not the one that was opened.
    """

    parts: dict[str, tuple[xr.DataArray, str]]
    kind: str
    check: Callable[[], None]

    def load(self) -> Arrays:
        """Read the arrays."""
        self.check()
        found = {
            part: np.asarray(array.values).astype(dtype, copy=False) for part, (array, dtype) in self.parts.items()
        }
        return joined(self.kind, found)

    def take(self, index: slice | Array) -> Pending:
        """Choose samples without reading them."""
        chosen = {
            part: (array.isel({SAMPLE: index}) if SAMPLE in array.dims else array, dtype)
            for part, (array, dtype) in self.parts.items()
        }
        return replace(self, parts=chosen)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array."""
        return {part: array.shape for part, (array, _) in self.parts.items()}


def from_dataset(dataset: xr.Dataset, check: Callable[[], None]) -> tuple[dict[str, Any], dict[str, Pending]]:
    """Take a dataset apart into the fields of a record.

    Args:
        dataset: as `kerascope.store.read` opens it, undecoded.
        check: handed to every `Pending`.

    Returns:
        The small fields, and the arrays that are still to be read. A field in neither is absent (None).

    Raises:
        BadInputError: the dataset does not hold an explanation.
    """
    attrs = dict(dataset.attrs)
    try:
        kept = from_json(attrs.pop(RECORD))
        if kept["kind"] != "Explanation":
            raise BadInputError(f"The store holds a saved {kept['kind']}, not an Explanation.")
        for name in kept["json"]:
            attrs[name] = from_json(attrs[name])
        pending = {
            field: Pending(
                {part: (dataset[name], kept["dtypes"][name]) for part, name in found["parts"].items()},
                found["kind"],
                check,
            )
            for field, found in kept["fields"].items()
        }
        coords = {dim: _labels(dataset[dim], dtype) for dim, dtype in kept["coords"].items()}
        small = {name: kept[name] for name in ("dims", "class_names", "warnings", "method")}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"The store holds no explanation that can be read ({error!r}). Save the result again."
        ) from error
    if "target" not in pending:
        small["target"] = kept["target"]
    return small | {"coords": coords, "attrs": attrs}, pending


def _labels(stored: xr.DataArray, dtype: str) -> Array:
    """Return the labels of an axis with the dtype they had."""
    labels = np.asarray(stored.values)
    if np.dtype(dtype).kind not in "Mm":
        return labels.astype(dtype)
    unit = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
    stamped: Array = labels.astype(np.int64).view(f"{np.dtype(dtype).kind}8[{unit[stored.attrs['units'].split()[0]]}]")
    return stamped.astype(dtype)


@dataclass(frozen=True)
class Later:
    """A value without samples that is made when first asked for."""

    load: Callable[[], Any]

    def take(self, index: slice | Array) -> Later:
        """Return itself, whatever samples are chosen."""
        return self
