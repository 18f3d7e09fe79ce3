"""Any convolution is a dense layer, a separable one is two (C21, C22), and all are known as convolutions (F7).

Rules on every kind of layer are held against a replica in test_rules.py.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.every import ALL, DEEPLIFT, GRADIENTS, PATTERNS, RULES, SIGNALS, alike, both, without
from tests.reference.nets import samples, stack
from tests.reference.replicas import Matrix, matrix_of
from tests.reference.run import Bench, differ, same
from tests.reference.test_rules import LAYERS

pytestmark = pytest.mark.usefixtures("float64")
NAMES = (*GRADIENTS, *DEEPLIFT, *SIGNALS, *RULES)
"""Flat is not among them: it counts what a layer reads."""

ON_TORCH = keras.backend.backend() == "torch"
"""JAX compiles every operation for every shape: elsewhere a few layers are enough, since the code is shared."""


@pytest.mark.parametrize("name", LAYERS if ON_TORCH else ["einsum", "transposed1d", "depthwise1d"])
def test_c21_c22_every_layer_is_its_matrix(name: str) -> None:
    """Inside a network, between ReLUs: the same maps as with a dense layer of the explicit matrix."""
    shape, build = LAYERS[name]
    size = int(np.prod(shape))
    layer, before, head = build(use_bias=True), layers.Dense(size), layers.Dense(3)
    one = stack((4,), before, layers.ReLU(), layers.Reshape(shape), layer, layers.ReLU(), layers.Flatten(), head)
    matrix = matrix_of(layer, shape)
    width = matrix.w.shape[1]
    dense = stack((4,), layers.Dense(size), layers.ReLU(), layers.Dense(width), layers.ReLU(), layers.Dense(3))
    dense.set_weights([*before.get_weights(), matrix.w, matrix.b, *head.get_weights()])
    benches = both(one, dense, shape=(4,))
    same(*(bench.logits() for bench in benches), 1e-12)
    alike(*benches, (*NAMES, "occlusion", "shapley_exact"))


def matrix_with(convolution: Any, shape: tuple[int, ...], kernel: Any = None) -> Matrix:
    """Return the matrix of a convolution without its activation, with its own kernel or another."""
    plain = type(convolution).from_config(convolution.get_config() | {"activation": "linear"})
    plain.build((None, *shape))
    plain.set_weights(convolution.get_weights())
    if kernel is not None:
        plain.kernel.assign(kernel)
    return matrix_of(plain, shape)


CONVOLUTIONS = {
    "strided": lambda: layers.Conv2D(3, 2, strides=2, activation="relu"),
    "transposed": lambda: layers.Conv2DTranspose(2, 3, strides=2, padding="same", activation="relu"),
    "same": lambda: layers.Conv2D(4, 3, padding="same", activation="relu"),
    "dilated": lambda: layers.Conv2D(4, 2, dilation_rate=2, activation="relu"),
    "depthwise": lambda: layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS if ON_TORCH else ["strided"])
def test_c21_c22_a_first_convolution_is_a_dense_layer(name: str) -> None:
    """The same maps, through the same patterns too: those of a convolution, written as its matrix is."""
    shape, convolution = (4, 4, 2), CONVOLUTIONS[name]()
    conv = stack(shape, convolution, layers.Flatten(), layers.Dense(3))
    matrix = matrix_with(convolution, shape)
    dense = stack((32,), layers.Dense(matrix.w.shape[1], activation="relu"), layers.Dense(3))
    dense.set_weights([matrix.w, matrix.b, *conv.layers[-1].get_weights()])
    one, other = both(conv, dense, shape=shape, move=lambda x: x.reshape(len(x), 32))
    same(one.logits(), other.logits(), 1e-12)
    alike(one, other, NAMES, back=lambda a: a.reshape(3, *shape))
    first, last = (held.values for held in one.patterns.layers)
    written = [matrix_with(convolution, shape, first).w, last]
    moved = other.patterns.replaced(dict(zip(other.patterns, written, strict=True)))
    for method in PATTERNS:
        expected = one.values(method, target=1)
        assert np.any(expected), method
        same(other.values(method, target=1, patterns=moved).reshape(expected.shape), expected, what=method)


def test_c22_a_separable_convolution_is_two() -> None:
    """Depthwise and pointwise layers in a row: the same maps of every method, patterns fitted to either."""
    separable = layers.SeparableConv2D(3, 3, padding="same", depth_multiplier=2, activation="relu")
    one = stack((6, 6, 2), separable, layers.Flatten(), layers.Dense(3))
    depthwise = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)
    two = stack((6, 6, 2), depthwise, layers.Conv2D(3, 1, activation="relu"), layers.Flatten(), layers.Dense(3))
    two.set_weights(one.get_weights())
    alike(*both(one, two, shape=(6, 6, 2)), without(ALL, "cam"))


@pytest.mark.parametrize("kind", ["DepthwiseConv1D", "Conv1DTranspose", "SeparableConv1D"])
def test_f7_every_convolution_is_known_as_one(kind: str) -> None:
    """DeepLIFT's genomics default takes Rescale behind each of them, and presets give each the rule of convolutions."""
    layer = getattr(layers, kind)(*((3,) if kind.startswith("Depth") else (3, 3)), name="it")
    first = layers.Conv1D(4, 2, activation="relu")
    bench = Bench(stack((7, 2), first, layer, layers.ReLU(), layers.Flatten(), layers.Dense(3)), samples((7, 2)))
    genomics = ks.DeepLIFT(rule="reveal_cancel", conv="rescale", baseline="zeros")
    same(bench.values(genomics), bench.values(ks.DeepLIFT(baseline="zeros")))
    differ(bench.values(genomics), bench.values(ks.DeepLIFT(rule="reveal_cancel", baseline="zeros")))
    rows = ks.Explainer.on(bench.session, "lrp.epsilon_plus").rule_table()
    given = [row["rule"] for row in rows if row["node"].startswith("it")]
    assert len(given) >= 1
    assert all(rule.startswith("ZPlus") for rule in given)
