"""Patterns of data whose signal is known: a distractor in any direction (E7), and answers right at the threshold."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import stack, weights_of
from tests.reference.run import fitted, same
from tests.reference.test_patterns import one_sided_pattern

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("angle", [15, 75, 140, 200, 260, 345])
def test_e7_a_distractor_in_any_direction(angle: int) -> None:
    """The filter turns to (1, -cot t), and its quality to 1 - 1 / sqrt(1 + 3 / cos^2 t); the pattern stays (1, 0).

    y is uniform on [-1, 1] (variance 1/3), the distractor standard normal: 0.02 and 0.01 are what 50000 samples allow.
    """
    t, rng = np.deg2rad(angle), np.random.default_rng(0)
    y, e = rng.uniform(-1, 1, 100_000), rng.normal(size=100_000)
    x = np.stack([y + np.cos(t) * e, np.sin(t) * e], axis=1)
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1, use_bias=False, name="dense")])
    fit, *_ = np.linalg.lstsq(x, y, rcond=None)
    same(fit, [1, -1 / np.tan(t)])
    model.layers[0].kernel.assign(fit[:, None])
    patterns = fitted(model, x[:50_000])
    assert np.max(np.abs(patterns["dense"].values[:, 0] - [1, 0])) < 0.02
    quality = ks.signal_quality(model, patterns, x[50_000:], batch_size=50_000, observations=50_000).iloc[0]
    assert abs(quality["filter"] - (1 - 1 / np.sqrt(1 + 3 / np.cos(t) ** 2))) < 0.01
    assert quality["rho"] > 0.97


@pytest.mark.parametrize("sign", [1, -1])
def test_an_answer_of_zero_is_not_active(sign: int) -> None:
    """Whole numbers, of which many answers are 0 to the bit: a ReLU passes nothing there, so they count as inactive."""
    rng = np.random.default_rng(0)
    x = np.array([0.0, 1.0, 0.0, 2.0]) + rng.integers(-2, 3, size=(60, 4))
    layer = layers.Dense(3, activation="relu", name="dense")
    model = stack((4,), layer, layers.Dense(2))
    layer.set_weights([rng.integers(-2, 3, size=(4, 3)).astype("float64"), np.array([0.0, 1.0, -2.0])])
    kernel, bias = weights_of(layer)
    z = x @ kernel + bias
    assert np.all(np.sum(z == 0, axis=0) >= 3)
    found = fitted(model, x, estimator={"dense": "relu" if sign > 0 else "relu_negative"})["dense"]
    assert np.array_equal(found.positives, np.sum(z > 0, axis=0))
    for j in range(3):
        same(found.values[:, j], one_sided_pattern(x, kernel[:, j], bias[j], sign))
