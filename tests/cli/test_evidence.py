"""`kerascope evidence`, on real files: what it prints, writes and refuses."""

from __future__ import annotations

import html
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerascope as ks
from tests.cli.conftest import Run

LABELS = ["a", "b", "c", "d"]


@pytest.fixture
def files(data_file: Path, tmp_path: Path) -> dict[str, Path]:
    background = np.random.default_rng(5).normal(size=(48, 12, 3)).astype("float32")
    np.save(tmp_path / "background.npy", background)
    (tmp_path / "labels.csv").write_text("\n".join(LABELS[i % 4] for i in range(48)), encoding="utf-8")
    return {"x": data_file, "background": tmp_path / "background.npy", "labels": tmp_path / "labels.csv"}


@pytest.fixture
def asked(model_file: Path, files: dict[str, Path]) -> list[Any]:
    return [
        *("evidence", model_file, files["x"], "--background", files["background"]),
        *("--background-labels", files["labels"], "--class-names", "a,b,c,d", "--dims", "time,sensor"),
        *("--coord", "sensor=acc,gyr,mag", "--ordered", "time", "--level", "0.3"),
    ]


def in_python(model_file: Path, files: dict[str, Path]) -> ks.Evidence:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.evidence(
            model_file,
            np.load(files["x"]),
            background=np.load(files["background"]),
            background_labels=np.arange(48) % 4,
            dims=("time", "sensor"),
            ordered=("time",),
            class_names=LABELS,
            level=0.3,
        )


def test_a_sentence_for_every_finding(run: Run, asked: list[Any], model_file: Path, files: dict[str, Path]) -> None:
    ran = run(*asked)
    assert (ran.status, ran.err) == (0, "")
    found = in_python(model_file, files)
    for c, count in found.attrs["references"].items():
        assert f"{count} for {LABELS[c]}" in ran.out
    said = [line for line in ran.out.splitlines() if ", p " in line]
    called = int(found.rows["called"].sum() + found.columns["called"].sum()) + len(found.segments)
    assert len(said) == called > 0
    top = found.columns[found.columns["called"]].iloc[0]
    assert any(line.strip().startswith(f"sensor {['acc', 'gyr', 'mag'][top['index']]}: ") for line in said)
    assert all("replacing it costs" in line for line in said)


def test_json_holds_the_tables(run: Run, asked: list[Any], model_file: Path, files: dict[str, Path]) -> None:
    ran = run(*asked, "--json")
    assert ran.status == 0, ran.err
    given, found = json.loads(ran.out), in_python(model_file, files)
    assert given["level"] == 0.3
    for sample, one in enumerate(given["samples"]):
        assert one["class_name"] == LABELS[found.classes[sample]]
        rows, columns, segments = found.of(sample)
        assert [line["index"] for line in one["rows"]] == rows["index"].tolist()
        np.testing.assert_allclose([line["p"] for line in one["columns"]], columns["p"])
        assert [line["start"] for line in one["segments"]] == segments["start"].tolist()


def test_lines_are_grouped(run: Run, asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "kinds.txt").write_text("motion\nmotion\nfield", encoding="utf-8")
    for words in (tmp_path / "kinds.txt", f"sensor={tmp_path / 'kinds.txt'}"):
        ran = run(*asked, "--groups", words, "--json")
        assert ran.status == 0, ran.err
        given = json.loads(ran.out)
        assert given["groups"] == {"sensor": [[0, 1], [2]]}
        names = {line["name"] for one in given["samples"] for line in one["columns"]}
        assert names <= {"acc+gyr", "mag"}


def test_the_store_opens_as_evidence(run: Run, asked: list[Any], tmp_path: Path) -> None:
    ran = run(*asked, "--out", tmp_path / "found.zarr")
    assert ran.status == 0, ran.err
    assert isinstance(ks.open(tmp_path / "found.zarr"), ks.Evidence)
    again = run(*asked, "--out", tmp_path / "found.zarr")
    assert again.status == 1
    assert "--force" in again.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--sign", "plus"], 1, "Unknown sign 'plus'"),
        (["--level", "7"], 1, "level must lie between 0 and 1"),
        (["--ordered", "sensr"], 1, "Unknown ordered dim 'sensr'"),
        (["--groups", "1.5"], 1, "correlation at which lines are tested together"),
        (["--groups", "nowhere.txt"], 1, "--groups: there is no file nowhere.txt"),
        (["--samples", "x"], 2, "no range of samples"),
    ],
)
def test_wrong_words(run: Run, asked: list[Any], words: list[str], status: int, message: str) -> None:
    ran = run(*asked, *words)
    assert ran.status == status
    assert message in ran.err.replace("\n", " ")
    assert "Traceback" not in ran.err


def test_preparations_are_for_pictures(run: Run, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: Any, **__: Any) -> Any:
        raise AssertionError("analysed")

    monkeypatch.setattr(importlib.import_module("kerascope.evidence.pipeline"), "evidence", find)
    ran = run(*asked, "--preprocess", "vgg16")
    assert ran.status == 1
    assert "--preprocess vgg16 is for pictures" in ran.err


def test_the_background_is_needed(run: Run, model_file: Path, files: dict[str, Path]) -> None:
    ran = run("evidence", model_file, files["x"])
    assert ran.status == 2
    assert "--background" in ran.err


# Cohorts ------------------------------------------------------------------------------


def test_cohort_of_a_saved_store(run: Run, asked: list[Any], tmp_path: Path) -> None:
    store = tmp_path / "found.zarr"
    assert run(*asked, "--target", "0", "--out", store).status == 0
    (tmp_path / "groups.txt").write_text("ill\nwell\nill\nwell\nill", encoding="utf-8")
    ran = run("cohort", store, "--labels", tmp_path / "groups.txt", "--draws", "50")
    assert (ran.status, ran.err) == (0, "")
    assert "ill: 3 samples" in ran.out
    (tmp_path / "numbers.txt").write_text("0\n1\n0\n1\n0", encoding="utf-8")
    assert "group 0: 3 samples" in run("cohort", store, "--labels", tmp_path / "numbers.txt", "--draws", "50").out
    given = json.loads(run("cohort", store, "--draws", "50", "--json").out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        expected = ks.cohort(ks.open(store), draws=50)
    assert [line["called"] for line in given["lines"]] == expected.lines["called"].tolist()
    assert run("cohort", store).out.count("a: 5 samples") == 1


def test_reports_are_written(run: Run, asked: list[Any], tmp_path: Path) -> None:
    store, samples, classes = (tmp_path / name for name in ("found.zarr", "samples.html", "classes.html"))
    ran = run(*asked, "--out", store, "--report", samples)
    assert (ran.status, ran.err) == (0, "")
    assert f"Report {samples}" in ran.out
    said = [line.strip() for line in ran.out.splitlines() if ", p " in line]
    page = html.unescape(samples.read_text("utf-8"))
    assert said
    assert all(line in page for line in said)
    ran = run("cohort", store, "--draws", "20", "--report", classes)
    assert (ran.status, ran.err) == (0, "")
    assert "What classes have in common" in classes.read_text("utf-8")
    again = run("cohort", store, "--draws", "20", "--report", classes)
    assert again.status == 1
    assert "--force" in again.err
    assert run("cohort", store, "--draws", "20", "--report", classes, "--force").status == 0


def test_cohort_refuses_maps(run: Run, model_file: Path, data_file: Path, tmp_path: Path) -> None:
    assert run("explain", model_file, data_file, "-m", "gradient", "--out", tmp_path / "maps.zarr").status == 0
    ran = run("cohort", tmp_path / "maps.zarr")
    assert ran.status == 1
    assert "holds maps, not evidence" in ran.err
