"""Small models with weights drawn in NumPy: the same numbers on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

ADDED = ("bias", "beta", "moving_mean")
SCALES = ("gamma", "moving_variance")


def weigh(model: Any, *, seed: int = 0, biases: float = 0.3) -> Any:
    """Draw every weight of a model (or layer) from a seed; ``biases`` scales whatever is added."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name, shape = variable.path.rsplit("/", 1)[-1], tuple(variable.shape)
        if name in ADDED:
            variable.assign(biases * rng.normal(size=shape))
        elif name in SCALES:
            variable.assign(rng.uniform(0.5, 2.0, size=shape))
        else:
            variable.assign(rng.normal(size=shape) * np.sqrt(2 / max(1, np.prod(shape[:-1]))))
    return model


def stack(shape: Sequence[int], *parts: Any, seed: int = 0, biases: float = 0.3) -> Any:
    """Return a weighed Sequential model over inputs of a shape."""
    return weigh(keras.Sequential([layers.Input(tuple(shape)), *parts]), seed=seed, biases=biases)


def linear(inputs: int = 5, outputs: int = 3, **options: Any) -> Any:
    """Return f = W x + b."""
    return stack((inputs,), layers.Dense(outputs), **options)


def mlp(activation: str = "relu", *, widths: Sequence[int] = (7, 6), **options: Any) -> Any:
    """Return dense layers over 5 features, 3 logits."""
    hidden = [layers.Dense(width, activation=activation) for width in widths]
    return stack((5,), *hidden, layers.Dense(3), **options)


def cnn(*, pool: Callable[[], Any] | None = layers.MaxPooling2D, activation: str = "relu", **options: Any) -> Any:
    """Return two convolutions (same, valid), a pooling between them, a dense head; inputs (6, 6, 2)."""
    parts = [layers.Conv2D(4, 3, padding="same", activation=activation)]
    if pool is not None:
        parts.append(pool())
    head = [layers.Conv2D(3, 2, activation=activation), layers.Flatten(), layers.Dense(3)]
    return stack((6, 6, 2), *parts, *head, **options)


def average_head(**options: Any) -> Any:
    """Return convolutions, a global average pooling and one dense layer; inputs (6, 6, 2)."""
    return stack(
        (6, 6, 2),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.Conv2D(3, 2, activation="relu", name="last"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
        **options,
    )


def residual(**options: Any) -> Any:
    """Return a network with two skip connections over 5 features."""
    inputs = layers.Input((5,))
    stem = layers.Dense(6, activation="relu")(inputs)
    inner = layers.Dense(6)(layers.Dense(4, activation="relu")(stem))
    joined = layers.Activation("relu")(layers.Add()([stem, inner]))
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Add()([joined, stem]))), **options)


def normalised(*, order: str = "after", padding: str = "same", seed: int = 0) -> Any:
    """Return a CNN with BatchNormalization after its convolutions, or before the second one."""
    first, second = layers.Conv2D(4, 3, padding="same"), layers.Conv2D(3, 3, padding=padding)
    if order == "after":
        parts = [first, layers.BatchNormalization(), layers.ReLU(), second, layers.BatchNormalization()]
    else:
        parts = [first, layers.ReLU(), layers.BatchNormalization(), second]
    return stack((6, 6, 2), *parts, layers.ReLU(), layers.Flatten(), layers.Dense(3), seed=seed)


def samples(shape: Sequence[int], count: int = 3, *, seed: int = 1, low: float = -1.0) -> np.ndarray:
    """Return inputs (count, *shape), uniform between ``low`` and 1."""
    return np.random.default_rng(seed).uniform(low, 1.0, size=(count, *shape))


def weights_of(layer: Any) -> list[np.ndarray]:
    """Return a layer's weights as NumPy arrays."""
    return [np.asarray(keras.ops.convert_to_numpy(variable), "float64") for variable in layer.weights]
