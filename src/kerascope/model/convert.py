"""From a Keras model to a graph of primitive operations that computes the same numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerascope.model import trace
from kerascope.model.call import Call
from kerascope.model.graph import Graph, Node
from kerascope.model.layers import Chain, converter_of, opaque
from kerascope.model.operations import OPERATIONS


def to_graph(model: Any, struct: Sequence[tuple[tuple[int | None, ...], str, str]], pack: Callable[..., Any]) -> Graph:
    """Trace a model and take its layers apart.

    Args:
        model: a built Keras model; it is left as it was.
        struct: per input, its shape without the batch axis, its dtype and its name.
        pack: turns the flat list of inputs into what the model takes.

    Returns:
        The graph, with one output tensor per model output (flattened) and fused activations split off.
    """
    recording = trace.record(model, list(struct), lambda layer: converter_of(layer) is not None, pack)
    builder = _Builder(recording, precision(model))
    for record in recording.records:
        builder.add(record)
    return builder.graph()


def precision(model: Any) -> str:
    """Return the precision in which attributions of the model are computed: float64 or float32."""
    dtypes = {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights}
    return "float64" if "float64" in dtypes else "float32"


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
        self.inputs = tuple(self._number(tensor) for tensor in recording.inputs)

    def _number(self, tensor: Any, alias: int | None = None) -> int:
        number = len(self.shapes) if alias is None else alias
        self.numbers[id(tensor)] = number
        if alias is None:
            self.shapes[number] = tuple(tensor.shape)
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
        leaves = keras.tree.flatten((record.args, record.kwargs))
        tensors = tuple(self.numbers[id(leaf)] for leaf in leaves if isinstance(leaf, keras.KerasTensor))
        call = Call(record, tensors, self.dtype)
        outputs = keras.tree.flatten(record.outputs)
        chain = self._convert(call)
        if not chain:
            self._number(outputs[0], alias=tensors[0])
            return
        layer = isinstance(record.op, keras.layers.Layer)
        base = record.op.name if layer else _operation_name(record.op)
        name, current = self._name(base), tensors
        for primitive, following in itertools.pairwise(chain):
            # The shape between the links is that of the output but for a separable convolution's middle.
            middle = self._fresh(tuple(outputs[0].shape))
            self.nodes.append(Node(name, primitive, current, (middle,), type(record.op)))
            name, current = self._name(f"{base}/{following.label}"), (middle,)
        if len(chain) > 1 and layer:
            self.split.append(f"{base}: {' + '.join(link.label for link in chain)}")
        results = tuple(self._number(tensor) for tensor in outputs)
        self.nodes.append(Node(name, chain[-1], current, results, type(record.op)))

    def _convert(self, call: Call) -> Chain:
        if isinstance(call.op, keras.layers.Layer):
            convert = converter_of(call.op)
        else:
            convert = OPERATIONS.get(call.label)
        return (convert or opaque)(call)

    def graph(self) -> Graph:
        layers = {
            name: tuple(dict.fromkeys(self.numbers[id(tensor)] for tensor in tensors if id(tensor) in self.numbers))
            for name, tensors in self.recording.layer_outputs.items()
        }
        outputs = tuple(self.numbers[id(tensor)] for tensor in keras.tree.flatten(self.recording.outputs))
        graph = Graph(
            inputs=self.inputs,
            outputs=outputs,
            nodes=tuple(self.nodes),
            shapes=self.shapes,
            layers=layers,
            split=tuple(self.split),
            notes=tuple(f"not looked into: {reason}" for reason in self.recording.opaque),
        )
        return graph.restrict(graph.outputs)


def _operation_name(op: Any) -> str:
    """Return a name for an operation that does not depend on how many were made before."""
    return "ops." + "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(type(op).__name__))
