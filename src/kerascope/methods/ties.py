"""Equal competitors: who wins a maximum, on every backend alike.

Derivatives of frameworks differ there. Of equal cells in a window the first wins; equal tensors share.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph
from kerascope.model.primitives import Tensor, Winner
from kerascope.model.propagate import Backward, Handler


def pool_winner(op: Winner, x: Tensor) -> tuple[Tensor, Backward]:
    """Send what arrives at each window of a pooling to its largest cell, to the first of equal ones."""
    if _gives_to_all(x):
        outputs, (_, pull) = op.fn(x), backend.vjp(op.fn, _without_ties(x))
    else:
        outputs, pull = backend.vjp(op.fn, x)
    return outputs, lambda arriving: (pull(arriving[0]), None)


def _gives_to_all(x: Tensor) -> bool:
    """Whether the backend's derivative hands the whole signal to every one of equal cells."""
    return backend.name == "tensorflow" and len(x.shape) == 5


def _without_ties(x: Tensor) -> Tensor:
    """Replace the values of each sample by minus their place when sorted, the first of equal ones ahead."""
    flat = ops.reshape(x, (ops.shape(x)[0], -1))
    place = ops.argsort(ops.argsort(-flat, axis=1), axis=1)
    return ops.reshape(-ops.cast(place, x.dtype), ops.shape(x))


def share_ties(op: Winner, *inputs: Tensor) -> tuple[Tensor, Backward]:
    """Send what arrives to the largest (or smallest) of several tensors; of k equal ones each gets 1/k."""
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


def winner_between(op: Winner, *inputs: Tensor) -> tuple[Tensor, Backward]:
    """Handle a maximum of windows or of several tensors."""
    return share_ties(op, *inputs) if len(inputs) > 1 else pool_winner(op, *inputs)


def tie_handlers(graph: Graph) -> dict[str, Handler]:
    """Return the handlers of every pooling and every maximum of several tensors."""
    return {node.name: winner_between for node in graph if _competes(node.op)}


def _competes(op: Any) -> bool:
    return isinstance(op, Winner) and op.axes is None
