"""`kerascope demo`: it finds what was planted, writes everything, and leaves nothing half-done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

kerascope = pytest.importorskip("kerascope")
pytest.importorskip("kerascope.explain")
datasets = pytest.importorskip("kerascope.datasets")

from kerascope.cli import demo as module  # noqa: E402


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples and steps: the path is the same."""
    planted, motions = datasets.planted, datasets.basic_motions
    monkeypatch.setattr(datasets, "planted", lambda n, *, seed: planted(min(n, 10), seed=seed))

    def few(split: str) -> Any:
        import dataclasses

        data = motions(split)
        return dataclasses.replace(data, x=data.x[::10], y=data.y[::10])

    monkeypatch.setattr(datasets, "basic_motions", few)


@pytest.mark.slow
def test_the_demo(run: Run, tmp_path: Path, small: None) -> None:
    out = tmp_path / "demo"
    ran = run("demo", "--out", out)
    assert ran.status == 0, ran.err
    counts = re.findall(
        r"(\S+): of (\d+) samples with a motif whose class the model got right, "
        r"the planted row ranked first in (\d+), the planted stretch \(at least half in common\) in (\d+)",
        ran.out,
    )
    assert counts[0] == ("expected_gradients", "8", "8", "8")
    assert "Sample motif in r02 1: class motif in r02, logit " in ran.out
    assert len(re.findall(r"^Sample (standing|running|walking|badminton) 1: class ", ran.out, re.M)) == 4
    for name in ("planted", "basic_motions"):
        assert (out / name / "report.html").is_file()
        assert f"Report {out / name / 'report.html'}" in ran.out
        stores = sorted((out / name).glob("*.zarr"))
        assert stores
        for store in stores:
            assert f"Saved  {store}" in ran.out
            assert len(kerascope.open(store)) == (10 if name == "planted" else 4)
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    again = run("demo", "--out", out)
    assert (again.status, again.out) == (1, "")
    assert "exists already" in again.err


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(console: object, folder: Path, *, quiet: bool) -> None:
        (folder / "planted").mkdir()
        raise error

    monkeypatch.setattr(module, "_planted", fail)
    ran = run("demo", "--out", tmp_path / "demo")
    assert ran.status == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert not list(tmp_path.iterdir())


def test_force_replaces_an_older_demo_only_when_done(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "demo" / "planted" / "old"
    old.mkdir(parents=True)

    def fail(console: object, folder: Path, *, quiet: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_planted", fail)
    assert run("demo", "--out", tmp_path / "demo", "--force").status == 1
    assert old.exists()
    monkeypatch.setattr(module, "_planted", lambda console, folder, *, quiet: (folder / "planted").mkdir())
    monkeypatch.setattr(module, "_motions", lambda console, folder, *, quiet: None)
    assert run("demo", "--out", tmp_path / "demo", "--force").status == 0
    assert not old.exists()
    (tmp_path / "demo" / "thesis").mkdir()
    ran = run("demo", "--out", tmp_path / "demo", "--force")
    assert ran.status == 1
    assert "is not replaced, even with --force" in ran.err
