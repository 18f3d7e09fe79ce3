"""iNNvestigate's analyzers as methods: LRP with its rules, left Riemann sums, absolute noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from kerascope.errors import BadInputError, finite, whole
from kerascope.innvestigate import rules
from kerascope.innvestigate.caveats import caveats, require_relu
from kerascope.innvestigate.normalization import Normalized
from kerascope.lrp.composites import Assignment, Composite, bound_arrays
from kerascope.lrp.method import LRP
from kerascope.lrp.rules import Rule
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.noise import Wrapped
from kerascope.methods.path import path_attribution
from kerascope.methods.session import Arrays, Session
from kerascope.model.graph import Graph
from kerascope.model.primitives import Tensor
from kerascope.model.trace import exact
from kerascope.target import Selection


@dataclass(frozen=True)
class Propagated(LRP):
    """LRP or deep Taylor by iNNvestigate's rules, on the network as it is written.

    Args:
        composite: which of its rules stands where.
        taylor: start from max(logit, 0), and differentiate sums, poolings and activation layers.
        normalization: rule of BatchNormalization layers, applied to another map than theirs.
        normalization_twice: that map is taken apart into two.
        relu_only: refuse networks with other activations.
    """

    composite: Composite = field(default_factory=lambda: Composite(()))
    taylor: bool = False
    normalization: Rule | None = None
    normalization_twice: bool = False
    relu_only: bool = False

    promise: ClassVar[str] = ""

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        if self.relu_only:
            require_relu(_written(session, session.view.logits))
        self.assignment(session, session.view.logits)

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`: whatever broadcasts is taken as a bound."""

    def _assign(self, session: Session, graph: Graph) -> Assignment:
        layers = [x for x in session.view.model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
        normalized = Normalized(tuple(layers), self.normalization, self.normalization_twice)
        with exact(session.view.dtype):
            return rules.assign(_written(session, graph), self.composite, normalized, taylor=self.taylor)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        written = _written(session, batch.selection.graph)
        found = super().attribute(session, replace(batch, selection=replace(batch.selection, graph=written)))
        return replace(found, expected=None, absorbed=None, largest=None)

    def _about_network(self, session: Session, graph: Graph) -> tuple[str, ...]:
        """See `LRP`."""

        def build() -> tuple[str, ...]:
            chosen = self.assignment(session, graph).rules
            return caveats(graph, chosen, self.composite, self.normalization, taylor=self.taylor)

        found: tuple[str, ...] = session.remember(("caveats", id(self), graph.outputs), build)
        return found

    def _warnings(self, explained: np.ndarray, selection: Selection) -> tuple[str, ...]:
        """See `LRP`."""
        empty = int(np.sum(explained <= 0)) if self.taylor and selection.fn is None else 0
        return (
            (
                f"{empty} explained logits are not positive: deep Taylor starts from max(logit, 0), so their maps "
                "are zero.",
            )
            if empty
            else ()
        )

    def _start(self, seed: Tensor, logits: Tensor, explained: Tensor) -> Tensor:
        start = seed * logits
        return ops.maximum(start, 0) if self.taylor else start


def _written(session: Session, graph: Graph) -> Graph:
    """Return the network as it is written, nothing folded, up to a graph's outputs."""
    return replace(session.view.unfolded, outputs=graph.outputs).restrict(graph.outputs)


@dataclass(frozen=True)
class LeftRiemann(Method):
    """Integrated gradients by a left Riemann sum: positions 0, 1/n, ..., (n-1)/n."""

    steps: int = 64
    reference: Any = 0

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell contribute, by iNNvestigate's sum?"
    paper: ClassVar[str] = "Sundararajan et al. 2017, ICML"

    def __post_init__(self) -> None:
        """Check the fields."""
        whole(self.steps, "steps", 1)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        shapes = [x.shape[1:] for x in batch.inputs]
        bases = tuple(bound_arrays(self.reference, shapes, session.view.dtype, "reference_inputs"))
        owners, positions = np.zeros(self.steps, int), np.arange(self.steps) / self.steps
        shares = np.full(self.steps, 1 / self.steps)
        found = path_attribution(session, batch, bases, owners=owners, positions=positions, shares=shares)
        return replace(found, expected=None, absorbed=None, warnings=())


@dataclass(frozen=True)
class AbsoluteNoise(Method):
    """Gradients averaged over copies with normal noise of a deviation in units of the input."""

    draws: int = 64
    deviation: float = 1.0

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "How would the output change, averaged over noise of that deviation?"
    paper: ClassVar[str] = "Smilkov et al. 2017, ICML workshop"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        whole(self.draws, "augment_by_n", 1)
        if finite(self.deviation, "noise_scale") < 0:
            raise BadInputError(f"noise_scale must be at least 0; got {self.deviation}.")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        total = [np.zeros((len(batch), batch.selection.count, *x.shape[1:])) for x in batch.inputs]
        for draw in range(self.draws):
            noisy = [
                (x + self.deviation * np.random.default_rng((batch.seed, draw, i)).normal(size=x.shape[1:])).astype(
                    x.dtype
                )
                for i, x in enumerate(batch.inputs)
            ]
            grads, _, _ = session.gradients(noisy, batch.selection)
            for one, grad in zip(total, grads, strict=True):
                one += grad / self.draws
        return Attribution(values=tuple(one.astype(session.view.dtype) for one in total))


PROCESSES = {"abs": np.abs, "square": np.square}
"""What ``postprocess`` may do to a gradient, by its name there."""


@dataclass
class _Processed(Session):
    """A session whose gradients have been processed before anything is made of them."""

    how: str = "abs"

    def gradients(
        self, inputs: Sequence[np.ndarray], selection: Selection
    ) -> tuple[Arrays, np.ndarray, list[np.ndarray]]:
        """See `Session.gradients`."""
        grads, explained, logits = super().gradients(inputs, selection)
        return tuple(PROCESSES[self.how](grad) for grad in grads), explained, logits


@dataclass(frozen=True)
class Postprocessed(Wrapped):
    """A method of gradients, each made absolute or squared before it is multiplied or averaged, as there.

    Args:
        base: the method.
        how: ``"abs"`` or ``"square"``.
    """

    how: Literal["abs", "square"] = "abs"

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "How strongly would the output change, whatever the direction?"

    def depends_on_seed(self, session: Session) -> bool:
        """See `Method.depends_on_seed`."""
        return self.base.depends_on_seed(session)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        shared = {item.name: getattr(session, item.name) for item in fields(Session)}
        found = self.base.attribute(_Processed(**shared, how=self.how), batch)
        return replace(found, expected=None, absorbed=None)
