"""Find a graph that computes what a model computes, and make sure that it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, TraceError
from kerascope.model import trace
from kerascope.model.bridge import bridge
from kerascope.model.canonize import evaluate, relative_deviation, take_off_head
from kerascope.model.convert import Traced, to_graph
from kerascope.model.graph import Graph
from kerascope.model.primitives import Opaque, Tensor
from kerascope.model.signature import Signature

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
"""How far a graph may be from the model, relative to the largest output, by precision."""
_HALF_TOLERANCE = 5e-2
_BESIDE = {"float64": 1e-9, "float32": 1e-3}
"""How much a sample's outputs may depend on the samples beside it: rounding, no more."""

_PLAIN = (1,)
_OWN_CODE = (2, 1)
_FIXED = (2, 1, 5)
"""Batch sizes at which a graph is compared with its model: where only Keras' own layers ran, where a user's
code did, and where that had to be traced at a fixed size."""


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


@dataclass(frozen=True, eq=False)
class Verified:
    """A graph that has been compared with its model.

    ``tensors`` are the inputs it was run on, ``values`` what came out at logits and outputs. ``keyed``: the model
    returns a dict.
    """

    graph: Graph
    heads: tuple[Head, ...]
    tensors: tuple[Tensor, ...]
    values: dict[int, np.ndarray]
    keyed: bool = False


def predict(model: keras.Model, signature: Signature, arrays: Sequence[np.ndarray], dtype: str) -> list[np.ndarray]:
    """Return a model's own outputs (flat), leaving no mark on it.

    Args:
        model: a built Keras model.
        signature: how it takes its inputs.
        arrays: one (N, *S) per input.
        dtype: the precision of the result.

    Raises:
        TraceError: if the outputs depend on chance.
    """
    tensors = [ops.convert_to_tensor(a, dtype=s.dtype) for a, s in zip(arrays, signature.specs, strict=True)]
    variables, drawn = list(model.variables), {}

    def run(weights: Any, *inputs: Tensor) -> Any:
        outputs, seeds = trace.run(model, signature.pack(inputs), list(zip(variables, weights, strict=True)))
        drawn.update(seeds)
        return outputs

    with backend.inference():
        outputs = backend.once(run, [backend.snapshot(variable) for variable in variables], *tensors)
        if drawn:
            _refuse_chance(model, signature.pack(tensors), dtype)
        return _flat(outputs, dtype)


def _refuse_chance(model: Any, packed: Any, dtype: str) -> None:
    """Raise if a model that draws random numbers returns something else when it draws others."""
    first, seeds = trace.run(model, packed)
    second, _ = trace.run(model, packed, seeds=seeds)
    if _deviation(_flat(second, dtype), _flat(first, dtype)) > 0:
        raise TraceError(
            f"Model {model.name!r} draws random numbers at inference (a Dropout told to train, say): it returns "
            "something else at every call, which no map explains."
        )


def _flat(outputs: Any, dtype: str) -> list[np.ndarray]:
    return [backend.to_numpy(ops.cast(x, dtype)) for x in keras.tree.flatten(outputs) if x is not None]


def to_tensors(arrays: Sequence[np.ndarray], signature: Signature, dtype: str) -> tuple[Tensor, ...]:
    """Return NumPy inputs as tensors: floats in a graph's precision, integers as the model takes them."""
    return tuple(
        backend.from_numpy(array.astype(dtype if keras.backend.is_float_dtype(spec.dtype) else spec.dtype))
        for spec, array in zip(signature.specs, arrays, strict=True)
    )


@dataclass(eq=False)
class Verifier:
    """Traces a model and compares what comes out with the model itself, on real inputs.

    Args:
        model: a built Keras model.
        signature: how it takes its inputs.
        sample: one array per input with at least one real sample.
        dtype: the precision of the graph.
    """

    model: keras.Model
    signature: Signature
    sample: Sequence[np.ndarray]
    dtype: str

    def __post_init__(self) -> None:
        """Take two samples, no two alike."""
        self._rows = [_two(array) for array in self.sample]
        self._known: list[np.ndarray] | None = None

    def find(self) -> Verified:
        """Trace the model, with the batch size left open and, where that does not do, at a fixed one.

        Raises:
            TraceError: if no graph computes what the model computes.
            BadInputError: if the model's outputs are not finite.
        """
        found, failures = [], []
        for batch, sizes in ((None, _OWN_CODE), (_FIXED[0], _FIXED)):
            struct = [(a.shape[1:], s.dtype, s.name) for s, a in zip(self.signature.specs, self._rows, strict=True)]
            try:
                traced = to_graph(self.model, struct, self.signature.pack, batch)
                found.append((len(traced.opaque), self._verify(traced, _PLAIN if traced.plain else sizes)))
            except TraceError as error:
                failures.append(error)
                continue
            if not traced.opaque:
                break
        if not found:
            raise failures[0]
        return min(found, key=lambda entry: entry[0])[1]

    def _verify(self, traced: Traced, sizes: Sequence[int]) -> Verified:
        first = sizes[0]
        expected = self._expected(first)
        for routes in (True, False):
            graph, heads = self._with_heads(traced, routes=routes)
            graph, values = self._runs(first, _measured, graph, heads, self._tensors(first), first)
            deviation = _deviation([values[head.final] for head in heads], expected)
            if deviation <= self._tolerance(graph) or all(h.final in traced.graph.outputs for h in heads):
                break
        self._accept(deviation, first, graph)
        ending = replace(graph, outputs=tuple(head.final for head in heads))
        for size in sizes[1:]:
            outputs = self._runs(size, evaluate, ending, self._tensors(size))
            self._accept(_deviation(outputs, self._expected(size)), size, graph)
        graph = _with_dead_ends(graph, traced, self._tensors(first)) if traced.opaque else graph
        return Verified(graph, heads, self._tensors(first), values, traced.output_names is not None)

    def _runs(self, size: int, run: Callable[..., Any], *args: Any) -> Any:
        try:
            return run(*args)
        except Exception as error:  # a batch size that the trace has frozen may fail anyhow
            raise TraceError(self._disagrees(f"fails at batch size {size} ({error})")) from error

    def _tensors(self, size: int) -> tuple[Tensor, ...]:
        return to_tensors(self._arrays(size), self.signature, self.dtype)

    def _arrays(self, size: int) -> list[np.ndarray]:
        return [array[np.arange(size) % 2] for array in self._rows]

    def _with_heads(self, traced: Traced, *, routes: bool) -> tuple[Graph, tuple[Head, ...]]:
        graph, heads = traced.graph, []
        names = traced.output_names or self.signature.output_names(self.model, len(graph.outputs))
        for name, output in zip(names, graph.outputs, strict=True):
            graph, off = take_off_head(graph, output, routes=routes)
            heads.append(Head(name, off.logits, off.final, off.name, graph.shapes[output]))
        return graph, tuple(heads)

    def _expected(self, size: int) -> list[np.ndarray]:
        """Return the model's own outputs at a batch size."""
        outputs = predict(self.model, self.signature, self._arrays(size), self.dtype)
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
        alone = [output[:1] for output in outputs]
        known = self._known or alone
        if not _deviation(alone, known) <= _BESIDE[self.dtype]:
            raise TraceError(
                f"Model {self.model.name!r} returns something else for a sample when other samples stand beside it, "
                "or by chance: what it says of one sample cannot be explained by that sample."
            )
        self._known = known
        return outputs

    def _tolerance(self, graph: Graph) -> float:
        return _HALF_TOLERANCE if graph.half else TOLERANCE[self.dtype]

    def _accept(self, deviation: float, size: int, graph: Graph) -> None:
        allowed = self._tolerance(graph)
        if not deviation <= allowed:
            how = f"differs from the model by {deviation:.1e} of its largest output at batch size {size}"
            raise TraceError(self._disagrees(f"{how} (allowed: {allowed:.0e})"))

    def _disagrees(self, how: str) -> str:
        return (
            f"The graph of model {self.model.name!r} {how}. Its call may depend on values, on the batch size or on "
            "chance, which no graph can follow. Move that part into a Keras layer, or explain a sub-model."
        )


def _two(array: np.ndarray) -> np.ndarray:
    """Return two samples; where there is but one, the other is that one's values in reverse order."""
    if len(array) >= 2:
        return np.asarray(array[:2])
    first = np.asarray(array[:1])
    other = first.reshape(-1)[::-1].reshape(first.shape) if first.dtype.kind == "f" else first
    return np.concatenate([first, other])


def _deviation(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    if len(found) != len(expected):
        return float("inf")
    return max(relative_deviation(a, b) for a, b in zip(found, expected, strict=True))


def _with_dead_ends(graph: Graph, traced: Traced, tensors: Sequence[Tensor]) -> Graph:
    """Note the layers that could not be looked into and let no derivative through."""
    closed = []
    for node in graph:
        if not isinstance(node.op, Opaque) or not any(text.startswith(f"{node.name} (") for text in traced.opaque):
            continue
        inputs = graph.run(tensors, node.inputs)
        outputs, pull = backend.vjp(node.op, *inputs)
        many = isinstance(outputs, (tuple, list))
        grads = pull(tuple(ops.ones_like(out) for out in outputs) if many else ops.ones_like(outputs))
        if not any(np.any(backend.to_numpy(grad)) for grad in grads):
            closed.append(
                f"no derivative comes through {node.name} ({node.op.label}): maps by gradient are zero behind it"
            )
    return replace(graph, notes=(*graph.notes, *closed))


def _measured(
    graph: Graph, heads: Sequence[Head], tensors: Sequence[Tensor], rows: int
) -> tuple[Graph, dict[int, np.ndarray]]:
    """Run a graph once; return it with the shapes that really occur, and the values at its heads."""
    shapes: dict[int, tuple[int | None, ...]] = dict(graph.shapes)
    astray: set[int] = set()

    def watch(number: int, value: Tensor) -> None:
        sizes = tuple(value.shape)
        shapes[number] = (None, *sizes[1:])
        if sizes[:1] != (rows,):
            astray.add(number)

    wanted = tuple(dict.fromkeys(i for head in heads for i in (head.logits, head.final)))
    values = dict(zip(wanted, evaluate(replace(graph, outputs=wanted), tensors, watch), strict=True))
    return bridge(replace(graph, shapes=shapes), frozenset(astray)), values
