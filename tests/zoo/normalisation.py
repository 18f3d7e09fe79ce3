"""BatchNormalization wherever it can stand, and what changes the units of the input."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.cases import case
from tests.zoo.convolutions import classifier


@case((6, 5, 2), "conv batchnorm relu_only")
def norm_after_conv() -> keras.Model:
    """Behind a convolution with and without bias, before and after the activation's place."""
    return classifier(
        (6, 5, 2),
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(scale=False),
        layers.ReLU(),
        layers.Conv2D(4, 2, activation="linear"),
        layers.BatchNormalization(center=False),
        layers.Activation("relu"),
    )


@case((6, 5, 2), "conv batchnorm relu_only")
def norm_after_other_convs() -> keras.Model:
    return classifier(
        (6, 5, 2),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.SeparableConv2D(3, 2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(4, 2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 2, groups=2),
        layers.BatchNormalization(),
        layers.ReLU(),
    )


@case((5,), "batchnorm relu_only")
def norm_after_dense() -> keras.Model:
    return classifier((5,), layers.Dense(6), layers.BatchNormalization(), layers.ReLU())


@case((6, 5, 2), "conv batchnorm relu_only maxpool")
def norm_before_conv() -> keras.Model:
    """Before convolutions without padding, of which two read the same tensor."""
    x = keras.Input((6, 5, 2))
    h = layers.Conv2D(4, 2, activation="relu")(x)
    h = layers.BatchNormalization()(layers.MaxPooling2D(2, strides=1)(h))
    h = layers.Concatenate()([layers.Conv2D(3, 2, activation="relu")(h), layers.Conv2D(3, 2, groups=1)(h)])
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


@case((6, 5, 2), "conv batchnorm relu_only")
def norm_before_padded_conv() -> keras.Model:
    """Before convolutions that pad with zeros: the shift is missing at the border."""
    return classifier(
        (6, 5, 2),
        layers.Conv2D(4, 2, activation="relu"),
        layers.BatchNormalization(),
        layers.Conv2D(4, 3, padding="same", groups=2, activation="relu"),
        layers.BatchNormalization(),
        layers.ZeroPadding2D((1, 0)),
        layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Conv2DTranspose(2, 2, activation="relu"),
    )


@case((4, 3), "batchnorm relu_only")
def norm_before_dense() -> keras.Model:
    return classifier(
        (4, 3), layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dense(4, activation="relu")
    )


@case((4, 3), "batchnorm relu_only unfolded")
def norm_along_rows() -> keras.Model:
    """One statistic per row, which no dense layer along the columns can take in."""
    return classifier(
        (4, 3), layers.Dense(4), layers.BatchNormalization(axis=1), layers.ReLU(), layers.Dense(4, activation="relu")
    )


@case((6, 5, 2), "batchnorm conv relu_only scaled_input")
def norm_of_input() -> keras.Model:
    return classifier((6, 5, 2), layers.BatchNormalization(), layers.Conv2D(4, 3, padding="same", activation="relu"))


@case((6, 5, 3), "conv relu_only scaled_input positive_input")
def rescaled_input() -> keras.Model:
    return classifier(
        (6, 5, 3),
        layers.Rescaling([2.0, 0.5, -1.5], offset=-0.5),
        layers.Rescaling(1.5, offset=0.25),
        layers.Conv2D(4, 3, activation="relu"),
    )


@case((6, 3), "relu_only scaled_input conv")
def normalised_input() -> keras.Model:
    mean, variance = np.array([0.5, -1.0, 0.2]), np.array([1.5, 0.7, 2.0])
    return classifier(
        (6, 3), layers.Normalization(mean=mean, variance=variance), layers.Conv1D(4, 3, activation="relu")
    )
