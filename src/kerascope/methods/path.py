"""Gradients averaged along straight paths: from one baseline, or from background samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kerascope import baseline as baselines
from kerascope.errors import BadInputError, counted, whole
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.sampling import Moments, add_rows
from kerascope.methods.session import Arrays, Session
from kerascope.target import Selection


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in (0, 1) and weights that sum to exactly 1, each (steps,)."""
    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise BadInputError(f"steps must be a whole number of at least 1; got {steps!r}.")
    nodes, weights = np.polynomial.legendre.leggauss(int(steps))
    weights = weights / weights.sum()
    weights[len(weights) // 2] += math.fsum([1, *-weights])  # the largest one takes what rounding left
    return (nodes + 1) / 2, weights


def baselines_of(
    method: Method, value: Any, session: Session, name: str, *, samples: bool = False
) -> tuple[Arrays, str]:
    """Return what a method is to compare with, one array (M, *S) per input, and in words what it is.

    Args:
        method: who asks; it is resolved once for each.
        value: what the user gave as ``baseline``.
        session: the model and its background.
        name: of the method, for messages.
        samples: whether None means the background's samples instead of their mean.

    Raises:
        MissingBaselineError: if nothing was given and there is no background.
    """

    def make() -> tuple[Method, Arrays, str]:
        if samples and value is None and session.background is not None:
            return method, session.background, counted(len(session.background[0]), "background sample")
        asked = baselines.Asked(name)
        return method, *baselines.resolve(value, session.view, session.background, session.shapes, asked)

    found: tuple[Method, Arrays, str] = session.remember(("baseline", id(method)), make)
    return found[1:]


def expected_difference(
    session: Session, batch: Batch, arrays: Arrays, explained: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return f(x) - mean f(baselines) and mean f(baselines), both (B, T), for the batch's targets."""
    at_baselines = session.remember(
        ("logits at", tuple(id(array) for array in arrays), batch.selection.graph.outputs),
        lambda: (arrays, session.logits(arrays, _repeat(batch.selection, len(arrays[0])))),
    )[1]
    values = batch.selection.numbers(at_baselines)
    mean = values.mean(axis=-1)
    return explained - mean, mean


def _repeat(selection: Selection, count: int) -> Selection:
    return selection.rows(np.zeros(count, int))


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients: (x - x0) times the mean gradient on the straight line from x0 to x.

    A = (x - x0) * integral_0^1 grad f(x0 + t (x - x0)) dt, by Gauss-Legendre quadrature; with several
    baselines the mean over them. The values sum to f(x) - mean f(x0), up to the quadrature's error, which
    the completeness gap shows.

    Args:
        steps: quadrature points; on ReLU networks the error falls like 1 / steps.
        baseline: the absent input: ``"zeros"``, ``"mean"``, ``"median"``, a number, one array or several
            (M, *S); None: the background's mean.

    Reference: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", ICML.
    """

    steps: int = 64
    baseline: Any = None

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell contribute to the output, compared with the absent input?"
    paper: ClassVar[str] = "Sundararajan et al. 2017, ICML"
    axioms: ClassVar[tuple[str, ...]] = (
        "completeness",
        "implementation invariance",
        "sensitivity",
        "dummy",
        "linearity",
        "shift invariance",
        "symmetry",
    )
    needs: ClassVar[str] = "a baseline or background samples"
    promise: ClassVar[str] = "the explained number less its mean at the baselines"

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`."""
        return True

    def __post_init__(self) -> None:
        """Check the fields."""
        gauss_legendre(self.steps)

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self._baselines(session)

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        refuse_baselines(inputs, self._baselines(session)[0])

    def _baselines(self, session: Session) -> tuple[Arrays, str]:
        return baselines_of(self, self.baseline, session, "integrated_gradients")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        arrays, text = self._baselines(session)
        nodes, weights = gauss_legendre(self.steps)
        count = len(arrays[0])
        positions = np.tile(nodes, count)
        shares = np.tile(weights, count) / count
        owners = np.repeat(np.arange(count), len(nodes))
        found = path_attribution(session, batch, arrays, owners=owners, positions=positions, shares=shares)
        return replace(found, baseline_text=text)


def path_attribution(
    session: Session,
    batch: Batch,
    arrays: Arrays,
    *,
    owners: np.ndarray,
    positions: np.ndarray,
    shares: np.ndarray,
    sampled: bool = False,
) -> Attribution:
    """Average (x - b) * grad f(b + t (x - b)) over pairs of a baseline b and a position t.

    Args:
        session: the model.
        batch: samples with settled targets.
        arrays: the baselines, one array (M, *S) per input.
        owners: which baseline each draw starts from (D,).
        positions: t of each draw (D,).
        shares: weight of each draw (D,), summing to 1.
        sampled: whether the draws are random and of equal weight, so that there is a standard error.
    """
    selection, rows = batch.selection, len(batch)
    shapes = [(rows, selection.count, *x.shape[1:]) for x in batch.inputs]
    totals = [np.zeros(shape) for shape in shapes]
    spreads = [Moments(shape) for shape in shapes if sampled]
    for draws, index in session.pairs(len(owners), rows):
        deltas = [x[index] - b[owners[draws]] for x, b in zip(batch.inputs, arrays, strict=True)]
        points = [
            b[owners[draws]] + _over_sample(positions[draws], delta).astype(delta.dtype) * delta
            for b, delta in zip(arrays, deltas, strict=True)
        ]
        grads, _, _ = session.gradients(points, selection.rows(index))
        products = [grad * delta[:, None] for grad, delta in zip(grads, deltas, strict=True)]
        for total, product in zip(totals, products, strict=True):
            add_rows(total, index, _over_sample(shares[draws], product) * product)
        for spread, product in zip(spreads, products, strict=False):
            spread.add(draws, index, product)
    logits = session.logits(batch.inputs, selection)
    explained = selection.numbers_own(logits)
    expected, at_baseline = expected_difference(session, batch, arrays, explained)
    return Attribution(
        values=tuple(total.astype(session.view.dtype) for total in totals),
        expected=expected,
        absorbed=np.zeros_like(expected),
        explained=explained,
        logits=logits,
        baseline=arrays,
        baseline_output=at_baseline,
        standard_error=tuple(s.error(len(owners)).astype(session.view.dtype) for s in spreads) or None,
        warnings=said_of_baselines(batch.inputs, arrays),
    )


def _over_sample(vector: np.ndarray, like: np.ndarray) -> np.ndarray:
    return vector.reshape(-1, *(1,) * (like.ndim - 1))


def are_baselines(inputs: Sequence[np.ndarray], arrays: Arrays) -> np.ndarray:
    """Return which samples equal every baseline (N,)."""
    same = np.ones(len(inputs[0]), bool)
    for x, b in zip(inputs, arrays, strict=True):
        # None does unless the baselines are all alike: then one comparison for each sample is enough.
        same &= bool(np.all(b == b[:1])) and np.all(x == b[:1], axis=tuple(range(1, x.ndim)))
    return same


def refuse_baselines(inputs: Sequence[np.ndarray], arrays: Arrays) -> None:
    """Refuse samples of which every one equals every baseline."""
    if are_baselines(inputs, arrays).all():
        raise BadInputError(
            "Every sample equals every baseline: the difference to explain is zero. Give other samples as "
            "background, or another baseline."
        )


_MANY = 30
"""Cells of a sample below which its mean and deviation say little."""


def said_of_baselines(inputs: Arrays, arrays: Arrays) -> tuple[str, ...]:
    """Return the warnings that samples equal every baseline, and that zero is an average cell of theirs, if any do."""
    texts = []
    if count := int(are_baselines(inputs, arrays).sum()):
        texts.append(
            f"{count} of the samples cannot be told from the baseline: a map of zeros, whatever the model does."
        )
    zero = not any(np.any(b) for b in arrays)
    if zero and (count := int(np.all([_standardised(x) for x in inputs], axis=0).sum())):
        texts.append(
            f"{count} of the samples may be standardised (mean near 0, deviation near 1), and the baseline is 0: there "
            "an average cell, not an absent one, so cells near their average get nothing whatever they mean. Give a "
            "background, or a baseline that stands for nothing."
        )
    return tuple(texts)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Return which samples (N,) have mean near 0 and deviation near 1; few cells could have them by chance."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    deviation = flat.std(axis=1)
    near = (np.abs(flat.mean(axis=1)) < 0.3) & (deviation > 0.6) & (deviation < 1.6)
    return np.asarray(near & (flat.min(axis=1) < 0) & (flat.shape[1] >= _MANY))


@dataclass(frozen=True)
class ExpectedGradients(Method):
    """Expected gradients: integrated gradients averaged over background samples.

    A = mean over background samples b and positions t of (x - b) * grad f(b + t (x - b)). Every background
    sample is used equally often (``draws`` in all, at least one each), at stratified positions drawn from the
    seed. The values sum to f(x) - mean f(b) up to the sampling error, which the completeness gap shows.
    The standard error is that of as many independent pairs from this background; strata make it smaller.

    Args:
        draws: how many pairs (b, t); rounded up to a multiple of the number of background samples.
        baseline: what is averaged over instead of the background's samples, as in `IntegratedGradients`: several
            arrays (M, *S), or one; None: the background's samples.

    Reference: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution
    priors and expected gradients", Nature Machine Intelligence 3.
    """

    draws: int = 256
    baseline: Any = None

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell contribute, compared with typical samples?"
    paper: ClassVar[str] = "Erion et al. 2021, Nature Machine Intelligence 3: 620-631"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "linearity", "shift invariance")
    needs: ClassVar[str] = "a baseline or background samples"
    promise: ClassVar[str] = "the explained number less its mean at the baselines"
    stochastic: ClassVar[bool] = True

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`."""
        return True

    def __post_init__(self) -> None:
        """Check the fields."""
        whole(self.draws, "draws", 1)

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self._baselines(session)

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        refuse_baselines(inputs, self._baselines(session)[0])

    def _baselines(self, session: Session) -> tuple[Arrays, str]:
        return baselines_of(self, self.baseline, session, "expected_gradients", samples=True)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        arrays, text = self._baselines(session)
        batch = batch.settled(session)
        count = len(arrays[0])
        per_baseline = -(-self.draws // count)
        rng = np.random.default_rng(batch.seed)
        owners = np.repeat(np.arange(count), per_baseline)
        strata = np.tile(np.arange(per_baseline), count)
        positions = (strata + rng.random(len(owners))) / per_baseline
        shares = np.full(len(owners), 1 / len(owners))
        found = path_attribution(
            session, batch, arrays, owners=owners, positions=positions, shares=shares, sampled=True
        )
        return replace(found, baseline_text=text)
