"""Stretches of a graph on which the first axis does not count samples.

A layer that works step by step may put time first, or samples and steps together, and undo that later.
Relevance in between belongs to no sample, so each such stretch becomes one operation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Opaque, Primitive, Route, Tensor


def bridge(graph: Graph, astray: frozenset[int]) -> Graph:
    """Return the graph without the tensors that have no row per sample.

    A stretch that only rearranges cells stays a rearrangement; any other has no rule.

    Args:
        graph: a graph whose outputs have one row per sample.
        astray: the tensors that do not.
    """
    if not astray:
        return graph
    nodes = []
    for node in graph:
        if astray.intersection(node.outputs):
            continue
        nodes.append(_across(graph, node, astray) if astray.intersection(node.inputs) else node)
    layers = {name: kept for name, tensors in graph.layers.items() if (kept := _without(tensors, astray))}
    return replace(graph, nodes=tuple(nodes), layers=layers)


def _without(tensors: tuple[int, ...], astray: frozenset[int]) -> tuple[int, ...]:
    return tuple(tensor for tensor in tensors if tensor not in astray)


def _across(graph: Graph, last: Node, astray: frozenset[int]) -> Node:
    """Return the node that does what the stretch up to (and with) the last node does."""
    producers = graph.producers()
    found: dict[str, Node] = {}
    waiting, entries = [last], dict.fromkeys(_without(last.inputs, astray))
    while waiting:
        node = waiting.pop()
        found[node.name] = node
        entries.update(dict.fromkeys(_without(node.inputs, astray)))
        waiting += [producers[tensor] for tensor in node.inputs if tensor in astray]
    stretch = replace(
        graph,
        inputs=tuple(entries),
        outputs=last.outputs,
        nodes=tuple(node for node in graph if node.name in found),
    )
    return replace(last, op=_whole(stretch, last.op.label), inputs=tuple(entries))


def _whole(stretch: Graph, label: str) -> Primitive:
    def fn(*tensors: Tensor) -> Any:
        outputs = stretch(*tensors)
        return outputs if len(outputs) > 1 else outputs[0]

    routes = [node.op for node in stretch if isinstance(node.op, Route)]
    if len(routes) < len(stretch):
        return Opaque(label=label, fn=fn)
    return Route(
        label=label,
        fn=fn,
        pads=any(op.pads for op in routes),
        keeps_cells=all(op.keeps_cells for op in routes),
        keeps_sign=all(op.keeps_sign for op in routes),
    )
