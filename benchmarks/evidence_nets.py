"""Matrices with planted motifs, and Keras CNNs trained on them, for the benchmarks of evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import kerascope as ks

HEADS = ("flatten", "average", "max")
STRENGTHS = {4: 0.65, 12: 0.44, 32: 0.3, 128: 0.17}
"""Height of a motif by its length: low enough that a part of it does not do, and accuracy stays below one."""
EPOCHS, COUNT = 12, 12000
ENOUGH, ATTEMPTS = 0.95, 3
"""Networks below this accuracy are trained again from another start, so many times in all."""


def planted(n: int, *, seed: int, length: int, strength: float | None = None, **options: Any) -> Any:
    """Draw `ks.datasets.motifs`, as high as the length needs."""
    height = STRENGTHS[length] if strength is None else strength
    return ks.datasets.motifs(n, seed=seed, length=length, strength=height, **options)


def network(shape: tuple[int, int], classes: int, head: str) -> Any:
    """Return three convolutions along time over all sensors, and a head; a unit of the last sees 46 steps."""
    inputs = layers.Input(shape)
    h = layers.Permute((2, 1))(layers.Rescaling(8.0, offset=-4.0)(inputs))
    for depth in range(3):
        h = layers.MaxPooling1D(2)(h) if depth else h
        h = layers.Conv1D(32, 7, padding="same", use_bias=False)(h)
        h = layers.ReLU()(layers.BatchNormalization()(h))
    if head == "flatten":
        h = layers.Flatten()(layers.MaxPooling1D(4)(h))
    elif head == "average":
        h = layers.GlobalAveragePooling1D()(h)
    else:
        h = layers.GlobalMaxPooling1D()(h)
    h = layers.Dense(32, activation="relu")(h)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(h))


def trained(
    head: str, seed: int, *, cache: Path | None = None, count: int = COUNT, shuffled: bool = False, **options: Any
) -> tuple[Any, float]:
    """Train a network on `planted` matrices, or take it from the cache; return it and its held-out accuracy."""
    kind = [f"{k}={v}" for k, v in sorted(({"strength": STRENGTHS[options["length"]]} | options).items())]
    name = "-".join([head, str(seed), str(count), "shuffled" * shuffled, *kind])
    path = None if cache is None else cache / f"{name}.keras"
    held_out = planted(500, seed=2000 + seed, **options)
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
    train = planted(count, seed=1000 + seed, **options)
    y = np.random.default_rng(seed).permutation(train.y) if shuffled else train.y
    model = network(train.x.shape[1:], len(train.class_names), head)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * count // 64)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(train.x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    return model
