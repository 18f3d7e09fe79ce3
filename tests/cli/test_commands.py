"""`inspect`, `methods` and `report` on real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

kerascope = pytest.importorskip("kerascope")
pytest.importorskip("kerascope.explain")


def test_inspect(run: Run, model_file: Path) -> None:
    ran = run("inspect", model_file, "-m", "lrp.epsilon")
    assert (ran.status, ran.err) == (0, "")
    assert "Model walker: 204 parameters" in ran.out
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "4 operations, with their rules under lrp.epsilon:" in ran.out
    assert any("Conv1D" in line and "Epsilon" in line for line in lines)
    assert "Taken off" in ran.out
    assert "softmax" in ran.out
    assert "Split" in ran.out
    fits = ran.out.index("Methods that fit this model")
    given, unfit = ran.out.index("Methods that fit when given"), ran.out.index("Methods that do not fit")
    assert fits < ran.out.index("guided_backprop") < given < ran.out.index("integrated_gradients ") < unfit
    assert ran.out.index("cam needs a global average pooling") > unfit


def test_inspect_for_machines(run: Run, model_file: Path) -> None:
    ran = run("inspect", model_file, "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert found["model"] == {"path": str(model_file), "name": "walker", "parameters": 204}
    assert found["operations"][0]["kind"] == "affine"
    assert all(set(o) == {"node", "layer", "kind", "rule"} for o in found["operations"])
    assert found["taken_off"]
    assert found["problem"] is None
    assert {m["method"] for m in found["methods"]} == set(kerascope.methods()["name"])


def test_inspect_says_why_a_method_does_not_fit(run: Run, model_file: Path) -> None:
    ran = run("inspect", model_file, "-m", "cam")
    assert ran.status == 0
    assert "cam does not fit: cam needs a global average pooling" in ran.out


def test_inspect_a_model_without_a_shape(run: Run, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Dense(3)])
    model(np.zeros((1, 4), "float32"))
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", np.zeros((2, 4), "float32"))
    assert run("inspect", tmp_path / "m.keras", "--data", tmp_path / "x.npy").status == 0


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["none.keras"], 1, "There is no model file none.keras"),
        (["{model}", "-m", "lpr"], 2, "Did you mean 'lrp'"),
        (["{model}", "--data", "none.npy"], 1, "There is no data file none.npy"),
    ],
)
def test_inspect_refuses(run: Run, model_file: Path, args: list[str], status: int, says: str) -> None:
    ran = run("inspect", *(arg.format(model=model_file) for arg in args))
    assert (ran.status, ran.out) == (status, "")
    assert says in ran.err


def test_methods(run: Run) -> None:
    ran = run("methods")
    assert (ran.status, ran.err) == (0, "")
    for name in kerascope.methods()["name"]:
        assert name in ran.out.split()
    for family in set(kerascope.methods()["family"]):
        assert f"\n{family}\n" in ran.out
    rows = json.loads(run("methods", "--json").out)
    assert [row["name"] for row in rows] == kerascope.methods()["name"].tolist()
    assert set(rows[0]) == set(kerascope.methods().columns)


def test_report(run: Run, model_file: Path, data_file: Path, tmp_path: Path) -> None:
    x = np.load(data_file)
    for name in ("gradient", "saliency"):
        kerascope.explain(model_file, x, name).save(tmp_path / f"{name}.zarr")
    stores, page = (tmp_path / "gradient.zarr", tmp_path / "saliency.zarr"), tmp_path / "page.html"
    ran = run("report", *stores, "--out", page, "--title", "Two <maps>")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"Report {page}\n"
    text = page.read_text(encoding="utf-8")
    assert "Two &lt;maps&gt;" in text
    assert "saliency" in text
    again = run("report", *stores, "--out", page)
    assert again.status == 1
    assert "page.html exists already" in again.err
    assert run("report", *stores, "--out", page, "--force").status == 0


def test_report_refuses(run: Run, model_file: Path, data_file: Path, tmp_path: Path) -> None:
    kerascope.explain(model_file, np.load(data_file), "gradient").save(tmp_path / "g.zarr")
    part = next(p for p in (tmp_path / "g.zarr" / "attribution").rglob("c*") if p.is_file())
    part.unlink()
    for store, says in (
        ("none.zarr", "There is no file or folder"),
        ("g.zarr", "damaged"),
        ("x.npy", "is a file"),
    ):
        ran = run("report", tmp_path / store, "--out", tmp_path / "r.html")
        assert (ran.status, ran.out) == (1, "")
        assert says in ran.err
        assert not (tmp_path / "r.html").exists()


def test_one_method_and_all_about_it(run: Run) -> None:
    ran = run("methods", "lrp.epsilon")
    assert (ran.status, ran.err) == (0, "")
    method = kerascope.registry.METHODS["lrp.epsilon"] if hasattr(kerascope, "registry") else kerascope.LRP("epsilon")
    assert method.question in ran.out
    assert "composite=epsilon" in ran.out
    assert ran.out.strip().endswith(method.citation())
    given = json.loads(run("methods", "shapley_exact", "--json").out)
    assert given["class"] == "ks.ExactShapley"
    assert "completeness" in given["axioms"]
    wrong = run("methods", "lpr")
    assert wrong.status in (1, 2)
    assert "Did you mean 'lrp'" in wrong.err.replace("\n", " ")
