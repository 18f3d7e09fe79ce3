"""Train src/kerascope/demo/planted.keras on planted matrices, and record its held-out accuracy.

    KERAS_BACKEND=jax python scripts/train_planted.py

About 20 seconds on one CPU core. Every number drawn comes from the seeds below; the held-out matrices have a
seed of their own and are touched once, at the end.
"""

from __future__ import annotations

import keras
import numpy as np
from demo_record import DEMO, need_jax, record, save_model
from keras import layers

from kerascope.datasets import planted

SEEDS = {"weights": 0, "train": 0, "held_out": 3}
SIZES = {"train": 4000, "held_out": 1000}
EPOCHS = 16
SPARSE = 6e-5
REFERENCE = 5  # the first held-out samples, one of each class


def build(sparse: float = 0.0) -> keras.Model:
    """Return the untrained classifier, (20, 64, 1) to 5 classes.

    Kernels and pooling run along columns only, so a row is seen by itself until the dense layer, which has
    weights of its own for each row.

    Args:
        sparse: weight of the mean activity of the second convolution in the loss. With it the filters stay
            silent on mere noise; without, the best of 32 columns is above zero in every row, and maps that
            never cancel (flat and z+ rules) spread over the whole row.
    """
    quiet = keras.regularizers.L1(sparse) if sparse else None
    return keras.Sequential(
        [
            keras.Input((20, 64, 1), name="matrix"),
            layers.Conv2D(8, (1, 7), padding="same", activation="relu", name="conv_1"),
            layers.AveragePooling2D((1, 2), name="halve"),
            layers.Conv2D(8, (1, 5), padding="same", activation="relu", activity_regularizer=quiet, name="conv_2"),
            layers.MaxPooling2D((1, 32), name="best_column"),
            layers.Flatten(name="rows_by_filters"),
            layers.Dense(5, activation="softmax", name="classes"),
        ],
        name="planted",
    )


def main() -> None:
    """Train, save, measure, record."""
    need_jax()
    keras.utils.set_random_seed(SEEDS["weights"])
    train = planted(SIZES["train"], seed=SEEDS["train"])
    trained = build(SPARSE)
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained.fit(train.x[..., None], train.y, batch_size=64, epochs=EPOCHS, verbose=2)
    model = build()  # the same without the extra loss, which is of no use to those who load it
    model.set_weights(trained.get_weights())
    save_model(model, DEMO / "planted.keras")

    held_out = planted(SIZES["held_out"], seed=SEEDS["held_out"])
    predicted = np.argmax(model.predict(held_out.x[..., None], verbose=0), axis=1)
    facts = {
        "held_out_accuracy": float(np.mean(predicted == held_out.y)),
        "held_out_accuracy_by_class": [
            float(np.mean(predicted[held_out.y == c] == c)) for c in range(len(held_out.class_names))
        ],
        "seeds": SEEDS,
        "samples": SIZES,
        "epochs": EPOCHS,
        "sparse": SPARSE,
    }
    record("planted", model, facts, held_out.x[:REFERENCE, ..., None])


if __name__ == "__main__":
    main()
