"""Matrices with planted motifs, and Keras CNNs trained on them, for the benchmarks of evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import kerascope as ks

HEADS = ("flatten", "average", "max")
EPOCHS = 15


def network(shape: tuple[int, int], classes: int, head: str) -> Any:
    """Return two convolutions along time over all sensors, and a head."""
    inputs = layers.Input(shape)
    h = layers.Permute((2, 1))(layers.Rescaling(8.0, offset=-4.0)(inputs))
    for _ in range(2):
        h = layers.Conv1D(32, 9, padding="same", use_bias=False)(h)
        h = layers.ReLU()(layers.BatchNormalization()(h))
    if head == "flatten":
        h = layers.Flatten()(layers.MaxPooling1D(16)(h))
    elif head == "average":
        h = layers.GlobalAveragePooling1D()(h)
    else:
        h = layers.GlobalMaxPooling1D()(h)
    h = layers.Dense(32, activation="relu")(h)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(h))


def trained(
    head: str, seed: int, *, cache: Path | None = None, count: int = 16000, shuffled: bool = False, **options: Any
) -> tuple[Any, float]:
    """Train a network on `ks.datasets.motifs`, or take it from the cache; return it and its held-out accuracy."""
    name = "-".join([head, str(seed), "shuffled" * shuffled, *(f"{k}={v}" for k, v in sorted(options.items()))])
    path = None if cache is None else cache / f"{name}.keras"
    held_out = ks.datasets.motifs(500, seed=2000 + seed, **options)
    if path is not None and path.exists():
        model = keras.models.load_model(path)
    else:
        model = _fit(head, seed, count, shuffled, options)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            model.save(path)
    answers = model.predict(held_out.x, batch_size=256, verbose=0).argmax(axis=1)
    return model, float(np.mean(answers == held_out.y))


def _fit(head: str, seed: int, count: int, shuffled: bool, options: dict[str, Any]) -> Any:
    keras.utils.set_random_seed(seed)
    train = ks.datasets.motifs(count, seed=1000 + seed, **options)
    y = np.random.default_rng(seed).permutation(train.y) if shuffled else train.y
    model = network(train.x.shape[1:], len(train.class_names), head)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * count // 64)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(train.x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    return model
