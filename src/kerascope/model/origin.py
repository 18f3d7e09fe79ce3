"""Where a tensor comes from: out of kernels, as a logit does, or out of a softmax or sigmoid, as a probability does."""

from __future__ import annotations

from collections.abc import Callable

from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Route, Winner

_PROBABILITIES = frozenset({"softmax", "sigmoid"})


def is_logit(graph: Graph, tensor: int) -> bool:
    """Whether a tensor comes out of kernels, at most rearranged, summed, scaled or chosen from since."""
    return _all_from(graph, tensor, _is_kernel, _is_linear)


def is_probability(graph: Graph, tensor: int) -> bool:
    """Whether a tensor comes out of softmaxes or sigmoids, at most rearranged, averaged or clipped since."""
    return _all_from(graph, tensor, _gives_probabilities, _keeps_probabilities)


def _all_from(graph: Graph, tensor: int, ends: Callable[[Node], bool], passes: Callable[[Node], bool]) -> bool:
    """Whether every way back from a tensor reaches such an end, through nothing but what may be passed."""
    producers, pending, seen = graph.producers(), [tensor], {tensor}
    while pending:
        node = producers.get(pending.pop())
        if node is None:
            return False  # an input of the model
        if ends(node):
            continue
        if not passes(node):
            return False
        pending += [i for i in node.inputs if i not in seen]
        seen.update(node.inputs)
    return True


def _is_kernel(node: Node) -> bool:
    return isinstance(node.op, Affine) and not node.op.is_diagonal


def _is_linear(node: Node) -> bool:
    return isinstance(node.op, (Route, Mixture, Winner, Affine))


def _gives_probabilities(node: Node) -> bool:
    return isinstance(node.op, (Activation, Opaque)) and node.op.name in _PROBABILITIES


def _keeps_probabilities(node: Node) -> bool:
    op = node.op
    if isinstance(op, Mixture):  # a sum of probabilities is none
        return "Average" in op.label or "Mean" in op.label
    return isinstance(op, (Route, Winner)) or (isinstance(op, Activation) and op.name == "clip")
