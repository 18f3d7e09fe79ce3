"""Function-preserving rewrites of a graph.

A canonizer takes a graph and returns one that computes the same outputs in a form the rules are defined
for. Each is checked against the outputs of the graph before it on real inputs; a rewrite that changes them
is refused, and said so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import HEADS, Activation, Affine, Opaque, Primitive, Route, Tensor

Canonizer = Callable[[Graph, frozenset[int]], Graph]


def merge_padding(graph: Graph, protected: frozenset[int]) -> Graph:
    """Make a zero padding part of the convolutions that read it."""
    consumers = graph.consumers()
    swaps: dict[str, Node | None] = {}
    for node in graph:
        readers = consumers.get(node.outputs[0], [])
        if not (isinstance(node.op, Route) and node.op.pads and len(node.inputs) == 1) or not readers:
            continue
        if node.outputs[0] in protected or not all(_is_convolution(reader) for reader in readers):
            continue
        if node.source.__name__ not in _PADDINGS:
            continue
        for reader in readers:
            swaps[reader.name] = replace(reader, op=_padded(reader.op, node.op), inputs=node.inputs)
        swaps[node.name] = None
    names = [name for name, node in swaps.items() if node is None]
    return _swap(graph, swaps, folded=[f"{name} into the convolution after it" for name in names])


_PADDINGS = frozenset({"ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"})


def _is_convolution(node: Node) -> bool:
    return isinstance(node.op, Affine) and node.op.form in ("conv", "depthwise")


def _padded(op: Any, padding: Any) -> Affine:
    linear = op.linear

    def padded(x: Tensor, kernel: Tensor) -> Tensor:
        return linear(padding.fn(x), kernel)

    return replace(op, linear=padded, zero_padded=True)


def fold_after(graph: Graph, protected: frozenset[int]) -> Graph:
    """Fold a BatchNormalization (or any per-channel scale and shift) into the linear layer before it."""
    consumers, producers = graph.consumers(), graph.producers()
    swaps: dict[str, Node | None] = {}
    folded = []
    for node in graph:
        before = producers.get(node.inputs[0])
        if not _is_diagonal(node) or before is None or before.name in swaps:
            continue
        linear = before.op
        if not isinstance(linear, Affine) or linear.is_diagonal or node.inputs[0] in protected:
            continue
        if len(consumers[node.inputs[0]]) != 1:
            continue
        scale = _per_channel(node.op, graph.shapes[node.inputs[0]], linear.channel_axis)
        merged = None if scale is None else linear.scale_outputs(scale)
        if merged is None:
            continue
        if node.op.bias is not None:
            merged = merged.shift_outputs(node.op.bias)
        swaps[before.name] = replace(before, op=merged, outputs=node.outputs)
        swaps[node.name] = None
        folded.append(f"{node.name} into {before.name}")
    return _swap(graph, swaps, folded=folded)


def fold_before(graph: Graph, protected: frozenset[int]) -> Graph:
    """Fold a BatchNormalization into the linear layers after it.

    Under zero padding the shift is missing at the border, so it becomes a bias map with one value for each
    position. What normalises the network's input is left alone: it only changes the units.
    """
    consumers = graph.consumers()
    on_input = input_path(graph)
    swaps: dict[str, Node | None] = {}
    folded = []
    for node in graph:
        readers = consumers.get(node.outputs[0], [])
        if not _is_diagonal(node) or node.name in on_input or node.outputs[0] in protected or not readers:
            continue
        if node.outputs[0] in graph.outputs or any(reader.name in swaps for reader in readers):
            continue
        merged = [_absorb_scaling(reader, node, graph) for reader in readers]
        if any(node_or_none is None for node_or_none in merged):
            continue
        swaps.update({reader.name: new for reader, new in zip(readers, merged, strict=True)})
        swaps[node.name] = None
        folded.append(f"{node.name} into {', '.join(reader.name for reader in readers)}")
    return _swap(graph, swaps, folded=folded)


def _absorb_scaling(reader: Node, diagonal: Node, graph: Graph) -> Node | None:
    linear, scaling = reader.op, diagonal.op
    shape = graph.shapes[diagonal.outputs[0]]
    if not isinstance(linear, Affine) or linear.is_diagonal or not isinstance(scaling, Affine):
        return None
    scale = _per_channel(scaling, graph.shapes[diagonal.inputs[0]], linear.channel_axis)
    merged = None if scale is None else linear.scale_inputs(scale)
    if merged is None or None in shape[1:]:
        return None
    if scaling.bias is not None:
        filled = ops.broadcast_to(scaling.bias, (1, *shape[1:]))
        merged = merged.shift_outputs(linear.linear(filled, linear.kernel))
    return replace(reader, op=merged, inputs=diagonal.inputs)


def _is_diagonal(node: Node) -> bool:
    return isinstance(node.op, Affine) and node.op.is_diagonal


def _per_channel(op: Primitive, shape: tuple[int | None, ...], axis: int) -> Tensor | None:
    """Return a diagonal's scale as a vector over the channel axis (or a scalar), None if it is neither."""
    if not isinstance(op, Affine):
        return None
    sizes, rank = tuple(op.kernel.shape), len(shape)
    if all(size == 1 for size in sizes):
        return ops.reshape(op.kernel, ())
    axis %= rank
    if len(sizes) != rank or any(size != 1 for i, size in enumerate(sizes) if i != axis):
        return None
    return ops.reshape(op.kernel, (-1,)) if sizes[axis] == shape[axis] else None


def input_path(graph: Graph) -> set[str]:
    """Return the nodes that only rearrange, rescale or normalise the network's input."""
    reached = set(graph.inputs)
    names = set()
    for node in graph:
        if (_is_diagonal(node) or isinstance(node.op, Route)) and all(i in reached for i in node.inputs):
            reached.update(node.outputs)
            names.add(node.name)
    return names


def _swap(graph: Graph, swaps: dict[str, Node | None], *, folded: Sequence[str]) -> Graph:
    if not swaps:
        return graph
    nodes = tuple(new for node in graph if (new := swaps.get(node.name, node)) is not None)
    return replace(graph, nodes=nodes, folded=(*graph.folded, *folded))


def take_off_head(graph: Graph, output: int) -> tuple[Graph, int, str | None]:
    """Find the tensor before a final softmax or sigmoid.

    Returns:
        The graph (with rearrangements after the activation repeated on what is before it), the tensor that
        holds the logits, and the name of what was taken off, or None.
    """
    producer = graph.producers().get(output)
    if producer is None:
        return graph, output, None
    name = getattr(producer.op, "name", "")
    if isinstance(producer.op, (Activation, Opaque)) and name in HEADS:
        return graph, producer.inputs[0], name
    if not isinstance(producer.op, Route) or len(producer.outputs) != 1:
        return graph, output, None
    inputs, names = [], set()
    for tensor in producer.inputs:
        graph, logits, taken = take_off_head(graph, tensor)
        inputs.append(logits)
        names.add(taken)
    if names == {None} or len(names) != 1:
        return graph, output, None
    fresh = graph.new_tensor()
    node = replace(producer, name=f"{producer.name} (logits)", inputs=tuple(inputs), outputs=(fresh,))
    shapes = {**graph.shapes, fresh: graph.shapes[output]}
    return replace(graph, nodes=(*graph.nodes, node), shapes=shapes), fresh, names.pop()


CANONIZERS: tuple[Canonizer, ...] = (merge_padding, fold_after, fold_before)


@dataclass(frozen=True)
class Check:
    """Inputs and outputs that a rewritten graph must reproduce."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[np.ndarray, ...]
    tolerance: float

    def disagreement(self, graph: Graph) -> float:
        """Return the largest deviation from the outputs, relative to their largest magnitude."""
        with backend.inference():
            found = [backend.to_numpy(tensor) for tensor in graph(*self.inputs)]
        return max(relative_deviation(a, b) for a, b in zip(found, self.outputs, strict=True))


def relative_deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Return max|found - expected| / max|expected|, infinite for different shapes or NaN."""
    if found.shape != expected.shape or not np.all(np.isfinite(found)):
        return float("inf")
    if not found.size:
        return 0.0
    scale = float(np.max(np.abs(expected))) or 1.0
    return float(np.max(np.abs(found.astype("float64") - expected.astype("float64")))) / scale


def canonize(graph: Graph, check: Check, protected: frozenset[int] = frozenset()) -> Graph:
    """Apply every canonizer whose result reproduces the checked outputs.

    Args:
        graph: the graph of a model.
        check: real inputs, with the outputs the graph has for them.
        protected: tensors that must survive, because something is asked about them.
    """
    for canonizer in CANONIZERS:
        rewritten = canonizer(graph, protected.union(graph.outputs))
        if rewritten is graph:
            continue
        deviation = check.disagreement(rewritten)
        if deviation <= check.tolerance:
            graph = rewritten
        else:
            note = f"{canonizer.__name__} was refused: it changed the outputs by {deviation:.1e} of their maximum"
            graph = replace(graph, notes=(*graph.notes, note))
    return graph
