"""Operations without a rule of their own, taken apart into some that have one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Mixture, Opaque, Primitive, Product, Tensor, Winner

_ROOM = 1e-5


def decompose(graph: Graph) -> Graph:
    """Replace every softmax, log softmax and quotient of two tensors by maximum, difference, sum, product.

    softmax(x) = e * (1 / sum e) with e = exp(x - max x), where the maximum is an operation like any other: so it
    is accounted for, and nothing overflows. Tensors keep their numbers.
    """
    nodes: list[Node] = []
    fresh = graph.new_tensor()
    for node in graph:
        parts = list(_Parts(node, graph, fresh).found())
        fresh += len(parts)
        nodes += parts or [node]
    return replace(graph, nodes=tuple(nodes))


@dataclass(frozen=True)
class _Parts:
    """The operations that one node consists of; its inner tensors are numbered from ``fresh``."""

    node: Node
    graph: Graph
    fresh: int

    def found(self) -> Iterator[Node]:
        op = self.node.op
        if not isinstance(op, Opaque):
            return
        if op.name in ("softmax", "log_softmax") and len(self.node.inputs) == 1:
            axes = _axes(op, self.graph.shapes[self.node.inputs[0]])
            if axes:
                yield from self._softmax(axes, logarithm=op.name == "log_softmax")
        elif op.label in ("Divide", "TrueDivide") and len(self.node.inputs) == 2:
            yield from self._quotient()

    def _node(self, name: str, op: Primitive, inputs: tuple[int, ...], output: int) -> Node:
        return Node(f"{self.node.name} ({name})", op, inputs, (output,), self.node.source)

    def _softmax(self, axes: tuple[int, ...], *, logarithm: bool) -> Iterator[Node]:
        (x,), (out,) = self.node.inputs, self.node.outputs
        largest, shifted, powers, total, scale = range(self.fresh, self.fresh + 5)

        def maximum(t: Tensor) -> Tensor:
            return ops.max(t, axis=axes, keepdims=True)

        def summed(t: Tensor) -> Tensor:
            return ops.sum(t, axis=axes, keepdims=True)

        less = Mixture(label="Subtract", fn=ops.subtract, keeps_sign=False)
        yield self._node("maximum", Winner(label="Max", fn=maximum, axes=axes), (x,), largest)
        yield self._node("shift", less, (x, largest), shifted)
        yield self._node("exp", Activation(label="exp", name="exp", fn=ops.exp), (shifted,), powers)
        yield self._node("sum", Mixture(label="Sum", fn=summed), (powers,), total)
        if logarithm:
            yield self._node("log", Activation(label="log", name="log", fn=ops.log), (total,), scale)
            yield self._node("difference", less, (shifted, scale), out)
            return
        yield self._node("reciprocal", _RECIPROCAL, (total,), scale)
        yield self._node("product", Product(label="Multiply"), (powers, scale), out)

    def _quotient(self) -> Iterator[Node]:
        above, below = self.node.inputs
        yield self._node("reciprocal", _RECIPROCAL, (below,), self.fresh)
        yield self._node("product", Product(label="Multiply"), (above, self.fresh), self.node.outputs[0])


_RECIPROCAL = Activation(label="reciprocal", name="reciprocal", fn=ops.reciprocal)


def _axes(op: Opaque, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the axes over which a softmax sums, found by raising one cell; none if it is not a plain softmax."""
    sizes = (1, *(size or 2 for size in shape[1:]))
    x = np.random.default_rng(0).normal(size=sizes).astype("float32")
    raised = x.copy()
    raised[(0,) * len(sizes)] += 50
    before, after = (backend.to_numpy(backend.once(op, backend.from_numpy(array))) for array in (x, raised))
    changed = np.argwhere(np.abs(after - before) > 0.1 * np.abs(before))
    axes = tuple(axis for axis in range(1, len(sizes)) if np.any(changed[:, axis]))
    if not axes:
        return ()
    powers = np.exp(x - x.max(axis=axes, keepdims=True))
    wanted = powers / powers.sum(axis=axes, keepdims=True)
    plain = np.allclose(np.exp(before) if op.name == "log_softmax" else before, wanted, rtol=_ROOM, atol=_ROOM)
    return axes if plain else ()
