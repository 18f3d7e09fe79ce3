"""What maps know of the weights, on deep networks with drawn ones (I1 to I3): statistical, seeds fixed.

z+ and its relatives multiply non-negative matrices, whose product has one direction the more the longer it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import samples, stack, weights_of
from tests.reference.run import Bench

pytestmark = pytest.mark.usefixtures("float64")
Z_PLUS, ZERO = (ks.LRP(composite=name, start="one") for name in ("z_plus", "zero"))


def deep(depth: int, width: int, seed: int, *, last: int | None = None) -> Any:
    """Return hidden ReLU layers without biases and two logits; ``last`` draws the logits' weights anew."""
    hidden = [layers.Dense(width, activation="relu", use_bias=False) for _ in range(depth)]
    model = stack((width,), *hidden, layers.Dense(2, use_bias=False), seed=seed)
    if last is not None:
        shape = weights_of(model.layers[-1])[0].shape
        model.layers[-1].kernel.assign(np.random.default_rng(last).normal(size=shape) * np.sqrt(2 / width))
    return model


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine between two maps."""
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def of_two_classes(method: Any, depth: int, seed: int) -> float:
    """Return the cosine between the maps of both classes, 30 units wide."""
    bench = Bench(deep(depth, 30, seed), samples((30,), 1, seed=seed))
    return cosine(*(bench.values(method, target=k) for k in (0, 1)))


def test_i1_only_the_last_layer_drawn_anew() -> None:
    """Eight layers, 20 draws: z+ does not see it, guided backprop hardly, the gradient and LRP-0 do."""
    methods = {"z_plus": Z_PLUS, "guided_backprop": "guided_backprop", "gradient": "gradient", "zero": ZERO}
    found: dict[str, list[float]] = {name: [] for name in methods}
    for seed in range(20):
        x = samples((40,), 1, seed=100 + seed)
        one, other = (Bench(deep(7, 40, seed, last=last), x) for last in (None, 1000 + seed))
        for name, method in methods.items():
            found[name].append(cosine(one.values(method), other.values(method)))
    assert min(found["z_plus"]) > 0.999
    assert np.mean(found["guided_backprop"]) > 0.97
    assert np.mean(found["gradient"]) < 0.5
    assert np.mean(found["zero"]) < 0.5


def test_i2_two_classes_of_a_deep_network() -> None:
    """Eight hidden layers, 12 draws: z+ gives both classes one map, LRP-0 and the gradient do not."""
    alike, zero, gradient = ([of_two_classes(m, 8, seed) for seed in range(12)] for m in (Z_PLUS, ZERO, "gradient"))
    assert min(alike) > 0.9999
    assert abs(np.mean(zero)) < 0.6
    assert abs(np.mean(gradient)) < 0.6


def test_i3_z_plus_forgets_the_class_with_depth() -> None:
    """The mean cosine of two classes' maps grows with 1, 2, 4 and 8 hidden layers, from below .98 to above .9995."""
    means = [np.mean([of_two_classes(Z_PLUS, depth, seed) for seed in range(10)]) for depth in (1, 2, 4, 8)]
    assert means == sorted(means)
    assert means[0] < 0.98 < 0.9995 < means[-1]
