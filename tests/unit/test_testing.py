"""`kerascope.testing`: a user's own method and rule pass; every contract is seen broken."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import kerascope as ks
from kerascope.lrp import rules
from kerascope.methods.base import Attribution, Method
from kerascope.testing import ContractError, check_method, check_rule, model_state


@dataclass(frozen=True)
class Mine(Method):
    """The ten lines a user writes."""

    power: float = 1.0

    family: ClassVar[str] = "function"
    question: ClassVar[str] = "How steep is the output here, to some power?"
    paper: ClassVar[str] = "none yet"

    def attribute(self, session, batch):
        grads, _explained, _logits = session.gradients(batch.inputs, batch.selection)
        return Attribution(values=tuple(np.abs(g) ** np.asarray(self.power, g.dtype) for g in grads))


def test_a_method_of_ones_own_keeps_all_contracts_without_registration():
    checked = check_method(Mine(power=2.0))
    assert {
        "facts",
        "round trip",
        "shape and dtype",
        "finite",
        "nothing changed",
        "same seed",
        "other seed",
        "order",
        "single calls",
        "batch size",
        "targets per sample",
        "several targets",
        "compiled",
    } == set(checked)
    e = ks.explain(small_model(), samples(), Mine())
    assert e.method == Mine()
    assert e.attrs["method"]["name"] == "Mine"


@pytest.mark.parametrize("name", ["gradient", "input_x_gradient", "lrp.epsilon", "occlusion"])
def test_registered_methods_pass_by_name(name):
    assert "finite" in check_method(name)


def test_promises_are_checked_where_they_are_made():
    assert {"linear model", "completeness"} <= set(check_method(ks.IntegratedGradients(steps=8), compiled=False))
    assert "linear model" not in check_method(ks.Saliency(), compiled=False)


def test_a_users_model_and_samples():
    model = small_model()
    assert "finite" in check_method(Mine(), model, x=samples(), background=samples(5), compiled=False)
    with pytest.raises(ks.IncompatibleMethodError, match="spatial axes"):
        check_method(ks.GradCAM(), model, x=samples())
    with pytest.raises(ks.KerascopeError, match="at least three samples; got 2"):
        check_method(Mine(), model, x=samples(2))


def small_model():
    model = keras.Sequential(
        [keras.layers.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def samples(count=3):
    return np.random.default_rng(1).normal(size=(count, 4, 3)).astype("float32")


# Each contract broken once ------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Mine):
    """`Mine` with something done to its values."""

    def attribute(self, session, batch):
        found = super().attribute(session, batch)
        return replace(found, values=tuple(self.spoil(v, session, batch) for v in found.values))

    def spoil(self, values, session, batch):
        raise NotImplementedError


class WrongShape(Broken):
    def spoil(self, values, session, batch):
        return values[:, 0]


class WrongType(Broken):
    def attribute(self, session, batch):
        return super().attribute(session, batch).values

    def spoil(self, values, session, batch):
        return values


class WrongDtype(Broken):
    def spoil(self, values, session, batch):
        return values.astype("float64" if values.dtype == "float32" else "float32")


class NotFinite(Broken):
    def spoil(self, values, session, batch):
        with np.errstate(divide="ignore"):
            return 1 / (0 * values)


class InPlace(Broken):
    def spoil(self, values, session, batch):
        batch.inputs[0][...] *= 2
        return values


class WritesWeights(Broken):
    def spoil(self, values, session, batch):
        weight = session.view.model.weights[0]
        weight.assign(weight + 1e-3)
        return values


class Freezes(Broken):
    def spoil(self, values, session, batch):
        session.view.model.layers[-1].trainable = False
        return values


class AddsNodes(Broken):
    def spoil(self, values, session, batch):
        view = session.view
        keras.Model(view.model.inputs, view.model.layers[-1](view.model.layers[-2].output))
        return values


class LeavesWeightsAfterAnError(Mine):
    def attribute(self, session, batch):
        try:
            return super().attribute(session, batch)
        except Exception:
            weight = session.view.model.weights[0]
            weight.assign(weight + 1e-3)
            raise


class Clock(Broken):
    def spoil(self, values, session, batch):
        seed = time.perf_counter_ns()
        return values + np.random.default_rng(seed).normal(size=values.shape).astype(values.dtype)


class SaysItIsRandom(Mine):
    stochastic: ClassVar[bool] = True


class SecretlyRandom(Broken):
    def spoil(self, values, session, batch):
        noise = np.random.default_rng(batch.seed).normal(size=values.shape[2:])
        return values + noise.astype(values.dtype)


class ByPlace(Broken):
    def spoil(self, values, session, batch):
        return values * np.arange(1, len(values) + 1, dtype=values.dtype).reshape(-1, *[1] * (values.ndim - 1))


class AcrossSamples(Broken):
    def spoil(self, values, session, batch):
        return values - values.mean(axis=0)


class ByBatchSize(Broken):
    def spoil(self, values, session, batch):
        return values / np.asarray(session.batch_size, values.dtype)


class FirstTargetForAll(Mine):
    def attribute(self, session, batch):
        selection = batch.selection
        first = replace(selection, codes=np.repeat(selection.codes[:1], len(batch), axis=0))
        return super().attribute(session, replace(batch, selection=first))


class FirstOfSeveralTargets(Broken):
    def spoil(self, values, session, batch):
        return np.repeat(values[:, :1], values.shape[1], axis=1)


@dataclass(frozen=True)
class Complete(Mine):
    """x * gradient times something, perhaps in the wrong order, with a claim about its sum."""

    scale: float = 1.0
    claim: float = 1.0
    turned: bool = False

    promise: ClassVar[str] = "the explained number, on networks without biases"
    exact_on_linear = True

    def attribute(self, session, batch):
        grads, explained, _ = session.gradients(batch.inputs, batch.selection)
        values = tuple(
            np.asarray(self.scale, g.dtype) * x[:, None] * g for x, g in zip(batch.inputs, grads, strict=True)
        )
        values = tuple(v[..., ::-1] for v in values) if self.turned else values
        linear = len(session.view.model.layers) < 3
        return Attribution(values=values, expected=self.claim * explained if linear else None)


class PromisesNothingToKeep(Mine):
    promise: ClassVar[str] = "the explained number"


class ClaimsWithoutPromise(Complete):
    promise: ClassVar[str] = ""


class NoQuestion(Mine):
    question: ClassVar[str] = ""


class OddFamily(Mine):
    family: ClassVar[str] = "magic"


class OddRepr(Mine):
    def __repr__(self):
        return "a method of mine"


@dataclass(frozen=True)
class ForgetsOption(Mine):
    hidden: Any = None

    @property
    def options(self):
        return {"power": self.power, "hidden": [1, 2]} if self.hidden is None else {"power": 0.0, "hidden": None}


class OtherWhenCompiled(Broken):
    def spoil(self, values, session, batch):
        return values * 2 if session.compile else values


BROKEN = {
    "facts": [NoQuestion(), OddFamily()],
    "round trip": [OddRepr(), ForgetsOption()],
    "shape and dtype": [WrongShape(), WrongType(), WrongDtype()],
    "finite": [NotFinite()],
    "nothing changed": [InPlace(), WritesWeights(), Freezes(), AddsNodes(), LeavesWeightsAfterAnError()],
    "same seed": [Clock()],
    "other seed": [SaysItIsRandom(), SecretlyRandom()],
    "order": [ByPlace()],
    "single calls": [AcrossSamples()],
    "batch size": [ByBatchSize()],
    "targets per sample": [FirstTargetForAll()],
    "several targets": [FirstOfSeveralTargets()],
    "completeness": [
        Complete(scale=1.5),
        Complete(claim=2.0, scale=2.0),
        PromisesNothingToKeep(),
        ClaimsWithoutPromise(),
    ],
    "linear model": [Complete(turned=True)],
    "compiled": [OtherWhenCompiled()],
}
CASES = [(contract, method) for contract, methods in BROKEN.items() for method in methods]


@pytest.mark.parametrize(("contract", "method"), CASES, ids=[type(m).__name__ for _, m in CASES])
def test_every_contract_catches_a_method_that_breaks_it(contract, method):
    model = fresh_linear() if isinstance(method, Complete) else fresh_model()
    with pytest.raises(ContractError) as caught:
        check_method(method, model)
    assert caught.value.contract == contract, str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert type(method).__name__ in str(caught.value)


def fresh_model():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((5, 4, 1)),
            layers.Conv2D(3, 2, activation="tanh"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def fresh_linear():
    model = keras.Sequential(
        [keras.layers.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def test_changed_gradients_of_parameters_are_seen(backend):
    if backend != "torch":
        pytest.skip("only PyTorch keeps gradients on parameters")
    model = fresh_model()
    before = model_state(model)
    ops.sum(model(np.ones((1, 5, 4, 1), "float32"))).backward()
    after = model_state(model)
    assert [name for name in before if before[name] != after[name]] == ["gradients of parameters"]


def test_the_global_random_state_is_left_alone():
    np.random.seed(7)
    first = np.random.random()
    np.random.seed(7)
    check_method(Mine(), compiled=False)
    assert np.random.random() == first


# Rules --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Half(rules.Rule):
    """A user's own rule: half of epsilon's, half of flat's."""

    def branches(self, site):
        half = [replace(b, weight=0.5 * b.weight) for b in rules.Epsilon(1e-3).branches(site)]
        return (*half, *(replace(b, weight=0.5 * b.weight) for b in rules.Flat().branches(site)))


ALL_RULES = [
    rules.Zero(),
    rules.Epsilon(),
    rules.Epsilon(0.1, bias="ignore"),
    rules.Gamma(),
    rules.AlphaBeta(),
    rules.AlphaBeta(3.0, 2.0),
    rules.ZPlus(),
    rules.ZPlus(bias="ignore"),
    rules.WSquare(),
    rules.Flat(),
    rules.ZBox(-3.0, 3.0),
    rules.Pass(),
    Half(),
]


@pytest.mark.parametrize("rule", ALL_RULES, ids=repr)
def test_rules_keep_the_contracts(rule):
    assert {"conservation", "known signs", "nothing changed"} <= set(check_rule(rule))


class Unweighted(Half):
    def branches(self, site):
        return rules.Epsilon(1e-3).branches(site) + rules.Flat().branches(site)


class ListOfBranches(Half):
    def branches(self, site):
        return list(super().branches(site))


class DividesByZero(Half):
    def branches(self, site):
        kernel = site.op.kernel / (0 * site.op.kernel)
        return (rules.Branch((rules.Term(ops.ones_like, kernel),)),)


class MeanOfBatch(Half):
    def branches(self, site):
        term = rules.Term(lambda x: ops.zeros_like(x) + ops.mean(x, axis=0, keepdims=True), site.op.kernel)
        return (rules.Branch((term,), epsilon=1e-3),)


class WrongSigns(Half):
    def branches(self, site):
        return (rules.Flat() if site.non_negative else rules.Zero()).branches(site)


class ByClock(Half):
    def branches(self, site):
        noise = np.random.default_rng(time.perf_counter_ns()).random(site.op.kernel.shape)
        kernel = ops.convert_to_tensor(noise.astype("float32"))
        return (rules.Branch((rules.Term(ops.ones_like, kernel),)),)


class OddlyWritten(Half):
    def __repr__(self):
        return "Half of it"


BROKEN_RULES = {
    "weights": Unweighted(),
    "branches": ListOfBranches(),
    "finite": DividesByZero(),
    "single samples": MeanOfBatch(),
    "known signs": WrongSigns(),
    "repeatable": ByClock(),
    "round trip": OddlyWritten(),
}


@pytest.mark.parametrize("contract", BROKEN_RULES)
def test_every_contract_catches_a_rule_that_breaks_it(contract):
    with pytest.raises(ContractError) as caught, contextlib.suppress(RuntimeWarning):
        check_rule(BROKEN_RULES[contract])
    assert caught.value.contract == contract, str(caught.value)


def test_check_rule_wants_a_rule():
    with pytest.raises(ks.BadInputError, match=r"a rule object such as ks\.rules\.Epsilon\(\); got 'epsilon'"):
        check_rule("epsilon")
