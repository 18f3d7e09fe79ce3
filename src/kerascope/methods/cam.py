"""What class activation maps share: the layer, its activations and gradients, and the map laid over the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, IncompatibleMethodError
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.inside import place_name
from kerascope.methods.session import Session
from kerascope.model.axes import Along, Axes, Span
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import HEADS, Activation, Affine, Mixture, Opaque, Route, Tensor
from kerascope.target import Selection


@dataclass(frozen=True)
class ActivationMap(Method):
    """Base of the class activation maps.

    Args:
        layer: the layer whose activations A (*spatial, K) are weighed; None: the last one with spatial axes.
        relu: whether negative values of the map are set to 0; None: as in the method's paper.
        upsample: how ``values`` is enlarged to the input's size: linearly (True) or by nearest cells.
    """

    layer: str | None = None
    relu: bool | None = None
    upsample: bool = True

    family: ClassVar[str] = "localisation"
    needs: ClassVar[str] = "a layer with spatial axes; one input"
    rectified: ClassVar[bool] = True
    by_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.relu not in (None, True, False):
            raise BadInputError(f"relu must be True, False or None (as in the paper); got {self.relu!r}.")
        if self.upsample not in (True, False):
            raise BadInputError(f"upsample must be True (linearly) or False (nearest cells); got {self.upsample!r}.")

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        if len(session.view.signature.specs) > 1:
            raise IncompatibleMethodError(
                "Class activation maps are defined for models with one input. Use lrp or integrated_gradients."
            )
        self.place(session)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        if selection.kind == "neuron":
            raise IncompatibleMethodError(
                "Class activation maps explain outputs, not units inside the network. Name an output (ks.Class, "
                "ks.Output), or use integrated_gradients."
            )

    def place(self, session: Session) -> Place:
        """Return where the map is taken.

        Raises:
            IncompatibleMethodError: if no layer has spatial axes that run along those of a sample.
        """
        key = ("cam", self.layer, session.view.logits.outputs)
        found: Place = session.remember(key, lambda: _place(session, self.layer))
        return found

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        name = self.place(session).name
        rows = super().rule_table(session)
        return [row | {"rule": "map taken here"} if row["node"] == name else row for row in rows]

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        place = self.place(session)
        graph, tensor = place.graph, place.tensor
        selection = replace(batch.selection, graph=graph)

        def build() -> Callable[..., Any]:
            of = _activations_and_gradients if self.by_gradient else _activations
            return lambda *args: of(graph, tensor, selection, *args)

        found = session.run(("cam", tensor, self.by_gradient), build, batch.inputs, selection)
        activations, grads, explained, logits = found
        axis = 1 if session.view.channels_first else -1
        a = np.moveaxis(activations, axis, -1).astype("float64")
        g = None if grads is None else np.moveaxis(grads, 2 if axis == 1 else -1, -1).astype("float64")
        raw = self.weigh(session, batch, a, g)
        rectified = self.rectified if self.relu is None else self.relu
        raw = np.maximum(raw, 0) if rectified else raw
        values = place.lay_over(raw, batch.inputs[0].shape[1:], smooth=self.upsample)
        dtype = session.view.dtype
        return Attribution(
            values=(values.astype(dtype),),
            explained=explained,
            logits=list(logits),
            layer_map=raw.astype(dtype),
            warnings=(*self._notes(graph, tensor, place.name), *self._said(raw, explained)),
        )

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """Return the map (B, T, *spatial) of activations (B, *spatial, K), gradients (B, T, *spatial, K).

        Without `by_gradient` there are no gradients: None.
        """
        raise NotImplementedError

    def _said(self, raw: np.ndarray, explained: np.ndarray) -> tuple[str, ...]:
        """Return what to know of raw maps (B, T, *spatial) and the numbers they explain (B, T)."""
        return _empty_maps(raw)

    def _notes(self, graph: Graph, tensor: int, name: str) -> tuple[str, ...]:
        past = gone_past(graph, tensor)
        unseen = (
            f"What reaches the output past {name!r} (from {', '.join(past)}) has no part in the map. Name "
            "as layer= one that all passes through, or explain with lrp or integrated_gradients.",
        )
        chosen = f"The map was taken at {name!r}, the last layer whose positions are those of the input."
        return (*(() if self.layer else (chosen,)), *(unseen if past else ()))


def _place(session: Session, layer: str | None) -> Place:
    if layer is not None:
        return _named(session, layer)
    graph = session.view.logits
    axes = Axes(graph)
    candidates = [node for node in graph if _makes_places(node) and _has_places(graph, node, session)]
    # Where nothing but an activation follows, the layer is the output itself: its only cell is the one explained.
    inner = [node for node in candidates if not _is_output(graph, node)]
    for node in reversed(inner or candidates):
        if (place := Place.at(graph, node.outputs[0], node.name, axes, session)) is not None:
            return place
    last = f" (the positions of {candidates[-1].name!r} are others)" if candidates else ""
    raise IncompatibleMethodError(
        f"No layer of this model has spatial axes like those of its input{last}, so there is nothing to map. Use "
        "integrated_gradients."
    )


def _named(session: Session, layer: str) -> Place:
    view = session.view
    tensor = view.tensor_of(layer)
    graph = view.keeping(tensor).restrict(view.logits.outputs)
    if not any(tensor in node.outputs for node in graph):
        raise IncompatibleMethodError(f"Layer {layer!r} has no part in the output explained. Name another one.")
    place = Place.at(graph, tensor, layer, Axes(graph), session)
    if place is None:
        raise IncompatibleMethodError(
            f"Layer {layer!r} returns shape {view.traced.shapes[tensor]}, whose axes cannot be followed to those of "
            f"a sample, {session.shapes[0]}: its map cannot be laid over. Name a layer with spatial axes."
        )
    return place


def gone_past(graph: Graph, tensor: int) -> list[str]:
    """Return the operations (or "the input") from which what follows a tensor gets more than that tensor tells."""
    behind, producers = graph.after(tensor), graph.producers()
    made = {tensor}.union(*(node.outputs for node in behind))
    entering = dict.fromkeys(t for node in behind for t in node.inputs if t not in made and _tells(producers, t))
    return list(dict.fromkeys(_named_source(producers.get(t), t) for t in entering))


_TELL_NOTHING = frozenset(
    [
        *("Any", "All", "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"),
        *("LogicalAnd", "LogicalOr", "LogicalNot", "ZerosLike", "OnesLike"),
    ]
)
"""Operations that give masks or constants."""


def _tells(producers: Mapping[int, Node], tensor: int) -> bool:
    """Whether a tensor is more than a mask or a constant, at most rearranged since."""
    node = producers.get(tensor)
    if node is None:
        return True
    if isinstance(node.op, Route):
        return any(_tells(producers, t) for t in node.inputs)
    return node.source.__name__ not in _TELL_NOTHING


def _named_source(producer: Node | None, tensor: int) -> str:
    return "the input" if producer is None else repr(place_name(producer, producer.outputs.index(tensor)))


def _makes_places(node: Node) -> bool:
    """Whether an operation is more than a rearrangement of one tensor: it computes, or joins several."""
    return not isinstance(node.op, Route) or len(node.inputs) > 1


def _is_output(graph: Graph, node: Node) -> bool:
    """Whether all that follows a node are activations, scalings and rearrangements."""
    after = graph.after(node.outputs[0])
    return all(
        isinstance(n.op, (Route, Activation))
        or (isinstance(n.op, Affine) and n.op.is_diagonal)
        or (isinstance(n.op, Opaque) and n.op.name in HEADS)
        for n in after
    )


def _has_places(graph: Graph, node: Node, session: Session) -> bool:
    """Whether a node returns more than one place: a pooling that keeps its axes leaves just one."""
    shape = graph.shapes[node.outputs[0]]
    spatial = shape[2:] if session.view.channels_first else shape[1:-1]
    return any(size != 1 for size in spatial)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a map is taken: a tensor of a graph, and the axis of a sample that each of its spatial axes runs along."""

    graph: Graph
    tensor: int
    name: str
    along: Along

    @classmethod
    def at(cls, graph: Graph, tensor: int, name: str, axes: Axes, session: Session) -> Place | None:
        """Return the place, or None where spatial axes do not run along axes of a sample, each along its own."""
        shape = graph.shapes[tensor]
        spatial = slice(1, None) if session.view.channels_first else slice(0, -1)
        sized = list(zip(axes.of(tensor)[spatial], shape[1:][spatial], strict=True))
        extended = [None if span is None else span.axis for span, size in sized if size != 1]
        # All axes of a sample, or all but its channels: a layer with fewer may have seen a part of it only.
        fewer = len(session.shapes[0]) - len(sized) not in (0, 1)
        if fewer or not sized or None in extended or len(set(extended)) < len(extended):
            return None
        # An axis with one place holds for the whole of any axis: it is dropped.
        return cls(graph, tensor, name, tuple(span if size != 1 else None for span, size in sized))

    def lay_over(self, raw: np.ndarray, shape: tuple[int, ...], *, smooth: bool) -> np.ndarray:
        """Enlarge maps (B, T, *spatial) to a sample's shape, the same along all axes the layer does not run along."""
        single = tuple(place + 2 for place, span in enumerate(self.along) if span is None)
        enlarged = np.squeeze(raw, single)
        kept = [span for span in self.along if span is not None]
        for place, span in enumerate(kept):
            enlarged = _enlarge(enlarged, place + 2, shape[span.axis], span, smooth=smooth)
        order = [span.axis for span in kept]
        ordered = np.transpose(enlarged, (0, 1, *(2 + place for place in np.argsort(order))))
        missing = tuple(axis + 2 for axis in range(len(shape)) if axis not in order)
        return np.array(np.broadcast_to(np.expand_dims(ordered, missing), (*raw.shape[:2], *shape)))


def _activations_and_gradients(
    graph: Graph, tensor: int, selection: Selection, xs: Sequence[Tensor], codes: Tensor, against: Tensor
) -> tuple[Any, ...]:
    (activations,) = graph.run(xs, (tensor,))

    def rest(a: Tensor) -> tuple[Tensor, ...]:
        return graph.run_from({tensor: a, **dict(zip(graph.inputs, xs, strict=True))})

    logits, pull = backend.vjp(rest, activations)
    seeds, explained = selection.seed(logits, codes, against)
    grads = ops.stack([pull(tuple(seed))[0] for seed in seeds], axis=1)
    return activations, grads, explained, list(logits)


def _activations(
    graph: Graph, tensor: int, selection: Selection, xs: Sequence[Tensor], codes: Tensor, against: Tensor
) -> tuple[Any, ...]:
    activations, *logits = graph.run(xs, (tensor, *graph.outputs))
    _, explained = selection.seed(logits, codes, against)
    return activations, None, explained, logits


def _enlarge(values: np.ndarray, axis: int, size: int, span: Span, *, smooth: bool) -> np.ndarray:
    """Interpolate along one axis, cell centres on cell centres, constant beyond the outermost ones; 0 out of the span.

    The axis runs through ``span`` of the ``size`` cells.
    """
    have, centres = values.shape[axis], np.arange(size) + 0.5
    within = (centres - span.start) * have / (span.stop - span.start)
    if smooth:
        places = np.clip(within - 0.5, 0, have - 1)
        left = np.floor(places).astype(int)
        share = (places - left).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        right = np.minimum(left + 1, have - 1)
        mixed = np.take(values, left, axis=axis) * (1 - share) + np.take(values, right, axis=axis) * share
    else:
        mixed = np.take(values, np.clip(np.floor(within).astype(int), 0, have - 1), axis=axis)
    read = ((within >= 0) & (within <= have)).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return np.asarray(mixed * read)


def _empty_maps(raw: np.ndarray) -> tuple[str, ...]:
    empty = int(np.sum(~np.any(raw, axis=tuple(range(2, raw.ndim)))))
    if not empty:
        return ()
    return (
        f"{empty} maps are zero everywhere: nothing in the layer speaks for the target (relu=False shows "
        "what speaks against it).",
    )


def spatial_axes(array: np.ndarray, first: int) -> tuple[int, ...]:
    """Return the axes between the first ones and the last one, which holds channels."""
    return tuple(range(first, array.ndim - 1))


def is_averaged(graph: Graph, tensor: int) -> bool:
    """Whether all that follows a tensor sees of it is its average over positions."""
    readers = [node for node in graph if tensor in node.inputs]
    if len(readers) != 1 or len(readers[0].outputs) != 1:
        return False
    (reader,), (made,) = readers, readers[0].outputs
    turned = isinstance(reader.op, Route) and reader.op.keeps_cells and not reader.op.pads
    if turned or (isinstance(reader.op, Mixture) and len(reader.inputs) > 1):  # joined to others, or added
        sizes = zip(graph.shapes[made], graph.shapes[tensor], strict=False)
        kept = len(graph.shapes[made]) == len(graph.shapes[tensor])
        return kept and sum(a != b for a, b in sizes) <= (len(reader.inputs) > 1) and is_averaged(graph, made)
    average = isinstance(reader.op, Mixture) and len(reader.inputs) == 1
    return average and sum(size != 1 for size in graph.shapes[made][1:]) <= 1
