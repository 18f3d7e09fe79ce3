"""Any method averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kerascope.errors import BadInputError, finite, whole
from kerascope.methods.base import COUNTED, Attribution, Batch, Method
from kerascope.methods.gradient import Gradient
from kerascope.methods.sampling import Moments
from kerascope.methods.session import Session
from kerascope.target import Selection


@dataclass(frozen=True)
class Wrapped(Method):
    """Base of the methods that look at another method's maps: what that one refuses or warns of holds here too."""

    base: Method = field(default_factory=Gradient)

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self.base.check(session)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        self.base.check_selection(selection)

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        self.base.check_inputs(session, inputs)

    @property
    def caveats(self) -> tuple[str, ...]:
        """See `Method.caveats`."""
        return self.base.caveats

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        return self.base.rule_table(session)


@dataclass(frozen=True)
class _OverNoise(Wrapped):
    """Base of the methods that look at another method's maps of noisy copies of the input."""

    draws: int = 50
    noise: float = 0.1

    family: ClassVar[str] = "function"
    stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the fields."""
        check_base(self.base)
        whole(self.draws, "draws", 1)
        if finite(self.noise, "noise") < 0:
            raise BadInputError(f"noise must be at least 0; got {self.noise}.")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        logits = session.logits(batch.inputs, batch.selection)
        shapes = [(len(batch), batch.selection.count, *x.shape[1:]) for x in batch.inputs]
        moments = [Moments(shape, self.order) for shape in shapes]
        scales = [self.noise * _spread(session, i, x) for i, x in enumerate(batch.inputs)]
        said: dict[str, None] = {}
        pieces = ((w, i) for pair in session.pairs(self.draws, len(batch)) for w, i in self._pieces(*pair))
        for which, index in pieces:
            noisy = _noisy(batch, scales, which, index)
            inner = batch.for_draw(int(which[0])) if self.base.stochastic else batch
            maps = self.base.attribute(session.quiet, inner.with_inputs(noisy, index))
            said.update(dict.fromkeys(maps.warnings))
            for moment, values in zip(moments, maps.values, strict=True):
                moment.add(which, index, self.of(values))
        found = [self.reduced(moment) for moment in moments]
        dtype = session.view.dtype
        return Attribution(
            values=tuple(values.astype(dtype) for values, _ in found),
            standard_error=tuple(error.astype(dtype) for _, error in found),
            explained=batch.selection.numbers_own(logits),
            logits=logits,
            noise=_per_sample(scales, len(batch)),
            warnings=(*self._about_noise(scales, len(batch)), *of_copies(said)),
        )

    def _pieces(self, which: np.ndarray, index: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pairs (draw, row) that one call of the base can take: of one draw only, where it draws itself."""
        borders = np.flatnonzero(np.diff(which)) + 1 if self.base.stochastic else np.zeros(0, int)
        yield from zip(np.split(which, borders), np.split(index, borders), strict=True)

    def _about_noise(self, scales: list[np.ndarray], rows: int) -> tuple[str, ...]:
        """Say where the noise is hardly what was meant: wider than the data, or none."""
        texts = []
        if self.noise > 1:
            texts.append(
                f"noise={self.noise:g} is a share of the range (max - min): copies lie further from a sample than its "
                "cells from each other. For an absolute deviation divide it by the range."
            )
        still = int(np.sum(_per_sample(scales, rows).reshape(rows, -1).max(axis=1) == 0)) if self.noise else 0
        if still:
            texts.append(
                f"{still} samples are without noise: the range it is measured by is 0 there (the same value in "
                "every cell). Give background samples, whose range is taken then."
            )
        return tuple(texts)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return what of each noisy map is averaged."""
        return values

    def reduced(self, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Return the map and its standard error."""
        return moments.mean(self.draws), moments.error(self.draws)


def of_copies(said: Iterable[str]) -> tuple[str, ...]:
    """Return what a base method warned of, each once; a count it begins with was one of copies."""
    return tuple(dict.fromkeys(COUNTED.sub(r"Of the noisy copies, some \2", text) for text in said))


def check_base(base: Any) -> None:
    """Raise BadInputError if a base is no method object."""
    if not isinstance(base, Method):
        raise BadInputError(f"base must be a method object such as ks.Gradient(); got {base!r}.")


@dataclass(frozen=True)
class SmoothGrad(_OverNoise):
    """SmoothGrad: a method's maps averaged over noisy copies of the input.

    S = mean over k of base(x + e_k), e_k normal with standard deviation ``noise`` times the range (max - min)
    of the background, or of the sample itself where there is none. The noise is drawn from the seed in NumPy
    and is the same for every sample, so no map depends on its batch or on the backend. The class explained is
    settled on the clean input.

    Args:
        base: the method averaged.
        draws: how many noisy copies.
        noise: standard deviation relative to the range.

    Reference: Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", ICML workshop.
    """

    question: ClassVar[str] = "How would the output change with this cell, on average near this sample?"
    paper: ClassVar[str] = "Smilkov et al. 2017, ICML workshop"


@dataclass(frozen=True)
class SquareGrad(_OverNoise):
    """SquareGrad: the squares of a method's maps averaged over noisy copies of the input; no sign.

    S = mean over k of base(x + e_k)^2, cell by cell; noise as in `SmoothGrad`. SquareGrad = SmoothGrad^2 + VarGrad.

    Args:
        base: the method averaged.
        draws: how many noisy copies.
        noise: standard deviation relative to the range.

    Reference: Hooker et al. 2019, "A benchmark for interpretability methods in deep neural networks", NeurIPS.
    """

    question: ClassVar[str] = (
        "How strongly, whatever the direction, does the output react to this cell near this sample?"
    )
    paper: ClassVar[str] = "Hooker et al. 2019, NeurIPS"

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the squares."""
        return np.asarray(np.square(values.astype("float64")))


@dataclass(frozen=True)
class VarGrad(_OverNoise):
    """VarGrad: the variance of a method's maps over noisy copies of the input; no sign.

    V = mean over k of (base(x + e_k) - S)^2 with S the mean: divisor n; noise as in `SmoothGrad`. Zero for a linear
    model. The standard error sqrt((m4 - V^2) / n), m4 the fourth moment, is itself an estimate: with few
    draws it comes out too small on average, by about a seventh with 20 draws and a twentieth with 50.

    Args:
        base: the method.
        draws: how many noisy copies.
        noise: standard deviation relative to the range.

    Reference: Adebayo et al. 2018, "Sanity checks for saliency maps", NeurIPS.
    """

    question: ClassVar[str] = "Where does the answer of the base method vary most near this sample?"
    paper: ClassVar[str] = "Adebayo et al. 2018, NeurIPS"
    order: ClassVar[int] = 4

    def reduced(self, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance and its standard error."""
        return moments.variance(self.draws), moments.variance_error(self.draws)


def _spread(session: Session, number: int, x: np.ndarray) -> np.ndarray:
    if session.background is not None:
        return np.asarray(np.ptp(session.background[number]))
    spread = np.ptp(x.reshape(len(x), -1), axis=1)
    return np.asarray(spread).reshape(-1, *(1,) * (x.ndim - 1))


def _per_sample(scales: list[np.ndarray], rows: int) -> np.ndarray:
    """Return the standard deviations of the noise (B,), or (B, number of inputs) where there are several."""
    columns = [np.broadcast_to(scale.reshape(-1).astype("float64"), rows) for scale in scales]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _noisy(batch: Batch, scales: list[np.ndarray], which: np.ndarray, index: np.ndarray) -> list[np.ndarray]:
    """Return the rows ``index`` with the noise of the draws ``which``; each draw has a stream of its own."""
    shapes = [x.shape[1:] for x in batch.inputs]
    drawn = {
        int(k): [np.random.default_rng((batch.seed, int(k), i)).normal(size=s) for i, s in enumerate(shapes)]
        for k in np.unique(which)
    }
    noisy = []
    for i, (x, scale) in enumerate(zip(batch.inputs, scales, strict=True)):
        noise = np.stack([drawn[int(k)][i] for k in which])
        rows_scale = scale[index] if scale.ndim else scale
        noisy.append((x[index] + rows_scale * noise).astype(x.dtype))
    return noisy
