"""What a result must warn of: each warning where it belongs, and nowhere else."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import kerascope as ks
from kerascope.report.words import sample_facts
from kerascope.view.text import headline

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


def test_a_fill_of_zeros_for_standardised_data() -> None:
    model, x = dense(2, cells=60), samples(5, 60)
    (text,) = said(STANDARDISED, model, x, "occlusion", fill="zeros")
    assert text.startswith("5 of the samples")
    assert not said(STANDARDISED, model, x, "occlusion", fill="linear")
    assert not said(STANDARDISED, model, x, "occlusion", background=x)


def test_a_baseline_of_zeros_for_players() -> None:
    model, x = dense(2, cells=60), samples(2, 60)
    options = {"groups": np.repeat(np.arange(4), 15)}
    assert said(STANDARDISED, model, x, "shapley_exact", baseline="zeros", **options)
    assert not said(STANDARDISED, model, x, "shapley_exact", background=x + 1.0, **options)


# Counts over batches ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kernel_shap", "lime"])
def test_too_few_coalitions_are_said_alike_whatever_the_batches(method: str) -> None:
    x, background = samples(4, 30), samples(3, 30) + 1
    texts = [
        said("do not settle", dense(2, cells=30), x, method, background=background, draws=20, batch_size=size)
        for size in (4, 3, 1)
    ]
    assert len(texts[0]) == 1
    assert "20 coalitions do not settle" in texts[0][0]
    assert texts[1] == texts[2] == texts[0]


def test_only_counts_of_samples_and_maps_are_added_up() -> None:
    class Talks(ks.Gradient):
        def attribute(self, session: Any, batch: Any) -> Any:
            texts = ("2 samples are odd.", "1 of the samples is far.", "3 maps are empty.", "3 channels look dead.")
            return dataclasses.replace(super().attribute(session, batch), warnings=texts)

    found = explained(dense(2), samples(4), Talks(), batch_size=2).warnings
    assert found == ["4 samples are odd.", "2 of the samples is far.", "6 maps are empty.", "3 channels look dead."]


# What was explained -------------------------------------------------------------------

NEGATIVE = "one output unit; its"
PARTS = [
    "lrp",
    "lrp.epsilon",
    "lrp.alpha2_beta1",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
    "deeplift",
    "shapley_sampling",
    "kernel_shap",
]
NO_PARTS = [
    *("gradient", "saliency", "smoothgrad", "squaregrad", "vargrad", "noisegrad", "guided_backprop", "deconvnet"),
    *("lrp.excitation_backprop", "lrp.z_plus", "lrp.flat", "lime"),
]
NO_MAPS = ["deep_taylor", "random", "input", "edges"]  # a zero map, which has its own warning; no map of the unit


def one_unit(activation: str | None = None) -> Any:
    """A ReLU network with one output, negative for some of `samples()`."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1, activation=activation),
        ]
    )
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) / np.sqrt(len(w)) * (w.ndim > 1) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("method", PARTS)
def test_a_negative_logit_where_values_are_parts_of_it(method: str) -> None:
    e = explained(one_unit("sigmoid"), samples(9), method, background=samples(3) + 1)
    count = int(np.sum(e.explained < 0))
    assert 1 < count < 9
    (text,) = [text for text in e.warnings if NEGATIVE in text]
    assert f"its logit is negative for {count} samples" in text
    assert text.endswith("positive values raising it and negative ones lowering it.")
    assert not said(NEGATIVE, one_unit("sigmoid"), samples(9)[e.explained > 0], method, background=samples(3) + 1)


@pytest.mark.parametrize("method", NO_PARTS)
def test_a_negative_logit_where_values_are_no_parts_of_it(method: str) -> None:
    (text,) = said(NEGATIVE, one_unit("sigmoid"), samples(9), method, background=samples(3) + 1)
    assert text.endswith("their maps show that unit all the same, not what speaks against it.")


@pytest.mark.parametrize("method", NO_MAPS)
def test_a_negative_logit_without_a_map_of_it(method: str) -> None:
    assert not said(NEGATIVE, one_unit("sigmoid"), samples(9), method, background=samples(3) + 1)


def test_a_negative_output_is_no_logit_of_a_class() -> None:
    (text,) = said(NEGATIVE, one_unit("tanh"), samples(9), "input_x_gradient")
    assert "its output is negative for" in text
    assert text.endswith("positive values raising it and negative ones lowering it.")
    assert "logit" not in text
    assert "class" not in text
    (text,) = said(NEGATIVE, one_unit(), samples(9), ks.LRP("epsilon", start="one"))
    assert text.endswith("not what speaks against it.")


def test_deep_taylor_advises_a_contrast_only_where_there_is_one() -> None:
    positive = "not positive"
    (text,) = said(positive, one_unit(), samples(9), "deep_taylor")
    assert "contrast" not in text
    assert text.endswith("Use lrp.")
    (text,) = said(positive, dense(3), samples(9), "deep_taylor", target=0)
    assert text.endswith("Explain a contrast, or use lrp.")
    (text,) = said(positive, dense(3), samples(9), "deep_taylor", target=ks.Contrast(0, 1))
    assert text.endswith("Use lrp.")


SATURATED = "comes out of a softmax or sigmoid"


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient"])
def test_saturated_probabilities(method: str) -> None:
    import keras

    inputs = keras.Input((12,))
    top = keras.layers.Dense(2, name="top")(inputs)
    both = keras.layers.Average()([keras.layers.Softmax(name="first")(top), keras.layers.Softmax()(2 * top)])
    model = keras.Model(inputs, both)
    model.set_weights([np.stack([np.ones(12), -np.ones(12)], axis=1), np.zeros(2)])
    x = np.array([[1.0], [-1.0], [0.01], [0.0]], "float32") * np.ones((1, 12), "float32")
    for target in (0, ks.Neuron("first", 0)):
        (text,) = said(SATURATED, model, x, method, target=target)
        assert "is above 0.999 or below 0.001 for 2 samples" in text
        assert "Explain the logit" in text
        assert not said(SATURATED, model, x[2:], method, target=target)
        assert not said(SATURATED, model, x, "random", target=target)
        assert not said(SATURATED, model, x, "occlusion", fill="zeros", target=target)  # it asks at other inputs
    assert not said(SATURATED, model, x, method, target=ks.Neuron("top", 0))
    last = keras.Model(inputs, keras.layers.Softmax()(top))
    assert not said(SATURATED, last, x, method)


def test_the_noise_is_recorded() -> None:
    x = samples(4) * np.array([[1.0], [2.0], [3.0], [4.0]], "float32")
    e = explained(dense(2), x, "smoothgrad", draws=2, noise=0.2, batch_size=3)
    np.testing.assert_allclose(e.attrs["noise"], 0.2 * np.ptp(x, axis=1), rtol=1e-6)
    assert e[2].attrs["noise"] == [e.attrs["noise"][2]]
    e = explained(dense(2), x, "vargrad", draws=2, background=x[:2])
    np.testing.assert_allclose(e.attrs["noise"], np.full(4, 0.1 * np.ptp(x[:2])), rtol=1e-6)
    assert explained(dense(2), x, "gradient").attrs["noise"] is None


# The kind of number explained ---------------------------------------------------------


def heads() -> dict[str, tuple[Any, str]]:
    """Models by what their heads end in, and the word for what is explained of them."""
    import keras

    layers = keras.layers
    x = keras.Input((3,))

    def dense(activation: str | None = None, units: int = 2) -> Any:
        return layers.Dense(units, activation=activation)(x)

    found = {
        "linear": (dense(), "logit"),
        "softmax": (dense("softmax"), "logit"),
        "sigmoid": (dense("sigmoid", 1), "logit"),
        "log softmax": (dense("log_softmax"), "logit"),
        "reshaped, summed, scaled": (
            layers.Rescaling(0.5)(layers.Add()([dense(), layers.Reshape((2,))(dense())])),
            "logit",
        ),
        "largest": (layers.Maximum()([dense(), dense()]), "logit"),
        "tanh": (dense("tanh"), "output"),
        "relu": (dense("relu"), "output"),
        "average of probabilities": (layers.Average()([dense("softmax"), dense("softmax")]), "output"),
        "clipped": (keras.ops.clip(dense("softmax"), 0.01, 0.99), "output"),
        "rescaled": (layers.Rescaling(100.0)(dense("softmax")), "output"),
        "logit and probability": (layers.Add()([dense(), dense("sigmoid")]), "output"),
        "input and logit": (layers.Add()([x, dense(units=3)]), "output"),
        "a product": (layers.Multiply()([dense(), dense("sigmoid")]), "output"),
        "not a layer's": (keras.ops.sum(x, axis=1, keepdims=True), "output"),
    }
    return {name: (keras.Model(x, head), word) for name, (head, word) in found.items()}


def test_the_word_for_what_is_explained() -> None:
    for name, (model, word) in heads().items():
        e = explained(model, samples(2, 3), "random")
        assert e.attrs["output"]["explained"] == word, name
        assert f", {word} " in headline(e, 0, 0, "Sample 0"), name
        facts = {fact.term: fact.text for fact in sample_facts(e, 0, 0, 1.0)}
        assert facts["Explained number"].startswith(f"{word} "), name


def test_the_word_for_a_function_of_several_heads() -> None:
    import keras

    x = keras.Input((3,))
    logits, odds = keras.layers.Dense(2, activation="softmax")(x), keras.layers.Dense(1, activation="tanh")(x)

    def first(z: Any) -> Any:
        return z[0][:, 0] if isinstance(z, list) else z[:, 0]

    both = explained(keras.Model(x, [logits, odds]), samples(2, 3), "random", target=first)
    assert both.attrs["output"]["explained"] == "output"
    alone = explained(keras.Model(x, logits), samples(2, 3), "random", target=first)
    assert alone.attrs["output"]["explained"] == "logit"


# Noise --------------------------------------------------------------------------------


def test_noise_wider_than_the_data_is_said() -> None:
    (text,) = said("share of the range", dense(2), samples(3), ks.SmoothGrad(draws=2, noise=5))
    assert text.startswith("noise=5 is a share of the range")
    assert not said("share of the range", dense(2), samples(3), ks.SmoothGrad(draws=2, noise=1))


def test_samples_without_noise_are_counted() -> None:
    x = samples(3)
    x[1] = 2
    (text,) = said("without noise", dense(2), x, ks.SmoothGrad(draws=2))
    assert text.startswith("1 sample is without noise: the range it is measured by is 0")
    assert not said("without noise", dense(2), x, ks.SmoothGrad(draws=2), background=samples(3))
    assert not said("without noise", dense(2), x, ks.SmoothGrad(draws=2, noise=0))
