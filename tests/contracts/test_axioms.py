"""What methods say of themselves: every axiom a method claims is put to the test, and every paper has its citation."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.methods.base import AXIOMS
from kerascope.registry import METHODS
from tests.reference.nets import samples, weigh, weights_of
from tests.reference.run import Bench, predict

ROWS, COLUMNS = 4, 5
BOUNDS = {"low": -9.0, "high": 9.0}
FEW: dict[str, dict[str, Any]] = {
    "expected_gradients": {"draws": 12},
    "occlusion": {"fills": 3},
    "kernel_shap": {"groups": "rows"},
    "shapley_sampling": {"groups": "rows", "draws": 8},
    "shapley_exact": {"groups": "rows"},
    "lime": {"groups": "rows", "draws": 20},
    "noisegrad": {"draws": 2},
    "deep_taylor.bounded": BOUNDS,
    "lrp.z_box": BOUNDS,
    "lrp.epsilon_gamma_box": BOUNDS,
}
TIGHT = 1e-6
"""Relative to the map's largest value: stabilisers of 1e-6 enter sums of several layers, and float64 does not."""


def net(*, dead: bool = False, twins: bool = False, scale: float = 1.0) -> Any:
    """A small ReLU network with a map for CAMs; variants that an axiom is about.

    ``dead``: the last column has no weights. ``twins``: the first two rows are read by the same weights. ``scale``: the
    first layer's filters times it, the next layer's inputs over it: the same function.
    """
    model = keras.Sequential(
        [
            layers.Input((ROWS, COLUMNS, 1)),
            layers.Conv2D(4, (ROWS, 1), activation="relu"),
            layers.Conv2D(3, (1, 2), activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    weigh(model, seed=3)
    if dead or twins:
        kernel, bias = weights_of(model.layers[0])
        if twins:
            kernel[1] = kernel[0]
        if dead:
            kernel[-1] = 0
        model.layers[0].set_weights([kernel, bias])
    if scale != 1.0:
        kernel, bias = weights_of(model.layers[0])
        model.layers[0].set_weights([kernel * scale, bias * scale])
        kernel, bias = weights_of(model.layers[1])
        model.layers[1].set_weights([kernel / scale, bias])
    return model


def shifted(model: Any, by: np.ndarray) -> Any:
    """Return the network that gives at x + by what the other gives at x."""
    other = net()
    other.set_weights(model.get_weights())
    kernel, bias = weights_of(model.layers[0])
    other.layers[0].set_weights([kernel, bias - np.einsum("r,rcik->k", by, kernel)])
    return other


def explained(name: str, model: Any, x: np.ndarray, background: np.ndarray, target: Any = 0) -> ks.Explanation:
    options = dict(FEW.get(name, {}))
    if name.startswith("pattern"):
        options["patterns"] = ks.Patterns.fit(model, background, estimator="linear")
    return Bench(model, x, background=background)(dataclasses.replace(METHODS[name], **options), target=target, seed=1)


def claims(axiom: str) -> Any:
    return pytest.mark.parametrize("name", [name for name in METHODS if axiom in METHODS[name].axioms])


def close(found: np.ndarray, expected: np.ndarray) -> None:
    largest = max(np.max(np.abs(expected)), np.max(np.abs(found)))
    assert np.max(np.abs(found - expected)) <= TIGHT * largest


X, BACKGROUND = samples((ROWS, COLUMNS, 1), 3), samples((ROWS, COLUMNS, 1), 6, seed=8)


@claims("completeness")
def test_completeness(name, float64):
    found = explained(name, net(), X, BACKGROUND)
    # Gauss-Legendre over kinks leaves what its steps leave; everything else is exact.
    bound = 0.02 if name == "integrated_gradients" else 1e-9
    assert np.max(np.abs(found.completeness_gap)) <= bound * np.max(np.abs(found.values)) * X[0].size


@claims("linearity")
def test_linearity(name, float64):
    model = net()
    a, b, both = (explained(name, model, X, BACKGROUND, t).values for t in (0, 2, ks.Contrast(0, 2)))
    close(both, a - b)


@claims("dummy")
def test_dummy(name, float64):
    model = net(dead=True)  # the last row has no weight
    found = explained(name, model, X, BACKGROUND).values
    assert np.max(np.abs(found[:, -1])) <= 1e-12 * np.max(np.abs(found))
    assert np.max(np.abs(found[:, :-1])) > 0


@claims("symmetry")
def test_symmetry(name, float64):
    x, background = X.copy(), BACKGROUND.copy()
    x[:, 1], background[:, 1] = x[:, 0], background[:, 0]
    found = explained(name, net(twins=True), x, background).values
    close(found[:, 1], found[:, 0])


@claims("shift invariance")
def test_shift_invariance(name, float64):
    by = np.array([0.7, -1.2, 0.4, 2.0])
    model, moved = net(), shifted(net(), by)
    np.testing.assert_allclose(predict(moved, X + by[:, None, None]), predict(model, X), atol=1e-12)
    first = explained(name, model, X, BACKGROUND).values
    second = explained(name, moved, X + by[:, None, None], BACKGROUND + by[:, None, None]).values
    close(second, first)


@claims("implementation invariance")
def test_implementation_invariance(name, float64):
    """The same function with a hidden layer in other units, and with a layer that does nothing put in between."""
    first = explained(name, net(), X, BACKGROUND).values
    close(explained(name, net(scale=3.0), X, BACKGROUND).values, first)
    model = net()
    longer = keras.Sequential([layers.Input((ROWS, COLUMNS, 1)), *model.layers[:1], layers.Conv2D(4, 1), layers.ReLU()])
    for layer in model.layers[1:]:
        longer.add(layer)
    longer.layers[1].set_weights([np.eye(4)[None, None], np.zeros(4)])
    close(explained(name, longer, X, BACKGROUND).values, first)


@claims("sensitivity")
def test_sensitivity(name, float64):
    """Sample and baseline differ in one cell, and the output does: that cell gets all of the difference."""
    model, x = net(), np.repeat(BACKGROUND[:1], 3, axis=0)
    x[:, 2, 3] += np.array([[1.5], [-2.0], [4.0]])
    found = explained(name, model, x, BACKGROUND[:1])
    difference = predict(model, x)[:, 0] - predict(model, BACKGROUND[:1])[0, 0]
    of_rows = found.values.sum(axis=(2, 3))
    bound = 0.05 if name == "integrated_gradients" else 1e-9
    assert np.all(np.abs(of_rows[:, 2] - difference) <= bound * np.abs(difference))


def test_axioms_are_known_words():
    assert {axiom for method in METHODS.values() for axiom in method.axioms} == set(AXIOMS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_citation(name):
    method = METHODS[name]
    entry = method.citation()
    assert entry.startswith("@")
    assert entry.count("{") == entry.count("}")
    year = next(word for word in method.paper.replace(",", " ").split() if word.isdigit())
    assert f"year = {{{year}}}" in entry
    author = method.paper.split()[0]
    assert f"author = {{{author}," in entry.replace(r"\v{S}", "S").replace("{S}", "S")


def test_a_method_of_ones_own_says_what_to_do():
    class Mine(ks.Gradient):
        paper = "Somebody 2031"

    with pytest.raises(ks.KerascopeError, match=r"define citation\(\) in your class"):
        Mine().citation()
