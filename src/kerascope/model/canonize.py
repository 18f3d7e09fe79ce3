"""Function-preserving rewrites of a graph.

A canonizer takes a graph and returns one that computes the same outputs in a form the rules are defined
for. Each is checked against the outputs of the graph before it on real inputs; a rewrite that changes them
is refused, and said so.
"""

from __future__ import annotations

import functools
import itertools
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

    merged: Affine = replace(op, linear=padded, zero_padded=True, padding=padding.fn)
    return merged


def fold_after(graph: Graph, protected: frozenset[int]) -> Graph:
    """Fold a BatchNormalization (or any per-channel scale and shift) into the linear layer before it."""
    while (folded := _fold_after_once(graph, protected)) is not graph:
        graph = folded
    return graph


def _fold_after_once(graph: Graph, protected: frozenset[int]) -> Graph:
    consumers, producers = graph.consumers(), graph.producers()
    swaps: dict[str, Node | None] = {}
    folded = []
    for node in graph:
        middle, scaling = node.inputs[0], node.op
        before = producers.get(middle)
        if not _is_diagonal(node) or not isinstance(scaling, Affine) or before is None or before.name in swaps:
            continue
        linear = before.op
        if not isinstance(linear, Affine) or linear.is_diagonal or middle in protected:
            continue
        if len(consumers[middle]) != 1:
            continue
        scale = _per_channel(scaling, graph.shapes[middle], linear.channel_axis)
        merged = None if scale is None else linear.scale_outputs(scale)
        if merged is None:
            continue
        if scaling.bias is not None:
            merged = merged.shift_outputs(backend.to_numpy(scaling.bias))
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
        if any(reader.name in swaps for reader in readers):
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
        merged = merged.shift_outputs(_through(linear, scaling, shape[1:]))
    return replace(reader, op=merged, inputs=diagonal.inputs)


def _through(linear: Affine, scaling: Affine, shape: tuple[Any, ...]) -> np.ndarray:
    """Return what the shift of a scaling becomes behind a linear layer.

    A map with one value for each position, or a vector where it is the same everywhere.
    """
    bias: np.ndarray = backend.to_numpy(scaling.bias)
    filled = backend.from_numpy(np.broadcast_to(bias, (1, *shape)).copy())
    shift: np.ndarray = backend.to_numpy(backend.once(linear.linear, filled, linear.kernel))
    uniform = all(size == 1 for i, size in enumerate(bias.shape) if i != linear.channel_axis % bias.ndim)
    if not uniform or linear.zero_padded or linear.form not in ("dense", "conv", "depthwise"):
        return shift
    channel = linear.channel_axis % shift.ndim
    return shift[tuple(slice(None) if axis == channel else slice(0, 1) for axis in range(shift.ndim))]


def _is_diagonal(node: Node) -> bool:
    return isinstance(node.op, Affine) and node.op.is_diagonal


def _per_channel(op: Primitive, shape: tuple[int | None, ...], axis: int) -> np.ndarray | None:
    """Return a diagonal's scale as a vector over the channel axis (or a scalar), None if it is neither."""
    if not isinstance(op, Affine):
        return None
    kernel: np.ndarray = backend.to_numpy(op.kernel)
    if kernel.size == 1:
        return kernel.reshape(())
    axis %= len(shape)
    if kernel.ndim != len(shape) or any(size != 1 for i, size in enumerate(kernel.shape) if i != axis):
        return None
    return kernel.reshape(-1) if kernel.shape[axis] == shape[axis] else None


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


@dataclass(frozen=True)
class TakenOff:
    """A head without its final activation: the tensors before and after it, and what it was (or None)."""

    logits: int
    final: int
    name: str | None


def take_off_head(graph: Graph, output: int, *, routes: bool = True) -> tuple[Graph, TakenOff]:
    """Find the tensor before a final softmax or sigmoid.

    Where cells are rearranged after the activation (flattened, say), the same is done to what was before it;
    and so that the output can still be computed from these logits alone, the way back is added too.

    Args:
        graph: the graph of a model.
        output: one of its outputs.
        routes: whether to look behind rearrangements.
    """
    producer = graph.producers().get(output)
    if producer is None:
        return graph, TakenOff(output, output, None)
    if _is_final(producer):
        return graph, TakenOff(producer.inputs[0], output, _activation_name(producer))
    producer = _composed(graph, producer)
    activations = _behind_route(graph, producer) if routes else None
    if activations is None:
        return graph, TakenOff(output, output, None)
    return _route_logits(graph, producer, activations)


def _activation_name(node: Node) -> str:
    return node.op.name if isinstance(node.op, (Activation, Opaque)) else ""


def _is_final(node: Node) -> bool:
    return _activation_name(node) in HEADS and len(node.inputs) == 1


def _composed(graph: Graph, route: Node) -> Node:
    """Return rearrangements that follow each other as one."""
    before = graph.producers().get(route.inputs[0])
    chained = before is not None and _is_plain_route(before) and _is_plain_route(route) and len(route.inputs) == 1
    if before is None or not chained:
        return route
    whole = _composed(graph, before)
    inner, outer = whole.op, route.op
    op = Route(label=outer.label, fn=lambda *tensors: outer(inner(*tensors)))
    return replace(route, op=op, inputs=whole.inputs)


def _is_plain_route(node: Node) -> bool:
    return isinstance(node.op, Route) and len(node.outputs) == 1 and not node.op.pads and node.op.keeps_cells


def _behind_route(graph: Graph, route: Node) -> list[Node] | None:
    """Return the softmax or sigmoid before each input of a rearrangement, None unless all have the same."""
    if not _is_plain_route(route):
        return None
    producers = graph.producers()
    found = [producers.get(tensor) for tensor in route.inputs]
    activations = [node for node in found if node is not None and _is_final(node)]
    if len(activations) != len(found) or len(set(map(_activation_name, activations))) != 1:
        return None
    return activations


def _route_logits(graph: Graph, route: Node, activations: list[Node]) -> tuple[Graph, TakenOff]:
    """Rearrange the logits instead of the probabilities, and add the way from there to the output."""
    count, first = len(activations), graph.new_tensor()
    logits, back, probabilities, final = first, *_ranges(first + 1, count, count), first + 1 + 2 * count
    before = tuple(node.inputs[0] for node in activations)
    sources = [graph.shapes[tensor] for tensor in before]
    nodes = [
        replace(route, name=f"{route.name} (logits)", inputs=before, outputs=(logits,)),
        Node(f"{route.name} (back)", _undo(route.op, sources), (logits,), tuple(back), route.source),
        *(
            replace(node, name=f"{node.name} (of logits)", inputs=(z,), outputs=(p,))
            for node, z, p in zip(activations, back, probabilities, strict=True)
        ),
        replace(route, name=f"{route.name} (of logits)", inputs=tuple(probabilities), outputs=(final,)),
    ]
    shapes = {
        **graph.shapes,
        **dict(zip(back, sources, strict=True)),
        **dict(zip(probabilities, sources, strict=True)),
    }
    shapes.update({logits: graph.shapes[route.outputs[0]], final: graph.shapes[route.outputs[0]]})
    graph = replace(graph, nodes=(*graph.nodes, *nodes), shapes=shapes)
    return graph, TakenOff(logits, final, _activation_name(activations[0]))


def _ranges(start: int, *sizes: int) -> list[range]:
    ends = list(itertools.accumulate(sizes, initial=start))
    return [range(low, high) for low, high in itertools.pairwise(ends)]


def _undo(op: Primitive, sources: Sequence[tuple[int | None, ...]]) -> Route:
    """Return the operation that puts rearranged cells back to where they came from."""

    def fn(rearranged: Tensor) -> Any:
        count = ops.shape(rearranged)[0]
        empty = [ops.zeros((count, *shape[1:]), dtype=rearranged.dtype) for shape in sources]
        _, pull = backend.vjp(op, *empty)
        parts = pull(rearranged)
        return parts if len(parts) > 1 else parts[0]

    return Route(label="back", fn=fn)


CANONIZERS: tuple[Canonizer, ...] = (merge_padding, fold_after, fold_before)


@dataclass(frozen=True)
class Check:
    """Inputs and outputs that a rewritten graph must reproduce."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[np.ndarray, ...]
    tolerance: float

    def disagreement(self, graph: Graph) -> float:
        """Return the largest deviation from the outputs, relative to their largest magnitude."""
        return max(relative_deviation(a, b) for a, b in zip(evaluate(graph, self.inputs), self.outputs, strict=True))


def evaluate(graph: Graph, inputs: Sequence[Tensor], watch: Any = None) -> list[np.ndarray]:
    """Run a graph a single time and return its outputs.

    Args:
        graph: the graph.
        inputs: its input tensors.
        watch: is shown every tensor, see `Graph.run`; its value may be symbolic.
    """

    def run(weights: Any, *tensors: Tensor) -> Any:
        return graph.with_weights(weights).run(tensors, graph.outputs, watch)

    return [backend.to_numpy(tensor) for tensor in backend.once(run, graph.weights, *inputs)]


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
    kept = protected.union(graph.outputs)
    rewritten = functools.reduce(lambda g, canonizer: canonizer(g, kept), CANONIZERS, graph)
    if rewritten is graph or check.disagreement(rewritten) <= check.tolerance:
        return rewritten
    return _one_by_one(graph, check, kept)


def _one_by_one(graph: Graph, check: Check, kept: frozenset[int]) -> Graph:
    for canonizer in CANONIZERS:
        rewritten = canonizer(graph, kept)
        deviation = 0.0 if rewritten is graph else check.disagreement(rewritten)
        if deviation <= check.tolerance:
            graph = rewritten
        else:
            name = canonizer.__name__
            note = f"{name} was refused: it changed the outputs by {deviation:.1e} of their maximum"
            graph = replace(graph, notes=(*graph.notes, note))
    return graph
