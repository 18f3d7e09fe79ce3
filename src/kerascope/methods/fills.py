"""What stands in place of cells that are taken away: given values, or background samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerascope import baseline as baselines
from kerascope.errors import BadInputError, IncompatibleMethodError, counted, whole
from kerascope.methods.base import Method
from kerascope.methods.path import refuse_baselines
from kerascope.methods.session import Session


@dataclass(frozen=True, eq=False)
class Fills:
    """What cells are replaced by.

    ``values`` (F, *S); ``text``: in words what they are; ``sampled``: whether they are background samples;
    ``notes``: what to warn of.
    """

    values: np.ndarray
    text: str
    sampled: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return F."""
        return len(self.values)


class Replacing(Method):
    """Base of the methods that replace cells; the fields are those of the subclasses.

    ``baseline`` and ``fill`` are two names for what cells are replaced by: the one that all methods share, which
    compare with an absent input, and the one for methods that replace cells. ``fills``: how many background samples.
    """

    baseline: Any
    fill: Any
    fills: int | None

    family: ClassVar[str] = "perturbation"
    needs: ClassVar[str] = "a baseline or background samples; one input"
    stochastic: ClassVar[bool] = True
    called: ClassVar[str] = ""
    """The method's name, for messages."""
    also: ClassVar[tuple[str, ...]] = ()
    """Words for fills that the method itself understands."""

    def check_fields(self) -> None:
        """Check what says which fills are used."""
        if self.fills is not None:
            whole(self.fills, "fills", 1)
        if self.baseline is not None and self.fill is not None:
            raise BadInputError("baseline= and fill= are two names for one thing, what absent cells hold: give one.")

    @property
    def given(self) -> Any:
        """What cells are replaced by, as the user gave it under either name; None: background samples."""
        return self.baseline if self.fill is None else self.fill

    def check_single(self, session: Session) -> None:
        """Refuse models with several inputs."""
        count = len(session.view.signature.specs)
        if count > 1:
            raise IncompatibleMethodError(
                f"{self.called} works on models with one input; this one has {count}, and which of their cells go "
                "together is not defined. Use a method that takes several (integrated_gradients, expected_gradients, "
                "deeplift, deeplift_shap, lrp), or explain a model of one input that holds the others as they are."
            )

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        refuse_baselines(inputs, (self.fills_of(session, 0).values,))

    def draws_fills(self, session: Session) -> bool:
        """Whether there are more background samples than are used."""
        pool, count = session.background, self.fills
        return self.given is None and pool is not None and count is not None and count < len(pool[0])

    def fills_of(self, session: Session, seed: int) -> Fills:
        """Return what cells are replaced by.

        Raises:
            MissingBaselineError: if nothing was given and there is no background.
        """
        asked = baselines.Asked(self.called, "baseline" if self.fill is None else "fill", also=self.also, cells=True)
        if self.given is not None:
            resolved, text = baselines.resolve(self.given, session.view, session.background, session.shapes, asked)
            return Fills(resolved[0], text)
        if session.background is None:
            raise asked.missing()
        pool = session.background[0]
        every = counted(len(pool), "background sample")
        if self.fills is None or self.fills >= len(pool):
            return Fills(pool, every, sampled=True)
        chosen = np.sort(np.random.default_rng((seed, 1)).choice(len(pool), self.fills, replace=False))
        note = (
            f"{self.fills} of {every} were used (fills={self.fills}): values explain the difference from their mean, "
            "not from that of all."
        )
        return Fills(pool[chosen], f"{self.fills} of {every}", sampled=True, notes=(note,))
