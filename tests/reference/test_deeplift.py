"""DeepLIFT: closed forms, sums, equivalences, and a replica neuron by neuron.

A3, A9, A10, B4 to B8, C4 to C7, C23, C25, C26, F1 to F8 and N3. D1, D3 to D16, C21, C22, C24 run over all
methods in test_invariances.py and test_equivalences.py.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import kerascope as ks
from tests.cases import by_name, cases
from tests.reference.deeplift_loops import Activation, Pool, Stage, deeplift, relu, step
from tests.reference.nets import cnn, linear, mlp, normalised, residual, samples, stack, weigh, weights_of
from tests.reference.replicas import Matrix, matrix_of
from tests.reference.run import Bench, differ, same

RESCALE = ks.DeepLIFT(baseline="zeros")
REVEAL = ks.DeepLIFT(rule="reveal_cancel", baseline="zeros")
RULES = ["rescale", "reveal_cancel"]


def from_reference(rule: str, baseline: Any, conv: str = "reveal_cancel") -> ks.DeepLIFT:
    """Return DeepLIFT from a given reference."""
    return ks.DeepLIFT(rule=rule, conv=conv, baseline=baseline)


def functional(shape: tuple[int, ...], build: Any, **options: Any) -> Any:
    """Return a weighed model from a function of its input tensor."""
    inputs = layers.Input(shape)
    return weigh(keras.Model(inputs, build(inputs)), **options)


def complete(found: ks.Explanation, tolerance: float = 1e-12) -> None:
    """Assert that the values sum to f(x) - mean f(x0), and are finite."""
    values = np.asarray(found.values)
    assert np.all(np.isfinite(values))
    size = np.maximum(np.abs(values.reshape(len(values), -1)).sum(axis=1), np.abs(found.explained))
    assert np.all(np.abs(found.completeness_gap) <= tolerance * size)


# One layer and closed forms -------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a3_linear_model(rule, float64):
    """W (x - x0), from one reference, several, and the background."""
    bench = Bench(linear(5), samples((5,)), background=samples((5,), 4, seed=7))
    w, background = weights_of(bench.model.layers[0])[0][:, 0], bench.session.background[0]
    same(bench.values("deeplift", rule=rule), w * (bench.x - background.mean(axis=0)))
    same(bench.values(from_reference(rule, background[:2])), w * (bench.x - background[:2].mean(axis=0)))
    same(bench.values(from_reference(rule, 0.25)), w * (bench.x - 0.25))
    found = bench(ks.DeepLiftSHAP(rule=rule))
    same(found.values, w * (bench.x - background.mean(axis=0)))
    spread = np.abs(w) * np.std(background, axis=0, ddof=1) / 2
    same(found.standard_error, np.tile(spread, (3, 1)))


@pytest.mark.parametrize("rule", RULES)
def test_a9_a_product_gives_half_to_each(rule, float64):
    """F = x1 x2 from zero: x1 x2 / 2 each; from elsewhere D1 (x2 + b2) / 2."""
    bench = Bench(functional((2,), lambda x: x[:, :1] * x[:, 1:]), samples((2,)))
    x, b = bench.x, np.array([0.5, -2.0])
    half = x[:, :1] * x[:, 1:] / 2
    same(bench.values(from_reference(rule, "zeros")), np.concatenate([half, half], axis=1))
    expected = (x - b) * (x + b)[:, ::-1] / 2
    same(bench.values(from_reference(rule, b)), expected)


@pytest.mark.parametrize("rule", RULES)
def test_a10_sum_of_functions(rule, float64):
    """F = sum g_i(x_i): g_i(x_i) - g_i(x0_i)."""

    def build(x: Any) -> Any:
        return ops.tanh(x[:, :1]) + ops.relu(x[:, 1:2]) - ops.square(x[:, 2:3]) + ops.exp(x[:, 3:])

    bench, b = Bench(functional((4,), build), samples((4,))), np.array([0.3, -0.2, 0.5, 0.1])

    def g(x: np.ndarray) -> np.ndarray:
        return np.stack([np.tanh(x[:, 0]), np.maximum(x[:, 1], 0), -(x[:, 2] ** 2), np.exp(x[:, 3])], axis=1)

    same(bench.values(from_reference(rule, b)), g(bench.x) - g(b[None]))


def fixed(model: Any, *weights: Any) -> Any:
    """Give a model its weights."""
    model.set_weights([np.asarray(w, "float64") for w in weights])
    return model


def test_f1_a_minimum(float64):
    """min(i1, i2) = i1 - relu(i1 - i2): RevealCancel gives half to each, all others everything to the smaller."""
    parts = [layers.Dense(2, activation="relu"), layers.Dense(1)]
    model = fixed(stack((2,), *parts), [[1, 1], [0, -1]], [0, 0], [[1], [-1]], [0])
    x = np.array([[3.0, 1.0], [0.5, 2.0], [1.5, 1.0]])
    bench, least = Bench(model, x), x.min(axis=1, keepdims=True)
    same(bench.logits(), least)
    same(bench.values(REVEAL), np.tile(least / 2, (1, 2)))
    smaller = np.where(x == least, x, 0)
    for method in (RESCALE, "input_x_gradient", ks.IntegratedGradients(baseline="zeros")):
        same(bench.values(method), smaller, what=str(method))


def test_f2_a_threshold(float64):
    """Relu(x - 10) from zero: at 10.1 Rescale gives 0.1 where input x gradient gives 10.1, and does not jump."""
    model = fixed(stack((1,), layers.Dense(1, activation="relu"), layers.Dense(1)), [[1]], [-10], [[1]], [0])
    x = np.array([[9.9], [10.0], [10.1]])
    bench = Bench(model, x)
    same(bench.values(RESCALE), [[0.0], [0.0], [0.1]], 1e-12)
    same(bench.values("input_x_gradient"), [[0.0], [0.0], [10.1]])


def test_f3_a_saturated_output(float64):
    """1 - relu(1 - (i1 + i2)) at (1, 1): no gradient, half each."""
    parts = [layers.Dense(1, activation="relu"), layers.Dense(1)]
    bench = Bench(fixed(stack((2,), *parts), [[-1], [-1]], [1], [[-1]], [1]), np.ones((1, 2)))
    same(bench.values("gradient"), np.zeros((1, 2)))
    same(bench.values(RESCALE), [[0.5, 0.5]])


def test_f4_before_and_after_a_sigmoid(float64):
    """On the sigmoid evidence shrinks as there is more of it, on the logit it does not."""
    model = fixed(stack((2,), layers.Dense(1, activation="sigmoid")), [[1], [1]], [0])
    bench = Bench(model, np.array([[50.0, 0.0], [100.0, 100.0]]))
    same(bench.values(RESCALE), [[50, 0], [100, 100]])
    inside = ks.Neuron(model.layers[-1].name, 0)
    same(bench.values(RESCALE, target=inside), [[0.5, 0], [0.25, 0.25]])


@pytest.mark.parametrize("rule", RULES)
def test_f5_parts_that_cancel(rule, float64):
    """A hidden unit whose changes cancel: finite, and the sum holds."""
    parts = [layers.Dense(2, activation="relu"), layers.Dense(2, activation="relu"), layers.Dense(1)]
    weights = [[[1, 1], [-1, 2]], [0.5, 0], [[1, -1], [1, 1]], [0.1, 0.2], [[1], [1]], [0]]
    bench = Bench(fixed(stack((2,), *parts), *weights), np.array([[2.0, 2.0], [1.0, 1.0], [-1.0, -1.0]]))
    found = bench(from_reference(rule, "zeros"))
    complete(found)
    assert np.all(found.values[:2] != 0)


def test_f6_no_difference_at_all(float64):
    """X = x0: zeros; a hair beside it the multipliers are the gradient, in float64 and in float32."""
    for dtype, hair, tolerance in (("float64", 1e-9, 1e-6), ("float32", 1e-30, 1e-5)):
        keras.config.set_floatx(dtype)
        model, x = mlp("tanh"), samples((5,)).astype(dtype)
        bench = Bench(model, x)
        for rule in RULES:
            found = bench(from_reference(rule, x[:1]))
            assert np.all(found.values[0] == 0)
            assert np.all(np.isfinite(found.values))
            assert any("told from the baseline" in text for text in found.warnings)
        near = np.zeros((1, 5), dtype)
        moved = near + np.array(hair, dtype)
        found = bench.values(from_reference("rescale", near), moved) / np.array(hair, dtype)
        same(found, bench.values("gradient", moved), tolerance)


def test_f7_the_genomics_default(float64):
    """RevealCancel after dense layers, Rescale after convolutions, seen through what holds no kernel."""
    genomics = ks.DeepLIFT(rule="reveal_cancel", conv="rescale", baseline="zeros")
    model = normalised(padding="valid")
    bench = Bench(model, samples((6, 6, 2)))
    same(bench.values(genomics), bench.values(RESCALE))
    differ(bench.values(genomics), bench.values(REVEAL))
    dense = Bench(mlp(), samples((5,)))
    same(dense.values(genomics), dense.values(REVEAL))
    parts = [layers.Conv1D(4, 2), layers.MaxPooling1D(2), layers.ReLU(), layers.Flatten()]
    mixed = stack((7, 2), *parts, layers.Dense(5, activation="relu"), layers.Dense(3))
    rules = genomics.rule_table(Bench(mixed, samples((7, 2))).session)
    assert [row["rule"] for row in rules if row["kind"] == "activation"] == ["rescale", "reveal_cancel"]


def test_f8_a_layer_used_twice(float64):
    """Two calls of one layer each have their own reference."""
    tower = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(4, activation="tanh")])

    def build(x: Any) -> Any:
        one, two = tower(x[:, :3]), tower(x[:, 3:])
        return layers.Dense(3)(layers.Concatenate()([ops.abs(one - two), one * two, tower(two[:, :3])]))

    bench = Bench(functional((6,), build), samples((6,)), background=samples((6,), 3, seed=9))
    for rule in RULES:
        complete(bench(ks.DeepLIFT(rule=rule)))
        complete(bench(ks.DeepLiftSHAP(rule=rule)))


# Sums -----------------------------------------------------------------------------------------

FEW = ("squeeze_and_excite", "softmax_inside", "operations_largest", "products", "shared_layer")
SUMMED = [
    case.name
    for case in cases(without="half")
    if case.name not in ("operations_matrix", "operations_conv")  # they hold float32 constants
    and (keras.backend.backend() == "torch" or case.name in FEW)  # the contracts run all, to 1e-8
]


@pytest.mark.parametrize("name", SUMMED)
def test_b4_to_b8_sums_on_every_case_model(name, float64):
    """Three references: the values sum to f(x) - mean f(x0) to rounding, or the model is refused."""
    case = by_name(name)
    bench = ks.testing.Bench.of(case.build(), case.sample(3), case.sample(3, seed=5))
    target = bench.target(slice(None), 0)
    for rule in RULES:
        explainer = ks.Explainer.on(bench.session, ks.DeepLiftSHAP(rule=rule))
        if "no_rule" in case.traits and name != "softmax_inside":
            with pytest.raises(ks.IncompatibleMethodError, match=r"DeepLIFT has no rule for|takes whole numbers"):
                explainer(bench.x, target=target)
            continue
        found = explainer(bench.x, target=target)
        arrays = bench.flat(found.values)
        size = sum(np.abs(a).reshape(3, -1).sum(axis=1) for a in arrays)
        assert all(np.all(np.isfinite(a)) for a in arrays)
        assert np.max(np.abs(found.completeness_gap) / size) < 1e-11


@pytest.mark.parametrize(
    "pool",
    [
        lambda: layers.MaxPooling2D(3, 2),
        lambda: layers.MaxPooling2D(3, 1, padding="same"),
        lambda: layers.GlobalMaxPooling2D(),
    ],
    ids=["overlapping", "padded", "global"],
)
@pytest.mark.parametrize("rule", RULES)
def test_b6_maxima_with_ties(rule, pool, float64):
    """Windows that overlap, whole numbers full of ties, any reference: the sum is exact."""
    rng = np.random.default_rng(3)
    x = rng.integers(-1, 2, (200, 6, 5, 2)).astype("float64")
    reference = rng.integers(-1, 2, (3, 6, 5, 2)).astype("float64")
    for parts in ([pool()], [layers.Conv2D(3, 2, activation="relu"), pool()]):
        bench = Bench(stack((6, 5, 2), *parts, layers.Flatten(), layers.Dense(3)), x)
        complete(bench(from_reference(rule, reference)))


@pytest.mark.parametrize("rule", RULES)
def test_b6_maxima_of_tensors(rule, float64):
    """Two and three tensors, broadcast, with ties: Shapley shares, which for two are worked out here by hand."""
    rng = np.random.default_rng(4)
    x, b = rng.integers(-2, 3, (100, 3)).astype("float64"), np.array([[1.0, 0.0, -1.0]])
    two = Bench(functional((3,), lambda t: layers.Maximum()([t[:, :1], t[:, 1:2]])), x)
    u, v, u0, v0 = x[:, 0], x[:, 1], b[:, 0], b[:, 1]
    share = (np.maximum(u, v) - np.maximum(u0, v) + np.maximum(u, v0) - np.maximum(u0, v0)) / 2
    other = np.maximum(u, v) - np.maximum(u0, v0) - share
    same(two.values(from_reference(rule, b)), np.stack([share, other, 0 * u], axis=1))

    def build(t: Any) -> Any:
        three = layers.Maximum()([t[:, :1], t[:, 1:2], t[:, 2:]])
        return layers.Dense(2)(ops.relu(layers.Minimum()([three, t]) - layers.Maximum()([t, ops.flip(t, axis=1)])))

    complete(Bench(functional((3,), build), x)(from_reference(rule, b)))
    equal = Bench(functional((3,), lambda t: layers.Maximum()([t[:, :1], t[:, 1:2], t[:, 2:]])), np.full((1, 3), 2.0))
    same(equal.values(from_reference(rule, "zeros")), np.full((1, 3), 2 / 3))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_b7_a_softmax_inside(name, axis, rule, float64):
    """Taken apart into maximum, exp, sum, reciprocal and product; large and far logits do not overflow."""
    inner = layers.Dense(4)

    def build(x: Any) -> Any:
        return layers.Dense(3)(layers.Flatten()(getattr(ops, name)(inner(x), axis=axis)))

    x, background = 4 * samples((4, 5)), 4 * samples((4, 5), 3, seed=9)
    bench = Bench(functional((4, 5), build), x, background=background)
    complete(bench(ks.DeepLIFT(rule=rule)))
    complete(bench(ks.DeepLiftSHAP(rule=rule)))
    far = bench(from_reference(rule, 200.0), 200 * x)
    complete(far, 1e-10)


def test_b7_softmax_against_its_definition(float64):
    """Where the maximum does not move: exp and reciprocal by Rescale, the product half and half."""
    bench = Bench(functional((3,), lambda x: layers.Dense(1)(ops.softmax(x))), np.array([[2.0, 0.3, -1.0]]))
    x, x0 = bench.x[0], np.array([2.0, -0.5, 0.7])
    w = weights_of(bench.model.layers[-1])[0][:, 0]
    e, e0 = np.exp(x), np.exp(x0)
    r, r0 = 1 / e.sum(), 1 / e0.sum()
    of_scale = w @ (e + e0) / 2 * (r - r0) / (e.sum() - e0.sum())
    expected = (w * (r + r0) / 2 + of_scale) * (e - e0)
    same(bench.values(from_reference("rescale", x0)), expected[None])


@pytest.mark.parametrize("rule", RULES)
def test_b7_products_quotients_and_matrix_products(rule, float64):
    """Gates, quotients and products of two matrices that both depend on the input."""

    def build(x: Any) -> Any:
        a, b = layers.Dense(3, activation="relu")(x), layers.Dense(3)(x)
        pairs = ops.matmul(a, ops.transpose(b, (0, 2, 1)))
        sums = ops.einsum("btf,bsf->bt", b, a)
        ratio = a / (1.0 + ops.exp(b))
        flat = [layers.Flatten()(t) for t in (pairs, sums, ops.relu(ratio), layers.Multiply()([a, b]))]
        return layers.Dense(3)(ops.relu(layers.Dense(4)(layers.Concatenate()(flat))))

    bench = Bench(functional((4, 3), build), samples((4, 3)), background=samples((4, 3), 3, seed=9))
    complete(bench(ks.DeepLIFT(rule=rule)))
    complete(bench(ks.DeepLiftSHAP(rule=rule)))


@pytest.mark.parametrize("rule", RULES)
def test_b8_a_mean_over_references(rule, float64):
    """DeepLiftSHAP is the mean of DeepLIFT over the background, in pieces of any size; several targets at once."""
    background = samples((6, 6, 2), 5, seed=9)
    bench = Bench(cnn(), samples((6, 6, 2)), background=background)
    every = np.stack([bench.values(from_reference(rule, b), target="all") for b in background])
    found = bench(ks.DeepLiftSHAP(rule=rule), target="all")
    same(found.values, every.mean(axis=0))
    same(bench.values(from_reference(rule, background), target="all"), every.mean(axis=0))
    same(found.standard_error, every.std(axis=0, ddof=1) / np.sqrt(5))
    wanted = bench.logits() - bench.logits(background).mean(axis=0)
    same(found.values.reshape(3, 3, -1).sum(axis=-1), wanted)
    bench.session.memory = 1
    same(bench.values(ks.DeepLiftSHAP(rule=rule), target="all"), found.values)


def test_float32_is_finite_and_complete():
    """Dead units, equal cells, tiny and huge differences: no NaN, no explosion."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6, 6, 2)).astype("float32")
    x[:10, :3] = 0
    x[10:20] *= np.float32(1e-20)
    x[20:30] *= np.float32(1e4)
    references = np.concatenate([x[:1] + np.float32(1e-7), x[12:13], np.zeros_like(x[:1]), x[25:26]])
    for activation in ("relu", "sigmoid"):
        bench = Bench(cnn(activation=activation), x)
        for rule in RULES:
            found = bench(from_reference(rule, references))
            assert np.all(np.isfinite(found.values))
            size = np.maximum(np.abs(found.explained), np.array(found.attrs["largest_sum"]).ravel())
            assert np.max(np.abs(found.completeness_gap) / size) < 1e-5


# Other methods --------------------------------------------------------------------------------


def test_c4_networks_without_biases(float64):
    """ReLU, pooling after it: Rescale from zero is input x gradient and LRP-0."""
    for model in (mlp(biases=0.0), cnn(biases=0.0), residual(biases=0.0)):
        bench = Bench(model, samples(model.input_shape[1:]))
        same(bench.values(RESCALE), bench.values("input_x_gradient"))
    bench = Bench(cnn(biases=0.0), samples((6, 6, 2)))
    same(bench.values(RESCALE), bench.values("lrp.zero"))


def test_c5_activations_through_zero(float64):
    """S(0) = 0 and no biases: Rescale from zero is LRP-0 with activations passed."""
    for activation in ("tanh", "relu"):
        bench = Bench(mlp(activation, biases=0.0), samples((5,)))
        same(bench.values(RESCALE), bench.values("lrp.zero"))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu"])
def test_c6_n3_one_hidden_layer_and_two(activation, float64):
    """With one hidden layer Rescale is integrated gradients, with two it is not."""
    b = samples((5,), 1, seed=9)
    one, two = (Bench(mlp(activation, widths=widths), samples((5,))) for widths in ((7,), (7, 6)))
    path = ks.IntegratedGradients(baseline=b, steps=128)
    same(one.values(from_reference("rescale", b)), one.values(path), 1e-9)
    differ(two.values(from_reference("rescale", b)), two.values(path))


def test_c7_nothing_cancels(float64):
    """All weights >= 0 and x >= x0: RevealCancel is Rescale; in general it is not."""
    model = mlp()
    x, b = samples((5,), low=0.0), -samples((5,), 1, seed=9, low=0.0)
    bench = Bench(model, x)
    differ(bench.values(from_reference("rescale", b)), bench.values(from_reference("reveal_cancel", b)))
    for layer in model.layers:
        layer.kernel.assign(np.abs(weights_of(layer)[0]))
    bench = Bench(model, x)
    same(bench.values(from_reference("rescale", b)), bench.values(from_reference("reveal_cancel", b)))


def test_c23_batch_norm_is_seen_through_where_it_cannot_be_folded(float64):
    """A scaling between two activations keeps the parts: the same as when a kernel takes it up."""
    first, norm = layers.Dense(6), layers.BatchNormalization()
    bench = Bench(stack((5,), first, norm, layers.ReLU(), layers.Dense(3)), samples((5,)))
    assert bench.session.view.graph.folded
    # Read twice, the sum before the normalization survives, and nothing is folded.
    inputs = layers.Input((5,))
    before = first(inputs)
    both = layers.Concatenate()([layers.ReLU()(norm(before)), before])
    head = layers.Dense(3)
    other = keras.Model(inputs, head(both))
    kernel, bias = weights_of(bench.model.layers[-1])
    head.set_weights([np.concatenate([kernel, np.zeros((6, 3))]), bias])
    unfolded = Bench(other, samples((5,)))
    assert not unfolded.session.view.graph.folded
    for method in (RESCALE, REVEAL):
        same(unfolded.values(method), bench.values(method))


@pytest.mark.parametrize("rule", RULES)
def test_c26_contributions_normalised_over_the_classes(rule, float64):
    """Less their mean over n classes they sum to zero; so does DeepLIFT of centred logits; a contrast is n / (n-1)."""
    model = stack((5,), layers.Dense(7, activation="relu"), layers.Dense(3, activation="softmax"))
    b = samples((5,), 1, seed=9)
    bench = Bench(model, samples((5,)))
    every = bench.values(from_reference(rule, b), target="all")
    normalised_ = every - every.mean(axis=1, keepdims=True)
    centred = [w - w.mean(axis=-1, keepdims=True) for w in weights_of(model.layers[-1])]
    other = keras.models.clone_model(model)
    other.set_weights([*weights_of(model.layers[0]), *centred])
    same(Bench(other, bench.x).values(from_reference(rule, b), target="all"), normalised_)
    assert np.max(np.abs(normalised_.sum(axis=1))) < 1e-12
    contrast = bench.values(from_reference(rule, b), target=ks.Contrast(1))
    same(2 / 3 * contrast, normalised_[:, 1])


# Neuron by neuron -----------------------------------------------------------------------------


def stages_of(model: Any, rule: str, conv: str) -> list[Stage]:
    """Return a Sequential model of dense, Conv2D and MaxPooling2D(2) layers as the replica takes it."""
    found: list[Stage] = []
    shape = model.input_shape[1:]
    for layer in model.layers:
        if isinstance(layer, layers.MaxPooling2D):
            found.append(Pool(windows_of(shape)))
        if isinstance(layer, (layers.Dense, layers.Conv2D)):
            plain = type(layer).from_config(layer.get_config() | {"activation": "linear"})
            plain.build((None, *shape))
            plain.set_weights(layer.get_weights())
            found.append(matrix_of(plain, shape))
            if layer.activation is not keras.activations.linear:
                chosen = conv if rule == "reveal_cancel" and isinstance(layer, layers.Conv2D) else rule
                tanh = layer.activation is keras.activations.tanh
                slope = (lambda z: 1 - np.tanh(z) ** 2) if tanh else step
                found.append(Activation(np.tanh if tanh else relu, slope, chosen))
        shape = tuple(layer.output.shape[1:])
    return found


def windows_of(shape: tuple[int, ...]) -> list[list[int]]:
    """Return the cells of every 2 x 2 window."""
    cells = np.arange(np.prod(shape)).reshape(shape)
    places = np.ndindex(shape[0] // 2, shape[1] // 2, shape[2])
    return [cells[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, k].ravel().tolist() for i, j, k in places]


@pytest.mark.parametrize(
    ("rule", "conv"), [("rescale", "rescale"), ("reveal_cancel", "reveal_cancel"), ("reveal_cancel", "rescale")]
)
@pytest.mark.parametrize("kind", ["dense", "tanh", "conv", "whole numbers"])
def test_against_the_definition(kind, rule, conv, float64):
    """Dense and convolutional networks, ReLU and tanh, pooling; whole numbers bring units whose changes cancel."""
    whole = kind == "whole numbers"
    model = cnn() if kind == "conv" else mlp("tanh" if kind == "tanh" else "relu")
    if whole:
        rng = np.random.default_rng(1)
        for variable in model.weights:
            variable.assign(rng.integers(-1, 2, size=tuple(variable.shape)))
    shape = model.input_shape[1:]
    x, b = samples(shape), samples(shape, 1, seed=9)
    if whole:
        x, b = np.round(2 * x), np.round(b)
    found = Bench(model, x).values(from_reference(rule, b, conv), target=1)
    stages = stages_of(model, rule, conv)
    expected = np.stack([deeplift(stages, row.ravel(), b.ravel(), 1) for row in x])
    same(found.reshape(3, -1), expected)
    assert all(isinstance(stage, (Matrix, Activation, Pool)) for stage in stages)


# Refusals -------------------------------------------------------------------------------------


def test_what_is_refused(float64):
    """Functions of logits, models with operations without a rule, no reference, rules that do not exist."""
    bench = Bench(mlp(), samples((5,)), background=samples((5,), 2, seed=9))
    with pytest.raises(ks.IncompatibleMethodError, match="a function of the logits has no rule"):
        bench("deeplift", target=lambda z: z[:, 0])
    for name in ("deeplift", "deeplift_shap"):
        with pytest.raises(ks.MissingBaselineError, match="give background="):
            Bench(mlp(), samples((5,)))(name)
    with pytest.raises(ks.BadInputError, match="Every sample equals every baseline"):
        bench(from_reference("rescale", "zeros"), np.zeros((2, 5)))
    with pytest.raises(ks.BadInputError, match="rule must be 'rescale' or 'reveal_cancel'"):
        ks.DeepLIFT(rule="linear")
    with pytest.raises(ks.BadInputError, match="conv must be"):
        ks.DeepLiftSHAP(conv="none")
    recurrent = stack((4, 2), layers.LSTM(3, name="lstm"), layers.Dense(2))
    with pytest.raises(ks.UnsupportedLayerError, match="DeepLIFT has no rule for 'lstm'"):
        Bench(recurrent, samples((4, 2)))(RESCALE)
