"""Every kind of target: which number is explained, and that its map is that number's."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope.model.primitives import Activation
from kerascope.view.text import headline
from tests.unit.models import convolutional, draw, kernel, linear, map_output, two_heads

X = draw(5, 3, 2)


@pytest.fixture(scope="module")
def model():
    return linear()


@pytest.fixture(scope="module")
def explainer(model):
    return ks.Explainer(model, "gradient")


def logits_of(model, x=X, layer="head"):
    head = model.get_layer(layer)
    weights = [np.asarray(keras.ops.convert_to_numpy(w), "float64") for w in head.weights]
    return x.reshape(len(x), -1) @ weights[0] + weights[1]


def gradient_of(model, classes):
    """The gradient of linear logits: columns of the kernel, in the samples' shape."""
    columns = kernel(model).T[np.asarray(classes)]
    return columns.reshape(*np.shape(classes), 3, 2)


def test_none_is_the_top_class_of_each_sample(model, explainer):
    e = explainer(X)
    top = logits_of(model).argmax(axis=1)
    assert len(set(top)) > 1
    assert e.target.dtype.kind == "i"
    np.testing.assert_array_equal(e.target, top)
    np.testing.assert_allclose(e.explained, logits_of(model).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(e.values, gradient_of(model, top), rtol=1e-5)
    assert e.attrs["target"] == {"kind": "class", "text": "top class of each sample"}


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (2, [2, 2, 2, 2, 2]),
        (np.int64(1), [1, 1, 1, 1, 1]),
        ([3, 0, 1, 2, 3], [3, 0, 1, 2, 3]),
        (np.array([0, 1, 2, 3, 0], "uint8"), [0, 1, 2, 3, 0]),
        (ks.Class(2), [2, 2, 2, 2, 2]),
        (ks.Class([3, 0, 1, 2, 3]), [3, 0, 1, 2, 3]),
    ],
    ids=["int", "numpy int", "list", "array", "Class", "Class of each"],
)
def test_classes_by_number(model, explainer, target, classes):
    e = explainer(X, target=target)
    assert e.target.tolist() == classes
    assert e.explained.shape == (5,)
    np.testing.assert_allclose(e.explained, logits_of(model)[range(5), classes], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.values, gradient_of(model, classes), rtol=1e-5)


@pytest.mark.parametrize(
    "target",
    ["all", np.tile([0, 1, 2, 3], (5, 1)), ks.Class("all"), ks.Class(np.tile([0, 1, 2, 3], (5, 1)))],
    ids=["all", "array", "Class all", "Class array"],
)
def test_several_targets_add_an_axis(model, explainer, target):
    e = explainer(X, target=target)
    assert e.values.shape == (5, 4, 3, 2)
    assert e.target.tolist() == [[0, 1, 2, 3]] * 5
    np.testing.assert_allclose(e.explained, logits_of(model), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.values, gradient_of(model, e.target), rtol=1e-5)


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "lrp", "deep_taylor", "grad_cam"])
def test_several_targets_share_one_forward_pass(method, monkeypatch):
    """Uncompiled: the activations are computed as often for four targets as for one."""
    model, x = convolutional(), draw(3, 6, 5, 1)
    explainer = ks.Explainer(model, method, compile=False)
    explainer.prepare(x)
    relus = []
    original = Activation.__call__

    def counted(self, *tensors):
        relus.append(self)
        return original(self, *tensors)

    def count(target):
        relus.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ks.KerascopeWarning)
            explainer(x, target=target)
        return len(relus)

    monkeypatch.setattr(Activation, "__call__", counted)
    assert count([[0, 1, 2, 0]] * 3) == count([[1]] * 3) > 0


def test_one_column_of_targets_keeps_its_axis(explainer):
    e = explainer(X, target=np.zeros((5, 1), int))
    assert (e.values.shape, e.explained.shape) == ((5, 1, 3, 2), (5, 1))


def test_top_classes_come_in_order(model, explainer):
    e = explainer(X, target=ks.TopClass(3))
    order = np.argsort(-logits_of(model), axis=1)[:, :3]
    np.testing.assert_array_equal(e.target, order)
    assert np.all(np.diff(e.explained, axis=1) < 0)
    np.testing.assert_allclose(e.values, gradient_of(model, order), rtol=1e-5)
    np.testing.assert_array_equal(explainer(X, target=ks.TopClass()).values, explainer(X).values)


def test_of_equal_logits_the_first_is_the_top():
    model = linear()
    model.get_layer("head").set_weights([np.zeros((6, 4)), np.zeros(4)])
    explainer = ks.Explainer(model, "gradient", compile=False)
    assert explainer(X).target.tolist() == [0] * 5
    assert explainer(X, target=ks.TopClass(4)).target.tolist() == [[0, 1, 2, 3]] * 5


def test_contrasts(model, explainer):
    logits, w = logits_of(model), kernel(model)
    top = logits.argmax(axis=1)
    others = (logits.sum(axis=1, keepdims=True) - logits) / 3
    rest = (w.sum(axis=1, keepdims=True) - w) / 3
    free = [int(c) for c in range(4) if c not in top]
    b = free[0] if free else 0
    cases = {
        "both": (ks.Contrast(1, 3), logits[:, 1] - logits[:, 3], np.tile(w[:, 1] - w[:, 3], (5, 1))),
        "a only": (ks.Contrast(2), (logits - others)[:, 2], np.tile(w[:, 2] - rest[:, 2], (5, 1))),
        "none": (ks.Contrast(), (logits - others)[range(5), top], (w - rest).T[top]),
    }
    if free:
        cases["b only"] = (ks.Contrast(b=b), logits[range(5), top] - logits[:, b], w.T[top] - w[:, b])
    for name, (target, number, grads) in cases.items():
        e = explainer(X, target=target)
        np.testing.assert_allclose(e.explained, number, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(e.values, grads.reshape(5, 3, 2), rtol=1e-4, atol=1e-6, err_msg=name)
        assert e.target is target
        assert e.attrs["target"]["kind"] == "contrast"


def test_contrasts_of_each_sample_and_of_several(model, explainer):
    logits = logits_of(model)
    e = explainer(X, target=ks.Contrast([0, 1, 2, 3, 0], [1, 2, 3, 0, 3]))
    np.testing.assert_allclose(
        e.explained,
        [logits[i, a] - logits[i, b] for i, (a, b) in enumerate([(0, 1), (1, 2), (2, 3), (3, 0), (0, 3)])],
        rtol=1e-4,
    )
    e = explainer(X, target=ks.Contrast(np.tile([0, 1], (5, 1)), 2))
    assert e.values.shape == (5, 2, 3, 2)
    np.testing.assert_allclose(e.explained, logits[:, :2] - logits[:, 2:3], rtol=1e-4, atol=1e-5)


def test_a_contrast_of_the_top_class_with_itself_is_warned_of(model, explainer):
    top = logits_of(model).argmax(axis=1)
    count = int(np.sum(top == top[0]))
    with pytest.warns(ks.KerascopeWarning, match=f"of the top class with itself for {count} sample"):
        e = explainer(X, target=ks.Contrast(b=int(top[0])))
    assert np.all(e.values[top == top[0]] == 0)


@pytest.mark.parametrize(
    ("layer", "index"),
    [
        ("conv", (2, 1, 2)),
        ("norm", (2, 1, 2)),
        ("active", (0, 3, 1)),
        ("conv_relu", (1, 1, 0)),
        ("head", 1),
        ("head", (1,)),
    ],
)
def test_neurons_have_the_value_that_keras_returns(layer, index):
    model, x = convolutional(), draw(4, 6, 5, 1)
    e = ks.explain(model, x, "gradient", target=ks.Neuron(layer, index))
    part = keras.Model(model.inputs[0], model.get_layer(layer).output)
    values = keras.ops.convert_to_numpy(part(x))
    place = index if isinstance(index, tuple) else (index,)
    np.testing.assert_allclose(e.explained, values[(slice(None), *place)], rtol=1e-4, atol=1e-6)
    assert e.target == ks.Neuron(layer, index)
    assert e.attrs["output"] == {"head": None, "index": None, "taken_off": None, "explained": "unit's value"}
    step = np.zeros_like(x)
    step[:, 2, 2, 0] = 1e-2
    ahead, behind = (keras.ops.convert_to_numpy(part(x + s * step))[(slice(None), *place)] for s in (1, -1))
    np.testing.assert_allclose(e.values[:, 2, 2, 0], (ahead - behind) / 2e-2, atol=3e-2)


def test_relevance_of_a_neuron_below_a_layer_without_a_rule():
    x = keras.Input((4, 2))
    hidden = keras.layers.Dense(3, activation="relu", name="below")(x)
    recurrent = keras.layers.LSTM(3)(hidden)
    model = keras.Model(x, keras.layers.Dense(2)(recurrent))
    data = draw(3, 4, 2)
    with pytest.raises(ks.UnsupportedLayerError, match=r"lstm.*target=ks\.Neuron"):
        ks.explain(model, data, "lrp.epsilon")
    e = ks.explain(model, data, "lrp.epsilon", target=ks.Neuron("below", (1, 2)))
    np.testing.assert_allclose(e.values.sum(axis=(1, 2)) + e.absorbed, e.explained, atol=1e-5)
    assert {row["node"] for row in e.attrs["rules"]} <= {"below", "below/relu"}


def test_cells_of_an_output_map():
    model, x = map_output(), draw(3, 4, 3, 1)
    e = ks.explain(model, x, "gradient", target=ks.Output((1, 2, 0)))
    probabilities = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(e.outputs, probabilities, rtol=1e-5)
    assert e.attrs["output"]["taken_off"] == "softmax"
    # Only logits: their difference is the log of the ratio of probabilities.
    other = ks.explain(model, x, "gradient", target=ks.Output((1, 2, 1)))
    ratio = np.log(probabilities[:, 1, 2, 0] / probabilities[:, 1, 2, 1])
    np.testing.assert_allclose(e.explained - other.explained, ratio, rtol=1e-3, atol=1e-4)
    far = np.ones((4, 3), bool)
    far[0:3, 1:3] = False
    assert np.all(e.values[:, far] == 0)
    assert np.any(e.values[:, ~far] != 0)
    with pytest.raises(ks.BadTargetError, match=r"is a map of shape \(4, 3, 2\), not a list of classes.*ks\.Output"):
        ks.explain(model, x, "gradient")


def test_several_heads_need_a_choice():
    model = two_heads()
    with pytest.raises(ks.BadTargetError, match=r"has 2 outputs: .*kind.*Say which is meant.*output="):
        ks.explain(model, X, "gradient")
    with pytest.raises(ks.BadTargetError, match=r"has 2 outputs"):
        ks.explain(model, X, "gradient", target=1)


@pytest.mark.parametrize("which", ["kind", "by number"])
def test_heads_by_name_and_number(which):
    model = two_heads()
    explainer = ks.Explainer(model, "gradient", compile=False)
    names = [head.name for head in explainer.prepare(X).view.heads]
    assert set(names) == {"kind", "alarm"}
    head = "kind" if which == "kind" else names.index("kind")
    e = explainer(X, target=ks.Class(2, output=head))
    hidden = np.maximum(logits_of(model, layer=model.layers[2].name), 0)
    wanted = logits_of(model, hidden, "kind")
    np.testing.assert_allclose(e.explained, wanted[:, 2], rtol=1e-3, atol=1e-4)
    assert set(e.outputs) == {"kind", "alarm"}
    np.testing.assert_allclose(e.outputs["kind"].sum(axis=1), 1, rtol=1e-5)
    assert (e.attrs["output"]["head"], e.attrs["output"]["taken_off"]) == ("kind", "softmax")
    for target in (ks.TopClass(output=head), ks.Contrast(output=head), ks.Output(1, output=head)):
        assert explainer(X, target=target).values.shape == X.shape
    np.testing.assert_array_equal(explainer(X, target=ks.TopClass(output=head)).target, wanted.argmax(axis=1))
    with pytest.raises(ks.BadTargetError, match=r"Unknown output 'kin'\. Did you mean 'kind'"):
        explainer(X, target=ks.Class(0, output="kin"))


def test_one_output_unit_is_that_unit_and_negative_logits_are_said():
    model = linear(1, "sigmoid")
    model.get_layer("head").set_weights([kernel(model), np.array([0.1])])
    logits = logits_of(model)[:, 0]
    negative = int(np.sum(logits < 0))
    assert 0 < negative < 5
    with pytest.warns(ks.KerascopeWarning, match=f"one output unit; its logit is negative for {negative} sample"):
        e = ks.explain(model, X, "input_x_gradient")
    assert e.target.tolist() == [0] * 5
    np.testing.assert_allclose(e.explained, logits, rtol=1e-4, atol=1e-5)
    assert e.attrs["target"]["text"] == "the one output unit"
    positive = ks.explain(model, X[logits > 0], "input_x_gradient")
    assert positive.warnings == []
    with pytest.raises(ks.BadTargetError, match="A contrast needs an output with at least two classes"):
        ks.explain(model, X, "gradient", target=ks.Contrast())


def test_one_output_unit_without_a_sigmoid_is_no_logit():
    """A regression's output is a number of its own: it is neither called a logit nor a class."""
    model = linear(1, None)
    model.get_layer("head").set_weights([kernel(model), np.array([-9.0])])
    with pytest.warns(ks.KerascopeWarning, match="one output unit; its output is negative"):
        e = ks.explain(model, X, "input_x_gradient")
    assert e.attrs["output"]["explained"] == "output"
    assert headline(e, 0, 0, "Sample 0").startswith("Sample 0: the output unit, output ")


def test_contrasts_are_told_by_the_names_of_their_classes(explainer):
    named = explainer(X, target=ks.Contrast(2, 0), class_names=["sit", "walk", "run", "fall"])
    assert named.attrs["target"]["text"] == "class 2 minus class 0"
    assert named.target_name(0) == "run minus sit"
    assert explainer(X, target=ks.Contrast(2, 0)).target_name(0) == "class 2 minus class 0"


def test_functions_of_the_logits(model, explainer):
    def margin(logits):
        return logits[:, 0] - 2 * logits[:, 1]

    e = explainer(X, target=margin)
    logits, w = logits_of(model), kernel(model)
    np.testing.assert_allclose(e.explained, logits[:, 0] - 2 * logits[:, 1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        e.values, np.tile((w[:, 0] - 2 * w[:, 1]).reshape(3, 2), (5, 1, 1)), rtol=1e-4, atol=1e-5
    )
    assert e.target is margin
    assert e.attrs["target"] == {"kind": "callable", "text": "function margin of the logits"}


NAMES = ["sit", "walk", "run", "fall"]


@pytest.mark.parametrize(
    ("named", "numbered"),
    [
        ("run", 2),
        (["sit", "run", "run", "fall", "walk"], [0, 2, 2, 3, 1]),
        (np.array([["sit", "run"]] * 5), np.array([[0, 2]] * 5)),
        (ks.Class("walk"), ks.Class(1)),
        (ks.Contrast("run", "sit"), ks.Contrast(2, 0)),
        (ks.Contrast(b="fall"), ks.Contrast(b=3)),
    ],
    ids=["one", "one each", "several", "class", "contrast", "half a contrast"],
)
def test_classes_may_be_given_by_name(explainer, named, numbered):
    found = explainer(X, target=named, class_names=NAMES)
    wanted = explainer(X, target=numbered)
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_array_equal(found.target, wanted.target)


def test_a_name_of_two_classes_is_none(explainer):
    with pytest.raises(ks.BadTargetError, match="2 classes are called 'sit': give the number of one"):
        explainer(X, target="sit", class_names=["sit", "walk", "sit", "run"])


@pytest.mark.parametrize("target", ["rnu", ks.Class("rnu"), ks.Contrast("rnu", "sit"), ["rnu"] * 5])
def test_unknown_names_of_classes(explainer, target):
    with pytest.raises(ks.BadTargetError, match=r"Unknown class 'rnu'\. Did you mean 'run'"):
        explainer(X, target=target, class_names=NAMES)


@pytest.mark.parametrize("dict_of_heads", [True, False])
def test_functions_of_several_heads_get_their_logits_as_the_model_returns_them(dict_of_heads):
    model = two_heads()
    names = list(model.output)
    if not dict_of_heads:
        model = keras.Model(model.input, list(model.output.values()))
    keys = names if dict_of_heads else [0, 1]
    e = ks.explain(model, X, "gradient", target=lambda heads: heads[keys[0]][:, 0] + heads[keys[1]][:, 0])
    returned = model(X)
    assert type(e.outputs) is type(returned)
    for key in keys:
        np.testing.assert_allclose(e.outputs[key], keras.ops.convert_to_numpy(returned[key]), rtol=1e-5, atol=1e-6)
    one, other = (ks.explain(model, X, "gradient", target=ks.Output(0, output=head)) for head in (0, 1))
    np.testing.assert_allclose(e.explained, one.explained + other.explained, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.values, one.values + other.values, rtol=1e-4, atol=1e-5)


BAD = {
    "out of range": (7, r"Class 7 is out of range: the output has 4 classes, 0 to 3"),
    "negative": (-1, r"Class -1 is out of range"),
    "one of many": ([0, 1, 9, 0, 0], r"Class 9 is out of range"),
    "float": (1.0, r"A class must be a whole number.*got 1\.0"),
    "bool": (True, r"A class must be a whole number.*got True"),
    "word": ("walking", r"Target 'walking' is not understood\. Give a class index.*ks\.TopClass"),
    "too few": ([0, 1], r"Targets of shape \(2,\) do not fit 5 samples: expected one class, \(5,\) or \(5, T\)"),
    "three axes": (np.zeros((5, 1, 1), int), r"Targets of shape \(5, 1, 1\) do not fit"),
    "no targets": (np.zeros((5, 0), int), r"The list of targets is empty"),
    "too many top": (ks.TopClass(5), r"TopClass\(k=5\): the output has 4 units, so k must be 1 to 4"),
    "no top": (ks.TopClass(0), r"k must be 1 to 4"),
    "half a top": (ks.TopClass(1.5), r"TopClass\(k=1\.5\)"),
    "class of targets": (ks.TopClass, r"Give a target object, not its class: TopClass\(…\)"),
    "same": (ks.Contrast(2, 2), r"A contrast of class 2 with itself is zero"),
    "lengths": (
        ks.Contrast(np.zeros((5, 2), int), np.ones((5, 3), int)),
        r"name 2 and 3 classes per sample: give as many on both",
    ),
    "layer": (ks.Neuron("heat", 0), r"Unknown layer 'heat'\. Did you mean 'head'"),
    "unit": (ks.Neuron("head", 4), r"Index 4 is out of range: layer 'head' returns shape \(4,\)"),
    "axes of a unit": (ks.Neuron("head", (0, 1)), r"index \(0, 1\) does not name one cell of it"),
    "half a unit": (ks.Neuron("head", 0.5), r"index 0\.5 does not name one cell"),
    "cell": (ks.Output(4), r"Index 4 is out of range: output .* returns shape \(4,\)"),
    "output": (ks.Class(0, output=1), r"Unknown output 1"),
    "matrix": (lambda logits: logits, r"must return one number per sample, shape \(N,\).*returned shape \(5, 4\)"),
    "one for all": (lambda logits: keras.ops.sum(logits)[None], r"for 5 samples it returned shape \(1,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_say_what_to_do(explainer, name):
    target, message = BAD[name]
    with pytest.raises(ks.BadTargetError, match=message):
        explainer(X, target=target)


def test_deep_taylor_and_functions():
    with pytest.raises(ks.IncompatibleMethodError, match="a function of the logits has no rule"):
        ks.explain(linear(), X, "deep_taylor", target=lambda z: z[:, 0])


def test_targets_survive_saving_as_text(explainer, tmp_path):
    e = explainer(X, target=ks.Contrast(1, 3))
    assert ks.open(e.save(tmp_path / "contrast")).target == "Contrast(a=1, b=3, output=None)"
    e = explainer(X, target=[3, 0, 1, 2, 3])
    assert ks.open(e.save(tmp_path / "classes")).target.tolist() == [3, 0, 1, 2, 3]
    e = explainer(X, target=lambda z: z[:, 0])
    assert "function" in ks.open(e.save(tmp_path / "function")).target_name(0)
