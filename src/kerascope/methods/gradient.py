"""Gradients of the output, as they are or with ReLUs changed on the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.relu import require_relu
from kerascope.methods.session import Session
from kerascope.methods.ties import tie_handlers
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Opaque, Product, Route, Tensor
from kerascope.model.propagate import Backward, Handler, forward
from kerascope.target import Selection


@dataclass(frozen=True)
class Gradient(Method):
    """The derivative of the explained number by every cell: G = d f / d x.

    Units: output per unit of the cell. Local, signed, complete for nothing.

    Reference: Baehrens et al. 2010, "How to explain individual classification decisions", JMLR 11;
    Simonyan et al. 2014, "Deep inside convolutional networks", ICLR workshop.
    """

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "How would the output change if this cell changed a little?"
    paper: ClassVar[str] = "Simonyan et al. 2014, ICLR workshop"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "linearity", "shift invariance")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        grads, explained, logits = session.gradients(batch.inputs, batch.selection)
        return Attribution(values=grads, explained=explained, logits=logits)


@dataclass(frozen=True)
class Saliency(Gradient):
    """The size of the gradient, |d f / d x|; never negative.

    Reference: Simonyan et al. 2014, "Deep inside convolutional networks", ICLR workshop.
    """

    question: ClassVar[str] = "How strongly would the output react to a small change of this cell, either way?"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "shift invariance")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        grads, explained, logits = session.gradients(batch.inputs, batch.selection)
        return Attribution(values=tuple(np.abs(grad) for grad in grads), explained=explained, logits=logits)


@dataclass(frozen=True)
class InputXGradient(Method):
    """Input times gradient: x * d f / d x.

    On a network of linear, convolution, ReLU, pooling and Add layers without biases the values sum to f(x);
    with biases they do not, and nothing is promised.

    Reference: Shrikumar et al. 2016, "Not just a black box", arXiv:1605.01713; Ancona et al. 2018, ICLR.
    """

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell contribute, taking the network as linear where it stands?"
    paper: ClassVar[str] = "Shrikumar et al. 2016, arXiv:1605.01713"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "linearity")
    promise: ClassVar[str] = "the explained number, on networks without biases"

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`."""
        return True

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        grads, explained, logits = session.gradients(batch.inputs, batch.selection)
        values = tuple(x[:, None] * grad for x, grad in zip(batch.inputs, grads, strict=True))
        graph = batch.selection.graph
        homogeneous: bool = session.remember(("homogeneous", graph.outputs), lambda: is_homogeneous(graph))
        complete = batch.selection.fn is None and homogeneous
        return Attribution(values=values, expected=explained if complete else None, explained=explained, logits=logits)


_HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})


def is_homogeneous(graph: Graph) -> bool:
    """Whether f(s x) = s f(x) for s > 0: no bias or constant anywhere, and only ReLU-like activations."""
    return not any(_breaks_homogeneity(node, graph) for node in graph)


def _breaks_homogeneity(node: Node, graph: Graph) -> bool:
    op = node.op
    if isinstance(op, Affine):
        return op.bias is not None and bool(np.any(backend.to_numpy(op.bias)))
    if isinstance(op, Activation):
        return op.name not in _HOMOGENEOUS
    if isinstance(op, Route) and op.pads:
        nothing = [ops.zeros((1, *(size or 1 for size in graph.shapes[i][1:]))) for i in node.inputs]
        return bool(np.any(backend.to_numpy(op.fn(*nothing))))
    return isinstance(op, (Opaque, Product))


def _guided(op: Activation, x: Tensor) -> tuple[Tensor, Backward]:
    mask = ops.cast(x > 0, x.dtype)
    return op(x), lambda arriving: ((ops.maximum(arriving[0], 0) * mask,), None)


def _deconvnet(op: Activation, x: Tensor) -> tuple[Tensor, Backward]:
    return op(x), lambda arriving: ((ops.maximum(arriving[0], 0),), None)


@dataclass(frozen=True)
class _ReluBackprop(Method):
    """A backward pass in which ReLUs hand on something else than the gradient.

    Args:
        start: what stands at the output: ``"one"``, or ``"logit"`` (its value, as iNNvestigate does).
    """

    start: Literal["one", "logit"] = "one"

    family: ClassVar[str] = "signal"
    needs: ClassVar[str] = "ReLU networks"

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.start not in ("one", "logit"):
            raise BadInputError(f"start must be 'one' or 'logit'; got {self.start!r}.")

    def _handler(self) -> Handler:
        raise NotImplementedError

    @property
    def caveats(self) -> tuple[str, ...]:
        """See `Method.caveats`."""
        return (
            f"{type(self).__name__} sketches the signal and depends little on the upper layers (Adebayo et "
            "al. 2018; Nie et al. 2018): do not read it as evidence for one class against another.",
        )

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        require_relu(session.view.logits, type(self).__name__)

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        rows = super().rule_table(session)
        name = type(self).__name__
        return [row | {"rule": f"{name} ReLU"} if row["kind"] == "activation" else row for row in rows]

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        selection = batch.selection

        def build() -> Callable[..., Any]:
            return lambda xs, codes, against: self._walk(selection, xs, codes, against)

        values, explained, logits = session.run((type(self).__name__, self.start), build, batch.inputs, selection)
        return Attribution(values=tuple(values), explained=explained, logits=list(logits))

    def _walk(self, selection: Selection, xs: Sequence[Tensor], codes: Tensor, against: Tensor) -> tuple[Any, ...]:
        graph = selection.graph
        handlers = tie_handlers(graph)
        handlers |= {node.name: self._handler() for node in graph if isinstance(node.op, Activation)}
        values, walk = forward(graph, tuple(xs), handlers)
        logits = [values[i] for i in graph.outputs]
        seeds, explained = selection.seed(logits, codes, against)
        maps = []
        for seed in seeds:
            start = seed if self.start == "one" else [s * z for s, z in zip(seed, logits, strict=True)]
            walked = walk(dict(zip(graph.outputs, start, strict=True)))
            maps.append([walked.values.get(i, ops.zeros_like(x)) for i, x in zip(graph.inputs, xs, strict=True)])
        stacked = [ops.stack([column[i] for column in maps], axis=1) for i in range(len(xs))]
        return stacked, explained, logits


@dataclass(frozen=True)
class GuidedBackprop(_ReluBackprop):
    """Guided backpropagation: at a ReLU only positive signals through active units go on.

    Backward through a ReLU: max(R, 0) * 1[z > 0]. ReLU networks only.

    Args:
        start: ``"one"``, or ``"logit"`` to start from the output's value.

    Reference: Springenberg et al. 2015, "Striving for simplicity: the all convolutional net", ICLR workshop.
    """

    question: ClassVar[str] = "Which parts of the input excite the detectors on the way to this output?"
    paper: ClassVar[str] = "Springenberg et al. 2015, ICLR workshop"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def _handler(self) -> Handler:
        return _guided


@dataclass(frozen=True)
class DeconvNet(_ReluBackprop):
    """DeconvNet: at a ReLU positive signals go on, whether or not the unit was active.

    Backward through a ReLU: max(R, 0); max pooling uses the switches of the forward pass. ReLU networks only.

    Args:
        start: ``"one"``, or ``"logit"`` to start from the output's value.

    Reference: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV.
    """

    question: ClassVar[str] = "What input pattern would the network project this output back to?"
    paper: ClassVar[str] = "Zeiler and Fergus 2014, ECCV"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def _handler(self) -> Handler:
        return _deconvnet
