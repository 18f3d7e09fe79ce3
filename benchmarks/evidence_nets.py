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
ENOUGH, ATTEMPTS = 0.95, 4
"""Networks below this accuracy are trained again from another start, so many times in all."""


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
        return model, accuracy_of(model, held_out)
    best, reached = None, -1.0
    for attempt in range(1 if shuffled else ATTEMPTS):
        model = _fit(head, seed + 100 * attempt, count, shuffled, options)
        accuracy = accuracy_of(model, held_out)
        if accuracy > reached:
            best, reached = model, accuracy
        if reached >= ENOUGH:
            break
    if path is not None and best is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        best.save(path)
    return best, reached


def accuracy_of(model: Any, data: Any) -> float:
    """Return the share of right answers."""
    answers = model.predict(data.x, batch_size=256, verbose=0).argmax(axis=1)
    return float(np.mean(answers == data.y))


def _fit(head: str, seed: int, count: int, shuffled: bool, options: dict[str, Any]) -> Any:
    keras.utils.set_random_seed(seed)
    train = ks.datasets.motifs(count, seed=1000 + seed, **options)
    y = np.random.default_rng(seed).permutation(train.y) if shuffled else train.y
    model = network(train.x.shape[1:], len(train.class_names), head)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * count // 64)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(train.x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    return model
