"""What sums to what: completeness and conservation (B1 to B3, B9 to B15, B21).

B4 to B8 are in test_deeplift.py, B16 and B17 in test_weightless.py, B18 in test_patterns.py, B19 in test_shapley.py and
test_coalitions.py, B20 in test_rows_and_columns.py. Networks with leaky ReLUs are in test_leaky_relu.py.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from kerascope import rules
from kerascope.lrp import engine
from tests.reference import replicas
from tests.reference.nets import average_head, cnn, mlp, residual, samples, stack, weigh, weights_of
from tests.reference.replicas import Matrix, through
from tests.reference.run import Bench, predict, same, total
from tests.reference.stored_cases import gated
from tests.reference.test_rules import RULES, Row

AVERAGE = functools.partial(layers.AveragePooling2D, 2)

# Path methods -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_b1_integrated_gradients_are_complete_on_smooth_networks(activation, float64):
    """The map sums to f(x) - f(x0): 32 Gauss-Legendre points reach 1e-8."""
    bench, x0 = Bench(mlp(activation), samples((5,))), samples((5,), 1, seed=5)
    found = bench("integrated_gradients", baseline=x0, steps=32, target="all")
    expected = bench.logits() - bench.logits(x0)
    assert np.max(np.abs(found.values.sum(axis=-1) - expected)) < 1e-8
    same(found.completeness_gap, found.values.sum(axis=-1) - expected)


def test_b1_in_float32():
    """The same in float32, to 1e-4."""
    bench, x0 = (
        Bench(mlp("tanh"), samples((5,)).astype("float32")),
        samples((5,), 1, seed=5).astype("float32"),
    )
    found = bench("integrated_gradients", baseline=x0, steps=32)
    assert found.values.dtype == np.float32
    assert np.max(np.abs(total(found.values) - (bench.logits() - bench.logits(x0))[:, 0])) < 1e-4


def test_b2_the_error_on_relu_networks_falls_with_the_steps(float64):
    """Over 20 ReLU networks the mean gap at 200 points is less than half of that at 25."""
    gaps: dict[int, list[float]] = {25: [], 200: []}
    for seed in range(20):
        bench = Bench(mlp(seed=seed), samples((5,), 4, seed=seed), batch_size=256)
        for steps, found in gaps.items():
            gap = bench("integrated_gradients", baseline="zeros", steps=steps).completeness_gap
            found.append(float(np.mean(np.abs(gap))))
    assert np.mean(gaps[200]) < 0.5 * np.mean(gaps[25])
    assert np.mean(gaps[25]) > 1e-4  # else there was nothing to see


def test_b3_several_baselines_are_averaged(float64):
    """With M baselines the map is the mean over them, not paired with samples, and sums as it must."""
    background = samples((5,), 3, seed=8)  # as many as samples
    bench = Bench(mlp("tanh"), samples((5,)), background=background)
    found = bench("integrated_gradients", baseline=background, steps=32)
    singles = [bench.values("integrated_gradients", baseline=b, steps=32) for b in background]
    same(found.values, np.mean(singles, axis=0))
    expected = bench.logits()[:, 0] - bench.logits(background)[:, 0].mean()
    assert np.max(np.abs(total(found.values) - expected)) < 1e-8
    assert np.max(np.abs(found.completeness_gap)) < 1e-8


def test_b3_as_many_steps_as_a_multiple_of_the_baselines(float64):
    """4 baselines at 8 points each: the mean of the four. With coprime numbers any pairing would meet every pair."""
    background = samples((5,), 4, seed=8)
    bench = Bench(mlp("tanh"), samples((5,)), background=background)
    found = bench.values("integrated_gradients", baseline=background, steps=8)
    singles = [bench.values("integrated_gradients", baseline=b, steps=8) for b in background]
    same(found, np.mean(singles, axis=0))


def test_b3_expected_gradients_use_every_background_sample_equally(float64):
    """Expected gradients approach the mean of integrated gradients, within their standard error."""
    background = samples((5,), 3, seed=8)
    bench = Bench(mlp("tanh"), samples((5,)), background=background, batch_size=512)
    exact = bench.values("integrated_gradients", baseline=background, steps=32)
    few, many = (bench("expected_gradients", draws=draws) for draws in (12, 3000))
    assert np.max(np.abs(many.values - exact)) < 1e-4 < np.max(np.abs(few.values - exact))
    assert np.all(np.abs(few.values - exact) < 4 * few.standard_error)
    assert np.median(many.standard_error / few.standard_error) == pytest.approx(np.sqrt(12 / 3000), rel=0.3)
    expected = bench.logits()[:, 0] - bench.logits(background)[:, 0].mean()
    same(few.completeness_gap, total(few.values) - expected)


# Gradients --------------------------------------------------------------------------------


def scaled_biases(model: Any, factor: float) -> Any:
    """Multiply every bias of a model."""
    for variable in model.weights:
        if variable.path.endswith("bias"):
            variable.assign(factor * ops.convert_to_numpy(variable))
    return model


@pytest.mark.parametrize("net", [mlp, cnn, residual, average_head])
def test_b9_input_times_gradient_and_the_biases_share_add_up(net, float64):
    """On ReLU networks sum x df/dx + sum b df/db = f; the map promises f only where there is no bias."""
    model = net()
    x = samples(model.input_shape[1:])
    found = Bench(model, x)("input_x_gradient")
    # f is linear in a common small change of all biases: (f(b (1 + h)) - f(b (1 - h))) / 2h = sum b df/db.
    h = 1e-5
    up, down = (predict(scaled_biases(net(), 1 + sign * h), x)[:, 0] for sign in (1, -1))
    same(total(found.values) + (up - down) / (2 * h), found.explained, 1e-8)
    assert np.all(np.isnan(found.completeness_gap))
    free = Bench(net(biases=0.0), x)("input_x_gradient")
    same(total(free.values), free.explained)
    assert np.max(np.abs(free.completeness_gap)) < 1e-12


@pytest.mark.parametrize(
    "breaks",
    [
        lambda x: ops.tanh(x),
        lambda x: x + np.full((1, 5), 0.1),
        lambda x: layers.Multiply()([x, x]),
        lambda x: ops.pad(x, [(0, 0), (1, 0)], constant_values=0.5)[:, :5],
        lambda x: layers.Rescaling(1.0, 0.5)(x),
        lambda x: layers.Activation("softmax")(x),
    ],
)
def test_no_promise_where_f_is_not_homogeneous(breaks, float64):
    """A constant, a product or another activation anywhere, and input x gradient promises no sum."""
    inputs = layers.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(breaks(inputs)))
    assert np.all(np.isnan(Bench(model, samples((5,)))("input_x_gradient").completeness_gap))


def test_zero_padding_keeps_the_promise(float64):
    """Padding with zeros leaves a bias-free network homogeneous."""
    parts = [layers.ZeroPadding1D(1), layers.Cropping1D((0, 1)), layers.Flatten(), layers.Dense(2)]
    found = Bench(stack((4, 2), *parts, biases=0.0), samples((4, 2)))("input_x_gradient")
    assert np.max(np.abs(found.completeness_gap)) < 1e-12


# LRP ----------------------------------------------------------------------------------------


def test_b10_lrp_zero_is_complete_without_biases(float64):
    """LRP-0 of a bias-free ReLU network sums to f, and nothing is absorbed."""
    for model in (mlp(biases=0.0), cnn(biases=0.0)):
        bench = Bench(model, samples(model.input_shape[1:]))
        found = bench("lrp.zero")
        same(total(found.values), found.explained)
        assert np.max(np.abs(found.absorbed)) < 1e-12


def network_replica(row: Row, bench: Bench, start: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Send the first logit's start (N,) back through dense layers with ReLUs, sample by sample."""
    matrices = [Matrix(*weights_of(layer)) for layer in bench.model.layers]
    maps, lost = [], []
    for x, value in zip(bench.x, start, strict=True):
        inputs = [x]
        for matrix in matrices[:-1]:
            inputs.append(np.maximum(inputs[-1] @ matrix.w + matrix.b, 0))
        r, absorbed = np.zeros(matrices[-1].w.shape[1]), 0.0
        r[0] = value
        for values, matrix in zip(inputs[::-1], matrices[::-1], strict=True):
            r, kept = through(row.replica, values, matrix, r, **row.options)
            absorbed += kept
        maps.append(r)
        lost.append(absorbed)
    return maps, lost


@pytest.mark.parametrize("biases", [0.0, 0.3, 2.0])
def test_b11_rules_conserve_but_for_what_they_say_they_absorbed(biases, float64):
    """Through three layers map and absorbed amount are the replica's, also where units fire by bias alone."""
    bench = Bench(mlp(biases=biases), samples((5,), 6))
    for label, row in RULES.items():
        found = bench(ks.LRP(composite=ks.Composite([("*", row.rule)])))
        maps, lost = network_replica(row, bench, found.explained)
        same(found.values, maps, what=label)
        size = np.max(np.abs(maps)) + np.max(np.abs(lost))
        assert np.max(np.abs(found.absorbed - lost)) < 1e-9 * size, label
        assert np.max(np.abs(found.completeness_gap)) < 1e-9 * size, label
        if biases == 0 and label.startswith(("Flat", "WSquare", "ZPlus", "Gamma", "Zero", "AlphaBeta_1.0")):
            assert np.max(np.abs(lost)) < 1e-12, label  # no denominator vanishes


FIRST = (rules.WSquare(), rules.Flat(), rules.ZBox(-1.0, 1.0), rules.ZPlus(bias="ignore"))
UPPER = (rules.ZPlus(bias="ignore"), rules.Gamma(0.25, bias="ignore"), rules.AlphaBeta(2.0, 1.0, bias="ignore"))


@pytest.mark.parametrize("net", [cnn, average_head, residual])
def test_b11_with_another_rule_at_the_first_layer(net, float64):
    """Map and absorbed amount make up the start, whatever stands first and above."""
    model = net()
    bench = Bench(model, samples(model.input_shape[1:]))
    for first, upper in itertools.product(FIRST, UPPER):
        found = bench(ks.LRP(composite=ks.Composite([(ks.first_layer, first), ("*", upper)])), target=1)
        size = np.max(np.abs(found.absorbed)) + np.max(found.attrs["largest_sum"])
        assert np.max(np.abs(total(found.values) + found.absorbed - bench.logits()[:, 1])) < 1e-9 * size


def test_b11_alpha_beta_where_every_unit_has_both_signs(float64):
    """Positive and negative contributions at every unit, no biases: nothing is absorbed."""
    model = mlp(biases=0.0)
    for layer in model.layers:
        kernel = np.abs(weights_of(layer)[0]) + 0.1
        layer.kernel.assign(kernel * np.where(np.add.outer(*map(np.arange, kernel.shape)) % 2, -0.3, 1))
    bench = Bench(model, samples((5,), low=0.2))
    for layer in model.layers[:2]:
        h = predict(keras.Model(model.inputs, layer.output), bench.x)
        assert np.all(h[:, ::2].sum(axis=1) > 0)
        assert np.all(h[:, 1::2].sum(axis=1) > 0)
    for name in ("lrp.alpha1_beta0", "lrp.alpha2_beta1"):
        found = bench(name)
        same(total(found.values), found.explained, what=name)
        assert np.max(np.abs(found.absorbed)) < 1e-12, name


def test_b11_relevance_above_empty_windows_is_absorbed(float64):
    """Flat above an average pooling of silent units: what windows of zeros receive is said to be absorbed."""
    convolution = layers.Conv2D(4, 3, activation="relu")
    model = stack((6, 6, 2), convolution, layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3))
    convolution.bias.assign(np.array([-50.0, -50.0, 0.1, 0.1]))  # half of the units never fire
    bench = Bench(model, samples((6, 6, 2)))
    found = bench("lrp.flat")
    pooled = predict(keras.Model(model.inputs, model.layers[2].output), bench.x)
    silent = np.mean(pooled == 0, axis=1)
    assert np.all(silent >= 0.5)
    # Flat gives every pooled cell the same; what the silent ones get has no cell to go to.
    same(found.absorbed, found.explained * silent, 1e-4)
    assert np.max(np.abs(found.completeness_gap)) < 1e-9


def shared() -> Any:
    """Return a network that uses one layer for both halves of its input."""
    inputs = layers.Input((8,))
    encode = layers.Dense(4, activation="relu")
    joined = layers.Concatenate()([encode(inputs[:, :4]), encode(inputs[:, 4:]), layers.Add()([inputs, inputs])])
    return weigh(keras.Model(inputs, layers.Dense(3)(joined)))


NETS = {
    "dense": mlp,
    "max pooling": cnn,
    "average pooling": lambda: cnn(pool=AVERAGE),
    "global average": average_head,
    "residual": residual,
    "tanh": lambda: mlp("tanh"),
    "shared layer": shared,
    "gates and maxima": gated,
}


@pytest.mark.parametrize("net", NETS)
def test_b12_relevance_is_conserved_between_any_two_layers(net, float64):
    """At every tensor on the way, what stands there and what was absorbed above it make up the start."""
    model = NETS[net]()
    bench = Bench(model, samples(model.input_shape[1:]))
    graph, start, cuts = bench.session.view.logits, np.zeros((3, 3)), 0
    start[:, 1] = [1.0, -0.5, 2.0]
    for row in RULES.values():
        walked = bench.walk(ks.Composite([("*", row.rule)]), bench.x, start)
        absorbed = np.zeros(3)
        arrived = {graph.outputs[0]: start}
        for node in reversed(graph.nodes):
            arrived.pop(node.outputs[0])
            absorbed += np.asarray(ops.convert_to_numpy(walked.absorbed_by.get(node.name, ops.zeros(3))))
            pending = {t for later in graph.nodes[: graph.nodes.index(node)] for t in later.outputs}
            arrived |= {t: None for t in node.inputs if t in pending or t in graph.inputs}
            if all(consumed(graph, t, node) for t in arrived):
                cuts += 1
                here = sum(total(ops.convert_to_numpy(walked.values[t])) for t in arrived)
                size = np.max(np.abs(absorbed)) + np.max(ops.convert_to_numpy(walked.largest))
                assert np.max(np.abs(here + absorbed - start.sum(axis=1))) < 1e-9 * size, (
                    row.rule,
                    node.name,
                )


def consumed(graph: Any, tensor: int, node: Any) -> bool:
    """Whether every reader of a tensor stands at or after a node, so that all has arrived."""
    place = {n.name: i for i, n in enumerate(graph.nodes)}
    return all(place[n.name] >= place[node.name] for n in graph.nodes if tensor in n.inputs)


@pytest.mark.parametrize("epsilon", [1e-6, 0.2])
def test_b13_what_epsilon_keeps(epsilon, float64):
    """One dense layer: sum R_in = sum_j R_j (z_j - b_j) / (z_j + epsilon sign(z_j)), whatever R is."""
    bench = Bench(stack((5,), layers.Dense(3)), samples((5,)))
    relevance = np.random.default_rng(2).normal(size=(3, 3))
    walked = bench.walk(ks.Composite([("*", rules.Epsilon(epsilon))]), bench.x, relevance)
    w, b = weights_of(bench.model.layers[0])
    z = bench.x @ w + b
    expected = np.sum(relevance * (z - b) / (z + epsilon * np.where(z >= 0, 1, -1)), axis=1)
    same(total(bench.relevance_of_input(walked)), expected)


@pytest.mark.parametrize("net", [mlp, cnn, lambda: cnn(pool=AVERAGE)], ids=["dense", "maximum", "average"])
def test_b14_positive_rules_keep_relevance_positive(net, float64):
    """z+, flat, w^2 everywhere, or below z+, and the box rule first: R >= 0 stays R >= 0 at every tensor."""
    model = net()
    bench = Bench(model, samples(model.input_shape[1:]))
    start = np.abs(np.random.default_rng(2).normal(size=(3, 3)))
    everywhere = [[("*", rule)] for rule in (rules.ZPlus(), rules.Flat(), rules.WSquare())]
    below = [[(ks.first_layer, rule), ("*", UPPER[0])] for rule in FIRST]
    for assigned in (*everywhere, *below):
        walked = bench.walk(ks.Composite(assigned), bench.x, start)
        assert all(np.min(ops.convert_to_numpy(value)) >= 0 for value in walked.values.values()), assigned


def test_b15_deep_taylor_conserves_where_biases_are_negative(float64):
    """Kernels and ReLUs with b <= 0, inputs in the box: every value >= 0, and they sum to max(f, 0)."""
    parts = [layers.Conv1D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(6, activation="relu")]
    model = stack((6, 2), *parts, layers.Dense(5))
    for variable in model.weights:
        if variable.path.endswith("bias"):
            variable.assign(-0.1 * np.abs(ops.convert_to_numpy(variable)))
    found = Bench(model, samples((6, 2), 5))("deep_taylor.bounded", low=-1.0, high=1.0, target="all")
    assert {True, False} == set((found.explained > 0).ravel().tolist())
    assert np.min(found.values) >= 0
    same(found.values.sum(axis=(2, 3)), np.maximum(found.explained, 0))
    assert np.max(np.abs(found.absorbed)) < 1e-12
    assert np.max(np.abs(found.completeness_gap)) < 1e-12


def test_b21_excitation_backprop_hands_out_one(float64):
    """Started from one, with biases ignored and activations >= 0, its values are >= 0 and sum to 1."""
    model = cnn(biases=0.0)
    x = samples((6, 6, 2), low=0.0)
    found = Bench(model, x)("lrp.excitation_backprop", target=ks.TopClass())
    assert np.all(found.explained > 0)
    assert np.min(found.values) >= 0
    same(total(found.values), np.ones(3))
    same(found.absorbed, np.zeros(3))
    half = Bench(cnn(biases=0.0, pool=AVERAGE), x)("lrp.excitation_backprop")
    same(total(half.values), np.ones(3), 1e-4)  # the pooling's stabiliser


# The start, and the gap itself ------------------------------------------------------------------


def test_the_start_of_every_kind_of_target(float64):
    """The map sums to the start less what was absorbed: a logit, a difference, logits times derivatives."""
    bench = Bench(mlp(), samples((5,)))
    z = bench.logits()
    several = np.array([[0, 2], [1, 1], [2, 0]])
    starts = {
        "class": (1, z[:, 1]),
        "per sample": (np.array([0, 2, 1]), z[[0, 1, 2], [0, 2, 1]]),
        "several": (several, np.take_along_axis(z, several, axis=1)),
        "all": ("all", z),
        "top two": (ks.TopClass(2), -np.sort(-z, axis=1)[:, :2]),
        "contrast": (ks.Contrast(0, 2), z[:, 0] - z[:, 2]),
        "mean of the others": (ks.Contrast(1), z[:, 1] - z[:, [0, 2]].mean(axis=1)),
        "function": (lambda logits: ops.sum(logits**2, axis=-1) / 2, np.sum(z**2, axis=1)),
    }
    for name, (target, start) in starts.items():
        for method in ("lrp.epsilon", "lrp.alpha2_beta1", "lrp"):
            found = bench(method, target=target)
            assert np.max(np.abs(found.completeness_gap)) < 1e-9, (name, method)
            same(found.values.sum(axis=-1) + found.absorbed, start, what=f"{name}, {method}")


def test_deep_taylor_starts_from_each_target_alone(float64):
    """Where a logit is not positive its map is zero, whatever the others are; a warning counts them."""
    bench = Bench(mlp(seed=3), samples((5,), 4))
    explainer = ks.Explainer.on(bench.session, "deep_taylor")
    positive = bench.logits() > 0
    assert set(positive.ravel().tolist()) == {True, False}
    biased = pytest.warns(ks.KerascopeWarning, match="derived for biases of at most 0")
    with biased, pytest.warns(ks.KerascopeWarning, match=f"^{np.sum(~positive)} explained logits are not positive"):
        found = explainer(bench.x, target="all")
    assert np.all((np.abs(found.values).sum(axis=-1) > 0) == positive)
    same(found.values.sum(axis=-1) + found.absorbed, np.maximum(bench.logits(), 0))
    with pytest.raises(ks.IncompatibleMethodError, match="function of the logits"):
        bench("deep_taylor", target=lambda z: z[:, 0])


def test_the_gap_is_a_check_of_its_own(float64, monkeypatch):
    """What was absorbed is not inferred from the sums: a walk that hands out 1 % too much shows a gap."""
    bench = Bench(mlp(), samples((5,)))
    share = engine._share
    monkeypatch.setattr(engine, "_share", lambda *args: 1.01 * share(*args))
    for row in RULES.values():
        found = bench(ks.LRP(composite=ks.Composite([("*", row.rule)])))
        assert np.all(np.abs(found.completeness_gap) > 1e-6 * np.abs(total(found.values))), row.rule


@pytest.mark.parametrize("scale", [1e-12, 1e-25, 1e-36])
def test_tiny_denominators_in_float32(scale):
    """Numbers at the edge of float32: what a denominator cannot carry is absorbed; nothing overflows."""
    x = (scale * samples((5,))).astype("float32")
    bench = Bench(mlp(biases=0.0), x)
    for name in ("zero", "z_plus", "alpha2_beta1", "gamma", "flat", "w_square"):
        found = bench(ks.LRP(composite=name, start="one"))
        assert np.all(np.isfinite(found.values)), name
        assert np.max(np.abs(found.completeness_gap)) < 1e-3 * np.max(found.attrs["largest_sum"]), name
        if name == "z_plus":
            share = np.max(np.abs(found.values))
            assert (share == 0) if scale < 1e-30 else (share > 0.1)


def test_replicas_are_no_copies_of_each_other():
    """The replica of alpha-beta, the only one with two parts, gives what its definition says by hand."""
    layer = Matrix(np.array([[1.0], [-1.0], [2.0]]), np.array([0.5]))
    received, absorbed = through(
        replicas.alpha_beta, np.array([1.0, 2.0, 1.0]), layer, np.array([7.0]), alpha=2.0, beta=1.0
    )
    same(received, [2 * 7 * 1 / 3.5, -7.0, 2 * 7 * 2 / 3.5])
    assert absorbed == pytest.approx(2 * 7 * 0.5 / 3.5)
