"""A model as methods see it: its inputs, its heads and its graph, checked against the model itself."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, BadTargetError, TraceError, unknown_name
from kerascope.model.canonize import Check, canonize, relative_deviation, take_off_head
from kerascope.model.convert import precision, to_graph
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Tensor
from kerascope.model.trace import exact

_HALF = frozenset({"float16", "bfloat16"})
_TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
_HALF_TOLERANCE = 5e-2


@dataclass(frozen=True)
class InputSpec:
    """One input of a model: its name, its shape without the batch axis (None: any size), its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Head:
    """One output of a model.

    ``logits`` and ``final`` name the tensors before and after what was taken off (``taken_off``).
    """

    name: str
    logits: int
    final: int
    taken_off: str | None
    shape: tuple[int | None, ...]


class ModelView:
    """A built model with its traced and canonized graph.

    Args:
        model: a built Keras model.
        signature: how the model takes its inputs, see `Signature`.
        sample: one array per input with at least one real sample: what the graph is checked on.

    Raises:
        TraceError: if the graph does not compute what the model computes.
    """

    def __init__(self, model: keras.Model, signature: Signature, sample: Sequence[np.ndarray]) -> None:
        self.model = model
        self.signature = signature
        self.dtype = precision(model)
        self._sample = tuple(_rows(array, 2) for array in sample)
        self._tensors = self.to_tensors(self._sample)
        struct = [(_concrete(spec, array), spec.dtype, spec.name) for spec, array in self._specs()]
        with exact(self.dtype):
            graph = to_graph(model, struct, signature.pack)
            self.traced, self._values = _measure_shapes(graph, self._tensors)
            self._verify()
            self.graph, self.heads = self._canonical()
        self.fingerprint = fingerprint(model)

    def _specs(self) -> list[tuple[InputSpec, np.ndarray]]:
        return list(zip(self.signature.specs, self._sample, strict=True))

    def to_tensors(self, arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        """Return NumPy inputs as tensors: floats in the view's precision, integers as the model takes them."""
        return tuple(
            ops.convert_to_tensor(array, dtype=self.dtype if keras.backend.is_float_dtype(spec.dtype) else spec.dtype)
            for spec, array in zip(self.signature.specs, arrays, strict=True)
        )

    @property
    def tolerance(self) -> float:
        """How far the graph may be from the model, relative to the largest output."""
        half = any(getattr(layer, "compute_dtype", None) in _HALF for layer in self.model._flatten_layers())
        return _HALF_TOLERANCE if half else _TOLERANCE[self.dtype]

    def predict_raw(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the model's own outputs (flat) for a small batch."""
        tensors = [ops.convert_to_tensor(a, dtype=s.dtype) for s, a in zip(self.signature.specs, arrays, strict=True)]
        packed = self.signature.pack(tensors)
        with backend.inference():
            try:
                outputs = self.model(packed, training=False)
            except TypeError:
                outputs = self.model(packed)
        return [backend.to_numpy(ops.cast(tensor, self.dtype)) for tensor in keras.tree.flatten(outputs)]

    def _verify(self) -> None:
        """Compare the graph with the model on real inputs, at two batch sizes."""
        whole = [backend.to_numpy(self._values[i]) for i in self.traced.outputs]
        with backend.inference():
            single = [backend.to_numpy(t) for t in self.traced(*(tensor[:1] for tensor in self._tensors))]
        for size, found in ((2, whole), (1, single)):
            expected = self.predict_raw([array[:size] for array in self._sample])
            if len(expected) != len(found):
                raise TraceError(f"Model {self.model.name!r} has {len(expected)} outputs, its graph {len(found)}.")
            deviation = max(relative_deviation(a, b) for a, b in zip(found, expected, strict=True))
            if not deviation <= self.tolerance:
                raise TraceError(
                    f"The graph of model {self.model.name!r} differs from the model by {deviation:.1e} of its largest "
                    f"output at batch size {size} (allowed: {self.tolerance:.0e}). Its call may depend on values, on "
                    "the batch size or on chance, which no graph can follow. Move that part into a Keras layer, or "
                    "explain a sub-model."
                )

    def _canonical(self) -> tuple[Graph, tuple[Head, ...]]:
        names = self.signature.output_names(self.model, len(self.traced.outputs))
        graph, heads, notes = self.traced, [], []
        for name, final in zip(names, self.traced.outputs, strict=True):
            graph, logits, taken = take_off_head(graph, final)
            heads.append(Head(name, logits, final, taken, self.traced.shapes[final]))
            if taken:
                notes.append(f"{taken} of output {name}")
        self.unfolded = replace(graph, taken_off=tuple(notes), outputs=tuple(head.logits for head in heads))
        return self.canonical(self.unfolded, keep=tuple(head.final for head in heads)), tuple(heads)

    def canonical(self, graph: Graph, keep: tuple[int, ...] = ()) -> Graph:
        """Canonize a graph, so that its outputs and the tensors to keep can still be computed."""
        wanted = tuple(dict.fromkeys((*graph.outputs, *keep)))
        graph = graph.restrict(wanted)
        with exact(self.dtype):
            with backend.inference():
                outputs = tuple(backend.to_numpy(tensor) for tensor in graph(*self._tensors))
            return canonize(graph, Check(self._tensors, outputs, _TOLERANCE[self.dtype]))

    @functools.cached_property
    def logits(self) -> Graph:
        """The canonized graph up to the logits of every head."""
        return self.graph.restrict(tuple(head.logits for head in self.heads))

    def head(self, name: str | int | None) -> Head:
        """Return the head of that name or number; the only one where no name is given."""
        names = [head.name for head in self.heads]
        if name is None:
            if len(self.heads) > 1:
                raise BadTargetError(
                    f"The model has {len(names)} outputs: {', '.join(names)}. Say which is meant, "
                    f"e.g. target=ks.Class(0, output={names[0]!r})."
                )
            return self.heads[0]
        if isinstance(name, int) and 0 <= name < len(names):
            return self.heads[name]
        if name not in names:
            raise BadTargetError(str(unknown_name("output", name, names)))
        return self.heads[names.index(str(name))]

    def finish(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return what the model returns, from the logits of its heads."""
        finals = replace(self.graph, outputs=tuple(head.final for head in self.heads))
        return list(finals.run_from({head.logits: z for head, z in zip(self.heads, logits, strict=True)}))

    @property
    def channels_first(self) -> bool:
        """Whether the model's convolutions hold channels on the axis after the batch."""
        return any(
            node.op.form in ("conv", "depthwise", "transpose") and node.op.channel_axis == 1 and len(self.traced.shapes[node.outputs[0]]) > 2
            for node in self.traced
            if isinstance(node.op, Affine)
        )

    def keeping(self, tensor: int) -> Graph:
        """Return the graph to the logits, canonized so that a tensor of the traced graph is still in it."""
        outputs = tuple(head.logits for head in self.heads)
        if any(tensor in node.outputs for node in self.logits):
            return self.logits
        return self.canonical(replace(self.unfolded, outputs=outputs), keep=(tensor,))

    def at_layer(self, layer: str) -> Graph:
        """Return the canonized graph that ends in what a layer returns.

        Raises:
            BadTargetError: if there is no such layer, or it is called more than once.
        """
        if layer not in self.traced.layers:
            raise BadTargetError(str(unknown_name("layer", layer, self.traced.layers)))
        tensors = self.traced.layers[layer]
        if len(tensors) != 1:
            raise BadTargetError(
                f"Layer {layer!r} is called {len(tensors)} times (or returns that many tensors): which is meant "
                "is not clear. Name a layer before or after it that is called once."
            )
        return self.canonical(replace(self.traced, outputs=tensors))


@dataclass(frozen=True)
class Signature:
    """How a model takes its inputs: their specs in flat order, and the structure they come in."""

    specs: tuple[InputSpec, ...]
    structure: Any
    """None for a single input; else a list or dict with the inputs' numbers as leaves."""

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
        if self.structure is None:
            if isinstance(x, dict) and len(x) == 1:
                return list(x.values())
            if isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape"):
                return [x[0]]
            return [x]
        if isinstance(x, dict):
            keys = list(self.structure) if isinstance(self.structure, dict) else list(self.names)
            if set(keys) != set(x):
                raise BadInputError(f"The model takes inputs {keys}; got {sorted(map(str, x))}.")
            ordered = [x[key] for key in keys]
            if isinstance(self.structure, dict):
                flat: list[Any] = [None] * len(keys)
                for key, value in zip(keys, ordered, strict=True):
                    flat[self.structure[key]] = value
                return flat
            return ordered
        if isinstance(x, (list, tuple)) and len(x) == len(self.specs):
            return list(x)
        came = f"{type(x).__name__}" + (f" of {len(x)}" if isinstance(x, (list, tuple)) else "")
        raise BadInputError(
            f"The model takes {len(self.specs)} inputs ({', '.join(self.names)}) as a list or dict; got {came}."
        )

    def restore(self, flat: Sequence[Any], like: Any) -> Any:
        """Return per-input results in the structure the user's inputs came in."""
        if self.structure is None:
            return flat[0]
        if isinstance(like, dict):
            return dict(zip(self.names, flat, strict=True)) if not isinstance(self.structure, dict) else {
                key: flat[number] for key, number in self.structure.items()
            }
        return list(flat)

    def output_names(self, model: Any, count: int) -> list[str]:
        """Return one name per model output."""
        names = list(getattr(model, "output_names", None) or [])
        return names if len(names) == count else [f"output_{i}" for i in range(count)]


def signature_of(model: keras.Model, x: Any) -> Signature:
    """Find out how a model takes its inputs: from the model where it says so, else from the inputs given.

    Raises:
        BadInputError: if the model has not been built.
    """
    declared = getattr(model, "inputs", None)
    if declared:
        specs = tuple(InputSpec(t.name, tuple(t.shape[1:]), str(t.dtype)) for t in declared)
        if len(specs) == 1:
            return Signature(specs, None)
        struct = model.input if isinstance(getattr(model, "input", None), (dict, list, tuple)) else list(declared)
        numbers = {id(tensor): i for i, tensor in enumerate(declared)}
        structure = keras.tree.map_structure(lambda tensor: numbers[id(tensor)], struct)
        if isinstance(structure, dict):
            named = {number: key for key, number in structure.items()}
            specs = tuple(replace(spec, name=str(named[i])) for i, spec in enumerate(specs))
        return Signature(specs, structure)
    if not model.built:
        raise BadInputError(
            f"Model {model.name!r} has not been built: its weights do not exist yet. Call it once on a batch of "
            "samples, or load its weights."
        )
    return _signature_of_subclassed(model, x)


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


def _rows(array: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([array[:count]] * count)[:count] if len(array) < count else np.asarray(array[:count])


def _concrete(spec: InputSpec, array: np.ndarray) -> tuple[int, ...]:
    """Return the sample's shape where the model leaves sizes open."""
    return tuple(array.shape[1:])


def _measure_shapes(graph: Graph, tensors: Sequence[Tensor]) -> tuple[Graph, dict[int, Tensor]]:
    """Run every node once, and note the shapes that really occur."""
    values = dict(zip(graph.inputs, tensors, strict=True))
    with backend.inference():
        for node in graph:
            results = node.op(*(values[i] for i in node.inputs))
            results = tuple(results) if isinstance(results, (tuple, list)) else (results,)
            values.update(zip(node.outputs, results, strict=True))
    shapes = {i: (None, *tuple(value.shape)[1:]) for i, value in values.items()}
    kept = {i: values[i] for i in graph.outputs}
    return replace(graph, shapes={**graph.shapes, **shapes}), kept


def fingerprint(model: keras.Model) -> str:
    """Return a short hash of the model's architecture names and every bit of its weights."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(backend.to_numpy(backend.snapshot(weight)))
        digest.update(f"{weight.path}{array.shape}{array.dtype}".encode())
        digest.update(checksum(array))
    return digest.hexdigest()[:16]


def checksum(array: np.ndarray) -> bytes:
    """Return bytes that change when any element changes: the wrapping sum of all words, and a sample."""
    flat = array.reshape(-1).view(np.uint8)
    words = flat[: len(flat) // 8 * 8].view(np.uint64)
    total = int(np.add.reduce(words, dtype=np.uint64)) if len(words) else 0
    return total.to_bytes(8, "little") + flat[len(words) * 8 :].tobytes() + words[:: max(1, len(words) // 64)].tobytes()

