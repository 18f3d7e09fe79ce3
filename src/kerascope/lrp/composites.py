"""Which rule stands at which layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from kerascope.errors import BadInputError, IncompatibleMethodError, UnsupportedLayerError
from kerascope.lrp import engine
from kerascope.lrp.rules import Bias, Epsilon, Flat, Pass, Rule, Site, WSquare, ZBox
from kerascope.model.canonize import input_path
from kerascope.model.graph import Graph, Node, as_tuple
from kerascope.model.primitives import (
    GATES,
    Activation,
    Affine,
    Mixture,
    Opaque,
    Product,
    Route,
    Tensor,
    Winner,
)
from kerascope.model.propagate import Handler, plain
from kerascope.model.signs import non_negative

Selector = Any
"""A layer class, a glob over node names, `first_layer`, or a predicate on a node."""


class _FirstLayer:
    """The kernel layers that read the network's input through rearrangements and normalisation only."""

    def __repr__(self) -> str:
        return "first_layer"


first_layer = _FirstLayer()
"""Selects the first kernel layer of every input branch."""


def kernels(node: Node) -> bool:
    """Select every layer with a kernel: dense, convolutions, einsum."""
    return isinstance(node.op, Affine) and not node.op.is_diagonal


def convolutions(node: Node) -> bool:
    """Select every convolution: plain, depthwise, transposed."""
    return isinstance(node.op, Affine) and node.op.form in ("conv", "depthwise", "transpose")


@dataclass(frozen=True)
class Composite:
    """An ordered list of ``(selector, rule)``; the first selector that matches a layer gives its rule.

    Selectors are matched against kernel layers and against scalings that could not be folded. A kernel
    layer that nothing matches is an error.

    Example:
        >>> from kerascope.lrp import rules
        >>> Composite([(first_layer, rules.Flat()), ("top*", rules.Epsilon(0.1)), ("*", rules.ZPlus())])
        Composite(first_layer: Flat(), 'top*': Epsilon(epsilon=0.1, bias='absorb'), '*': ZPlus(bias='absorb'))
    """

    rules: Sequence[tuple[Selector, Rule]]

    def __post_init__(self) -> None:
        """Check that every entry is a pair of a selector and a rule."""
        for entry in self.rules:
            if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], Rule)):
                raise BadInputError(f"A composite is a list of (selector, rule); got the entry {entry!r}.")
        object.__setattr__(self, "rules", tuple(self.rules))

    def within(self, low: Any, high: Any) -> Composite:
        """Return the composite with bounds for those box rules that have none of their own."""
        if low is None or high is None:
            return self
        return Composite(
            [
                (
                    selector,
                    replace(rule, low=low, high=high) if isinstance(rule, ZBox) and not rule.bounds else rule,
                )
                for selector, rule in self.rules
            ]
        )

    def rule_for(self, node: Node, first: frozenset[str]) -> Rule | None:
        """Return the rule of a node, None where no selector matches."""
        return next((rule for selector, rule in self.rules if _matches(selector, node, first)), None)

    @property
    def is_one_signed(self) -> bool:
        """Whether above the first layer no rule tells what raises the output from what lowers it."""
        above = [rule for selector, rule in self.rules if selector is not first_layer]
        return bool(above) and all(rule.only_positive or isinstance(rule, (Flat, WSquare)) for rule in above)

    def __repr__(self) -> str:
        """Show selector and rule, in order."""
        return f"Composite({', '.join(f'{_selector_text(s)}: {rule}' for s, rule in self.rules)})"


def _matches(selector: Selector, node: Node, first: frozenset[str]) -> bool:
    if selector is first_layer:
        return node.name in first
    if isinstance(selector, str):
        return fnmatch.fnmatchcase(node.name, selector)
    if isinstance(selector, type):
        return issubclass(node.source, selector)
    return bool(selector(node))


def _selector_text(selector: Selector) -> str:
    if isinstance(selector, str):
        return repr(selector)
    return getattr(selector, "__name__", repr(selector))


@dataclass(frozen=True, eq=False)
class Assignment:
    """A composite laid over a graph: the handler of every node and, in words, its rule; `rules` of kernel layers."""

    handlers: Mapping[str, Handler]
    table: tuple[tuple[Node, str], ...]
    rules: Mapping[str, Rule] = field(default_factory=dict)


def first_layers(graph: Graph) -> frozenset[str]:
    """Return the kernel layers that read the network's input through shape-only layers."""
    on_input = input_path(graph)
    fresh = set(graph.inputs)
    for node in graph:
        if node.name in on_input:
            fresh.update(node.outputs)
    return frozenset(node.name for node in graph if kernels(node) and node.inputs[0] in fresh)


def assign(graph: Graph, composite: Composite, *, bias: Bias | None, dtype: str, whole: bool = False) -> Assignment:
    """Give every node of a graph its handler.

    Args:
        graph: a canonized graph.
        composite: the rules of the kernel layers.
        bias: replaces the bias convention of every rule; None leaves each rule its own.
        dtype: the precision of the graph.
        whole: whether an input takes whole numbers, for the advice where there is no rule.

    Raises:
        UnsupportedLayerError: if an operation has no rule; the message names it and says what to do.
        IncompatibleMethodError: if a rule cannot stand where the composite puts it.
    """
    first, known = first_layers(graph), non_negative(graph)
    on_input = input_path(graph)
    handlers: dict[str, Handler] = {}
    table: list[tuple[Node, str]] = []
    chosen: dict[str, Rule] = {}
    for node in graph:
        if isinstance(node.op, Affine):
            rule = _affine_rule(node, composite, first, on_input, same_shape=_keeps_shape(node, graph))
            rule = rule if bias is None else rule.with_bias(bias)
            low, high = _bounds_at(node, rule, graph, dtype)
            site = Site(node.op, node.inputs[0] in known, low, high, node.name)
            handlers[node.name], text = engine.affine_handler(rule.branches(site)), str(rule)
            chosen.update({node.name: rule} if kernels(node) else {})
        else:
            handlers[node.name], text = _weightless(node, graph, whole=whole)
        table.append((node, text))
    return Assignment(handlers, tuple(table), chosen)


def positive_depth(graph: Graph, chosen: Mapping[str, Rule]) -> int:
    """Return how many kernel layers lie behind each other, if all but the first pass on positive contributions only.

    Args:
        graph: a canonized graph.
        chosen: see `Assignment.rules`.

    Returns:
        The length of the longest chain; 0 where another layer than the first has another rule.
    """
    first = first_layers(graph)
    if not all(rule.only_positive for name, rule in chosen.items() if name not in first):
        return 0
    depth = dict.fromkeys(graph.inputs, 0)
    for node in graph:
        reached = max((depth.get(tensor, 0) for tensor in node.inputs), default=0) + (node.name in chosen)
        depth.update(dict.fromkeys(node.outputs, reached))
    return max((depth[tensor] for tensor in graph.outputs), default=0)


def _keeps_shape(node: Node, graph: Graph) -> bool:
    return graph.shapes[node.inputs[0]] == graph.shapes[node.outputs[0]]


def _bounds_at(node: Node, rule: Rule, graph: Graph, dtype: str) -> tuple[Tensor | None, Tensor | None]:
    """Return the bounds of a layer's input, where its rule knows those of the network's input."""
    if rule.bounds is None:
        return None, None
    shapes = [tuple(size or 1 for size in graph.shapes[i][1:]) for i in graph.inputs]
    lows, highs = (
        [ops.convert_to_tensor(array) for array in bound_arrays(bound, shapes, dtype, name)]
        for bound, name in zip(rule.bounds, ("low", "high"), strict=True)
    )
    return input_bounds(graph, lows, highs).get(node.inputs[0], (None, None))


def _affine_rule(
    node: Node, composite: Composite, first: frozenset[str], on_input: set[str], *, same_shape: bool
) -> Rule:
    rule = _chosen_rule(node, composite, first, passes=node.name in on_input and same_shape)
    if isinstance(rule, Pass) and not same_shape:
        raise IncompatibleMethodError(
            f"Pass() at layer {node.name!r}: its input and output differ in shape. Give it another rule."
        )
    return rule


def _chosen_rule(node: Node, composite: Composite, first: frozenset[str], *, passes: bool) -> Rule:
    if passes:
        return Pass()
    if not kernels(node):
        explicit = [entry for entry in composite.rules if entry[0] is not kernels and not isinstance(entry[0], str)]
        return Composite(explicit).rule_for(node, first) or Epsilon()
    rule = composite.rule_for(node, first)
    if rule is None:
        raise UnsupportedLayerError(
            f"The composite has no rule for layer {node.name!r} ({node.op.label}). Add one, e.g. "
            "('*', ks.rules.Epsilon())."
        )
    return rule


def _weightless(node: Node, graph: Graph, *, whole: bool) -> tuple[Handler, str]:
    op = node.op
    if isinstance(op, Activation):
        return engine.pass_handler, "pass"
    if isinstance(op, Mixture):
        return engine.mixture_handler(), f"in proportion (epsilon {engine.MIXTURE_EPSILON:g})"
    if isinstance(op, Winner):
        return engine.winner_handler, "winner takes all"
    if isinstance(op, Route):
        return (
            (engine.route_handler, "back to its cells")
            if op.keeps_cells
            else (
                engine.interpolation_handler,
                f"in proportion (epsilon {engine.MIXTURE_EPSILON:g})",
            )
        )
    if isinstance(op, Product):
        signal = signal_of(node, graph)
        return engine.product_handler(
            signal
        ), "half to each" if signal is None else f"all to input {signal + 1}, the gate gets none"
    if isinstance(op, Opaque):
        raise unsupported(node, "LRP", whole=whole)
    return plain, "derivative"


def unsupported(node: Node, method: str, *, whole: bool = False) -> UnsupportedLayerError:
    """Return the error for an operation without a rule; ``whole``: an input takes whole numbers."""
    if whole:
        return UnsupportedLayerError(
            f"{method} has no rule for {node.name!r} ({node.op.label}), and the model takes whole numbers, by which "
            "nothing can be differentiated. Use a method that only asks for outputs (occlusion, shapley_sampling, "
            "kernel_shap), or explain the part of the model after its embedding."
        )
    return UnsupportedLayerError(
        f"{method} has no rule for {node.name!r} ({node.op.label}). Use a method that only differentiates "
        "(gradient, integrated_gradients, smoothgrad) or only asks for outputs (occlusion), or explain the "
        "network up to a layer before it with target=ks.Neuron(layer, index)."
    )


def signal_of(node: Node, graph: Graph) -> int | None:
    """Return which of a product's inputs is the signal, where the other one is a gate between 0 and 1."""
    gates = [_is_gate(tensor, graph) for tensor in node.inputs]
    return gates.index(False) if sorted(gates) == [False, True] else None


def _is_gate(tensor: int, graph: Graph) -> bool:
    producers = graph.producers()
    while (node := producers.get(tensor)) is not None:
        if isinstance(node.op, (Activation, Opaque)):
            return node.op.name in GATES or node.op.name == "relu6"
        if not (isinstance(node.op, Route) or (isinstance(node.op, Affine) and node.op.is_diagonal)):
            return False
        tensor = node.inputs[0]
    return False


def input_bounds(graph: Graph, lows: Sequence[Tensor], highs: Sequence[Tensor]) -> dict[int, tuple[Tensor, Tensor]]:
    """Carry bounds of the network's inputs through rearrangement and normalisation.

    Args:
        graph: a graph.
        lows: one lower bound (1, *S) per input.
        highs: one upper bound (1, *S) per input.

    Returns:
        For each tensor on the input path its bounds, shape (1, *S).
    """
    bounds = dict(zip(graph.inputs, zip(lows, highs, strict=True), strict=True))
    on_input = input_path(graph)
    for node in graph:
        if node.name not in on_input:
            continue
        low, high = zip(*(bounds[i] for i in node.inputs), strict=True)
        ends = zip(node.outputs, as_tuple(node.op(*low)), as_tuple(node.op(*high)), strict=True)
        bounds.update({out: (ops.minimum(one, two), ops.maximum(one, two)) for out, one, two in ends})
    return bounds


def bound_arrays(value: Any, shapes: Sequence[tuple[int, ...]], dtype: str, name: str) -> list[np.ndarray]:
    """Return a bound given by the user as one array (1, *S) per input.

    Args:
        value: a number, an array that broadcasts against one sample, or a list with one of these per input.
        shapes: the inputs' shapes without the batch axis.
        dtype: the precision wanted.
        name: ``"low"`` or ``"high"``, for the error.
    """
    per_input = list(value) if isinstance(value, (list, tuple)) and len(shapes) > 1 else [value] * len(shapes)
    if len(per_input) != len(shapes):
        raise BadInputError(f"{name}= holds {len(per_input)} bounds; the model has {len(shapes)} inputs.")
    arrays = []
    for bound, shape in zip(per_input, shapes, strict=True):
        try:
            arrays.append(np.array(np.broadcast_to(np.asarray(bound, dtype), (1, *shape))))
        except ValueError as error:
            raise BadInputError(
                f"{name}= has shape {np.shape(bound)}, which does not broadcast against one sample of shape {shape}."
            ) from error
    return arrays


def check_order(low: Any, high: Any, arrays: Iterable[tuple[Any, Any]] = ()) -> None:
    """Refuse bounds of which the lower is above the upper, or that are no numbers.

    Args:
        low: the lower bound as it was given.
        high: the upper bound.
        arrays: both as arrays, for each input; without, they are numbers.

    Raises:
        BadInputError: they do not bound anything.
    """
    if not all(np.all(np.asarray(one) <= np.asarray(two)) for one, two in arrays or [(low, high)]):
        came = " and ".join(
            f"{name}=<array {value.shape}>" if getattr(value, "shape", ()) else f"{name}={value!r:.60}"
            for name, value in (("low", low), ("high", high))
        )
        raise BadInputError(
            f"low must be below high in every cell; got {came}. Give the least and the largest value a cell can take."
        )


def zbox(method: Any) -> Rule:
    """Return the box rule with a method's bounds."""
    return ZBox(method.low, method.high)
