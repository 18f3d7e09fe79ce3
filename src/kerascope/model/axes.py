"""Along which axis of a sample each axis inside a network runs: what a map of a layer may be laid over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kerascope import backend
from kerascope.model.graph import Graph, Node, as_tuple
from kerascope.model.primitives import Affine, Route

Along = tuple[int | None, ...]
"""For each axis behind the batch axis: the axis of the sample whose positions it runs through, in order, or None."""


class Axes:
    """Follows the axes of a model's one input through a graph.

    Kernels leave positions where they are and make a new channel axis; rearrangements are asked, with the position
    in each cell, where they bring it. An axis that several axes went into, or that runs backwards, is none.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        (start,) = graph.inputs
        self._producers = graph.producers()
        self._known: dict[int, Along] = {start: tuple(range(len(graph.shapes[start]) - 1))}

    def of(self, tensor: int) -> Along:
        """Return which axes of a sample the axes of a tensor run along."""
        for node in self.graph.ancestors((tensor,), self._known):
            for output, along in zip(node.outputs, self._through(node), strict=True):
                self._known[output] = along
        return self._known[tensor]

    def _through(self, node: Node) -> Iterator[Along]:
        alike = [tensor for tensor in node.inputs if self._rank(tensor) == self._rank(node.inputs[0])]
        merged = tuple(map(_only, zip(*(self._known[tensor] for tensor in alike), strict=True)))
        if isinstance(node.op, Route):
            yield from self._moved(node, merged)
            return
        for output in node.outputs:
            if self._rank(output) == len(merged):
                yield _without_channels(node, merged)
            else:
                yield self._leading(node.inputs[0], output, merged)

    def _rank(self, tensor: int) -> int:
        return len(self.graph.shapes[tensor]) - 1

    def _sizes(self, tensor: int) -> tuple[int, ...]:
        return tuple(size or 1 for size in self.graph.shapes[tensor][1:])

    def _leading(self, before: int, after: int, along: Along) -> Along:
        """Return what the first axes run along, as long as their sizes are the same before and after."""
        kept: list[int | None] = []
        for axis, (have, had) in enumerate(zip(self._sizes(after), self._sizes(before), strict=False)):
            if have != had:
                break
            kept.append(along[axis])
        return (*kept, *(None,) * (self._rank(after) - len(kept)))

    def _moved(self, node: Node, along: Along) -> Iterator[Along]:
        profiles = [self._profiles(node, axis) for axis in range(len(along))]
        for place, output in enumerate(node.outputs):
            moves = [[_moves(of_axis[place][a]) for a in range(self._rank(output))] for of_axis in profiles]
            found: list[int | None] = [None] * self._rank(output)
            for axis, row in enumerate(moves):
                # An axis goes on where it alone rises along one axis of the output, and along no other.
                (to, how), *more = [(a, move) for a, move in enumerate(row) if move] or [(0, 0)]
                if how > 0 and not more and sum(bool(other[to]) for other in moves) == 1:
                    found[to] = along[axis]
            yield tuple(found)

    def _profiles(self, node: Node, axis: int) -> list[list[np.ndarray]]:
        """Return, by output and by its axes, the mean position along an axis of the inputs, without padding."""
        positions = []
        for tensor in node.inputs:
            sizes = self._sizes(tensor)
            numbers = np.arange(1, sizes[axis] + 1, dtype="float32") if axis < len(sizes) else np.ones(1, "float32")
            shape = [-1 if a == axis else 1 for a in range(len(sizes))] if axis < len(sizes) else [1] * len(sizes)
            spread = np.broadcast_to(numbers.reshape(shape), sizes)
            positions.append(backend.from_numpy(np.ascontiguousarray(spread)[None]))
        return [_means(backend.to_numpy(found)[0]) for found in as_tuple(node.op(*positions))]


def _only(labels: Sequence[int | None]) -> int | None:
    """Return the one axis that is named, or None where none is, or several."""
    named = {label for label in labels if label is not None}
    return named.pop() if len(named) == 1 else None


def _without_channels(node: Node, along: Along) -> Along:
    if not isinstance(node.op, Affine) or node.op.is_diagonal:
        return along
    channel = (node.op.channel_axis - 1 if node.op.channel_axis > 0 else node.op.channel_axis) % len(along)
    return tuple(None if axis == channel else label for axis, label in enumerate(along))


def _moves(profile: np.ndarray) -> int:
    """Return 1 where positions rise, -1 where they also fall, 0 where they stay the same."""
    steps = np.diff(profile)
    return 0 if not np.any(steps) else 1 if np.all(steps >= 0) else -1


def _means(positions: np.ndarray) -> list[np.ndarray]:
    """Return the mean along each axis, of the cells that hold a position; lines of padding are left out."""
    profiles = []
    for axis in range(positions.ndim):
        others = tuple(a for a in range(positions.ndim) if a != axis)
        cells = np.count_nonzero(positions, axis=others)
        sums = positions.sum(axis=others, dtype="float64")
        profiles.append(np.round(sums[cells > 0] / cells[cells > 0], 4))
    return profiles
