"""What a map may not depend on, and how it moves when input or model move (D1, D3 to D16).

D2 (backends) is in test_stored.py. Of Shapley values D12 and D13 are in test_shapley.py; of patterns D7, and of fitted
patterns stored in a file D15, are in test_patterns.py and tests/unit/test_pattern_files.py.
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
    ALL,
    BOXED,
    CELLS,
    COMPOSITES,
    CONTROLS,
    DEEPLIFT,
    EVERY,
    GRADIENTS,
    HIGH,
    LOCAL,
    LOW,
    MORE_LOCAL,
    PATTERNS,
    PLAYERS,
    RULES,
    SIGNALS,
    alike,
    both,
    options,
    unlisted,
    without,
)
from tests.reference.nets import average_head, cnn, mlp, samples, stack, weigh, weights_of
from tests.reference.run import Bench, differ, predict, same

SHAPE = (6, 6, 2)


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


def channels_last(array: np.ndarray) -> np.ndarray:
    """Bring maps of a channels-first network to the axes of the other."""
    return np.moveaxis(array, 1, -1)


def channels_first(array: np.ndarray) -> np.ndarray:
    """Bring samples to the axes of a channels-first network."""
    return np.moveaxis(array, -1, 1)


@pytest.fixture
def first_on_cpu() -> None:
    """Skip where channels-first networks do not run."""
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on GPUs only")


def test_d3_channels_first(first_on_cpu, float64):
    """A channels-first network on transposed inputs: transposed maps."""
    last = average_head()
    parts = [
        layers.Conv2D(4, 3, padding="same", activation="relu", data_format="channels_first"),
        layers.Conv2D(3, 2, activation="relu", data_format="channels_first"),
        layers.GlobalAveragePooling2D(data_format="channels_first"),
        layers.Dense(3),
    ]
    first = stack((2, 6, 6), *parts)
    first.set_weights(last.get_weights())
    one, turned = both(last, first, shape=SHAPE, move=channels_first)
    # The noise of these is drawn in the shape of the input.
    names = without(ALL, "smoothgrad", "squaregrad", "vargrad", "random")
    alike(one, turned, names, back=channels_last)
    one_map, other_map = (bench("grad_cam").layer_map for bench in (one, turned))
    same(other_map, one_map)


def branches(form: str) -> Any:
    """Return a network that adds two convolutions, over (5, 4, 2) or (2, 5, 4)."""
    inputs = layers.Input((2, 5, 4) if form == "channels_first" else (5, 4, 2))
    left, right = (layers.Conv2D(3, 2, data_format=form)(inputs) for _ in range(2))
    pooled = layers.GlobalAveragePooling2D(data_format=form)(layers.ReLU()(layers.Add()([left, right])))
    return weigh(keras.Model(inputs, layers.Dense(3)(pooled)))


def test_d3_sums_with_channels_first(first_on_cpu, float64):
    """A sum has one pattern for each channel, wherever the channels are."""
    one, turned = both(*map(branches, ("channels_last", "channels_first")), shape=(5, 4, 2), move=channels_first)
    alike(one, turned, PATTERNS, back=channels_last)


def test_d4_hidden_channels_in_another_order(float64):
    """Permuting the channels of both convolutions consistently changes no map, ties of the pooling included."""
    model, other, order, places = cnn(), cnn(), [2, 0, 3, 1], [2, 0, 1]
    first, second, head = (layer for layer in other.layers if layer.weights)
    kernel, bias = weights_of(first)
    first.set_weights([kernel[..., order], bias[order]])
    kernel, bias = weights_of(second)
    second.set_weights([kernel[:, :, order][..., places], bias[places]])
    kernel, bias = weights_of(head)
    head.set_weights([kernel.reshape(2, 2, 3, 3)[:, :, places].reshape(12, 3), bias])
    # CAM needs a global average; noise in the weights belongs to their places.
    alike(*both(model, other, shape=SHAPE), without(ALL, "cam", "noisegrad"))


def rescaled(model: Any, scale: np.ndarray) -> Any:
    """Scale the first hidden layer's units by positive factors, and undo it in the layer above."""
    first, second = model.layers[:2]
    kernel, bias = weights_of(first)
    first.set_weights([kernel * scale, bias * scale])
    kernel, bias = weights_of(second)
    second.set_weights([kernel / scale[:, None], bias])
    return model


@pytest.mark.parametrize("net", [mlp, lambda: cnn(pool=None)], ids=["dense", "convolutions"])
def test_d5_rescaling_hidden_units(net, float64):
    """A hidden ReLU unit scaled by s, its readers by 1 / s: no map changes but of epsilon (absolute) and w^2."""
    scale = np.linspace(0.2, 3.0, net().layers[0].output.shape[-1])
    names = (*GRADIENTS, *DEEPLIFT, *SIGNALS, "occlusion", "lrp.flat", *RULES, "shapley_exact", *PATTERNS)
    benches = both(net(), rescaled(net(), scale), shape=net().input_shape[1:])
    alike(*benches, without(names, "lrp.epsilon", "lrp.w_square"))


def test_d5_maps_of_the_layer_that_is_rescaled(float64):
    """There A_k is scaled by s, its gradient by 1 / s: their products stay, a map of A_k alone changes."""
    benches = both(cnn(pool=None), rescaled(cnn(pool=None), np.linspace(0.2, 3.0, 4)), shape=SHAPE)
    hidden = [predict(keras.Model(b.model.inputs, b.model.layers[0].output), b.x) for b in benches]
    differ(*hidden)
    kept = {"grad_cam": same, "hires_cam": same, "layer_cam": same, "xgrad_cam": same, "eigen_cam": differ}
    for name, compare in kept.items():
        maps = [b(name, layer=b.model.layers[0].name, target=1).layer_map for b in benches]
        assert np.any(maps[0]), name
        compare(*maps, what=name)


def behind_an_identity(between: list[Any], identity: list[np.ndarray], short: Any) -> list[Bench]:
    """Return a network, and the same with layers that change nothing after its first layer."""
    first, *others = (type(layer).from_config(layer.get_config()) for layer in short.layers)
    longer = stack(short.input_shape[1:], first, *between, *others)
    weights = short.get_weights()
    longer.set_weights([*weights[:2], *identity, *weights[2:]])
    return both(short, longer, shape=short.input_shape[1:])


UNCHANGED = (*GRADIENTS, "deeplift", "deeplift_shap", *SIGNALS, "occlusion", *RULES)


@pytest.mark.parametrize("kind", ["dense", "1 x 1"])
def test_d6_an_identity_layer_more(kind, float64):
    """An identity layer with a ReLU after a ReLU: nothing changes but beta and flat; epsilon by O(epsilon)."""
    if kind == "dense":
        benches = behind_an_identity([layers.Dense(7, activation="relu")], [np.eye(7), np.zeros(7)], mlp())
    else:
        pointwise = [np.eye(4)[None, None], np.zeros(4)]
        benches = behind_an_identity([layers.Conv2D(4, 1, activation="relu")], pointwise, cnn(pool=None))
    alike(*benches, without(UNCHANGED, "lrp.alpha2_beta1", "lrp.epsilon"))
    one, other = benches
    apart = [bench.values("lrp.epsilon", epsilon=e) for bench in benches for e in (1e-6, 1e-8)]
    assert np.max(np.abs(apart[0] - apart[2])) / np.max(np.abs(apart[1] - apart[3])) == pytest.approx(100, rel=0.01)
    differ(one.values("lrp.alpha2_beta1"), other.values("lrp.alpha2_beta1"))


def test_d6_reveal_cancel_where_every_unit_fires(float64):
    """A ReLU that is off at sample and reference hides that its parts cancel; behind it an identity sees no parts.

    RevealCancel gives a part of zero the multiplier zero, so it can keep D6 only where every unit fires.
    """
    firing = mlp()
    for layer in firing.layers[:2]:
        layer.bias.assign(np.full(layer.bias.shape, 20.0))
    for net, compare in ((firing, same), (mlp(), differ)):
        one, other = behind_an_identity([layers.Dense(7, activation="relu")], [np.eye(7), np.zeros(7)], net)
        compare(other.values("deeplift.reveal_cancel"), one.values("deeplift.reveal_cancel"))


@pytest.mark.parametrize("kind", ["dense", "1 x 1"])
def test_d6_an_identity_between_convolutions(kind, float64):
    """With one channel, flat does not see a 1 x 1 convolution more; it does see a dense layer, as others do not."""
    first, second = layers.Conv2D(1, 2, activation="relu"), layers.Conv2D(1, 2, activation="relu")
    # Of seed 0 no unit of the second layer fires, and every map is zero.
    short = stack((5, 5, 1), first, second, layers.Flatten(), layers.Dense(3), seed=2)
    if kind == "dense":
        between = [layers.Flatten(), layers.Dense(16, activation="relu"), layers.Reshape((4, 4, 1))]
        identity = [np.eye(16), np.zeros(16)]
    else:
        between, identity = [layers.Conv2D(1, 1, activation="relu")], [np.ones((1, 1, 1, 1)), np.zeros(1)]
    one, other = behind_an_identity(between, identity, short)
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
    """Gradient, SmoothGrad, the signal methods and Deep Taylor from w^2 do not see it."""
    unmoved = ("gradient", *SIGNALS, "lrp.w_square", "deep_taylor")
    for shift, names in ((np.linspace(-1, 2, 5), unmoved), (np.full(5, 3.0), ("smoothgrad",))):
        # SmoothGrad's noise follows the sample's range: one shift for all cells
        alike(*both(mlp(), shifted(mlp(), shift), move=lambda x, shift=shift: x + shift), names)


def test_d8_a_shift_with_baseline_and_bounds_moved_along(float64):
    """Integrated and expected gradients, occlusion and the box rule do not see it when their absent input moves."""
    shift = np.linspace(-1, 2, 5)
    one, other = both(mlp(), shifted(mlp(), shift), move=lambda x: x + shift)
    alike(one, other, ("integrated_gradients", "expected_gradients", "occlusion", *DEEPLIFT, *PLAYERS))
    bounds = {"low": np.full(5, LOW), "high": np.full(5, HIGH)}
    moved = {name: bound + shift for name, bound in bounds.items()}
    top = one.logits().argmax(axis=1)
    for name in ("lrp.z_box", "deep_taylor.bounded"):
        expected = one.values(name, target=top, **bounds)
        assert np.any(expected), name
        same(other.values(name, target=top, **moved), expected, what=name)


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
    benches = both(mlp(), other, move=lambda x: x[:, order])
    # The noise of SmoothGrad belongs to the place, as do the coalitions that are drawn.
    names = (*without(CELLS, "smoothgrad"), "shapley_exact", *PATTERNS)
    alike(*benches, names, back=lambda a: a[:, np.argsort(order)])
    one, moved = (bench.values("kernel_shap") for bench in benches)  # of all coalitions
    same(moved, one[:, order])


def test_d11_a_pattern_that_moves(float64):
    """Valid convolutions under a global average: a blob moved by the stride takes its map along."""
    parts = [layers.Conv2D(3, 2, activation="relu"), layers.Conv2D(2, 2, activation="relu")]
    model = stack((8, 8, 1), *parts, layers.GlobalAveragePooling2D(), layers.Dense(3))
    x = np.zeros((2, 8, 8, 1))
    blob = samples((2, 2, 1), 1)[0]
    x[0, 3:5, 3:5], x[1, 3:5, 4:6] = blob, blob
    bench = Bench(model, x, train=samples((8, 8, 1), 20))
    top = bench.logits().argmax(axis=1)
    assert top[0] == top[1]
    compared = ("integrated_gradients", "deeplift", "deeplift.reveal_cancel")
    names = (*SIGNALS, "gradient", "input_x_gradient", *compared, *PATTERNS, *without(RULES, *BOXED[::2]))
    for name in names:
        found = bench.values(name, target=top, **({"baseline": "zeros"} if name in compared else {}))
        assert np.any(found[0]), name
        same(found[1, 2:6, 3:6], found[0, 2:6, 2:5], what=name)
    for name in without((*LOCAL, *MORE_LOCAL), "score_cam", "ablation_cam"):
        found = bench(name, target=top).layer_map
        assert np.any(found[0]), name
        same(found[1, :, 2:5], found[0, :, 1:4], what=name)
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


ABSOLUTE = ("lrp.epsilon", *without(COMPOSITES, "lrp.flat"))
"""Their epsilon at the logit layer is a number, not a share of the logit."""


def test_d14_logits_times_a_factor(float64):
    """The logit layer times s > 0: maps times s, squares times s^2; some start from one, or divide by the logit."""
    model, other = average_head(), average_head()
    kernel, bias = weights_of(other.layers[-1])
    other.layers[-1].set_weights([2.5 * kernel, 2.5 * bias])
    benches = both(model, other, shape=SHAPE)
    alike(*benches, ("squaregrad", "vargrad"), factor=2.5**2)
    unmoved = ("lrp.excitation_backprop", "patternnet", "eigen_cam", "ablation_cam")
    alike(*benches, unmoved)
    bent = ("grad_cam_plus_plus", "score_cam")
    for name in bent:
        differ(*(bench.values(name) for bench in benches), what=name)
    alike(*benches, ABSOLUTE, 1e-5, factor=2.5)
    left_out = (*ABSOLUTE, *unmoved, *bent, "squaregrad", "vargrad", *CONTROLS)
    alike(*benches, without(ALL, *left_out), factor=2.5)


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
