"""Any method averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kerascope.errors import BadInputError
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.gradient import Gradient
from kerascope.methods.sampling import Moments, chunks
from kerascope.methods.session import Arrays, Session
from kerascope.target import Selection


@dataclass(frozen=True)
class SmoothGrad(Method):
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

    base: Method = field(default_factory=Gradient)
    draws: int = 50
    noise: float = 0.1

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "How would the output change with this cell, on average near this sample?"
    paper: ClassVar[str] = "Smilkov et al. 2017, ICML workshop"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.base, Method):
            raise BadInputError(f"base must be a method object such as ks.Gradient(); got {self.base!r}.")
        if self.draws < 1 or self.noise < 0:
            raise BadInputError(f"draws must be at least 1 and noise at least 0; got {self.draws} and {self.noise}.")

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

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        logits = session.logits(batch.inputs, batch.selection)
        mean, error = average_over_noise(self.base, session, batch, self.draws, self.noise)
        return Attribution(
            values=mean,
            standard_error=error,
            explained=batch.selection.numbers_own(logits),
            logits=logits,
        )


def average_over_noise(
    base: Method,
    session: Session,
    batch: Batch,
    draws: int,
    noise: float,
    of: Callable[..., Any] | None = None,
) -> tuple[Arrays, Arrays]:
    """Average a method's maps over noisy copies.

    Returns:
        Mean and standard error of the mean, per input (B, T, *S).
    """
    rows = len(batch)
    scales = [noise * _spread(session, i, x) for i, x in enumerate(batch.inputs)]
    moments = [Moments((rows, batch.selection.count, *x.shape[1:])) for x in batch.inputs]
    for which, index in chunks(draws, rows, session.rows_at_once):
        noisy = _noisy(batch, scales, which, index)
        maps = base.attribute(session, batch.with_inputs(noisy, index)).values
        for moment, values in zip(moments, maps, strict=True):
            moment.add(which, index, values if of is None else of(values))
    dtype = session.view.dtype
    means = tuple(moment.mean(draws).astype(dtype) for moment in moments)
    return means, tuple(moment.error(draws).astype(dtype) for moment in moments)


def _spread(session: Session, number: int, x: np.ndarray) -> np.ndarray:
    if session.background is not None:
        return np.asarray(np.ptp(session.background[number]))
    spread = np.ptp(x.reshape(len(x), -1), axis=1)
    return np.asarray(spread).reshape(-1, *(1,) * (x.ndim - 1))


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
