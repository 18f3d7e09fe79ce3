"""Train src/kerascope/demo/basic_motions.keras on BasicMotions, and record its held-out accuracy.

    KERAS_BACKEND=jax python scripts/train_basic_motions.py

About ten seconds on one CPU core. The held-out recordings are the archive's own test half.
"""

from __future__ import annotations

import keras
import numpy as np
from demo_record import DEMO, need_jax, record, save_model
from keras import layers

from kerascope.datasets import basic_motions

SEEDS = {"weights": 0}
EPOCHS = 60
REFERENCE = slice(0, 40, 8)  # five test recordings, each activity among them


def build(x: np.ndarray) -> keras.Model:
    """Return the untrained classifier, (100, 6) to 4 classes, its normalisation adapted to x (N, 100, 6)."""
    normalize = layers.Normalization(axis=-1, name="normalize")
    normalize.adapt(x)
    return keras.Sequential(
        [
            keras.Input((100, 6), name="recording"),
            normalize,
            layers.Conv1D(16, 7, padding="same", name="conv_1"),
            layers.BatchNormalization(momentum=0.9, name="norm_1"),
            layers.ReLU(name="relu_1"),
            layers.MaxPooling1D(2, name="halve"),
            layers.Conv1D(32, 5, padding="same", name="conv_2"),
            layers.BatchNormalization(momentum=0.9, name="norm_2"),
            layers.ReLU(name="relu_2"),
            layers.GlobalAveragePooling1D(name="mean_over_time"),
            layers.Dense(4, activation="softmax", name="classes"),
        ],
        name="basic_motions",
    )


def main() -> None:
    """Train, save, measure, record."""
    need_jax()
    keras.utils.set_random_seed(SEEDS["weights"])
    train, held_out = basic_motions("train"), basic_motions("test")
    model = build(train.x)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.x, train.y, batch_size=8, epochs=EPOCHS, verbose=2)
    save_model(model, DEMO / "basic_motions.keras")

    predicted = np.argmax(model.predict(held_out.x, verbose=0), axis=1)
    facts = {
        "held_out_accuracy": float(np.mean(predicted == held_out.y)),
        "held_out_accuracy_by_class": [
            float(np.mean(predicted[held_out.y == c] == c)) for c in range(len(held_out.class_names))
        ],
        "seeds": SEEDS,
        "samples": {"train": len(train), "held_out": len(held_out)},
        "epochs": EPOCHS,
    }
    record("basic_motions", model, facts, held_out.x[REFERENCE])


if __name__ == "__main__":
    main()
