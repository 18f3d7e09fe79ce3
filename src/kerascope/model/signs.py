"""Which tensors of a graph can be known to be non-negative, whatever the input."""

from __future__ import annotations

from kerascope.model.graph import Graph
from kerascope.model.primitives import NON_NEGATIVE, Activation, Mixture, Opaque, Product, Route, Winner


def non_negative(graph: Graph, inputs: frozenset[int] = frozenset()) -> frozenset[int]:
    """Return the tensors that hold no negative number.

    After a ReLU a sign-splitting rule needs half of its terms only.

    Args:
        graph: the graph.
        inputs: input tensors promised to be non-negative.
    """
    known = set(inputs)
    for node in graph:
        op = node.op
        if isinstance(op, (Activation, Opaque)):
            certain = op.name in NON_NEGATIVE
        elif isinstance(op, (Mixture, Route)):
            certain = op.keeps_sign and all(tensor in known for tensor in node.inputs)
        elif isinstance(op, (Winner, Product)):
            certain = all(tensor in known for tensor in node.inputs)
        else:
            certain = False
        if certain:
            known.update(node.outputs)
    return frozenset(known)
