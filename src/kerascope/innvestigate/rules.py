"""The conventions of iNNvestigate 2.1.2, for those who have to repeat its numbers.

What is peculiar: an exact zero in a denominator becomes 1e-7; alpha-beta keeps the whole bias in both denominators;
pooling by average and Add share by the z rule without a stabiliser (LRP) or copy like a gradient (deep Taylor);
activation layers of their own (``ReLU()``, ``LeakyReLU()``) are differentiated, fused ones pass relevance on; LRP takes
BatchNormalization for another map (`normalization`), deep Taylor differentiates it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import ops

from kerascope import backend
from kerascope.errors import UnsupportedLayerError
from kerascope.innvestigate.normalization import Normalized
from kerascope.lrp import engine
from kerascope.lrp.composites import Assignment, Composite
from kerascope.lrp.rules import Branch, Rule, Site, Term
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Tensor
from kerascope.model.propagate import Backward, Handler, plain

ZERO = 1e-7
"""What iNNvestigate divides by where a denominator is exactly zero."""


@dataclass(frozen=True)
class Z(Rule):
    """z with the bias; ``epsilon`` makes it the epsilon rule, ``bias=False`` leaves the bias out."""

    epsilon: float = 0.0
    bias: bool = True

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        bias = site.op.bias if self.bias else None
        return (Branch((Term(_same, site.op.kernel, original=True),), bias=bias, epsilon=self.epsilon, zero=ZERO),)


@dataclass(frozen=True)
class WholeBiasAlphaBeta(Rule):
    """alpha-beta with the whole bias, not its positive and negative part, in both denominators."""

    alpha: float
    beta: float
    bias: bool = True

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        plus, minus = ops.maximum(site.op.kernel, 0), ops.minimum(site.op.kernel, 0)
        bias = site.op.bias if self.bias else None
        up = Branch((Term(_plus, plus), Term(_minus, minus)), self.alpha, bias, zero=ZERO)
        down = Branch((Term(_plus, minus), Term(_minus, plus)), -self.beta, bias, zero=ZERO)
        return (up, down) if self.beta else (up,)


@dataclass(frozen=True)
class FastZPlus(Rule):
    """x W+ / (x W+), the input not clipped."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        return (Branch((Term(_same, ops.maximum(site.op.kernel, 0)),), zero=ZERO),)


@dataclass(frozen=True)
class Weights(Rule):
    """w^2, or 1 for every connection (flat), whatever the input."""

    kind: Literal["square", "flat"]

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        kernel = site.op.kernel
        weights = ops.square(kernel) if self.kind == "square" else ops.ones_like(kernel)
        return (Branch((Term(ops.ones_like, weights),), zero=ZERO),)


@dataclass(frozen=True)
class Box(Rule):
    """x W - low W+ - high W-, low and high as they broadcast over the layer's input."""

    low: Any
    high: Any

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        plus, minus = ops.maximum(site.op.kernel, 0), ops.minimum(site.op.kernel, 0)
        low, high = self.low, self.high
        return (Branch((Term(lambda x: x - low, plus), Term(lambda x: x - high, minus)), zero=ZERO),)

    @property
    def bounds(self) -> None:
        """None: inputs outside are not refused, as iNNvestigate does not."""
        return


@dataclass(frozen=True)
class PositiveInputs(Rule):
    """2 x+ W+ / (x+ W+ + b+) - x+ W- / (x+ W- + b-): negative inputs get nothing, positive ones twice their share."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        found = []
        for weight, part in ((2.0, ops.maximum), (-1.0, ops.minimum)):
            bias = None if site.op.bias is None else part(site.op.bias, 0)
            found.append(Branch((Term(_plus, part(site.op.kernel, 0)),), weight, bias, zero=ZERO))
        return tuple(found)


def _same(x: Tensor) -> Tensor:
    return x


def _plus(x: Tensor) -> Tensor:
    return ops.maximum(x, 0)


def _minus(x: Tensor) -> Tensor:
    return ops.minimum(x, 0)


def first_kernels(graph: Graph) -> frozenset[str]:
    """Return the kernel layers that read the input through Flatten, Permute and Reshape alone."""
    fresh = set(graph.inputs)
    found = []
    for node in graph:
        if issubclass(node.source, (keras.layers.Flatten, keras.layers.Permute, keras.layers.Reshape)):
            if set(node.inputs) <= fresh:
                fresh.update(node.outputs)
        elif isinstance(node.op, Affine) and not node.op.is_diagonal and set(node.inputs) <= fresh:
            found.append(node.name)
    return frozenset(found)


def assign(graph: Graph, composite: Composite, normalized: Normalized, *, taylor: bool) -> Assignment:
    """Give every node of an unfolded graph its handler.

    Args:
        graph: the network as it is written, nothing folded.
        composite: the rules of kernel layers; its first layers are those of `first_kernels`.
        normalized: how LRP goes through BatchNormalization.
        taylor: deep Taylor: sums, average poolings and BatchNormalization are differentiated.

    Returns:
        The handlers, and the rules of kernel layers.

    Raises:
        UnsupportedLayerError: for what 2.1.2 refuses or does not explain: other scalings and unknown operations;
            for a kernel layer without a rule.
    """
    first = first_kernels(graph)
    handlers: dict[str, Handler] = {}
    table: list[tuple[Node, str]] = []
    chosen: dict[str, Rule] = {}
    for node in graph:
        op = node.op
        if isinstance(op, Affine) and op.is_diagonal:
            if not issubclass(node.source, keras.layers.BatchNormalization):
                raise UnsupportedLayerError(
                    f"Layer {node.name!r} ({op.label}) is refused by iNNvestigate 2.1.2, which has no numbers for it. "
                    "Use conventions='kerascope'."
                )
            handlers[node.name], text = (plain, "derivative") if taylor else normalized.handler(node)
            table.append((node, text))
            continue
        if isinstance(op, Affine):
            rule = composite.rule_for(node, first)
            if rule is None:
                raise UnsupportedLayerError(
                    f"No condition of rule= holds for layer {node.name!r} ({op.label}). Put a pair at its end that "
                    "always holds, e.g. (lambda layer: True, 'Z')."
                )
            chosen[node.name], site = rule, Site(op, False, name=node.name)
            handlers[node.name], text = engine.affine_handler(rule.branches(site)), str(rule)
        else:
            handlers[node.name], text = _weightless(node, taylor)
        table.append((node, text))
    return Assignment(handlers, tuple(table), chosen)


def is_own_layer(node: Node) -> bool:
    """Whether an activation is one of the layers that 2.1.2 differentiates."""
    return node.source.__name__ in ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax")


def _weightless(node: Node, taylor: bool) -> tuple[Handler, str]:
    op = node.op
    if isinstance(op, Opaque):
        raise UnsupportedLayerError(
            f"Layer {node.name!r} ({op.label}): iNNvestigate's numbers there are not reproduced. Use "
            "conventions='kerascope'."
        )
    if isinstance(op, Activation):
        return (_differentiated, "derivative") if is_own_layer(node) else (engine.pass_handler, "pass")
    if isinstance(op, Mixture) and not taylor:
        return _in_proportion, "z"
    return plain, "derivative"


def _differentiated(op: Activation, x: Tensor) -> tuple[Tensor, Backward]:
    """Multiply by the derivative; a ReLU's at zero is zero on every backend."""
    if op.is_relu:
        mask = ops.cast(x > 0, x.dtype)
        return op(x), lambda arriving: ((arriving[0] * mask,), None)
    return plain(op, x)


def _in_proportion(op: Mixture, *inputs: Tensor) -> tuple[Tensor, Backward]:
    z, pull = backend.vjp(op.fn, *inputs)

    def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
        s = arriving[0] / ops.where(z == 0, ZERO * ops.ones_like(z), z)
        return tuple(x * c for x, c in zip(inputs, pull(s), strict=True)), None

    return z, backward
