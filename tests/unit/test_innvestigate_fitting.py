"""iNNvestigate's `fit`, and those of its attributes and options that are not here."""

from __future__ import annotations

from typing import Any

import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import mlp, samples, stack
from tests.reference.run import differ, same


def net() -> Any:
    """A network of which every neuron fires on uniform samples."""
    return stack((5,), layers.Dense(4, activation="relu"), layers.Dense(3), biases=0.0)


def test_types_of_patterns_and_where_they_are_given(float64):
    model, x, many = net(), samples((5,)), samples((5,), 60, seed=3)
    relu, linear = (
        ks.Explainer(model, ks.PatternNet(patterns=ks.Patterns.fit(model, many, estimator=name)))(x).values
        for name in ("relu", "linear")
    )
    differ(relu, linear)
    for given, expected in (("relu", relu), ("relu.positive", relu), ("linear", linear), (["linear"], linear)):
        made = ks.create_analyzer("pattern.net", model, pattern_type=given).fit(many, batch_size=25, verbose=0)
        same(made.analyze(x), expected)
        same(ks.create_analyzer("pattern.net", model).fit(many, pattern_type=given).analyze(x), expected)
    same(ks.create_analyzer("pattern.net", model, pattern_type="linear").fit(many, 25).analyze(x), linear)


def test_what_cannot_be_fitted():
    model, x = mlp(), samples((5,))
    for wrong in ("nonsense", "relu.negative", ["relu", "linear"], None, 3):
        with pytest.raises(ks.UnknownNameError, match=r"Unknown pattern_type .* Known: linear, relu, relu\.positive"):
            ks.create_analyzer("pattern.net", model, pattern_type=wrong)
    with pytest.raises(ks.UnknownNameError, match=r"Unknown pattern_type 'relu\.negative'"):
        ks.create_analyzer("pattern.attribution", model).fit(x, pattern_type="relu.negative")
    for name in ("pattern.net", "gradient"):
        with pytest.raises(ks.UnknownNameError, match=r"Unknown parameter of fit 'patern_type'\. Did you mean"):
            ks.create_analyzer(name, model).fit(x, patern_type="linear")


def test_attributes_that_are_not_here():
    made = ks.create_analyzer("pattern.net", mlp())
    for name, instead in (
        ("fit_generator", r"give fit one array"),
        ("save", r"analyzer\.method\.patterns\.save\(path\)"),
        ("save_npz", r"analyzer\.method\.patterns\.save\(path\)"),
        ("load", r"ks\.Patterns\.open\(path\)"),
        ("load_npz", r"ks\.Patterns\.open\(path\)"),
    ):
        assert not hasattr(made, name)
        with pytest.raises(AttributeError, match=f"iNNvestigate's {name} is not here: .*{instead}"):
            getattr(made, name)
    with pytest.raises(AttributeError, match="object has no attribute 'analyse'"):
        made.analyse(samples((5,)))


def test_patterns_go_to_a_file_and_come_back(tmp_path, float64):
    """What is said instead of save and load."""
    model, x = net(), samples((5,))
    made = ks.create_analyzer("pattern.attribution", model).fit(samples((5,), 60, seed=3))
    made.method.patterns.save(tmp_path / "patterns.npz")
    again = ks.create_analyzer("pattern.attribution", model, patterns=ks.Patterns.open(tmp_path / "patterns.npz"))
    same(again.analyze(x), made.analyze(x))


@pytest.mark.parametrize("conventions", ["kerascope", "innvestigate"])
def test_checks_that_stay(conventions):
    with pytest.warns(ks.KerascopeWarning, match="disable_model_checks=True does nothing here"):
        made = ks.create_analyzer("deep_taylor", mlp("gelu"), conventions, disable_model_checks=True)
    with pytest.raises(ks.IncompatibleMethodError, match="gelu"):
        made.analyze(samples((5,)))
