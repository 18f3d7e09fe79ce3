"""PatternNet and PatternAttribution: the gradient's way back, through patterns instead of filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError, IncompatibleMethodError, MissingPatternsError, StaleModelError
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.relu import others_than
from kerascope.methods.session import Session
from kerascope.methods.ties import tie_handlers, unbroadcast
from kerascope.methods.weight_noise import true_session
from kerascope.model.fingerprint import weights_fingerprint
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Opaque, Product, Tensor
from kerascope.model.propagate import Backward, Handler, forward
from kerascope.model.trace import exact
from kerascope.patterns.store import Patterns
from kerascope.patterns.units import Unit, units_of
from kerascope.target import Selection

_SAME_KERNEL = 1e-3
"""Allowed relative difference between the norms of a kernel when fitted and now: rounding, on any backend."""


def _relu(op: Activation, x: Tensor) -> tuple[Tensor, Backward]:
    mask = ops.cast(x > 0, x.dtype)
    return op(x), lambda arriving: ((arriving[0] * mask,), None)


def _through(kernel: Tensor) -> Handler:
    """Return the handler that runs a layer as it is, and sends back as if it had another kernel and no bias."""

    def handler(op: Affine, x: Tensor) -> tuple[Tensor, Backward]:
        _, pull = backend.vjp(lambda u: op.linear(u, kernel), x)
        return op(x), lambda arriving: (pull(arriving[0]), None)

    return handler


def _sum(weights: Tensor) -> Handler:
    """Return the handler of a sum that gives each input its own factor per channel, (inputs, ..., C)."""

    def handler(op: Any, *inputs: Tensor) -> tuple[Tensor, Backward]:
        def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
            return tuple(unbroadcast(weights[k] * arriving[0], x) for k, x in enumerate(inputs)), None

        return op(*inputs), backward

    return handler


def _scaled(handler: Handler, log: list[Tensor]) -> Handler:
    """Return a handler that first divides what arrives by its largest absolute value, and logs that, per sample."""

    def outer(op: Any, *inputs: Tensor) -> tuple[Any, Backward]:
        outputs, back = handler(op, *inputs)

        def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None]:
            (signal,) = arriving
            size = ops.max(ops.abs(signal), axis=tuple(range(1, len(signal.shape))), keepdims=True)
            size = ops.where(size > 0, size, ops.ones_like(size))
            log.append(ops.reshape(ops.log(size), (-1,)))
            return back((signal / size,))

        return outputs, backward

    return outer


@dataclass(frozen=True)
class _PatternMethod(Method):
    """A walk back through the network with patterns at its kernels.

    Args:
        patterns: fitted `Patterns` of this model.
        start: what stands at the output: ``"logit"`` (its value) or ``"one"``.
    """

    patterns: Patterns | None = None
    start: Literal["logit", "one"] = "logit"

    needs: ClassVar[str] = "patterns fitted to training data: ks.Patterns.fit(model, x_train)"
    axioms: ClassVar[tuple[str, ...]] = ("linearity",)

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.start not in ("logit", "one"):
            raise BadInputError(f"start must be 'logit' or 'one'; got {self.start!r}.")
        if self.patterns is not None and not isinstance(self.patterns, Patterns):
            raise BadInputError(
                f"patterns must be ks.Patterns, from ks.Patterns.fit(model, x_train) or ks.Patterns.open(path); got "
                f"{type(self.patterns).__name__}."
            )

    @property
    def caveats(self) -> tuple[str, ...]:
        """See `Method.caveats`."""
        return self.patterns.warnings if self.patterns is not None else ()

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        for node in session.view.logits:
            if isinstance(node.op, (Opaque, Product)):
                raise IncompatibleMethodError(
                    f"{type(self).__name__} is defined for kernels, ReLUs, pooling and sums; {node.name!r} "
                    f"({getattr(node.op, 'name', '') or node.op.label}) is none. Use "
                    f"{others_than(node)}."
                )
        if self.patterns is None:
            raise MissingPatternsError(
                f"{type(self).__name__} needs the patterns of this model's neurons; fit them: ks.Patterns.fit(model, "
                "x_train), and give them as patterns=."
            )
        present = session.remember("weights", lambda: weights_fingerprint(session.view.model))
        if self.patterns.fingerprint != present:
            raise StaleModelError(
                f"These patterns were fitted to another model, or to other weights of it: {self.patterns.model!r} with "
                f"fingerprint {self.patterns.fingerprint}; this is {session.view.model.name!r} with fingerprint "
                f"{present}. Fit them again: ks.Patterns.fit(model, x_train)."
            )
        self._kernels(session, session.view.logits)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        if selection.fn is not None:
            raise IncompatibleMethodError(
                f"{type(self).__name__} starts from the value of an output; a function of the logits has none. Give a "
                "class, or use gradient."
            )

    def rule_table(self, session: Session) -> list[dict[str, str]]:
        """See `Method.rule_table`."""
        rows = super().rule_table(session)
        return [row | {"rule": self._rule(node)} for row, node in zip(rows, session.view.logits, strict=True)]

    def _rule(self, node: Node) -> str:
        if isinstance(node.op, Activation) and node.op.is_relu:
            return "mask"
        if isinstance(node.op, Affine) and node.op.is_diagonal:
            return "pattern (1/scale)"
        fitted = self.patterns is not None and node.name in self.patterns
        if isinstance(node.op, Affine) or (fitted and self._splits_sums):
            return f"pattern ({self.patterns[node.name].estimator})" if fitted and self.patterns else "pattern"
        return "derivative"

    _splits_sums: ClassVar[bool] = False

    def _backward_kernel(self, kernel: np.ndarray, pattern: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _kernels(self, session: Session, graph: Graph) -> Mapping[str, Tensor]:
        """Return what stands for the kernel of each node on the way back, made once per session."""
        found: tuple[Any, Mapping[str, Tensor]] = session.remember(
            ("patterns", id(self), graph.outputs), lambda: (self, self._make_kernels(session, graph))
        )
        return found[1]

    def _make_kernels(self, session: Session, graph: Graph) -> dict[str, Tensor]:
        kernels = self._weights(session, graph)
        true = true_session(session)
        if true is session:
            fitted = self._fitted(kernels)
        else:  # of a copy with noisy weights; what was fitted belongs to the weights without noise
            key = ("patterns without noise", id(self), graph.outputs)
            fitted = true.remember(key, lambda: (self, self._without_noise(true, graph.outputs)))[1]
        if fitted.keys() != kernels.keys():
            raise IncompatibleMethodError(
                f"{type(self).__name__} finds other layers in a noisy copy of the network than in the network itself. "
                "Use less weight_noise."
            )
        made = {name: self._backward_kernel(weights, fitted[name]) for name, (_, weights) in kernels.items()}
        return {name: backend.from_numpy(array.astype(session.view.dtype)) for name, array in made.items()}

    def _without_noise(self, true: Session, outputs: tuple[int, ...]) -> dict[str, np.ndarray]:
        return self._fitted(self._weights(true, true.view.ending_at(outputs)))

    def _weights(self, session: Session, graph: Graph) -> dict[str, tuple[Unit | None, np.ndarray]]:
        """Return each unit's kernel, and the scales of single cells, which are no units."""
        with exact(session.view.dtype):
            units = units_of(graph, channels_first=session.view.channels_first)
        found: dict[str, tuple[Unit | None, np.ndarray]] = {
            unit.name: (unit, backend.to_numpy(unit.kernel))
            for unit in units
            if unit.form != "sum" or self._splits_sums
        }
        for node in graph:
            if isinstance(node.op, Affine) and node.op.is_diagonal:
                found[node.name] = (None, backend.to_numpy(node.op.kernel))
        return found

    def _fitted(self, weights: Mapping[str, tuple[Unit | None, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the pattern that belongs to each kernel or scale."""
        found = {}
        for name, (unit, kernel) in weights.items():
            if unit is None:
                alive = kernel != 0
                found[name] = alive / np.where(alive, kernel, 1)
            else:
                found[name] = self._pattern(unit, kernel)
        return found

    def _pattern(self, unit: Unit, kernel: np.ndarray) -> np.ndarray:
        """Return the pattern of a unit, if it was fitted to this very kernel."""
        fitted = self.patterns[unit.name] if self.patterns is not None and unit.name in self.patterns else None
        norm = float(np.linalg.norm(kernel.astype("float64")))
        if fitted is None or fitted.values.shape != kernel.shape:
            reason = "holds no patterns for it"
        elif abs(fitted.kernel_norm - norm) > _SAME_KERNEL * max(norm, fitted.kernel_norm):
            reason = "was fitted to it with a BatchNormalization folded in, which this target keeps apart"
        else:
            return fitted.values
        raise IncompatibleMethodError(
            f"The path to this target leads through {unit.name!r}, but the patterns' file {reason}. Explain an output "
            "of the model, or the unit behind the normalisation."
        )

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        selection = batch.selection

        def build() -> Callable[..., Any]:
            kernels = self._kernels(session, selection.graph)
            return lambda xs, codes, against: self._walk(selection, kernels, xs, codes, against)

        found = session.run(("patterns", id(self)), build, batch.inputs, selection)
        values, log_scale, explained, logits = found
        return Attribution(
            values=tuple(values),
            log_scale=log_scale if self._projects else None,
            explained=explained,
            logits=list(logits),
            warnings=self._about_activations(selection.graph),
        )

    @property
    def _projects(self) -> bool:
        return False

    def _about_activations(self, graph: Graph) -> tuple[str, ...]:
        bent = [f"{n.name!r} ({n.op.name})" for n in graph if isinstance(n.op, Activation) and not n.op.is_relu]
        if not bent:
            return ()
        return (
            f"{type(self).__name__} is defined for ReLU networks; at {', '.join(bent)} it takes the derivative, "
            "and the patterns before it are linear ones.",
        )

    def _handlers(self, graph: Graph, kernels: Mapping[str, Tensor], log: list[Tensor]) -> dict[str, Handler]:
        handlers = tie_handlers(graph)
        narrow = _bottlenecks(graph) if self._projects else frozenset()
        for node in graph:
            if isinstance(node.op, Activation) and node.op.is_relu:
                handlers[node.name] = _relu
            elif node.name in kernels:
                way = _through if isinstance(node.op, Affine) else _sum
                handler = way(kernels[node.name])
                handlers[node.name] = _scaled(handler, log) if node.name in narrow else handler
        return handlers

    def _walk(
        self,
        selection: Selection,
        kernels: Mapping[str, Tensor],
        xs: Sequence[Tensor],
        codes: Tensor,
        against: Tensor,
    ) -> tuple[Any, ...]:
        graph, log = selection.graph, list[Tensor]()
        values, walk = forward(graph, tuple(xs), self._handlers(graph, kernels, log))
        logits = [values[i] for i in graph.outputs]
        seeds, explained = selection.seed(logits, codes, against)
        maps, scales = [], []
        for seed in seeds:
            log.clear()
            start = seed if self.start == "one" else [s * z for s, z in zip(seed, logits, strict=True)]
            walked = walk(dict(zip(graph.outputs, start, strict=True)))
            maps.append([walked.values.get(i, ops.zeros_like(x)) for i, x in zip(graph.inputs, xs, strict=True)])
            scales.append(sum(log, ops.zeros_like(explained[:, 0])))
        stacked = [ops.stack([column[i] for column in maps], axis=1) for i in range(len(xs))]
        return stacked, ops.stack(scales, axis=1), explained, logits


def _bottlenecks(graph: Graph) -> frozenset[str]:
    """Return the nodes through whose one output everything passes on its way to the graph's output."""
    last = dict.fromkeys(graph.outputs, len(graph))
    for i, node in enumerate(graph):
        last.update({tensor: max(i, last.get(tensor, 0)) for tensor in node.inputs})
    live = {tensor for tensor in graph.inputs if tensor in last}
    narrow = []
    for i, node in enumerate(graph):
        live = {tensor for tensor in (*live, *node.outputs) if last.get(tensor, -1) > i}
        if live == set(node.outputs) and len(live) == 1:
            narrow.append(node.name)
    return frozenset(narrow)


@dataclass(frozen=True)
class PatternNet(_PatternMethod):
    """The signal in the input that a neuron detects: the gradient with every filter replaced by its pattern.

    Back through a kernel: s_i = sum_j a_ij s_j with the pattern a of each neuron, from the output's value; the
    masks of ReLUs and the choices of max pooling are those of the forward pass; biases take no part. A sum
    hands a copy to each of its inputs; average pooling takes the derivative. A scaling of single cells that
    could not be folded has the pattern 1/scale. Nothing is promised of the sum.

    Args:
        patterns: fitted patterns of this model, from `Patterns.fit` or `Patterns.open`.
        start: what stands at the output: ``"logit"`` (its value) or ``"one"``.
        project: divide the signal of each sample by its largest absolute value at every kernel through which
            all of it passes. Signals grow or shrink with depth; this changes no direction. The natural logarithm
            of the product of the divisors stands in ``explanation.attrs["log_scale"]``.

    Reference: Kindermans et al. 2018, "Learning how to explain neural networks: PatternNet and
    PatternAttribution", ICLR.

    Example:
        >>> import keras, numpy as np, kerascope as ks
        >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> ks.explain(model, x, "patternnet", patterns=ks.Patterns.fit(model, x)).values.shape
        (50, 3)
    """

    project: bool = False

    family: ClassVar[str] = "signal"
    question: ClassVar[str] = "What signal in the input made the network answer, learned from training data?"
    paper: ClassVar[str] = "Kindermans et al. 2018, ICLR"

    @property
    def _projects(self) -> bool:
        return self.project

    def _backward_kernel(self, kernel: np.ndarray, pattern: np.ndarray) -> np.ndarray:
        return pattern


@dataclass(frozen=True)
class PatternAttribution(_PatternMethod):
    """How much each cell of the signal contributes: the gradient with every filter times its pattern.

    Back through a kernel: R_i = sum_j w_ij a_ij R_j with the pattern a of each neuron, from the output's value;
    each linear neuron hands on all it gets, since sum_i w_ij a_ij = 1. Masks of ReLUs and choices of max
    pooling are those of the forward pass; biases take no part; average pooling takes the derivative. A sum is
    a neuron too, y = sum_k x_k, with one pattern per channel: its inputs get the shares a_k, which sum to 1.
    What reaches inactive units is lost, so a sum is promised of nothing; on a linear network of dense and
    unpadded layers with linear patterns the values sum to the explained number.

    Args:
        patterns: fitted patterns of this model, from `Patterns.fit` or `Patterns.open`.
        start: what stands at the output: ``"logit"`` (its value) or ``"one"``.

    Reference: Kindermans et al. 2018, "Learning how to explain neural networks: PatternNet and
    PatternAttribution", ICLR.

    Example:
        >>> import keras, numpy as np, kerascope as ks
        >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> patterns = ks.Patterns.fit(model, x, estimator="linear")
        >>> e = ks.explain(model, x, "pattern_attribution", patterns=patterns)
        >>> bool(np.allclose(e.values.sum(axis=1), e.explained, atol=1e-4))
        True
    """

    family: ClassVar[str] = "attribution"
    question: ClassVar[str] = "How much did each cell's share of the signal contribute, apart from what disturbs it?"
    paper: ClassVar[str] = "Kindermans et al. 2018, ICLR"

    _splits_sums: ClassVar[bool] = True

    def _backward_kernel(self, kernel: np.ndarray, pattern: np.ndarray) -> np.ndarray:
        return np.asarray(kernel * pattern)
