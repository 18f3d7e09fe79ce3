"""iNNvestigate's names: which of our methods they are, and how its own numbers are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kerascope.errors import BadInputError, unknown_name
from kerascope.innvestigate import rules as theirs
from kerascope.innvestigate.methods import LeftRiemann, NoiseOfOne, Propagated
from kerascope.lrp import rules as ours
from kerascope.lrp.composites import Composite, convolutions, first_layer, kernels
from kerascope.lrp.method import LRP, DeepTaylor
from kerascope.lrp.rules import Rule
from kerascope.methods.base import Method
from kerascope.methods.controls import Input, Random
from kerascope.methods.gradient import DeconvNet, Gradient, GuidedBackprop, InputXGradient
from kerascope.methods.noise import SmoothGrad
from kerascope.methods.path import IntegratedGradients
from kerascope.methods.patterns import PatternAttribution, PatternNet

Options = Mapping[str, Any]
Make = Callable[[Options], Method]

COMMON = {
    "neuron_selection_mode": "max_activation",
    "disable_model_checks": False,
    "allow_lambda_layers": False,
    "reverse_verbose": False,
    "reverse_clip_values": False,
    "reverse_project_bottleneck_layers": False,
    "reverse_check_min_max_values": False,
    "reverse_check_finite": False,
    "reverse_keep_tensors": False,
    "reverse_reapply_on_copied_layers": False,
}
"""Parameters that every analyzer takes there. Of these only ``neuron_selection_mode`` means something here."""

RULES: dict[str, tuple[Rule, Rule]] = {
    "Z": (ours.Zero(), theirs.Z()),
    "Epsilon": (ours.Epsilon(1e-7), theirs.Z(1e-7)),
    "WSquare": (ours.WSquare(), theirs.Weights("square")),
    "Flat": (ours.Flat(), theirs.Weights("flat")),
    "Alpha2Beta1": (ours.AlphaBeta(2.0, 1.0), theirs.WholeBiasAlphaBeta(2.0, 1.0)),
    "Alpha2Beta1IgnoreBias": (ours.AlphaBeta(2.0, 1.0, "ignore"), theirs.WholeBiasAlphaBeta(2.0, 1.0, False)),
    "Alpha1Beta0": (ours.AlphaBeta(1.0, 0.0), theirs.WholeBiasAlphaBeta(1.0, 0.0)),
    "Alpha1Beta0IgnoreBias": (ours.AlphaBeta(1.0, 0.0, "ignore"), theirs.WholeBiasAlphaBeta(1.0, 0.0, False)),
    "ZPlus": (ours.ZPlus("ignore"), theirs.WholeBiasAlphaBeta(1.0, 0.0, False)),
    "ZPlusFast": (ours.ZPlus("ignore"), theirs.FastZPlus()),
    "Bounded": (ours.ZBox(-1.0, 1.0), theirs.Box(-1.0, 1.0)),
}
"""Rules by their names there: ours, and one that gives its numbers."""


@dataclass(frozen=True)
class Analyzer:
    """A name of iNNvestigate: its own parameters, our method, and one that gives its 2.1.2 numbers (None: none does).

    ``differs``: what is wrong or peculiar in those numbers.
    """

    parameters: Mapping[str, Any]
    ours: Make
    theirs: Make | None
    differs: str = ""
    start: str = "the logit"


_LRP = {"input_layer_rule": None, "until_layer_idx": None, "until_layer_rule": None}
_FUSE = {"bn_layer_fuse_mode": "one_linear"}
_BN = {"bn_layer_rule": None, **_FUSE}
_WHOLE_BIAS = "both denominators of alpha-beta hold the whole bias; where that nearly cancels relevance explodes"
_ZEROS = "an exact zero in a denominator becomes 1e-7, which gives values of 1e7"
_LOGIT = "it starts from the logit, so maps carry it as a factor, and a negative one turns signs before the first ReLU"


def _lrp(rule: str) -> Analyzer:
    differs = f"{_WHOLE_BIAS}; {_ZEROS}" if "Alpha" in rule and "Ignore" not in rule else _ZEROS
    mine, its = RULES[rule]
    return Analyzer({**_LRP, **_FUSE}, lambda o: _ours(mine, o), lambda o: _theirs(its, o), differs)


def _epsilon(o: Options) -> tuple[Rule, Rule]:
    bias = "absorb" if o["bias"] else "ignore"
    return ours.Epsilon(o["epsilon"], bias), theirs.Z(o["epsilon"], o["bias"])  # type: ignore[arg-type]


def _alpha_beta(o: Options) -> tuple[Rule, Rule]:
    alpha, beta = o["alpha"], o["beta"]
    if alpha is None and beta is None:
        raise BadInputError("lrp.alpha_beta needs alpha or beta (alpha - beta = 1).")
    alpha = beta + 1 if alpha is None else alpha
    beta = alpha - 1 if beta is None else beta
    bias = "absorb" if o["bias"] else "ignore"
    return ours.AlphaBeta(alpha, beta, bias), theirs.WholeBiasAlphaBeta(alpha, beta, o["bias"])  # type: ignore[arg-type]


def _given(o: Options) -> tuple[list[Rule], list[Rule]]:
    """Return the rules that ``rule=`` names: one, or a list from the last layer to the first."""
    named = o["rule"]
    if named is None:
        raise BadInputError(f"lrp needs rule=: one of {', '.join(RULES)}, or a list of these, one per kernel layer.")
    found = []
    for name in named if isinstance(named, (list, tuple)) else [named]:
        if name not in RULES:
            raise unknown_name("rule", str(name), RULES)
        found.append(RULES[name])
    return [pair[0] for pair in found], [pair[1] for pair in found]


def _first(o: Options, side: int) -> Rule | None:
    """Return the rule of the first layers that ``input_layer_rule`` asks for."""
    rule = o["input_layer_rule"]
    if rule is None:
        return None
    if isinstance(rule, str):
        if rule not in RULES:
            raise unknown_name("input_layer_rule", rule, RULES)
        return RULES[rule][side]
    if not isinstance(rule, (tuple, list)) or len(rule) != 2:
        raise BadInputError(f"input_layer_rule must be a rule's name or (low, high); got {rule!r}.")
    return theirs.Box(*rule) if side else ours.ZBox(*rule)


def _ours(rule: Rule, o: Options, *, dense: Rule | None = None, first: Rule | None = None) -> Method:
    if o.get("until_layer_idx") is not None:
        raise BadInputError("until_layer_idx counts layers of a list; give a ks.Composite with names or globs instead.")
    entries: list[tuple[Any, Rule]] = []
    first = _first(o, 0) or first
    if first is not None:
        entries.append((first_layer, first))
    if dense is not None:
        entries.append((convolutions, rule))
    return LRP(composite=Composite([*entries, (kernels, dense or rule)]))


def _theirs(
    rule: Rule | tuple[Rule, ...], o: Options, *, dense: Rule | None = None, first: Rule | None = None
) -> Method:
    until = o.get("until_layer_rule")
    if o.get("until_layer_idx") is not None and until not in RULES:
        raise unknown_name("until_layer_rule", str(until), RULES)
    if o["bn_layer_fuse_mode"] not in ("one_linear", "two_linear"):
        raise unknown_name("bn_layer_fuse_mode", str(o["bn_layer_fuse_mode"]), ("one_linear", "two_linear"))
    return Propagated(
        rule=rule,
        dense=dense,
        first=_first(o, 1) or first,
        until=o.get("until_layer_idx"),
        until_rule=RULES[until][1] if until in RULES else None,
        normalization=_normalization(rule, dense, o),
        normalization_twice=o["bn_layer_fuse_mode"] == "two_linear",
    )


def _normalization(rule: Rule | tuple[Rule, ...], dense: Rule | None, o: Options) -> Rule | None:
    """Return the rule of BatchNormalization: the one asked for, a preset's, or that of all layers."""
    if "bn_layer_rule" not in o and isinstance(rule, Rule):
        return rule
    named = o["bn_layer_rule"]
    if named is None:
        return theirs.PositiveInputs() if dense is not None else None
    if named not in RULES:
        raise unknown_name("bn_layer_rule", str(named), RULES)
    return RULES[named][1]


def _listed(o: Options, side: int) -> Method:
    chosen = _given(o)[side]
    if len(chosen) == 1:
        return (_theirs if side else _ours)(chosen[0], o)
    if not side:
        raise BadInputError("A list of rules counts layers; give a ks.Composite with names or globs to ks.LRP instead.")
    return _theirs(tuple(chosen), o)


def _preset(conv: str, *, flat: bool) -> Analyzer:
    def ours_of(o: Options) -> Method:
        return _ours(RULES[conv][0], o, dense=ours.Epsilon(o["epsilon"]), first=ours.Flat() if flat else None)

    def theirs_of(o: Options) -> Method:
        first = theirs.Weights("flat") if flat else None
        return _theirs(RULES[conv][1], o, dense=theirs.Z(o["epsilon"]), first=first)

    return Analyzer({**_LRP, **_BN, "epsilon": 0.1}, ours_of, theirs_of, _WHOLE_BIAS)


def _until_preset() -> Analyzer:
    def ours_of(o: Options) -> Method:
        return _ours(RULES["Alpha2Beta1"][0], o, dense=ours.Epsilon(o["epsilon"]), first=ours.Flat())

    def theirs_of(o: Options) -> Method:
        o = {**o, "until_layer_rule": "Flat"}
        first = theirs.Weights("flat")
        return _theirs(RULES["Alpha2Beta1"][1], o, dense=theirs.Z(o["epsilon"]), first=first)

    return Analyzer({**_LRP, **_BN, "epsilon": 0.1}, ours_of, theirs_of, _WHOLE_BIAS)


def _smooth(o: Options) -> Method:
    return SmoothGrad(draws=o["augment_by_n"], noise=0.1 if o["noise_scale"] is None else o["noise_scale"])


def _deep_taylor(o: Options) -> Method:
    return Propagated(rule=RULES["Alpha1Beta0IgnoreBias"][1], taylor=True)


def _bounded(o: Options) -> Method:
    return Propagated(rule=RULES["Alpha1Beta0IgnoreBias"][1], first=theirs.Box(o["low"], o["high"]), taylor=True)


ANALYZERS: dict[str, Analyzer] = {
    "input": Analyzer({}, lambda o: Input(), lambda o: Input()),
    "random": Analyzer({"stddev": 1}, lambda o: Random(), None, "its random numbers are TensorFlow's"),
    "gradient": Analyzer({"postprocess": None}, lambda o: Gradient(), lambda o: Gradient(), start="one"),
    "gradient.baseline": Analyzer({"postprocess": None}, lambda o: Gradient(), lambda o: Gradient(), start="one"),
    "input_t_gradient": Analyzer(
        {"postprocess": None}, lambda o: InputXGradient(), lambda o: InputXGradient(), start="one"
    ),
    "deconvnet": Analyzer({}, lambda o: DeconvNet(), lambda o: DeconvNet("logit"), _LOGIT),
    "guided_backprop": Analyzer({}, lambda o: GuidedBackprop(), lambda o: GuidedBackprop("logit"), _LOGIT),
    "integrated_gradients": Analyzer(
        {"steps": 64, "reference_inputs": 0, "postprocess": None},
        lambda o: IntegratedGradients(steps=o["steps"], baseline=o["reference_inputs"]),
        lambda o: LeftRiemann(o["steps"], o["reference_inputs"]),
        "a left Riemann sum falls short by 1/steps even where the function is linear along the path",
        "one",
    ),
    "smoothgrad": Analyzer(
        {"augment_by_n": 64, "noise_scale": None, "postprocess": None},
        _smooth,
        lambda o: NoiseOfOne(o["augment_by_n"]),
        "noise_scale is ignored: the noise always has deviation 1; the numbers are equal in distribution only",
        "one",
    ),
    "lrp": Analyzer(
        {"rule": None, **_LRP, **_BN}, lambda o: _listed(o, 0), lambda o: _listed(o, 1), f"{_WHOLE_BIAS}; {_ZEROS}"
    ),
    "lrp.z": _lrp("Z"),
    "lrp.epsilon": Analyzer(
        {"epsilon": 1e-7, "bias": True, **_LRP, **_FUSE},
        lambda o: _ours(_epsilon(o)[0], o),
        lambda o: _theirs(_epsilon(o)[1], o),
    ),
    "lrp.w_square": _lrp("WSquare"),
    "lrp.flat": _lrp("Flat"),
    "lrp.alpha_beta": Analyzer(
        {"alpha": None, "beta": None, "bias": True, **_LRP, **_FUSE},
        lambda o: _ours(_alpha_beta(o)[0], o),
        lambda o: _theirs(_alpha_beta(o)[1], o),
        f"with bias=True {_WHOLE_BIAS}; {_ZEROS}",
    ),
    "lrp.alpha_2_beta_1": _lrp("Alpha2Beta1"),
    "lrp.alpha_2_beta_1_IB": _lrp("Alpha2Beta1IgnoreBias"),
    "lrp.alpha_1_beta_0": _lrp("Alpha1Beta0"),
    "lrp.alpha_1_beta_0_IB": _lrp("Alpha1Beta0IgnoreBias"),
    "lrp.z_plus": _lrp("ZPlus"),
    "lrp.z_plus_fast": _lrp("ZPlusFast"),
    "lrp.sequential_preset_a": _preset("Alpha1Beta0", flat=False),
    "lrp.sequential_preset_a_flat": _preset("Alpha1Beta0", flat=True),
    "lrp.sequential_preset_b": _preset("Alpha2Beta1", flat=False),
    "lrp.sequential_preset_b_flat": _preset("Alpha2Beta1", flat=True),
    "lrp.sequential_preset_b_flat_until_idx": _until_preset(),
    "deep_taylor": Analyzer(
        {},
        lambda o: DeepTaylor(),
        _deep_taylor,
        "the first layer takes alpha1-beta0 and not w^2; sums are differentiated, so Add doubles relevance",
        "max(logit, 0)",
    ),
    "deep_taylor.bounded": Analyzer(
        {"low": None, "high": None},
        lambda o: DeepTaylor("deep_taylor.bounded", low=o["low"], high=o["high"]),
        _bounded,
        "sums are differentiated, so Add doubles relevance; inputs outside the bounds are taken",
        "max(logit, 0)",
    ),
    "pattern.net": Analyzer(
        {"patterns": None, "pattern_type": "relu"},
        lambda o: PatternNet(patterns=o["patterns"]),
        None,
        "version 2 has no pattern methods, and version 1 is not reproduced",
    ),
    "pattern.attribution": Analyzer(
        {"patterns": None, "pattern_type": "relu"},
        lambda o: PatternAttribution(patterns=o["patterns"]),
        None,
        "version 2 has no pattern methods, and version 1 is not reproduced",
    ),
}
"""Every analyzer of iNNvestigate 2.1.2, and the two pattern methods of version 1."""


def options_of(name: str, given: Mapping[str, Any], *, its_numbers: bool = False) -> dict[str, Any]:
    """Return an analyzer's parameters, those given over its defaults.

    ``its_numbers``: for ``conventions="innvestigate"``.

    Raises:
        UnknownNameError: for a name or a parameter that iNNvestigate does not have.
        BadInputError: for one that would change numbers and is not taken over.
    """
    if name not in ANALYZERS:
        raise unknown_name("analyzer", name, ANALYZERS)
    known = {**COMMON, **ANALYZERS[name].parameters}
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, known)
        if key in _BN and value != _BN[key] and not its_numbers:
            raise BadInputError(
                f"{key} is not taken over: a BatchNormalization is folded where that is exact, and has no rule then. "
                "conventions='innvestigate' takes it."
            )
        if key.startswith("reverse_") and value:
            raise BadInputError(
                f"{key} is not taken over. Hidden relevance: ks.Explainer(model, method).relevances(x); checks of "
                "values are always made."
            )
    return {**known, **given}
