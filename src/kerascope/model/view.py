"""A model as methods see it: its inputs, its heads and its graph, checked against the model itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, BadTargetError, TraceError, unknown_name
from kerascope.model import trace
from kerascope.model.canonize import Check, canonize, evaluate, relative_deviation, take_off_head
from kerascope.model.convert import Traced, precision, to_graph
from kerascope.model.fingerprint import checksum, fingerprint
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Opaque, Tensor
from kerascope.model.signature import InputSpec, Signature, signature_of

__all__ = ["Head", "InputSpec", "ModelView", "Signature", "checksum", "fingerprint", "signature_of"]

_TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
_HALF_TOLERANCE = 5e-2
_ROWS = 2
"""The batch size a graph is checked at; what is not Keras' own is checked at others too."""


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
        BadInputError: if the model's outputs for the samples are not finite.
    """

    def __init__(self, model: keras.Model, signature: Signature, sample: Sequence[np.ndarray]) -> None:
        self.model = model
        self.signature = signature
        self.dtype = precision(model)
        self._sample = tuple(_rows(array, _ROWS) for array in sample)
        self._tensors = self.to_tensors(self._sample)
        self._plain = False
        self._expected: dict[int, list[np.ndarray]] = {}
        self.traced, self.heads, values = self._trace()
        taken = tuple(f"{head.taken_off} of output {head.name}" for head in self.heads if head.taken_off)
        self.unfolded = replace(
            self.traced, taken_off=taken, outputs=tuple(dict.fromkeys(i for h in self.heads for i in (h.logits, h.final)))
        )
        self.graph = self._canonize(self.unfolded, tuple(values[i] for i in self.unfolded.outputs))
        self.fingerprint = fingerprint(model)

    def to_tensors(self, arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        """Return NumPy inputs as tensors: floats in the view's precision, integers as the model takes them."""
        return tuple(
            ops.convert_to_tensor(array, dtype=self.dtype if keras.backend.is_float_dtype(spec.dtype) else spec.dtype)
            for spec, array in zip(self.signature.specs, arrays, strict=True)
        )

    def predict_raw(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the model's own outputs (flat) for a small batch."""
        tensors = [ops.convert_to_tensor(a, dtype=s.dtype) for a, s in zip(arrays, self.signature.specs, strict=True)]
        variables = self.model.variables

        def run(weights: Any, *inputs: Tensor) -> Any:
            state = list(zip(variables, weights, strict=True))
            with keras.StatelessScope(state, collect_losses=True):
                return trace.run(self.model, self.signature.pack(inputs))

        with backend.inference():
            if self._plain:
                outputs = backend.once(run, [backend.snapshot(variable) for variable in variables], *tensors)
            else:
                outputs = trace.run(self.model, self.signature.pack(tensors))
            return [backend.to_numpy(ops.cast(tensor, self.dtype)) for tensor in keras.tree.flatten(outputs)]

    def _trace(self) -> tuple[Graph, tuple[Head, ...], dict[int, np.ndarray]]:
        """Trace the model, with the batch size left open and, where that does not do, at a fixed one."""
        found, failures = [], []
        for batch, sizes in ((None, (_ROWS, 1)), (_ROWS, (_ROWS, 1, 5))):
            try:
                struct = [(array.shape[1:], s.dtype, s.name) for s, array in self._specs]
                traced = to_graph(self.model, struct, self.signature.pack, batch)
                self._plain = traced.plain
                found.append((len(traced.opaque), self._verified(traced, sizes)))
            except TraceError as error:
                failures.append(error)
                continue
            if not traced.opaque:
                break
        if not found:
            raise failures[0]
        return min(found, key=lambda entry: entry[0])[1]

    @property
    def _specs(self) -> list[tuple[InputSpec, np.ndarray]]:
        return list(zip(self.signature.specs, self._sample, strict=True))

    def _verified(
        self, traced: Traced, sizes: Sequence[int]
    ) -> tuple[Graph, tuple[Head, ...], dict[int, np.ndarray]]:
        """Compare a graph with the model on real inputs, at one batch size where only Keras' own code ran.

        Returns:
            The graph with the shapes that occur, its heads, and the values of logits and outputs.
        """
        for routes in (True, False):
            graph, heads = self._with_heads(traced.graph, routes=routes)
            graph, values = _measured(graph, heads, self._tensors)
            finals = [values[head.final] for head in heads]
            deviation = self._deviation(finals, _ROWS, graph)
            if deviation <= self._tolerance(graph) or all(h.final in traced.graph.outputs for h in heads):
                break
        self._accept(deviation, _ROWS, graph)
        for size in () if traced.plain else sizes[1:]:
            tensors = tuple(ops.take(tensor, _cycle(size), axis=0) for tensor in self._tensors)
            try:
                found = evaluate(graph, tensors)
            except Exception as error:  # a batch size that the trace has frozen may fail anyhow
                raise TraceError(self._disagrees(f"fails at batch size {size} ({error})")) from error
            self._accept(self._deviation(found, size, graph), size, graph)
        return graph, heads, values

    def _tolerance(self, graph: Graph) -> float:
        return _HALF_TOLERANCE if graph.half else _TOLERANCE[self.dtype]

    def _accept(self, deviation: float, size: int, graph: Graph) -> None:
        if not deviation <= self._tolerance(graph):
            raise TraceError(
                self._disagrees(
                    f"differs from the model by {deviation:.1e} of its largest output at batch size {size} "
                    f"(allowed: {self._tolerance(graph):.0e})"
                )
            )

    def _disagrees(self, how: str) -> str:
        return (
            f"The graph of model {self.model.name!r} {how}. Its call may depend on values, on the batch size or on "
            "chance, which no graph can follow. Move that part into a Keras layer, or explain a sub-model."
        )

    def _deviation(self, found: Sequence[np.ndarray], size: int, graph: Graph) -> float:
        expected = self._outputs(size)
        if len(expected) != len(found):
            raise TraceError(f"Model {self.model.name!r} has {len(expected)} outputs, its graph {len(found)}.")
        return max(relative_deviation(a, b) for a, b in zip(found, expected, strict=True))

    def _outputs(self, size: int) -> list[np.ndarray]:
        """Return the model's own outputs for the first samples, repeated up to that batch size."""
        if size not in self._expected:
            outputs = self.predict_raw([array[_cycle(size)] for array in self._sample])
            self._check_rows(outputs, size)
            self._expected[size] = outputs
        return self._expected[size]

    def _check_rows(self, outputs: list[np.ndarray], size: int) -> None:
        for output in outputs:
            if not np.all(np.isfinite(output)):
                raise BadInputError(
                    f"Model {self.model.name!r} itself returns values that are not finite for the first samples."
                )
            if output.shape[:1] != (size,):
                raise TraceError(
                    f"Model {self.model.name!r} returns shape {output.shape} for {size} samples: expected one row per "
                    "sample."
                )
        known = self._expected.get(_ROWS, outputs)
        tolerance = _TOLERANCE[self.dtype] if self.dtype == "float64" else 1e-3
        if any(relative_deviation(a[:1], b[:1]) > tolerance for a, b in zip(outputs, known, strict=True)):
            raise TraceError(
                f"Model {self.model.name!r} returns something else for a sample when other samples stand beside it "
                "(or by chance): what it says of one sample cannot be explained by that sample."
            )

    def _with_heads(self, graph: Graph, *, routes: bool) -> tuple[Graph, tuple[Head, ...]]:
        names = self.signature.output_names(self.model, len(graph.outputs))
        heads = []
        for name, output in zip(names, graph.outputs, strict=True):
            graph, off = take_off_head(graph, output, routes=routes)
            heads.append(Head(name, off.logits, off.final, off.name, graph.shapes[output]))
        return graph, tuple(heads)

    def _canonize(self, graph: Graph, outputs: tuple[np.ndarray, ...]) -> Graph:
        graph = graph.restrict(graph.outputs)
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
            node.op.form in ("conv", "depthwise", "transpose")
            and node.op.channel_axis == 1
            and len(self.traced.shapes[node.outputs[0]]) > 2
            for node in self.traced
            if isinstance(node.op, Affine)
        )

    def keeping(self, tensor: int) -> Graph:
        """Return the graph to the logits, canonized so that a tensor of the traced graph is still in it."""
        outputs = tuple(head.logits for head in self.heads)
        if any(tensor in node.outputs for node in self.logits):
            return self.logits
        return self._rewritten(replace(self.unfolded, outputs=outputs), keep=(tensor,))

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
        if any(tensors[0] in node.outputs for node in self.graph):
            return self.graph.restrict(tensors)
        return self._rewritten(replace(self.traced, outputs=tensors))

    def _rewritten(self, graph: Graph, keep: tuple[int, ...] = ()) -> Graph:
        wanted = tuple(dict.fromkeys((*graph.outputs, *keep)))
        graph = replace(graph, outputs=wanted)
        return self._canonize(graph, tuple(evaluate(graph.restrict(wanted), self._tensors)))


def _rows(array: np.ndarray, count: int) -> np.ndarray:
    """Return the first samples; where there are fewer, real ones turned round, so that no two are alike."""
    if len(array) >= count:
        return np.asarray(array[:count])
    first = np.asarray(array[:1])
    other = first.reshape(-1)[::-1].reshape(first.shape) if first.dtype.kind == "f" else first
    return np.concatenate([first, other])[:count]


def _cycle(size: int) -> np.ndarray:
    return np.arange(size) % _ROWS


def _measured(
    graph: Graph, heads: Sequence[Head], tensors: Sequence[Tensor]
) -> tuple[Graph, dict[int, np.ndarray]]:
    """Run a graph once; return it with the shapes that really occur, and the values at its heads."""
    shapes: dict[int, tuple[int | None, ...]] = dict(graph.shapes)
    astray: set[int] = set()

    def watch(number: int, value: Tensor) -> None:
        sizes = tuple(value.shape)
        shapes[number] = (None, *sizes[1:])
        if sizes[:1] != (_ROWS,):
            astray.add(number)

    wanted = tuple(dict.fromkeys(i for head in heads for i in (head.logits, head.final)))
    values = dict(zip(wanted, evaluate(replace(graph, outputs=wanted), tensors, watch), strict=True))
    nodes = tuple(
        replace(node, op=Opaque(label=node.op.label, fn=node.op)) if astray.intersection(node.inputs + node.outputs) else node
        for node in graph
    )
    return replace(graph, shapes=shapes, nodes=nodes), values
