"""A model as methods see it: its inputs, its heads and its graph, checked against the model itself."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from kerascope.errors import BadTargetError, IncompatibleMethodError, UnknownNameError, unknown_name
from kerascope.model.canonize import Check, canonize, evaluate
from kerascope.model.convert import precision
from kerascope.model.fingerprint import checksum, fingerprint
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Tensor
from kerascope.model.signature import InputSpec, Signature, signature_of
from kerascope.model.trace import exact, names_kept
from kerascope.model.verify import TOLERANCE, Head, Verifier, predict, to_tensors

__all__ = ["Head", "InputSpec", "ModelView", "Signature", "checksum", "fingerprint", "signature_of"]


class ModelView:
    """A built model with its traced and canonized graph.

    Args:
        model: a built Keras model.
        signature: how the model takes its inputs, see `Signature`.
        sample: one array per input with at least one real sample: what the graph is checked on.

    Raises:
        TraceError: if the graph does not compute what the model computes.
        BadInputError: if the model's outputs for the samples are not finite.
    """

    def __init__(self, model: keras.Model, signature: Signature, sample: Sequence[np.ndarray]) -> None:
        self.model = model
        self.signature = signature
        self.dtype = precision(model)
        with exact(self.dtype), names_kept():
            self._open(sample)
        self.fingerprint = fingerprint(model)

    def _open(self, sample: Sequence[np.ndarray]) -> None:
        found = Verifier(self.model, self.signature, sample, self.dtype).find()
        self.traced, self.heads, self.keyed = found.graph, found.heads, found.keyed
        self._tensors = found.tensors
        taken = tuple(f"{head.taken_off} of output {head.name}" for head in self.heads if head.taken_off)
        wanted = dict.fromkeys(tensor for head in self.heads for tensor in (head.logits, head.final))
        self.unfolded = replace(self.traced, taken_off=taken, outputs=tuple(wanted))
        self.graph = self._canonize(self.unfolded, [found.values[i] for i in wanted])

    def to_tensors(self, arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        """Return NumPy inputs as tensors: floats in the view's precision, integers as the model takes them."""
        return to_tensors(arrays, self.signature, self.dtype)

    def predict_raw(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the model's own outputs (flat) for a small batch."""
        with exact(self.dtype), names_kept():
            return predict(self.model, self.signature, arrays, self.dtype)

    def _canonize(self, graph: Graph, outputs: Sequence[np.ndarray]) -> Graph:
        graph = graph.restrict(graph.outputs)
        return canonize(graph, Check(self._tensors, tuple(outputs), TOLERANCE[self.dtype]))

    @functools.cached_property
    def logits(self) -> Graph:
        """The canonized graph up to the logits of every head."""
        return self.graph.restrict(tuple(head.logits for head in self.heads))

    def head(self, name: str | int | None) -> Head:
        """Return the head of that name or number; the only one where no name is given."""
        names = [head.name for head in self.heads]
        if name is None:
            if len(self.heads) > 1:
                raise BadTargetError(
                    f"The model has {len(names)} outputs: {', '.join(names)}. Say which is meant, "
                    f"e.g. target=ks.Class(0, output={names[0]!r})."
                )
            return self.heads[0]
        if isinstance(name, int) and 0 <= name < len(names):
            return self.heads[name]
        if name not in names:
            raise BadTargetError(str(unknown_name("output", name, names)))
        return self.heads[names.index(str(name))]

    def finish(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return what the model returns, from the logits of its heads."""
        finals = replace(self.graph, outputs=tuple(head.final for head in self.heads))
        return list(finals.run_from({head.logits: z for head, z in zip(self.heads, logits, strict=True)}))

    @property
    def channels_first(self) -> bool:
        """Whether the model's convolutions hold channels on the axis after the batch."""
        return any(
            node.op.form in ("conv", "depthwise", "transpose")
            and node.op.channel_axis == 1
            and len(self.traced.shapes[node.outputs[0]]) > 2
            for node in self.traced
            if isinstance(node.op, Affine)
        )

    def keeping(self, tensor: int) -> Graph:
        """Return the graph to the logits, canonized so that a tensor of the traced graph is still in it."""
        outputs = tuple(head.logits for head in self.heads)
        if any(tensor in node.outputs for node in self.logits):
            return self.logits
        return self._rewritten(replace(self.unfolded, outputs=outputs), keep=(tensor,))

    def tensor_of(self, layer: str) -> int:
        """Return the one tensor of the traced graph that a layer returns.

        Raises:
            UnknownNameError: if there is no such layer.
            IncompatibleMethodError: if it returns several, in one call or in many.
        """
        if layer not in self.traced.layers:
            raise unknown_name("layer", layer, self.traced.layers)
        tensors = self.traced.layers[layer]
        if len(tensors) != 1:
            raise IncompatibleMethodError(
                f"Layer {layer!r} is called {len(tensors)} times (or returns that many tensors): which is meant "
                "is not clear. Name a layer before or after it that is called once."
            )
        return tensors[0]

    def at_layer(self, layer: str) -> Graph:
        """Return the canonized graph that ends in what a layer returns.

        Raises:
            BadTargetError: if there is no such layer, or it is called more than once.
        """
        try:
            tensors = (self.tensor_of(layer),)
        except (UnknownNameError, IncompatibleMethodError) as error:
            raise BadTargetError(str(error)) from None
        if any(tensors[0] in node.outputs for node in self.graph):
            return self.graph.restrict(tensors)
        return self._rewritten(replace(self.traced, outputs=tensors))

    def ending_at(self, outputs: tuple[int, ...]) -> Graph:
        """Return the canonized graph that ends in some tensors."""
        known = {tensor for node in self.graph for tensor in node.outputs}
        if known.issuperset(outputs):
            return self.graph.restrict(outputs)
        return self._rewritten(replace(self.traced, outputs=outputs))

    def with_weights(self, weights: Sequence[Tensor]) -> ModelView:
        """Return the view of the same network with other kernels and biases; the model keeps its own.

        ``weights``: in the order of ``traced.weights``.
        """
        view = copy.copy(self)
        view.__dict__.pop("logits", None)
        view.traced = self.traced.with_weights(weights)
        view.unfolded = replace(self.unfolded, nodes=view.traced.nodes)
        with exact(self.dtype), names_kept():
            view.graph = view._canonize(view.unfolded, evaluate(view.unfolded, view._tensors))
        return view

    def _rewritten(self, graph: Graph, keep: tuple[int, ...] = ()) -> Graph:
        wanted = tuple(dict.fromkeys((*graph.outputs, *keep)))
        graph = replace(graph, outputs=wanted)
        with exact(self.dtype), names_kept():
            return self._canonize(graph, evaluate(graph, self._tensors))
