"""kerascope: attribution for Keras 3 models on TensorFlow, JAX and PyTorch.

Everything public is imported when it is first used; importing kerascope imports neither Keras nor a backend.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from kerascope._version import __version__ as __version__

_EXPORTS = {
    "kerascope.explain": ("explain", "Explainer", "check"),
    "kerascope.evidence.cohort": ("cohort", "Cohort"),
    "kerascope.evidence.pipeline": ("evidence",),
    "kerascope.evidence.record": ("Evidence",),
    "kerascope.explanation": ("Explanation",),
    "kerascope.innvestigate.analyzer": ("create_analyzer",),
    "kerascope.opening": ("open",),
    "kerascope.registry": ("methods",),
    "kerascope.relevances": ("Relevances",),
    "kerascope.report": ("report",),
    "kerascope.target": ("Class", "Contrast", "Neuron", "Output", "Target", "TopClass"),
    "kerascope.lrp.composites": ("Composite", "first_layer"),
    "kerascope.lrp.method": ("LRP", "DeepTaylor"),
    "kerascope.methods.base": ("Method",),
    "kerascope.methods.cam_gradient": (
        "CAM",
        "EigenCAM",
        "GradCAM",
        "GradCAMPlusPlus",
        "HiResCAM",
        "LayerCAM",
        "XGradCAM",
    ),
    "kerascope.methods.cam_probing": ("AblationCAM", "ScoreCAM"),
    "kerascope.methods.controls": ("Edges", "Input", "Random"),
    "kerascope.methods.deeplift": ("DeepLIFT", "DeepLiftSHAP"),
    "kerascope.methods.gradient": ("DeconvNet", "Gradient", "GuidedBackprop", "InputXGradient", "Saliency"),
    "kerascope.methods.lime": ("LIME",),
    "kerascope.methods.noise": ("SmoothGrad", "SquareGrad", "VarGrad"),
    "kerascope.methods.path": ("ExpectedGradients", "IntegratedGradients"),
    "kerascope.methods.perturbation": ("Occlusion",),
    "kerascope.methods.shapley": ("ExactShapley", "KernelSHAP", "ShapleySampling"),
    "kerascope.methods.weight_noise": ("NoiseGrad",),
    "kerascope.methods.patterns": ("PatternAttribution", "PatternNet"),
    "kerascope.patterns.quality": ("signal_quality",),
    "kerascope.patterns.store": ("Patterns",),
    "kerascope.view.figure": ("plot_signal_quality",),
    "kerascope.model.load": ("load_model",),
    "kerascope.errors": (
        "BackendError",
        "BadInputError",
        "BadTargetError",
        "IncompatibleMethodError",
        "KerascopeError",
        "KerascopeWarning",
        "MissingBaselineError",
        "MissingPatternsError",
        "OutputExistsError",
        "StaleModelError",
        "TraceError",
        "UnknownNameError",
        "UnsafeModelError",
        "UnsupportedLayerError",
    ),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}
_MODULES = {"rules": "kerascope.lrp.rules", "datasets": "kerascope.datasets", "testing": "kerascope.testing"}

__all__ = sorted([*_HOME, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'kerascope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


class _Package(types.ModuleType):
    """Keeps ``ks.explain`` the function when the submodule of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, types.ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
