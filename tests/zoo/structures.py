"""How models are put together: stacked, branched, nested, shared."""

from __future__ import annotations

import keras
from keras import layers

from tests.cases import case


@case((6,), "relu_only softmax")
def dense() -> keras.Model:
    return keras.Sequential(
        [layers.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")]
    )


@case((5, 4), "relu_only")
def dense_along_rows() -> keras.Model:
    """Dense works on the last axis of a matrix; no softmax at the end."""
    x = keras.Input((5, 4))
    h = layers.Dense(6, activation="relu")(x)
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


@case((4, 3), "linear bias_free relu_only smooth")
def linear() -> keras.Model:
    return keras.Sequential([layers.Input((4, 3)), layers.Flatten(), layers.Dense(3, use_bias=False)])


@case((7, 6, 2), "linear conv relu_only smooth softmax")
def linear_conv() -> keras.Model:
    return keras.Sequential(
        [
            layers.Input((7, 6, 2)),
            layers.Conv2D(4, 3, padding="same"),
            layers.AveragePooling2D(2),
            layers.Conv2D(3, 2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def small_cnn(*, use_bias: bool = True, activation: str = "relu") -> list[layers.Layer]:
    """Return the layers of the usual small classifier over matrices."""
    return [
        layers.Input((8, 6, 1)),
        layers.Conv2D(4, 3, activation=activation, use_bias=use_bias, name="conv_1"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Conv2D(5, (2, 1), activation=activation, use_bias=use_bias, name="conv_2"),
        layers.GlobalAveragePooling2D(name="average"),
        layers.Dense(4, activation="softmax", use_bias=use_bias, name="classes"),
    ]


@case((8, 6, 1), "conv maxpool relu_only softmax cam")
def cnn() -> keras.Model:
    return keras.Sequential(small_cnn())


@case((8, 6, 1), "conv maxpool relu_only bias_free softmax cam positive_input")
def cnn_bias_free() -> keras.Model:
    return keras.Sequential(small_cnn(use_bias=False))


@case((8, 6, 1), "conv softmax smooth")
def cnn_smooth() -> keras.Model:
    pooled = [layers.AveragePooling2D(2) if layer.name == "pool" else layer for layer in small_cnn(activation="tanh")]
    return keras.Sequential(pooled)


@case((8, 6, 1), "conv maxpool relu_only softmax")
def built_late() -> keras.Model:
    """A Sequential without Input, built by its first call."""
    model = keras.Sequential(small_cnn()[1:])
    model.build((2, 8, 6, 1))
    return model


@case((7, 6, 1), "conv relu_only softmax nested")
def nested() -> keras.Model:
    """Models inside models, three deep."""
    inner = keras.Sequential([layers.Input((5, 4, 3)), layers.Conv2D(4, 2, activation="relu")], name="inner")
    a = keras.Input((5, 4, 3))
    middle = keras.Model(a, layers.Flatten()(inner(a)), name="middle")
    x = keras.Input((7, 6, 1))
    h = middle(layers.Conv2D(3, 3, activation="relu")(x))
    return keras.Model(x, layers.Dense(3, activation="softmax")(h))


@case((6,), "relu_only shared")
def shared_layer() -> keras.Model:
    """One layer called twice in a row."""
    x = keras.Input((6,))
    twice = layers.Dense(6, activation="relu", name="twice")
    return keras.Model(x, layers.Dense(3, name="last")(twice(twice(x))))


@case([(6, 4), (6, 4)], "conv relu_only shared multi_input maxpool")
def siamese() -> keras.Model:
    """Two inputs through the same submodel."""
    tower = keras.Sequential(
        [layers.Input((6, 4)), layers.Conv1D(5, 3, activation="relu"), layers.GlobalMaxPooling1D()], name="tower"
    )
    a, b = keras.Input((6, 4), name="left"), keras.Input((6, 4), name="right")
    difference = layers.Subtract()([tower(a), tower(b)])
    return keras.Model([a, b], layers.Dense(3)(layers.Concatenate()([difference, tower(a)])))


@case({"signal": (6, 4), "facts": (3,)}, "conv relu_only multi_input softmax")
def dict_inputs() -> keras.Model:
    signal, facts = keras.Input((6, 4), name="signal"), keras.Input((3,), name="facts")
    h = layers.Flatten()(layers.Conv1D(4, 3, activation="relu")(signal))
    h = layers.Concatenate()([h, layers.Dense(4, activation="relu")(facts)])
    return keras.Model({"signal": signal, "facts": facts}, layers.Dense(3, activation="softmax")(h))


@case((6, 5, 3), "conv batchnorm relu_only softmax")
def residual() -> keras.Model:
    """ResNet's block: BatchNormalization after each convolution, ReLU after the sum."""
    x = keras.Input((6, 5, 3))
    h = layers.Conv2D(3, 3, padding="same", use_bias=False)(x)
    h = layers.ReLU()(layers.BatchNormalization()(h))
    h = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(h))
    h = layers.Activation("relu")(layers.Add()([x, h]))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(h)))


@case((6, 5, 3), "conv batchnorm unfolded relu_only softmax")
def residual_preactivated() -> keras.Model:
    """ResNet V2's block: BatchNormalization after the sum and read twice, where it cannot be folded."""
    x = keras.Input((6, 5, 3))
    h = layers.Conv2D(4, 1)(x)
    inside = layers.ReLU()(layers.BatchNormalization(name="first_norm")(h))
    h = layers.Add()([h, layers.Conv2D(4, 3, padding="same")(inside)])
    h = layers.ReLU()(layers.BatchNormalization(name="last_norm")(h))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(h)))


@case((6, 5, 2), "conv maxpool relu_only")
def branched() -> keras.Model:
    """Branches of every kind that meet again."""
    x = keras.Input((6, 5, 2))
    a = layers.Conv2D(3, 1, activation="relu")(x)
    b = layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    c = layers.MaxPooling2D(3, strides=1, padding="same")(a)
    h = layers.Concatenate()(
        [layers.Average()([a, b, c]), layers.Subtract()([a, b]), layers.Maximum()([a, b]), layers.Add()([b, c])]
    )
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


@case((5, 4), "relu_only")
def at_rest() -> keras.Model:
    """Layers that do nothing at inference."""
    return keras.Sequential(
        [
            layers.Input((5, 4)),
            layers.GaussianNoise(0.5),
            layers.SpatialDropout1D(0.5),
            layers.Dense(5, activation="relu", activity_regularizer="l2"),
            layers.ActivityRegularization(l1=0.1),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Identity(),
            layers.AlphaDropout(0.1),
            layers.Dense(3),
            layers.Activation("linear"),
        ]
    )
