"""What walks back through a network left at every operation, put together for `Method.trail`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Tensor
from kerascope.model.propagate import RELEVANCE, Carried, Walked

Found = tuple[dict[str, Tensor], dict[str, list[Tensor]], list[Tensor]]


def along(graph: Graph, values: Mapping[int, Any], walks: Sequence[Walked], carried: Carried = RELEVANCE) -> Found:
    """Put together what followed walks, one per target, left on their way.

    Args:
        graph: the graph walked.
        values: of its tensors.
        walks: walks with ``follow=True``.
        carried: what they carried.

    Returns:
        What arrived at the outputs of each operation (N, T, *shape), by `place_name`, from the output of the network
        back; by operation the sums of what arrived, what was handed on and what was absorbed, each (N, T); and per
        input what arrived there (N, T, *S).
    """

    def amounts(tensor: int) -> Tensor:
        zeros = carried.zeros(values[tensor])
        return ops.stack([carried.amount(values[tensor], w.values.get(tensor, zeros)) for w in walks], axis=1)

    passed = [node for node in reversed(graph.nodes) if node.name in walks[0].flows]
    arrived = {place_name(node, k): amounts(tensor) for node in passed for k, tensor in enumerate(node.outputs)}
    return arrived, {node.name: _flows(node.name, walks) for node in passed}, [amounts(i) for i in graph.inputs]


def place_name(node: Node, output: int) -> str:
    """Return the name of what an operation returns: its own, with the number of the output where there are several."""
    return node.name if len(node.outputs) == 1 else f"{node.name}[{output}]"


def _flows(node: str, walks: Sequence[Walked]) -> list[Tensor]:
    columns = []
    for walked in walks:
        arriving, departing = walked.flows[node]
        absorbed = walked.absorbed_by.get(node)
        columns.append((arriving, departing, ops.zeros_like(arriving) if absorbed is None else absorbed))
    return [ops.stack(column, axis=1) for column in zip(*columns, strict=True)]
