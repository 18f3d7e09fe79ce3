"""Convolutions, pooling and rearrangements of every kind."""

from __future__ import annotations

import keras
from keras import layers

from tests.cases import case


def classifier(shape: tuple[int, ...], *body: layers.Layer, activation: str | None = None) -> keras.Model:
    """Return layers between an input and a dense layer with three classes."""
    return keras.Sequential([layers.Input(shape), *body, layers.Flatten(), layers.Dense(3, activation=activation)])


@case((9, 3), "conv relu_only")
def conv1d() -> keras.Model:
    return classifier(
        (9, 3),
        layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"),
        layers.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="relu"),
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
    )


@case((4, 5, 3, 2), "conv relu_only maxpool")
def conv3d() -> keras.Model:
    return classifier(
        (4, 5, 3, 2),
        layers.Conv3D(3, (2, 3, 2), activation="relu"),
        layers.MaxPooling3D((2, 1, 1)),
        layers.AveragePooling3D((1, 2, 1)),
    )


@case((8, 7, 4), "conv relu_only")
def conv_strided_dilated_grouped() -> keras.Model:
    return classifier(
        (8, 7, 4),
        layers.Conv2D(6, 3, groups=2, padding="same", activation="relu"),
        layers.Conv2D(4, (2, 3), dilation_rate=(2, 1), activation="relu"),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
    )


@case((8, 7, 3), "conv relu_only")
def depthwise() -> keras.Model:
    return classifier(
        (8, 7, 3),
        layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu"),
        layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, activation="relu"),
    )


@case((8, 3), "conv relu_only")
def depthwise_1d() -> keras.Model:
    return classifier(
        (8, 3),
        layers.DepthwiseConv1D(3, depth_multiplier=2, activation="relu"),
        layers.SeparableConv1D(4, 2, padding="same", activation="relu"),
    )


@case((4, 3, 3), "conv relu_only")
def transposed() -> keras.Model:
    return classifier(
        (4, 3, 3),
        layers.Conv2DTranspose(4, 3, strides=2, activation="relu"),
        layers.Conv2DTranspose(2, 2, padding="same", activation="relu"),
    )


@case((5, 3), "conv relu_only")
def transposed_1d() -> keras.Model:
    return classifier(
        (5, 3), layers.Conv1DTranspose(4, 3, strides=2, padding="same", output_padding=1, activation="relu")
    )


@case((9, 8, 2), "maxpool relu_only conv")
def pooling_overlapping() -> keras.Model:
    """Windows that overlap, and windows cut off at the border."""
    return classifier(
        (9, 8, 2),
        layers.MaxPooling2D(3, strides=2),
        layers.Conv2D(3, 2, activation="relu"),
        layers.AveragePooling2D(3, strides=1, padding="same"),
        layers.MaxPooling2D(2, strides=1, padding="same"),
    )


@case((9, 2), "maxpool relu_only")
def pooling_1d() -> keras.Model:
    x = keras.Input((9, 2))
    h = layers.AveragePooling1D(2)(layers.MaxPooling1D(3, strides=1)(x))
    pooled = [layers.GlobalMaxPooling1D()(h), layers.GlobalAveragePooling1D()(h)]
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()(pooled)))


@case((4, 5, 2), "maxpool relu_only conv")
def pooling_global() -> keras.Model:
    x = keras.Input((4, 5, 2))
    h = layers.Conv2D(3, 2, activation="relu")(x)
    largest = layers.GlobalMaxPooling2D(keepdims=True)(h)
    h = layers.Add()([largest, layers.GlobalAveragePooling2D(keepdims=True)(h)])
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


@case((5, 6, 2), "relu_only conv")
def rearranged() -> keras.Model:
    """Padding, cropping, permuting, reshaping, repeating."""
    return classifier(
        (5, 6, 2),
        layers.ZeroPadding2D(((1, 0), (0, 2))),
        layers.Cropping2D(((2, 0), (1, 1))),
        layers.Permute((3, 1, 2)),
        layers.Reshape((4, 12)),
        layers.Dense(3, activation="relu"),
        layers.Flatten(),
        layers.RepeatVector(2),
        layers.ZeroPadding1D(1),
        layers.Cropping1D((0, 1)),
        layers.Dense(3, activation="relu"),
    )


@case((4, 3, 2), "relu_only conv")
def upsampled() -> keras.Model:
    return classifier(
        (4, 3, 2),
        layers.UpSampling2D((2, 3)),
        layers.Conv2D(3, 3, activation="relu"),
        layers.Reshape((6, 21)),
        layers.UpSampling1D(2),
        layers.Dense(3, activation="relu"),
    )


@case((4, 3, 2), "relu_only conv interpolated")
def upsampled_smoothly() -> keras.Model:
    return classifier(
        (4, 3, 2), layers.UpSampling2D(2, interpolation="bilinear"), layers.Conv2D(3, 3, activation="relu")
    )


@case((2, 6, 5), "conv maxpool relu_only channels_first batchnorm", backends=("jax", "torch"))
def channels_first() -> keras.Model:
    first = {"data_format": "channels_first"}
    return classifier(
        (2, 6, 5),
        layers.Conv2D(3, 3, padding="same", activation="relu", **first),
        layers.MaxPooling2D(2, **first),
        layers.Conv2D(4, 2, **first),
        layers.BatchNormalization(axis=1),
        layers.ReLU(),
        layers.Flatten(**first),
    )


@case((2, 7), "conv relu_only channels_first", backends=("jax", "torch"))
def channels_first_1d() -> keras.Model:
    first = {"data_format": "channels_first"}
    return keras.Sequential(
        [
            layers.Input((2, 7)),
            layers.Conv1D(3, 3, activation="relu", **first),
            layers.Conv1D(3, 2, activation="relu", **first),
            layers.GlobalAveragePooling1D(**first),
            layers.Dense(3),
        ]
    )


@case((4, 3), "relu_only")
def einsum_dense() -> keras.Model:
    return classifier(
        (4, 3), layers.EinsumDense("btf,fgh->btgh", output_shape=(4, 2, 3), bias_axes="gh", activation="relu")
    )
