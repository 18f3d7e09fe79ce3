"""The reverse walk: every method that is more than a gradient is this walk with handlers of its own.

A handler runs one operation forward and returns, with the outputs, the function that sends whatever
arrives at the outputs (relevance, a modified gradient, multipliers) back to the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph, as_tuple
from kerascope.model.primitives import Primitive, Tensor

Backward = Callable[[tuple[Tensor, ...]], tuple[tuple[Tensor, ...], Tensor | None]]
"""From what arrives at an operation's outputs to what its inputs get, and what was absorbed (N,) or None."""

Handler = Callable[..., tuple[Any, Backward]]
"""``handler(op, *inputs) -> (outputs, backward)``."""


@dataclass(frozen=True)
class Walked:
    """What one reverse walk found.

    ``values`` holds what arrived at every tensor; ``absorbed`` (N,) what was kept back on the way;
    ``largest`` (N,) the largest sum of absolute values over any one operation's outputs, None unless asked.
    """

    values: Mapping[int, Any]
    absorbed: Tensor | None
    largest: Tensor | None
    absorbed_by: Mapping[str, Tensor]
    flows: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By operation the sums (N,) of what arrived and of what was handed on; empty unless followed."""


@dataclass(frozen=True)
class Carried:
    """What a walk carries: ``zeros(value)`` stands at a tensor that nothing was sent to; ``amount(value, arrived)``.

    The amount is a tensor like the value, which a walk that conserves something keeps the sum of.
    """

    zeros: Callable[[Any], Any] = ops.zeros_like
    amount: Callable[[Any, Any], Tensor] = lambda value, arrived: arrived


RELEVANCE = Carried()
"""Tensors that are amounts themselves: relevance, gradients."""


def plain(op: Primitive, *inputs: Tensor) -> tuple[Any, Backward]:
    """Send a cotangent back by the operation's own vector-Jacobian product."""
    outputs, pull = backend.vjp(op, *inputs)

    def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
        return pull(arriving if isinstance(outputs, (tuple, list)) else arriving[0]), None

    return outputs, backward


def forward(
    graph: Graph,
    inputs: tuple[Any, ...],
    handlers: Mapping[str, Handler],
    carried: Carried = RELEVANCE,
) -> tuple[dict[int, Any], Callable[..., Walked]]:
    """Run a graph forward; return the values of its tensors and the function that walks back.

    Args:
        graph: the graph.
        inputs: one tensor per graph input, batch first.
        handlers: by node name; a node without one is differentiated.
        carried: what the handlers pass on.
    """
    values = dict(zip(graph.inputs, inputs, strict=True))
    steps: list[tuple[Any, Backward]] = []
    for node in graph:
        handler: Handler = handlers.get(node.name, plain)
        results, backward = handler(node.op, *(values[i] for i in node.inputs))
        values.update(zip(node.outputs, as_tuple(results), strict=True))
        steps.append((node, backward))

    def walk(start: Mapping[int, Tensor], *, measure: bool = False, follow: bool = False) -> Walked:
        return _walk(steps, values, start, measure, follow, carried)

    return values, walk


def _walk(
    steps: list[tuple[Any, Backward]],
    values: Mapping[int, Tensor],
    start: Mapping[int, Tensor],
    measure: bool,
    follow: bool,
    carried: Carried,
) -> Walked:
    arrived: dict[int, Tensor] = dict(start)
    absorbed_by: dict[str, Tensor] = {}
    flows: dict[str, tuple[Tensor, Tensor]] = {}
    largest = None

    def amounts(tensors: Sequence[int], found: Sequence[Any]) -> list[Tensor]:
        return [carried.amount(values[t], one) for t, one in zip(tensors, found, strict=True)]

    for node, backward in reversed(steps):
        if not any(tensor in arrived for tensor in node.outputs):
            continue
        arriving = tuple(arrived[t] if t in arrived else carried.zeros(values[t]) for t in node.outputs)
        if measure:
            size = sum(sample_sum(ops.abs(amount)) for amount in amounts(node.outputs, arriving))
            largest = size if largest is None else ops.maximum(largest, size)
        departing, absorbed = backward(arriving)
        if absorbed is not None:
            absorbed_by[node.name] = absorbed
        if follow:
            sums = [
                sum(map(sample_sum, amounts(tensors, found)))
                for tensors, found in ((node.outputs, arriving), (node.inputs, departing))
            ]
            flows[node.name] = sums[0], sums[1]
        for tensor, share in zip(node.inputs, departing, strict=True):
            arrived[tensor] = arrived[tensor] + share if tensor in arrived else share
    absorbed = sum(absorbed_by.values()) if absorbed_by else None
    return Walked(arrived, absorbed, largest, absorbed_by, flows)


def sample_sum(tensor: Tensor) -> Tensor:
    """Sum over everything but the batch axis: (N, *S) -> (N,)."""
    return ops.sum(tensor, axis=tuple(range(1, len(tensor.shape)))) if len(tensor.shape) > 1 else tensor
