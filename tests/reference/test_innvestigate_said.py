"""What is said of iNNvestigate's numbers and what is refused: by the rules that stand and the layers that are there."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.innvestigate.names import ANALYZERS
from tests.reference.nets import average_head, cnn, mlp, residual, samples, stack, weigh
from tests.reference.run import differ, predict, same

BIAS, ZEROS, LOST = "holds the whole bias", "gives values of 1e7", "to which nothing contributes is lost"
SPELLED, Z_RULE, COPIED, EVEN = (
    "two answers for one function",
    "take the z rule",
    "copies relevance",
    "shares relevance evenly",
)
FIRST, UNCHECKED, MISSED, SCALED = "and not w^2", "low and high are taken", "is not applied", "gamma / sqrt(variance"
ANOTHER, FACTOR, EMPTY = "for another map", "by the other factor", "their maps are zero"
TEXTS = [BIAS, ZEROS, LOST, SPELLED, Z_RULE, COPIED, EVEN, FIRST, UNCHECKED, MISSED, SCALED, ANOTHER, FACTOR, EMPTY]


def asked(name: str, model: Any, x: Any, **options: Any) -> tuple[np.ndarray, str]:
    """The map, and all that is said on the way to it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ks.KerascopeWarning)
        made = ks.create_analyzer(name, model, "innvestigate", **options)
        made._explainer._compile = False  # each is asked once
        found = made.analyze(x)
    return found, " ".join(str(item.message) for item in caught)


def said(name: str, model: Any, x: Any, **options: Any) -> set[str]:
    """Which of the texts are said; that none of them is said of a logit below zero is another test's business."""
    text = asked(name, model, x, **options)[1]
    return {part for part in TEXTS if part in text} - {EMPTY}


def padded(*before: Any) -> Any:
    parts = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]
    return stack((5, 5, 1), *before, *parts)


def multiplied() -> Any:
    inputs = layers.Input((5,))
    hidden = layers.Dense(4, activation="relu")(inputs)
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Multiply()([hidden, layers.Dense(4)(inputs)]))))


def normalized() -> Any:
    return stack((5,), layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dense(2))


def of_mlp(name: str, **options: Any) -> set[str]:
    return said(name, mlp(), samples((5,)), **options)


def test_of_every_rule_what_is_true_of_it():
    """On a plain dense network, where nothing but kernels is peculiar."""
    assert of_mlp("lrp.z") == {ZEROS}
    assert of_mlp("lrp.epsilon") == of_mlp("lrp.w_square") == of_mlp("lrp.flat") == set()
    assert of_mlp("lrp.alpha_1_beta_0") == of_mlp("lrp.alpha_2_beta_1") == {BIAS, ZEROS}
    assert of_mlp("lrp.alpha_beta", alpha=3) == {BIAS, ZEROS}
    assert of_mlp("lrp.alpha_beta", alpha=3, bias=False) == of_mlp("lrp.alpha_2_beta_1_IB") == {LOST}
    assert of_mlp("lrp.z_plus") == {LOST}
    assert of_mlp("lrp.z_plus_fast") == {ZEROS}
    assert said("lrp.alpha_2_beta_1", mlp(biases=0.0), samples((5,))) == {LOST}
    assert of_mlp("deep_taylor") == {FIRST, LOST}
    assert of_mlp("deep_taylor.bounded", low=-1, high=1) == {UNCHECKED, LOST}


def test_of_rules_that_are_named_what_is_true_of_them():
    assert of_mlp("lrp", rule="Epsilon") == set()
    assert of_mlp("lrp", rule="Z") == {ZEROS}
    assert of_mlp("lrp", rule="Alpha2Beta1") == {BIAS, ZEROS}
    assert of_mlp("lrp", rule=["Epsilon", "Flat", "Alpha1Beta0IgnoreBias"]) == {LOST}
    assert of_mlp("lrp.epsilon", until_layer_idx=0, until_layer_rule="Alpha2Beta1") == {BIAS, ZEROS}
    assert of_mlp("lrp.epsilon", input_layer_rule=(-1, 1)) == {UNCHECKED}


def test_presets_hold_alpha_beta_where_there_are_convolutions():
    x = samples((6, 6, 2))
    assert said("lrp.sequential_preset_a", cnn(), x) == said("lrp.sequential_preset_b_flat", cnn(), x) == {BIAS, ZEROS}
    assert of_mlp("lrp.sequential_preset_a") == set()


def test_sums_and_averages_are_named_where_there_are_some():
    x, model = samples((5,)), residual()
    assert said("lrp.epsilon", model, x) == {Z_RULE}
    assert said("lrp.z", model, x) == {ZEROS}  # the z rule is what was asked for
    assert said("deep_taylor", model, x) == {FIRST, LOST, COPIED}
    assert said("deep_taylor", average_head(), samples((6, 6, 2))) == {FIRST, LOST, EVEN}
    assert said("lrp.epsilon", average_head(), samples((6, 6, 2))) == {Z_RULE}
    assert said("lrp.epsilon", multiplied(), x) == {FACTOR}
    text = asked("lrp.epsilon", model, x)[1]
    assert f"(at {model.layers[4].name!r} and 1 more layer)" in text
    assert text.endswith("conventions='kerascope' does without.")


def test_batch_normalisation_under_deep_taylor():
    assert said("deep_taylor", normalized(), samples((5,))) == {FIRST, LOST, SCALED}
    assert said("lrp.epsilon", normalized(), samples((5,))) == {ANOTHER}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lrp.sequential_preset_a_flat", {}),
        ("lrp.z", {"input_layer_rule": "Flat"}),
        ("deep_taylor.bounded", {"low": -1, "high": 1}),
    ],
)
def test_the_input_layers_rule_that_does_not_stand_there(name, options):
    x = samples((5, 5, 1))
    assert MISSED not in said(name, padded(), x, **options)
    hidden = padded(layers.ZeroPadding2D(1))
    assert f"{MISSED} at {hidden.layers[1].name!r}" in asked(name, hidden, x, **options)[1]
    assert f"{MISSED} anywhere" in asked(name, padded(layers.MaxPooling2D(1)), x, **options)[1]


BETWEEN: dict[str, Any] = {
    "nothing": layers.Identity,
    "averages": lambda: layers.AveragePooling2D(2),
    "maxima": layers.MaxPooling2D,
    "norm": layers.BatchNormalization,
}
AT_ZEROS = {(name, between) for name in ("lrp.flat", "lrp.w_square") for between in ("nothing", "maxima", "norm")}
AT_ZEROS |= {("deep_taylor", "averages"), ("deep_taylor", "norm")}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize(
    "name", ["lrp.z", "lrp.epsilon", "lrp.flat", "lrp.w_square", "lrp.sequential_preset_b_flat", "deep_taylor"]
)
def test_two_spellings_are_said_to_differ_where_they_do(name, between, float64):
    """A ReLU() layer masks what a fused one passes on: seen only where cells that are zero get relevance."""
    x, make = samples((6, 6, 2), 4), BETWEEN[between]
    fused, apart = (
        stack(x.shape[1:], *first, make(), layers.Flatten(), layers.Dense(3))
        for first in ([layers.Conv2D(3, 3, activation="relu")], [layers.Conv2D(3, 3), layers.ReLU()])
    )
    apart.set_weights(fused.get_weights())
    (one, silent), (other, text) = asked(name, fused, x), asked(name, apart, x)
    assert SPELLED not in silent
    assert (SPELLED in text) == ((name, between) in AT_ZEROS)
    (differ if SPELLED in text else same)(one, other)


def test_another_activation_layer_is_always_said():
    model = stack((5,), layers.Dense(4), layers.LeakyReLU(), layers.Dense(2))
    assert said("lrp.epsilon", model, samples((5,))) == {SPELLED}
    fused = stack((5,), layers.Dense(4, activation="leaky_relu"), layers.Dense(2))
    assert said("lrp.epsilon", fused, samples((5,))) == set()


def test_logits_that_are_not_positive_under_deep_taylor(float64):
    model, x = mlp(), samples((5,), 40)
    logits = predict(model, x)[:, 1]
    assert 0 < (logits <= 0).sum() < len(x)
    made = ks.create_analyzer("deep_taylor", model, "innvestigate")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ks.KerascopeWarning)
        found = made.analyze(x, 1)
    assert np.array_equal(np.all(found == 0, axis=1), logits <= 0)
    assert any(str(item.message).startswith(f"{(logits <= 0).sum()} explained logits") for item in caught)


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"alpha": 2, "beta": 2}, {"alpha": 0.5}, {"beta": -0.5}, {"alpha": 0, "beta": -1}])
@pytest.mark.parametrize("conventions", ["kerascope", "innvestigate"])
def test_alpha_and_beta_that_do_not_fit(conventions, options):
    with pytest.raises(ks.BadInputError, match="alpha - beta = 1 and beta >= 0"):
        ks.create_analyzer("lrp.alpha_beta", mlp(), conventions, **options)


@pytest.mark.parametrize("name", ["lrp.epsilon", "lrp.sequential_preset_a", "lrp.sequential_preset_b_flat_until_idx"])
def test_an_epsilon_of_zero(name):
    for epsilon in (0, -0.1):
        with pytest.raises(ks.BadInputError, match=r"epsilon must be above 0.*got -?0"):
            ks.create_analyzer(name, mlp(), "innvestigate", epsilon=epsilon)
    assert ks.create_analyzer(name, mlp(), epsilon=0)


@pytest.mark.parametrize("activation", ["gelu", "tanh", "leaky_relu"])
@pytest.mark.parametrize("name", [name for name in ANALYZERS if "taylor" in name or "preset" in name])
def test_activations_that_2_1_2_refuses(name, activation):
    options = {"low": -1, "high": 1} if "bounded" in name else {}
    with pytest.raises(ks.IncompatibleMethodError, match=f"is {activation}: iNNvestigate 2.1.2 refuses"):
        asked(name, mlp(activation), samples((5,)), **options)


def test_activations_that_2_1_2_takes():
    for name in ("lrp.epsilon", "lrp.flat"):
        assert asked(name, mlp("gelu"), samples((5,)))[0].shape == (3, 5)
    capped = stack((5,), layers.Dense(4), layers.ReLU(6.0), layers.Dense(2))  # the layer counts as a ReLU there
    assert asked("deep_taylor", capped, samples((5,)))[0].shape == (3, 5)


@pytest.mark.parametrize("named", ["AlphaBeta", "AlphaBetaIgnoreBias"])
@pytest.mark.parametrize("conventions", ["kerascope", "innvestigate"])
def test_rules_whose_name_says_too_little(conventions, named):
    with pytest.raises(ks.BadInputError, match=r"says no alpha and beta\. Use lrp\.alpha_beta"):
        ks.create_analyzer("lrp", mlp(), conventions, rule=named)


def test_the_presets_rule_of_batch_normalisation_by_its_name(float64):
    model, x, preset, named = normalized(), samples((5,)), "lrp.sequential_preset_a", "AlphaBetaX2m100"
    found = asked(preset, model, x)[0]
    same(asked(preset, model, x, bn_layer_rule=named)[0], found)
    stabilised = asked(preset, model, x, epsilon=1e-7)[0]
    same(asked("lrp", model, x, rule="Epsilon", bn_layer_rule=named)[0], stabilised)
    differ(asked(preset, model, x, bn_layer_rule="Z")[0], found)
    assert ks.create_analyzer(preset, model, bn_layer_rule=named)  # the default, so it asks for nothing
    with pytest.raises(ks.BadInputError, match="is no rule of ours"):
        ks.create_analyzer("lrp", model, rule=named)


def test_bounds_at_a_layer_that_does_not_read_the_input(float64):
    """2.1.2 puts them anywhere; ours are bounds of the model's input."""
    model, x = mlp(), samples((5,))
    assert asked("lrp", model, x, rule="Bounded")[0].shape == x.shape
    for rule in ("Bounded", ["Bounded", "Z", "Z"], [(lambda layer: True, "Bounded")]):
        with pytest.raises(
            ks.BadInputError, match=r"'Bounded' at layer .* on a first layer only\. Give input_layer_rule"
        ):
            ks.create_analyzer("lrp", model, rule=rule).analyze(x)
    first = ks.create_analyzer("lrp", model, rule=["Z", "Z", "Bounded"]).analyze(x)
    same(first, ks.create_analyzer("lrp", model, rule="Z", input_layer_rule=(-1, 1)).analyze(x))
