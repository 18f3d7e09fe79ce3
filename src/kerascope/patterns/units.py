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
    ``fixed``: the axes of x, counted from the end, along which a cell of the kernel reads the same index everywhere.
    """

    node: Node
    linear: Callable[[tuple[Tensor, ...], Tensor], Tensor]
    kernel: Tensor
    bias: Tensor | None
    neurons: tuple[int, ...]
    channel: int | None
    fixed: tuple[int, ...]
    before_relu: bool

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def form(self) -> str:
        """The layout of the kernel, see `Affine`; ``"sum"`` for sums."""
        return self.node.op.form if isinstance(self.node.op, Affine) else "sum"

    @property
    def inputs(self) -> int:
        """How many tensors it reads."""
        return len(self.node.inputs)

    def layout(self, rank: int) -> tuple[int, ...]:
        """Return the axes of a kernel of that rank over which one neuron reads."""
        return tuple(axis for axis in range(rank) if axis not in self.neurons)

    def per_neuron(self, tensor: Tensor, pull_ones: Callable[[Tensor], Any] | None) -> Tensor:
        """Sum what stands at y over samples and positions, into a shape that broadcasts against the kernel.

        Args:
            tensor: in the shape of y.
            pull_ones: from y of one sample to the kernel where every input is 1; used where ``channel`` is None.
        """
        rank = len(self.kernel.shape)
        if self.channel is None and pull_ones is not None:
            index = tuple(slice(None) if axis in self.neurons else slice(0, 1) for axis in range(rank))
            return pull_ones(ops.sum(tensor, axis=0, keepdims=True))[0][index]
        for axis in self._positions(tensor):  # one after the other: short sums lose fewer digits
            tensor = ops.sum(tensor, axis=axis, keepdims=True)
        shape = [size if axis in self.neurons else 1 for axis, size in enumerate(self.kernel.shape)]
        return ops.reshape(tensor, shape)

    def output_mean(self, y: Tensor) -> Tensor:
        """Return the mean of y over samples and positions, which broadcasts against y; 0 where ``channel`` is None."""
        if self.channel is None:
            return ops.zeros((1,) * len(y.shape), y.dtype)
        return ops.mean(y, axis=self._positions(y), keepdims=True)

    def input_mean(self, x: Tensor) -> Tensor:
        """Return the mean of one input over all but its ``fixed`` axes; it broadcasts against the input."""
        rank = len(x.shape)
        fixed = {axis + rank for axis in self.fixed}
        return ops.mean(x, axis=tuple(axis for axis in range(rank) if axis not in fixed), keepdims=True)

    def _positions(self, y: Tensor) -> tuple[int, ...]:
        rank = len(y.shape)
        return tuple(axis for axis in range(rank) if axis != (self.channel or 0) % rank)


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
    rank, shape = len(op.kernel.shape), graph.shapes[node.inputs[0]]
    known = _NEURON_AXES.get(op.form)
    if known is None:
        neurons, fixed = _probed(op, shape)
    else:
        neurons, fixed = tuple(axis % rank for axis in known), (op.channel_axis % len(shape) - len(shape),)
    return Unit(
        node=node,
        linear=lambda xs, kernel: op.linear(xs[0], kernel),
        kernel=op.kernel,
        bias=op.bias,
        neurons=neurons,
        channel=None if known is None else op.channel_axis,
        fixed=fixed,
        before_relu=_reaches_relu_only(node, graph),
    )


def _probed(op: Affine, shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is asked of the derivatives: axes of the kernel, axes of x.

    Those of the kernel along which one output cell has one index, and those of x (counted from the end) along which
    one cell of the kernel has.
    """
    dtype = backend.to_numpy(op.kernel).dtype
    x = backend.from_numpy(np.ones((1, *(size or 2 for size in shape[1:])), dtype))
    first = np.zeros(tuple(op.kernel.shape), dtype)
    first.flat[0] = 1

    def touched(x: Tensor, kernel: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        y, pull = backend.vjp(lambda k: op.linear(x, k), kernel)
        flat = ops.reshape(ops.zeros_like(y), (-1,))
        one = ops.reshape(ops.cast(ops.arange(ops.shape(flat)[0]) == 0, y.dtype), ops.shape(y))
        pull_x = backend.vjp(lambda u: op.linear(u, first), x)[1]
        return pull(one)[0], pull_x(ops.ones_like(y))[0]

    found = map(backend.to_numpy, backend.once(touched, x, op.kernel, backend.from_numpy(first)))
    of_kernel, of_x = (_single(array) for array in found)
    return of_kernel, tuple(axis - len(shape) for axis in of_x)


def _single(cells: np.ndarray) -> tuple[int, ...]:
    """Return the axes along which all cells that are not 0 have one index, of several that are possible."""
    return tuple(axis for axis, at in enumerate(np.nonzero(cells)) if cells.shape[axis] > 1 and len(np.unique(at)) == 1)


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
        fixed=(channel - rank,),
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
