"""From a Keras model to a graph of primitive operations that computes the same numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from kerascope.model import trace
from kerascope.model.call import Call, is_float
from kerascope.model.graph import Graph, Node
from kerascope.model.layers import Chain, converter_of, opaque
from kerascope.model.operations import OPERATIONS
from kerascope.model.primitives import Activation, Affine, Opaque, Route


@dataclass(frozen=True)
class Traced:
    """A model's graph, with what decides how far it can be trusted.

    ``opaque`` names the layers that could not be looked into. ``plain``: only Keras' own layers and
    elementwise operations were met, whose work cannot depend on the batch size. ``output_names``: the keys of
    the outputs, where the model returns a dict.
    """

    graph: Graph
    opaque: tuple[str, ...]
    plain: bool
    output_names: tuple[str, ...] | None = None


def to_graph(
    model: Any,
    struct: Sequence[tuple[tuple[int | None, ...], str, str]],
    pack: Callable[..., Any],
    batch: int | None = None,
) -> Traced:
    """Trace a model and take its layers apart.

    Args:
        model: a built Keras model; it is left as it was.
        struct: per input, its shape without the batch axis, its dtype and its name.
        pack: turns the flat list of inputs into what the model takes.
        batch: the batch size to trace at; None leaves it open.

    Returns:
        The graph, with one output tensor per model output (flattened) and fused activations split off.

    Raises:
        TraceError: if the model cannot be run on symbolic inputs at all.
    """
    recording = trace.record(model, list(struct), lambda layer: converter_of(layer) is not None, pack, batch)
    builder = _Builder(recording, precision(model))
    for record in recording.records:
        builder.add(record)
    plain = not recording.opaque and all(map(trace.is_container, recording.looked_into))
    names = _keys(recording.outputs)
    return Traced(builder.graph(), tuple(recording.opaque), plain and not builder.shaped, names)


def _keys(outputs: Any) -> tuple[str, ...] | None:
    """Return the keys of a dict of tensors, in the order in which Keras lays them flat."""
    if not isinstance(outputs, dict) or not all(isinstance(v, keras.KerasTensor) for v in outputs.values()):
        return None
    keys = {id(tensor): str(key) for key, tensor in outputs.items()}
    return tuple(keys[id(tensor)] for tensor in keras.tree.flatten(outputs)) if len(keys) == len(outputs) else None


def precision(model: Any) -> str:
    """Return the precision in which attributions of the model are computed: float64 or float32."""
    dtypes = {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights}
    return "float64" if "float64" in (dtypes or {model.compute_dtype}) else "float32"


class _Builder:
    """Collects nodes while the recorded calls are converted one after the other."""

    def __init__(self, recording: trace.Recording, dtype: str) -> None:
        self.recording = recording
        self.dtype = dtype
        self.numbers: dict[int, int] = {}
        self.shapes: dict[int, tuple[int | None, ...]] = {}
        self.nodes: list[Node] = []
        self.names: dict[str, int] = {}
        self.split: list[str] = []
        self.half = False
        self.shaped = False
        self.inputs = tuple(self._number(tensor) for tensor in recording.inputs)

    def _number(self, tensor: Any, alias: int | None = None) -> int:
        number = len(self.shapes) if alias is None else alias
        self.numbers[id(tensor)] = number
        if alias is None:
            self.shapes[number] = (None, *tensor.shape[1:])
        return number

    def _fresh(self, shape: tuple[int | None, ...]) -> int:
        number = len(self.shapes)
        self.shapes[number] = shape
        return number

    def _name(self, base: str) -> str:
        count = self.names.get(base, 0)
        self.names[base] = count + 1
        return base if count == 0 else f"{base}:{count + 1}"

    def add(self, record: trace.Record) -> None:
        """Convert one recorded call and append its nodes."""
        leaves = keras.tree.flatten((record.args, record.kwargs))
        tensors = tuple(self.numbers[id(leaf)] for leaf in leaves if isinstance(leaf, keras.KerasTensor))
        outputs = [leaf for leaf in keras.tree.flatten(record.outputs) if leaf is not None]
        self.half = self.half or any(str(tensor.dtype) in _HALF for tensor in outputs)
        chain = _convert(Call(record, tensors, self.dtype))
        self._watch_shapes(record, chain)
        if not chain:
            self._number(outputs[0], alias=tensors[0])
            return
        if isinstance(chain[0], (Affine, Activation)):
            tensors = tensors[:1]  # others are masks, which play no part in it
        base, source = _base_name(record), _source(record, chain)
        name, current = self._name(base), tensors
        for primitive, following in itertools.pairwise(chain):
            # Not so in the middle of a separable convolution; shapes are measured later on.
            middle = self._fresh((None, *outputs[0].shape[1:]))
            self.nodes.append(Node(name, primitive, current, (middle,), source))
            name, current = self._name(f"{base}/{following.label}"), (middle,)
        if len(chain) > 1 and isinstance(record.op, keras.layers.Layer):
            self.split.append(f"{base}: {' + '.join(link.label for link in chain)}")
        results = tuple(self._number(tensor) for tensor in outputs)
        self.nodes.append(Node(name, chain[-1], current, results, source))

    def _watch_shapes(self, record: trace.Record, chain: Chain) -> None:
        """Note an operation, outside Keras' own layers, that may have been told a batch size."""
        free = isinstance(record.op, keras.layers.Layer) or not chain
        self.shaped = self.shaped or not (free or not isinstance(chain[0], (Route, Opaque)))

    def graph(self) -> Graph:
        """Return what has been collected, without what the outputs do not need."""
        recording = self.recording
        tensors = [leaf for leaf in keras.tree.flatten(recording.outputs) if leaf is not None]
        outputs = tuple(self.numbers[id(tensor)] for tensor in tensors)
        graph = Graph(
            inputs=self.inputs,
            outputs=outputs,
            nodes=tuple(self.nodes),
            shapes=self.shapes,
            split=tuple(self.split),
            half=self.half,
            notes=tuple(f"not looked into: {reason}" for reason in recording.opaque),
        ).restrict(outputs)
        made = {*self.inputs, *graph.producers()}
        layers: dict[str, list[int]] = {}
        for name, tensors in recording.returned:
            numbers = [self.numbers[id(tensor)] for tensor in tensors if id(tensor) in self.numbers]
            layers.setdefault(name, []).extend(number for number in numbers if number in made)
        kept = {name: tuple(dict.fromkeys(numbers)) for name, numbers in layers.items() if numbers}
        return replace(graph, layers=kept)


_HALF = frozenset({"float16", "bfloat16"})


def _convert(call: Call) -> Chain:
    """Return what a call is made of; what works on whole numbers or truth values has no rule."""
    if isinstance(call.op, keras.layers.Layer):
        convert = converter_of(call.op)
    else:
        own = type(call.op).__module__.startswith("keras.")
        convert = OPERATIONS.get(call.label) if own else None
    chain = (convert or opaque)(call)
    layer = isinstance(call.op, keras.layers.Layer)
    if not chain or isinstance(chain[0], Opaque) or (layer and isinstance(chain[0], Affine)):
        return chain  # a Rescaling or Normalization turns whole numbers into others
    tensors = [leaf for leaf in (*call.leaves, call.out) if isinstance(leaf, keras.KerasTensor)]
    return chain if all(map(is_float, tensors)) else opaque(call)


_WORDS = re.compile("(?<=[a-z0-9])(?=[A-Z])")


def _base_name(record: trace.Record) -> str:
    """Return a node's name, which does not depend on how many operations were made before."""
    if isinstance(record.op, keras.layers.Layer):
        return str(record.op.name)
    name = "ops." + _WORDS.sub("_", type(record.op).__name__.replace("ReLU", "Relu")).lower()
    return name if record.within is None else f"{record.within.name}/{name}"


def _source(record: trace.Record, chain: Chain) -> type:
    """Return the class a node is made from: for a kernel in a layer with a call of its own, that layer's."""
    inside = record.within is not None and not isinstance(record.op, keras.layers.Layer)
    return type(record.within) if inside and isinstance(chain[0], Affine) else type(record.op)
