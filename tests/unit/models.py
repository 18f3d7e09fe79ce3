"""Small models with weights that are known."""

from __future__ import annotations

import functools

import keras
import numpy as np

layers = keras.layers


def with_weights(model, seed=0):
    """Draw all weights, BatchNorm statistics among them, from a generator of the tests' own."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        drawn = rng.normal(size=weight.shape, scale=0.5)
        weight.assign(np.abs(drawn) + 0.5 if "variance" in weight.name else drawn)
    return model


def linear(classes=4, activation="softmax"):
    """f(x) = x W + b for x (N, 3, 2), with a final activation."""
    return with_weights(
        keras.Sequential(
            [layers.Input((3, 2)), layers.Flatten(), layers.Dense(classes, activation=activation, name="head")]
        )
    )


def kernel(model, layer="head"):
    """Return the kernel of a dense layer."""
    return np.asarray(keras.ops.convert_to_numpy(model.get_layer(layer).kernel))


@functools.cache
def convolutional():
    """A convolutional network with a folded BatchNorm, for x (N, 6, 5, 1)."""
    return with_weights(
        keras.Sequential(
            [
                layers.Input((6, 5, 1)),
                layers.Conv2D(3, 2, name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.Activation("relu", name="active"),
                layers.Conv2D(4, 2, activation="relu", name="conv_relu"),
                layers.Flatten(),
                layers.Dense(3, activation="softmax", name="head"),
            ]
        )
    )


@functools.cache
def two_heads():
    """A model with a softmax head "kind" and a sigmoid head "alarm", for x (N, 3, 2)."""
    x = keras.Input((3, 2))
    flat = layers.Flatten()(x)
    hidden = layers.Dense(5, activation="relu")(flat)
    kind = layers.Dense(3, activation="softmax", name="kind")(hidden)
    alarm = layers.Dense(1, activation="sigmoid", name="alarm")(hidden)
    return with_weights(keras.Model(x, {"kind": kind, "alarm": alarm}))


@functools.cache
def map_output():
    """A model that returns a map of class probabilities (4, 3, 2) for x (N, 4, 3, 1)."""
    return with_weights(
        keras.Sequential(
            [
                layers.Input((4, 3, 1)),
                layers.Conv2D(3, 3, padding="same", activation="relu"),
                layers.Conv2D(2, 1, activation="softmax", name="map"),
            ]
        )
    )


@functools.cache
def two_inputs(kind="dict"):
    """A model that takes a series (5, 2) and a table (3,), as a dict or a list."""
    series, table = keras.Input((5, 2), name="series"), keras.Input((3,), name="table")
    merged = layers.Concatenate()([layers.Flatten()(series), table])
    out = layers.Dense(3, activation="softmax", name="head")(merged)
    inputs = {"series": series, "table": table} if kind == "dict" else [series, table]
    return with_weights(keras.Model(inputs, out))


def draw(*shape, seed=0):
    """Normal numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")
