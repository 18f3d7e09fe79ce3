"""Asking iNNvestigate's way: which neuron, which rule where, what gradients become, several inputs, old names."""

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

BOTH = pytest.mark.parametrize("conventions", ["kerascope", "innvestigate"])
NEEDS: dict[str, dict[str, Any]] = {
    "lrp": {"rule": "Z"},
    "lrp.alpha_beta": {"alpha": 2},
    "deep_taylor.bounded": {"low": -9, "high": 9},
    "smoothgrad": {"augment_by_n": 3},
    "integrated_gradients": {"steps": 8},
}


def analyzer(name: str, model: Any, conventions: str = "kerascope", **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.create_analyzer(name, model, conventions, **options)


def analyzed(name: str, model: Any, x: Any, conventions: str = "kerascope", **options: Any) -> Any:
    made = analyzer(name, model, conventions, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return made.analyze(x)


# Which neuron ---------------------------------------------------------------------------------


@BOTH
def test_a_selection_alone_means_index(conventions, float64):
    """A linear model: the gradient is a column of the kernel."""
    model, x = stack((5,), layers.Dense(3)), samples((5,))
    columns = weights_of(model.layers[-1])[0].T
    made = analyzer("gradient", model, conventions)
    same(made.analyze(x, 1), np.tile(columns[1], (3, 1)))
    same(made.analyze(x, [0, 2, 1]), columns[[0, 2, 1]])
    same(made.analyze(x, [2]), np.tile(columns[2], (3, 1)))  # 2.1.2 repeats one
    same(made.analyze(x), columns[predict(model, x).argmax(axis=1)])


@BOTH
@pytest.mark.parametrize("mode", ["max_activation", "all"])
def test_a_selection_against_a_mode_that_was_chosen(conventions, mode):
    made = analyzer("gradient", mlp(), conventions, neuron_selection_mode=mode)
    with pytest.raises(ks.BadInputError, match=f"needs neuron_selection_mode='index'; it is '{mode}'"):
        made.analyze(samples((5,)), 1)


def test_a_selection_that_names_no_class():
    made = analyzer("gradient", mlp())
    for selection, message in (
        (1.5, "whole number"),
        ([0, 1], "do not fit 3 samples"),
        (3, "out of range"),
        ("index", r"got 'index'\. A mode goes to create_analyzer"),
        ("all", r"got 'all'\. A mode goes to create_analyzer: neuron_selection_mode='all'"),
        ([], "whole number"),
    ):
        with pytest.raises(ks.BadTargetError, match=message):
            made.analyze(samples((5,)), selection)


@pytest.mark.parametrize("name", ANALYZERS)
def test_all_is_explained_or_refused_by_that_name(name):
    model, x = mlp(), samples((5,))
    options = {**NEEDS.get(name, {}), "neuron_selection_mode": "all"}
    if ANALYZERS[name].sums:
        assert np.all(np.isfinite(analyzed(name, model, x, **options)))
        return
    with pytest.raises(ks.IncompatibleMethodError, match=r"mode='all' explains the sum of all outputs.*'index'"):
        ks.create_analyzer(name, model, **options)


def test_deep_taylor_of_all_starts_from_every_positive_logit(float64):
    """One layer: x+ w+ + x- w- in proportion, from max(logit, 0) of every output."""
    model, x = stack((5,), layers.Dense(3)), samples((5,), 6)
    kernel = weights_of(model.layers[-1])[0]
    logits, expected = predict(model, x), np.zeros_like(x)
    assert (logits < 0).any()
    for n in range(len(x)):
        for k in range(3):
            positive = np.maximum(x[n] * kernel[:, k], 0)
            expected[n] += positive / positive.sum() * max(logits[n, k], 0)
    same(analyzed("deep_taylor", model, x, "innvestigate", neuron_selection_mode="all"), expected)


# What becomes of gradients --------------------------------------------------------------------

PROCESSES = {"abs": np.abs, "square": np.square}


def slopes(model: Any, x: np.ndarray, top: np.ndarray) -> np.ndarray:
    """The gradient of one hidden ReLU layer: W1 1[z > 0] w2, sample by sample."""
    (w1, b1), (w2, _) = (weights_of(layer) for layer in model.layers[-2:])
    return np.stack([w1 @ ((row @ w1 + b1 > 0) * w2[:, k]) for row, k in zip(x, top, strict=True)])


def one_hidden() -> tuple[Any, np.ndarray, np.ndarray]:
    model, x = stack((5,), layers.Dense(6, activation="relu"), layers.Dense(3)), samples((5,))
    return model, x, predict(model, x).argmax(axis=1)


@pytest.mark.parametrize("how", PROCESSES)
@BOTH
def test_integrated_gradients_process_each_gradient(conventions, how, float64):
    """(x - ref) times the mean over steps of |gradient| or gradient^2: by left sums there, by Gauss-Legendre here."""
    model, x, top = one_hidden()
    positions, shares = np.arange(8) / 8, np.full(8, 1 / 8)
    if conventions == "kerascope":
        nodes, weights = np.polynomial.legendre.leggauss(8)
        positions, shares = (nodes + 1) / 2, weights / 2
    mean = sum(
        s * PROCESSES[how](slopes(model, 0.5 + t * (x - 0.5), top)) for t, s in zip(positions, shares, strict=True)
    )
    options = {"steps": 8, "reference_inputs": 0.5, "postprocess": how}
    found = analyzed("integrated_gradients", model, x, conventions, **options)
    same(found, (x - 0.5) * mean)
    plain = analyzed("integrated_gradients", model, x, conventions, steps=8, reference_inputs=0.5)
    differ(found, PROCESSES[how](plain))


@pytest.mark.parametrize("how", PROCESSES)
@BOTH
def test_smoothgrad_processes_each_gradient(conventions, how, float64):
    """The mean over noisy copies of |gradient| or gradient^2; noise of deviation 1 there, 0.1 of the range here."""
    model, x, top = one_hidden()
    scale = 1.0 if conventions == "innvestigate" else 0.1 * np.ptp(x, axis=1, keepdims=True)
    noisy = [x + scale * np.random.default_rng((0, k, 0)).normal(size=5) for k in range(20)]
    expected = np.mean([PROCESSES[how](slopes(model, copy, top)) for copy in noisy], axis=0)
    same(analyzed("smoothgrad", model, x, conventions, augment_by_n=20, postprocess=how), expected)


def test_a_noise_scale_is_a_deviation_in_units_of_the_input(float64):
    """As in version 1; 2.1.2 ignores it. Ours without it is a share of each sample's range."""
    model, x, _ = one_hidden()
    x = (x - x.min(axis=1, keepdims=True)) / np.ptp(x, axis=1, keepdims=True)
    bench = Bench(model, x)
    found = analyzed("smoothgrad", model, x, augment_by_n=20, noise_scale=0.3)
    same(found, bench.values(ks.SmoothGrad(draws=20, noise=0.3), target=None))
    top = predict(model, 5 * x).argmax(axis=1)
    scaled = analyzer("smoothgrad", model, augment_by_n=20, noise_scale=0.3).analyze(5 * x, top)
    same(scaled, bench.values(ks.SmoothGrad(draws=20, noise=0.06), 5 * x, target=top))
    there = analyzed("smoothgrad", model, x, "innvestigate", augment_by_n=20, noise_scale=0.3)
    same(there, analyzed("smoothgrad", model, x, augment_by_n=20, noise_scale=1.0))
    with pytest.warns(ks.KerascopeWarning, match="deviation 1, whatever noise_scale says"):
        ks.create_analyzer("smoothgrad", model, "innvestigate", noise_scale=0.3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smoothgrad", {"noise_scale": -1.0}, "noise_scale must be at least 0"),
        ("smoothgrad", {"noise_scale": "much"}, "noise_scale must be a finite number"),
        ("smoothgrad", {"noise_scale": 1.0, "augment_by_n": 0}, "augment_by_n must be a whole number of at least 1"),
        ("integrated_gradients", {"steps": 0}, "steps must be a whole number of at least"),
    ],
)
def test_numbers_that_cannot_be_taken(name, options, message):
    conventions = "innvestigate" if "steps" in options else "kerascope"
    with pytest.raises(ks.BadInputError, match=message):
        ks.create_analyzer(name, mlp(), conventions, **options)


@pytest.mark.parametrize("how", PROCESSES)
@BOTH
def test_products_process_the_gradient_alone(conventions, how, float64):
    model, x, top = one_hidden()
    x[0, 0] = 0.0
    gradient = PROCESSES[how](slopes(model, x, top))
    same(analyzed("gradient", model, x, conventions, postprocess=how), gradient)
    same(analyzed("gradient.baseline", model, x, conventions, postprocess=how), gradient)
    same(analyzed("input_t_gradient", model, x, conventions, postprocess=how), x * gradient)


def test_a_process_that_is_none():
    with pytest.raises(ks.UnknownNameError, match=r"Unknown postprocess 'absolute'.*Did you mean 'abs'"):
        ks.create_analyzer("gradient", mlp(), postprocess="absolute")


# Which rule where -----------------------------------------------------------------------------


def by_z(x: np.ndarray, w: np.ndarray, b: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    return x * ((relevance / (x @ w + b)) @ w.T)


def flat(x: np.ndarray, w: np.ndarray, b: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    return np.repeat(relevance.sum(axis=1, keepdims=True) / len(w), len(w), axis=1)


def walked(model: Any, x: np.ndarray, *rules: Any) -> np.ndarray:
    """Walk a dense network back from the top logit; rules stand in the order of layers, the first one's first."""
    inside, hidden = [], x
    dense = [layer for layer in model.layers if layer.weights]
    for layer in dense:
        inside.append((hidden, *weights_of(layer)))
        hidden = predict(keras.Model(model.inputs, layer.output), x)
    relevance = np.where(np.arange(hidden.shape[1]) == hidden.argmax(axis=1)[:, None], hidden, 0.0)
    for rule, arguments in zip(reversed(rules), reversed(inside), strict=True):
        relevance = rule(*arguments, relevance)
    return relevance


def functional() -> Any:
    """The layers of `mlp` behind an InputLayer, which model.layers counts, and a Dropout, which it counts too."""
    inputs = layers.Input((5,))
    hidden = layers.Dropout(0.5)(layers.Dense(7, activation="relu")(inputs))
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Dense(6, activation="relu")(hidden))))


@BOTH
def test_a_list_of_rules_is_taken_from_its_end(conventions, float64):
    model, x = mlp(), samples((5,))
    same(analyzed("lrp", model, x, conventions, rule=["Z", "Z", "Flat"]), walked(model, x, flat, by_z, by_z), 1e-8)
    same(analyzed("lrp", model, x, conventions, rule=("Flat", "Z", "Z")), walked(model, x, by_z, by_z, flat), 1e-8)


@BOTH
def test_conditions_on_layers(conventions, float64):
    """The first condition that holds gives the rule; conditions see the Keras layer."""
    model, x = mlp(), samples((5,))
    seven = [(lambda layer: layer.units == 7, "Flat"), (lambda layer: True, "Z")]
    same(analyzed("lrp", model, x, conventions, rule=seven), walked(model, x, flat, by_z, by_z), 1e-8)
    ours = [(model.layers[1].name, "Flat"), (keras.layers.Dense, "Z")]
    same(analyzed("lrp", model, x, conventions, rule=ours), walked(model, x, by_z, flat, by_z), 1e-8)
    last = [(lambda layer: layer is model.layers[-1], "Flat")]
    with pytest.raises(ks.UnsupportedLayerError, match=r"(no rule|No condition of rule= holds) for layer"):
        analyzed("lrp", model, x, conventions, rule=last)


@BOTH
def test_until_counts_the_layers_of_the_model(conventions, float64):
    """Also those without weights: InputLayer 0, Dense 1, Dropout 2, Dense 3, Dense 4."""
    model, x = functional(), samples((5,))
    assert [layer.__class__.__name__ for layer in model.layers[::2]] == ["InputLayer", "Dropout", "Dense"]

    def until(number: int, **options: Any) -> np.ndarray:
        options = {"until_layer_idx": number, "until_layer_rule": "Flat", **options}
        return analyzed("lrp.z", model, x, conventions, **options)

    same(until(0), walked(model, x, by_z, by_z, by_z), 1e-8)
    same(until(1), walked(model, x, flat, by_z, by_z), 1e-8)
    same(until(2), walked(model, x, flat, by_z, by_z), 1e-8)
    same(until(3), walked(model, x, flat, flat, by_z), 1e-8)
    same(until(3, input_layer_rule="Z"), walked(model, x, by_z, flat, by_z), 1e-8)  # the first layer's comes first
    for number in (5, -1, 1.0):
        with pytest.raises(ks.BadInputError, match=r"model\.layers, 0 to 4.*got"):
            until(number)


def test_the_preset_until_a_layer_with_our_rules(float64):
    bench = Bench(cnn(), samples((6, 6, 2)))
    name, epsilon = "lrp.sequential_preset_b_flat_until_idx", ks.rules.Epsilon(0.1)
    flat_convolutions = ks.Composite([("conv*", ks.rules.Flat()), ("*", epsilon)])
    found = analyzed(name, bench.model, bench.x, until_layer_idx=2)
    same(found, bench.values(ks.LRP(flat_convolutions), target=None))
    same(analyzed(name, bench.model, bench.x), analyzed("lrp.sequential_preset_b_flat", bench.model, bench.x))


def test_a_layer_called_twice_or_made_of_two_kernels_has_one_rule(float64):
    inputs, shared = layers.Input((5,)), layers.Dense(5, activation="relu", name="shared")
    twice = weigh(keras.Model(inputs, layers.Dense(2)(shared(shared(inputs)))))
    separable = stack((6, 2), layers.SeparableConv1D(3, 2, name="shared"), layers.Flatten(), layers.Dense(2))
    composite = ks.LRP(ks.Composite([("shared*", ks.rules.Flat()), ("*", ks.rules.Zero())]))
    for model, shape in ((twice, (5,)), (separable, (6, 2))):
        bench = Bench(model, samples(shape))
        found = analyzed("lrp", model, bench.x, rule=["Z", "Flat"])
        same(found, bench.values(composite, target=None))


def test_the_first_layers_rule_and_a_list(float64):
    """Ours: it stands at the first layer. 2.1.2 puts it before the list, so it comes into play where the list ends."""
    model, x = mlp(), samples((5,))
    options = {"rule": ["Z", "Z", "Z"], "input_layer_rule": "Flat"}
    same(analyzed("lrp", model, x, **options), walked(model, x, flat, by_z, by_z), 1e-8)
    same(analyzed("lrp", model, x, "innvestigate", **options), walked(model, x, by_z, by_z, by_z), 1e-8)
    options["rule"] = ["Z", "Z"]
    same(analyzed("lrp", model, x, "innvestigate", **options), walked(model, x, by_z, by_z, flat), 1e-8)


def test_rules_of_ours_stand_where_conditions_say(float64):
    bench = Bench(mlp(), samples((5,)))
    gamma = [(ks.first_layer, ks.rules.Flat()), ("*", ks.rules.Gamma(0.5))]
    found = analyzed("lrp", bench.model, bench.x, rule=gamma)
    same(found, bench.values(ks.LRP(ks.Composite(gamma)), target=None))
    with pytest.raises(ks.BadInputError, match="goes by its name"):
        ks.create_analyzer("lrp", bench.model, "innvestigate", rule=gamma)


def always(layer: Any) -> bool:
    return True


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": []}, "lrp needs rule="),
        ({"rule": ["Z", "Flat"]}, "lists 2 rules, and the model has 3 layers with a kernel"),
        ({"rule": ["Z", "Gamma", "Z"]}, "Unknown rule 'Gamma'"),
        ({"rule": [(always, "Gamma")]}, "Unknown rule 'Gamma'"),
        ({"rule": [(always, "Z"), "Z"]}, "not both"),
        ({"rule": [(3, "Z")]}, "condition .* is a function of the Keras layer"),
        ({"rule": keras.layers.Dense}, "goes by its name"),
        ({"rule": ["Z"] * 3, "until_layer_idx": 1, "until_layer_rule": "Flat"}, "does not go with a list"),
        ({"rule": "Z", "until_layer_idx": 1}, "until_layer_idx needs until_layer_rule="),
        ({"rule": "Z", "until_layer_rule": "Flat"}, "until_layer_rule needs until_layer_idx="),
        ({"rule": "Z", "until_layer_idx": 1, "until_layer_rule": "flat"}, "Unknown until_layer_rule"),
    ],
)
def test_rules_that_cannot_be_placed(conventions, options, message):
    with pytest.raises(ks.KerascopeError, match=message):
        ks.create_analyzer("lrp", mlp(), conventions, **options)


def test_more_rules_than_layers():
    """2.1.2 leaves those at the beginning unused; ours asks which are meant."""
    assert analyzer("lrp", mlp(), "innvestigate", rule=["Flat", "Z", "Z", "Z"])
    with pytest.raises(ks.BadInputError, match="lists 4 rules"):
        ks.create_analyzer("lrp", mlp(), rule=["Flat", "Z", "Z", "Z"])


# Names of version 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "method", "ours"),
    [
        ("lrp.z_IB", {}, "lrp.zero", {"bias": "ignore"}),
        ("lrp.epsilon_IB", {"epsilon": 0.2}, "lrp.epsilon", {"epsilon": 0.2, "bias": "ignore"}),
        ("lrp", {"rule": "ZIgnoreBias"}, "lrp.zero", {"bias": "ignore"}),
        ("deep_lift.wrapper", {}, "deeplift", {"baseline": 0}),
        (
            "deep_lift.wrapper",
            {"nonlinear_mode": "reveal_cancel", "reference_inputs": 0.5},
            "deeplift.reveal_cancel",
            {"baseline": 0.5},
        ),
        (
            "deep_lift.wrapper",
            {"nonlinear_mode": "genomics_default"},
            "deeplift.reveal_cancel",
            {"baseline": 0, "conv": "rescale"},
        ),
    ],
)
def test_names_of_version_1(name, options, method, ours, float64):
    bench = Bench(cnn(), samples((6, 6, 2)))
    same(analyzed(name, bench.model, bench.x, **options), bench.values(method, target=None, **ours))
    with pytest.raises(ks.BadInputError, match=r"version 2 has.*Use conventions='kerascope'"):
        ks.create_analyzer(name, bench.model, "innvestigate", **options)


def test_z_without_the_bias_by_hand(float64):
    model, x = stack((5,), layers.Dense(1)), samples((5,))
    (w, b), f = weights_of(model.layers[-1]), predict(model, x)
    assert abs(b[0]) > 0.01
    same(analyzed("lrp.z_IB", model, x), x * w[:, 0] / (x @ w) * f)


def test_a_mode_of_deeplift_that_is_none():
    with pytest.raises(ks.UnknownNameError, match="Unknown nonlinear_mode 'rescaled'"):
        ks.create_analyzer("deep_lift.wrapper", mlp(), nonlinear_mode="rescaled")


# Several inputs -------------------------------------------------------------------------------


def two_inputs() -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """f = [a, b] W + c, and its samples and kernel."""
    a, b = layers.Input((2,), name="a"), layers.Input((3, 1), name="b")
    joined = layers.Concatenate()([a, layers.Flatten()(b)])
    model = weigh(keras.Model([a, b], layers.Dense(4)(joined)))
    return model, samples((2,)), samples((3, 1), seed=2), weights_of(model.layers[-1])[0]


@BOTH
def test_two_inputs_give_a_list(conventions, float64):
    model, a, b, kernel = two_inputs()
    made = analyzer("gradient", model, conventions)
    for found in (made.analyze([a, b], 2), made.analyze((a, b), [2, 2, 2])):
        assert isinstance(found, list)
        same(found[0], np.tile(kernel[:2, 2], (3, 1)))
        same(found[1], np.tile(kernel[2:, 2], (3, 1))[..., None])
    named = made.analyze({"a": a, "b": b}, 2)
    same(named["b"], found[1])
    with pytest.warns(ks.KerascopeWarning, match="channel axis of size 1 was added"):
        channelless = made.analyze([a, b[..., 0]], 2)  # the shape of what was given
    same(channelless[1], found[1][..., 0])


@BOTH
def test_products_of_two_inputs(conventions, float64):
    """On a linear network every sum over steps is x w; LRP-z shares the logit over x w + c."""
    model, a, b, kernel = two_inputs()
    logits = keras.ops.convert_to_numpy(model([a, b]))
    top = logits.argmax(axis=1)
    pieces = a * kernel[:2, top].T, (b[..., 0] * kernel[2:, top].T)[..., None]
    for name in ("input_t_gradient", "integrated_gradients", "lrp.z"):
        for found, expected in zip(analyzed(name, model, [a, b], conventions), pieces, strict=True):
            same(found, expected)
    references = {"reference_inputs": [0.5, np.full((3, 1), -1.0)]}
    names = ("integrated_gradients", "deep_lift.wrapper") if conventions == "kerascope" else ("integrated_gradients",)
    for name in names:
        found = analyzed(name, model, [a, b], conventions, **references)
        same(found[0], (a - 0.5) * kernel[:2, top].T)
        same(found[1], ((b[..., 0] + 1) * kernel[2:, top].T)[..., None])


@BOTH
@pytest.mark.parametrize("name", ANALYZERS)
def test_every_analyzer_takes_two_inputs(name, conventions):
    if conventions == "innvestigate" and ANALYZERS[name].theirs is None:
        return
    model, a, b, _ = two_inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        made = ks.create_analyzer(name, model, conventions, **NEEDS.get(name, {})).fit([a, b])
        found = made.analyze([a, b])
    assert [part.shape for part in found] == [a.shape, b.shape]


def test_two_inputs_given_wrongly():
    model, a, b, _ = two_inputs()
    with pytest.raises(ks.BadInputError, match="takes 2 inputs"):
        analyzer("gradient", model).analyze([a])
    with pytest.raises(ks.BadInputError, match=r"reference_inputs= has shape \(7,\)"):
        analyzed("integrated_gradients", model, [a, b], "innvestigate", reference_inputs=np.zeros(7))
    for conventions in ("kerascope", "innvestigate"):
        with pytest.raises(ks.BadInputError, match="reference_inputs="):
            analyzed("integrated_gradients", model, [a, b], conventions, reference_inputs=[0, 0, 0])


def test_one_input_in_a_list(float64):
    model, x = mlp(), samples((5,))
    made = analyzer("gradient", model)
    same(made.analyze([x]), made.analyze(x))
    with pytest.warns(ks.KerascopeWarning, match="one sample was given"):
        assert made.analyze(x[0]).shape == (5,)
