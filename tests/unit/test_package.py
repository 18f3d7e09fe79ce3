"""The package's front: every name of the contract, imported when it is first used and no sooner."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

import kerascope as ks

NAMES = [
    "explain",
    "Explainer",
    "Explanation",
    "check",
    "evidence",
    "Evidence",
    "cohort",
    "Cohort",
    "Relevances",
    "create_analyzer",
    "methods",
    "report",
    "open",
    "datasets",
    "testing",
    "rules",
    "Composite",
    "first_layer",
    "load_model",
    "Target",
    "Class",
    "TopClass",
    "Contrast",
    "Neuron",
    "Output",
    "Method",
    "Gradient",
    "Saliency",
    "SmoothGrad",
    "SquareGrad",
    "VarGrad",
    "NoiseGrad",
    "GuidedBackprop",
    "DeconvNet",
    "InputXGradient",
    "IntegratedGradients",
    "ExpectedGradients",
    "LRP",
    "DeepLIFT",
    "DeepLiftSHAP",
    "DeepTaylor",
    "CAM",
    "GradCAM",
    "HiResCAM",
    "GradCAMPlusPlus",
    "XGradCAM",
    "LayerCAM",
    "ScoreCAM",
    "AblationCAM",
    "EigenCAM",
    "Occlusion",
    "LIME",
    "KernelSHAP",
    "ShapleySampling",
    "ExactShapley",
    "PatternAttribution",
    "PatternNet",
    "Patterns",
    "plot_signal_quality",
    "signal_quality",
    "Random",
    "Input",
    "Edges",
    "KerascopeError",
    "UnsupportedLayerError",
    "IncompatibleMethodError",
    "BadTargetError",
    "BadInputError",
    "MissingBaselineError",
    "MissingPatternsError",
    "StaleModelError",
    "UnknownNameError",
    "UnsafeModelError",
    "TraceError",
    "OutputExistsError",
    "BackendError",
    "KerascopeWarning",
    "__version__",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    assert getattr(ks, name) is not None
    assert name in dir(ks)


def test_nothing_else_is_public():
    assert sorted(ks.__all__) == sorted(NAMES)
    assert sorted(dir(ks)) == sorted(ks.__all__)


def test_rules_have_the_papers_names():
    for name in ["Zero", "Epsilon", "Gamma", "AlphaBeta", "ZPlus", "ZBox", "WSquare", "Flat", "Pass"]:
        assert issubclass(getattr(ks.rules, name), ks.rules.Rule)


def test_testing_is_public():
    assert ks.testing.check_method.__name__ == "check_method"
    assert ks.testing.check_rule.__name__ == "check_rule"


@pytest.mark.parametrize("name", ["explain", "report", "methods", "check", "open"])
def test_functions_stay_functions_when_modules_of_their_name_are_imported(name):
    for module in ("explain", "report", "methods", "explanation", "target", "registry"):
        importlib.import_module(f"kerascope.{module}")
    assert isinstance(getattr(ks, name), types.FunctionType)
    assert callable(getattr(ks, name))


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'kerascope' has no attribute 'explane'"):
        ks.explane  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Pattern'"):
        exec("from kerascope import Pattern")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "code",
    [
        "import kerascope",
        "import kerascope; dir(kerascope)",
        "import kerascope; kerascope.BadInputError",
        "import kerascope; kerascope.__version__",
        "import kerascope; kerascope.Explanation",
        "import kerascope; kerascope.open",
    ],
)
def test_what_needs_no_keras_imports_none(code):
    heavy = ["keras", "jax", "tensorflow", "torch", "pandas", "xarray", "scipy", "matplotlib", "bokeh"]
    done = run(f"{code}; import sys; print(*[m for m in {heavy} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_importing_the_engine_imports_no_other_backend(backend):
    code = "import kerascope as ks; ks.Explainer; ks.LRP; ks.testing; import sys; print(*sys.modules)"
    done = run(code)
    assert done.returncode == 0, done.stderr
    loaded = {"jax", "tensorflow", "torch"} & set(done.stdout.split())
    assert backend in loaded
    # Keras itself may bring parts of another backend, pandas or Matplotlib; kerascope asks for none of them.
    assert not [name for name in done.stdout.split() if name.startswith(("kerascope.view", "kerascope.report"))]


def test_the_submodule_is_reached_by_import_statements():
    from kerascope.explain import Explainer, explain

    assert ks.explain is explain
    assert ks.Explainer is Explainer
    assert sys.modules["kerascope.explain"].explain is explain
