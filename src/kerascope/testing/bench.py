"""What contracts are checked on: a traced model with samples and targets, and the state that must not change."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerascope import backend
from kerascope.errors import IncompatibleMethodError, KerascopeError
from kerascope.explain import open_session
from kerascope.inputs import read_samples
from kerascope.methods.session import Session
from kerascope.target import Class, Output, Target, TopClass

BATCH = 4
"""Rows in a batch: more than the three samples, so that many draws cross from one to the next."""


class ContractError(KerascopeError, AssertionError):
    """A method or a rule does not keep a contract; ``contract`` names it.

    Args:
        contract: its name.
        text: what was expected, what came, what to do.
    """

    def __init__(self, contract: str, text: str) -> None:
        super().__init__(f"Contract {contract!r} is broken. {text}")
        self.contract = contract


@dataclass(frozen=True, eq=False)
class Bench:
    """A model traced once, with samples, for checking many methods on it.

    ``x``: three samples, in the structure the model takes. ``codes`` (3, 2): the top class of each and another
    one; None where the output is a map.
    """

    session: Session
    x: Any
    arrays: tuple[np.ndarray, ...]
    head: str
    codes: np.ndarray | None

    @classmethod
    def of(cls, model: keras.Model, x: Any = None, background: Any = None) -> Bench:
        """Trace a model and choose samples and targets."""
        session = open_session(model, x)
        signature, graph = session.view.signature, session.view.traced
        shapes = [graph.shapes[i][1:] for i in graph.inputs]
        if x is None:
            x = signature.pack([_random(signature.specs[i].dtype, shape, 3, i) for i, shape in enumerate(shapes)])
        if background is None:
            background = signature.pack(
                [_random(signature.specs[i].dtype, shape, 12, 10 + i) for i, shape in enumerate(shapes)]
            )
        dtype = session.view.dtype
        arrays = read_samples(x, signature, dtype=dtype).arrays
        if len(arrays[0]) < 3:
            raise KerascopeError(f"Contracts are checked on at least three samples; got {len(arrays[0])}.")
        # Step by step: there are many small runs, and compiling each would take longer.
        background = read_samples(background, signature, dtype=dtype, what="background").arrays
        memory = BATCH * session.bytes_per_row  # every pass has the rows of one batch, which JAX compiles once
        session = replace(session, background=background, batch_size=BATCH, compile=False, memory=memory)
        head = session.view.heads[0]
        bench = cls(session, rows_of(x, [0, 1, 2]), tuple(a[:3] for a in arrays), head.name, None)
        return bench if len(head.shape) > 2 else replace(bench, codes=bench._two_classes())

    def _two_classes(self) -> np.ndarray:
        selection = TopClass(output=self.head).select(self.session.view, 3)
        # One whole batch first: on JAX all smaller ones are then padded to it, and nothing is compiled twice.
        filled = tuple(np.concatenate([array, array[: BATCH - 3]]) for array in self.arrays)
        logits = [tensor[:3] for tensor in self.session.logits(filled, selection)]
        top = selection.fixed(logits).codes[:, 0].astype("int64")
        width = logits[0].reshape(3, -1).shape[1]
        other = (top + 1) % width
        # The last sample's is not that of the first, so that taking one for the other is seen.
        fits = [c for c in range(width) if c != other[0]]
        other[2] = next((c for c in fits if c != top[2]), fits[0] if fits else 0)
        return np.stack([top, other], axis=1)

    @functools.cached_property
    def is_linear(self) -> bool:
        """Whether the gradient is the same everywhere, so that averages over noise do not depend on it."""
        selection = self.target(slice(None), 0).select(self.session.view, 3)
        elsewhere = tuple(1 - 2 * array for array in self.arrays)
        try:
            here, there = (self.session.gradients(arrays, selection)[0] for arrays in (self.arrays, elsewhere))
        except IncompatibleMethodError:  # whole numbers
            return False
        return all(np.allclose(a, b, atol=1e-6) for a, b in zip(here, there, strict=True))

    def flat(self, values: Any) -> list[np.ndarray]:
        """Return arrays that come in the structure of the model's inputs, in the order of ``arrays``."""
        return list(self.session.view.signature.flatten(values))

    def target(self, rows: Any, columns: Any) -> Target:
        """Return the target ``codes[rows, columns]``: for some of the samples one or both of their classes."""
        if self.codes is None:
            shape = self.session.view.head(self.head).shape[1:]
            return Output(tuple(int(size or 1) // 2 for size in shape), output=self.head)
        return Class(self.codes[rows, columns], output=self.head)


@functools.lru_cache(maxsize=4)
def convolutional(floatx: str) -> Bench:
    """Return the bench of a small ReLU network with global average pooling and a softmax, which most methods fit."""
    layers, last = keras.layers, "channels_last"
    zeros = {"kernel_initializer": "zeros", "dtype": floatx}
    model = keras.Sequential(
        [
            layers.Input((6, 5, 1), dtype=floatx),
            layers.Conv2D(3, 3, activation="relu", data_format=last, **zeros),
            layers.Conv2D(4, 2, activation="relu", data_format=last, **zeros),
            layers.GlobalAveragePooling2D(data_format=last, dtype=floatx),
            layers.Dense(3, activation="softmax", **zeros),
        ],
        name="contract_model",
    )
    return Bench.of(_with_drawn_weights(model))


@functools.lru_cache(maxsize=8)
def linear(floatx: str, *, bias: bool) -> Bench:
    """Return the bench of a linear model, f(x) = w x + b."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4, 3), dtype=floatx),
            layers.Flatten(data_format="channels_last", dtype=floatx),
            layers.Dense(3, use_bias=bias, kernel_initializer="zeros", dtype=floatx),
        ],
        name="linear_contract_model",
    )
    return Bench.of(_with_drawn_weights(model))


def _with_drawn_weights(model: keras.Model) -> keras.Model:
    """Draw weights from a generator of our own: the user's random state stays where it was."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape, scale=0.5) for w in model.weights])
    return model


def _random(dtype: str, shape: Sequence[int | None], count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = (count, *(int(size or 1) for size in shape))
    if not keras.backend.is_float_dtype(dtype):
        return rng.integers(0, 2, sizes).astype(dtype)
    return np.clip(rng.normal(size=sizes), -3, 3).astype("float64" if dtype == "float64" else "float32")


def rows_of(x: Any, index: Any) -> Any:
    """Return some of the samples, in the structure the model takes."""
    return keras.tree.map_structure(lambda array: np.asarray(array)[index], x)


def model_state(model: keras.Model) -> dict[str, Any]:
    """Return what must not change about a model: weights, flags, nodes, gradients, and Keras' settings."""
    variables, layers = model.variables, list(model._flatten_layers())
    gradients = [getattr(variable.value, "grad", None) for variable in variables]
    return {
        "weights": [_digest(backend.to_numpy(variable.value)) for variable in variables],
        "gradients of parameters": [None if g is None else _digest(backend.to_numpy(g)) for g in gradients],
        "trainable flags": [(owner.name, owner.trainable) for owner in (*layers, *variables)],
        "training mode": [getattr(layer, "training", None) for layer in layers],
        "layers": [id(layer) for layer in layers],
        "inbound nodes": [
            [id(node) for name in ("_inbound_nodes", "_outbound_nodes") for node in getattr(layer, name, ())]
            for layer in layers
        ],
        "Keras' settings": [
            keras.config.floatx(),
            keras.config.dtype_policy().name,
            keras.config.image_data_format(),
        ],
    }


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
