"""iNNvestigate 2.1.2's numbers by hand: its start, its biases, its zeros, its sums; and its names for our methods."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.innvestigate.names import ANALYZERS
from tests.reference.nets import cnn, mlp, samples, stack, weigh, weights_of
from tests.reference.run import Bench, differ, predict, same

ZERO = 1e-7


def analyzed(name: str, model: Any, x: np.ndarray, conventions: str = "innvestigate", **options: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.create_analyzer(name, model, conventions, **options).analyze(x)


def one_neuron(w: float, b: float) -> Any:
    model = keras.Sequential([layers.Input((1,)), layers.Dense(1)])
    model.set_weights([np.array([[w]]), np.array([b])])
    return model


@pytest.mark.parametrize(
    ("name", "expected"), [("lrp.alpha_1_beta_0", 1.0), ("lrp.alpha_2_beta_1", 2.0), ("lrp.alpha_1_beta_0_IB", 0.75)]
)
def test_the_whole_bias_in_both_denominators(name, expected, float64):
    """x = 1, w = 1, b = -1/4: relevance 3/4 over (1 - 1/4) gives 1 (2 with alpha 2), where ours give 0.75 and 1.5."""
    model, x = one_neuron(1.0, -0.25), np.array([[1.0]])
    same(analyzed(name, model, x), [[expected]])
    ours = {"lrp.alpha_1_beta_0": 0.75, "lrp.alpha_2_beta_1": 1.5, "lrp.alpha_1_beta_0_IB": 0.75}[name]
    same(analyzed(name, model, x, "kerascope"), [[ours]])


def test_exact_zeros_become_1e_7(float64):
    """Two inputs that cancel: z = 0 at a hidden unit to which the flat rule sent relevance; it is divided by 1e-7."""
    inputs = layers.Input((2,))
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(1)(inputs)))
    model.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1), np.array([[1.0]]), np.array([0.5])])
    x = np.array([[2.0, 2.0]])
    found = analyzed("lrp", model, x, rule=["Flat", "Z"])  # from the end: the first layer takes Z
    same(found, [[2.0 / ZERO * 0.5, -2.0 / ZERO * 0.5]])
    assert np.all(analyzed("lrp.z", model, x, "kerascope") == 0)  # ours passes nothing on


def alpha_beta(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, relevance: np.ndarray, alpha: float, beta: float, bias: bool
) -> np.ndarray:
    """Share relevance (N, out) back through one dense layer as iNNvestigate does, cell by cell."""
    found = np.zeros_like(x)
    for n in range(len(x)):
        for k in range(w.shape[1]):
            up = np.array([max(x[n, j] * w[j, k], 0.0) for j in range(w.shape[0])])
            down = np.array([min(x[n, j] * w[j, k], 0.0) for j in range(w.shape[0])])
            for part, share in ((up, alpha), (down, -beta)):
                z = part.sum() + (b[k] if bias else 0.0)
                found[n] += share * part / (z if z != 0 else ZERO) * relevance[n, k]
    return found


def z_rule(x: np.ndarray, w: np.ndarray, b: np.ndarray, relevance: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    z = x @ w + b
    z = z + epsilon * np.where(z >= 0, 1, -1)
    return x * ((relevance / np.where(z == 0, ZERO, z)) @ w.T)


def walked(model: Any, x: np.ndarray, rule: Any) -> np.ndarray:
    """Walk a dense ReLU network back by a rule of (x, w, b, R), from the top logit."""
    inside, hidden = [], x
    for layer in model.layers:
        w, b = weights_of(layer)
        inside.append((hidden, w, b))
        hidden = predict(keras.Model(model.inputs, layer.output), x)
    relevance = np.where(np.arange(hidden.shape[1]) == hidden.argmax(axis=1)[:, None], hidden, 0.0)
    for arguments in reversed(inside):
        relevance = rule(*arguments, relevance)
    return relevance


DENSE = {
    "lrp.z": lambda x, w, b, r: z_rule(x, w, b, r),
    "lrp.epsilon": lambda x, w, b, r: z_rule(x, w, b, r, 1e-7),
    "lrp.alpha_2_beta_1": lambda x, w, b, r: alpha_beta(x, w, b, r, 2, 1, True),
    "lrp.alpha_2_beta_1_IB": lambda x, w, b, r: alpha_beta(x, w, b, r, 2, 1, False),
    "lrp.alpha_1_beta_0": lambda x, w, b, r: alpha_beta(x, w, b, r, 1, 0, True),
    "lrp.z_plus": lambda x, w, b, r: alpha_beta(x, w, b, r, 1, 0, False),
    "lrp.sequential_preset_a": lambda x, w, b, r: z_rule(x, w, b, r, 0.1),
    "lrp.w_square": lambda x, w, b, r: np.ones_like(x) * ((r / (w**2).sum(axis=0)) @ (w**2).T),
    "lrp.flat": lambda x, w, b, r: np.repeat(r.sum(axis=1, keepdims=True) / w.shape[0], w.shape[0], axis=1),
    "lrp.z_plus_fast": lambda x, w, b, r: (
        x * ((r / np.where(x @ np.maximum(w, 0) == 0, ZERO, x @ np.maximum(w, 0))) @ np.maximum(w, 0).T)
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_rules_on_a_dense_network(name, float64):
    model, x = mlp(), samples((5,), 6)
    same(analyzed(name, model, x), walked(model, x, DENSE[name]), tolerance=1e-8)


def test_deep_taylor_takes_alpha1_beta0_everywhere_from_the_positive_logit(float64):
    model, x = mlp(), samples((5,), 6)
    logits = predict(model, x)
    assert (logits.max(axis=1) > 0).any()
    expected = walked(model, x, DENSE["lrp.z_plus"]) * (logits.max(axis=1) > 0)[:, None]
    same(analyzed("deep_taylor", model, x), expected)


def test_left_riemann_falls_short(float64):
    """Bias-free ReLU networks: (n - 1) / n of input x gradient (N14)."""
    model, x = mlp(biases=0.0), samples((5,))
    product = analyzed("input_t_gradient", model, x)
    for steps in (4, 64):
        same(analyzed("integrated_gradients", model, x, steps=steps), product * (steps - 1) / steps)


@pytest.mark.parametrize(("name", "method"), [("guided_backprop", ks.GuidedBackprop), ("deconvnet", ks.DeconvNet)])
def test_signal_methods_start_from_the_logit(name, method, float64):
    bench = Bench(cnn(), samples((6, 6, 2)))
    same(analyzed(name, bench.model, bench.x), bench.values(method("logit"), target=None))
    same(analyzed(name, bench.model, bench.x, "kerascope"), bench.values(method(), target=None))


def test_average_pooling_and_sums_take_the_z_rule_in_lrp_and_the_gradient_in_deep_taylor(float64):
    inputs = layers.Input((4, 2))
    pooled = layers.AveragePooling1D(2)(inputs)
    model = weigh(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Add()([pooled, pooled])))))
    x = np.abs(samples((4, 2))) + 0.1
    kernel, bias = weights_of(model.layers[-1])
    pooled_x = x.reshape(3, 2, 2, 2).mean(axis=2)
    top = predict(model, x).argmax(axis=1)
    hidden = 2 * pooled_x.reshape(3, 4)
    logit = hidden @ kernel + bias
    seed = np.eye(2)[top] * logit
    relevance = z_rule(hidden, kernel, bias, seed).reshape(3, 2, 1, 2)
    share = x.reshape(3, 2, 2, 2) / (2 * pooled_x[:, :, None])
    same(analyzed("lrp.z", model, x), (relevance * share).reshape(3, 4, 2))
    # Deep Taylor copies to both branches of the sum, and halves in the pooling.
    positive = alpha_beta(hidden, kernel, bias, np.maximum(seed, 0), 1, 0, False).reshape(3, 2, 1, 2)
    same(analyzed("deep_taylor", model, x), np.repeat(positive, 2, axis=2).reshape(3, 4, 2) / 2 * 2)


def test_activation_layers_of_their_own_are_differentiated(float64):
    """ReLU() masks relevance, a fused ReLU passes it: one function, two answers, as there."""
    fused = stack((5,), layers.Dense(4, activation="relu"), layers.Dense(2))
    apart = keras.Sequential([layers.Input((5,)), layers.Dense(4), layers.ReLU(), layers.Dense(2)])
    apart.set_weights(fused.get_weights())
    x = samples((5,))
    w = weights_of(apart.layers[0])[0]
    hidden = predict(keras.Model(fused.inputs, fused.layers[0].output), x)
    top_w, top_b = weights_of(fused.layers[-1])
    logits = hidden @ top_w + top_b
    seed = np.where(np.arange(2) == logits.argmax(axis=1)[:, None], logits, 0)
    below = np.repeat(seed.sum(axis=1, keepdims=True) / 4, 4, axis=1)
    flat = DENSE["lrp.flat"]
    same(analyzed("lrp.flat", fused, x), flat(x, w, None, below))
    same(analyzed("lrp.flat", apart, x), flat(x, w, None, below * (hidden > 0)))


def test_the_input_layer_rule_sees_only_flatten_permute_reshape(float64):
    """A padding before the first convolution hides it from the flat preset, as there."""
    plain = stack((5, 5, 1), layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2))
    parts = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]
    padded = stack((5, 5, 1), layers.ZeroPadding2D(1), *parts)
    x = samples((5, 5, 1))
    a, flat = "lrp.sequential_preset_a", "lrp.sequential_preset_a_flat"
    assert not np.allclose(analyzed(a, plain, x), analyzed(flat, plain, x))
    same(analyzed(a, padded, x), analyzed(flat, padded, x))


def normalized() -> Any:
    """Dense, BatchNormalization, Dense, with moments that are not those of the default."""
    return stack((5,), layers.Dense(4), layers.BatchNormalization(epsilon=0.01), layers.Dense(2))


def positive_inputs(x: np.ndarray, k: np.ndarray, c: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Presets at a BatchNormalization: 2 x+ k+ / (x+ k+ + c+) - x+ k- / (x+ k- + c-), cell by cell."""
    found = np.zeros_like(x)
    for cell in np.ndindex(x.shape):
        j, positive = cell[1], max(x[cell], 0.0)
        for weight, part in ((2, max), (-1, min)):
            product = positive * part(k[j], 0.0)
            z = product + part(c[j], 0.0)
            found[cell] += weight * product / (z if z != 0 else ZERO) * relevance[cell]
    return found


NORMALIZED = {
    "lrp.z": lambda x, k, c, r: x * k / (x * k + c) * r,
    "lrp.flat": lambda x, k, c, r: r,
    "lrp.w_square": lambda x, k, c, r: r,
    "lrp.alpha_2_beta_1": lambda x, k, c, r: (
        2 * np.maximum(x * k, 0) / (np.maximum(x * k, 0) + c) * r
        - np.minimum(x * k, 0) / (np.minimum(x * k, 0) + c) * r
    ),
    "lrp.sequential_preset_a": positive_inputs,
}


@pytest.mark.parametrize("fused", ["one_linear", "two_linear"])
@pytest.mark.parametrize("name", NORMALIZED)
def test_lrp_takes_batch_normalisation_for_another_map(name, fused, float64):
    """y = gamma x / s - mean / s + beta, s = sqrt(var^2 + epsilon); or (x - mean) / s, then gamma x + beta."""
    model, x = normalized(), samples((5,))
    first, norm, last = model.layers[-3:]
    gamma, beta, mean, variance = (np.asarray(w) for w in norm.get_weights())
    assert np.abs(variance - 1).min() > 0.01
    (w, b), (w2, b2) = weights_of(first), weights_of(last)
    inside = x @ w + b
    out = predict(keras.Model(model.inputs, norm.output), x)
    logits = out @ w2 + b2
    relevance = DENSE[name](out, w2, b2, np.where(np.arange(2) == logits.argmax(axis=1)[:, None], logits, 0.0))
    s = np.sqrt(variance**2 + 0.01)
    if fused == "one_linear":
        relevance = NORMALIZED[name](inside, gamma / s, beta - mean / s, relevance)
    else:
        relevance = NORMALIZED[name]((inside - mean) / s, gamma, beta, relevance)
        relevance = NORMALIZED[name](inside, 1 / s, -mean / s, relevance)
    same(analyzed(name, model, x, bn_layer_fuse_mode=fused), DENSE[name](x, w, b, relevance), tolerance=1e-8)


def test_deep_taylor_differentiates_batch_normalisation(float64):
    model, x = normalized(), samples((5,), 6)
    first, norm, last = model.layers[-3:]
    gamma, _, _, variance = (np.asarray(w) for w in norm.get_weights())
    (w, b), (w2, b2) = weights_of(first), weights_of(last)
    out = predict(keras.Model(model.inputs, norm.output), x)
    logits = out @ w2 + b2
    seed = np.where(np.arange(2) == logits.argmax(axis=1)[:, None], np.maximum(logits, 0), 0.0)
    assert seed.any()
    relevance = alpha_beta(out, w2, b2, seed, 1, 0, False) * gamma / np.sqrt(variance + 0.01)
    same(analyzed("deep_taylor", model, x), alpha_beta(x, w, b, relevance, 1, 0, False), tolerance=1e-8)


def test_rules_of_batch_normalisation_and_what_is_said_of_it(float64):
    model, x = normalized(), samples((5,))
    with pytest.warns(ks.KerascopeWarning, match="takes a BatchNormalization for another map"):
        found = ks.create_analyzer("lrp.epsilon", model, "innvestigate").analyze(x)
    same(analyzed("lrp", model, x, rule="Epsilon", bn_layer_rule="Epsilon"), found)
    preset = "lrp.sequential_preset_b"
    assert not np.allclose(analyzed(preset, model, x), analyzed(preset, model, x, bn_layer_rule="Z"))
    with pytest.raises(ks.UnsupportedLayerError, match="fails there unless it is told a rule"):
        analyzed("lrp", model, x, rule="Z")
    with pytest.raises(ks.UnknownNameError, match="bn_layer_fuse_mode"):
        analyzed("lrp.z", model, x, bn_layer_fuse_mode="no_linear")
    with pytest.raises(ks.UnknownNameError, match="bn_layer_rule"):
        analyzed(preset, model, x, bn_layer_rule="AlphaBetaX2m100Rule")
    first_axis = stack((5, 2), layers.BatchNormalization(axis=1), layers.Flatten(), layers.Dense(2))
    with pytest.raises(ks.UnsupportedLayerError, match="along axis 1"):
        analyzed("lrp.z", first_axis, samples((5, 2)))
    rescaled = stack((5,), layers.Rescaling(2.0), layers.Dense(2))
    with pytest.raises(ks.UnsupportedLayerError, match=r"refused by iNNvestigate 2\.1\.2"):
        analyzed("lrp.z", rescaled, x)


# Names, parameters, selections ----------------------------------------------------------------

NEEDS: dict[str, dict[str, Any]] = {
    "lrp": {"rule": "Z"},
    "lrp.alpha_beta": {"alpha": 2},
    "deep_taylor.bounded": {"low": -9, "high": 9},
    "smoothgrad": {"augment_by_n": 3},
    "integrated_gradients": {"steps": 8},
}


@pytest.mark.parametrize("conventions", ["kerascope", "innvestigate"])
@pytest.mark.parametrize("name", ANALYZERS)
def test_every_name_gives_a_map(name, conventions, float64):
    model, x = cnn(), samples((6, 6, 2))
    if conventions == "innvestigate" and ANALYZERS[name].theirs is None:
        with pytest.raises(ks.BadInputError, match="Use conventions='kerascope'"):
            ks.create_analyzer(name, model, conventions)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        analyzer = ks.create_analyzer(name, model, conventions, **NEEDS.get(name, {})).fit(x)
        found = analyzer.analyze(x)
    assert found.shape == x.shape
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gradient", "gradient"),
        ("input_t_gradient", "input_x_gradient"),
        ("lrp.z", "lrp.zero"),
        ("lrp.w_square", "lrp.w_square"),
        ("lrp.alpha_2_beta_1", "lrp.alpha2_beta1"),
        ("lrp.z_plus", "lrp.z_plus"),
        ("deep_taylor", "deep_taylor"),
    ],
)
def test_our_conventions_are_our_methods(name, method, float64):
    bench = Bench(cnn(), samples((6, 6, 2)))
    same(analyzed(name, bench.model, bench.x, "kerascope"), bench.values(method, target=None))


def test_neuron_selection(float64):
    bench = Bench(mlp(), samples((5,)))
    analyzer = ks.create_analyzer("gradient", bench.model, neuron_selection_mode="index")
    same(analyzer.analyze(bench.x, 2), bench.values("gradient", target=2))
    same(analyzer.analyze(bench.x, [0, 2, 1]), bench.values("gradient", target=[0, 2, 1]))
    every = ks.create_analyzer("gradient", bench.model, neuron_selection_mode="all").analyze(bench.x)
    same(every, sum(bench.values("gradient", target=k) for k in range(3)))
    with pytest.raises(ks.BadInputError, match="needs neuron_selection="):
        analyzer.analyze(bench.x)


def test_postprocessing(float64):
    bench = Bench(mlp(), samples((5,)))
    gradient = bench.values("gradient", target=None)
    same(analyzed("gradient", bench.model, bench.x, postprocess="abs"), np.abs(gradient))
    same(analyzed("gradient", bench.model, bench.x, postprocess="square"), gradient**2)
    same(analyzed("input_t_gradient", bench.model, bench.x, postprocess="abs"), bench.x * np.abs(gradient))
    same(analyzed("input_t_gradient", bench.model, bench.x, postprocess="square"), bench.x * gradient**2)


def test_presets_until_a_layer(float64):
    """Flat up to a layer's number in model.layers; with none only the first layer, as in the flat preset."""
    model, x = cnn(), samples((6, 6, 2))  # convolution, pooling, convolution, flatten, dense
    name, b = "lrp.sequential_preset_b_flat_until_idx", "lrp.sequential_preset_b_flat"
    same(analyzed(name, model, x), analyzed(b, model, x))
    same(analyzed(name, model, x, until_layer_idx=0), analyzed(b, model, x))
    same(analyzed(name, model, x, until_layer_idx=1), analyzed(b, model, x))
    to_the_second = analyzed(name, model, x, until_layer_idx=2)
    differ(to_the_second, analyzed(b, model, x))
    same(to_the_second, analyzed(name, model, x, until_layer_idx=3))
    same(analyzed(name, model, x, until_layer_idx=4), analyzed("lrp.flat", model, x))


def test_random_numbers_have_the_deviation_asked_for(float64):
    model, x = mlp(), samples((5,))
    one, three = (ks.create_analyzer("random", model, stddev=s).analyze(x) for s in (1, 3))
    same(three, 3 * one)


def test_rules_by_name_and_in_lists(float64):
    model, x = mlp(), samples((5,))
    same(analyzed("lrp", model, x, rule="Alpha1Beta0"), analyzed("lrp.alpha_1_beta_0", model, x))
    mixed = analyzed("lrp", model, x, rule=["Flat", "Z", "Z"])  # taken from the end: the last is the first layer's
    steps = iter([DENSE["lrp.flat"], DENSE["lrp.z"], DENSE["lrp.z"]])
    same(mixed, walked(model, x, lambda *a: next(steps)(*a)), tolerance=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lrp.epsilom", {}, "Did you mean 'lrp.epsilon'"),
        ("lrp.epsilon", {"epsilom": 1}, "Did you mean 'epsilon'"),
        ("gradient", {"reverse_keep_tensors": True}, r"ks\.Explainer\(model, method\)\.relevances"),
        ("gradient", {"neuron_selection_mode": "max"}, "neuron_selection_mode"),
        ("lrp", {}, "lrp needs rule="),
        ("lrp.alpha_beta", {}, "needs alpha or beta"),
        ("lrp", {"rule": "Gamma"}, "Unknown rule 'Gamma'"),
        ("lrp", {"rule": "Z", "bn_layer_rule": "Z"}, "bn_layer_rule is not taken over"),
        ("lrp.z", {"bn_layer_rule": "Z"}, "Unknown parameter of lrp.z"),
    ],
)
def test_bad_words(name, options, message):
    with pytest.raises(ks.KerascopeError, match=message):
        ks.create_analyzer(name, mlp(), **options)
    with pytest.raises(ks.UnknownNameError, match="conventions"):
        ks.create_analyzer("gradient", mlp(), "innvestigat")
