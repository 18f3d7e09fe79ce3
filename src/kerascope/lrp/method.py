"""Layer-wise relevance propagation and Deep Taylor decomposition as methods."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, IncompatibleMethodError, MissingBaselineError, finite, unknown_name
from kerascope.lrp import composites, rules
from kerascope.lrp.composites import Assignment, Composite, kernels
from kerascope.lrp.presets import PRESETS, Preset
from kerascope.methods import inside
from kerascope.methods.base import Attribution, Batch, Method, Trail
from kerascope.methods.relu import require_relu
from kerascope.methods.session import Session
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Tensor
from kerascope.model.propagate import forward
from kerascope.model.trace import exact
from kerascope.target import Selection

_DEEP = 4
"""Layers behind each other up to which positive contributions alone still tell classes apart."""
_TUNED = ("epsilon", "gamma", "alpha", "beta", "low", "high")


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (np.ndim(value) == 0 and bool(value == default))


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation: the output is shared out backwards, layer by layer.

    At every layer R_i = sum_j q_ij / (sum_i q_ij + bias_j) R_j, with q given by the layer's rule. Activations
    pass relevance on, Add and average pooling share it in proportion, max pooling gives it to the winner
    (the first of equal ones), products with a gate give all to the signal.

    Args:
        composite: which rule stands where: a name from `PRESETS` or a `Composite`.
        epsilon: stabiliser of the epsilon rule, absolute, in units of a layer's output.
        gamma: how much positive weights are favoured by the gamma rule.
        alpha: weight of positive contributions (``"alpha_beta"``).
        beta: weight of negative contributions; alpha - beta = 1.
        bias: ``"absorb"`` (biases keep their share) or ``"ignore"``; None: as the composite says.
        low: lower bound of the input (number, or array that broadcasts against a sample), for the box rule.
        high: upper bound.
        start: what stands at the output: ``"logit"`` (its value) or ``"one"``; None: as the composite says.

    Reference: Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by
    layer-wise relevance propagation", PLoS ONE 10(7); Montavon et al. 2019, LNCS 11700.
    """

    composite: str | Composite = "default"
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    bias: rules.Bias | None = None
    low: Any = None
    high: Any = None
    start: Literal["logit", "one"] | None = None

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell contribute to this output, shared out layer by layer?"
    paper: ClassVar[str] = "Bach et al. 2015, PLoS ONE 10(7): e0130140"
    axioms: ClassVar[tuple[str, ...]] = ("linearity",)
    needs: ClassVar[str] = "a rule for every operation"
    promise: ClassVar[str] = "the explained number (one, with start='one') less what biases and stabilisers absorbed"

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`."""
        return self.composite in ("zero", "epsilon") and self.start != "one"

    @property
    def shares_out(self) -> bool:
        """See `Method.shares_out`; not under rules that leave every share the sign of the output."""
        return super().shares_out and (self.start or self._preset.start) == "logit" and not self._rules.is_one_signed

    def __post_init__(self) -> None:
        """Check the fields, and that none is set that the composite does not read."""
        if isinstance(self.composite, str):
            if self.composite not in PRESETS:
                raise unknown_name("composite", self.composite, PRESETS)
            self._check_unread(PRESETS[self.composite])
        elif not isinstance(self.composite, Composite):
            raise BadInputError(
                "composite must be the name of one or ks.Composite([(selector, rule), …]); got "
                f"{type(self.composite).__name__}."
            )
        self._tell()
        if self.bias not in (None, "absorb", "ignore"):
            raise BadInputError(f"bias must be 'absorb' or 'ignore'; got {self.bias!r}.")
        if self.start not in (None, "logit", "one"):
            raise BadInputError(f"start must be 'logit' or 'one'; got {self.start!r}.")
        for name in ("epsilon", "gamma", "alpha", "beta"):
            finite(getattr(self, name), name)
        if self.epsilon < 0 or self.gamma < 0:
            raise BadInputError(f"epsilon and gamma cannot be negative; got {self.epsilon} and {self.gamma}.")
        if isinstance(self.low, numbers.Real) and isinstance(self.high, numbers.Real):
            composites.check_order(self.low, self.high)

    def _tell(self) -> None:
        """Set what this composite says of itself, where that is not what its class says."""
        preset = self._preset
        told = {"paper": preset.paper, "question": preset.question}
        if preset.boxed:
            told["needs"] = f"{type(self).needs}; the input's bounds: low, high"
        for name, text in told.items():
            if text:
                object.__setattr__(self, name, text)  # the record is frozen, and these are no fields of it

    def _check_unread(self, preset: Preset) -> None:
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name in _TUNED:
            value = getattr(self, name)
            if name not in preset.reads and not _is_default(value, defaults[name]):
                raise BadInputError(
                    f"The composite {self.composite!r} has no use for {name}=; it reads "
                    f"{', '.join((*preset.reads, 'bias', 'start'))}."
                )

    @property
    def options(self) -> dict[str, Any]:
        """The hyper-parameters that count: a composite by name reads some of them only."""
        every = super().options
        unread = set(_TUNED) - set(self._preset.reads) if isinstance(self.composite, str) else set()
        return {name: value for name, value in every.items() if name not in unread}

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.composite] if isinstance(self.composite, str) else Preset(lambda m: [])

    @property
    def _rules(self) -> Composite:
        """The composite in force, with the bounds given to the method."""
        if isinstance(self.composite, Composite):
            return self.composite.within(self.low, self.high)
        return Composite(self._preset.build(self))

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self._check_bounds_given()
        self.assignment(session, session.view.logits)

    def _check_bounds_given(self) -> None:
        if self._preset.boxed and (self.low is None or self.high is None):
            raise MissingBaselineError(
                f"{self.composite} needs the bounds of the input: give low= and high= (numbers, or arrays "
                "per cell), e.g. low=0.0, high=1.0."
            )

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """Refuse inputs outside the bounds of a box rule, counting the cells."""
        shapes = [array.shape[1:] for array in inputs]
        for bounds in [rule.bounds for _, rule in self._rules.rules if rule.bounds is not None]:
            lows = composites.bound_arrays(bounds[0], shapes, session.view.dtype, "low")
            highs = composites.bound_arrays(bounds[1], shapes, session.view.dtype, "high")
            composites.check_order(*bounds, zip(lows, highs, strict=True))
            for array, low, high in zip(inputs, lows, highs, strict=True):
                outside = int(np.sum((array < low) | (array > high)))
                if outside:
                    raise BadInputError(
                        f"{outside} of {array.size} cells lie outside [low, high]; the input's range is "
                        f"{array.min():g} to {array.max():g}. Widen the bounds, or use lrp without any."
                    )

    def assignment(self, session: Session, graph: Graph) -> Assignment:
        """Return the handlers of a graph's nodes under this method, prepared once per session."""
        found: tuple[LRP, Assignment] = session.remember(
            ("lrp", id(self), graph.outputs), lambda: (self, self._assign(session, graph))
        )
        return found[1]

    def _assign(self, session: Session, graph: Graph) -> Assignment:
        bias = self.bias
        if bias is None and isinstance(self.composite, str):
            bias = self._preset.bias
        dtype = session.view.dtype
        with exact(dtype):
            return composites.assign(graph, self._rules, bias=bias, dtype=dtype, whole=_takes_whole(session))

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        return [
            {"node": node.name, "layer": node.op.label, "kind": node.op.kind, "rule": rule}
            for node, rule in self.assignment(session, session.view.logits).table
        ]

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        # Also here: a method that averages over changed inputs must not leave the box unseen.
        self.check_inputs(session, batch.inputs)
        selection = batch.selection

        def build() -> Callable[..., Any]:
            handlers = self.assignment(session, selection.graph).handlers
            return lambda xs, codes, against: self._relevance(selection, handlers, xs, codes, against)

        found = session.run(("lrp", id(self)), build, batch.inputs, selection)
        values, expected, absorbed, largest, explained, logits = found
        return Attribution(
            values=tuple(values),
            expected=expected,
            absorbed=absorbed,
            largest=largest,
            explained=explained,
            logits=list(logits),
            warnings=(*self._about_network(session, selection.graph), *self._warnings(explained, selection)),
        )

    def _relevance(
        self, selection: Selection, handlers: Any, xs: Sequence[Tensor], codes: Tensor, against: Tensor
    ) -> tuple[Any, ...]:
        graph = selection.graph
        values, walk = forward(graph, tuple(xs), handlers)
        logits = [values[i] for i in graph.outputs]
        seeds, explained = selection.seed(logits, codes, against)
        columns: list[tuple[Any, ...]] = []
        for t, seed in enumerate(seeds):
            start = [self._start(s, z, explained[:, t]) for s, z in zip(seed, logits, strict=True)]
            walked = walk(dict(zip(graph.outputs, start, strict=True)), measure=True)
            maps = [walked.values.get(i, ops.zeros_like(x)) for i, x in zip(graph.inputs, xs, strict=True)]
            total = sum(ops.sum(ops.reshape(s, (ops.shape(s)[0], -1)), axis=1) for s in start)
            absorbed = ops.zeros_like(total) if walked.absorbed is None else walked.absorbed
            largest = ops.abs(total) if walked.largest is None else walked.largest
            columns.append((maps, total, absorbed, largest))
        stacked = [ops.stack([column[0][i] for column in columns], axis=1) for i in range(len(xs))]
        totals = [ops.stack([column[k] for column in columns], axis=1) for k in (1, 2, 3)]
        return stacked, *totals, explained, logits

    def trail(self, session: Session, batch: Batch) -> Trail:
        """See `Method.trail`."""
        self.check_inputs(session, batch.inputs)
        selection = batch.selection

        def build() -> Callable[..., Any]:
            handlers = self.assignment(session, selection.graph).handlers
            return lambda xs, codes, against: self._inside(selection, handlers, xs, codes, against)

        values, flows, maps, explained = session.run(("lrp inside", id(self)), build, batch.inputs, selection)
        rules = {row["node"]: row for row in self.rule_table(session)}
        return Trail(values, flows, tuple(maps), explained, rules)

    def _inside(
        self, selection: Selection, handlers: Any, xs: Sequence[Tensor], codes: Tensor, against: Tensor
    ) -> tuple[Any, ...]:
        graph = selection.graph
        values, walk = forward(graph, tuple(xs), handlers)
        logits = [values[i] for i in graph.outputs]
        seeds, explained = selection.seed(logits, codes, against)
        walks = []
        for t, seed in enumerate(seeds):
            start = [self._start(s, z, explained[:, t]) for s, z in zip(seed, logits, strict=True)]
            walks.append(walk(dict(zip(graph.outputs, start, strict=True)), follow=True))
        return *inside.along(graph, values, walks), explained

    def _start(self, seed: Tensor, logits: Tensor, explained: Tensor) -> Tensor:
        """Return what stands at the explained tensor; ``explained`` (N,) is the number explained."""
        start = self.start or self._preset.start
        return seed * logits if start == "logit" else seed

    def _about_network(self, session: Session, graph: Graph) -> tuple[str, ...]:
        """Return what to know of this network under these rules, whatever the sample."""
        depth = composites.positive_depth(graph, self.assignment(session, graph).rules)
        if depth <= _DEEP:
            return ()
        return (
            f"Above the first of {depth} layers behind each other relevance follows positive contributions only: with "
            "depth the maps of different classes become alike (Sixt et al. 2020). To tell classes apart "
            "take a composite with another rule on top (lrp.epsilon_plus, lrp), or deeplift.",
        )

    def _warnings(self, explained: np.ndarray, selection: Selection) -> tuple[str, ...]:
        return ()


def _takes_whole(session: Session) -> bool:
    """Whether an input of the model takes whole numbers."""
    return not all(keras.backend.is_float_dtype(spec.dtype) for spec in session.view.signature.specs)


def _with_positive_bias(graph: Graph) -> list[str]:
    """Return the layers that have a positive bias."""
    biases = {n.name: n.op.bias for n in graph if kernels(n) and isinstance(n.op, Affine) and n.op.bias is not None}
    return [name for name, bias in biases.items() if np.any(backend.to_numpy(bias) > 0)]


@dataclass(frozen=True)
class DeepTaylor(LRP):
    """Deep Taylor decomposition: z+ through ReLU layers, w^2 (or the box rule) at the first.

    R_i = sum_j (x_i W_ij)+ / sum_i (x_i W_ij)+ R_j from R = max(f, 0). With biases <= 0 every value is
    non-negative and they sum to f; with positive biases what disappears is counted as absorbed.

    Args:
        composite: ``"deep_taylor"`` (real-valued inputs) or ``"deep_taylor.bounded"`` (needs low and high).
        low: lower bound of the input.
        high: upper bound.

    Reference: Montavon et al. 2017, "Explaining nonlinear classification decisions with deep Taylor
    decomposition", Pattern Recognition 65.
    """

    composite: str | Composite = "deep_taylor"

    question: ClassVar[str] = "Which cells carry the evidence for this output, by a Taylor expansion of every ReLU?"
    paper: ClassVar[str] = "Montavon et al. 2017, Pattern Recognition 65: 211-222"
    axioms: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str] = "ReLU networks"
    promise: ClassVar[str] = "the positive part of the explained number less what was absorbed"

    @property
    def shares_out(self) -> bool:
        """See `Method.shares_out`: of a negative number nothing is."""
        return False

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self._check_bounds_given()
        require_relu(session.view.logits, "deep_taylor")
        super().check(session)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        if selection.fn is not None:
            raise IncompatibleMethodError(
                "deep_taylor decomposes the value of an output; a function of the logits has no rule. Give a "
                "class, or use lrp."
            )

    def _about_network(self, session: Session, graph: Graph) -> tuple[str, ...]:
        """See `LRP`."""
        names = session.remember(("positive biases", graph.outputs), lambda: _with_positive_bias(graph))
        if not names:
            return super()._about_network(session, graph)
        many = f"{names[0]!r}" + (f" and {len(names) - 1} more layers" if len(names) > 1 else "")
        share = "is absorbed" if self.bias == "absorb" else "is credited to the inputs (bias='absorb' takes it out)"
        return (
            f"Deep Taylor decomposition is derived for biases of at most 0, and {many} "
            f"{'has' if len(names) == 1 else 'have'} positive ones: what these add to the output {share}.",
            *super()._about_network(session, graph),
        )

    def _start(self, seed: Tensor, logits: Tensor, explained: Tensor) -> Tensor:
        positive = ops.cast(explained > 0, logits.dtype)
        start = super()._start(seed, logits, explained)
        return start * ops.reshape(positive, (-1,) + (1,) * (len(logits.shape) - 1))

    def _warnings(self, explained: np.ndarray, selection: Selection) -> tuple[str, ...]:
        negative = int(np.sum(explained <= 0))
        if not negative:
            return ()
        graph = selection.graph
        units = math.prod(size or 1 for size in graph.shapes[graph.outputs[0]][1:])
        advice = "Explain a contrast, or use lrp." if selection.kind == "class" and units > 1 else "Use lrp."
        return (
            f"{negative} explained logits are not positive: Deep Taylor decomposition starts from max(logit, "
            f"0), so their maps are zero. {advice}",
        )
