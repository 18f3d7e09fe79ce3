"""Bad input: one clear message each, before anything is computed."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope.methods.session import Session
from kerascope.registry import METHODS
from tests.unit.models import draw, linear

X = draw(5, 3, 2)
layers = keras.layers

NAN = X.copy()
NAN[3, 1, 0] = np.nan
BAD = {
    "shape": (dict(x=draw(5, 2, 3)), ks.BadInputError, r"\(5, 2, 3\).*\(N, 3, 2\)"),
    "nan": (dict(x=NAN), ks.BadInputError, r"x holds 1 value that is NaN.*nan in sample 3 at \(1, 0\)"),
    "text": (dict(x=np.full((5, 3, 2), "a")), ks.BadInputError, "x must hold numbers; its dtype is <U1"),
    "empty": (dict(x=X[:0]), ks.BadInputError, r"x holds no samples: its shape is \(0, 3, 2\)"),
    "class": (dict(target=4), ks.BadTargetError, "Class 4 is out of range: the output has 4 classes, 0 to 3"),
    "method": (
        dict(method="integrated_gradient"),
        ks.UnknownNameError,
        r"Unknown method 'integrated_gradient'\. Did you mean 'integrated_gradients'.*Known: ablation_cam, cam",
    ),
    "option": (
        dict(method="integrated_gradients", step=3),
        ks.UnknownNameError,
        r"Unknown option of integrated_gradients 'step'\. Did you mean 'steps'\? Known: baseline, steps",
    ),
    "option of none": (
        dict(epsilon=3),
        ks.UnknownNameError,
        r"Unknown option of gradient 'epsilon'\..*Known: \(none\)",
    ),
    "option of an object": (
        dict(method=ks.LRP(), epsilon=1),
        ks.BadInputError,
        r"The options epsilon go with a method's name\. A method object holds its own: LRP\(epsilon=…\)",
    ),
    "class of methods": (dict(method=ks.LRP), ks.BadInputError, r"a name or a method object such as ks\.LRP\(\)"),
    "option's value": (dict(method="integrated_gradients", steps=0), ks.BadInputError, "steps must be a whole number"),
    "option's type": (dict(method="lrp.epsilon", epsilon="a"), ks.BadInputError, r"epsilon.*'a'"),
    "dim": (dict(dims=("a", "b", "c")), ks.BadInputError, "names 3 axes; one sample has 2"),
    "coord": (
        dict(coords={"rows": [1, 2, 3]}),
        ks.UnknownNameError,
        r"Unknown dim in coords 'rows'\. Did you mean 'row'",
    ),
    "no dims": (dict(dims=5), ks.BadInputError, r"dims must be names of axes, as \('time', 'sensor'\); got 5"),
    "no coords": (dict(coords=5), ks.BadInputError, "coords must be a dict, dim to labels.*got 5"),
    "no class names": (dict(class_names=5), ks.BadInputError, "class_names needs one name for each output unit.*got 5"),
    "rules without a composite": (
        dict(method="lrp", composite=[("*", ks.rules.Zero())]),
        ks.BadInputError,
        r"composite must be the name of one or ks\.Composite\(\[\(selector, rule\), …\]\); got list",
    ),
    "batch size": (dict(batch_size=0), ks.BadInputError, "batch_size must be a whole number of at least 1; got 0"),
    "half a batch": (dict(batch_size=2.5), ks.BadInputError, r"batch_size must be a whole number.*got 2\.5"),
    "batch of truth": (dict(batch_size=True), ks.BadInputError, "batch_size must be a whole number.*got True"),
    "seed": (dict(seed=-1), ks.BadInputError, "seed must be a whole number of at least 0; got -1"),
    "no seed": (dict(seed=None), ks.BadInputError, "seed must be a whole number of at least 0; got None"),
    "baseline of two lengths": (
        dict(method="integrated_gradients", baseline=[[0, 0], [1]]),
        ks.BadInputError,
        r"baseline= must hold finite numbers.*got \[\[0, 0\], \[1\]\]",
    ),
    "baseline": (
        dict(method="integrated_gradients", baseline=draw(2, 3)),
        ks.BadInputError,
        r"baseline.* has shape \(2, 3\); expected .*\(3, 2\)",
    ),
    "word": (
        dict(method="integrated_gradients", baseline="zero"),
        ks.UnknownNameError,
        r"Unknown baseline 'zero'\. Did you mean 'zeros'",
    ),
    "bounds": (
        dict(method="lrp.z_box", low=-0.1, high=9.0),
        ks.BadInputError,
        rf"{int((X < -0.1).sum())} of 30 cells lie outside \[low, high\]; the input's range is -2\.\d+ to 1\.\d+",
    ),
    "bounds the wrong way": (
        dict(method="lrp.z_box", low=5, high=-5),
        ks.BadInputError,
        r"low must be below high in every cell; got low=5 and high=-5",
    ),
    "a bound of no number": (
        dict(method="lrp.z_box", low=np.full((3, 2), np.nan), high=9.0),
        ks.BadInputError,
        r"low must be below high in every cell; got low=<array \(3, 2\)> and high=9\.0",
    ),
    "bounds in a rule": (
        dict(method=ks.LRP(ks.Composite([("*", ks.rules.ZBox(np.ones((3, 2)), 0.5))]))),
        ks.BadInputError,
        r"low must be below high in every cell",
    ),
    "no bounds": (dict(method="lrp.z_box"), ks.MissingBaselineError, r"z_box needs the bounds of the input: give low="),
    "no baseline": (dict(method="integrated_gradients"), ks.MissingBaselineError, "background=… .*or baseline='zeros'"),
    "layer": (dict(method="cam"), ks.IncompatibleMethodError, "No layer of this model has spatial axes"),
    "names": (dict(class_names=["a", "b"]), ks.BadInputError, "one name for each output unit.*got 2 names"),
    "model": (dict(model="no_such.keras"), ks.KerascopeError, r"no_such\.keras"),
    "no model": (dict(model=3), ks.KerascopeError, r"3|int"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_anything_is_explained(name, monkeypatch):
    changed, error, message = BAD[name]

    def fail(*args, **kwargs):
        raise AssertionError("something was computed before the check")

    monkeypatch.setattr(Session, "run", fail)
    given = {"model": linear(), "x": X, "method": "gradient"} | changed
    with pytest.raises(error, match=message):
        ks.explain(**given)


def test_what_cannot_be_traced_yet_says_so():
    explainer = ks.Explainer(linear(), "lrp")
    with pytest.raises(ks.KerascopeError, match=r"has not been traced yet: call the explainer, or prepare\(x\)"):
        explainer.rule_table()
    assert explainer.prepare(X) is explainer
    assert [row["node"] for row in explainer.rule_table()] == [row["node"] for row in explainer(X).attrs["rules"]]
    assert set(explainer.rule_table()[0]) == {"node", "layer", "kind", "rule"}


def test_an_unbuilt_model():
    with pytest.raises(ks.BadInputError, match=r"has not been built: its weights do not exist yet\. Call it once"):
        ks.explain(keras.Sequential([layers.Dense(2)]), X, "gradient")


def test_a_model_of_whole_numbers_has_no_gradient():
    model = keras.Sequential(
        [layers.Input((4,), dtype="int32"), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(2)]
    )
    x = np.array([[0, 1, 2, 3], [4, 3, 2, 1]])
    for method in ("gradient", ks.IntegratedGradients(baseline="zeros")):
        with pytest.raises(ks.IncompatibleMethodError, match=r"takes whole numbers \(int32\).*Explain the part"):
            ks.explain(model, x, method)
    assert ks.explain(model, x, "random").values.dtype == "float32"


def test_messages_read_as_sentences():
    with pytest.raises(ks.BadInputError) as caught:
        ks.explain(linear(), draw(5, 2, 3), "gradient")
    assert re.fullmatch(r"[^ ].*\.", str(caught.value))


WHOLE = {
    "smoothgrad": {"draws": 2.5},
    "vargrad": {"draws": True},
    "shapley_sampling": {"draws": 2.5},
    "kernel_shap": {"draws": 2.5},
    "lime": {"draws": "20"},
    "shapley_exact": {"fills": 1.5},
    "expected_gradients": {"draws": 2.5},
}


@pytest.mark.parametrize("method", WHOLE)
def test_options_that_are_whole_numbers(method):
    ((name, value),) = WHOLE[method].items()
    with pytest.raises(ks.BadInputError, match=rf"^{name} must be a whole number of at least [12]; got {value!r}\.$"):
        ks.explain(linear(), X, method, background=X, **WHOLE[method])
    with pytest.raises(ks.BadInputError, match=rf"^{name} must be a whole number"):
        type(METHODS[method])(**WHOLE[method])
    assert type(METHODS[method])(**{name: np.int64(4)})


FINITE = [
    ("smoothgrad", "noise"),
    ("squaregrad", "noise"),
    ("lime", "width"),
    ("lime", "ridge"),
    ("lrp.epsilon", "epsilon"),
    ("lrp.gamma", "gamma"),
    ("lrp", "gamma"),
]


@pytest.mark.parametrize(("method", "name"), FINITE)
@pytest.mark.parametrize("value", [np.nan, np.inf, "0.1", None, [1.0, 2.0]], ids=repr)
def test_options_that_are_finite_numbers(method, name, value):
    with pytest.raises(ks.BadInputError, match=rf"^{name} must be a finite number; got "):
        ks.explain(linear(), X, method, background=X, **{name: value})


@pytest.mark.parametrize("options", [{"alpha": np.nan}, {"beta": np.nan}, {"alpha": "2"}])
def test_shares_of_alpha_beta_are_finite_numbers(options):
    with pytest.raises(ks.BadInputError, match="must be a finite number"):
        ks.LRP("alpha_beta", **options)


def test_bounds_of_several_inputs():
    inputs = [keras.Input((3,)), keras.Input((2,))]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(inputs)))
    x = [np.full((2, 3), 0.5), np.full((2, 2), 0.5)]
    bounds = {"low": [np.zeros(3), 0.2], "high": [np.ones(3), np.array([1.0, 0.1])]}
    with pytest.raises(ks.BadInputError, match=r"low must be below high in every cell; got low=\[array"):
        ks.explain(model, x, "lrp.z_box", **bounds)
    ks.explain(model, x, "lrp.z_box", low=bounds["low"], high=1.0)


def test_a_file_of_patterns_is_opened_elsewhere(tmp_path):
    path = tmp_path / "patterns.npz"
    path.write_bytes(b"PK")
    with pytest.raises(ks.BadInputError, match=r"is a file\..*ks\.Patterns\.open"):
        ks.open(path)


def test_whole_numbers_as_input_are_told_what_works():
    """Where a rule is missing for an embedding the advice must name what takes whole numbers."""
    model = keras.Sequential(
        [layers.Input((4,), dtype="int32"), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(2)]
    )
    x, background = np.array([[0, 1, 2, 3], [4, 3, 2, 1]]), np.array([[1, 1, 1, 1], [0, 2, 2, 4]])
    for method in ("lrp", "lrp.epsilon", "deeplift"):
        with pytest.raises(ks.IncompatibleMethodError, match="whole numbers") as caught:
            ks.explain(model, x, method, background=background)
        text = str(caught.value)
        assert "after its embedding" in text
        assert not any(word in text for word in ("gradient", "smoothgrad", "Neuron"))
        assert "occlusion" in text
    for method in ("occlusion", "shapley_sampling", "kernel_shap"):
        found = ks.explain(model, x, method, background=background)
        assert np.any(found.values)
        with pytest.raises(ks.IncompatibleMethodError, match=method):
            ks.explain(model, x, "lrp")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_weights_of_rules_are_finite_numbers(value: float) -> None:
    for rule, name in ((ks.rules.Epsilon, "epsilon"), (ks.rules.Gamma, "gamma")):
        with pytest.raises(ks.BadInputError, match=f"{name} (must be a finite number|cannot be negative)"):
            rule(value)
