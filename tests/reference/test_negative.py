"""What must not hold (N1, N2, N6 to N11, N14): a test that finds an identity here has found a bug.

Each shows next to it where the identity does hold, so that it cannot pass by accident.
N3 is in test_deeplift.py, N4 and N5 are in test_patterns.py, N12 (LIME) is in test_lime.py. N13 is about metrics, of
which the toolbox has none.
"""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope import rules
from tests.reference.nets import average_head, cnn, mlp, normalised, samples, stack, weights_of
from tests.reference.replicas import matrix_of
from tests.reference.run import Bench, differ, predict, same, total
from tests.reference.test_invariances import rescaled


@pytest.mark.parametrize("method", ["input_x_gradient", "lrp.zero"])
def test_n1_not_complete_with_biases(method, float64):
    """Input x gradient and LRP-0 miss f by what the biases contribute; without biases they do not."""
    with_biases, without = (Bench(mlp(biases=b), samples((5,)))(method) for b in (0.3, 0.0))
    differ(total(with_biases.values), with_biases.explained)
    same(total(without.values), without.explained)


def test_n2_functions_and_signals_are_not_complete(float64):
    """Gradient, guided backprop and DeconvNet sum to no output, and promise none."""
    bench = Bench(mlp(biases=0.0), samples((5,)))
    for method in ("gradient", "saliency", "smoothgrad", "guided_backprop", "deconvnet"):
        found = bench(method)
        differ(total(found.values), found.explained, what=method)
        assert np.all(np.isnan(found.completeness_gap)), method
        assert found.absorbed is None, method


@pytest.mark.parametrize(("method", "options"), [("lrp.epsilon", {"epsilon": 0.1}), ("lrp.w_square", {})])
def test_n6_absolute_epsilon_and_w_square_see_the_scale_of_hidden_units(method, options, float64):
    """A hidden unit scaled by s and its readers by 1 / s: the function is the same, these two maps are not."""
    x, scale = samples((5,)), np.linspace(0.2, 3.0, 7)
    one, other = Bench(mlp(), x), Bench(rescaled(mlp(), scale), x)
    same(other.logits(), one.logits(), 1e-12)
    differ(one.values(method, **options), other.values(method, **options))
    same(one.values("lrp.zero"), other.values("lrp.zero"))


def test_n7_alpha_beta_without_negative_contributions(float64):
    """It then hands out alpha R, and says that it absorbed minus beta R."""
    layer = layers.Dense(1, use_bias=False)
    model = stack((3,), layer)
    layer.kernel.assign(np.array([[1.0], [2.0], [0.5]]))
    bench = Bench(model, samples((3,), low=0.1))
    found = bench("lrp.alpha2_beta1")
    same(total(found.values), 2 * found.explained)
    same(found.absorbed, -found.explained)
    layer.kernel.assign(np.array([[1.0], [-2.0], [0.5]]))
    mixed = Bench(model, bench.x)("lrp.alpha2_beta1")
    same(total(mixed.values), mixed.explained)


def test_n8_alpha_one_with_positive_biases(float64):
    """Positive biases keep their share of the positive part; ignored, they do not."""
    model = mlp()
    for variable in model.weights:
        if variable.path.endswith("bias"):
            variable.assign(np.abs(ops.convert_to_numpy(variable)))
    bench = Bench(model, samples((5,)))
    target = np.argmax(bench.logits(), axis=1)
    absorbing, ignoring = (bench("lrp.alpha1_beta0", bias=b, target=target) for b in ("absorb", "ignore"))
    assert np.min(absorbing.explained) > 0
    assert np.all(total(absorbing.values) < 0.99 * absorbing.explained)
    assert np.all(absorbing.absorbed > 0.01 * absorbing.explained)
    same(total(ignoring.values) + ignoring.absorbed, ignoring.explained)


def test_n9_flat_on_a_convolution_and_on_its_matrix(float64):
    """Flat counts the receptive field; the explicit dense layer has every input in it. Other rules agree."""
    convolution = layers.Conv2D(2, 2, strides=2)
    conv = stack((4, 4, 1), convolution, layers.Flatten(), layers.Dense(3))
    matrix = matrix_of(convolution, (4, 4, 1))
    dense = stack((16,), layers.Dense(8), layers.Dense(3))
    dense.set_weights([matrix.w, matrix.b, *conv.layers[-1].get_weights()])
    x = samples((4, 4, 1))
    one, other = Bench(conv, x), Bench(dense, x.reshape(3, 16))
    for name in ("lrp.zero", "lrp.z_plus", "lrp.w_square"):
        same(one.values(name).reshape(3, 16), other.values(name), what=name)
    start = ks.LRP(composite=ks.Composite([(ks.first_layer, rules.Flat()), ("*", rules.Epsilon())]))
    differ(one.values(start).reshape(3, 16), other.values(start))


def test_n10_a_shift_before_zero_padding_is_no_single_bias(float64):
    """A BatchNormalization folded forward with one bias per channel is wrong at the border, and only there."""
    model = normalised(order="before", padding="same")
    first, relu, norm, second = model.layers[:4]
    x = samples((6, 6, 2))
    hidden = relu(first(x))
    gamma, beta, mean, variance = weights_of(norm)
    k = gamma / np.sqrt(variance + norm.epsilon)
    kernel, bias = weights_of(second)
    naive = layers.Conv2D(3, 3, padding="same")
    naive.build((None, 6, 6, 4))
    naive.set_weights([kernel * k[:, None], bias + np.einsum("hwio,i->o", kernel, beta - mean * k)])
    right = ops.convert_to_numpy(second(norm(hidden, training=False)))
    found = ops.convert_to_numpy(naive(hidden))
    same(found[:, 1:-1, 1:-1], right[:, 1:-1, 1:-1])
    differ(found[:, 0], right[:, 0])
    graph = Bench(model, x).session.view.logits
    folded = next(node for node in graph if node.name == second.name)
    assert tuple(folded.op.bias.shape) == (1, 6, 6, 3)


def test_n11_grad_cam_is_not_complete_without_a_global_average(float64):
    """On maps that are flattened its sum misses what HiResCAM's finds; under a global average they agree."""
    flat, average = Bench(cnn(), samples((6, 6, 2))), Bench(average_head(), samples((6, 6, 2)))
    for bench, compare in ((flat, differ), (average, same)):
        one, other = (bench(name, relu=False).layer_map for name in ("grad_cam", "hires_cam"))
        compare(total(one), total(other))


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_n14_other_quadratures_miss_homogeneous_networks(steps, float64):
    """Left Riemann gives (n - 1) / n of x df/dx, the trapezoid 1 - 1 / (2 (n - 1)); these points give all."""
    bench = Bench(mlp(biases=0.0), samples((5,)))
    expected = bench.values("input_x_gradient")

    def quadrature(nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return bench.x * sum(w * bench.values("gradient", t * bench.x) for t, w in zip(nodes, weights, strict=True))

    left = quadrature(np.arange(steps) / steps, np.full(steps, 1 / steps))
    ends = np.full(steps, 1 / (steps - 1))
    ends[[0, -1]] /= 2
    trapezoid = quadrature(np.linspace(0, 1, steps), ends)
    same(left, (steps - 1) / steps * expected)
    same(trapezoid, (1 - 1 / (2 * (steps - 1))) * expected)
    same(bench.values("integrated_gradients", baseline="zeros", steps=steps), expected)
    differ(left, expected)


def test_predictions_of_these_networks_are_not_trivial(float64):
    """Logits of order one, both signs, several classes on top: nothing above holds for lack of anything to see."""
    for model in (mlp(), cnn(), average_head()):
        logits = predict(model, samples(model.input_shape[1:], 40))
        assert 0.1 < np.std(logits) < 10
        assert np.min(logits) < 0 < np.max(logits)
