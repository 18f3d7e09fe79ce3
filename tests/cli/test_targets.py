"""`--target` on a network with two heads, one of which answers step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerascope as ks
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    inputs = keras.Input((12, 3))
    steps = keras.layers.Conv1D(4, 3, activation="relu", padding="same", name="conv")(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(steps)
    quality = keras.layers.Dense(4, activation="softmax", name="quality")(pooled)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(steps)
    path = tmp_path_factory.mktemp("heads") / "heads.keras"
    keras.Model(inputs, [quality, kind]).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("1@quality", ks.Class(1, "quality")),
        ("top:2@0", ks.TopClass(2, 0)),
        ("contrast:0,2@quality", ks.Contrast(0, 2, "quality")),
        ("contrast@quality", ks.Contrast(output="quality")),
        ("cell:3,1@kind", ks.Output((3, 1), "kind")),
        ("neuron:conv:3,0", ks.Neuron("conv", (3, 0))),
    ],
)
def test_what_python_explains(text: str, target: Any, run: Run, two_heads: Path, data_file: Path, tmp_path: Path):
    """The command line writes the numbers that Python gives for the same target."""
    ran = run("explain", two_heads, data_file, "-m", "gradient", "--target", text, "--out", tmp_path / "out.zarr")
    assert ran.status == 0, ran.err
    expected = ks.explain(two_heads, np.load(data_file), "gradient", target=target)
    found = ks.open(tmp_path / "out.zarr")
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    np.testing.assert_array_equal(found.explained, expected.explained)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "On the command line: --target 0@HEAD, with the output's name for HEAD."),
        (("--target", "0@kind"), "On the command line: --target cell:3,4,0."),
        (("--target", "0@quantity"), "Did you mean 'quality'?"),
        (("--target", "neuron:cnv:0"), "Did you mean 'conv'?"),
    ],
)
def test_refused_in_the_words_of_the_command_line(options: Any, words: str, run: Run, two_heads: Path, data_file: Path):
    ran = run("explain", two_heads, data_file, "-m", "gradient", *options)
    assert ran.status == 1
    assert words in ran.err
