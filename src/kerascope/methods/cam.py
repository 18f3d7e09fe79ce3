"""What class activation maps share: the layer, its activations and gradients, and the map laid over the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import IncompatibleMethodError, unknown_name
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.session import Session
from kerascope.model.graph import Graph
from kerascope.model.primitives import Mixture, Route, Tensor
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

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        if len(session.view.signature.specs) > 1:
            raise IncompatibleMethodError("Class activation maps are defined for models with one input.")
        self.place(session)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        if selection.kind == "neuron":
            raise IncompatibleMethodError("Class activation maps explain outputs, not units inside the network.")

    def place(self, session: Session) -> tuple[Graph, int, str]:
        """Return the graph, the tensor whose activations are weighed, and the layer's name.

        Raises:
            IncompatibleMethodError: if no layer has spatial axes.
        """
        key = ("cam", self.layer, session.view.logits.outputs)
        found: tuple[Graph, int, str] = session.remember(key, lambda: _place(session, self.layer))
        return found

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        _, _, name = self.place(session)
        rows = super().rule_table(session)
        return [row | {"rule": "map taken here"} if row["node"] == name else row for row in rows]

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        graph, tensor, name = self.place(session)
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
        values = lay_over(raw, batch.inputs[0].shape[1:], session.view.channels_first, smooth=self.upsample)
        dtype = session.view.dtype
        return Attribution(
            values=(values.astype(dtype),),
            explained=explained,
            logits=list(logits),
            layer_map=raw.astype(dtype),
            warnings=(*self._notes(graph, tensor, name), *self._said(raw, explained)),
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
        return () if self.layer else (f"The map was taken at {name!r}, the last layer with spatial axes.",)


def _place(session: Session, layer: str | None) -> tuple[Graph, int, str]:
    view = session.view
    if layer is not None:
        if layer not in view.traced.layers:
            raise unknown_name("layer", layer, view.traced.layers)
        tensor = view.traced.layers[layer][-1]
        if not _fits_over(view.traced.shapes[tensor], session):
            raise IncompatibleMethodError(
                f"Layer {layer!r} returns shape {view.traced.shapes[tensor]}, whose axes are not those of a "
                f"sample, {session.shapes[0]}: its map cannot be laid over. Name a layer with spatial axes."
            )
        graph = view.keeping(tensor).restrict(view.logits.outputs)
        if not any(tensor in node.outputs for node in graph):
            raise IncompatibleMethodError(f"Layer {layer!r} has no part in the output explained. Name another one.")
        return graph, tensor, layer
    graph = view.logits
    spatial = [node for node in graph if _counts(node.op) and _is_map(graph.shapes[node.outputs[0]], session)]
    if not spatial:
        raise IncompatibleMethodError(
            "No layer of this model has spatial axes like those of its input, so there is nothing to map. Use "
            "lrp or integrated_gradients."
        )
    return graph, spatial[-1].outputs[0], spatial[-1].name


def _counts(op: Any) -> bool:
    return not isinstance(op, Route)


def _fits_over(shape: tuple[int | None, ...], session: Session) -> bool:
    """Whether a tensor has as many spatial axes as a sample, which has a channel axis or none."""
    rank = len(session.shapes[0])
    return len(shape) > 2 and len(shape) - 2 in (rank - 1, rank)


def _is_map(shape: tuple[int | None, ...], session: Session) -> bool:
    """Whether it also has more than one place: a pooling that keeps its axes leaves just one."""
    spatial = shape[2:] if session.view.channels_first else shape[1:-1]
    return _fits_over(shape, session) and any(size != 1 for size in spatial)


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


def lay_over(raw: np.ndarray, shape: tuple[int, ...], channels_first: bool, *, smooth: bool) -> np.ndarray:
    """Enlarge maps (B, T, *spatial) to a sample's spatial size, the same for every channel."""
    spatial = shape[1:] if channels_first and len(shape) > 1 else shape[:-1]
    if len(spatial) != raw.ndim - 2:
        spatial = shape[: raw.ndim - 2]
    enlarged = raw
    for axis, size in enumerate(spatial):
        enlarged = _enlarge(enlarged, axis + 2, size, smooth=smooth)
    channel = 2 if channels_first else enlarged.ndim
    if len(shape) == len(spatial):
        return enlarged
    count = shape[0] if channels_first else shape[-1]
    return np.asarray(np.repeat(np.expand_dims(enlarged, channel), count, axis=channel))


def _enlarge(values: np.ndarray, axis: int, size: int, *, smooth: bool) -> np.ndarray:
    """Interpolate along one axis, cell centres on cell centres, constant beyond the outermost ones."""
    have = values.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
    if not smooth:
        return np.asarray(np.take(values, np.arange(size) * have // size, axis=axis))
    left = np.floor(places).astype(int)
    right = np.minimum(left + 1, have - 1)
    share = (places - left).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    mixed = np.take(values, left, axis=axis) * (1 - share) + np.take(values, right, axis=axis) * share
    return np.asarray(mixed)


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
    """Whether all that follows a tensor sees is its average over positions."""
    readers = [node for node in graph if tensor in node.inputs]
    if len(readers) != 1 or not isinstance(readers[0].op, Mixture) or len(readers[0].inputs) != 1:
        return False
    shape = graph.shapes[readers[0].outputs[0]]
    return sum(size != 1 for size in shape[1:]) <= 1
