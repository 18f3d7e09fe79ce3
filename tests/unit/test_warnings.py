"""What a result must warn of: each warning where it belongs, and nowhere else."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import kerascope as ks

ALIKE, BIASED = "relevance follows positive contributions only", "derived for biases of at most 0"
STANDARDISED = "of the samples may be standardised"


def dense(layers: int, *, bias: float = 0.0, seed: int = 0, cells: int = 12) -> Any:
    """A ReLU network with so many dense layers, five outputs, all biases alike."""
    import keras

    hidden = [keras.layers.Dense(24, activation="relu", name=f"hidden_{i}") for i in range(layers - 1)]
    model = keras.Sequential([keras.Input((cells,)), *hidden, keras.layers.Dense(5, name="top")])
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            np.full(w.shape, bias) if w.ndim == 1 else rng.normal(size=w.shape) / np.sqrt(len(w) / 2)
            for w in model.get_weights()
        ]
    )
    return model


def samples(count: int = 4, cells: int = 12) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, cells)).astype("float32")


def explained(model: Any, x: np.ndarray, method: Any, **options: Any) -> ks.Explanation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.explain(model, x, method, **options)


def said(text: str, *asked: Any, **options: Any) -> list[str]:
    return [warning for warning in explained(*asked, **options).warnings if text in warning]


# Positive contributions only ----------------------------------------------------------


@pytest.mark.parametrize("method", ["lrp.z_plus", "lrp.alpha1_beta0", "lrp.excitation_backprop", "deep_taylor"])
def test_positive_rules_in_deep_networks(method: str) -> None:
    (text,) = said(ALIKE, dense(6), samples(), method)
    assert "Above the first of 6 layers" in text
    assert said(ALIKE, dense(5), samples(), method)
    assert not said(ALIKE, dense(4), samples(), method)


@pytest.mark.parametrize(
    "method", ["lrp", "lrp.epsilon", "lrp.alpha2_beta1", "lrp.epsilon_plus", "lrp.gamma", "gradient"]
)
def test_other_rules_in_deep_networks(method: str) -> None:
    assert not said(ALIKE, dense(6), samples(), method)


def test_one_other_rule_is_enough_unless_it_is_the_first() -> None:
    positive, top, first = ("*", ks.rules.ZPlus()), ("top", ks.rules.Epsilon()), (ks.first_layer, ks.rules.Flat())
    assert not said(ALIKE, dense(6), samples(), ks.LRP(ks.Composite([top, positive])))
    assert said(ALIKE, dense(6), samples(), ks.LRP(ks.Composite([first, positive])))


def test_layers_beside_each_other_are_no_depth() -> None:
    import keras

    given = keras.Input((12,))
    beside = [keras.layers.Dense(3, activation="relu")(given) for _ in range(6)]
    wide = keras.Model(given, keras.layers.Dense(4)(keras.layers.Concatenate()(beside)))
    assert not said(ALIKE, wide, samples(), "lrp.z_plus")


def test_a_target_inside_counts_the_layers_below_it() -> None:
    target = ks.Neuron("hidden_3", 2)
    assert not said(ALIKE, dense(8), samples(), "lrp.z_plus", target=target)
    assert said(ALIKE, dense(8), samples(), "lrp.z_plus")


def test_the_warning_is_right() -> None:
    """Cosines between maps of two classes: near 1 where it warns, far from it under another rule."""
    model, x = dense(7), samples(8)
    cosines = {}
    for method in ("lrp.z_plus", "lrp.epsilon"):
        maps = explained(model, x, method, target="all", start="one").values.astype(np.float64)
        maps /= np.linalg.norm(maps, axis=-1, keepdims=True)
        pairs = itertools.combinations(range(5), 2)
        cosines[method] = np.mean([np.abs((maps[:, a] * maps[:, b]).sum(axis=-1)).mean() for a, b in pairs])
    assert cosines["lrp.z_plus"] > 0.95
    assert cosines["lrp.epsilon"] < 0.7


# Biases under Deep Taylor -------------------------------------------------------------


def test_positive_biases_under_deep_taylor() -> None:
    (text,) = said(BIASED, dense(3, bias=0.1), samples(), "deep_taylor")
    assert "'hidden_0' and 2 more layers have positive ones" in text
    assert "is credited to the inputs" in text
    (text,) = said(BIASED, dense(3, bias=0.1), samples(), "deep_taylor.bounded", low=-9.0, high=9.0, bias="absorb")
    assert text.endswith("is absorbed.")
    assert not said(BIASED, dense(3, bias=-0.1), samples(), "deep_taylor")
    assert not said(BIASED, dense(3), samples(), "deep_taylor")
    assert not said(BIASED, dense(3, bias=0.1), samples(), "lrp.z_plus")
    one = dense(3, bias=-0.1)
    one.get_layer("top").bias.assign([-1.0, 0.0, 0.2, 0.0, 0.0])
    (text,) = said(BIASED, one, samples(), "deep_taylor")
    assert "'top' has positive ones" in text
    assert not said(BIASED, one, samples(), "deep_taylor", target=ks.Neuron("hidden_1", 0))


# A baseline of zeros ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift"])
def test_a_baseline_of_zeros_for_standardised_data(method: str) -> None:
    model, x = dense(2, cells=60), samples(5, 60)
    for zeros in ("zeros", 0.0, np.zeros((60,), "float32")):
        (text,) = said(STANDARDISED, model, x, method, baseline=zeros)
        assert text.startswith("5 of the samples may be standardised")
    assert said(STANDARDISED, model, x, method, baseline="zeros", batch_size=2) == [text]  # whatever the batches
    for baseline in (0.5, x[0], "mean"):
        assert not said(STANDARDISED, model, x, method, baseline=baseline, background=x + 0.5)
    assert not said(STANDARDISED, model, x, method, background=x[:2])
    assert not said(STANDARDISED, model, np.abs(x), method, baseline="zeros")
    assert not said(STANDARDISED, model, 50 * x, method, baseline="zeros")  # a signal around 0, in units of its own
    assert not said(STANDARDISED, model, x + 2, method, baseline="zeros")
    assert not said(STANDARDISED, dense(2), samples(5), method, baseline="zeros")  # too few cells to say


def test_a_baseline_of_zeros_for_players() -> None:
    model, x = dense(2, cells=60), samples(2, 60)
    options = {"groups": np.repeat(np.arange(4), 15)}
    assert said(STANDARDISED, model, x, "shapley_exact", baseline="zeros", **options)
    assert not said(STANDARDISED, model, x, "shapley_exact", background=x + 1.0, **options)
