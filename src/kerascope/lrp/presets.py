"""The composites by name: which rule stands where, and what each says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kerascope.lrp import composites, rules
from kerascope.lrp.composites import convolutions, first_layer, kernels

if TYPE_CHECKING:
    from kerascope.lrp.method import LRP

_Build = Callable[["LRP"], Sequence[tuple[Any, rules.Rule]]]


def _first(method: LRP) -> rules.Rule:
    return composites.zbox(method) if method.low is not None and method.high is not None else rules.WSquare()


@dataclass(frozen=True)
class Preset:
    """A named composite: how it is built, which fields of `LRP` it reads, its conventions, and what it says of itself.

    ``boxed``: it needs the bounds of the input. ``paper`` and ``question``: where they are not those of its class.
    """

    build: _Build
    reads: tuple[str, ...] = ()
    bias: rules.Bias = "absorb"
    start: Literal["logit", "one"] = "logit"
    boxed: bool = False
    paper: str = ""
    question: str = ""


_DEEP_TAYLOR = "Montavon et al. 2017, Pattern Recognition 65: 211-222"
_OVERVIEW = "Montavon et al. 2019, LNCS 11700: 193-209"
_BEST_PRACTICE = "Kohlbrenner et al. 2020, IJCNN"
_CLEVER_HANS = "Lapuschkin et al. 2019, Nature Communications 10: 1096"
_SUPPORT = "Which cells support this output, if positive contributions alone are followed?"
_WIRING = "Which cells is this output wired to, whatever their values, shared out by the size of the weights?"
_REACH = "Which cells can reach this output at all, shared out alike over all that a layer reads?"


PRESETS: dict[str, Preset] = {
    "default": Preset(
        lambda m: [
            (first_layer, _first(m)),
            (convolutions, rules.Gamma(m.gamma)),
            (kernels, rules.Epsilon(m.epsilon)),
        ],
        ("epsilon", "gamma", "low", "high"),
        paper=_OVERVIEW,
    ),
    "zero": Preset(lambda m: [(kernels, rules.Zero())]),
    "epsilon": Preset(lambda m: [(kernels, rules.Epsilon(m.epsilon))], ("epsilon",)),
    "gamma": Preset(lambda m: [(kernels, rules.Gamma(m.gamma))], ("gamma",), paper=_OVERVIEW),
    "z_plus": Preset(lambda m: [(kernels, rules.ZPlus())], bias="ignore", paper=_DEEP_TAYLOR, question=_SUPPORT),
    "alpha1_beta0": Preset(lambda m: [(kernels, rules.AlphaBeta(1.0, 0.0))], question=_SUPPORT),
    "alpha2_beta1": Preset(lambda m: [(kernels, rules.AlphaBeta(2.0, 1.0))]),
    "alpha_beta": Preset(lambda m: [(kernels, rules.AlphaBeta(m.alpha, m.beta))], ("alpha", "beta")),
    "flat": Preset(lambda m: [(kernels, rules.Flat())], paper=_CLEVER_HANS, question=_REACH),
    "w_square": Preset(lambda m: [(kernels, rules.WSquare())], paper=_DEEP_TAYLOR, question=_WIRING),
    "z_box": Preset(
        lambda m: [(first_layer, composites.zbox(m)), (kernels, rules.ZPlus())],
        ("low", "high"),
        boxed=True,
        paper=_DEEP_TAYLOR,
        question=_SUPPORT,
    ),
    "epsilon_plus": Preset(
        lambda m: [(convolutions, rules.ZPlus()), (kernels, rules.Epsilon(m.epsilon))],
        ("epsilon",),
        paper=_BEST_PRACTICE,
    ),
    "epsilon_plus_flat": Preset(
        lambda m: [
            (first_layer, rules.Flat()),
            (convolutions, rules.ZPlus()),
            (kernels, rules.Epsilon(m.epsilon)),
        ],
        ("epsilon",),
        paper=_BEST_PRACTICE,
    ),
    "epsilon_alpha2_beta1": Preset(
        lambda m: [(convolutions, rules.AlphaBeta(2.0, 1.0)), (kernels, rules.Epsilon(m.epsilon))],
        ("epsilon",),
        paper=_BEST_PRACTICE,
    ),
    "epsilon_alpha2_beta1_flat": Preset(
        lambda m: [
            (first_layer, rules.Flat()),
            (convolutions, rules.AlphaBeta(2.0, 1.0)),
            (kernels, rules.Epsilon(m.epsilon)),
        ],
        ("epsilon",),
        paper=_BEST_PRACTICE,
    ),
    "epsilon_gamma_box": Preset(
        lambda m: [
            (first_layer, composites.zbox(m)),
            (convolutions, rules.Gamma(m.gamma)),
            (kernels, rules.Epsilon(m.epsilon)),
        ],
        ("epsilon", "gamma", "low", "high"),
        boxed=True,
        paper=_OVERVIEW,
    ),
    "excitation_backprop": Preset(
        lambda m: [(kernels, rules.ZPlus())],
        bias="ignore",
        start="one",
        paper="Zhang et al. 2018, IJCV 126: 1084-1102",
        question=_SUPPORT,
    ),
    "deep_taylor": Preset(lambda m: [(first_layer, rules.WSquare()), (kernels, rules.ZPlus())], bias="ignore"),
    "deep_taylor.bounded": Preset(
        lambda m: [(first_layer, composites.zbox(m)), (kernels, rules.ZPlus())],
        ("low", "high"),
        bias="ignore",
        boxed=True,
    ),
}
"""Composites by name."""
