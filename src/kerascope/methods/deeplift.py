"""DeepLIFT: differences from a reference activation, sent back as multipliers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from kerascope.errors import BadInputError, IncompatibleMethodError, UnsupportedLayerError
from kerascope.methods import inside, multipliers
from kerascope.methods.base import Attribution, Batch, Method, Trail
from kerascope.methods.decompose import decompose
from kerascope.methods.multipliers import MULTIPLIERS, Difference, Multipliers
from kerascope.methods.path import baselines_of, expected_difference, refuse_baselines, said_of_baselines
from kerascope.methods.sampling import Moments
from kerascope.methods.session import Arrays, Session
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Product, Route, Tensor, Winner
from kerascope.model.propagate import Handler, Walked, forward, sample_sum
from kerascope.target import Selection

Rule = Literal["rescale", "reveal_cancel"]

_RULES = ("rescale", "reveal_cancel")
_MOST_TENSORS = 6
"""Shapley shares among more tensors than these would take hundreds of passes."""
_PARTIAL = frozenset(
    [
        "exp",
        "exp2",
        "expm1",
        "sinh",
        "cosh",
        "log",
        "log1p",
        "log2",
        "log10",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "power",
        "tan",
        "arcsin",
        "arctanh",
    ]
)
"""Functions that are not defined, or explode, where a part alone may lead: they keep the Rescale rule."""


Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done at every operation: the graph that is walked, its handlers, and tables of node and rule.

    ``table`` holds the operations as the model has them, ``parts`` those that are walked: some are taken apart.
    """

    graph: Graph
    handlers: Mapping[str, Handler]
    table: tuple[Row, ...]
    parts: tuple[Row, ...]


def plan(graph: Graph, rule: Rule, conv: Rule) -> Plan:
    """Choose the rule of every operation.

    Args:
        graph: a canonized graph.
        rule: at activations.
        conv: at those that follow a convolution, where ``rule`` is RevealCancel.

    Raises:
        UnsupportedLayerError: if an operation has no rule.
    """
    whole = decompose(graph)
    revealing = _revealing(whole, conv) if rule == "reveal_cancel" else frozenset()
    chosen = {node.name: _handler(node, revealing) for node in whole}
    rules = {name: rule for name, (_, rule) in chosen.items()}
    table, parts = (tuple(_row(node, rules.get(node.name, "taken apart")) for node in g) for g in (graph, whole))
    return Plan(whole, {name: handler for name, (handler, _) in chosen.items()}, table, parts)


def _row(node: Node, rule: str) -> Row:
    return {"node": node.name, "layer": node.op.label, "kind": node.op.kind, "rule": rule}


def _handler(node: Node, revealing: frozenset[str]) -> tuple[Handler, str]:
    op = node.op
    if isinstance(op, Affine):
        return multipliers.affine, "linear"
    if isinstance(op, Mixture):
        return multipliers.mixture, "linear"
    if isinstance(op, Route):
        return multipliers.route, "rearranged"
    if isinstance(op, Activation):
        if node.name in revealing:
            return multipliers.reveal_cancel, "reveal_cancel"
        return multipliers.rescale, "rescale"
    if isinstance(op, Product) or _is_bilinear(node):
        return multipliers.bilinear, "half and half"
    if isinstance(op, Winner) and len(node.inputs) == 1:
        return multipliers.pooling, "cross-max"
    if isinstance(op, Winner) and len(node.inputs) <= _MOST_TENSORS:
        return multipliers.between_tensors, "Shapley shares"
    raise UnsupportedLayerError(
        f"DeepLIFT has no rule for {node.name!r} ({op.label}). Use a method that only differentiates "
        "(integrated_gradients, expected_gradients) or only asks for outputs (occlusion), or explain the network up "
        "to a layer before it with target=ks.Neuron(layer, index)."
    )


def _is_bilinear(node: Node) -> bool:
    """Whether this is a matrix product of two tensors."""
    return isinstance(node.op, Opaque) and node.op.label in ("Matmul", "Einsum") and len(node.inputs) == 2


def _revealing(graph: Graph, conv: Rule) -> frozenset[str]:
    """Return the activations under RevealCancel."""
    producers = graph.producers()

    def after_convolution(node: Node) -> bool:
        """Whether the kernel that feeds a node, seen through whatever has none, is a convolution's."""
        before = [producers[tensor] for tensor in node.inputs if tensor in producers]
        return any(_is_convolution(n) or (not _is_kernel(n) and after_convolution(n)) for n in before)

    activations = [node for node in graph if isinstance(node.op, Activation) and node.op.name not in _PARTIAL]
    return frozenset(node.name for node in activations if conv == "reveal_cancel" or not after_convolution(node))


def _is_kernel(node: Node) -> bool:
    return isinstance(node.op, Affine) and not node.op.is_diagonal


def _is_convolution(node: Node) -> bool:
    return isinstance(node.op, Affine) and node.op.form in ("conv", "depthwise", "transpose")


def _check_rules(rule: str, conv: str) -> None:
    for name, value in (("rule", rule), ("conv", conv)):
        if value not in _RULES:
            raise BadInputError(f"{name} must be 'rescale' or 'reveal_cancel'; got {value!r}.")


class _Multiplied(Method):
    """What DeepLIFT from one reference and from many share; the fields are those of the subclasses."""

    rule: Rule
    conv: Rule

    family: ClassVar[str] = "attribution"
    axioms: ClassVar[tuple[str, ...]] = ("completeness", "sensitivity", "dummy", "linearity", "shift invariance")

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`."""
        return True

    def __post_init__(self) -> None:
        """Check the fields."""
        _check_rules(self.rule, self.conv)

    def references(self, session: Session) -> tuple[Arrays, str]:
        """Return the references, one array (M, *S) per input, and in words what they are."""
        raise NotImplementedError

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        for spec in session.view.signature.specs:
            if not keras.backend.is_float_dtype(spec.dtype):
                raise IncompatibleMethodError(
                    f"Input {spec.name!r} takes whole numbers ({spec.dtype}), between which there is no difference "
                    "to share out. Explain the part of the model after its embedding, or use occlusion."
                )
        self._plan(session, session.view.logits)
        self.references(session)

    def check_selection(self, selection: Selection) -> None:
        """See `Method.check_selection`."""
        if selection.fn is not None:
            raise IncompatibleMethodError(
                "DeepLIFT shares out the value of outputs; a function of the logits has no rule. Give a class, "
                "ks.Contrast(a, b), or use integrated_gradients."
            )

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        refuse_baselines(inputs, self.references(session)[0])

    def rule_table(self, session: Session) -> list[Row]:
        """See `Method.rule_table`."""
        return list(self._plan(session, session.view.logits).table)

    def _plan(self, session: Session, graph: Graph) -> Plan:
        found: Plan = session.remember(
            ("deeplift", self.rule, self.conv, graph.outputs), lambda: plan(graph, self.rule, self.conv)
        )
        return found

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        arrays, text = self.references(session)
        chosen = self._plan(session, batch.selection.graph)
        mean = _Mean(session, batch, chosen, ("deeplift", self.rule, self.conv))
        mean.take(arrays, self._at_once(session))
        settled = replace(batch, selection=batch.selection.fixed(mean.logits))
        expected, at_references = expected_difference(session, settled, arrays, mean.explained)
        return Attribution(
            values=tuple(moments.mean(len(arrays[0])).astype(session.view.dtype) for moments in mean.moments),
            expected=expected,
            absorbed=np.zeros_like(expected),
            explained=mean.explained,
            logits=mean.logits,
            largest=mean.largest,
            baseline=arrays,
            baseline_text=text,
            baseline_output=at_references,
            warnings=said_of_baselines(batch.inputs, arrays),
            standard_error=self._errors(mean.moments, len(arrays[0]), session.view.dtype),
        )

    def _at_once(self, session: Session) -> int:
        """Return how many pairs of a sample and a reference go into one pass within the memory budget."""
        return max(1, session.rows_at_once // (2 if self.rule == "rescale" else 4))

    def _errors(self, moments: Sequence[Moments], count: int, dtype: str) -> Arrays | None:
        return None

    def trail(self, session: Session, batch: Batch) -> Trail:
        """See `Method.trail`: contributions, the mean over references."""
        arrays, _ = self.references(session)
        selection, chosen = batch.selection, self._plan(session, batch.selection.graph)
        key, count = ("deeplift inside", self.rule, self.conv), len(arrays[0])

        def build() -> Callable[..., Any]:
            return lambda xs, codes, against: _inside(chosen, selection, xs, codes, against)

        means: Any = None
        for _, index, pairs in _pairs(session, batch, arrays, self._at_once(session)):
            found = session.run(key, build, pairs, selection.rows(index))
            if means is None:
                means = keras.tree.map_structure(lambda part: np.zeros((len(batch), *part.shape[1:])), found)
            for mean, part in zip(keras.tree.flatten(means), keras.tree.flatten(found), strict=True):
                np.add.at(mean, index, part.astype("float64") / count)
        values, flows, maps, explained = keras.tree.map_structure(lambda mean: mean.astype(session.view.dtype), means)
        return Trail(values, flows, tuple(maps), explained, {row["node"]: row for row in chosen.parts})


def _pairs(
    session: Session, batch: Batch, arrays: Arrays, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Yield every pair of a sample and a reference, in equal pieces of at most ``size``.

    Yields:
        Which reference and which sample each pair of a piece is, and the pairs, one array (P, 2, *S) per input.
    """
    rows = len(batch)
    pieces = math.ceil(len(arrays[0]) * rows / size)
    for draws, index in session.pairs(len(arrays[0]), rows, math.ceil(len(arrays[0]) * rows / pieces)):
        yield draws, index, [np.stack([x[index], b[draws]], axis=1) for x, b in zip(batch.inputs, arrays, strict=True)]


class _Mean:
    """Maps of a batch, averaged over references as they come.

    ``moments``: per input of the maps (B, T, *S); ``logits`` and ``explained`` (B, T): at the samples;
    ``largest`` (B, T): the largest sum of absolute contributions to any tensor, over all references.
    """

    def __init__(self, session: Session, batch: Batch, chosen: Plan, key: tuple[str, ...]) -> None:
        self.session, self.batch, self.plan, self.key = session, batch, chosen, key
        rows, targets = len(batch), batch.selection.count
        self.moments = [Moments((rows, targets, *x.shape[1:])) for x in batch.inputs]
        self.largest = np.zeros((rows, targets), session.view.dtype)
        self.explained = np.zeros((rows, targets), session.view.dtype)
        self.logits: list[np.ndarray] = []

    def take(self, arrays: Arrays, size: int) -> None:
        """Take in every pair of a sample and a reference, in pieces of at most ``size``."""
        selection = self.batch.selection

        def build() -> Callable[..., Any]:
            return lambda xs, codes, against: _contributions(self.plan, selection, xs, codes, against)

        for draws, index, pairs in _pairs(self.session, self.batch, arrays, size):
            found = self.session.run(self.key, build, pairs, selection.rows(index))
            self._add(draws, index, *found)

    def _add(
        self,
        draws: np.ndarray,
        index: np.ndarray,
        maps: Sequence[np.ndarray],
        largest: np.ndarray,
        explained: np.ndarray,
        logits: Sequence[np.ndarray],
    ) -> None:
        for moments, values in zip(self.moments, maps, strict=True):
            moments.add(draws, index, values)
        np.maximum.at(self.largest, index, largest)
        if not self.logits:
            self.logits = [np.zeros((len(self.batch), *z.shape[1:]), z.dtype) for z in logits]
        fresh = draws == 0
        self.explained[index[fresh]] = explained[fresh]
        for kept, z in zip(self.logits, logits, strict=True):
            kept[index[fresh]] = z[fresh]


def _walks(
    chosen: Plan, selection: Selection, pairs: Sequence[Tensor], codes: Tensor, against: Tensor, *, follow: bool
) -> tuple[Mapping[int, Difference], list[Walked], Tensor]:
    """Walk back for every target, from pairs of a sample and a reference, one tensor (B, 2, *S) per input.

    Returns:
        The values of the graph's tensors, the walks, and the explained numbers (B, T).
    """
    inputs = tuple(Difference(pair[:, 0], pair[:, 1]) for pair in pairs)
    values, walk = forward(chosen.graph, inputs, chosen.handlers, MULTIPLIERS)
    outputs = chosen.graph.outputs
    seeds, explained = selection.seed([values[i].x for i in outputs], codes, against)
    starts = [{i: Multipliers(s) for i, s in zip(outputs, seed, strict=True)} for seed in seeds]
    return values, [walk(start, follow=follow) for start in starts], explained


def _contributions(
    chosen: Plan, selection: Selection, pairs: Sequence[Tensor], codes: Tensor, against: Tensor
) -> tuple[Any, ...]:
    """Compute C = M D for pairs of a sample and a reference.

    Returns:
        Per input the contributions (B, T, *S); their largest absolute sum over any tensor (B, T); the explained
        numbers (B, T) and tensors at the samples.
    """
    values, walks, explained = _walks(chosen, selection, pairs, codes, against, follow=False)
    maps, largest = [], []
    for walked in walks:
        sizes = [sample_sum(ops.abs(values[i].contributions(m))) for i, m in walked.values.items()]
        largest.append(ops.max(ops.stack(sizes), axis=0))
    for i in chosen.graph.inputs:
        sent = [walked.values.get(i) or Multipliers.none(values[i]) for walked in walks]
        maps.append(ops.stack([values[i].contributions(m) for m in sent], axis=1))
    return maps, ops.stack(largest, axis=1), explained, [values[i].x for i in chosen.graph.outputs]


def _inside(
    chosen: Plan, selection: Selection, pairs: Sequence[Tensor], codes: Tensor, against: Tensor
) -> tuple[Any, ...]:
    """Return what `inside.along` does, and the explained numbers (B, T), for pairs as in `_contributions`."""
    values, walks, explained = _walks(chosen, selection, pairs, codes, against, follow=True)
    return *inside.along(chosen.graph, values, walks, MULTIPLIERS), explained


@dataclass(frozen=True)
class DeepLIFT(_Multiplied):
    """DeepLIFT: the difference from a reference output, shared out over the differences of the cells.

    Every operation gets a multiplier, contribution per difference, and multipliers follow the chain rule:
    A = m (x - x0). Linear operations pass on their weights; an activation y = f(z) passes on Dy / Dz (Rescale), or
    treats the positive and the negative part of Dz apart (RevealCancel); pooling credits the cell that made the
    maximum rise or fall; products give half to each side. The values sum to f(x) - mean f(x0), whatever the
    depth. For contributions normalised over a softmax's n classes explain ``ks.Contrast(c)``: (n - 1) / n of it
    is C_c - (1/n) sum_k C_k.

    Args:
        rule: at activations: ``"rescale"`` or ``"reveal_cancel"``. RevealCancel sees parts that cancel each other;
            exp, log, powers and the like keep Rescale.
        conv: under RevealCancel, the rule after convolutions; ``"rescale"`` is usual in genomics, where
            RevealCancel gives filters that do not fire some credit.
        baseline: the reference: ``"zeros"``, ``"mean"``, ``"median"``, a number, one array or several (M, *S),
            over which maps are averaged; None: the background's mean.

    Reference: Shrikumar et al. 2017, "Learning important features through propagating activation
    differences", ICML.

    Example:
        >>> import kerascope as ks
        >>> ks.DeepLIFT(rule="reveal_cancel", baseline="zeros").conv
        'reveal_cancel'
    """

    rule: Rule = "rescale"
    baseline: Any = None
    conv: Rule = "reveal_cancel"

    question: ClassVar[str] = "How much did each cell contribute to the difference from the reference output?"
    paper: ClassVar[str] = "Shrikumar et al. 2017, ICML"
    needs: ClassVar[str] = "a baseline or background samples; a rule for every operation"
    promise: ClassVar[str] = "the explained number less its mean at the baselines"

    def references(self, session: Session) -> tuple[Arrays, str]:
        """Return the references, one array (M, *S) per input, and in words what they are."""
        name = "deeplift.reveal_cancel" if self.rule == "reveal_cancel" else "deeplift"
        return baselines_of(self, self.baseline, session, name)


@dataclass(frozen=True)
class DeepLiftSHAP(_Multiplied):
    """DeepLIFT averaged over background samples: an estimate of Shapley values with features drawn from them.

    A = mean over background samples b of DeepLIFT from b. The values sum to f(x) - mean f(b). The standard error
    is that of the mean over the background, taken as independent samples.

    Args:
        rule: at activations: ``"rescale"`` or ``"reveal_cancel"``, see `DeepLIFT`.
        conv: under RevealCancel, the rule after convolutions.
        baseline: what is averaged over instead of the background's samples, as in `DeepLIFT`: several arrays (M, *S),
            or one; None: the background's samples.

    Reference: Lundberg and Lee 2017, "A unified approach to interpreting model predictions", NeurIPS.

    Example:
        >>> import kerascope as ks
        >>> ks.DeepLiftSHAP().rule
        'rescale'
    """

    rule: Rule = "rescale"
    conv: Rule = "reveal_cancel"
    baseline: Any = None

    question: ClassVar[str] = "How much did each cell contribute, compared with typical samples?"
    paper: ClassVar[str] = "Lundberg and Lee 2017, NeurIPS"
    needs: ClassVar[str] = "a baseline or background samples; a rule for every operation"
    promise: ClassVar[str] = "the explained number less its mean at the baselines"

    def references(self, session: Session) -> tuple[Arrays, str]:
        """Return the background samples (or what stands for them), and in words what they are."""
        return baselines_of(self, self.baseline, session, "deeplift_shap", samples=True)

    def _errors(self, moments: Sequence[Moments], count: int, dtype: str) -> Arrays | None:
        return None if count < 2 else tuple(m.error(count).astype(dtype) for m in moments)
