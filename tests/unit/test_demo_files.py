"""The shipped models and data: size, origin, accuracy, and that the planted model looks where it should."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kerascope import datasets

MODELS = ("planted", "basic_motions")
MODELS_JSON: dict[str, Any] = json.loads(datasets.demo_file("models.json").read_text("utf-8"))
README = datasets.demo_file("README.md").read_text("utf-8")
Array = np.ndarray[Any, np.dtype[Any]]


def held_out(name: str) -> tuple[Array, Array]:
    """Return the samples and labels that the model of that name was not trained on."""
    if name == "basic_motions":
        data = datasets.basic_motions("test")
        return data.x, data.y
    facts = MODELS_JSON["planted"]
    drawn = datasets.planted(facts["samples"]["held_out"], seed=facts["seeds"]["held_out"])
    return drawn.x[..., None], drawn.y


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    import keras

    return {name: keras.models.load_model(datasets.demo_file(f"{name}.keras")) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_model_files_are_small_and_the_ones_recorded(name: str) -> None:
    content = datasets.demo_file(f"{name}.keras").read_bytes()
    assert len(content) == MODELS_JSON[name]["bytes"] < 300_000
    assert hashlib.sha256(content).hexdigest() == MODELS_JSON[name]["sha256"]
    assert datasets.demo_file("basic_motions.npz").stat().st_size < 300_000


@pytest.mark.parametrize("name", MODELS)
def test_model_files_hold_nothing_that_old_keras_does_not_know(name: str) -> None:
    with zipfile.ZipFile(datasets.demo_file(f"{name}.keras")) as archive:
        config = archive.read("config.json").decode()
    for setting in ("quantization_config", "input_axes", "output_axes", "renorm", "compile_config", "Lambda"):
        assert setting not in config


@pytest.mark.parametrize("name", MODELS)
def test_accuracy_on_held_out_data_is_the_one_recorded(name: str, models: dict[str, Any]) -> None:
    x, y = held_out(name)
    right = np.argmax(models[name].predict(x, batch_size=250, verbose=0), axis=1) == y
    recorded = MODELS_JSON[name]
    assert recorded["held_out_accuracy"] >= {"planted": 0.97, "basic_motions": 0.95}[name]
    assert len(y) == recorded["samples"]["held_out"]
    assert abs(right.mean() - recorded["held_out_accuracy"]) * len(y) < 1.5  # one tie may fall otherwise
    assert [right[y == c].mean() for c in range(y.max() + 1)] == pytest.approx(
        recorded["held_out_accuracy_by_class"], abs=1.5 / np.bincount(y).min()
    )
    assert f"{recorded['held_out_accuracy']:.3f}" in README


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_the_recorded_ones_on_this_backend(name: str, models: dict[str, Any]) -> None:
    x, y = held_out(name)
    reference = np.array(MODELS_JSON[name]["reference_outputs"])
    chosen = slice(0, 5) if name == "planted" else slice(0, 40, 8)
    np.testing.assert_allclose(models[name].predict(x[chosen], verbose=0), reference, atol=1e-5, rtol=0)
    assert len(set(y[chosen])) == len(np.unique(y))
    assert models[name].count_params() == MODELS_JSON[name]["parameters"]


def test_origin_and_licence_are_stated() -> None:
    for words in (
        "UEA Multivariate Time Series Classification Archive, 2018",
        "arXiv:1811.00075",
        "BSD 3-Clause License",
        "Copyright (c) The aeon developers.",
        "Copyright (c) 2022 The sktime developers.",
        "Redistributions of source code must retain the above copyright notice",
        "Neither the name of the copyright holder nor the names of its",
        "ARE\nDISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE",
    ):
        assert words in README


class Replica:
    """The planted model written out in NumPy, float64, with its gradient by hand."""

    def __init__(self, model: Any) -> None:
        arrays = [np.asarray(array, dtype=np.float64) for array in model.get_weights()]
        self.k1, self.b1, self.k2, self.b2, self.w, self.b = arrays
        self.k1, self.k2 = self.k1[0], self.k2[0]

    @staticmethod
    def convolve(x: Array, kernel: Array) -> Array:
        """Correlate (N, H, W, C) along W with (k, C, F), padded with zeros to the same width."""
        half, width = len(kernel) // 2, x.shape[2]
        padded = np.pad(x, ((0, 0), (0, 0), (half, half), (0, 0)))
        return sum(padded[:, :, i : i + width] @ kernel[i] for i in range(len(kernel)))

    def logits(self, x: Array) -> Array:
        """Return the logits (N, 5) of x (N, 20, 64), and keep what the gradient needs."""
        self.a1 = self.convolve(x[..., None], self.k1) + self.b1
        h = np.maximum(self.a1, 0).reshape(len(x), 20, 32, 2, -1).mean(axis=3)
        self.a2 = self.convolve(h, self.k2) + self.b2
        return np.maximum(self.a2, 0).max(axis=2).reshape(len(x), -1) @ self.w + self.b

    def gradient(self, x: Array, c: Array) -> Array:
        """Return the derivative (N, 20, 64) of logit c (N,) at x."""
        self.logits(x)
        back = np.zeros_like(self.a2)
        winner = np.maximum(self.a2, 0).argmax(axis=2)[:, :, None]
        np.put_along_axis(back, winner, self.w.T[c].reshape(len(x), 20, 1, -1), axis=2)
        back = self.convolve(back * (self.a2 > 0), self.k2[::-1].transpose(0, 2, 1))
        back = np.repeat(back, 2, axis=2) / 2 * (self.a1 > 0)
        return self.convolve(back, self.k1[::-1].transpose(0, 2, 1))[..., 0]


def integrated_gradients(replica: Replica, x: Array, c: Array, baseline: Array) -> Array:
    """Return integrated gradients (N, 20, 64) from the baseline (20, 64), 64 Gauss-Legendre points."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    points = zip((nodes + 1) / 2, weights / 2, strict=True)
    return (x - baseline) * sum(w * replica.gradient(baseline + a * (x - baseline), c) for a, w in points)


def strongest_stretch(values: Array) -> tuple[int, int]:
    """Return start and stop of the stretch of values (W,) with the largest sum."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    start, stop = np.unravel_index(np.argmax(np.triu(sums[None, :] - sums[:, None])), (len(sums), len(sums)))
    return int(start), int(stop)


def test_planted_model_is_the_replica(models: dict[str, Any]) -> None:
    replica, (x, _) = Replica(models["planted"]), held_out("planted")
    x = x[:20, ..., 0].astype(float)
    z = replica.logits(x)
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(models["planted"].predict(x[..., None], verbose=0), softmax, atol=1e-5)
    c, step = z.argmax(axis=1), 1e-6 * np.random.default_rng(0).standard_normal(x.shape)
    moved = (replica.logits(x + step) - replica.logits(x - step))[np.arange(20), c]
    np.testing.assert_allclose(2 * (replica.gradient(x, c) * step).sum(axis=(1, 2)), moved, rtol=1e-4, atol=1e-9)


def test_planted_model_looks_at_the_planted_row_and_stretch(models: dict[str, Any]) -> None:
    """What the demo shows must be true of the model: by integrated gradients, and by simpler means."""
    facts, replica = MODELS_JSON["planted"], Replica(models["planted"])
    data = datasets.planted(100, seed=facts["seeds"]["held_out"])
    marked = data.y < 4
    x, row = data.x[marked].astype(float), data.row[marked]
    c = replica.logits(x).argmax(axis=1)
    baseline = datasets.planted(64, seed=facts["seeds"]["train"]).x.mean(axis=0).astype(float)

    maps = integrated_gradients(replica, x, c, baseline)
    change = (replica.logits(x) - replica.logits(baseline[None]))[np.arange(len(x)), c]
    assert np.median(np.abs(maps.sum(axis=(1, 2)) - change)) < 0.02 * np.median(np.abs(change))
    assert np.mean(maps.sum(axis=2).argmax(axis=1) == row) >= 0.95

    stretches = np.array([strongest_stretch(maps[i, row[i]]) for i in range(len(x))])
    common = np.minimum(stretches[:, 1], data.stop[marked]) - np.maximum(stretches[:, 0], data.start[marked])
    assert np.mean(common > 0) >= 0.95
    assert np.mean(common) >= 6  # half of the motif, at least

    gradient = replica.gradient(x, c)
    assert np.mean(np.abs(gradient).sum(axis=2).argmax(axis=1) == row) >= 0.95
    assert np.mean((gradient * x).sum(axis=2).argmax(axis=1) == row) >= 0.95
    assert np.mean(row_occlusion(replica, x, c, baseline).argmax(axis=1) == row) >= 0.95


def row_occlusion(replica: Replica, x: Array, c: Array, baseline: Array) -> Array:
    """Return what logit c (N,) loses when one row of x is the baseline's, (N, 20)."""
    drops = []
    for r in range(20):
        without = x.copy()
        without[:, r] = baseline[r]
        drops.append((replica.logits(x) - replica.logits(without))[np.arange(len(x)), c])
    return np.stack(drops, axis=1)


def script(name: str) -> ModuleType:
    """Import a file of scripts/."""
    path = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_reads_ts_files() -> None:
    text = "#words: here\n@problemName Two\n@classLabel true B A\n@data\n1,2,3:4,5,6:A\n7,8,9:-1,0.5,1E-2:B\n"
    x, labels, classes = script("make_basic_motions").parse_ts(text)
    assert (labels, classes) == (["A", "B"], ["B", "A"])
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.float32([[[1, 4], [2, 5], [3, 6]], [[7, -1], [8, 0.5], [9, 0.01]]]))


def test_the_script_refuses_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "BasicMotions_TRAIN.ts").write_text("@classLabel true A\n@data\n1,2:A\n")
    module = script("make_basic_motions")
    monkeypatch.setattr("sys.argv", ["make_basic_motions.py", str(tmp_path)])
    monkeypatch.setattr(module, "TARGET", tmp_path / "out.npz")
    with pytest.raises(SystemExit, match=r"BasicMotions_TRAIN\.ts in .* is not the file"):
        module.main()
    assert not (tmp_path / "out.npz").exists()
