"""The rules of layer-wise relevance propagation, as data.

A rule says which kernels and inputs a layer's affine map is run with; one engine (`lrp.engine`) does the
rest. With contributions q_ij of input i to output j and what arrives at j, R_j, every rule reads

    R_i = sum_j q_ij / (sum_i q_ij + bias_j) R_j.

Symbols: x input, W kernel, b bias, z = sum_i x_i W_ij + b_j, u+ = max(u, 0), u- = min(u, 0).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from keras import ops

from kerascope.errors import BadInputError, finite
from kerascope.model.primitives import Affine, Tensor

Bias = Literal["absorb", "ignore"]


@dataclass(frozen=True, eq=False)
class Term:
    """One run of the affine map: inputs ``of(x)`` with a kernel prepared once."""

    of: Callable[[Tensor], Tensor]
    kernel: Tensor
    original: bool = False
    """Whether this is the layer's own map on its own input, which the forward pass has run already."""


@dataclass(frozen=True, eq=False)
class Branch:
    """A share of the relevance, ``weight`` * R, spread in proportion to the sum of the terms.

    ``bias`` joins the denominator. ``where`` restricts the branch to outputs with z > 0 (1) or z < 0 (-1).
    ``epsilon`` is added to the denominator with its sign; 0 leaves exact zeros to be counted as absorbed, unless
    ``zero`` is put in their place.
    """

    terms: tuple[Term, ...]
    weight: float = 1.0
    bias: Tensor | None = None
    where: int = 0
    epsilon: float = 0.0
    zero: float = 0.0


@dataclass(frozen=True)
class Site:
    """What a rule is told about the layer it is applied to.

    ``low`` and ``high`` bound the layer's input where the input's bounds are known.
    """

    op: Affine
    non_negative: bool
    low: Tensor | None = None
    high: Tensor | None = None
    name: str = ""


@dataclass(frozen=True)
class Rule(ABC):
    """Base of the rules; a rule of your own defines `branches`."""

    @abstractmethod
    def branches(self, site: Site) -> tuple[Branch, ...]:
        """Return how relevance is shared out at a layer; kernels are modified here, once."""

    def with_bias(self, bias: Bias) -> Rule:
        """Return the rule with its bias convention replaced, where it has one."""
        return replace(self, bias=bias) if hasattr(self, "bias") else self  # type: ignore[call-arg]

    @property
    def only_positive(self) -> bool:
        """Whether relevance follows positive contributions alone."""
        return False

    @property
    def bounds(self) -> tuple[Any, Any] | None:
        """Lower and upper bound of the network's input, where the rule has been given them."""
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        return None if low is None or high is None else (low, high)

    def __str__(self) -> str:
        """Return the rule as it is written, arrays by their shape."""
        pairs = ((item.name, getattr(self, item.name)) for item in fields(self))
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in pairs)})"


def _short(value: Any) -> str:
    shape = tuple(getattr(value, "shape", ()))
    return f"<array {shape}>" if shape else repr(value)


def _same(x: Tensor) -> Tensor:
    return x


def _plus(x: Tensor) -> Tensor:
    return ops.maximum(x, 0)


def _minus(x: Tensor) -> Tensor:
    return ops.minimum(x, 0)


def _bias(site: Site, bias: Bias, part: Callable[[Tensor], Tensor] = _same) -> Tensor | None:
    if bias not in ("absorb", "ignore"):
        raise BadInputError(f"bias must be 'absorb' or 'ignore'; got {bias!r}.")
    return None if bias == "ignore" or site.op.bias is None else part(site.op.bias)


def _signed(site: Site, for_plus: Tensor, for_minus: Tensor) -> tuple[Term, ...]:
    """Run positive inputs with one kernel and negative ones with another; one run where signs are known."""
    plus = Term(_same if site.non_negative else _plus, for_plus)
    return (plus,) if site.non_negative else (plus, Term(_minus, for_minus))


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0: q = x W, denominator z. Bach et al. 2015."""

    bias: Bias = "absorb"

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        return (Branch((Term(_same, site.op.kernel, original=True),), bias=_bias(site, self.bias)),)


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP-epsilon: q = x W, denominator z + epsilon sign(z) with sign(0) = 1. Bach et al. 2015.

    Args:
        epsilon: absolute, in units of z.
        bias: ``"absorb"`` keeps b in the denominator, ``"ignore"`` leaves it out.
    """

    epsilon: float = 1e-6
    bias: Bias = "absorb"

    def __post_init__(self) -> None:
        """Check the stabiliser."""
        if finite(self.epsilon, "epsilon") < 0:
            raise BadInputError(f"epsilon cannot be negative; got {self.epsilon}.")

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        term = Term(_same, site.op.kernel, original=True)
        return (Branch((term,), bias=_bias(site, self.bias), epsilon=self.epsilon),)


@dataclass(frozen=True)
class Gamma(Rule):
    """Generalised LRP-gamma, for inputs of any sign. Montavon et al. 2019; Andeol et al. 2021.

    Where z > 0: q = x+ (W + g W+) + x- (W + g W-), bias b + g b+; where z < 0: q = x+ (W + g W-) +
    x- (W + g W+), bias b + g b-. Outputs with z = 0 absorb what reaches them.

    Args:
        gamma: g; 0 is LRP-0, and the larger it is, the nearer to the positive (negative) part alone.
        bias: as in `Epsilon`.
    """

    gamma: float = 0.25
    bias: Bias = "absorb"

    def __post_init__(self) -> None:
        """Check the weight."""
        if finite(self.gamma, "gamma") < 0:
            raise BadInputError(f"gamma cannot be negative; got {self.gamma}.")

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        kernel, g = site.op.kernel, self.gamma
        lifted, lowered = kernel + g * _plus(kernel), kernel + g * _minus(kernel)
        return (
            Branch(
                _signed(site, lifted, lowered),
                bias=_bias(site, self.bias, lambda b: b + g * _plus(b)),
                where=1,
            ),
            Branch(
                _signed(site, lowered, lifted),
                bias=_bias(site, self.bias, lambda b: b + g * _minus(b)),
                where=-1,
            ),
        )


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-alpha-beta: alpha q+/(sum q+ + b+) - beta q-/(sum q- + b-), q = x W. Bach et al. 2015.

    A neuron without negative (positive) contributions loses the beta (alpha) share; it counts as absorbed.

    Args:
        alpha: weight of the positive part.
        beta: weight of the negative part; alpha - beta must be 1.
        bias: as in `Epsilon`.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: Bias = "absorb"

    def __post_init__(self) -> None:
        """Check the convention alpha - beta = 1."""
        if abs(self.alpha - self.beta - 1) > 1e-9 or self.beta < 0:
            raise BadInputError(
                f"AlphaBeta needs alpha - beta = 1 and beta >= 0; got alpha={self.alpha}, beta={self.beta}."
            )

    @property
    def only_positive(self) -> bool:
        """See `Rule.only_positive`."""
        return not self.beta

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        plus, minus = _plus(site.op.kernel), _minus(site.op.kernel)
        positive = Branch(_signed(site, plus, minus), self.alpha, _bias(site, self.bias, _plus))
        if not self.beta:
            return (positive,)
        return (positive, Branch(_signed(site, minus, plus), -self.beta, _bias(site, self.bias, _minus)))


@dataclass(frozen=True)
class ZPlus(Rule):
    """z+: q = (x W)+, the positive contributions alone. Montavon et al. 2017.

    Args:
        bias: as in `Epsilon`; Deep Taylor decomposition ignores it.
    """

    bias: Bias = "absorb"

    @property
    def only_positive(self) -> bool:
        """See `Rule.only_positive`."""
        return True

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        return AlphaBeta(1.0, 0.0, self.bias).branches(site)


@dataclass(frozen=True)
class WSquare(Rule):
    """w^2: q = W^2, whatever the input; for first layers with unbounded inputs. Montavon et al. 2017."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        return (Branch((Term(ops.ones_like, ops.square(site.op.kernel)),)),)


@dataclass(frozen=True)
class Flat(Rule):
    """Flat: q = 1 for every real input of a neuron (padding gets nothing). Lapuschkin et al. 2019."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        return (Branch((Term(ops.ones_like, ops.ones_like(site.op.kernel)),)),)


@dataclass(frozen=True)
class ZBox(Rule):
    """z^B: q = x W - low W+ - high W-, for first layers with inputs in [low, high]. Montavon et al. 2017.

    The bounds are those of the network's input; what lies between it and the layer is applied to them.
    Never uses a bias.

    Args:
        low: lower bound: a number, or an array that broadcasts against one sample; None: that of `LRP`.
        high: upper bound, likewise.
    """

    low: Any = None
    high: Any = None

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        if site.low is None or site.high is None:
            raise BadInputError(
                f"ZBox at layer {site.name!r} needs the bounds of its input: it can only stand on a first "
                "layer, and low= and high= must be given."
            )
        low, high = site.low, site.high
        plus, minus = _plus(site.op.kernel), _minus(site.op.kernel)
        # x W - low W+ - high W- without its cancellation: at a corner of the box the sum is zero to the bit.
        return (Branch((Term(lambda x: x - low, plus), Term(lambda x: x - high, minus))),)


@dataclass(frozen=True)
class Pass(Rule):
    """Hand relevance on unchanged; only where input and output have one shape."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """Return nothing: the engine passes relevance on."""
        return ()
