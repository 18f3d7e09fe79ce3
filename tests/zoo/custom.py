"""Code of the user's own, recurrent layers, and other precisions."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.cases import case
from tests.zoo.convolutions import classifier


class Network(keras.Model):
    """A subclassed model with everything in its call."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3, padding="same")
        self.norm = layers.BatchNormalization()
        self.blocks = [Block(4, name=f"block_{i}") for i in range(2)]
        self.drop = layers.Dropout(0.5)
        self.classes = layers.Dense(3, activation="softmax")

    def call(self, inputs: Any, training: bool = False) -> Any:
        h = keras.activations.relu(self.norm(self.conv(inputs), training=training))
        for block in self.blocks:
            h = block(h)
        self.last = h  # an attribute that a trace must not leave behind
        return self.classes(self.drop(ops.mean(h, axis=(1, 2)), training=training))


class Block(layers.Layer):
    """A residual block; without a `training` argument of its own."""

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(filters, 3, padding="same")
        self.norm = layers.BatchNormalization()

    def build(self, shape: Any) -> None:
        self.conv.build(shape)
        self.norm.build(shape)

    def call(self, inputs: Any) -> Any:
        return ops.relu(inputs + self.norm(self.conv(inputs)))


@case((5, 4, 2), "custom subclassed conv batchnorm relu_only softmax")
def subclassed() -> keras.Model:
    model = Network(name="network")
    model(np.zeros((2, 5, 4, 2), "float32"))
    return model


class TwoInputs(keras.Model):
    """A subclassed model that takes a dict and returns two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = layers.Dense(4, activation="relu"), layers.Dense(4, activation="relu")
        self.kind, self.size = layers.Dense(3, activation="softmax"), layers.Dense(2)

    def call(self, inputs: dict[str, Any]) -> Any:
        h = self.a(ops.reshape(inputs["signal"], (-1, 12))) + self.b(inputs["facts"])
        return self.kind(h), self.size(h)


@case({"signal": (4, 3), "facts": (2,)}, "custom subclassed multi_input multi_output relu_only")
def subclassed_dict() -> keras.Model:
    model = TwoInputs()
    model({"signal": np.zeros((2, 4, 3), "float32"), "facts": np.zeros((2, 2), "float32")})
    return model


class Affine(layers.Layer):
    """Weights of its own, in every way in which they can meet a tensor."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], 4), name="w")
        self.scale = self.add_weight(shape=(4,), name="scale")
        self.b = self.add_weight(shape=(4,), name="bias")

    def call(self, inputs: Any) -> Any:
        h = inputs @ self.w + self.b
        h = self.scale * ops.relu(h)
        return h - self.b / 2.0 + ops.matmul(inputs, self.w)


@case((5, 3), "custom relu_only")
def own_weights() -> keras.Model:
    return classifier((5, 3), Affine(name="affine"))


class Scaled(layers.Layer):
    """An array that multiplies a tensor from the left."""

    def call(self, inputs: Any) -> Any:
        return np.linspace(0.5, 1.5, 3, dtype="float32") * inputs


@case((5, 3), "custom relu_only linear smooth", backends=("jax", "tensorflow"))  # PyTorch itself cannot do it
def own_array() -> keras.Model:
    return classifier((5, 3), Scaled(name="scaled"))


class ScaledDense(layers.Dense):
    """A Dense with a call of its own."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(inputs) * 0.5 + 0.1


class NamedDense(layers.Dense):
    """A Dense that only adds to what Dense is."""

    def __init__(self, units: int, note: str = "", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.note = note

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "note": self.note}

    def describe(self) -> str:
        return f"{self.note}: {self.units}"


class CentredConv(layers.Conv2D):
    """A convolution whose kernels are centred before use: it replaces a part of Conv2D, not its call."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = ops.convert_to_tensor(kernel)
        return super().convolution_op(inputs, kernel - ops.mean(kernel, axis=(0, 1, 2), keepdims=True))


class Largest(layers.Add):
    """A merging layer that computes something else than its base."""

    def _merge_function(self, inputs: Any) -> Any:
        return ops.maximum(inputs[0], inputs[1])


def swish_like(x: Any) -> Any:
    """Return an activation of the user's own."""
    return x * ops.sigmoid(1.5 * x)


@case((6, 5, 2), "custom conv relu_only maxpool")
def subclassed_layers() -> keras.Model:
    x = keras.Input((6, 5, 2))
    h = CentredConv(4, 3, name="centred", activation="relu")(x)
    h = Largest(name="largest")([h, layers.Conv2D(4, 3)(x)])
    h = ScaledDense(5, name="scaled", activation="relu")(layers.Flatten()(h))
    return keras.Model(x, NamedDense(3, "classes", name="named")(h))


@case((6, 5, 2), "custom conv gate smooth")
def own_activation() -> keras.Model:
    return classifier(
        (6, 5, 2),
        layers.Conv2D(3, 3, activation=swish_like, name="conv"),
        layers.Activation(swish_like),
        layers.Dense(4, activation=layers.LeakyReLU(negative_slope=1.0)),
        layers.Lambda(lambda h: 0.5 * h),
    )


class Position(layers.Layer):
    """Adds a weight for every position."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, inputs: Any) -> Any:
        return inputs + ops.convert_to_tensor(self.table)


class Constant(layers.Layer):
    """Returns weights, whatever the input."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(1, *shape[1:]), name="table")

    def call(self, inputs: Any) -> Any:
        return ops.convert_to_tensor(self.table)


class Embedded(layers.Layer):
    """A patch embedding as vision transformers have it, positions from a layer that returns a constant."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense, self.position = layers.Dense(4), Constant(name="constant")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.position.build((None, shape[1], 4))

    def call(self, inputs: Any) -> Any:
        h = self.dense(inputs)
        return ops.reshape(h + self.position(h), (ops.shape(inputs)[0], inputs.shape[1], 4))


@case((4, 3), "custom relu_only")
def positions() -> keras.Model:
    return classifier((4, 3), Embedded(), Position(), layers.Dense(4, activation="relu"))


@case((5, 4, 2), "custom conv relu_only")
def time_distributed() -> keras.Model:
    return classifier((5, 4, 2), layers.TimeDistributed(layers.Conv1D(3, 2, activation="relu")))


@case((5, 4), "no_rule")
def attention() -> keras.Model:
    x = keras.Input((5, 4))
    h = layers.MultiHeadAttention(2, 3)(x, x)
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)))


@case((5, 3), "no_rule")
def recurrent() -> keras.Model:
    return classifier((5, 3), layers.LSTM(3, return_sequences=True, name="lstm"), layers.Bidirectional(layers.GRU(2)))


@case((5, 3), "no_rule")
def masked() -> keras.Model:
    """Steps that hold nothing are skipped: masks travel beside the tensors."""
    x = keras.Input((5, 3))
    h = layers.Dense(4, activation="relu")(layers.Masking(0.0)(x))
    return keras.Model(x, layers.Dense(3)(layers.LSTM(4)(h)))


@case((6,), "no_rule integer_input maxpool softmax conv")
def embedded_tokens() -> keras.Model:
    x = keras.Input((6,), dtype="int32")
    h = layers.Conv1D(4, 3, activation="relu")(layers.Embedding(7, 3)(x))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalMaxPooling1D()(h)))


@case((6, 5, 2), "no_rule conv")
def other_norms() -> keras.Model:
    return classifier(
        (6, 5, 2),
        layers.Conv2D(4, 2),
        layers.GroupNormalization(2),
        layers.LayerNormalization(),
        layers.UnitNormalization(),
    )


class Raw(layers.Layer):
    """A layer that calls the framework, which knows nothing of symbolic tensors."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1],), name="w")

    def call(self, inputs: Any) -> Any:
        self.last = inputs
        if keras.backend.backend() == "jax":
            return importlib.import_module("jax").numpy.tanh(inputs * self.w.value)
        if keras.backend.backend() == "torch":
            return importlib.import_module("torch").tanh(inputs * self.w.value)
        return importlib.import_module("tensorflow").math.tanh(inputs * self.w.value)


@case((5, 3), "no_rule opaque custom smooth")
def raw_framework() -> keras.Model:
    return classifier((5, 3), layers.Dense(4), Raw(name="raw"))


@case((8, 6, 1), "conv half maxpool relu_only batchnorm softmax")
def mixed_precision() -> keras.Model:
    half = {"dtype": "mixed_float16"}
    return keras.Sequential(
        [
            layers.Input((8, 6, 1)),
            layers.Conv2D(4, 3, **half),
            layers.BatchNormalization(**half),
            layers.ReLU(**half),
            layers.MaxPooling2D(2, **half),
            layers.Flatten(**half),
            layers.Dense(3, activation="softmax", dtype="float32"),
        ]
    )
