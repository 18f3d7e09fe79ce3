"""Bad input: one clear message each, before anything is computed."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope.methods.session import Session
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
    "batch size": (dict(batch_size=0), ks.BadInputError, "batch_size must be a whole number of at least 1; got 0"),
    "half a batch": (dict(batch_size=2.5), ks.BadInputError, r"batch_size must be a whole number.*got 2\.5"),
    "batch of truth": (dict(batch_size=True), ks.BadInputError, "batch_size must be a whole number.*got True"),
    "seed": (dict(seed=-1), ks.BadInputError, "seed must be a whole number of at least 0; got -1"),
    "no seed": (dict(seed=None), ks.BadInputError, "seed must be a whole number of at least 0; got None"),
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
