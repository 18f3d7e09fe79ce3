"""Which rule stands where: selectors, first layers, bounds on their way in, presets, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope import rules
from kerascope.lrp.presets import PRESETS
from kerascope.lrp.rules import Branch, Site, Term
from tests.conftest import narrowing
from tests.reference.nets import cnn, mlp, samples, stack, weigh
from tests.reference.run import TIGHT, Bench, differ, explain, same
from tests.reference.test_conservation import network_replica
from tests.reference.test_rules import RULES

SHAPE = (6, 6, 2)


def deep() -> Any:
    """Return two convolutions, a depthwise one and two dense layers."""
    parts = [
        layers.Conv2D(4, 3, padding="same", activation="relu", name="in"),
        layers.MaxPooling2D(name="pool"),
        layers.DepthwiseConv2D(2, activation="relu", name="middle"),
        layers.Flatten(name="flat"),
        layers.Dense(6, activation="relu", name="hidden"),
        layers.Dense(3, activation="softmax", name="out"),
    ]
    return stack(SHAPE, *parts)


def table(bench: Bench, method: Any, **options: Any) -> dict[str, str]:
    """Return the rule of every operation by its name."""
    return {row["node"]: row["rule"] for row in ks.Explainer.on(bench.session, method, **options).rule_table()}


KERNELS = ("in", "middle", "hidden", "out")
EXPECTED = {
    "lrp": ["WSquare", "Gamma", "Epsilon", "Epsilon"],
    "lrp.zero": ["Zero"] * 4,
    "lrp.epsilon": ["Epsilon"] * 4,
    "lrp.gamma": ["Gamma"] * 4,
    "lrp.z_plus": ["ZPlus"] * 4,
    "lrp.alpha1_beta0": ["AlphaBeta(alpha=1.0, beta=0.0"] * 4,
    "lrp.alpha2_beta1": ["AlphaBeta(alpha=2.0, beta=1.0"] * 4,
    "lrp.flat": ["Flat"] * 4,
    "lrp.w_square": ["WSquare"] * 4,
    "lrp.z_box": ["ZBox", "ZPlus", "ZPlus", "ZPlus"],
    "lrp.epsilon_plus": ["ZPlus", "ZPlus", "Epsilon", "Epsilon"],
    "lrp.epsilon_plus_flat": ["Flat", "ZPlus", "Epsilon", "Epsilon"],
    "lrp.epsilon_alpha2_beta1": ["AlphaBeta(alpha=2.0"] * 2 + ["Epsilon"] * 2,
    "lrp.epsilon_alpha2_beta1_flat": ["Flat", "AlphaBeta(alpha=2.0", "Epsilon", "Epsilon"],
    "lrp.epsilon_gamma_box": ["ZBox", "Gamma", "Epsilon", "Epsilon"],
    "lrp.excitation_backprop": ["ZPlus"] * 4,
    "deep_taylor": ["WSquare", "ZPlus", "ZPlus", "ZPlus"],
    "deep_taylor.bounded": ["ZBox", "ZPlus", "ZPlus", "ZPlus"],
}
IGNORING = ("lrp.z_plus", "lrp.excitation_backprop", "deep_taylor", "deep_taylor.bounded")
BOXED = {"low": -1.0, "high": 1.0}


@pytest.mark.parametrize("name", EXPECTED)
def test_presets(name, float64):
    """Each named composite puts the rules of its paper on convolutions, dense layers and the first layer."""
    options = BOXED if "ZBox" in EXPECTED[name] else {}
    found = table(Bench(deep(), samples(SHAPE)), name, **options)
    for node, rule in zip(KERNELS, EXPECTED[name], strict=True):
        assert found[node].startswith(rule), node
        if "bias=" in found[node]:
            assert f"bias={'ignore' if name in IGNORING else 'absorb'!r}" in found[node]
    assert found["pool"] == "winner takes all"
    assert found["flat"] == "back to its cells"
    assert found["in/relu"] == "pass"
    assert "softmax" not in " ".join(found)


def test_every_preset_is_listed():
    """A new preset gets its row above."""
    listed = {name.removeprefix("lrp.") for name in EXPECTED if name != "lrp"} | {"default", "alpha_beta"}
    assert listed == set(PRESETS)


def test_lrp_uses_the_box_only_with_both_bounds(float64):
    """`lrp` puts w^2 first, and the box rule once low and high are given."""
    bench = Bench(deep(), samples(SHAPE))
    assert table(bench, "lrp")["in"].startswith("WSquare")
    assert table(bench, "lrp", low=-1.0)["in"].startswith("WSquare")
    assert table(bench, "lrp", **BOXED)["in"] == "ZBox(low=-1.0, high=1.0)"


def test_selectors(float64):
    """A class, a glob, the first layer or a predicate; the first match wins; bias= goes to all rules."""
    bench = Bench(deep(), samples(SHAPE))
    composite = ks.Composite(
        [
            ("hid*", rules.Flat()),
            (layers.Dense, rules.Epsilon(0.5)),
            (ks.first_layer, rules.Gamma(0.1)),
            (lambda node: node.op.form == "depthwise", rules.AlphaBeta(3.0, 2.0)),
            ("*", rules.Zero()),
        ]
    )
    found = table(bench, ks.LRP(composite=composite))
    assert [found[node].split("(")[0] for node in KERNELS] == ["Gamma", "AlphaBeta", "Flat", "Epsilon"]
    assert "bias='ignore'" in table(bench, ks.LRP(composite=composite, bias="ignore"))["in"]
    differ(bench.values(ks.LRP(composite=composite)), bench.values(ks.LRP(composite=composite, bias="ignore")))
    with pytest.raises(ks.UnsupportedLayerError, match=r"no rule for layer 'middle' \(DepthwiseConv2D\)"):
        bench(ks.LRP(composite=ks.Composite([("in", rules.Zero()), (layers.Dense, rules.Zero())])))
    with pytest.raises(ks.BadInputError, match="a list of"):
        ks.Composite([rules.Zero()])


def test_an_unfolded_batch_norm_takes_a_rule_of_its_own(float64):
    """Only a class or a predicate names it: not "*", which is about kernels."""
    norm = layers.BatchNormalization(name="norm")
    model = stack(SHAPE, layers.ReLU(), norm, layers.Flatten(), layers.Dense(3))
    bench = Bench(model, samples(SHAPE))
    assert table(bench, "lrp.zero")["norm"].startswith("Epsilon(epsilon=1e-06")
    named = ks.Composite([(layers.BatchNormalization, rules.Pass()), ("*", rules.Zero())])
    assert table(bench, ks.LRP(composite=named))["norm"] == "Pass()"
    assert table(bench, ks.LRP(composite=ks.Composite([("*", rules.Zero())])))["norm"].startswith("Epsilon")


# First layers ---------------------------------------------------------------------------------


def test_first_layers_of_every_branch(float64):
    """All kernels that read an input through rearrangements and normalisation are first layers; no others."""
    one, two = layers.Input((4,), name="one"), layers.Input((6,), name="two")
    left = layers.Dense(3, activation="relu", name="left")(layers.Rescaling(2.0)(one))
    right = layers.Dense(3, activation="relu", name="right")(layers.BatchNormalization()(two))
    across = layers.Dense(3, activation="relu", name="across")(layers.Concatenate()([one, two]))
    later = layers.Dense(3, name="later")(layers.Concatenate()([left, right, across]))
    bent = layers.Dense(3, name="bent")(layers.Activation("relu")(two))
    model = weigh(keras.Model([one, two], layers.Add()([later, bent])))
    x = [samples((4,)), samples((6,), seed=2)]
    found = explain(model, x, "lrp.epsilon_plus_flat")
    chosen = {row["node"]: row["rule"] for row in found.attrs["rules"]}
    for name in ("left", "right", "across"):
        assert chosen[name] == "Flat()"
    for name in ("later", "bent"):
        assert chosen[name].startswith("Epsilon")
    assert np.max(np.abs(found.completeness_gap)) < 1e-9
    boxed = explain(model, x, "lrp.z_box", low=[-1.0, -2.0], high=[1.0, np.full(6, 2.0)])
    assert np.max(np.abs(boxed.completeness_gap)) < 1e-9
    with pytest.raises(ks.BadInputError, match="holds 3 bounds; the model has 2 inputs"):
        explain(model, x, "lrp.z_box", low=[-1.0, -2.0, 0.0], high=2.0)


NORMALISATIONS: dict[str, tuple[Any, Any]] = {
    "Rescaling": (lambda x: layers.Rescaling(3.0, -1.0)(x), lambda v: 3 * v - 1),
    "turned round": (lambda x: layers.Rescaling(-2.0, 0.5)(x), lambda v: 0.5 - 2 * v),
    "Normalization": (
        lambda x: layers.Normalization(mean=[0.125, 0.25], variance=[4.0, 0.25])(x),
        lambda v: (v - np.array([0.125, 0.25])) / np.array([2.0, 0.5]),
    ),
    "one after the other": (lambda x: layers.Rescaling(0.5)(layers.Rescaling(-1.0, 2.0)(x)), lambda v: 1 - v / 2),
    "in two parts": (
        lambda x: ops.concatenate([part * 2.0 for part in ops.split(x, 2, axis=1)], axis=1),
        lambda v: 2 * v,
    ),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_bounds_are_carried_to_the_first_layer(name, float64):
    """The box rule behind a change of units is the box rule on changed inputs with changed bounds."""
    change, by_hand = NORMALISATIONS[name]
    inputs = layers.Input((4, 2))
    parts = [layers.Conv1D(3, 2, activation="relu"), layers.Flatten(), layers.Dense(3)]
    plain = stack((4, 2), *parts)
    value = change(inputs)
    for part in parts:
        value = part(value)
    model, x = keras.Model(inputs, value), samples((4, 2))
    low, high = np.full((4, 2), -1.0), np.linspace(1, 2, 8).reshape(4, 2)
    ends = by_hand(low), by_hand(high)
    found = Bench(model, x).values("lrp.z_box", low=low, high=high)
    expected = Bench(plain, by_hand(x)).values("lrp.z_box", low=np.minimum(*ends), high=np.maximum(*ends))
    same(found, expected)


def test_the_box_rule_stands_on_first_layers_only(float64):
    """Anywhere else it has no bounds to count from, and says so."""
    bench = Bench(mlp(), samples((5,)))
    with pytest.raises(ks.BadInputError, match="can only stand on a first layer"):
        bench(ks.LRP(composite=ks.Composite([("*", rules.ZBox(-1.0, 1.0))])))


# What is refused --------------------------------------------------------------------------------


def test_what_has_no_rule_is_named(float64):
    """An attention-like softmax inside, or a recurrent layer: refused, naming the layer and what to do."""
    inputs = layers.Input((4, 3))
    weights = layers.Softmax(axis=1, name="attention")(layers.Dense(1)(inputs))
    pooled = layers.Dense(4, name="below")(ops.sum(weights * inputs, axis=1))
    model = weigh(keras.Model(inputs, layers.Dense(2)(pooled)))
    bench = Bench(model, samples((4, 3)))
    with pytest.raises(ks.UnsupportedLayerError, match=r"no rule for 'attention' \(Softmax\).*integrated_gradients"):
        bench("lrp")
    recurrent = stack((4, 3), layers.Conv1D(3, 2, name="before"), layers.LSTM(3, name="memory"), layers.Dense(2))
    lstm = Bench(recurrent, samples((4, 3)))
    with pytest.raises(ks.UnsupportedLayerError, match="'memory'"):
        lstm("lrp.epsilon")
    found = lstm("lrp.epsilon", target=ks.Neuron("before", (1, 2)))
    assert np.max(np.abs(found.completeness_gap)) < 1e-9
    assert np.all(found.values[:, 3] == 0)
    for method in ("deep_taylor", "guided_backprop", "deconvnet"):
        with pytest.raises(ks.IncompatibleMethodError, match="ReLU networks; 'memory'"):
            lstm(method)
        with pytest.raises(ks.IncompatibleMethodError, match="ReLU6 is not ReLU"):
            explain(stack((5,), layers.Dense(3, activation="relu6"), layers.Dense(2)), samples((5,)), method)


def test_wrong_options(float64):
    """Names, conventions and fields that a composite does not read are refused when the method is made."""
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: ks.LRP(composite="epsilonplus"), ks.UnknownNameError, "Did you mean 'epsilon_plus'"),
        (lambda: ks.LRP(composite="flat", epsilon=0.1), ks.BadInputError, "no use for epsilon="),
        (lambda: ks.LRP(composite="flat", low=np.zeros(5)), ks.BadInputError, "no use for low="),
        (lambda: ks.LRP(bias="share"), ks.BadInputError, "'absorb' or 'ignore'"),
        (lambda: ks.LRP(start="value"), ks.BadInputError, "'logit' or 'one'"),
        (lambda: ks.LRP(epsilon=-1.0), ks.BadInputError, "cannot be negative"),
        (lambda: rules.AlphaBeta(2.0, 2.0), ks.BadInputError, "alpha - beta = 1"),
        (lambda: rules.AlphaBeta(0.5, -0.5), ks.BadInputError, "beta >= 0"),
        (lambda: explain(mlp(), samples((5,)), "lrp.alpha_beta"), ks.UnknownNameError, "lrp.alpha2_beta1"),
        (lambda: explain(mlp(), samples((5,)), "lrp.epsilon", epsilom=1.0), ks.UnknownNameError, "'epsilon'"),
    ]
    for make, error, words in wrong:
        with pytest.raises(error, match=words):
            make()


def test_options_of_a_composite_are_those_of_its_rules(float64):
    """epsilon, gamma, alpha and beta go to the rules that have them; start says what stands at the output."""
    bench = Bench(cnn(), samples(SHAPE))
    by_hand = ks.Composite(
        [
            (ks.first_layer, rules.WSquare()),
            (lambda node: node.op.form == "conv", rules.Gamma(0.7)),
            ("*", rules.Epsilon(0.05)),
        ]
    )
    same(bench.values("lrp", gamma=0.7, epsilon=0.05), bench.values(ks.LRP(composite=by_hand)))
    free = ks.LRP(composite="alpha_beta", alpha=1.5, beta=0.5)
    same(bench.values(free), bench.values(ks.LRP(composite=ks.Composite([("*", rules.AlphaBeta(1.5, 0.5))]))))
    logit = bench.logits()[:, 0].reshape(3, 1, 1, 1)
    same(bench.values("lrp", start="one") * logit, bench.values("lrp"))
    positive = bench.values("deep_taylor", start="one", target=ks.TopClass())
    top = np.max(bench.logits(), axis=1).reshape(3, 1, 1, 1)
    same(positive * np.maximum(top, 0), bench.values("deep_taylor", target=ks.TopClass()))


@dataclass(frozen=True)
class Absolute(rules.Rule):
    """A rule of a user's own: shares by |W|."""

    def branches(self, site: Site) -> tuple[Branch, ...]:
        return (Branch((Term(ops.ones_like, ops.abs(site.op.kernel)),)),)


def test_a_rule_of_ones_own(float64):
    """It needs no registration, conserves by itself, and is named in the table."""
    bench = Bench(mlp(), samples((5,)))
    method = ks.LRP(composite=ks.Composite([("*", Absolute())]))
    found = bench(method)
    assert np.max(np.abs(found.completeness_gap)) < 1e-12
    same(found.values.sum(axis=1), found.explained)
    assert set(table(bench, method).values()) == {"Absolute()", "pass"}


def test_float64_holds_outside_the_tests(float64, monkeypatch):
    """Without the fixture's lift of Keras' narrowing, rules prepared for a float64 model are float64 all the same."""
    bench = Bench(mlp(), samples((5,)))
    if "float64" in narrowing():
        monkeypatch.setitem(narrowing(), "float64", "float32")
    for label in ("Zero_absorb", "Gamma_0.25_absorb", "AlphaBeta_2.0_1.0_absorb", "WSquare", "Flat"):
        row = RULES[label]
        found = bench(ks.LRP(composite=ks.Composite([("*", row.rule)])))
        same(found.values, network_replica(row, bench, found.explained)[0], TIGHT, what=label)
