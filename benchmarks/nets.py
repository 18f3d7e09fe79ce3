"""`keras.applications` with drawn weights that make a real test.

The stock random weights have zero biases and dead logits. Here kernels are He-normal, biases random,
BatchNormalization statistics re-estimated on random images, and the last layer scaled so that logits have
a standard deviation of one.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

SIZE = {"VGG16": 224, "ResNet50": 224, "DenseNet121": 224, "MobileNetV2": 224}


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Return smooth random images (count, size, size, 3) with values around zero."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, -(-size // 8), -(-size // 8), 3))
    fine = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)[:, :size, :size]
    return (fine + 0.3 * rng.normal(size=(count, size, size, 3))).astype("float32")


def build(name: str, size: int | None = None, seed: int = 0) -> Any:
    """Return the named application with drawn weights, softmax head on."""
    size = size or SIZE.get(name, 224)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    rng = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for weight in model.weights:
        shape = tuple(weight.shape)
        if len(shape) > 1:
            depthwise = "depthwise" in weight.path and shape[-1] == 1
            fan_in = np.prod(shape[:-2] if depthwise else shape[:-1])
            weight.assign(rng.normal(size=shape) * np.sqrt(2 / fan_in))
        elif weight.name == "bias":
            weight.assign(rng.normal(size=shape) * 0.1)
        elif weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, size=shape))
        elif weight.name == "beta":
            weight.assign(rng.normal(size=shape) * 0.3)
    sample = images(8, size, seed + 1)
    _estimate_statistics(model, norms, sample)
    _scale_logits(model, sample)
    return model


def _estimate_statistics(model: Any, norms: list[Any], sample: np.ndarray) -> None:
    if not norms:
        return
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(sample, training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


def _scale_logits(model: Any, sample: np.ndarray) -> None:
    last = model.layers[-1]
    activation, last.activation = last.activation, keras.activations.linear
    logits = keras.ops.convert_to_numpy(model(sample, training=False))
    last.activation = activation
    last.kernel.assign(keras.ops.convert_to_numpy(last.kernel) / max(float(logits.std()), 1e-12))
