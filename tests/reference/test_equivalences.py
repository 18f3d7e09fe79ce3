"""What equals what: methods with each other, and one network with the same network written otherwise.

C1 to C3, C8 to C15, C20, C23 to C25, C27. C4 to C7 and C26 are in test_deeplift.py, C16 in test_noise.py, C17 and C18
in test_patterns.py, C19 in test_shapley.py and test_coalitions.py, C21 and C22 in test_any_layer.py.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope import rules
from tests.reference.every import (
    ALL,
    CELLS,
    COMPOSITES,
    DEEPLIFT,
    GRADIENTS,
    HIGH,
    LOW,
    RULES,
    SIGNALS,
    alike,
    both,
    options,
    without,
)
from tests.reference.nets import (
    average_head,
    cnn,
    mlp,
    normalised,
    residual,
    samples,
    stack,
    weigh,
    weights_of,
)
from tests.reference.replicas import matrix_of
from tests.reference.run import TIGHT, Bench, differ, predict, same

# Methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("net", "tolerance"), [(mlp, TIGHT), (cnn, TIGHT), (residual, 1e-5), (average_head, 1e-4)])
def test_c1_lrp_zero_is_input_times_gradient(net, tolerance, float64):
    """On ReLU networks, biases or not, LRP-0 is x df/dx, to rounding where there is neither Add nor average pooling.

    Those keep an absolute stabiliser of 1e-6: a sum of size s hands on s / (s + 1e-6) of its relevance. It shows as
    1e-6 over the smallest sums that matter: 2.6e-6 of the largest value with Add, 7.3e-5 with a global average.
    """
    model = net()
    bench = Bench(model, samples(model.input_shape[1:]))
    for target in range(3):
        same(
            bench.values("lrp.zero", target=target),
            bench.values("input_x_gradient", target=target),
            tolerance,
        )


def test_c2_lrp_epsilon_approaches_input_times_gradient(float64):
    """The difference shrinks in proportion to epsilon, and is below 1e-6 at 1e-12."""
    bench = Bench(mlp(), samples((5,)))
    limit = bench.values("input_x_gradient")
    off = [np.max(np.abs(bench.values("lrp.epsilon", epsilon=e) - limit)) for e in (1e-5, 1e-6, 1e-12)]
    assert off[0] / off[1] == pytest.approx(10, rel=0.01)
    assert off[2] < 1e-6 < off[0]


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_c3_integrated_gradients_of_homogeneous_networks(steps, float64):
    """Bias-free ReLU networks from zero: x df/dx at every number of points."""
    for model in (mlp(biases=0.0), cnn(biases=0.0)):
        bench = Bench(model, samples(model.input_shape[1:]))
        found = bench.values("integrated_gradients", baseline="zeros", steps=steps)
        same(found, bench.values("input_x_gradient"))


def test_c8_gamma_lies_between_zero_and_alpha_beta(float64):
    """Gamma 0 is LRP-0; on non-negative inputs and a positive output a huge gamma is alpha 1, beta 0."""
    bench = Bench(mlp(), samples((5,), low=0.0))
    same(bench.values("lrp.gamma", gamma=0.0), bench.values("lrp.zero"))
    target = np.argmax(bench.logits(), axis=1)
    assert np.min(np.max(bench.logits(), axis=1)) > 0
    huge = bench.values("lrp.gamma", gamma=1e9, target=target)
    same(huge, bench.values("lrp.alpha1_beta0", target=target), 1e-6)
    # On x >= 0 and z > 0 the generalised rule is the plain one: x (W + g W+) over its sum and b + g b+.
    one = Bench(stack((5,), layers.Dense(3), seed=4), samples((5,), low=0.0))
    w, b = weights_of(one.model.layers[0])
    z, lifted = one.logits(), w + 0.25 * np.maximum(w, 0)
    plain = one.x[:, :, None] * lifted / (one.x @ lifted + b + 0.25 * np.maximum(b, 0))[:, None] * z[:, None]
    found = np.moveaxis(one.values("lrp.gamma", target="all"), 1, 2)
    positive = np.broadcast_to((z > 0)[:, None], plain.shape)
    same(found[positive], plain[positive])
    differ(found[~positive], plain[~positive])


def test_c9_z_plus_is_alpha_one_without_bias(float64):
    """z+ ignoring biases is alpha-beta (1, 0) ignoring them; on x >= 0 it is x W+ over its sum."""
    bench = Bench(mlp(), samples((5,), low=0.0))
    found = bench.values("lrp.z_plus")
    same(found, bench.values("lrp.alpha1_beta0", bias="ignore"))
    same(found, bench.values("lrp.excitation_backprop") * bench.logits()[:, :1])
    (w1, b1), (w2, b2), (w3, _) = (weights_of(layer) for layer in bench.model.layers)
    h1 = np.maximum(bench.x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    r = np.zeros((3, 3))
    r[:, 0] = bench.logits()[:, 0]
    for x, w in ((h2, w3), (h1, w2), (bench.x, w1)):
        z = x @ np.maximum(w, 0)
        r = x * ((r / np.where(z > 0, z, np.inf)) @ np.maximum(w, 0).T)
    same(found, r)


@pytest.mark.parametrize("sign", [-1, 1])
def test_c10_deep_taylor_is_a_composite(sign, float64):
    """Box first, z+ above; where all biases are negative, alpha 1 beta 0 with the bias above is the same."""
    model = mlp()
    for variable in model.weights:
        if variable.path.endswith("bias"):
            variable.assign(sign * 0.2 * np.abs(ops.convert_to_numpy(variable)))
    bench = Bench(model, samples((5,)))
    target = np.argmax(bench.logits(), axis=1)
    assert np.min(np.max(bench.logits(), axis=1)) > 0
    box = (ks.first_layer, rules.ZBox(LOW, HIGH))
    found = bench.values("deep_taylor.bounded", low=LOW, high=HIGH, target=target)
    ignoring = ks.Composite([box, ("*", rules.ZPlus(bias="ignore"))])
    same(found, bench.values(ks.LRP(composite=ignoring), target=target))
    absorbing = ks.Composite([box, ("*", rules.AlphaBeta(1.0, 0.0, bias="absorb"))])
    compare = same if sign < 0 else differ
    compare(found, bench.values(ks.LRP(composite=absorbing), target=target))
    without = ks.Composite([(ks.first_layer, rules.WSquare()), ("*", rules.ZPlus(bias="ignore"))])
    same(bench.values("deep_taylor", target=target), bench.values(ks.LRP(composite=without), target=target))


def test_c11_w_square_is_flat_where_weights_are_of_one_size(float64):
    """All |W| of a neuron equal: w^2 is flat, and for a given start neither sees the input."""
    model = mlp()
    for layer in model.layers:
        kernel = weights_of(layer)[0]
        layer.kernel.assign(np.sign(kernel) * np.linspace(0.5, 1.5, kernel.shape[1]))
    bench = Bench(model, samples((5,)))
    flat, square = (ks.LRP(composite=name, start="one") for name in ("flat", "w_square"))
    same(bench.values(square), bench.values(flat))
    same(bench.values(square), np.tile(bench.values(square)[:1], (3, 1)))


def positive_above_the_first(model: Any) -> Any:
    """Make every kernel above the first layer non-negative."""
    for layer in [layer for layer in model.layers if layer.weights][1:]:
        layer.kernel.assign(np.abs(weights_of(layer)[0]))
    return model


def test_c12_guided_backprop_is_the_gradient_where_nothing_is_negative(float64):
    """Kernels above the first layer >= 0: nothing is left for the second mask to cut."""
    for model in (mlp(), cnn()):
        x = samples(model.input_shape[1:])
        differ(Bench(model, x).values("guided_backprop"), Bench(model, x).values("gradient"))
        bench = Bench(positive_above_the_first(model), x)
        same(bench.values("guided_backprop"), bench.values("gradient"))


def test_c13_deconvnet_is_the_gradient_where_every_unit_fires(float64):
    """And all pre-activations positive: nothing is left for the forward mask either."""
    model = positive_above_the_first(mlp())
    x = samples((5,))
    differ(Bench(model, x).values("deconvnet"), Bench(model, x).values("gradient"))
    model.layers[0].bias.assign(np.full(7, 20.0))
    bench = Bench(model, x)
    same(bench.values("deconvnet"), bench.values("gradient"))


def test_c14_deconvnet_does_not_look_at_the_input(float64):
    """Without max pooling its map is the same for every input; from the logit, a multiple of it."""
    for model in (mlp(), cnn(pool=None)):
        bench = Bench(model, samples(model.input_shape[1:]))
        found = bench.values("deconvnet")
        same(found, np.repeat(found[:1], 3, axis=0))
        top = np.argmax(bench.logits(), axis=1)
        logit = np.max(bench.logits(), axis=1).reshape(3, *(1,) * (found.ndim - 1))
        assert np.min(logit) > 0
        from_one = bench.values("deconvnet", target=top)
        same(bench.values("deconvnet", start="logit", target=top), logit * from_one)
    pooled = Bench(cnn(), samples((6, 6, 2))).values("deconvnet")
    differ(pooled[0], pooled[1])


def test_c15_smoothgrad_without_noise_is_its_base(float64):
    """Noise 0: the base method, at any number of draws."""
    bench = Bench(mlp(), samples((5,)))
    for base in (ks.Gradient(), ks.LRP(), ks.IntegratedGradients(baseline="zeros", steps=4)):
        for draws in (1, 3):
            same(bench.values(ks.SmoothGrad(base, draws=draws, noise=0.0)), bench.values(base))


def test_c20_occlusion_by_one_window(float64):
    """One window over everything: the constant f(x) - f(fill)."""
    bench = Bench(cnn(), samples((6, 6, 2)))
    expected = bench.logits()[:, 0] - bench.logits(np.full((1, 6, 6, 2), 0.3))[:, 0]
    found = bench.values("occlusion", window=6, fill=0.3)
    same(found, np.broadcast_to(expected.reshape(3, 1, 1, 1), found.shape))


def test_c25_a_contrast_is_a_difference(float64):
    """Methods that are linear in the output: A(f_a - f_b) = A(f_a) - A(f_b)."""
    background = samples((5,), 3, seed=9)
    bench = Bench(mlp(), samples((5,)), background=background)
    # Saliency takes sizes; Deep Taylor starts from the positive part, excitation backprop from one.
    bent = ("saliency", "deep_taylor", "deep_taylor.bounded", "lrp.excitation_backprop")
    for name in without((*GRADIENTS, *DEEPLIFT, "occlusion", *RULES, *COMPOSITES, "noisegrad"), *bent):
        a, b, c = (bench.values(name, target=k, **options(name)) for k in range(3))
        same(bench.values(name, target=ks.Contrast(0, 2), **options(name)), a - c, what=name)
        same(bench.values(name, target=ks.Contrast(1), **options(name)), b - (a + c) / 2, what=name)
    for name in ("saliency", *SIGNALS):
        a, c = (bench.values(name, target=k) for k in (0, 2))
        differ(bench.values(name, target=ks.Contrast(0, 2)), a - c, what=name)


def test_c25_a_contrast_of_maps_at_a_layer(float64):
    """The same for maps before their ReLU."""
    bench = Bench(average_head(), samples((6, 6, 2)))
    for name, chosen in (("cam", {}), ("hires_cam", {}), ("grad_cam", {"relu": False}), ("xgrad_cam", {"relu": False})):
        a, b = (bench.values(name, target=k, **chosen) for k in (0, 2))
        same(bench.values(name, target=ks.Contrast(0, 2), **chosen), a - b, what=name)


def test_c27_gradients_of_softmax_outputs(float64):
    """Of log softmax_c: grad f_c - sum p_k grad f_k; of softmax_c: p_c times that. The head is taken off."""
    parts = [layers.Dense(7, activation="relu"), layers.Dense(3, activation="softmax")]
    bench = Bench(stack((5,), *parts), samples((5,)))
    p = bench.logits()  # of this model: probabilities
    grads = bench.values("gradient", target="all")
    logarithmic = grads[:, 1] - np.einsum("nk,nki->ni", p, grads)
    same(bench.values("gradient", target=lambda z: ops.log_softmax(z)[:, 1]), logarithmic)
    same(bench.values("gradient", target=lambda z: ops.softmax(z)[:, 1]), p[:, 1:2] * logarithmic)


# One network, written otherwise -------------------------------------------------------------


def fold(model: Any) -> Any:
    """Fold the BatchNormalizations of `normalised` into its convolutions by hand."""
    kept = [layer for layer in model.layers if not isinstance(layer, layers.BatchNormalization)]
    shape = model.input_shape[1:]
    folded = keras.Sequential([layers.Input(shape), *(type(k).from_config(k.get_config()) for k in kept)])
    weights: list[np.ndarray] = []
    previous, pending = None, None
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = weights_of(layer)
            k = gamma / np.sqrt(variance + layer.epsilon)
            if isinstance(previous, layers.Conv2D):
                weights[-2:] = [weights[-2] * k, (weights[-1] - mean) * k + beta]
            else:
                pending = k, beta - mean * k
        elif layer.weights:
            kernel, bias = weights_of(layer)
            if pending is not None:
                k, shift = pending
                bias = bias + np.einsum("hwio,i->o", kernel, shift)
                kernel, pending = kernel * k[:, None], None
            weights += [kernel, bias]
        previous = layer
    folded.set_weights(weights)
    return folded


@pytest.mark.parametrize("order", ["after", "before"])
def test_c23_batch_norm_is_folded(order, float64):
    """A network with BatchNormalization and the one folded by hand: the same maps, every method; rules to 1e-12."""
    model = normalised(order=order, padding="valid", seed=1)  # at the seed before, Grad-CAM is zero after its ReLU
    one, other = both(model, fold(model), shape=(6, 6, 2))
    assert one.session.view.graph.folded
    same(one.logits(), other.logits(), 1e-12)
    alike(one, other, (*RULES, *COMPOSITES), 1e-12)
    # CAM needs a global average; noise in the weights falls on the weights as written.
    alike(one, other, without(ALL, *RULES, *COMPOSITES, "cam", "noisegrad"))


def test_c23_a_batch_norm_before_zero_padding_is_folded_with_a_map_of_biases(float64):
    """Its shift is missing in the border: the fold is exact all the same, as the explicit matrix shows."""
    model = normalised(order="before", padding="same")
    first, _, norm, second, _, _, head = model.layers
    x = samples((6, 6, 2))
    gamma, beta, mean, variance = weights_of(norm)
    k = np.tile(gamma / np.sqrt(variance + norm.epsilon), 36)
    m1, m2 = matrix_of(first, (6, 6, 2)), matrix_of(second, (6, 6, 4))
    shift = np.tile(beta, 36) - np.tile(mean, 36) * k
    w1, w2, w3 = m1.w, m2.w * k[:, None], weights_of(head)[0]
    dense = stack((72,), *(layers.Dense(n, activation="relu") for n in (144, 108)), layers.Dense(3))
    dense.set_weights([w1, m1.b, w2, m2.b + shift @ m2.w, w3, weights_of(head)[1]])
    one, other = Bench(model, x), Bench(dense, x.reshape(3, 72))
    assert one.session.view.graph.folded
    same(one.logits(), other.logits(), 1e-12)
    alike(one, other, without(RULES, "lrp.w_square", "deep_taylor"), back=lambda a: a.reshape(3, 6, 6, 2))


def test_c23_dropout_and_noise_do_nothing(float64):
    """Layers that act in training only leave every map of every method as it is."""
    first, last, average, head = map(copy_of, average_head().layers)
    between = [layers.SpatialDropout2D(0.5), layers.GaussianNoise(0.3)]
    other = stack((6, 6, 2), first, *between, last, layers.AlphaDropout(0.2), average, layers.Dropout(0.5), head)
    other.set_weights(average_head().get_weights())
    alike(*both(average_head(), other, shape=(6, 6, 2)), ALL)


@pytest.mark.parametrize("form", ["functional", "nested", "subclassed"])
def test_c24_one_network_built_in_four_ways(form, float64):
    """Sequential, functional, nested and subclassed: every map of every method is identical."""
    sequential = average_head()
    if form == "functional":
        inputs = value = layers.Input((6, 6, 2))
        for layer in sequential.layers:
            value = copy_of(layer)(value)
        other = keras.Model(inputs, value)
    elif form == "nested":
        body = keras.Sequential([layers.Input((6, 6, 2)), *map(copy_of, sequential.layers[:2])])
        other = keras.Sequential([layers.Input((6, 6, 2)), body, *map(copy_of, sequential.layers[2:])])
    else:
        other = Subclassed([copy_of(layer) for layer in sequential.layers])
        predict(other, samples((6, 6, 2)))
    other.set_weights(sequential.get_weights())
    alike(*both(sequential, other, shape=(6, 6, 2)), ALL)


def test_c24_layers_of_a_submodel_with_equal_weights(float64):
    """Their noise is their own, as in the flat network."""
    flat = stack((4,), layers.Dense(4, activation="relu"), layers.Dense(4, activation="relu"), layers.Dense(2))
    flat.layers[1].set_weights(flat.layers[0].get_weights())
    body = keras.Sequential([layers.Input((4,)), *map(copy_of, flat.layers[:2])])
    nested = keras.Sequential([layers.Input((4,)), body, copy_of(flat.layers[2])])
    nested.set_weights(flat.get_weights())
    alike(*both(flat, nested, shape=(4,)), ("noisegrad",))


def copy_of(layer: Any) -> Any:
    """Return an unbuilt layer of the same configuration, under another name."""
    return type(layer).from_config(layer.get_config() | {"name": None})


class Subclassed(keras.Model):
    """Calls its layers one after the other."""

    def __init__(self, parts: list[Any]) -> None:
        super().__init__()
        self.parts = parts

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


def test_maps_of_two_networks_differ(float64):
    """Other weights, another map: these comparisons do not compare a thing with itself."""
    x, background = samples((5,)), samples((5,), 3, seed=9)
    one, other = (Bench(weigh(mlp(), seed=s), x, background=background) for s in (0, 1))
    for name in CELLS:
        differ(one.values(name, **options(name)), other.values(name, **options(name)), what=name)
