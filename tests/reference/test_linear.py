"""Identities on one linear layer and on functions of closed form (A1 to A12).

A2 of SquareGrad and VarGrad is in test_noise.py; A3, A9 and A10 of DeepLIFT are in test_deeplift.py, of Shapley values
and KernelSHAP in test_shapley.py; A4 is in test_shapley.py and test_lime.py.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope import rules
from tests.reference.nets import linear, samples, stack, weights_of
from tests.reference.run import Bench, explain, same

FEATURES = 5


@pytest.fixture
def bench(float64) -> Bench:
    """f = W x + b, 5 features and 3 outputs, and 3 samples."""
    return Bench(linear(FEATURES), samples((FEATURES,)), background=samples((FEATURES,), 1, seed=7))


def slope(bench: Bench, target: int = 0) -> np.ndarray:
    """Return w of f = w x + b."""
    return weights_of(bench.model.layers[0])[0][:, target]


def single(w: Any, b: float, x: Any) -> Bench:
    """Return one linear neuron with given numbers."""
    layer = layers.Dense(1)
    model = stack((len(w),), layer)
    layer.kernel.assign(np.reshape(w, (-1, 1)))
    layer.bias.assign(np.array([b]))
    return Bench(model, np.array([x], "float64"))


def test_a1_function_and_signal_methods_return_the_filter(bench):
    """Gradient, DeconvNet and guided backprop are w, for every x."""
    for target in range(3):
        expected = np.tile(slope(bench, target), (3, 1))
        for method in ("gradient", "deconvnet", "guided_backprop"):
            same(bench.values(method, target=target), expected, what=method)
        same(bench.values("saliency", target=target), np.abs(expected))


@pytest.mark.parametrize(("noise", "draws", "seed"), [(0.0, 1, 0), (0.1, 2, 0), (0.1, 7, 3), (2.0, 5, 11)])
def test_a2_smoothgrad_returns_the_filter(noise, draws, seed, bench):
    """SmoothGrad is w at every noise, number of draws and seed, with an error of zero."""
    found = bench("smoothgrad", noise=noise, draws=draws, seed=seed)
    same(found.values, np.tile(slope(bench), (3, 1)))
    if draws > 1:
        assert np.max(found.standard_error) < 1e-12
    else:
        assert np.all(np.isnan(found.standard_error))


def test_a3_attributions_are_weight_times_change(bench):
    """Input x gradient is w x; integrated and expected gradients and occlusion by cell are w (x - x0)."""
    x, x0, w = bench.x, bench.session.background[0], slope(bench)
    same(bench.values("input_x_gradient"), w * x)
    for steps in (1, 2, 3, 5, 64):
        found = bench("integrated_gradients", steps=steps)
        same(found.values, w * (x - x0), what=f"{steps} steps")
        assert np.max(np.abs(found.completeness_gap)) < 1e-12
        assert np.all(found.absorbed == 0)
    for draws in (1, 4, 33):
        same(bench.values("expected_gradients", draws=draws), w * (x - x0), what=f"{draws} draws")
    same(bench.values("occlusion"), w * (x - x0))
    same(bench.values("occlusion", fill=x0[0]), w * (x - x0))
    same(bench.values("integrated_gradients", baseline=0.25), w * (x - 0.25))


def test_a5_lrp_zero_ignores_what_the_bias_adds(bench):
    """LRP-0 is w x also with a bias, whose share of the output is absorbed."""
    found = bench("lrp.zero")
    same(found.values, slope(bench) * bench.x)
    bias = weights_of(bench.model.layers[0])[1][0]
    same(found.absorbed, np.full(3, bias))
    same(found.values.sum(axis=1), found.explained - bias)


@pytest.mark.parametrize("epsilon", [1e-6, 0.01, 0.5])
def test_a6_lrp_epsilon_shrinks_by_the_stabiliser(epsilon, bench):
    """LRP-epsilon is w x f / (f + epsilon sign(f))."""
    f = bench.logits()[:, :1]
    expected = slope(bench) * bench.x * f / (f + epsilon * np.where(f >= 0, 1, -1))
    same(bench.values("lrp.epsilon", epsilon=epsilon), expected)


def test_a7_the_sign_of_the_bias_belongs_to_one_side(float64):
    """x = 1, w = 1, b = -1/4: the positive part divides by x w alone, the negative one by b alone."""
    bench = single([1.0], -0.25, [1.0])
    numbers = {
        "lrp.alpha1_beta0": 0.75,
        "lrp.alpha2_beta1": 1.5,
        "lrp.z_plus": 0.75,
        "lrp.epsilon": 0.9868421052631579,
    }
    for method, value in numbers.items():
        options = {"epsilon": 0.01} if method == "lrp.epsilon" else {}
        found = bench(method, **options)
        same(found.values, [[value]], what=method)
        assert abs(found.completeness_gap[0]) < 1e-12
        assert abs(found.absorbed[0] - (0.75 - value)) < 1e-12


def test_a8_alpha_beta_of_a_negative_output(float64):
    """w = (1, -1), b = -1, x = (1, 1), so f = -1: alpha 1 gives (-1, 0), alpha 2 gives (-2, 1/2)."""
    bench = single([1.0, -1.0], -1.0, [1.0, 1.0])
    same(bench.values("lrp.alpha1_beta0"), [[-1.0, 0.0]])
    found = bench("lrp.alpha2_beta1")
    same(found.values, [[-2.0, 0.5]])
    assert abs(found.absorbed[0] - 0.5) < 1e-12


def test_a9_a_product_of_two_features(float64):
    """f = x1 x2 from zero: a path gives half each, the gradient and occlusion give all to both, LRP half."""
    inputs = layers.Input((2,))
    product = layers.Multiply()([inputs[:, :1], inputs[:, 1:]])
    anchor = layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, anchor(product))
    anchor.kernel.assign(np.ones((1, 1)))
    x = np.array([[2.0, 3.0], [-1.0, 0.5]])
    bench, f = Bench(model, x), x[:, :1] * x[:, 1:]
    for steps in (1, 4):
        same(bench.values("integrated_gradients", baseline="zeros", steps=steps), np.repeat(f / 2, 2, axis=1))
    same(bench.values("lrp.zero"), np.repeat(f / 2, 2, axis=1))
    same(bench.values("input_x_gradient"), np.repeat(f, 2, axis=1))
    same(bench.values("occlusion", fill="zeros"), np.repeat(f, 2, axis=1))


def test_a10_additive_functions(float64):
    """f = sum of g_i(x_i): integrated gradients and occlusion by cell give g_i(x_i) - g_i(x0_i)."""
    rates = np.linspace(0.4, 1.6, FEATURES)
    inputs = layers.Input((FEATURES,))
    head = layers.Dense(1)
    model = keras.Model(inputs, head(ops.tanh(inputs * rates)))
    weights = np.linspace(-1, 1, FEATURES)
    head.kernel.assign(weights[:, None])
    x, x0 = samples((FEATURES,)), samples((FEATURES,), 1, seed=5)[0]
    bench = Bench(model, x)
    expected = weights * (np.tanh(rates * x) - np.tanh(rates * x0))
    same(bench.values("integrated_gradients", baseline=x0, steps=32), expected)
    same(bench.values("occlusion", fill=x0), expected)


def test_a11_flat_and_w_square_on_a_dense_layer(bench):
    """Flat gives every input R / n; w^2 gives w^2 / sum w^2 R, whatever x is."""
    f, w = bench.logits()[:, :1], slope(bench)
    same(bench.values("lrp.flat"), np.tile(f / FEATURES, (1, FEATURES)))
    same(bench.values("lrp.w_square"), w**2 / np.sum(w**2) * f)


def test_a12_the_box_rule(bench):
    """With low = high = 0 it is the z rule without a bias; in the box it keeps signs and sums.

    From uneven bounds it shares by x w - low w+ - high w-: low stands at what speaks for the output.
    """
    x, w = bench.x, slope(bench)
    start = np.zeros((3, 3))
    start[:, 0] = [1.0, 0.5, 2.0]
    nothing = ks.Composite([("*", rules.ZBox(0.0, 0.0))])
    z = x @ w
    expected = x * w / z[:, None] * start[:, :1]
    same(bench.relevance_of_input(bench.walk(nothing, x, start)), expected)
    box = ks.Composite([("*", rules.ZBox(-1.0, 1.0))])
    walked = bench.walk(box, x, start)
    found = bench.relevance_of_input(walked)
    assert np.min(found) >= 0
    same(found.sum(axis=1), start[:, 0])
    q = x * w + 1.0 * np.maximum(w, 0) - 2.5 * np.minimum(w, 0)
    uneven = bench.walk(ks.Composite([("*", rules.ZBox(-1.0, 2.5))]), x, start)
    same(bench.relevance_of_input(uneven), q / q.sum(axis=1, keepdims=True) * start[:, :1])


def test_the_box_rule_refuses_inputs_outside(bench):
    """Cells beyond the bounds are counted in the message, wherever the bounds come from."""
    outside = int(np.sum(np.abs(bench.x) > 0.5))
    composite = ks.Composite([(ks.first_layer, rules.ZBox(-0.5, 0.5))])
    with pytest.raises(ks.BadInputError, match=f"{outside} of 15 cells"):
        bench("lrp.z_box", low=-0.5, high=0.5)
    with pytest.raises(ks.BadInputError, match=f"{outside} of 15 cells"):
        bench(ks.LRP(composite=composite))
    noisy = ks.SmoothGrad(ks.LRP(composite="z_box", low=-1.0, high=1.0), draws=20, noise=0.5)
    with pytest.raises(ks.BadInputError, match="cells lie outside"):
        bench(noisy)
    with pytest.raises(ks.MissingBaselineError, match="low="):
        bench("lrp.z_box")


def test_bounds_may_stand_in_the_rule_or_in_the_method(bench):
    """A box rule without bounds takes those of the method; arrays broadcast against a sample."""
    low, high = np.full(FEATURES, -1.0), np.linspace(1, 2, FEATURES)
    expected = bench.values("lrp.z_box", low=low, high=high)
    for composite, options in (
        (ks.Composite([("*", rules.ZBox(low, high))]), {}),
        (ks.Composite([("*", rules.ZBox())]), {"low": low, "high": high}),
    ):
        same(bench.values(ks.LRP(composite=composite, **options)), expected)
    with pytest.raises(ks.BadInputError, match="does not broadcast"):
        bench("lrp.z_box", low=np.zeros(4), high=1.0)
    with pytest.raises(ks.BadInputError, match="no use for low"):
        explain(bench.model, bench.x, "lrp.flat", low=low)
