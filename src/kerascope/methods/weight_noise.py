"""NoiseGrad: any method averaged over noisy copies of the network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kerascope import backend
from kerascope.errors import BadInputError, finite, whole
from kerascope.methods.base import Attribution, Batch
from kerascope.methods.noise import Wrapped, check_base, of_copies
from kerascope.methods.sampling import Moments
from kerascope.methods.session import Session
from kerascope.model.graph import Graph

_TRUE = "network without noise"


@dataclass(frozen=True)
class NoiseGrad(Wrapped):
    """NoiseGrad: a method's maps averaged over copies of the network whose weights carry noise.

    N = mean over k of base(x; W h_k), h_k normal around 1 with standard deviation ``weight_noise``, drawn for every
    kernel, bias and scale of the network; layers that share weights share their noise. It is drawn from the seed in
    NumPy, the same for every sample. The class explained is settled on the true network. The user's model is not
    touched: each draw is a graph of its own, canonized anew and run step by step, so a draw costs more than one pass of
    the base method. Fitted patterns of a base stay as they are: which direction is signal is a matter of the data.

    Args:
        base: the method averaged.
        draws: how many noisy networks.
        weight_noise: standard deviation of the factors; the paper takes what lowers the accuracy by 5 %.

    Reference: Bykov et al. 2022, "NoiseGrad: enhancing explanations by introducing stochasticity to model weights",
    AAAI.
    """

    draws: int = 50
    weight_noise: float = 0.2

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "What does the base method say on average over networks near this one?"
    paper: ClassVar[str] = "Bykov et al. 2022, AAAI"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        check_base(self.base)
        whole(self.draws, "draws", 1)
        if finite(self.weight_noise, "weight_noise") < 0:
            raise BadInputError(f"weight_noise must be at least 0; got {self.weight_noise}.")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        logits = session.logits(batch.inputs, batch.selection)
        rows = np.arange(len(batch))
        moments = [Moments((len(batch), batch.selection.count, *x.shape[1:])) for x in batch.inputs]
        said: dict[str, None] = {}
        for draw in range(self.draws):
            noisy = self._session(session, batch.seed, draw)
            graph = noisy.view.ending_at(batch.selection.graph.outputs)
            selection = replace(batch.selection, graph=graph)
            inner = batch.for_draw(draw) if self.base.stochastic else batch
            found = self.base.attribute(noisy.ending_in(graph), replace(inner, selection=selection))
            said.update(dict.fromkeys(found.warnings))
            for moment, values in zip(moments, found.values, strict=True):
                moment.add(np.full(len(batch), draw), rows, values)
            session.told((draw + 1) / self.draws)
        dtype = session.view.dtype
        return Attribution(
            values=tuple(moment.mean(self.draws).astype(dtype) for moment in moments),
            standard_error=tuple(moment.error(self.draws).astype(dtype) for moment in moments),
            explained=batch.selection.numbers_own(logits),
            logits=logits,
            warnings=of_copies(said),
        )

    def _session(self, session: Session, seed: int, draw: int) -> Session:
        """Return a session on the network with the noise of one draw, the same for every batch of a call.

        The copies are kept for the next batch where they all fit into the memory budget.
        """

        def make() -> tuple[NoiseGrad, Session]:
            weights = noisy_weights(session.view.traced, self.weight_noise, (seed, draw))
            view = session.view.with_weights(weights)
            noisy = Session(view, session.background, session.batch_size, False, session.memory)
            noisy.remember(_TRUE, lambda: true_session(session))
            return self, noisy

        size = sum(math.prod(tensor.shape) for tensor in session.view.traced.weights)
        if size * np.dtype(session.view.dtype).itemsize * self.draws > session.memory:
            return make()[1]
        kept: tuple[NoiseGrad, Session] = session.remember(("weight noise", id(self), seed, draw), make)
        return kept[1]


def true_session(session: Session) -> Session:
    """Return the session on the network without noise: the one given, unless it is a noisy copy's."""
    true: Session | None = session.remember(_TRUE, lambda: None)
    return session if true is None else true


def noisy_weights(graph: Graph, scale: float, seed: Sequence[int]) -> list[Any]:
    """Multiply a graph's weights by factors around 1; a layer that is called twice keeps the same in both calls.

    What belongs together is told by a node's name, which begins with its layer's, and by the values.
    """
    known: dict[Any, Any] = {}
    found = []
    for node in graph:
        for tensor in graph.weights_of(node):
            array = backend.to_numpy(tensor)
            key = (re.split("[:/]", node.name)[0], array.shape, array.tobytes())
            if key not in known:
                factors = np.random.default_rng((*seed, len(known))).normal(1.0, scale, array.shape)
                known[key] = backend.from_numpy((array * factors).astype(array.dtype))
            found.append(known[key])
    return found
