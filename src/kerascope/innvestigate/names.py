"""iNNvestigate's names: which of our methods they are, and how its own numbers are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerascope.errors import BadInputError, finite, unknown_name
from kerascope.innvestigate import caveats, placing
from kerascope.innvestigate import rules as theirs
from kerascope.innvestigate.methods import PROCESSES, AbsoluteNoise, LeftRiemann, Propagated
from kerascope.lrp import rules as ours
from kerascope.lrp.composites import Composite, Selector, convolutions, first_layer, kernels
from kerascope.lrp.method import LRP, DeepTaylor
from kerascope.lrp.rules import Branch, Rule, Site
from kerascope.methods.base import Method
from kerascope.methods.controls import Input, Random
from kerascope.methods.deeplift import DeepLIFT
from kerascope.methods.gradient import DeconvNet, Gradient, GuidedBackprop, InputXGradient
from kerascope.methods.noise import SmoothGrad
from kerascope.methods.path import IntegratedGradients
from kerascope.methods.patterns import PatternAttribution, PatternNet
from kerascope.model.signature import signature_of

Options = Mapping[str, Any]
"""An analyzer's parameters by name, and its model under "model"."""
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

Placed = Sequence[tuple[Selector, Rule]]


@dataclass(frozen=True)
class ZBox(ours.ZBox):
    """Our box rule under the name `Bounded`, which 2.1.2 puts anywhere and ours takes at the input alone."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        """See `Rule.branches`."""
        if site.low is None:
            raise BadInputError(
                f"The rule 'Bounded' at layer {site.name!r}: its bounds are those of the model's input, so it can "
                "stand on a first layer only. Give input_layer_rule=(low, high), and rule= for the other layers."
            )
        return super().branches(site)


RULES: dict[str, tuple[Rule | None, Rule | None]] = {
    "Z": (ours.Zero(), theirs.Z()),
    "ZIgnoreBias": (ours.Zero("ignore"), None),
    "Epsilon": (ours.Epsilon(1e-7), theirs.Z(1e-7)),
    "EpsilonIgnoreBias": (ours.Epsilon(1e-7, "ignore"), None),
    "WSquare": (ours.WSquare(), theirs.Weights("square")),
    "Flat": (ours.Flat(), theirs.Weights("flat")),
    "Alpha2Beta1": (ours.AlphaBeta(2.0, 1.0), theirs.WholeBiasAlphaBeta(2.0, 1.0)),
    "Alpha2Beta1IgnoreBias": (ours.AlphaBeta(2.0, 1.0, "ignore"), theirs.WholeBiasAlphaBeta(2.0, 1.0, False)),
    "Alpha1Beta0": (ours.AlphaBeta(1.0, 0.0), theirs.WholeBiasAlphaBeta(1.0, 0.0)),
    "Alpha1Beta0IgnoreBias": (ours.AlphaBeta(1.0, 0.0, "ignore"), theirs.WholeBiasAlphaBeta(1.0, 0.0, False)),
    "AlphaBetaX2m100": (None, theirs.PositiveInputs()),
    "ZPlus": (ours.ZPlus("ignore"), theirs.WholeBiasAlphaBeta(1.0, 0.0, False)),
    "ZPlusFast": (ours.ZPlus("ignore"), theirs.FastZPlus()),
    "Bounded": (ZBox(-1.0, 1.0), theirs.Box(-1.0, 1.0)),
}
"""Rules by their names there: ours (None: there is none), and one that gives its numbers (None: not in 2.1.2)."""
UNBOUND = ("AlphaBeta", "AlphaBetaIgnoreBias")
"""Rules whose name alone says too little: 2.1.2 fails on them."""
PATTERN_TYPES = {"relu": "relu", "relu.positive": "relu", "linear": "linear"}
"""What ``pattern_type`` may be, and our name for it."""


@dataclass(frozen=True)
class Analyzer:
    """A name of iNNvestigate: its own parameters, our method, and one that gives its 2.1.2 numbers (None: none does).

    ``differs``: what is wrong or peculiar in those numbers; LRP and deep Taylor say which of it a network meets.
    ``sums``: whether our method explains sums of outputs.
    """

    parameters: Mapping[str, Any]
    ours: Make
    theirs: Make | None
    differs: str = ""
    start: str = "the logit"
    sums: bool = True


_LRP = {"input_layer_rule": None, "until_layer_idx": None, "until_layer_rule": None}
_FUSE = {"bn_layer_fuse_mode": "one_linear"}
_BN = {"bn_layer_rule": None, **_FUSE}
_LOGIT = "it starts from the logit, so maps carry it as a factor, and a negative one turns signs before the first ReLU"
_TAYLOR = f"{caveats.NOTHING}; sums and BatchNormalization are differentiated, so Add doubles relevance"
_VERSION_1 = "version 2 has no {}, and version 1 is not reproduced"


def _said(name: str) -> str:
    """Return what to know of the rule of that name."""
    return "; ".join(caveats.of_rule(_rule(name, 1)))


def _lrp(name: str) -> Analyzer:
    def theirs_of(o: Options) -> Method:
        rule = _rule(name, 1)
        return _theirs([(kernels, rule)], o, rule)

    return Analyzer({**_LRP, **_FUSE}, lambda o: _ours([(kernels, _rule(name, 0))], o), theirs_of, _said(name))


def _stabilised(o: Options, *, bias: bool = True) -> Rule:
    if finite(o["epsilon"], "epsilon") <= 0:
        raise BadInputError(
            f"epsilon must be above 0, as in iNNvestigate 2.1.2; got {o['epsilon']!r}. lrp.z is the rule without it."
        )
    return theirs.Z(o["epsilon"], bias)


def _epsilon_theirs(o: Options) -> Method:
    rule = _stabilised(o, bias=o["bias"])
    return _theirs([(kernels, rule)], o, rule)


def _epsilon_ours(o: Options) -> Method:
    return _ours([(kernels, ours.Epsilon(o["epsilon"], "absorb" if o.get("bias") else "ignore"))], o)


def _alpha_beta(o: Options, side: int) -> Method:
    alpha, beta = o["alpha"], o["beta"]
    if alpha is None and beta is None:
        raise BadInputError("lrp.alpha_beta needs alpha or beta (alpha - beta = 1).")
    alpha = finite(beta, "beta") + 1 if alpha is None else finite(alpha, "alpha")
    beta = alpha - 1 if beta is None else finite(beta, "beta")
    checked = ours.AlphaBeta(alpha, beta, "absorb" if o["bias"] else "ignore")
    if not side:
        return _ours([(kernels, checked)], o)
    rule = theirs.WholeBiasAlphaBeta(alpha, beta, o["bias"])
    return _theirs([(kernels, rule)], o, rule)


def _rule(named: Any, side: int, parameter: str = "rule") -> Rule:
    """Return the rule that a parameter names: ours (side 0), or the one with its numbers (side 1)."""
    if isinstance(named, Rule) and not side:
        return named
    if not isinstance(named, str):
        raise BadInputError(f"A rule in {parameter}= goes by its name, one of {', '.join(RULES)}; got {named!r}.")
    if named in UNBOUND:
        raise BadInputError(
            f"{parameter}={named!r} says no alpha and beta. Use lrp.alpha_beta with alpha= or beta=, a name that holds "
            "them (Alpha2Beta1), or under conventions='kerascope' a rule such as ks.rules.AlphaBeta(3.0, 2.0)."
        )
    if named not in RULES:
        raise unknown_name(parameter, named, RULES)
    found = RULES[named][side]
    if found is None and side:
        raise BadInputError(f"{parameter}={named!r}: {_VERSION_1.format('such rule')}. Use conventions='kerascope'.")
    if found is None:
        raise BadInputError(
            f"{parameter}={named!r} is no rule of ours. Use conventions='innvestigate', or Alpha2Beta1."
        )
    return found


def _first(o: Options, side: int) -> Rule | None:
    """Return the rule of the first layers that ``input_layer_rule`` asks for."""
    rule = o["input_layer_rule"]
    if rule is None:
        return None
    if not isinstance(rule, (tuple, list)):
        return _rule(rule, side, "input_layer_rule")
    if len(rule) != 2:
        raise BadInputError(f"input_layer_rule must be a rule's name or (low, high); got {rule!r}.")
    return theirs.Box(*rule) if side else ours.ZBox(*rule)


def _composite(placed: Placed, o: Options, side: int, first: Rule | None) -> Composite:
    """Put the rules of the first layers, and of those up to a number, before the others."""
    before: list[tuple[Selector, Rule]] = []
    first = _first(o, side) or first
    if first is not None:
        before.append((first_layer, first))
    if o["until_layer_idx"] is None and o["until_layer_rule"] is not None:
        raise BadInputError("until_layer_rule needs until_layer_idx=, the number of the last layer it is for.")
    if o["until_layer_idx"] is not None:
        if o["until_layer_rule"] is None:
            raise BadInputError(f"until_layer_idx needs until_layer_rule=, one of {', '.join(RULES)}.")
        rule = _rule(o["until_layer_rule"], side, "until_layer_rule")
        before.append((placing.until(o["model"], o["until_layer_idx"]), rule))
    return Composite([*before, *placed])


def _ours(placed: Placed, o: Options, first: Rule | None = None) -> Method:
    return LRP(composite=_composite(placed, o, 0, first))


def _theirs(
    placed: Placed, o: Options, normalization: Rule | None, first: Rule | None = None, *, relu_only: bool = False
) -> Method:
    if o["bn_layer_fuse_mode"] not in ("one_linear", "two_linear"):
        raise unknown_name("bn_layer_fuse_mode", str(o["bn_layer_fuse_mode"]), ("one_linear", "two_linear"))
    if o.get("bn_layer_rule") is not None:
        normalization = _rule(o["bn_layer_rule"], 1, "bn_layer_rule")
    return Propagated(
        composite=_composite(placed, o, 1, first),
        normalization=normalization,
        normalization_twice=o["bn_layer_fuse_mode"] == "two_linear",
        relu_only=relu_only,
    )


def _given(o: Options, side: int) -> Method:
    """Return LRP by what ``rule=`` says: one rule, one for each layer, or pairs of a condition and a rule."""
    named = o["rule"]
    if named is None or (isinstance(named, (list, tuple)) and not named):
        raise BadInputError(
            f"lrp needs rule=: one of {', '.join(RULES)}, a list of these, one for each layer with a kernel and the "
            "last one for the first layer, or a list of pairs (condition on a layer, name)."
        )
    if not isinstance(named, (list, tuple)):
        return _lrp_by([(kernels, _rule(named, side))], o, side)
    pairs = [isinstance(item, tuple) for item in named]
    if any(pairs):
        if not all(pairs) or any(len(item) != 2 for item in named):
            raise BadInputError(f"rule= must hold names, or pairs (condition, name), not both; got {named!r}.")
        found = [(placing.by_condition(o["model"], holds), _rule(rule, side)) for holds, rule in named]
        return _lrp_by(found, o, side)
    if o["until_layer_idx"] is not None:
        raise BadInputError(
            "until_layer_idx does not go with a list of rules, which names every layer's: change the list."
        )
    rules = [_rule(item, side) for item in named]
    if side and (first := _first(o, 1)) is not None:  # 2.1.2 puts it before the list, which is used from its end
        rules, o = [first, *rules], {**o, "input_layer_rule": None}
    return _lrp_by(placing.by_number(o["model"], rules, exact=not side), o, side)


def _lrp_by(placed: Placed, o: Options, side: int) -> Method:
    return _theirs(placed, o, None) if side else _ours(placed, o)


def _preset(conv: str, *, flat: bool, until: bool = False) -> Analyzer:
    def full(o: Options) -> Options:
        return {**o, "until_layer_rule": None if o["until_layer_idx"] is None else "Flat"} if until else o

    def ours_of(o: Options) -> Method:
        placed = [(convolutions, _rule(conv, 0)), (kernels, ours.Epsilon(o["epsilon"]))]
        return _ours(placed, full(o), ours.Flat() if flat else None)

    def theirs_of(o: Options) -> Method:
        placed = [(convolutions, _rule(conv, 1)), (kernels, _stabilised(o))]
        return _theirs(placed, full(o), None, theirs.Weights("flat") if flat else None, relu_only=True)

    parameters = {**_LRP, "bn_layer_rule": "AlphaBetaX2m100", **_FUSE, "epsilon": 0.1}
    if until:
        del parameters["until_layer_rule"]
    return Analyzer(parameters, ours_of, theirs_of, _said(conv))


def _smooth(o: Options) -> Method:
    if o["noise_scale"] is None:
        return SmoothGrad(draws=o["augment_by_n"], noise=0.1)
    return AbsoluteNoise(o["augment_by_n"], o["noise_scale"])


def _taylor(*first: tuple[Selector, Rule]) -> Method:
    composite = Composite([*first, (kernels, _rule("Alpha1Beta0IgnoreBias", 1))])
    return Propagated(composite=composite, taylor=True, relu_only=True)


def _bounded(o: Options) -> Method:
    if o["low"] is None or o["high"] is None:
        raise BadInputError("deep_taylor.bounded needs the bounds of the input: low= and high=.")
    return _taylor((first_layer, theirs.Box(o["low"], o["high"])))


_DEEPLIFT: dict[str, dict[str, Any]] = {
    "rescale": {"rule": "rescale"},
    "reveal_cancel": {"rule": "reveal_cancel"},
    "genomics_default": {"rule": "reveal_cancel", "conv": "rescale"},
}


def _reference(o: Options) -> Any:
    """Return ``reference_inputs``; for several inputs by name, since the arrays in a list differ in shape."""
    value, model = o["reference_inputs"], o["model"]
    if not isinstance(value, (list, tuple)) or len(getattr(model, "inputs", None) or ()) < 2:
        return value
    specs = signature_of(model, None).specs
    if len(value) != len(specs):
        raise BadInputError(
            f"reference_inputs= must be one number, or a list of {len(specs)}, one for each input of the model; got a "
            f"list of {len(value)}."
        )
    return {
        spec.name: np.full(spec.shape, part) if np.ndim(part) == 0 and None not in spec.shape else part
        for spec, part in zip(specs, value, strict=True)
    }


def _deeplift(o: Options) -> Method:
    mode = o["nonlinear_mode"]
    if mode not in _DEEPLIFT:
        raise unknown_name("nonlinear_mode", str(mode), _DEEPLIFT)
    return DeepLIFT(baseline=_reference(o), **_DEEPLIFT[mode])


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
        lambda o: IntegratedGradients(steps=o["steps"], baseline=_reference(o)),
        lambda o: LeftRiemann(o["steps"], o["reference_inputs"]),
        "a left Riemann sum falls short by 1/steps even where the function is linear along the path",
        "one",
    ),
    "smoothgrad": Analyzer(
        {"augment_by_n": 64, "noise_scale": None, "postprocess": None},
        _smooth,
        lambda o: AbsoluteNoise(o["augment_by_n"]),
        "the noise has deviation 1, whatever noise_scale says; the numbers are equal in distribution only",
        "one",
    ),
    "lrp": Analyzer(
        {"rule": None, **_LRP, **_BN}, lambda o: _given(o, 0), lambda o: _given(o, 1), "what the rules named are"
    ),
    "lrp.z": _lrp("Z"),
    "lrp.z_IB": Analyzer(
        {**_LRP, **_FUSE}, lambda o: _ours([(kernels, ours.Zero("ignore"))], o), None, _VERSION_1.format("lrp.z_IB")
    ),
    "lrp.epsilon": Analyzer({"epsilon": 1e-7, "bias": True, **_LRP, **_FUSE}, _epsilon_ours, _epsilon_theirs),
    "lrp.epsilon_IB": Analyzer(
        {"epsilon": 1e-7, **_LRP, **_FUSE},
        _epsilon_ours,
        None,
        "version 2 has lrp.epsilon with bias=False in its place",
    ),
    "lrp.w_square": _lrp("WSquare"),
    "lrp.flat": _lrp("Flat"),
    "lrp.alpha_beta": Analyzer(
        {"alpha": None, "beta": None, "bias": True, **_LRP, **_FUSE},
        lambda o: _alpha_beta(o, 0),
        lambda o: _alpha_beta(o, 1),
        f"with bias=True {_said('Alpha2Beta1')}",
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
    "lrp.sequential_preset_b_flat_until_idx": _preset("Alpha2Beta1", flat=True, until=True),
    "deep_taylor": Analyzer(
        {},
        lambda o: DeepTaylor(),
        lambda o: _taylor(),
        f"{caveats.FIRST}; {_TAYLOR}",
        "max(logit, 0)",
        sums=False,
    ),
    "deep_taylor.bounded": Analyzer(
        {"low": None, "high": None},
        lambda o: DeepTaylor("deep_taylor.bounded", low=o["low"], high=o["high"]),
        _bounded,
        f"{caveats.UNCHECKED}; {_TAYLOR}",
        "max(logit, 0)",
        sums=False,
    ),
    "deep_lift.wrapper": Analyzer(
        {"nonlinear_mode": "rescale", "reference_inputs": 0, "verbose": False},
        _deeplift,
        None,
        _VERSION_1.format("DeepLIFT"),
        "one",
        sums=False,
    ),
    "pattern.net": Analyzer(
        {"patterns": None, "pattern_type": "relu"},
        lambda o: PatternNet(patterns=o["patterns"]),
        None,
        _VERSION_1.format("pattern methods"),
        sums=False,
    ),
    "pattern.attribution": Analyzer(
        {"patterns": None, "pattern_type": "relu"},
        lambda o: PatternAttribution(patterns=o["patterns"]),
        None,
        _VERSION_1.format("pattern methods"),
        sums=False,
    ),
}
"""Every analyzer of iNNvestigate 2.1.2, and of version 1 the pattern methods, DeepLIFT and two of LRP."""


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
        if key in _BN and value not in (None, known[key]) and not its_numbers:
            raise BadInputError(
                f"{key} is not taken over: a BatchNormalization is folded where that is exact, and has no rule then. "
                "conventions='innvestigate' takes it."
            )
        if key == "postprocess" and value is not None and value not in PROCESSES:
            raise unknown_name("postprocess", str(value), PROCESSES)
        if key == "pattern_type":
            estimator_of(value)
        if key.startswith("reverse_") and value:
            raise BadInputError(
                f"{key} is not taken over. Hidden relevance: ks.Explainer(model, method).relevances(x); checks of "
                "values are always made."
            )
    return {**known, **given}


def estimator_of(pattern_type: Any) -> str:
    """Return our name for a ``pattern_type``; a list of one counts as that one.

    Raises:
        UnknownNameError: for another.
    """
    lone = isinstance(pattern_type, (list, tuple)) and len(pattern_type) == 1
    name = pattern_type[0] if lone else pattern_type
    if not isinstance(name, str) or name not in PATTERN_TYPES:
        raise unknown_name("pattern_type", name, PATTERN_TYPES)
    return PATTERN_TYPES[name]
