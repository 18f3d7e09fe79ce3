"""The methods by name: one row each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.errors import BadInputError, UnknownNameError, unknown_name
from kerascope.lrp.method import LRP, DeepTaylor
from kerascope.lrp.presets import PRESETS
from kerascope.methods.base import Method
from kerascope.methods.cam_gradient import CAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from kerascope.methods.cam_probing import AblationCAM, ScoreCAM
from kerascope.methods.controls import Edges, Input, Random
from kerascope.methods.deeplift import DeepLIFT, DeepLiftSHAP
from kerascope.methods.gradient import DeconvNet, Gradient, GuidedBackprop, InputXGradient, Saliency
from kerascope.methods.lime import LIME
from kerascope.methods.noise import SmoothGrad, SquareGrad, VarGrad
from kerascope.methods.path import ExpectedGradients, IntegratedGradients
from kerascope.methods.patterns import PatternAttribution, PatternNet
from kerascope.methods.perturbation import Occlusion
from kerascope.methods.shapley import ExactShapley, KernelSHAP, ShapleySampling
from kerascope.methods.weight_noise import NoiseGrad

if TYPE_CHECKING:
    import pandas as pd

METHODS: dict[str, Method] = {
    "gradient": Gradient(),
    "saliency": Saliency(),
    "smoothgrad": SmoothGrad(),
    "squaregrad": SquareGrad(),
    "vargrad": VarGrad(),
    "noisegrad": NoiseGrad(),
    "deconvnet": DeconvNet(),
    "guided_backprop": GuidedBackprop(),
    "patternnet": PatternNet(),
    "input_x_gradient": InputXGradient(),
    "integrated_gradients": IntegratedGradients(),
    "expected_gradients": ExpectedGradients(),
    "deeplift": DeepLIFT(),
    "deeplift.reveal_cancel": DeepLIFT(rule="reveal_cancel"),
    "deeplift_shap": DeepLiftSHAP(),
    "deep_taylor": DeepTaylor(),
    "deep_taylor.bounded": DeepTaylor(composite="deep_taylor.bounded"),
    "lrp": LRP(),
    **{
        f"lrp.{name}": LRP(composite=name)
        for name in PRESETS
        if name not in ("default", "alpha_beta", "deep_taylor", "deep_taylor.bounded")
    },
    "pattern_attribution": PatternAttribution(),
    "cam": CAM(),
    "grad_cam": GradCAM(),
    "grad_cam_plus_plus": GradCAMPlusPlus(),
    "xgrad_cam": XGradCAM(),
    "hires_cam": HiResCAM(),
    "layer_cam": LayerCAM(),
    "score_cam": ScoreCAM(),
    "ablation_cam": AblationCAM(),
    "eigen_cam": EigenCAM(),
    "occlusion": Occlusion(),
    "lime": LIME(),
    "kernel_shap": KernelSHAP(),
    "shapley_sampling": ShapleySampling(),
    "shapley_exact": ExactShapley(),
    "random": Random(),
    "input": Input(),
    "edges": Edges(),
}
"""Every method with its defaults, by the name used in ``ks.explain`` and on the command line."""


_LARGE = 2**16
"""Arrays with more elements are not written among a method's options."""


def as_method(method: str | Method, options: Mapping[str, Any]) -> Method:
    """Return a method object for a name with options, or the object itself; an option ``base`` may be a name too.

    Raises:
        UnknownNameError: for a name or an option that does not exist; the known ones are listed.
    """
    if isinstance(method, Method):
        if options:
            raise BadInputError(
                f"The options {', '.join(options)} go with a method's name. A method object holds its own: "
                f"{type(method).__name__}({', '.join(f'{name}=…' for name in options)})."
            )
        return method
    if isinstance(method, (list, tuple)):
        raise BadInputError(
            f"One method at a time here; got {len(method)}. ks.explain(model, x, […]) takes a list, and "
            "explainer.using(method) another method on the same trace."
        )
    if not isinstance(method, str):
        raise BadInputError(f"method must be a name or a method object such as ks.LRP(); got {method!r}.")
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    preset = METHODS[method]
    known = _fields(method)
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {method}", name, known)
    if isinstance(options.get("base"), str):
        options = {**options, "base": as_method(options["base"], {})}
    try:
        return dataclasses.replace(preset, **options)
    except TypeError as error:  # a text where a number belongs
        given = ", ".join(f"{name}={value!r:.60}" for name, value in options.items())
        raise BadInputError(f"{method} cannot take {given}: {error}. See help(ks.{type(preset).__name__}).") from error


def as_methods(methods: Any, options: Mapping[str, Any]) -> list[Method]:
    """Return method objects for several methods; every option goes to those named methods that read it.

    Raises:
        BadInputError: if there is none.
        UnknownNameError: for a name, or an option that none of the named methods has.
    """
    chosen = list(methods)
    if not chosen:
        raise BadInputError("method=[] names no method: give at least one, or None for the recommended one.")
    found = [as_method(method, {}) for method in chosen]
    named = [i for i, method in enumerate(chosen) if isinstance(method, str)]
    shares = shared_options([chosen[i] for i in named], [(None, name, value) for name, value in options.items()])
    for i, share in zip(named, shares, strict=True):
        found[i] = as_method(chosen[i], share)
    return found


def shared_options(names: Sequence[str], given: Sequence[tuple[str | None, str, Any]]) -> list[dict[str, Any]]:
    """Return the options of each of several methods.

    Args:
        names: of the methods. One alone gets every option, and says itself which it does not know.
        given: the method an option is for (None: all that read it), its name, its value.

    Raises:
        UnknownNameError: for an option that no method has, or that names a method not asked for.
    """
    found: list[dict[str, Any]] = [{} for _ in names]
    for method, name, value in given:
        if method is not None and method not in names:
            raise unknown_name("method of an option", method, names)
        takers = [i for i, known in enumerate(names) if method in (None, known)]
        if len(takers) != 1:
            takers = [i for i in takers if name in _read(names[i])]
        if not takers:
            every = {field for known in names for field in _read(known)}
            raise unknown_name(f"option of {', '.join(names) or 'method objects'}", name, every)
        for i in takers:
            found[i][name] = value
    return found


def _fields(name: str) -> list[str]:
    """Return the options that a method takes by its name."""
    return [item.name for item in dataclasses.fields(METHODS[name]) if item.name != "composite" or name == "lrp"]


def _read(name: str) -> list[str]:
    """Return those of them that count: a composite of LRP reads some only."""
    counting = METHODS[name].options
    return [option for option in _fields(name) if option in counting]


def recommended(*, background: bool) -> tuple[str, str]:
    """Return the name of the method used when none is named, and the reason."""
    if background:
        return "integrated_gradients", "no method was named; with background samples integrated gradients is complete"
    return "lrp", "no method was named; without background samples lrp needs one pass and no baseline"


def name_of(method: Method) -> str:
    """Return the name a method goes by: that of the row it varies, or its class's name."""
    for name, preset in METHODS.items():
        if type(preset) is type(method) and _identity(preset) == _identity(method):
            return name
    return type(method).__name__


def _identity(method: Method) -> Any:
    if isinstance(method, DeepLIFT):
        return method.rule
    return method.composite if isinstance(method, LRP) else None


def config_of(method: Method) -> dict[str, Any]:
    """Return a method as plain data: name, class, options, and the facts a reader needs."""
    return {
        "name": name_of(method),
        "class": type(method).__name__,
        "options": {name: _plain(value) for name, value in method.options.items()},
        "family": method.family,
        "question": method.question,
        "paper": method.paper,
        "promise": method.promise,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Method):
        return {"method": config_of(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist") and np.size(value) <= _LARGE:
        return value.tolist()
    if hasattr(value, "shape"):
        return {"text": f"array of shape {tuple(value.shape)}"}
    return {"text": repr(value)}


def method_from_config(config: Mapping[str, Any]) -> Method:
    """Rebuild a method from `config_of`.

    Raises:
        UnknownNameError: if the method, or an option of it, cannot be rebuilt from plain data.
    """
    classes = {type(preset).__name__: type(preset) for preset in METHODS.values()}
    name = config.get("class", "")
    if name not in classes:
        raise unknown_name("method", name, classes)
    return classes[name](**{key: rebuilt(value) for key, value in config["options"].items()})


def rebuilt(value: Any) -> Any:
    """Return an option from its plain form in `config_of`; lists become tuples."""
    if isinstance(value, Mapping):
        if "method" not in value:
            raise UnknownNameError(f"An option was saved as text only: {value.get('text')!r}.")
        return method_from_config(value["method"])
    return tuple(map(rebuilt, value)) if isinstance(value, list) else value


def methods() -> pd.DataFrame:
    """Return a table of all methods: ``name, family, question, paper, needs, promises, axioms``, one row each."""
    import pandas as pd

    rows = [
        {
            "name": name,
            "family": method.family,
            "question": method.question,
            "paper": method.paper,
            "needs": method.needs,
            "promises": method.promise,
            "axioms": ", ".join(method.axioms),
        }
        for name, method in METHODS.items()
    ]
    return pd.DataFrame(rows)
