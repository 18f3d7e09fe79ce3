"""Final softmax and sigmoid in every form, and several outputs."""

from __future__ import annotations

import keras
from keras import layers, ops

from tests.cases import case


def body(shape: tuple[int, ...] = (5, 4)) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return an input and six hidden units."""
    x = keras.Input(shape)
    return x, layers.Dense(6, activation="relu", name="hidden")(layers.Flatten()(x))


@case((5, 4), "relu_only softmax head")
def softmax_layer() -> keras.Model:
    x, h = body()
    return keras.Model(x, layers.Softmax()(layers.Dense(3, name="logits")(h)))


@case((5, 4), "relu_only softmax head")
def softmax_activation_layer() -> keras.Model:
    x, h = body()
    return keras.Model(x, layers.Dropout(0.5)(layers.Activation("softmax")(layers.Dense(3, name="logits")(h))))


@case((5, 4), "relu_only softmax head")
def softmax_operation() -> keras.Model:
    x, h = body()
    return keras.Model(x, ops.softmax(layers.Dense(3, name="logits")(h)))


@case((5, 4), "relu_only log_softmax head")
def log_softmax() -> keras.Model:
    x, h = body()
    return keras.Model(x, layers.Activation("log_softmax")(layers.Dense(3, name="logits")(h)))


@case((5, 4), "relu_only softmax head nested")
def softmax_in_nested_head() -> keras.Model:
    x, h = body()
    head = keras.Sequential(
        [layers.Input((6,)), layers.Dense(3, name="logits"), layers.Activation("softmax")], name="head"
    )
    return keras.Model(x, head(h))


@case((5, 4, 2), "conv relu_only softmax head")
def softmax_after_reshape() -> keras.Model:
    """As in MobileNet: the classes come from a convolution, are reshaped, then normalised."""
    x = keras.Input((5, 4, 2))
    h = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(4, 3, activation="relu")(x))
    h = layers.Reshape((3,))(layers.Dropout(0.1)(layers.Conv2D(3, 1, name="logits")(h)))
    return keras.Model(x, layers.Activation("softmax")(h))


@case((5, 4, 2), "conv relu_only softmax head")
def softmax_before_reshape() -> keras.Model:
    """The classes are normalised, then flattened and reshaped."""
    x = keras.Input((5, 4, 2))
    h = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(4, 3, activation="relu")(x))
    h = layers.Conv2D(3, 1, activation="softmax", name="logits")(h)
    return keras.Model(x, layers.Flatten()(layers.Permute((3, 1, 2))(h)))


@case((5, 4), "relu_only sigmoid head one_unit")
def one_sigmoid() -> keras.Model:
    x, h = body()
    return keras.Model(x, layers.Dense(1, activation="sigmoid", name="logits")(h))


@case((5, 4), "relu_only sigmoid head")
def many_sigmoids() -> keras.Model:
    """Separate units, each with a sigmoid, joined at the end."""
    x, h = body()
    units = [layers.Dense(1, activation="sigmoid", name=f"unit_{i}")(h) for i in range(3)]
    return keras.Model(x, layers.Concatenate()(units))


@case((5, 4), "relu_only head multi_output")
def several_heads() -> keras.Model:
    x, h = body()
    outputs = [
        layers.Dense(3, activation="softmax", name="kind")(h),
        layers.Dense(1, activation="sigmoid", name="alarm")(h),
        layers.Dense(2, name="size")(h),
        h,
    ]
    return keras.Model(x, outputs)


@case((5, 4), "relu_only head multi_output softmax")
def dict_of_heads() -> keras.Model:
    x, h = body()
    kind = layers.Dense(3, activation="softmax", name="first")(h)
    return keras.Model(x, {"zebra": kind, "ant": layers.Dense(2, activation="softmax", name="second")(h)})


@case((5, 4, 2), "conv relu_only softmax head map_output")
def softmax_map() -> keras.Model:
    """A class for every cell."""
    x = keras.Input((5, 4, 2))
    h = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(x, layers.Conv2D(3, 1, activation="softmax")(h))


@case((5, 4), "no_rule softmax head")
def softmax_inside() -> keras.Model:
    """A softmax that is not final takes part in the decision: it stays."""
    x, h = body()
    h = layers.Dense(4, activation="softmax", name="inside")(h)
    return keras.Model(x, layers.Dense(3, activation="softmax")(h))
