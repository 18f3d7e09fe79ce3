"""Activations, products, and `keras.ops` in functional models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.cases import case

SMOOTH = ["tanh", "sigmoid", "silu", "gelu", "softplus", "softsign", "mish", "exponential", "log_sigmoid"]
KINKED = ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "hard_sigmoid", "hard_silu", "hard_tanh"]
KINKED += ["hard_shrink", "soft_shrink", "tanh_shrink", "sparse_plus", "squareplus"]


def side_by_side(shape: tuple[int, ...], functions: Sequence[Callable[[Any], Any]]) -> keras.Model:
    """Return a model that applies each function to three hidden units of its own and joins what they return."""
    x = keras.Input(shape)
    flat = layers.Flatten()(x)
    results = [layers.Flatten()(function(layers.Dense(3)(flat))) for function in functions]
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()(results)))


@case((4,), "smooth activations")
def activations_smooth() -> keras.Model:
    return side_by_side((4,), [layers.Activation(name) for name in SMOOTH])


@case((4,), "activations")
def activations_kinked() -> keras.Model:
    return side_by_side((4,), [layers.Activation(name) for name in KINKED])


@case((4,), "activations")
def activation_layers() -> keras.Model:
    return side_by_side(
        (4,),
        [
            layers.ReLU(),
            layers.ReLU(max_value=6),
            layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
            layers.ReLU(negative_slope=0.3),
            layers.LeakyReLU(negative_slope=0.2),
            layers.PReLU(),
            layers.ELU(alpha=0.5),
        ],
    )


@case((4,), "activations smooth operations")
def operations_smooth() -> keras.Model:
    return side_by_side(
        (4,),
        [
            ops.tanh,
            ops.sigmoid,
            ops.exp,
            ops.square,
            lambda h: h**3,
            lambda h: ops.log1p(ops.exp(h)),
            lambda h: ops.sqrt(ops.square(h) + 1.0),
            lambda h: 1.0 / (ops.exp(h) + 1.0),
            ops.sin,
            ops.erf,
            keras.activations.gelu,
            lambda h: keras.activations.softplus(h),
        ],
    )


@case((4,), "relu_only operations")
def operations_relu() -> keras.Model:
    """A ReLU in every form in which one can be written."""
    return side_by_side(
        (4,),
        [
            ops.relu,
            keras.activations.relu,
            lambda h: ops.maximum(h, 0),
            lambda h: ops.maximum(0.0, h),
            lambda h: layers.Dense(2, activation=keras.activations.relu)(h),
        ],
    )


@case((4,), "activations operations")
def operations_kinked() -> keras.Model:
    return side_by_side(
        (4,),
        [
            ops.abs,
            ops.relu6,
            lambda h: ops.leaky_relu(h, negative_slope=0.1),
            lambda h: ops.clip(h, -0.5, 0.7),
            lambda h: ops.maximum(h, -0.3),
            lambda h: ops.minimum(h, 0.4),
            lambda h: keras.activations.relu(h, max_value=1.0),
        ],
    )


@case((5, 3), "linear smooth relu_only operations")
def operations_linear() -> keras.Model:
    """Sums, means and constants that add and multiply, from either side."""
    row = np.array([[0.5, -1.0, 2.0]], dtype="float32")
    x = keras.Input((5, 3))
    results = [
        ops.add(x, row),
        x + 0.5,
        0.5 - x,
        x - row,
        x * row,
        2.0 * x,
        x / 4.0,
        -x,
        ops.multiply(row, x),
        ops.subtract(row, x),
        x + ops.mean(x, axis=1, keepdims=True),
        ops.cumsum(x, axis=1),
        ops.sum(x, axis=-1, keepdims=True) + x,
        ops.mean(x, axis=-1, keepdims=True) * row,
        ops.mean(x, axis=-1, keepdims=True) + row,
    ]
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.Concatenate()(results))))


@case((4, 3), "linear smooth relu_only operations")
def operations_matrix() -> keras.Model:
    """Products with constant matrices."""
    rng = np.random.default_rng(7)
    square, wide = rng.normal(size=(4, 4)).astype("float32"), rng.normal(size=(3, 2)).astype("float32")
    x = keras.Input((4, 3))
    results = [
        ops.matmul(x, wide),
        x @ wide,
        ops.matmul(square, x),
        ops.dot(x, wide),
        ops.einsum("btf,fg->btg", x, wide),
        ops.einsum("st,btf->bsf", square, x),
    ]
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.Concatenate()(results))))


@case((4, 6), "linear smooth relu_only operations bias_free")
def operations_rearranged() -> keras.Model:
    x = keras.Input((4, 6))
    first, second = ops.split(x, 2, axis=2)
    results = [
        ops.reshape(x, (-1, 24)),
        ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 24)),
        x[:, 0],
        x[:, 1:3, ::2],
        x[..., -1],
        ops.stack([first, second], axis=1),
        ops.expand_dims(x, 1),
        ops.squeeze(x[:, :1], axis=1),
        ops.flip(x, axis=1),
        ops.roll(x, 1, axis=2),
        ops.repeat(x, 2, axis=1),
        ops.tile(x, (1, 1, 2)),
        ops.take(x, [2, 0], axis=2),
        ops.concatenate([first, second], axis=1),
        ops.pad(x, ((0, 0), (1, 0), (0, 1))),
        ops.swapaxes(x, 1, 2),
        x[:, None],
    ]
    flat = layers.Concatenate()([layers.Flatten()(result) for result in results])
    return keras.Model(x, layers.Dense(3, use_bias=False)(flat))


@case((6, 3), "maxpool relu_only operations")
def operations_largest() -> keras.Model:
    x = keras.Input((6, 3))
    h = layers.Dense(4)(x)
    results = [
        ops.max(h, axis=1),
        layers.Flatten()(ops.max(h, axis=2, keepdims=True)),
        layers.Flatten()(ops.maximum(h[:, ::2], h[:, 1::2])),
        layers.Flatten()(ops.max_pool(h, 3, 2, data_format="channels_last")),
        layers.Flatten()(ops.average_pool(h, 2, 1, padding="same", data_format="channels_last")),
        layers.Flatten()(layers.Minimum()([h[:, ::2], h[:, 1::2]])),
    ]
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()(results)))


@case((7, 6, 2), "conv relu_only operations")
def operations_conv() -> keras.Model:
    rng = np.random.default_rng(8)
    kernel = rng.normal(size=(2, 3, 2, 4)).astype("float32")
    x = keras.Input((7, 6, 2))
    last = {"data_format": "channels_last"}
    h = ops.relu(ops.conv(x, kernel, 1, "same", **last) + np.linspace(-1, 1, 4, dtype="float32"))
    d = ops.depthwise_conv(x, kernel[..., :1], (1, 1), "valid", **last)
    h = layers.Concatenate()([layers.Flatten()(h), layers.Flatten()(d)])
    return keras.Model(x, layers.Dense(3)(h))


@case((6, 5, 3), "conv gate softmax")
def squeeze_and_excite() -> keras.Model:
    """A gate from 0 to 1 for every channel."""
    x = keras.Input((6, 5, 3))
    h = layers.Conv2D(4, 3, activation="relu")(x)
    gate = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    h = layers.Multiply()([h, layers.Dense(4, activation="sigmoid")(gate)])
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(h)))


@case((5, 3), "gate smooth")
def products() -> keras.Model:
    """Products without a gate, written in two ways."""
    x = keras.Input((5, 3))
    a, b = layers.Dense(3)(x), layers.Dense(1)(x)
    h = layers.Concatenate()([a * b, layers.Multiply()([a, x])])
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


@case((5, 3), "no_rule smooth operations")
def no_rule_operations() -> keras.Model:
    """Operations that can be differentiated but have no rule."""
    x = keras.Input((5, 3))
    h = layers.Dense(3)(x)
    products = [ops.matmul(h, ops.transpose(h, (0, 2, 1))), ops.logsumexp(h, axis=(2,), keepdims=True)]
    flat = layers.Concatenate()([layers.Flatten()(result) for result in products])
    return keras.Model(x, layers.Dense(3)(flat))
