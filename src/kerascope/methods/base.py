"""What a method is: hyper-parameters, and how relevance is computed from them for one batch."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kerascope.errors import IncompatibleMethodError, KerascopeError
from kerascope.methods.papers import PAPERS
from kerascope.methods.session import Arrays, Session
from kerascope.target import Selection

AXIOMS = {
    "completeness": "the values of a sample sum to what `promise` says",
    "implementation invariance": "models that compute the same function get the same map",
    "sensitivity": "a cell that alone separates input and baseline gets a value if the output differs",
    "dummy": "a cell the output does not depend on gets zero",
    "linearity": "the map of a difference of outputs is the difference of their maps",
    "shift invariance": "a constant added to the input and taken off in the first layer changes nothing",
    "symmetry": "cells that play the same part and hold the same value get the same",
}
"""The properties a method may promise, each in a sentence."""

COUNTED = re.compile(r"\A(\d+) ((?:of the )?(?:samples?|maps?|explained)\b.*)", re.DOTALL)
"""A warning that begins with how many of a batch's samples or maps it is about; no other number is added up."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, what is explained of each, and the seed of the call.

    ``inputs``: one array (B, *S) per model input. ``selection`` has B rows.
    """

    inputs: Arrays
    selection: Selection
    seed: int = 0

    def __len__(self) -> int:
        """Return B."""
        return len(self.inputs[0])

    def with_inputs(self, inputs: Sequence[np.ndarray], index: Any = None) -> Batch:
        """Return a batch with other inputs, whose targets are those of the rows in ``index``."""
        selection = self.selection if index is None else self.selection.rows(index)
        return replace(self, inputs=tuple(inputs), selection=selection)

    def for_draw(self, draw: int) -> Batch:
        """Return the batch with a seed of its own, for one draw of a method around a stochastic one.

        With the same numbers in every draw the inner error would not average out, and no standard error would show it.
        """
        return replace(self, seed=int(np.random.SeedSequence((self.seed, draw)).generate_state(1)[0]))

    def settled(self, session: Session) -> Batch:
        """Return the batch with "top class" replaced by the class on top at these (clean) inputs."""
        logits = session.logits(self.inputs, self.selection)
        return replace(self, selection=self.selection.fixed(logits))


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """What a method returns for one batch.

    ``values``: per input (B, T, *S). ``expected`` (B, T): what the values of a sample must sum to, before
    what was ``absorbed`` (B, T) is taken off; None where nothing is promised. ``explained`` (B, T) and
    ``logits``: the explained numbers and tensors, where the method computed them on the way. ``largest``
    (B, T): the largest sum of absolute relevance over any operation. ``log_scale`` (B, T): the logarithm of what
    the values were divided by. ``noise`` (B,), or (B, number of inputs) where there are several: the standard deviation
    of the noise on the input. Of ``warnings`` that begin with a count of samples or maps (see `COUNTED`) and differ in
    that alone the counts are added up over batches.
    """

    values: Arrays
    expected: np.ndarray | None = None
    absorbed: np.ndarray | None = None
    explained: np.ndarray | None = None
    logits: list[np.ndarray] | None = None
    largest: np.ndarray | None = None
    log_scale: np.ndarray | None = None
    noise: np.ndarray | None = None
    standard_error: Arrays | None = None
    group_values: np.ndarray | None = None
    layer_map: np.ndarray | None = None
    baseline: Arrays | None = None
    baseline_text: str = ""
    baseline_output: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Trail:
    """What a walk left at every operation, from the output back, by operation.

    ``values`` (B, T, *shape): what arrived at its output; ``flows``: the sums (B, T) of what arrived, of what was
    handed on and of what was absorbed. ``inputs``: per input (B, T, *S); ``explained`` (B, T). ``rules``: rows as in
    `Method.rule_table`, from the input on.
    """

    values: Mapping[str, np.ndarray]
    flows: Mapping[str, Sequence[np.ndarray]]
    inputs: Arrays
    explained: np.ndarray
    rules: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Method(ABC):
    """Base of every method: a frozen record of hyper-parameters with no model inside.

    Subclasses state their facts as class variables and define `attribute`; a user's own subclass works in
    ``ks.explain(model, x, MyMethod())`` without registration.
    """

    family: ClassVar[str] = "attribution"
    """One of function, signal, attribution, localisation, perturbation, control."""
    question: ClassVar[str] = ""
    """The question the map answers, in one sentence."""
    paper: ClassVar[str] = ""
    """The source paper."""
    needs: ClassVar[str] = ""
    """What the method asks of model or user, in words; empty where nothing."""
    promise: ClassVar[str] = ""
    """What the values of a sample sum to, in words; empty where nothing is promised."""
    axioms: ClassVar[tuple[str, ...]] = ()
    """Which of `AXIOMS` hold for every model the method takes; conditional ones are left out."""
    stochastic: ClassVar[bool] = False
    """Whether the seed changes the map."""

    @property
    def exact_on_linear(self) -> bool:
        """Whether the map of a linear model f(x) = w x + b is promised to be w * (x - mean baseline).

        Methods without a baseline promise w * x.
        """
        return False

    @property
    def shares_out(self) -> bool:
        """Whether the values are shares of the explained number: positive ones raise it, negative ones lower it."""
        return bool(self.promise)

    def depends_on_seed(self, session: Session) -> bool:
        """Whether another seed gives other maps here."""
        return self.stochastic

    @abstractmethod
    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """Compute the map for one batch of at most ``session.batch_size`` samples."""

    def trail(self, session: Session, batch: Batch) -> Trail:
        """Return the relevance at every operation; for methods that are a walk with conserved relevance.

        Raises:
            IncompatibleMethodError: if the method is no such walk.
        """
        raise IncompatibleMethodError(
            f"{type(self).__name__} shares out no relevance layer by layer. Use lrp (any composite), deep_taylor or "
            "deeplift."
        )

    def check(self, session: Session) -> None:  # noqa: B027 - most methods fit every model
        """Raise if the method does not fit the model or lacks something it needs.

        Raises:
            IncompatibleMethodError: if an assumption about the model does not hold.
            UnsupportedLayerError: if a layer has no rule.
            MissingBaselineError: if an absent input is needed and was not given.
        """

    def check_selection(self, selection: Selection) -> None:  # noqa: B027 - most methods take every target
        """Raise IncompatibleMethodError if the method cannot explain such a target."""

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:  # noqa: B027
        """Raise BadInputError if the method cannot take these samples."""

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """Return which rule every operation gets: ``node``, ``layer``, ``kind``, ``rule``."""
        rule = {"perturbation": "evaluated only", "control": "not used"}.get(self.family, "derivative")
        return [
            {"node": node.name, "layer": node.op.label, "kind": node.op.kind, "rule": rule}
            for node in session.view.logits
        ]

    @property
    def options(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def citation(self) -> str:
        """Return the BibTeX entry of the method's paper.

        Raises:
            KerascopeError: if it is not known (of a class of your own).

        Example:
            >>> from kerascope import Gradient
            >>> print(Gradient().citation().splitlines()[0])
            @inproceedings{simonyan2014deep,
        """
        if self.paper not in PAPERS:
            raise KerascopeError(
                f"No BibTeX entry is known for {self.paper or type(self).__name__!r}: define citation() in your class."
            )
        return PAPERS[self.paper].bibtex()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of any of the method's maps should be warned of."""
        return ()
