"""The handlers of DeepLIFT: multipliers that send differences from a reference back through each operation.

Every tensor is known at the sample and at the reference, and the difference between them falls into a positive
and a negative part, D = D+ + D-. A multiplier is a contribution per unit of difference, one for each part. What
every handler keeps is the sum of contributions: <M+, D+> + <M-, D-> is the same before and after an operation.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerascope import backend
from kerascope.methods.ties import pool_winner, unbroadcast
from kerascope.model.graph import as_tuple
from kerascope.model.primitives import Activation, Affine, Mixture, Primitive, Route, Tensor, Winner
from kerascope.model.propagate import Backward, Carried

_EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
_SLOPE = 8
_PARTS = 64
"""How many units of rounding a difference may hold and still count as none."""


def _rounding(tensor: Tensor) -> float:
    return _EPS["float64" if "float64" in str(tensor.dtype) else "float32"]


class Difference:
    """A tensor at the samples and at their references, each (N, *S).

    Args:
        x: the tensor at the samples.
        x0: the tensor at the references.
        parts: makes D+ and D- when asked for; None: each cell's difference is one or the other, by its sign.
    """

    def __init__(self, x: Tensor, x0: Tensor, parts: Callable[[], tuple[Tensor, Tensor]] | None = None) -> None:
        self.x, self.x0 = x, x0
        self._parts = parts

    @functools.cached_property
    def delta(self) -> Tensor:
        """The difference x - x0."""
        return self.x - self.x0

    @functools.cached_property
    def size(self) -> Tensor:
        """The larger of |x| and |x0|: what rounding of the difference is proportional to."""
        return ops.maximum(ops.abs(self.x), ops.abs(self.x0))

    @functools.cached_property
    def sign(self) -> Tensor:
        """1, -1, or 0 where the difference is no more than rounding."""
        seen = ops.abs(self.delta) > _SLOPE * _rounding(self.x) * self.size
        return ops.where(seen, ops.sign(self.delta), ops.zeros_like(self.delta))

    @functools.cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """D+ and D-, which sum to the difference."""
        return _by_sign(self.delta) if self._parts is None else self._parts()

    def contributions(self, multipliers: Multipliers) -> Tensor:
        """Return M+ D+ + M- D-, (N, *S)."""
        if multipliers.merged:
            return multipliers.plus * self.delta
        plus, minus = self.parts
        return multipliers.plus * plus + multipliers.minus * minus


class Multipliers:
    """M+ and M- of a tensor; one tensor for both where they are the same."""

    def __init__(self, plus: Tensor, minus: Tensor | None = None) -> None:
        self.plus = plus
        self.minus = plus if minus is None else minus

    @property
    def merged(self) -> bool:
        """Whether both parts have the same multiplier: then half the work is to be done."""
        return self.minus is self.plus

    @classmethod
    def none(cls, value: Difference) -> Multipliers:
        """Return the multipliers of a tensor that nothing depends on."""
        return cls(ops.zeros_like(value.x))

    def __add__(self, other: Multipliers) -> Multipliers:
        """Add what two readers of a tensor send back."""
        if self.merged and other.merged:
            return Multipliers(self.plus + other.plus)
        return Multipliers(self.plus + other.plus, self.minus + other.minus)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Multipliers:
        """Apply a linear function to both."""
        return Multipliers(fn(self.plus)) if self.merged else Multipliers(fn(self.plus), fn(self.minus))

    def where(self, signed: Tensor) -> Tensor:
        """Return M+ where a tensor is positive, M- where it is negative, their mean where it is zero."""
        if self.merged:
            return self.plus
        mean = (self.plus + self.minus) / 2
        return ops.where(signed > 0, self.plus, ops.where(signed < 0, self.minus, mean))


MULTIPLIERS = Carried(zeros=Multipliers.none, amount=Difference.contributions)
"""What a walk of DeepLIFT carries: its amounts are contributions."""


def _by_sign(delta: Tensor) -> tuple[Tensor, Tensor]:
    zero = ops.zeros_like(delta)
    return ops.maximum(delta, zero), ops.minimum(delta, zero)


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; 0 where the denominator is 0."""
    zero = ops.equal(denominator, ops.zeros_like(denominator))
    quotient = numerator / ops.where(zero, ops.ones_like(denominator), denominator)
    return ops.where(zero, ops.zeros_like(quotient), quotient)


# Linear operations --------------------------------------------------------------------


def affine(op: Affine, u: Difference) -> tuple[Difference, Backward]:
    """Linear rule: contributions W D, in two groups by their sign.

    With A = (M+ + M-) / 2 and B = (M+ - M-) / 2 the rule reads m = W' A + sign(D) |W|' B, and its parts are
    (W D ± |W| |D|) / 2: no kernel is taken apart and no patch is cut out. A per-cell scaling has one contribution
    per cell; it keeps the parts as they are and swaps them where its factor is negative.
    """
    free, pull = backend.vjp(lambda v: op.linear(v, op.kernel), u.x)
    z = free if op.bias is None else free + op.bias

    @functools.cache
    def sizes() -> tuple[Tensor, Any]:
        kernel = ops.abs(op.kernel)
        spread = u.parts[0] - u.parts[1] if op.is_diagonal else ops.abs(u.delta)
        found: tuple[Tensor, Any] = backend.vjp(lambda v: op.linear(v, kernel), spread)
        return found

    return _regrouped((u,), z, op(u.x0), pull, sizes, keep=op.is_diagonal)


def mixture(op: Mixture, *inputs: Difference) -> tuple[Difference, Backward]:
    """Linear rule with the fixed weights of sums and averages; of a difference the second counts negative."""
    z, pull = backend.vjp(op.fn, *(u.x for u in inputs))

    def absolute(first: Tensor, *others: Tensor) -> Tensor:
        return op.fn(first, *(others if op.keeps_sign else [-v for v in others]))

    @functools.cache
    def sizes() -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = backend.vjp(absolute, *(ops.abs(u.delta) for u in inputs))
        return found

    return _regrouped(inputs, z, op.fn(*(u.x0 for u in inputs)), pull, sizes)


def bilinear(op: Primitive, *inputs: Difference) -> tuple[Difference, Backward]:
    """Multiply two tensors, cell by cell or as matrices: u v - u0 v0 = Du (v + v0) / 2 + (u + u0) / 2 Dv, exactly."""
    u, v = inputs
    middle = [(w.x + w.x0) / 2 for w in inputs]
    _, pull = backend.vjp(op, *middle)

    @functools.cache
    def sizes() -> tuple[Tensor, Any]:
        of_u, of_v = (ops.abs(w) for w in middle)
        _, back = backend.vjp(op, of_u, of_v)
        return op(ops.abs(u.delta), of_v) + op(of_u, ops.abs(v.delta)), back

    return _regrouped(inputs, op(u.x, v.x), op(u.x0, v.x0), pull, sizes)


def _regrouped(
    inputs: Sequence[Difference],
    z: Tensor,
    z0: Tensor,
    pull: Any,
    sizes: Callable[[], tuple[Tensor, Any]],
    *,
    keep: bool = False,
) -> tuple[Difference, Backward]:
    """Group contributions to each output by sign.

    Args:
        inputs: of the operation.
        z: its output at the samples.
        z0: its output at the references.
        pull: the transposed operation.
        sizes: the sum of absolute contributions, and the transposed operation with absolute weights.
        keep: whether inputs keep separate multipliers for their two parts.
    """

    def parts() -> tuple[Tensor, Tensor]:
        total, spread = z - z0, sizes()[0]
        return _by_sign(total + spread)[0] / 2, _by_sign(total - spread)[1] / 2

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        (m,) = arriving
        if m.merged:
            return tuple(map(Multipliers, pull(m.plus))), None
        even = pull((m.plus + m.minus) / 2)
        odd = sizes()[1]((m.plus - m.minus) / 2)
        if keep:
            return tuple(Multipliers(a + b, a - b) for a, b in zip(even, odd, strict=True)), None
        return tuple(Multipliers(a + u.sign * b) for u, a, b in zip(inputs, even, odd, strict=True)), None

    return Difference(z, z0, parts), backward


def route(op: Route, *inputs: Difference) -> tuple[Any, Backward]:
    """Rearrange both parts, and send both multipliers back to where the cells came from."""
    z, pull = backend.vjp(op.fn, *(u.x for u in inputs))
    several = isinstance(z, (tuple, list))
    z0 = as_tuple(op.fn(*(u.x0 for u in inputs)))

    @functools.cache
    def parts(sign: int) -> tuple[Tensor, ...]:
        moved = as_tuple(op.fn(*(u.parts[sign] for u in inputs)))
        if not op.pads:
            return moved
        constant = as_tuple(op.fn(*(ops.zeros_like(u.x) for u in inputs)))
        return tuple(a - b for a, b in zip(moved, constant, strict=True))

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        plus = pull(tuple(m.plus for m in arriving) if several else arriving[0].plus)
        if all(m.merged for m in arriving):
            return tuple(map(Multipliers, plus)), None
        minus = pull(tuple(m.minus for m in arriving) if several else arriving[0].minus)
        return tuple(map(Multipliers, plus, minus)), None

    def output(i: int, a: Tensor, b: Tensor) -> Difference:
        return Difference(a, b, lambda: (parts(0)[i], parts(1)[i]))

    outputs = tuple(output(i, a, b) for i, (a, b) in enumerate(zip(as_tuple(z), z0, strict=True)))
    return (outputs if several else outputs[0]), backward


# Activations --------------------------------------------------------------------------


def rescale(op: Activation, u: Difference) -> tuple[Difference, Backward]:
    """Rescale rule: M = Dy / Dx for both parts."""
    y, y0 = op(u.x), op(u.x0)
    slope = functools.cache(lambda: _slope(op, u, y, y0))

    def parts() -> tuple[Tensor, Tensor]:
        return slope() * u.parts[0], slope() * u.parts[1]

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        return (arriving[0].map(lambda m: m * slope()),), None

    return Difference(y, y0, parts), backward


def _slope(op: Activation, u: Difference, y: Tensor, y0: Tensor) -> Tensor:
    """Return Dy / Dx, or the derivative half way wherever it accounts for Dy to within rounding.

    So the quotient is taken only where Dy is more than rounding of y: no quotient of rounding errors is ever
    formed, and either way the contributions sum to Dy.
    """
    derivative = _derivative(op, u.x0 + u.delta / 2)
    predicted = derivative * u.delta
    scale = ops.maximum(ops.maximum(ops.abs(y), ops.abs(y0)), ops.abs(derivative) * u.size)
    finite = ops.isfinite(predicted + scale)
    close = ops.abs(y - y0 - predicted) <= _SLOPE * _rounding(y) * scale
    return ops.where(ops.logical_and(finite, close), derivative, _over(y - y0, u.delta))


def _derivative(op: Activation, x: Tensor) -> Tensor:
    if op.is_relu:
        return ops.cast(x > 0, x.dtype)
    _, pull = backend.vjp(op.fn, x)
    (found,) = pull(ops.ones_like(x))
    return ops.where(ops.isfinite(found), found, ops.zeros_like(found))


def reveal_cancel(op: Activation, u: Difference) -> tuple[Difference, Backward]:
    """RevealCancel rule: each part's own difference, averaged over the order in which the parts are added.

    Dy+ = (f(x0 + D+) - f(x0) + f(x0 + D+ + D-) - f(x0 + D-)) / 2, likewise Dy-, and M± = Dy± / D±, which is 0
    where a part is no more than rounding.
    """
    y, y0 = op(u.x), op(u.x0)

    @functools.cache
    def parts() -> tuple[Tensor, Tensor]:
        plus, minus = (op(u.x0 + part) for part in u.parts)
        return (plus - y0 + (y - minus)) / 2, (minus - y0 + (y - plus)) / 2

    @functools.cache
    def multipliers() -> tuple[Tensor, Tensor]:
        derivative = _derivative(op, u.x0 + u.delta / 2)
        spread = ops.maximum(u.size, u.parts[0] - u.parts[1])
        largest = ops.maximum(ops.maximum(ops.abs(y), ops.abs(y0)), ops.abs(derivative) * spread)
        found = []
        for part, change in zip(u.parts, parts(), strict=True):
            close = ops.abs(change - derivative * part) <= _SLOPE * _rounding(y) * largest
            slope = ops.where(close, derivative, _over(change, part))
            seen = ops.abs(part) > _PARTS * _rounding(y) * spread
            found.append(ops.where(seen, slope, ops.zeros_like(slope)))
        return found[0], found[1]

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        (m,) = arriving
        plus, minus = multipliers()
        return (Multipliers(m.plus * plus, m.minus * minus),), None

    return Difference(y, y0, parts), backward


# The largest of several values --------------------------------------------------------


def pooling(op: Winner, u: Difference) -> tuple[Difference, Backward]:
    """Cross-max rule: a window's difference is credited to its largest cell at the sample, where the maximum rose.

    Where it fell, to the largest cell at the reference. That cell has changed by at least as much, so the
    multiplier lies between 0 and 1, and ties or overlaps cannot break the sum.
    """
    (z, credit), (z0, credit0) = _winners(op, u.x), _winners(op, u.x0)
    out = Difference(z, z0)

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        change = arriving[0].where(out.delta) * out.delta
        rose, none = z >= z0, ops.zeros_like(change)
        credits = credit(ops.where(rose, change, none)) + credit0(ops.where(rose, none, change))
        return (Multipliers(_over(credits, u.delta)),), None

    return out, backward


def _winners(op: Winner, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the maxima, and what sends one number for each to the cell that it came from."""
    if op.axes is None:
        z, back = pool_winner(op, x)
        return z, lambda arriving: back((arriving,))[0][0]
    axes = sorted(axis % len(x.shape) for axis in op.axes)

    def spread(arriving: Tensor) -> Tensor:
        for axis in axes if len(arriving.shape) < len(x.shape) else ():
            arriving = ops.expand_dims(arriving, axis)
        return arriving * op.first_of(x)

    return op.fn(x), spread


def between_tensors(op: Winner, *inputs: Difference) -> tuple[Difference, Backward]:
    """Maximum or minimum of several tensors: every tensor's Shapley share of the change, cell by cell."""
    count = len(inputs)
    moved = {
        chosen: op.fn(*(u.x if inside else u.x0 for u, inside in zip(inputs, chosen, strict=True)))
        for chosen in itertools.product((False, True), repeat=count)
    }

    @functools.cache
    def shares() -> list[Tensor]:
        return [_shapley(moved, i) for i in range(count)]

    def parts() -> tuple[Tensor, Tensor]:
        signed = [_by_sign(share) for share in shares()]
        return sum(plus for plus, _ in signed), sum(minus for _, minus in signed)

    def backward(arriving: tuple[Multipliers, ...]) -> tuple[tuple[Multipliers, ...], None]:
        sent = [arriving[0].where(share) * _over(share, u.delta) for u, share in zip(inputs, shares(), strict=True)]
        return tuple(Multipliers(unbroadcast(m, u.x)) for u, m in zip(inputs, sent, strict=True)), None

    return Difference(moved[(True,) * count], moved[(False,) * count], parts), backward


def _shapley(moved: dict[tuple[bool, ...], Tensor], player: int) -> Tensor:
    share: Any = 0.0
    for chosen, value in moved.items():
        if chosen[player]:
            continue
        count, size = len(chosen), sum(chosen)
        weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        joined = tuple(inside or i == player for i, inside in enumerate(chosen))
        share = share + weight * (moved[joined] - value)
    return share
