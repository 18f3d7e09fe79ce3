"""The models whose maps are stored in stored/, and how they are computed (see scripts/make_reference_values.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import kerascope as ks
from tests.reference.every import EVERY, options
from tests.reference.nets import average_head, cnn, mlp, normalised, samples, stack, weigh
from tests.reference.run import Bench

FOLDER = Path(__file__).parent / "stored"


def sequence() -> Any:
    """Return a network over time x sensor with dilation, a depthwise layer, tanh and two kinds of pooling."""
    parts = [
        layers.Rescaling(0.5, 0.25),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh"),
        layers.AveragePooling1D(3, 2, padding="same"),
        layers.SeparableConv1D(5, 2, activation="silu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3, activation="softmax"),
    ]
    return stack((9, 3), *parts)


def gated() -> Any:
    """Return a network with squeeze and excitation, a maximum of branches, padding, and a transposed layer."""
    inputs = layers.Input((5, 5, 2))
    maps = layers.Conv2D(4, 2, activation="relu")(layers.ZeroPadding2D(((1, 0), (0, 1)))(inputs))
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(maps))
    scaled = layers.Multiply()([maps, layers.Reshape((1, 1, 4))(gate)])
    branches = [layers.Conv2D(3, size, padding="same")(scaled) for size in (1, 3)]
    joined = layers.Concatenate()([layers.Maximum()(branches), maps])
    up = layers.Conv2DTranspose(2, 2, strides=2, activation="elu")(layers.MaxPooling2D(2)(joined))
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(up))))


def two_inputs() -> Any:
    """Return a network of a matrix and a vector."""
    matrix, vector = layers.Input((4, 3), name="matrix"), layers.Input((3,), name="vector")
    left = layers.Flatten()(layers.Conv1D(3, 2, activation="relu")(matrix))
    right = layers.Dense(4, activation="relu")(vector)
    hidden = layers.Dense(5, activation="relu")(layers.Concatenate()([left, right]))
    return weigh(keras.Model([matrix, vector], layers.Dense(3)(hidden)))


CASES: dict[str, Callable[[], Any]] = {
    "dense": mlp,
    "convolutions": cnn,
    "global average": average_head,
    "batch norm": normalised,
    "sequence": sequence,
    "gated": gated,
    "two inputs": two_inputs,
}
"""No leaky ReLU and no GELU: TensorFlow rounds their constants to float32."""

TARGETS = {"dense": 2, "two inputs": 0}
"""Classes with positive logits, so that Deep Taylor's maps are not zero; elsewhere class 1 has one."""


def inputs_of(model: Any, count: int, *, seed: int) -> Any:
    """Return samples in the structure the model takes."""
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    drawn = [samples(shape, count, seed=seed + i) for i, shape in enumerate(shapes)]
    return drawn[0] if len(drawn) == 1 else drawn


def compute(name: str, dtype: str) -> dict[str, np.ndarray]:
    """Return what every method that fits the case finds: ``method|field`` and, per input, the map."""
    model = CASES[name]()

    def cast(arrays: Any) -> Any:
        return [a.astype(dtype) for a in arrays] if isinstance(arrays, list) else arrays.astype(dtype)

    x, background = (cast(inputs_of(model, 2, seed=seed)) for seed in (1, 9))
    bench = Bench(model, x, background=background)
    found: dict[str, np.ndarray] = {}
    for method in EVERY:
        try:
            explanation = bench(method, target=TARGETS.get(name, 1), **options(method))
        except ks.IncompatibleMethodError:
            continue
        maps = explanation.values if isinstance(explanation.values, list) else [explanation.values]
        found |= {f"{method}|values {i}": array for i, array in enumerate(maps)}
        for field in ("absorbed", "layer_map"):
            if getattr(explanation, field) is not None:
                found[f"{method}|{field}"] = getattr(explanation, field)
    return found


def path_of(name: str) -> Path:
    """Return the file of a case."""
    return FOLDER / f"{name.replace(' ', '_')}.npz"
