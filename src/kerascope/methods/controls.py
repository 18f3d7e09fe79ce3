"""Maps that explain nothing: what any explanation has to be better than."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.perturbation import channel_axis_of
from kerascope.methods.session import Session


@dataclass(frozen=True)
class Random(Method):
    """Normal noise, drawn from the seed, the same for every sample: the map of no method at all."""

    family: ClassVar[str] = "control"
    question: ClassVar[str] = "None: what does a map without any information look like?"
    paper: ClassVar[str] = "Adebayo et al. 2018, NeurIPS"
    stochastic: ClassVar[bool] = True

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        count = batch.selection.count
        maps = []
        for i, x in enumerate(batch.inputs):
            noise = np.random.default_rng((batch.seed, i)).normal(size=x.shape[1:]).astype(session.view.dtype)
            maps.append(np.tile(noise, (len(x), count, *(1,) * noise.ndim)))
        return Attribution(values=tuple(maps))


@dataclass(frozen=True)
class Input(Method):
    """The input itself: many maps look convincing because they look like it."""

    family: ClassVar[str] = "control"
    question: ClassVar[str] = "None: what does the input look like as a map?"
    paper: ClassVar[str] = "Adebayo et al. 2018, NeurIPS"

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        count = batch.selection.count
        maps = tuple(np.repeat(x[:, None].astype(session.view.dtype), count, axis=1) for x in batch.inputs)
        return Attribution(values=maps)


@dataclass(frozen=True)
class Edges(Method):
    """The absolute Laplacian of the input along its matrix axes: an edge detector that knows no model."""

    family: ClassVar[str] = "control"
    question: ClassVar[str] = "None: where does the input change abruptly?"
    paper: ClassVar[str] = "Adebayo et al. 2018, NeurIPS"

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        maps = []
        for x in batch.inputs:
            channel = channel_axis_of(x.shape[1:], session)
            axes = [axis + 1 for axis in range(x.ndim - 1) if axis != channel]
            data = x.astype("float64")
            laplacian = np.zeros_like(data)
            for axis in axes:
                borders = [(1, 1) if a == axis else (0, 0) for a in range(data.ndim)]
                laplacian += np.diff(np.pad(data, borders, mode="edge"), n=2, axis=axis)
            edges = np.abs(laplacian).astype(session.view.dtype)
            maps.append(np.repeat(edges[:, None], batch.selection.count, axis=1))
        return Attribution(values=tuple(maps))
