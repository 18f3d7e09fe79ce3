"""How LRP passes operations without a kernel: pooling, Add, products, rearrangements, activations, scalings.

Not covered here: kernels (test_rules.py), which operations exist at all (tests/unit/model).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascope import rules
from tests.reference.nets import samples, stack, weigh, weights_of
from tests.reference.replicas import Matrix, share_in_proportion
from tests.reference.run import TIGHT, Bench, SentBack, predict, same


def functional(shape: tuple[int, ...], build: Callable[[Any], Any]) -> Any:
    """Return a model of one function of its input, flattened."""
    inputs = layers.Input(shape)
    return weigh(keras.Model(inputs, layers.Flatten()(build(inputs))))


def halves(join: Callable[[Any, Any], Any]) -> Any:
    """Return a model that joins the first four features with the last four."""
    return functional((8,), lambda x: join(x[:, :4], x[:, 4:]))


def matrix(model: Any, shape: tuple[int, ...]) -> Matrix:
    """Return a linear model's matrix and what it adds."""
    size = int(np.prod(shape))
    added = predict(model, np.zeros((1, *shape)))[0]
    return Matrix(predict(model, np.eye(size).reshape(size, *shape)) - added, added)


def sent_back(model: Any, x: np.ndarray, *, seed: int = 3) -> tuple[SentBack, np.ndarray]:
    """Send drawn relevance back from the model's outputs; return what was found, and the relevance (K,)."""
    relevance = np.random.default_rng(seed).normal(size=model.output_shape[-1])
    return Bench(model, x).sent_back(rules.Zero(), relevance), relevance


def check_sums(found: SentBack) -> None:
    """Nothing may appear or vanish unseen."""
    assert np.max(np.abs(found.completeness_gap)) < 1e-9


# Mixtures: in proportion, with the fixed stabiliser -------------------------------------

MIXTURES: dict[str, Any] = {
    "AveragePooling2D": ((5, 4, 2), lambda x: layers.AveragePooling2D(2)(x)),
    "AveragePooling2D overlapping, same": ((5, 4, 2), lambda x: layers.AveragePooling2D(3, 2, "same")(x)),
    "AveragePooling1D": ((7, 2), lambda x: layers.AveragePooling1D(3, 2)(x)),
    "GlobalAveragePooling2D": ((5, 4, 2), lambda x: layers.GlobalAveragePooling2D()(x)),
    "GlobalAveragePooling1D": ((7, 2), lambda x: layers.GlobalAveragePooling1D(keepdims=True)(x)),
    "ops.mean": ((5, 4, 2), lambda x: ops.mean(x, axis=-1)),
    "ops.sum": ((5, 4, 2), lambda x: ops.sum(x, axis=(1, 2))),
    "Add": ((8,), lambda x: layers.Add()([x[:, :4], x[:, 4:]])),
    "Add of one tensor twice": ((8,), lambda x: layers.Add()([x, x])),
    "Average": ((8,), lambda x: layers.Average()([x[:, :4], x[:, 4:]])),
    "Subtract": ((8,), lambda x: layers.Subtract()([x[:, :4], x[:, 4:]])),
    "UpSampling2D bilinear": ((3, 2, 2), lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x)),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_share_in_proportion(name, float64):
    """Pooling and sums share in proportion to what each cell brought, with the absolute stabiliser 1e-6."""
    shape, build = MIXTURES[name]
    model = functional(shape, build)
    x = samples(shape, 3)
    x[1] = 0  # windows without anything: their relevance is absorbed
    found, relevance = sent_back(model, x)
    layer = matrix(model, shape)
    pairs = [share_in_proportion(sample.reshape(-1), layer, relevance) for sample in x]
    # TensorFlow interpolates in float32, whatever it is given.
    tolerance = 1e-3 if keras.backend.backend() == "tensorflow" and "bilinear" in name else TIGHT
    same(found.values.reshape(3, -1), [received for received, _ in pairs], tolerance)
    same(found.absorbed, [absorbed for _, absorbed in pairs], tolerance)
    assert np.max(np.abs(found.completeness_gap)) < tolerance


def test_b16_add_splits_in_proportion(float64):
    """Both branches of an Add together get R, stabiliser aside; equal branches get half each.

    Sums of two numbers of at least 0.1 lose at most 1e-6 / 0.2 of R to the stabiliser: 5e-6.
    """
    x = np.tile(samples((4,), 2, low=0.1), (1, 2))
    found, relevance = sent_back(halves(lambda a, b: layers.Add()([a, b])), x)
    same(found.values[:, :4], np.tile(relevance / 2, (2, 1)), 1e-5)
    same(found.values[:, :4], found.values[:, 4:])
    same(found.values.sum(axis=1) + found.absorbed, np.full(2, relevance.sum()))


# Winners: all to the largest, of equal cells to the first -------------------------------


def window_starts(size: int, pool: int, stride: int, padding: str) -> list[int]:
    """Return where windows begin along an axis, before the border where it is padded."""
    if padding == "valid":
        return list(range(0, size - pool + 1, stride))
    count = -(-size // stride)
    return [i * stride - max((count - 1) * stride + pool - size, 0) // 2 for i in range(count)]


def max_pool_replica(x: np.ndarray, relevance: np.ndarray, pool: int, stride: int, padding: str) -> np.ndarray:
    """Give each window's relevance to its first maximum, window by window and cell by cell."""
    *spatial, channels = x.shape
    received = np.zeros_like(x)
    corners = itertools.product(*(window_starts(n, pool, stride, padding) for n in spatial))
    order = ((corner, c) for corner in corners for c in range(channels))
    for (corner, c), r in zip(order, relevance, strict=True):
        best = None
        for offset in itertools.product(range(pool), repeat=len(spatial)):
            cell = (*np.add(corner, offset), c)
            inside = all(0 <= i < n for i, n in zip(cell, x.shape, strict=True))
            if inside and (best is None or x[cell] > x[best]):
                best = cell
        received[best] += r
    return received


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("rank", "pool", "stride"), [(1, 3, 2), (2, 2, 2), (2, 3, 2), (2, 2, 1)])
def test_b17_max_pooling_gives_to_the_first_maximum(rank, pool, stride, padding, float64):
    """Overlapping windows and ties included, each window's relevance goes to its first maximum, in full."""
    shape = {1: (8, 2), 2: (5, 5, 2)}[rank]
    x = np.random.default_rng(0).integers(0, 3, size=(3, *shape)).astype("float64")
    x[2] = 0
    layer = getattr(layers, f"MaxPooling{rank}D")(pool, stride, padding)
    found, relevance = sent_back(stack(shape, layer, layers.Flatten()), x)
    same(found.values, [max_pool_replica(sample, relevance, pool, stride, padding) for sample in x])
    same(found.values.reshape(3, -1).sum(axis=1), np.full(3, relevance.sum()))
    assert np.all(found.absorbed == 0)


def test_pooling_of_volumes():
    """The same with three spatial axes, in float32: TensorFlow has no such pooling in float64."""
    shape = (3, 4, 3, 2)
    x = np.random.default_rng(0).integers(0, 3, size=(3, *shape)).astype("float32")
    found, relevance = sent_back(stack(shape, layers.MaxPooling3D(2, 1), layers.Flatten()), x)
    same(found.values, [max_pool_replica(sample, relevance, 2, 1, "valid") for sample in x], 1e-6)
    model = functional(shape, lambda x: layers.AveragePooling3D(2)(x))
    found, relevance = sent_back(model, x)
    layer = matrix(model, shape)
    expected = [share_in_proportion(sample.reshape(-1), layer, relevance)[0] for sample in x]
    same(found.values.reshape(3, -1), expected, 1e-5)


@pytest.mark.parametrize(
    ("build", "axes"),
    [
        (lambda x: layers.GlobalMaxPooling2D()(x), (0, 1)),
        (lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x), (0, 1)),
        (lambda x: ops.max(x, axis=-1), (2,)),
        (lambda x: ops.max(x, axis=(1, -1)), (0, 2)),
    ],
)
def test_b17_maximum_over_whole_axes_gives_to_the_first(build, axes, float64):
    """A maximum over axes gives all to the first of equal cells, on every backend."""
    x = np.random.default_rng(0).integers(0, 3, size=(3, 4, 3, 2)).astype("float64")
    found, relevance = sent_back(functional((4, 3, 2), build), x)
    kept = [axis for axis in range(3) if axis not in axes]
    for sample, values in zip(x, found.values, strict=True):
        expected = np.zeros_like(sample)
        outputs = itertools.product(*(range(sample.shape[axis]) for axis in kept))
        for place, r in zip(outputs, relevance, strict=True):
            best = None
            for cell in itertools.product(*map(range, sample.shape)):
                here = tuple(cell[axis] for axis in kept) == place
                if here and (best is None or sample[cell] > sample[best]):
                    best = cell
            expected[best] += r
        same(values, expected)
    check_sums(found)


@pytest.mark.parametrize(("name", "wins"), [("Maximum", np.greater), ("Minimum", np.less)])
def test_equal_tensors_share_a_maximum(name, wins, float64):
    """Of two tensors the winner gets all; equal ones get half each, whatever the backend's derivative is."""
    x = np.random.default_rng(0).integers(0, 3, size=(3, 8)).astype("float64")
    found, relevance = sent_back(halves(lambda a, b: getattr(layers, name)()([a, b])), x)
    first, second = x[:, :4], x[:, 4:]
    part = wins(first, second) + 0.5 * (first == second)
    same(found.values, np.concatenate([part * relevance, (1 - part) * relevance], axis=1))
    check_sums(found)


def test_signal_methods_share_equal_tensors_alike(float64):
    """Guided backprop and DeconvNet split a tie of two ReLUs by halves, as LRP does."""
    inputs = layers.Input((4,))
    left, right = (layers.Dense(5, activation="relu", name=name)(inputs) for name in ("left", "right"))
    model = weigh(keras.Model(inputs, layers.Dense(2)(layers.Maximum()([left, right]))))
    bench = Bench(model, samples((4,), 3))
    (wl, bl), (wr, br), (head, _) = (weights_of(layer) for layer in model.layers if layer.weights)
    for name, guided in (("deconvnet", False), ("guided_backprop", True)):
        expected = []
        for x in bench.x:
            a, b = np.maximum(x @ wl + bl, 0), np.maximum(x @ wr + br, 0)
            part = (a > b) + 0.5 * (a == b)
            back = [np.maximum(head[:, 0] * share, 0) for share in (part, 1 - part)]
            if guided:
                back = [back[0] * (a > 0), back[1] * (b > 0)]
            expected.append(wl @ back[0] + wr @ back[1])
        same(bench.values(name), expected, what=name)


# Products -------------------------------------------------------------------------------


def test_products_share_by_halves_and_gates_get_nothing(float64):
    """A product of two signals gives half to each; behind a sigmoid one is a gate, and the other gets all."""
    x = samples((8,), 3)
    found, relevance = sent_back(halves(lambda a, b: layers.Multiply()([a, b])), x)
    same(found.values, np.tile(relevance / 2, (3, 2)))
    for build in (lambda a, b: a * ops.sigmoid(b), lambda a, b: layers.Multiply()([ops.sigmoid(b), a])):
        found, relevance = sent_back(halves(build), x)
        same(found.values[:, :4], np.tile(relevance, (3, 1)))
        assert np.all(found.values[:, 4:] == 0)
        check_sums(found)


def test_a_gate_for_every_channel(float64):
    """Squeeze and excitation: one gate value for a whole channel takes no relevance from its cells."""
    shape = (4, 3, 2)

    def gated(x: Any) -> Any:
        gate = layers.Dense(2, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, gate])

    found, relevance = sent_back(functional(shape, gated), samples(shape, 3))
    same(found.values, np.tile(relevance.reshape(shape), (3, 1, 1, 1)))


def test_broadcast_products_gather(float64):
    """Half of a product goes to the tensor that was broadcast, summed over the cells it stood for."""
    model = functional((4, 3), lambda x: x * ops.mean(x, axis=1, keepdims=True))
    x = samples((4, 3), 2, low=0.2)
    found, relevance = sent_back(model, x)
    r = relevance.reshape(4, 3) / 2
    mean = x.mean(axis=1, keepdims=True)
    expected = r + x / 4 / (mean + 1e-6) * r.sum(axis=0)
    same(found.values, expected)
    check_sums(found)


# Rearrangements ---------------------------------------------------------------------------

ROUTES: dict[str, Any] = {
    "Permute": ((3, 2, 4), lambda x: layers.Permute((2, 3, 1))(x)),
    "Reshape": ((3, 2, 4), lambda x: layers.Reshape((4, 6))(x)),
    "Cropping2D": ((4, 4, 2), lambda x: layers.Cropping2D(((1, 0), (0, 2)))(x)),
    "ZeroPadding2D": ((3, 2, 2), lambda x: layers.ZeroPadding2D((1, 2))(x)),
    "ZeroPadding1D": ((3, 2), lambda x: layers.ZeroPadding1D((2, 0))(x)),
    "UpSampling2D": ((3, 2, 2), lambda x: layers.UpSampling2D((2, 3))(x)),
    "UpSampling1D": ((3, 2), lambda x: layers.UpSampling1D(2)(x)),
    "RepeatVector": ((5,), lambda x: layers.RepeatVector(3)(x)),
    "Concatenate": ((3, 4), lambda x: layers.Concatenate(axis=1)([x, ops.flip(x, axis=1)])),
    "ops.pad": ((3, 4), lambda x: ops.pad(x, [(0, 0), (1, 0), (0, 2)])),
    "ops.pad with a constant": (
        (3, 4),
        lambda x: ops.pad(x, [(0, 0), (1, 1), (0, 0)], constant_values=0.5),
    ),
    "ops.flip, roll, transpose": (
        (3, 4),
        lambda x: ops.transpose(ops.roll(ops.flip(x, axis=1), 1, axis=2), (0, 2, 1)),
    ),
    "ops.take": ((5, 2), lambda x: ops.take(x, [0, 3, 3], axis=1)),
    "ops.split and stack": ((4, 2), lambda x: ops.stack(ops.split(x, 2, axis=1)[::-1], axis=2)),
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes_send_relevance_to_where_cells_came_from(name, float64):
    """Copies give back what they got, and what stood at a constant is absorbed."""
    shape, build = ROUTES[name]
    model = functional(shape, build)
    found, relevance = sent_back(model, samples(shape, 2))
    copies = matrix(model, shape).w
    assert set(np.unique(np.round(copies, 12))) <= {0.0, 1.0}
    same(found.values.reshape(2, -1), np.tile(copies @ relevance, (2, 1)))
    same(found.absorbed, np.full(2, relevance[copies.sum(axis=0) == 0].sum()))
    check_sums(found)


# Activations and scalings -----------------------------------------------------------------

ACTIVATIONS = ["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus", "relu6"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_pass_relevance(name, float64):
    """Every elementwise activation hands relevance on as it is."""
    found, relevance = sent_back(stack((5,), layers.Activation(name)), samples((5,), 3))
    same(found.values, np.tile(relevance, (3, 1)))


def test_scalings_on_the_input_pass_relevance(float64):
    """Rescaling, Normalization and a BatchNormalization of the input only change units."""
    normalization = layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])
    for layer in (layers.Rescaling(2.0, -1.0), normalization, layers.BatchNormalization()):
        found, relevance = sent_back(stack((4,), layer), samples((4,), 3))
        same(found.values, np.tile(relevance, (3, 1)))
        assert np.all(found.absorbed == 0)


def test_an_unfolded_batch_norm_takes_the_epsilon_rule(float64):
    """Inside the network, a BatchNormalization without a linear neighbour is an affine map of each cell."""
    norm = layers.BatchNormalization()
    model = stack((4,), layers.ReLU(), norm)
    x = samples((4,), 3)
    found, relevance = sent_back(model, x)
    gamma, beta, mean, variance = weights_of(norm)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    z = np.maximum(x, 0) * scale + beta - mean * scale
    same(found.values, np.maximum(x, 0) * scale / (z + np.where(z >= 0, 1e-6, -1e-6)) * relevance)
    check_sums(found)


def test_added_constants_absorb_their_share(float64):
    """A constant that is added inside the network keeps what it brought to the sum; a factor keeps nothing."""
    x, constant = samples((4,), 3), np.array([[0.5, -0.2, 1.0, 2.0]])
    found, relevance = sent_back(functional((4,), lambda x: ops.relu(x) + constant), x)
    z = np.maximum(x, 0) + constant
    same(found.values, np.maximum(x, 0) / (z + 1e-6 * np.where(z >= 0, 1, -1)) * relevance)
    same(found.absorbed, relevance.sum() - found.values.sum(axis=1))
    check_sums(found)
    found, relevance = sent_back(functional((4,), lambda x: 3.0 - ops.relu(x) * constant / 2.0), x)
    check_sums(found)


def test_a_scaling_of_the_input_that_widens_it_takes_the_epsilon_rule(float64):
    """A product with constants that makes several channels of one has no cell to pass relevance to."""
    constants = np.array([[[1.0, -2.0, 0.5]]])
    found, relevance = sent_back(functional((2, 2, 1), lambda x: x * constants), samples((2, 2, 1), 2))
    same(found.values[..., 0], np.tile(relevance.reshape(2, 2, 3).sum(axis=-1), (2, 1, 1)), 1e-4)
    check_sums(found)
