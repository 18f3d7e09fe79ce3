"""The test whether a network is a ReLU network, and what to use where it is none."""

from __future__ import annotations

from kerascope.errors import IncompatibleMethodError
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Opaque, Product


def require_relu(graph: Graph, method: str) -> None:
    """Refuse a network in which something other than a ReLU bends the signal.

    Raises:
        IncompatibleMethodError: naming the layer and its activation.
    """
    for node in graph:
        bends = isinstance(node.op, (Opaque, Product)) or (isinstance(node.op, Activation) and not node.op.is_relu)
        if not bends:
            continue
        name = getattr(node.op, "name", "") or node.op.label
        hint = " ReLU6 is not ReLU: it is cut off at 6." if name == "relu6" else ""
        raise IncompatibleMethodError(
            f"{method} is defined for ReLU networks; {node.name!r} is {name}.{hint} Use {others_than(node)}."
        )


def others_than(node: Node) -> str:
    """Return the methods that remain where an operation is none that the method asked for is defined for."""
    # Without a rule for it lrp stops there too.
    return (
        "gradient or integrated_gradients" if isinstance(node.op, Opaque) else "gradient, lrp or integrated_gradients"
    )
