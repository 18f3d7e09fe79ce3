"""The neurons of a graph: kernels and sums, and which axes of a kernel tell one neuron from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import IncompatibleMethodError
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Route, Tensor

_NEURON_AXES = {"dense": (-1,), "conv": (-1,), "depthwise": (-2, -1), "transpose": (-2,)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Unit:
    """Neurons that share their inputs: ``y = linear(x, kernel)`` without the bias.

    A sum of several tensors is one too, with a kernel (inputs, ..., C) that holds +1, -1 or 1/inputs.

    ``neurons``: the kernel's axes that number neurons; the others run over what a neuron reads.
    ``channel``: where y holds the neurons, None where that is not known (einsum).
    """

    node: Node
    linear: Callable[[tuple[Tensor, ...], Tensor], Tensor]
    kernel: Tensor
    bias: Tensor | None
    neurons: tuple[int, ...]
    channel: int | None
    before_relu: bool

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def form(self) -> str:
        """The layout of the kernel, see `Affine`; ``"sum"`` for sums."""
        return self.node.op.form if isinstance(self.node.op, Affine) else "sum"

    def layout(self, rank: int) -> tuple[int, ...]:
        """Return the axes of a kernel of that rank over which one neuron reads."""
        return tuple(axis for axis in range(rank) if axis not in self.neurons)

    def per_neuron(self, tensor: Tensor, pull_ones: Callable[[Tensor], Any] | None) -> Tensor:
        """Sum what stands at y over samples and positions, into a shape that broadcasts against the kernel.

        Args:
            tensor: in the shape of y.
            pull_ones: from y to the kernel where every input is 1; used where ``channel`` is None.
        """
        rank = len(self.kernel.shape)
        if self.channel is None and pull_ones is not None:
            index = tuple(slice(None) if axis in self.neurons else slice(0, 1) for axis in range(rank))
            return pull_ones(tensor)[0][index]
        channel = (self.channel or 0) % len(tensor.shape)
        sums = ops.sum(tensor, axis=tuple(axis for axis in range(len(tensor.shape)) if axis != channel))
        shape = [size if axis in self.neurons else 1 for axis, size in enumerate(self.kernel.shape)]
        return ops.reshape(sums, shape)

    def at_outputs(self, per_neuron: Tensor, rank: int) -> Tensor:
        """Lay numbers per neuron along the channel axis of y, which has that rank."""
        shape = [1] * rank
        shape[(self.channel or 0) % rank] = -1
        return ops.reshape(per_neuron, shape)


def units_of(graph: Graph, *, channels_first: bool) -> list[Unit]:
    """Return the neurons of a graph, in order; scalings of single cells are left out: theirs is 1/scale."""
    found = []
    for node in graph:
        if isinstance(node.op, Affine) and not node.op.is_diagonal:
            found.append(_of_kernel(node, node.op, graph))
        elif isinstance(node.op, Mixture) and len(node.inputs) > 1:
            found.append(_of_sum(node, node.op, graph, channels_first))
    return found


def _of_kernel(node: Node, op: Affine, graph: Graph) -> Unit:
    rank = len(op.kernel.shape)
    known = _NEURON_AXES.get(op.form)
    neurons = _probed(op, graph.shapes[node.inputs[0]]) if known is None else tuple(axis % rank for axis in known)
    return Unit(
        node=node,
        linear=lambda xs, kernel: op.linear(xs[0], kernel),
        kernel=op.kernel,
        bias=op.bias,
        neurons=neurons,
        channel=None if known is None else op.channel_axis,
        before_relu=_reaches_relu_only(node, graph),
    )


def _probed(op: Affine, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the kernel's axes along which one output cell has one index: asked of the derivative."""
    ones = np.ones((1, *(size or 2 for size in shape[1:])), backend.to_numpy(op.kernel).dtype)

    def touched(x: Tensor, kernel: Tensor) -> Tensor:
        y, pull = backend.vjp(lambda k: op.linear(x, k), kernel)
        flat = ops.reshape(ops.zeros_like(y), (-1,))
        first = ops.reshape(ops.cast(ops.arange(ops.shape(flat)[0]) == 0, y.dtype), ops.shape(y))
        return pull(first)[0]

    hit = np.nonzero(backend.to_numpy(backend.once(touched, backend.from_numpy(ones), op.kernel)))
    sizes = op.kernel.shape
    return tuple(axis for axis, at in enumerate(hit) if sizes[axis] > 1 and len(np.unique(at)) == 1)


def _of_sum(node: Node, op: Mixture, graph: Graph, channels_first: bool) -> Unit:
    shape = graph.shapes[node.outputs[0]]
    rank = len(shape)
    channel = 1 if channels_first and rank > 2 else rank - 1
    weights = _weights_of_sum(node, op, graph)
    channels = shape[channel] if rank > 1 else 1
    if channels is None:
        raise IncompatibleMethodError(
            f"{node.name!r} adds tensors whose number of channels is left open; patterns are learned per channel. "
            "Give the model a fixed number of channels."
        )
    sizes = [1] * (rank - 1)
    if rank > 1:
        sizes[channel - 1] = channels
    kernel = np.broadcast_to(weights.reshape(-1, *[1] * (rank - 1)), (len(weights), *sizes)).copy()

    def linear(xs: tuple[Tensor, ...], weight: Tensor) -> Tensor:
        return sum(x * weight[k] for k, x in enumerate(xs))

    return Unit(
        node=node,
        linear=linear,
        kernel=backend.from_numpy(kernel),
        bias=None,
        neurons=(channel,) if rank > 1 else (),
        channel=channel,
        before_relu=_reaches_relu_only(node, graph),
    )


def _weights_of_sum(node: Node, op: Mixture, graph: Graph) -> np.ndarray:
    """Return the factor of each input in an Add, Subtract or Average."""
    shapes = [(1, *(size or 1 for size in graph.shapes[i][1:])) for i in node.inputs]
    dtype = next((backend.to_numpy(w).dtype for w in graph.weights), np.dtype("float32"))
    weights = []
    for k in range(len(shapes)):
        given = [backend.from_numpy(np.full(shape, float(i == k), dtype)) for i, shape in enumerate(shapes)]
        alone = backend.to_numpy(backend.once(op.fn, *given))
        if np.ptp(alone) != 0:
            raise IncompatibleMethodError(f"{node.name!r} mixes tensors in a way for which no pattern is defined.")
        weights.append(alone.flat[0])
    return np.array(weights, dtype)


def _reaches_relu_only(node: Node, graph: Graph) -> bool:
    """Whether everything that reads a node's output is a ReLU, seen through rearrangements."""
    consumers = graph.consumers()

    def ends_in_relu(tensor: int) -> bool:
        readers = consumers.get(tensor, [])
        if tensor in graph.outputs or not readers:
            return False
        return all(
            (isinstance(reader.op, Activation) and reader.op.is_relu)
            or (isinstance(reader.op, Route) and all(map(ends_in_relu, reader.outputs)))
            for reader in readers
        )

    return all(map(ends_in_relu, node.outputs))
