"""What a map may not depend on, and how it moves when input or model move (D1, D3 to D16).

D2 (backends) is in test_stored.py. Of D4 to D14 the methods that do not exist yet are not covered (patterns,
Shapley values, NoiseGrad), of D12 Sobol indices.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope.registry import METHODS
from tests.reference.every import (
    CELLS,
    COMPOSITES,
    CONTROLS,
    DEEPLIFT,
    EVERY,
    GRADIENTS,
    HIGH,
    LOCAL,
    LOW,
    NOISY,
    RULES,
    SIGNALS,
    options,
    unlisted,
)
from tests.reference.nets import average_head, cnn, mlp, samples, stack, weights_of
from tests.reference.run import TIGHT, Bench, differ, same

SHAPE = (6, 6, 2)


def both(one: Any, other: Any, *, shape: tuple[int, ...] = (5,), low: float = -1.0) -> tuple[Bench, Bench]:
    """Return two models on the same samples and background."""
    x, background = samples(shape, low=low), samples(shape, 3, seed=9, low=low)
    return Bench(one, x, background=background), Bench(other, x, background=background)


def alike(one: Bench, other: Bench, names: tuple[str, ...], tolerance: float = TIGHT) -> None:
    """Compare the maps of two models."""
    for name in names:
        same(one.values(name, **options(name)), other.values(name, **options(name)), tolerance, what=name)


def without(names: tuple[str, ...], *left_out: str) -> tuple[str, ...]:
    """Return names but for some."""
    return tuple(name for name in names if name not in left_out)


def test_every_method_is_listed():
    """A method that is registered is run here: it needs its name in every.py."""
    assert unlisted() == set()


# The batch ------------------------------------------------------------------------------------


def test_d1_no_map_depends_on_its_batch(float64):
    """Alone, in another order, with targets of its own: a sample has one map."""
    model, x = average_head(), samples(SHAPE)
    background, target = samples(SHAPE, 3, seed=9), np.array([0, 2, 1])
    whole, single = (Bench(model, x, background=background, batch_size=size) for size in (3, 1))
    for name in EVERY:
        expected = whole.values(name, target=target, **options(name))
        same(single.values(name, target=target, **options(name)), expected, what=f"{name} in batches of one")
        found = whole.values(name, x[::-1], target=target[::-1], **options(name))[::-1]
        same(found, expected, what=f"{name} in reverse")
        alone = single.values(name, x[1:2], target=2, **options(name))
        same(alone, expected[1:2], what=f"{name} alone")


@pytest.mark.parametrize("name", EVERY)
def test_d1_compiled_in_batches(name):
    """One compiled run of each method: the last batch, padded or not, is as good as the first; in float32."""
    parts = [layers.Conv1D(3, 2, activation="relu"), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    x, background = (samples((4, 2), 3, seed=seed).astype("float32") for seed in (1, 9))
    bench = Bench(stack((4, 2), *parts), x, background=background)
    expected = bench.values(name, **options(name))
    bench.session.compile, bench.session.batch_size = True, 2
    bench.session._functions.clear()
    same(bench.values(name, **options(name)), expected, 1e-4, what=name)


# The same function, written otherwise -----------------------------------------------------------


def test_d3_channels_first(float64):
    """A channels-first network on transposed inputs: transposed maps."""
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on GPUs only")
    last = average_head()
    parts = [
        layers.Conv2D(4, 3, padding="same", activation="relu", data_format="channels_first"),
        layers.Conv2D(3, 2, activation="relu", data_format="channels_first"),
        layers.GlobalAveragePooling2D(data_format="channels_first"),
        layers.Dense(3),
    ]
    first = stack((2, 6, 6), *parts)
    first.set_weights(last.get_weights())
    x, background = samples(SHAPE), samples(SHAPE, 3, seed=9)
    one = Bench(last, x, background=background)
    turned = Bench(first, np.moveaxis(x, -1, 1), background=np.moveaxis(background, -1, 1))
    for name in without(EVERY, "smoothgrad", "random", *NOISY):  # their noise is drawn in the shape of the input
        found = np.moveaxis(turned.values(name, **options(name)), 1, -1)
        same(found, one.values(name, **options(name)), what=name)
    one_map, other_map = (bench("grad_cam").layer_map for bench in (one, turned))
    same(other_map, one_map)


def test_d4_hidden_channels_in_another_order(float64):
    """Permuting hidden channels consistently changes no map, ties of the pooling included."""
    model, other, order = cnn(), cnn(), [2, 0, 3, 1]
    first, second = (layer for layer in other.layers if isinstance(layer, layers.Conv2D))
    kernel, bias = weights_of(first)
    first.set_weights([kernel[..., order], bias[order]])
    kernel, bias = weights_of(second)
    second.set_weights([kernel[:, :, order], bias])
    alike(*both(model, other, shape=SHAPE), without(EVERY, "cam", "noisegrad"))


def rescaled(model: Any, scale: np.ndarray) -> Any:
    """Scale the first hidden layer's units by positive factors, and undo it in the layer above."""
    first, second = model.layers[:2]
    kernel, bias = weights_of(first)
    first.set_weights([kernel * scale, bias * scale])
    kernel, bias = weights_of(second)
    second.set_weights([kernel / scale[:, None], bias])
    return model


def test_d5_rescaling_hidden_units(float64):
    """A hidden ReLU unit scaled by s, its readers by 1 / s: no map changes but of epsilon (absolute) and w^2."""
    scale = np.linspace(0.2, 3.0, 7)
    one, other = both(mlp(), rescaled(mlp(), scale))
    names = (*GRADIENTS, *DEEPLIFT, *SIGNALS, "occlusion", "lrp.flat", *RULES)
    alike(one, other, without(names, "lrp.epsilon", "lrp.w_square"))
    one, other = both(cnn(pool=None), rescaled(cnn(pool=None), scale[:4]), shape=SHAPE)
    alike(one, other, ("grad_cam", "hires_cam"))


def test_d6_an_identity_layer_more(float64):
    """An identity dense layer with a ReLU after a ReLU: nothing changes but beta and flat; epsilon by O(epsilon)."""
    identity = layers.Dense(7, activation="relu")
    parts = [layers.Dense(7, activation="relu"), identity, layers.Dense(6, activation="relu"), layers.Dense(3)]
    longer = stack((5,), *parts)
    weights = mlp().get_weights()
    longer.set_weights([*weights[:2], np.eye(7), np.zeros(7), *weights[2:]])
    one, other = both(mlp(), longer)
    names = (*GRADIENTS, "deeplift", "deeplift_shap", *SIGNALS, "occlusion", *RULES)
    alike(one, other, without(names, "lrp.alpha2_beta1", "lrp.epsilon"))
    alike(one, other, ("lrp.epsilon",), 1e-4)
    differ(one.values("lrp.alpha2_beta1"), other.values("lrp.alpha2_beta1"))


@pytest.mark.parametrize("kind", ["dense", "1 x 1"])
def test_d6_an_identity_between_convolutions(kind, float64):
    """With one channel, flat does not see a 1 x 1 convolution more; it does see a dense layer, as others do not."""
    first, second = layers.Conv2D(1, 2, activation="relu"), layers.Conv2D(1, 2, activation="relu")
    short = stack((5, 5, 1), first, second, layers.Flatten(), layers.Dense(3))
    if kind == "dense":
        between = [layers.Flatten(), layers.Dense(16, activation="relu"), layers.Reshape((4, 4, 1))]
        identity = [np.eye(16), np.zeros(16)]
    else:
        between, identity = [layers.Conv2D(1, 1, activation="relu")], [np.ones((1, 1, 1, 1)), np.zeros(1)]
    copies = [type(layer).from_config(layer.get_config()) for layer in short.layers]
    long = stack((5, 5, 1), copies[0], *between, *copies[1:])
    weights = short.get_weights()
    long.set_weights([*weights[:2], *identity, *weights[2:]])
    one, other = both(short, long, shape=(5, 5, 1))
    alike(one, other, ("gradient", *SIGNALS, "lrp.zero", "lrp.z_plus", "lrp.gamma", "lrp.w_square"))
    (differ if kind == "dense" else same)(one.values("lrp.flat"), other.values("lrp.flat"))


# Shifts -----------------------------------------------------------------------------------------


def shifted(model: Any, shift: np.ndarray) -> Any:
    """Take a shift of the input out again in the first layer's bias."""
    first = model.layers[0]
    kernel, bias = weights_of(first)
    first.set_weights([kernel, bias - shift @ kernel])
    return model


def test_d7_a_shift_of_the_input_that_the_first_bias_undoes(float64):
    """Gradient, SmoothGrad and the signal methods do not see it."""
    x = samples((5,))
    for shift, names in ((np.linspace(-1, 2, 5), ("gradient", *SIGNALS)), (np.full(5, 3.0), ("smoothgrad",))):
        one, other = Bench(mlp(), x), Bench(shifted(mlp(), shift), x + shift)
        for name in names:  # SmoothGrad's noise follows the sample's range: one shift for all cells
            same(one.values(name), other.values(name), what=name)


def test_d8_a_shift_with_baseline_and_bounds_moved_along(float64):
    """Integrated and expected gradients, occlusion and the box rule do not see it when their absent input moves."""
    shift, x, background = np.linspace(-1, 2, 5), samples((5,)), samples((5,), 3, seed=9)
    one = Bench(mlp(), x, background=background)
    other = Bench(shifted(mlp(), shift), x + shift, background=background + shift)
    alike(one, other, ("integrated_gradients", "expected_gradients", "occlusion", *DEEPLIFT))
    bounds = {"low": np.full(5, LOW), "high": np.full(5, HIGH)}
    moved = {name: bound + shift for name, bound in bounds.items()}
    for name in ("lrp.z_box", "deep_taylor.bounded"):
        same(one.values(name, **bounds), other.values(name, **moved), what=name)


def test_d9_a_shift_without_moving_anything_else(float64):
    """Input x gradient, LRP-0 and integrated gradients from zero do see it."""
    shift, x = np.linspace(-1, 2, 5), samples((5,))
    one, other = Bench(mlp(), x), Bench(shifted(mlp(), shift), x + shift)
    for name, chosen in (("input_x_gradient", {}), ("lrp.zero", {}), ("integrated_gradients", {"baseline": 0.0})):
        differ(one.values(name, **chosen), other.values(name, **chosen), what=name)


# Positions --------------------------------------------------------------------------------------


def test_d10_features_in_another_order(float64):
    """Permuting the features of a dense network permutes its maps."""
    order = [3, 0, 4, 1, 2]
    other = mlp()
    kernel, bias = weights_of(other.layers[0])
    other.layers[0].set_weights([kernel[order], bias])
    x, background = samples((5,)), samples((5,), 3, seed=9)
    one = Bench(mlp(), x, background=background)
    moved = Bench(other, x[:, order], background=background[:, order])
    for name in without(CELLS, "smoothgrad"):  # its noise belongs to the place
        same(moved.values(name, **options(name)), one.values(name, **options(name))[:, order], what=name)


def test_d11_a_pattern_that_moves(float64):
    """Valid convolutions under a global average: a blob moved by the stride takes its map along."""
    parts = [layers.Conv2D(3, 2, activation="relu"), layers.Conv2D(2, 2, activation="relu")]
    model = stack((8, 8, 1), *parts, layers.GlobalAveragePooling2D(), layers.Dense(3))
    x = np.zeros((2, 8, 8, 1))
    blob = samples((2, 2, 1), 1)[0]
    x[0, 3:5, 3:5], x[1, 3:5, 4:6] = blob, blob
    bench = Bench(model, x)
    for name in (*SIGNALS, "gradient", "input_x_gradient", *without(RULES, "lrp.z_box", "deep_taylor.bounded")):
        found = bench.values(name)
        same(found[1, 2:6, 3:6], found[0, 2:6, 2:5], what=name)
    found = bench.values("occlusion", fill="zeros")
    same(found[1, :, 1:], found[0, :, :-1])


def test_d12_a_feature_without_weights(float64):
    """It gets nothing, but from flat, which looks at no weight."""
    model = mlp()
    kernel, bias = weights_of(model.layers[0])
    kernel[2] = 0
    model.layers[0].set_weights([kernel, bias])
    bench = Bench(model, samples((5,)), background=samples((5,), 3, seed=9))
    for name in (*GRADIENTS, *DEEPLIFT, *SIGNALS, *RULES, "lrp", "lrp.epsilon_gamma_box"):
        found = bench.values(name, target=ks.TopClass(), **options(name))
        assert np.all(found[:, 2] == 0), name
        assert np.any(found != 0), name
    assert np.max(np.abs(bench.values("occlusion")[:, 2])) < 1e-12
    assert np.min(np.abs(bench.values("lrp.flat")[:, 2])) > 1e-3


def test_d13_two_features_with_one_part_to_play(float64):
    """f symmetric in two features that are equal, in the sample and in the baseline: equal values."""
    model = mlp("tanh")
    kernel, bias = weights_of(model.layers[0])
    kernel[1] = kernel[3]
    model.layers[0].set_weights([kernel, bias])
    x, background = samples((5,)), samples((5,), 3, seed=9)
    x[:, 1], background[:, 1] = x[:, 3], background[:, 3]
    bench = Bench(model, x, background=background)
    for name in ("integrated_gradients", "expected_gradients", "occlusion", *DEEPLIFT):
        found = bench.values(name, **options(name))
        same(found[:, 1], found[:, 3], what=name)


def test_d14_logits_times_a_factor(float64):
    """The logit layer times s > 0: maps of the output's own units times s."""
    model, other = average_head(), average_head()
    kernel, bias = weights_of(other.layers[-1])
    other.layers[-1].set_weights([2.5 * kernel, 2.5 * bias])
    one, scaled = both(model, other, shape=SHAPE)
    started_from_one = ("lrp.excitation_backprop",)
    for name in without((*CELLS, *LOCAL), *started_from_one):
        # epsilon and the stabiliser of pooling are absolute
        tolerance = 1e-4 if name in (*RULES, *COMPOSITES) else TIGHT
        expected = 2.5 * one.values(name, **options(name))
        same(scaled.values(name, **options(name)), expected, tolerance, what=name)
    for name in started_from_one:
        same(scaled.values(name), one.values(name), 1e-4, what=name)


# Repetition and traces ----------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_d15_the_same_call_twice(compiled, float64):
    """Same call, same seed: identical bits; another seed, another map where chance plays a part."""
    x, background = samples(SHAPE), samples(SHAPE, 9, seed=9)
    bench = Bench(average_head(), x, background=background)
    bench.session.compile = compiled
    for name in EVERY if not compiled else ("gradient", "smoothgrad", "lrp", "occlusion", "grad_cam"):
        first = bench.values(name, **options(name))
        np.testing.assert_array_equal(bench.values(name, **options(name)), first, err_msg=name)
        if METHODS[name].stochastic:
            differ(bench.values(name, seed=1, **options(name)), first, 1e-6, what=name)
        else:
            np.testing.assert_array_equal(bench.values(name, seed=1, **options(name)), first, err_msg=name)


def state_of(model: Any) -> list[Any]:
    """Return everything about a model that a method might touch."""
    per_layer = [(layer.name, layer.trainable, getattr(layer, "activation", None)) for layer in model.layers]
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    grads = [getattr(variable.value, "grad", None) for variable in model.weights]
    weights = [ops.convert_to_numpy(variable).tobytes() for variable in model.weights]
    return [per_layer, nodes, grads, weights]


def test_d16_the_model_is_left_alone(float64):
    """Weights, flags, activations, nodes, gradients and outputs are bit for bit what they were, also after errors."""
    model, x = average_head(), samples(SHAPE)
    before, outputs = state_of(model), Bench(model, x).logits()
    bench = Bench(model, x, background=samples(SHAPE, 3, seed=9))
    for name in EVERY:
        bench(name, **options(name))
        assert state_of(model) == before, name
    for name, chosen in (("lrp.z_box", {"low": 0.0, "high": 0.1}), ("grad_cam", {"layer": "dense"})):
        with pytest.raises(ks.KerascopeError):
            bench(name, **chosen)
    with pytest.raises(ZeroDivisionError):
        bench("gradient", target=lambda z: z[:, 0] / (1 // 0))
    assert state_of(model) == before
    np.testing.assert_array_equal(bench.logits(), outputs)


def test_controls_know_no_model(float64):
    """Random, input and edges are the same for every model and target."""
    one, other = both(average_head(), average_head(seed=4), shape=SHAPE)
    for name in CONTROLS:
        same(one.values(name), other.values(name, target=2), what=name)
    same(one.values("input"), one.x)
    same(one.values("random")[0], one.values("random")[1])
    assert np.abs(one.values("random").mean()) < 0.5
    edges = np.zeros_like(one.x)
    for place in np.ndindex(6, 6):
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            there = np.clip(np.add(place, step), 0, 5)
            edges[:, place[0], place[1]] += one.x[:, there[0], there[1]] - one.x[:, place[0], place[1]]
    same(one.values("edges"), np.abs(edges))
