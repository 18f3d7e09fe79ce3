"""How a model takes its inputs: names, shapes, dtypes, and the structure they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerascope.errors import BadInputError


@dataclass(frozen=True)
class InputSpec:
    """One input of a model: its name, its shape without the batch axis (None: any size), its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """How a model takes its inputs: their specs in flat order, and the structure they come in."""

    specs: tuple[InputSpec, ...]
    structure: Any
    """None for a bare array; else lists and dicts as the model takes them, with numbers as leaves."""

    def pack(self, flat: Sequence[Any]) -> Any:
        """Return a flat list of inputs in the structure the model takes."""
        if self.structure is None:
            return flat[0]
        return keras.tree.map_structure(lambda number: flat[number], self.structure)

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names."""
        return tuple(spec.name for spec in self.specs)

    def flatten(self, x: Any) -> list[Any]:
        """Return the user's inputs as a flat list in the model's order.

        Raises:
            BadInputError: if the structure is not the model's.
        """
        if len(self.specs) == 1:
            return [_alone(x)]
        if isinstance(x, dict):
            return self._flatten_dict(x)
        if isinstance(x, (list, tuple)) and len(x) == len(self.specs):
            return list(x)
        came = f"{type(x).__name__}" + (f" of {len(x)}" if isinstance(x, (list, tuple)) else "")
        raise BadInputError(
            f"The model takes {len(self.specs)} inputs ({', '.join(self.names)}) as a list or dict; got {came}."
        )

    def _flatten_dict(self, x: dict[str, Any]) -> list[Any]:
        named = isinstance(self.structure, dict)
        keys = list(self.structure) if named else list(self.names)
        if set(keys) != set(x):
            raise BadInputError(f"The model takes inputs {keys}; got {sorted(map(str, x))}.")
        if not named:
            return [x[key] for key in keys]
        flat: list[Any] = [None] * len(self.specs)
        for key in keys:
            _fill(flat, self.structure[key], x[key], key)
        return flat

    def restore(self, flat: Sequence[Any], like: Any) -> Any:
        """Return per-input results in the structure the user's inputs came in."""
        if len(self.specs) == 1:
            return flat[0]
        if isinstance(like, dict):
            return self.pack(flat) if isinstance(self.structure, dict) else dict(zip(self.names, flat, strict=True))
        return list(flat)

    def output_names(self, model: Any, count: int) -> list[str]:
        """Return one name per model output."""
        names = list(getattr(model, "output_names", None) or [])
        if not names and count == 1 and isinstance(model, keras.Sequential):
            names = [model.layers[-1].name]
        return names if len(names) == count else [f"output_{i}" for i in range(count)]


def signature_of(model: keras.Model, x: Any) -> Signature:
    """Find out how a model takes its inputs: from the model where it says so, else from the inputs given.

    Raises:
        BadInputError: if the model has not been built.
    """
    declared = getattr(model, "inputs", None)
    if declared:
        return _signature_declared(model, list(declared))
    if not model.built:
        raise BadInputError(
            f"Model {model.name!r} has not been built: its weights do not exist yet. Call it once on a batch of "
            "samples, or load its weights."
        )
    return _signature_of_subclassed(model, x)


def _signature_declared(model: keras.Model, declared: list[Any]) -> Signature:
    specs = tuple(InputSpec(t.name, tuple(t.shape[1:]), str(t.dtype)) for t in declared)
    struct = getattr(model, "input", None)
    if not isinstance(struct, (dict, list, tuple)):
        if len(specs) == 1:
            return Signature(specs, None)
        struct = declared
    numbers = {id(tensor): i for i, tensor in enumerate(declared)}
    structure = keras.tree.map_structure(lambda tensor: numbers[id(tensor)], struct)
    if isinstance(structure, dict):
        named = {number: str(key) for key, number in structure.items() if isinstance(number, int)}
        specs = tuple(replace(spec, name=named.get(i, spec.name)) for i, spec in enumerate(specs))
    return Signature(specs, structure)


def _alone(x: Any) -> Any:
    """Return the one array in whatever the user packed it into."""
    if isinstance(x, dict) and len(x) == 1:
        return next(iter(x.values()))
    return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape") else x


def _fill(flat: list[Any], numbers: Any, x: Any, name: str) -> None:
    """Put the arrays of one (possibly nested) input where their numbers say."""
    if isinstance(numbers, int):
        flat[numbers] = x
        return
    keys = list(numbers) if isinstance(numbers, dict) else list(range(len(numbers)))
    if not isinstance(x, (dict, list, tuple)) or len(x) != len(keys):
        raise BadInputError(f"Input {name!r} of the model is made of {len(keys)} arrays; got {type(x).__name__}.")
    for key in keys:
        _fill(flat, numbers[key], x[key], f"{name}/{key}")


def _signature_of_subclassed(model: keras.Model, x: Any) -> Signature:
    if isinstance(x, dict):
        names = list(x)
        arrays = [x[name] for name in names]
        structure: Any = {name: i for i, name in enumerate(names)}
    elif isinstance(x, (list, tuple)) and x and all(hasattr(part, "shape") for part in x):
        names = [f"input_{i}" for i in range(len(x))]
        arrays, structure = list(x), list(range(len(x)))
    else:
        config = model.get_build_config() or {}
        shape = config.get("input_shape")
        if isinstance(shape, (list, tuple)) and all(size is None or isinstance(size, int) for size in shape):
            return Signature((InputSpec("input", tuple(shape[1:]), keras.config.floatx()),), None)
        names, arrays, structure = ["input"], [x], None
    specs = []
    for name, array in zip(names, arrays, strict=True):
        kind = np.asarray(array[:1]).dtype
        dtype = str(kind) if kind.kind in "iu" else keras.config.floatx()
        specs.append(InputSpec(str(name), tuple(np.shape(array)[1:]), dtype))
    return Signature(tuple(specs), structure)
