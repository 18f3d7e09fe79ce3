"""Along which axis of a sample each axis inside a network runs, and how far: what a map of a layer may be laid over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph, Node, as_tuple
from kerascope.model.primitives import Affine, Mixture, Opaque, Route, Winner

_FIRST = 1000.0
"""The number of the first position: far from the constants that padding and class tokens hold."""
_SAME = 1e-2
"""Positions nearer to each other than this are one."""


@dataclass(frozen=True)
class Span:
    """The positions of a sample that an axis runs through: from ``start`` to ``stop``, in cells of its ``axis``.

    An axis that runs backwards starts at the larger one. Padding lies outside the sample, so the ends may too.
    """

    axis: int
    start: float
    stop: float

    @property
    def length(self) -> float:
        """How many cells of the sample the axis runs through."""
        return abs(self.stop - self.start)

    def turned(self) -> Span:
        """Return the same positions, run through the other way."""
        return Span(self.axis, self.stop, self.start)


Along = tuple[Span | None, ...]
"""For each axis behind the batch axis: what it runs through, in order, or None."""


class Axes:
    """Follows the axes of a model's one input through a graph.

    Kernels and pooling leave an axis as long as it was, whatever the number of cells, and kernels make a new channel
    axis. Rearrangements are asked, with the position in each cell, where they bring it. An axis that several went into
    is none.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        (start,) = graph.inputs
        self._known: dict[int, Along] = {start: tuple(Span(i, 0, n) for i, n in enumerate(self._sizes(start)))}

    def of(self, tensor: int) -> Along:
        """Return which axes of a sample the axes of a tensor run along."""
        for node in self.graph.ancestors((tensor,), self._known):
            for output, along in zip(node.outputs, self._through(node), strict=True):
                self._known[output] = along
        return self._known[tensor]

    def _through(self, node: Node) -> Iterator[Along]:
        rank, op = self._rank(node.inputs[0]), node.op
        alike = [self._known[tensor] for tensor in node.inputs if self._rank(tensor) == rank]
        merged = tuple(map(_widest, zip(*alike, strict=True)))
        if isinstance(op, Opaque) and op.reverses:
            merged = (None if merged[0] is None else merged[0].turned(), *merged[1:])
        kept = all(self._rank(output) == rank for output in node.outputs)
        if isinstance(op, Route) or (isinstance(op, (Mixture, Winner)) and not kept):
            yield from self._moved(node, op)
        elif isinstance(op, Affine) and op.form == "einsum":
            yield from self._moved(node, _positions_through(op))
        else:
            for output in node.outputs:
                if self._rank(output) == rank:
                    yield _without_channels(node, self._windowed(node, merged))
                else:
                    yield self._opened(node, output, merged)

    def _windowed(self, node: Node, along: Along) -> Along:
        """Return what axes run through behind windows that slide over them.

        By the custom of these maps that is what they ran through before. But windows that fit into what is padded end
        short of its ends, as far as the padding goes.
        """
        op, sizes = node.op, self._sizes(node.inputs[0])
        convolves = isinstance(op, Affine) and op.form in ("conv", "depthwise")
        if len(node.inputs) > 1 or not (convolves or isinstance(op, (Winner, Mixture))):
            return along
        if isinstance(op, Affine) and op.padding is not None:
            along, sizes = _padded(along, sizes, op.padding)
        elif isinstance(op, Affine) and op.zero_padded:
            return along
        (start,) = self.graph.inputs
        cells, made = self._sizes(start), self._sizes(node.outputs[0])
        found = list(along)
        for at, span in enumerate(along):
            if span is not None and made[at] > 1:
                stride = _stride(op, at, sizes[at], made[at])
                found[at] = _shortened(span, cells[span.axis], 1 - stride * made[at] / sizes[at])
        return tuple(found)

    def _rank(self, tensor: int) -> int:
        return len(self.graph.shapes[tensor]) - 1

    def _sizes(self, tensor: int) -> tuple[int, ...]:
        return tuple(size or 1 for size in self.graph.shapes[tensor][1:])

    def _opened(self, node: Node, output: int, along: Along) -> Along:
        """Return what axes run along where a function that is not known adds some behind them, as an embedding does."""
        kept: list[Span | None] = []
        if isinstance(node.op, Opaque) and self._rank(output) > len(along):
            for span, have, had in zip(along, self._sizes(output), self._sizes(node.inputs[0]), strict=False):
                if have != had:
                    break
                kept.append(span)
        return (*kept, *(None,) * (self._rank(output) - len(kept)))

    def _moved(self, node: Node, fn: Callable[..., Any]) -> Iterator[Along]:
        """Yield what the outputs of a rearrangement run along.

        An axis of the sample goes on where it runs along one axis of the output only, and no other runs there.
        """
        given = {tensor: self._known[tensor] for tensor in node.inputs}
        axes = dict.fromkeys(span.axis for along in given.values() for span in along if span is not None)
        profiles = {axis: self._profiles(node, axis, fn) for axis in axes}
        for place, output in enumerate(node.outputs):
            runs: list[list[Span | None]] = [[] for _ in range(self._rank(output))]
            for axis, (width, of_outputs) in profiles.items():
                moving = [to for to, profile in enumerate(of_outputs[place]) if _varies(profile)]
                for to in moving:
                    runs[to].append(_run(of_outputs[place][to], axis, width) if len(moving) == 1 else None)
            yield tuple(found[0] if len(found) == 1 else None for found in runs)

    def _profiles(self, node: Node, axis: int, fn: Callable[..., Any]) -> tuple[float, list[list[np.ndarray]]]:
        """Ask a rearrangement where it brings positions along an axis of the sample.

        Returns:
            How wide the cells of the input are, and by output and by its axes the mean position; nan where there is
            none.
        """
        given, spans, width = [], [], np.inf
        for tensor in node.inputs:
            sizes, values = self._sizes(tensor), np.zeros(1, "float32")
            found = [
                (at, span) for at, span in enumerate(self._known[tensor]) if span is not None and span.axis == axis
            ]
            for at, span in found[:1]:
                centres = _FIRST + span.start + (np.arange(sizes[at]) + 0.5) * (span.stop - span.start) / sizes[at]
                values = centres.astype("float32").reshape([-1 if a == at else 1 for a in range(len(sizes))])
                spans.append(span)
                width = min(width, span.length / sizes[at])
            given.append(backend.from_numpy(np.broadcast_to(values, sizes)[None].copy()))
        with backend.inference():
            outputs = [backend.to_numpy(found)[0].astype("float64") for found in as_tuple(fn(*given))]
        ends = [end for span in spans for end in (span.start, span.stop)]
        return width, [_means(found, min(ends), max(ends)) for found in outputs]


def _widest(spans: Sequence[Span | None]) -> Span | None:
    """Return the longest of the spans that run together, None where there is none or they run along several ways."""
    known = [span for span in spans if span is not None]
    if len({(span.axis, span.start < span.stop) for span in known}) != 1:
        return None
    return max(known, key=lambda span: span.length)


def _without_channels(node: Node, along: Along) -> Along:
    if not isinstance(node.op, Affine) or node.op.is_diagonal:
        return along
    channel = (node.op.channel_axis - 1 if node.op.channel_axis > 0 else node.op.channel_axis) % len(along)
    return tuple(None if axis == channel else span for axis, span in enumerate(along))


def _padded(along: Along, sizes: tuple[int, ...], pad: Callable[..., Any]) -> tuple[Along, tuple[int, ...]]:
    """Return what axes run through behind a layer that pads with zeros, and how many cells they have there."""
    with backend.inference():
        held = backend.to_numpy(pad(backend.from_numpy(np.ones((1, *sizes), "float32"))))[0] > 0
    found: list[Span | None] = []
    for at, span in enumerate(along):
        inside = np.flatnonzero(held.any(axis=tuple(a for a in range(held.ndim) if a != at)))
        before, after = int(inside[0]), held.shape[at] - 1 - int(inside[-1])
        cell = 0.0 if span is None else (span.stop - span.start) / sizes[at]
        found.append(span and Span(span.axis, span.start - before * cell, span.stop + after * cell))
    return tuple(found), held.shape


def _stride(op: Any, at: int, size: int, made: int) -> int:
    """Return by how many cells windows move along an axis, from the sizes before and behind them."""
    if not isinstance(op, Affine):
        return max(1, round(size / made))
    spatial = at - 1 if op.channel_axis == 1 else at
    kernel = int(op.kernel.shape[spatial]) if spatial >= 0 and spatial < len(op.kernel.shape) - 2 else 1
    fits = (stride for stride in range(1, size + 1) if (size - kernel) // stride + 1 == made)
    return next(fits, 1)  # windows with gaps in them move by one cell


def _shortened(span: Span, cells: int, share: float) -> Span:
    """Return a span without a share of its length, taken from what lies outside the sample: from both ends alike."""
    low, high = min(span.start, span.stop), max(span.start, span.stop)
    before, after, less = max(-low, 0.0), max(high - cells, 0.0), max(share, 0.0) * span.length
    first, last = min(less / 2, before), min(less / 2, after)
    first = min(before, less - last)
    last = min(after, less - first)
    low, high = low + first, high - last
    return Span(span.axis, low, high) if span.start < span.stop else Span(span.axis, high, low)


def _positions_through(op: Affine) -> Callable[..., Any]:
    """Return the function that averages positions over what a kernel mixes."""
    ones = ops.ones(op.kernel.shape, "float32")
    return lambda x: op.linear(x, ones) / op.linear(ops.ones_like(x), ones)


def _means(found: np.ndarray, low: float, high: float) -> list[np.ndarray]:
    """Return the mean position along each axis; nan where no cell holds one from ``low`` to ``high``."""
    held = (found > _FIRST + low) & (found < _FIRST + high)
    profiles = []
    for axis in range(found.ndim):
        others = tuple(a for a in range(found.ndim) if a != axis)
        cells, sums = held.sum(axis=others), np.where(held, found - _FIRST, 0).sum(axis=others)
        profiles.append(np.where(cells > 0, sums / np.maximum(cells, 1), np.nan))
    return profiles


def _varies(profile: np.ndarray) -> bool:
    held = profile[~np.isnan(profile)]
    return len(held) > 1 and bool(np.ptp(held) > _SAME)


def _run(profile: np.ndarray, axis: int, width: float) -> Span | None:
    """Return what an axis runs through, from the positions along it; None if most of them neither rise nor fall.

    ``width``: of a cell before.
    """
    held = profile[~np.isnan(profile)]
    if 2 * np.count_nonzero(np.diff(held) < 0) > len(held):
        risen = _run(-profile, axis, width)
        return None if risen is None else Span(axis, -risen.start, -risen.stop)
    start = first = last = 0
    for place, step in enumerate(np.diff(profile)):  # the longest stretch that does not fall
        start = start if step >= -_SAME else place + 1
        if place + 1 - start > last - first:
            first, last = start, place + 1
    # What comes before or behind the rising ones is padding: mirrored cells, a token.
    inside = profile[first : last + 1]
    if 2 * len(inside) <= len(held) or not inside[-1] - inside[0] > _SAME:
        return None
    # Cells that are repeated fill what they came from; cells that were left out count to their neighbours.
    half = max(width, float(np.median(np.diff(inside)))) / 2
    low, high = inside[0] - half, inside[-1] + half
    cell = (high - low) / len(inside)
    return Span(axis, float(low - cell * first), float(high + cell * (len(profile) - 1 - last)))
