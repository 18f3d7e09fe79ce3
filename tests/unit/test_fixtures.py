"""What the other tests rely on: float64 that is one, the same weights every time, no state left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = {
    "matmul": (ops.matmul, np.matmul),
    "mean": (lambda a, b: ops.mean(a * b, axis=0), lambda a, b: np.mean(a * b, axis=0)),
    "quotient": (ops.divide, np.divide),
    "tanh": (lambda a, b: ops.tanh(a) * b, lambda a, b: np.tanh(a) * b),
    "maximum": (lambda a, b: ops.maximum(a, 0.0) + b, lambda a, b: np.maximum(a, 0.0) + b),
    "softmax": (lambda a, b: ops.softmax(a), lambda a, b: np.exp(a) / np.exp(a).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_float64_computes_in_float64(name, float64, rng):
    mine, theirs = OPERATIONS[name]
    a, b = rng.normal(size=(2, 6, 6))
    result = mine(ops.convert_to_tensor(a), ops.convert_to_tensor(b))
    assert keras.backend.standardize_dtype(result.dtype) == "float64"
    np.testing.assert_allclose(ops.convert_to_numpy(result), theirs(a, b), rtol=1e-13, atol=1e-13)


def test_float64_builds_float64_layers(float64, rng):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    x = rng.normal(size=(2, 4))
    kernel, bias, *_ = (ops.convert_to_numpy(weight) for weight in model.weights)
    expected = (x @ kernel + bias) / np.sqrt(1.0 + model.layers[1].epsilon)
    np.testing.assert_allclose(ops.convert_to_numpy(model(x, training=False)), expected, rtol=1e-13, atol=1e-13)


def test_other_tests_are_float32(rng):
    layer = keras.layers.Dense(3)
    assert keras.backend.standardize_dtype(layer(rng.normal(size=(2, 4))).dtype) == "float32"
    assert keras.config.floatx() == "float32"


KERNELS = []


@pytest.mark.parametrize("run", [0, 1])
def test_weights_are_the_same_in_every_test(run):
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    KERNELS.append(ops.convert_to_numpy(layer.kernel))
    np.testing.assert_array_equal(KERNELS[0], KERNELS[-1])


LEAVES = """
import os

import keras


def test_floatx():
    keras.config.set_floatx("float16")


def test_policy():
    keras.config.set_dtype_policy("mixed_float16")


def test_format():
    keras.config.set_image_data_format("channels_first")


def test_backend():
    os.environ["KERAS_BACKEND"] = "numpy"


def test_clean():
    assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"
    assert keras.config.image_data_format() == "channels_last"
    assert os.environ["KERAS_BACKEND"] != "numpy"
"""


def test_a_test_that_leaves_state_behind_fails(tmp_path):
    (tmp_path / "test_leaves.py").write_text(LEAVES, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        "pyproject.toml",
    ]
    done = subprocess.run([*command, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "5 passed, 4 errors" in done.stdout, done.stdout + done.stderr
    assert "left global settings behind: {'floatx': 'float16'}" in done.stdout
