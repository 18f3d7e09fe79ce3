"""`kerascope fit-patterns` and `explain --patterns`, on real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

kerascope = pytest.importorskip("kerascope")


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    x = np.random.default_rng(8).normal(size=(120, 12, 3)).astype("float32")
    np.savez(tmp_path / "train.npz", x=x)
    return tmp_path / "train.npz"


def test_fit_then_explain(run: Run, model_file: Path, train_file: Path, data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "patterns.npz"
    ran = run("fit-patterns", model_file, f"{train_file}::x", "--out", out)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "Patterns of model 'walker' from 120 samples"
    assert lines[2].split()[1:6] == ["Conv1D", "relu", "4", "9", "1,200"]
    assert lines[3].split()[1:6] == ["Dense", "linear", "4", "40", "120"]
    assert lines[-1] == f"Saved {out}"
    ran = run("explain", model_file, data_file, "-m", "pattern_attribution", "--patterns", out, "--json")
    assert ran.status == 0, ran.err
    (found,) = json.loads(ran.out)["explanations"]
    patterns = kerascope.Patterns.open(out)
    assert patterns.fingerprint in found["options"]["patterns"]["text"]
    e = kerascope.explain(model_file, np.load(data_file), "pattern_attribution", patterns=patterns)
    assert found["samples"][0]["rows"][0]["sum"] == pytest.approx(e.rows().iloc[0]["sum"])
    several = ("-m", "gradient", "-m", "patternnet", "--json")
    ran = run("explain", model_file, data_file, *several, "--patterns", out)
    assert ran.status == 0, ran.err
    assert [one["method"] for one in json.loads(ran.out)["explanations"]] == ["gradient", "patternnet"]


def test_json_and_estimators(run: Run, model_file: Path, train_file: Path, tmp_path: Path) -> None:
    args = ("fit-patterns", model_file, train_file, "-o", tmp_path / "p.npz", "--json", "--force", "--batch-size", "50")
    by_option = {(): ["relu", "linear"], ("linear",): ["linear"] * 2, ("dense*=relu",): ["relu"] * 2}
    by_option[("linear", "dense*=relu")] = ["linear", "relu"]
    for words, expected in by_option.items():
        ran = run(*args, *(f"--estimator={word}" for word in words), "--samples", "0:100")
        assert ran.status == 0, ran.err
        found = json.loads(ran.out)
        assert [layer["estimator"] for layer in found["layers"]] == expected
        assert (found["samples"], found["patterns"]) == (100, str(tmp_path / "p.npz"))
        assert found["fingerprint"] == kerascope.Patterns.open(tmp_path / "p.npz").fingerprint


def test_what_goes_wrong(run: Run, model_file: Path, train_file: Path, data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.npz"
    fit = ("fit-patterns", model_file, train_file, "--out", out)
    for word in ("median", "lstm*=relu", "dense=leaky"):
        ran = run(*fit, "--estimator", word)
        assert ran.status == 2, word
        assert "--estimator" in ran.err
    assert run(*fit, "--estimator", "relu", "--estimator", "linear").status == 2
    out.write_text("mine")
    ran = run(*fit)
    assert ran.status == 1
    assert "--force" in ran.err
    assert out.read_text() == "mine"
    assert run(*fit[:3], "--out", train_file, "--force").status == 2
    ran = run("explain", model_file, data_file, "-m", "patternnet", "--patterns", out)
    assert ran.status == 1
    assert "holds no patterns" in ran.err
    ran = run("explain", model_file, data_file, "-m", "patternnet")
    assert ran.status == 1
    assert "kerascope fit-patterns, then --patterns FILE" in ran.err
    np.save(tmp_path / "wide.npy", np.zeros((3, 12, 5)))
    ran = run("fit-patterns", model_file, tmp_path / "wide.npy", "--out", tmp_path / "other.npz")
    assert ran.status == 1
    assert "wide.npy: x " in ran.err
    assert not (tmp_path / "other.npz").exists()


def test_dead_neurons_are_told_of(run: Run, model_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros((4, 12, 3), "float32"))
    ran = run("fit-patterns", model_file, tmp_path / "zeros.npy", "--out", tmp_path / "p.npz")
    assert ran.status == 0
    assert "Warning: 8 neurons have no pattern" in ran.out
    assert "(4 of 4)" in ran.out


def test_inspect_shows_the_rules(run: Run, model_file: Path) -> None:
    ran = run("inspect", model_file, "--method", "patternnet", "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert found["problem"] is None
    assert [row["rule"] for row in found["operations"]] == ["pattern", "mask", "derivative", "pattern"]
