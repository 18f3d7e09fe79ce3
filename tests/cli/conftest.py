"""A small model and data on disk, and a way to run the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `kerascope ARGS`; the terminal is wide, so that lines stay whole."""
    from typer.testing import CliRunner

    from kerascope.cli.main import app

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("KERASCOPE_TRACEBACK", raising=False)

    def call(*args: Any) -> Ran:
        result = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="kerascope")
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 12 steps x 3 sensors into four classes, seed fixed."""
    import keras

    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.Input((12, 3)),
            keras.layers.Conv1D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ],
        name="walker",
    )
    model.set_weights([rng.normal(size=w.shape).astype("float32") * 0.4 for w in model.get_weights()])
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def x() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(5, 12, 3)).astype("float32")


@pytest.fixture
def data_file(x: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"
