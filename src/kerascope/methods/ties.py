"""Where several tensors compete: equal ones share, on every backend alike."""

from __future__ import annotations

from typing import Any

from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph
from kerascope.model.primitives import Tensor, Winner
from kerascope.model.propagate import Backward, Handler


def between_tensors(op: Any) -> bool:
    """Whether an operation takes the elementwise maximum (or minimum) of several tensors."""
    return isinstance(op, Winner) and op.axes is None


def share_ties(op: Winner, *inputs: Tensor) -> tuple[Tensor, Backward]:
    """Send what arrives to the winner; of k equal tensors each gets 1/k (backends by themselves differ)."""
    outputs = op.fn(*inputs)

    def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
        won = [ops.cast(ops.equal(x, outputs), outputs.dtype) for x in inputs]
        share = arriving[0] / sum(won)
        return tuple(unbroadcast(mask * share, x) for mask, x in zip(won, inputs, strict=True)), None

    return outputs, backward


def unbroadcast(tensor: Tensor, like: Tensor) -> Tensor:
    """Sum a tensor over the axes along which ``like`` was broadcast to its shape."""
    _, gather = backend.vjp(lambda u: ops.broadcast_to(u, ops.shape(tensor)), like)
    return gather(tensor)[0]


def tie_handlers(graph: Graph) -> dict[str, Handler]:
    """Return `share_ties` for every node at which several tensors compete."""
    return {node.name: share_ties for node in graph if between_tensors(node.op) and len(node.inputs) > 1}
