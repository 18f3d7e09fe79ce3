"""The zoo of case models: every kind of model the library is to understand, each as small as it can be.

    for case in cases("relu_only", without="batchnorm"):
        model, x = case.build(), case.sample(3)

Weights are drawn from a seed of the case's own and are the same on every backend: He-normal kernels, random
biases, BatchNormalization with random statistics and a scale that is negative somewhere, logits of order 1.

Traits (a test in `tests/unit/test_cases.py` holds them against the graphs):

- what a model computes, up to its logits: ``linear`` (affine), ``bias_free`` (f(0) = 0 and f(2 x) = 2 f(x)),
  ``relu_only`` (nothing bends the signal but ReLU and choices of the largest), ``smooth`` (no kinks at all),
  ``no_rule`` (something in it has no LRP rule), ``opaque`` (a layer that cannot be looked into);
- what it takes and returns: ``multi_input``, ``multi_output``, ``map_output`` (no list of classes),
  ``one_unit``, ``integer_input``, ``positive_input``, ``half`` (computes in 16 bits), ``channels_first``;
- what it is made of: ``conv``, ``batchnorm``, ``maxpool``, ``gate``, ``custom`` (code of the user's own) ...
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import keras
import numpy as np


@dataclass(frozen=True)
class Case:
    """One model of the zoo.

    ``shapes``: of one sample; a list or dict of shapes where the model takes several inputs.
    """

    name: str
    make: Callable[[], keras.Model]
    shapes: Any
    traits: frozenset[str]
    backends: frozenset[str]

    def __str__(self) -> str:
        return self.name

    def build(self) -> keras.Model:
        """Return the model, built, with its weights drawn."""
        with undrawn():
            model = self.make()
        draw_weights(model, seed=zlib.crc32(self.name.encode()))
        return model

    def sample(self, n: int = 3, seed: int = 0) -> Any:
        """Return n random samples in the structure the model takes."""
        rng = np.random.default_rng(seed + 1)
        if isinstance(self.shapes, dict):
            return {name: self._draw(n, shape, rng) for name, shape in self.shapes.items()}
        if isinstance(self.shapes, list):
            return [self._draw(n, shape, rng) for shape in self.shapes]
        return self._draw(n, self.shapes, rng)

    def _draw(self, n: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if "integer_input" in self.traits:
            return rng.integers(0, 7, (n, *shape)).astype("int32")
        positive = "positive_input" in self.traits
        drawn = rng.uniform(0.05, 1.0, (n, *shape)) if positive else rng.normal(size=(n, *shape))
        return drawn.astype(keras.config.floatx())


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Let Keras fill new weights with zeros: drawing them takes JAX a while, and `draw_weights` follows."""
    with contextlib.ExitStack() as stack:
        for name in ("VarianceScaling", "RandomUniform", "Orthogonal", "Zeros", "Ones"):
            stack.enter_context(mock.patch.object(getattr(keras.initializers, name), "__call__", _zeros))
        yield


def _zeros(self: Any, shape: Any, dtype: Any = None) -> Any:
    return keras.ops.convert_to_tensor(np.zeros(shape, dtype or keras.config.floatx()))


_CASES: dict[str, Case] = {}
ALL_BACKENDS = ("jax", "tensorflow", "torch")


def case(shapes: Any, traits: str, *, backends: tuple[str, ...] = ALL_BACKENDS) -> Callable[[Any], Any]:
    """Enter a function that makes a model into the zoo; its name is the case's."""

    def enter(make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        name = make.__name__
        if name in _CASES:
            raise ValueError(f"There are two cases called {name!r}.")
        _CASES[name] = Case(name, make, shapes, frozenset(traits.split()), frozenset(backends))
        return make

    return enter


def cases(*traits: str, without: str = "") -> list[Case]:
    """Return the cases that the current backend can run and that have all these traits and none of the others."""
    import tests.zoo.convolutions
    import tests.zoo.custom
    import tests.zoo.heads
    import tests.zoo.normalisation
    import tests.zoo.operations
    import tests.zoo.structures  # noqa: F401  # entering the cases is all they are imported for

    backend = keras.backend.backend()
    excluded = set(without.split())
    return [
        entry
        for entry in _CASES.values()
        if backend in entry.backends and entry.traits.issuperset(traits) and not entry.traits & excluded
    ]


def by_name(name: str) -> Case:
    """Return the case of that name."""
    cases()
    return _CASES[name]


def draw_weights(model: keras.Model, seed: int) -> None:
    """Give a model weights that make a real test, the same on every backend."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" not in weight.dtype:
            continue  # the state of a random generator
        weight.assign(_drawn(weight.name, tuple(weight.shape), rng).astype("float32"))


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    normal = rng.normal(size=shape)
    if "variance" in name:
        return 0.5 + np.abs(normal)
    if name == "gamma":
        return (0.6 + 0.3 * np.abs(normal)) * np.where(np.arange(normal.size).reshape(shape) % 3 == 1, -1, 1)
    if name in ("bias", "beta") or "mean" in name:
        return 0.3 * normal
    if name == "alpha":
        return 0.1 + 0.2 * np.abs(normal)
    if name in ("count", "iterations"):
        return np.zeros(shape)
    return normal * np.sqrt(2 / _fan_in(name, shape))


def _fan_in(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) < 2:
        return 2.0
    if name == "depthwise_kernel":
        return float(np.prod(shape[:-2]))
    return float(np.prod(shape[:-1]))
