"""The handlers that carry relevance through each kind of operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kerascope import backend
from kerascope.lrp.rules import Branch
from kerascope.methods.ties import unbroadcast, winner_between
from kerascope.model.primitives import Activation, Affine, Mixture, Product, Route, Tensor, Winner
from kerascope.model.propagate import Backward, Handler, sample_sum

MIXTURE_EPSILON = 1e-6
"""Stabiliser of Add and pooling, in units of their outputs."""

_VANISHED = {"float64": 1e-290, "float32": 1e-30}
"""Below this a denominator counts as zero: dividing by it would overflow."""


def affine_handler(branches: Sequence[Branch]) -> Handler:
    """Return the handler of a kernel layer under a rule's branches; without any, relevance passes."""

    def handler(op: Affine, x: Tensor) -> tuple[Tensor, Backward]:
        free, pull = backend.vjp(lambda u: op.linear(u, op.kernel), x)
        z = free if op.bias is None else free + op.bias

        def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None]:
            (relevance,) = arriving
            if not branches:
                return (relevance,), None
            share, absorbed = 0.0, 0.0
            handed_out: Any = 0.0
            for branch in branches:
                part, lost, taken = _through(branch, op, x, free, pull, relevance)
                share, absorbed, handed_out = share + part, absorbed + lost, handed_out + taken
            everything = isinstance(handed_out, float) and handed_out == 1.0
            return (share,), absorbed if everything else absorbed + sample_sum(relevance * (1 - handed_out))

        return z, backward

    return handler


def _through(
    branch: Branch, op: Affine, x: Tensor, free: Tensor, pull: Any, relevance: Tensor
) -> tuple[Tensor, Tensor, Any]:
    """Send a branch's share back.

    Returns:
        What the input gets; what bias and stabiliser absorbed (N,); the factor of R that was handed out, one
        number where it is the same for every output.
    """
    modified = [term.of(x) for term in branch.terms]
    if len(branch.terms) == 1 and branch.terms[0].original:
        total, back = free, pull
    else:

        def run(*inputs: Tensor) -> Tensor:
            return sum(op.linear(u, term.kernel) for u, term in zip(inputs, branch.terms, strict=True))

        total, back = backend.vjp(run, *modified)
    z = total if branch.bias is None else total + branch.bias
    if branch.epsilon and not branch.where:
        # A stabilised denominator is never zero: nothing to mask.
        stabiliser = branch.epsilon * sign1(z)
        s = branch.weight * relevance / (z + stabiliser)
        kept = s * (stabiliser if branch.bias is None else branch.bias + stabiliser)
        return _share(modified, back(s)), sample_sum(kept), branch.weight
    stabiliser = branch.epsilon * sign1(z) if branch.epsilon else 0.0
    denominator = z + stabiliser
    if branch.zero:
        denominator = ops.where(denominator == 0, branch.zero * ops.ones_like(denominator), denominator)
    alive = ops.abs(denominator) > _VANISHED[_dtype(denominator)]
    if branch.where:
        own = free if branch.bias is None or op.bias is None else free + op.bias
        alive = ops.logical_and(alive, own > 0 if branch.where > 0 else own < 0)
    factor = branch.weight * ops.cast(alive, denominator.dtype)
    s = factor * relevance / ops.where(alive, denominator, ops.ones_like(denominator))
    share = _share(modified, back(s))
    kept = 0.0 if branch.bias is None else s * branch.bias
    kept = kept + s * stabiliser if branch.epsilon else kept
    lost = sample_sum(kept) if hasattr(kept, "shape") else ops.zeros_like(sample_sum(s))
    return share, lost, factor


def _share(inputs: Sequence[Tensor], pulled: Sequence[Tensor]) -> Tensor:
    return sum(u * c for u, c in zip(inputs, pulled, strict=True))


def sign1(z: Tensor) -> Tensor:
    """Return the sign of z with sign(0) = 1."""
    return 2 * ops.cast(z >= 0, z.dtype) - 1


def _dtype(tensor: Tensor) -> str:
    return "float64" if "float64" in str(tensor.dtype) else "float32"


def mixture_handler(epsilon: float = MIXTURE_EPSILON) -> Handler:
    """Return the handler of weightless linear maps: shares in proportion to what each input brought."""

    def handler(op: Mixture, *inputs: Tensor) -> tuple[Tensor, Backward]:
        z, pull = backend.vjp(op.fn, *inputs)

        def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
            stabiliser = epsilon * sign1(z)
            s = arriving[0] / (z + stabiliser)
            shares = tuple(x * c for x, c in zip(inputs, pull(s), strict=True))
            return shares, sample_sum(s * stabiliser)

        return z, backward

    return handler


def pass_handler(op: Activation, x: Tensor) -> tuple[Tensor, Backward]:
    """Hand relevance through an elementwise activation unchanged."""
    return op(x), lambda arriving: ((arriving[0],), None)


def winner_handler(op: Winner, *inputs: Tensor) -> tuple[Tensor, Backward]:
    """Give relevance to the largest value: of equal cells to the first, of equal tensors to each its part."""
    if op.axes is None:
        return winner_between(op, *inputs)
    (x,) = inputs
    outputs = op.fn(x)

    def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
        spread = arriving[0]
        for axis in sorted(axis % len(x.shape) for axis in op.axes or ()):
            if len(spread.shape) < len(x.shape):
                spread = ops.expand_dims(spread, axis)
        return (spread * op.first_of(x),), None

    return outputs, backward


def route_handler(op: Route, *inputs: Tensor) -> tuple[Any, Backward]:
    """Send relevance back to the cells it came from; what reaches constant cells is counted as absorbed."""
    outputs, pull = backend.vjp(op.fn, *inputs)

    def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None]:
        shares = pull(arriving if isinstance(outputs, (tuple, list)) else arriving[0])
        if not op.pads:
            return shares, None
        covered = op.fn(*map(ops.ones_like, inputs)) - op.fn(*map(ops.zeros_like, inputs))
        return shares, sample_sum(arriving[0] * (1 - covered))

    return outputs, backward


def interpolation_handler(op: Route, *inputs: Tensor) -> tuple[Any, Backward]:
    """Share relevance of interpolated cells in proportion to what each cell brought."""
    return mixture_handler()(op, *inputs)


def product_handler(signal: int | None) -> Handler:
    """Return the handler of a product: all to the signal, or half to each where neither is a gate."""

    def handler(op: Product, *inputs: Tensor) -> tuple[Tensor, Backward]:
        product = op(*inputs)

        def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
            weights = (0.5, 0.5) if signal is None else (1.0 - signal, float(signal))
            parts = zip(inputs, weights, strict=True)
            return tuple(unbroadcast(weight * arriving[0], x) for x, weight in parts), None

        return product, backward

    return handler
