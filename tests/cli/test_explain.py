"""`kerascope explain`, on real files: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Ran, Run

kerascope = pytest.importorskip("kerascope")
pytest.importorskip("kerascope.explain")


def loaded(ran: Ran) -> dict[str, Any]:
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert isinstance(found, dict)
    return found


# What it prints and writes ------------------------------------------------------------


def test_tables_for_people(run: Run, model_file: Path, data_file: Path) -> None:
    ran = run(
        *(
            "explain",
            model_file,
            data_file,
            "-m",
            "lrp.epsilon",
            "--samples",
            "1:3",
            "--class-names",
            "a,b,c,d",
        ),
        *("--dims", "time,sensor", "--coord", "sensor=acc,gyr,mag", "--labels", "a,b,c,d,a"),
    )
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[1].startswith("lrp.epsilon How much did each cell contribute")
    assert "explained: the logit (before the final softmax), top class of each sample; 2 samples" in ran.out
    assert "completeness: largest gap" in ran.out
    titles = [line for line in lines if line.startswith("Sample ")]
    e = kerascope.explain(model_file, np.load(data_file)[1:3], "lrp.epsilon", class_names=tuple("abcd"))
    for i, (title, label) in enumerate(zip(titles, "bc", strict=True)):
        name = "abcd"[int(e.target[i])]
        agrees = "" if name == label else ": not the class explained"
        assert title.startswith(f"Sample {i + 1}: class {name}, logit ")  # numbered as in the file
        assert title.endswith(f"  [labelled {label}{agrees}]")
    assert lines.index(titles[0]) + 1 == next(i for i, line in enumerate(lines) if line.split()[:2] == ["time", "sum"])
    best = e.rows()[e.rows()["sample"] == 0].iloc[0]
    assert f"time {best['index']} " in lines[lines.index(titles[0]) + 2]
    assert "stretch along time" in ran.out
    assert "stretch along sensor" not in ran.out  # names, in no order
    assert "more samples" not in ran.out


def test_json_for_machines(run: Run, model_file: Path, data_file: Path, x: np.ndarray) -> None:
    found = loaded(run("explain", model_file, data_file, "-m", "gradient", "--target", "2", "--json", "--seed", "7"))
    assert (found["backend"], found["seed"]) == (os.environ["KERAS_BACKEND"], 7)
    assert (found["model"], found["data"], found["report"]) == (str(model_file), str(data_file), None)
    (one,) = found["explanations"]
    assert (one["method"], one["store"], one["dims"]) == ("gradient", None, ["row", "column"])
    assert [s["sample"] for s in one["samples"]] == list(range(len(x)))
    e = kerascope.explain(model_file, x, "gradient", target=2)
    for i, sample in enumerate(one["samples"]):
        assert (sample["target"], sample["target_name"]) == (2, "class 2")
        assert sample["explained"] == pytest.approx(float(e.explained[i]))
        assert sample["completeness_gap"] is None  # nothing is promised: NaN is no JSON
        rows = e.rows()[e.rows()["sample"] == i].head(5)
        assert [r["index"] for r in sample["rows"]] == rows["index"].tolist()
        assert [r["sum"] for r in sample["rows"]] == pytest.approx(rows["sum"].tolist())
        assert len(sample["columns"]) == 3
        assert {s["dim"] for s in sample["segments"]} == {"row", "column"}
        best = e.segments("row")[e.segments("row")["sample"] == i].iloc[0]
        assert sample["segments"][0]["score"] == pytest.approx(best["score"])


def test_several_targets(run: Run, model_file: Path, data_file: Path) -> None:
    args = ("explain", model_file, data_file, "-m", "gradient", "--target", "top:2", "--samples", "0:1")
    ran = run(*args)
    assert sum(line.startswith("Sample 0:") for line in ran.out.splitlines()) == 2
    first, second = loaded(run(*args, "--json"))["explanations"][0]["samples"]
    assert first["target"] != second["target"]
    assert first["explained"] >= second["explained"]
    assert first["rows"] != second["rows"]


def test_several_methods_one_report(run: Run, model_file: Path, data_file: Path, tmp_path: Path) -> None:
    args = (
        *(
            "explain",
            model_file,
            data_file,
            "-m",
            "gradient",
            "-m",
            "integrated_gradients",
            "--baseline",
            "zeros",
        ),
        *("--option", "steps=4", "--out", tmp_path / "o", "--report", tmp_path / "r.html"),
    )
    ran = run(*args)
    assert (ran.status, ran.err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "gradient.zarr",
        "integrated_gradients.zarr",
    ]
    for name in ("gradient", "integrated_gradients"):
        assert f"Saved {tmp_path / 'o' / name}.zarr" in ran.out
        e = kerascope.open(tmp_path / "o" / f"{name}.zarr")
        assert e.method_name == name
        assert e.values.shape == (5, 12, 3)
    assert kerascope.open(tmp_path / "o" / "integrated_gradients.zarr").method.steps == 4
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html")
    assert "integrated_gradients" in text
    again = run(*args)
    assert again.status == 1
    assert "exists already" in again.err
    assert run(*args, "--force").status == 0


def test_names_of_files_are_names_of_samples(run: Run, model_file: Path, x: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for i, matrix in enumerate(x[:3]):
        lines = [
            ",acc,gyr,mag",
            *(f"t{j}," + ",".join(map(repr, map(float, row))) for j, row in enumerate(matrix)),
        ]
        (tmp_path / "d" / f"walk_{i + 8}.csv").write_text("\n".join(lines))
    args = ("explain", model_file, tmp_path / "d", "-m", "input_x_gradient", "--dims", "time,sensor")
    found = loaded(run(*args, "--json"))["explanations"][0]
    assert [s["name"] for s in found["samples"]] == ["walk_8", "walk_9", "walk_10"]
    e = kerascope.explain(model_file, x[:3], "input_x_gradient")
    assert found["samples"][2]["rows"][0]["name"] == f"t{e.rows()[e.rows()['sample'] == 2].iloc[0]['index']}"
    assert {c["name"] for c in found["samples"][0]["columns"]} == {"acc", "gyr", "mag"}
    assert "Sample walk_10:" in run(*args).out


def test_the_recommended_method_and_a_background(run: Run, model_file: Path, x: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", test=x, train=x[::-1] + 1)
    ran = run("explain", model_file, f"{tmp_path / 'd.npz'}::test", "--background", f"{tmp_path / 'd.npz'}::train")
    assert ran.status == 0
    assert ran.out.strip().startswith("integrated_gradients")
    assert "chosen because" in ran.out
    assert "compared with: mean of 5 background samples" in ran.out


def test_many_samples_are_counted(run: Run, model_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.ones((13, 12, 3), "float32"))
    ran = run("explain", model_file, tmp_path / "many.npy", "-m", "gradient")
    assert sum(line.startswith("Sample ") for line in ran.out.splitlines()) == 10
    assert "… and 3 more samples" in ran.out


def test_models_with_several_inputs(run: Run, tmp_path: Path) -> None:
    import keras

    left, right = keras.Input((4, 3), name="left"), keras.Input((5,), name="right")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(left), right])
    keras.Model([left, right], keras.layers.Dense(2)(joined)).save(tmp_path / "two.keras")
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        left=rng.normal(size=(2, 4, 3)),
        right=rng.normal(size=(2, 5)),
        more=rng.normal(size=3),
    )
    args = ("explain", tmp_path / "two.keras", tmp_path / "d.npz", "-m", "gradient")
    found = loaded(run(*args, "--json"))["explanations"][0]["samples"][0]
    assert {name: len(t["rows"]) for name, t in found["inputs"].items()} == {"left": 4, "right": 5}
    ran = run(*args)
    assert "input left" in ran.out
    assert "input right" in ran.out


def test_names_are_shown_as_they_are(run: Run, model_file: Path, data_file: Path) -> None:
    names = "[red]a[/red],b: 1,<c>,[d"
    ran = run(
        *("explain", model_file, data_file, "-m", "gradient", "--target", "0", "--class-names", names),
        *("--coord", "column=[bold]x,[/],y"),
    )
    assert ran.status == 0
    assert "class [red]a[/red]" in ran.out
    assert "[bold]x" in ran.out


# Models -------------------------------------------------------------------------------


def test_code_in_a_model_needs_unsafe(run: Run, data_file: Path, tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12, 3)),
            layers.Lambda(lambda t: t * 2.0, output_shape=(12, 3)),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    model.save(tmp_path / "lambda.keras")
    ran = run("explain", tmp_path / "lambda.keras", data_file, "-m", "gradient")
    assert (ran.status, ran.out) == (1, "")
    assert "holds Python code (a lambda)" in ran.err
    assert "--unsafe" in ran.err
    assert run("explain", tmp_path / "lambda.keras", data_file, "-m", "gradient", "--unsafe").status == 0


def test_layers_of_ones_own(run: Run, data_file: Path, tmp_path: Path) -> None:
    import keras

    module = tmp_path / "mine.py"
    module.write_text(
        "import keras\n\n\nclass Twice(keras.layers.Layer):\n    def call(self, x):\n        return 2.0 * x\n"
    )
    from kerascope.cli.custom import load_custom_objects

    twice = load_custom_objects([module])["Twice"]
    keras.Sequential([keras.Input((12, 3)), twice(), keras.layers.Flatten(), keras.layers.Dense(2)]).save(
        tmp_path / "own.keras"
    )
    args = ("explain", tmp_path / "own.keras", data_file, "-m", "gradient")
    ran = run(*args)
    assert (ran.status, ran.out) == (1, "")
    assert "'Twice'" in ran.err
    assert "--custom-objects module.py" in ran.err
    assert run(*args, "--custom-objects", module).status == 0


# Bad input ----------------------------------------------------------------------------


def _arrays(folder: Path, x: np.ndarray) -> None:
    holes, words = x.copy(), np.full(x.shape, "a")
    holes[3, 2, 1] = np.nan
    for name, array in {
        "nan": holes,
        "words": words,
        "empty": x[:0],
        "wrong": x[:, :5],
        "flat": x[:, 0, 0],
    }.items():
        np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["wrong.npy"], ["wrong.npy", "(5, 5, 3)", "12, 3"]),
        (["flat.npy"], ["(5,)", "12, 3"]),
        (["nan.npy"], ["nan", "sample 3", "(2, 1)"]),
        (["words.npy"], ["must hold numbers", "<U1"]),
        (["empty.npy"], ["no samples", "(0, 12, 3)"]),
        (["none.npy"], ["There is no data file none.npy"]),
        (["x.npy", "--target", "4"], ["4", "4 classes"]),
        (["x.npy", "--target", "-1"], ["-1", "4 classes"]),
        (["x.npy", "--target", "0,1"], ["2", "5"]),
        (["x.npy", "--target", "wlking", "--class-names", "walking,b,c,d"], ["Did you mean 'walking'?"]),
        (["x.npy", "--class-names", "a,b"], ["class_names", "4"]),
        (["x.npy", "--dims", "a,b,c,d"], ["4", "(12, 3)"]),
        (["x.npy", "--dims", "time,sensor", "--coord", "sensr=a,b,c"], ["'sensr'", "Did you mean 'sensor'?"]),
        (["x.npy", "--coord", "row=a,b,c"], ["'row'", "12"]),
        (["x.npy", "--labels", "1,2"], ["--labels holds 2 labels for 5 samples"]),
        (["x.npy", "-m", "integrated_gradients"], ["--background FILE, or --baseline zeros"]),
        (["x.npy", "-m", "occlusion"], ["--background FILE, or --baseline zeros"]),
        (["x.npy", "-m", "deeplift_shap"], ["--background FILE, or --baseline zeros"]),
        (["x.npy", "-m", "lrp.z_box"], ["--option low=0 --option high=1"]),
        (["x.npy", "-m", "cam"], ["cam needs a global average pooling"]),
        (["x.npy", "--background", "wrong.npy"], ["background", "(5, 5, 3)"]),
        (["x.npy", "--background", "nan.npy"], ["background", "sample 3"]),
    ],
)
def test_bad_input_is_one_clear_line(
    run: Run,
    model_file: Path,
    data_file: Path,
    x: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    says: list[str],
) -> None:
    monkeypatch.chdir(data_file.parent)
    _arrays(data_file.parent, x)
    ran = run("explain", model_file, *args, "--out", "o.zarr", "--report", "r.html")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    for text in says:
        assert text in ran.err
    for word in ("Traceback", "bug in kerascope"):
        assert word not in ran.err
    assert not [p for p in data_file.parent.iterdir() if p.name.lstrip(".").startswith(("o.zarr", "r.html"))]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-m", "lrp.epsilom"], "Did you mean 'lrp.epsilon'"),
        (["-m", "lrp", "--option", "epsilom=1"], "Did you mean 'epsilon'?"),
        (["--option", "epsilon"], "is not name=value"),
        (["--baseline", "zeroes"], "not zeros, mean or median"),
        (["--coord", "sensor"], "is not DIM=FILE"),
    ],
)
def test_wrong_usage_offers_the_nearest(
    run: Run, model_file: Path, data_file: Path, args: list[str], says: str
) -> None:
    ran = run("explain", model_file, data_file, *args)
    assert (ran.status, ran.out) == (2, "")
    assert says in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["occlusion", "expected_gradients", "deeplift_shap", "kernel_shap"])
def test_the_advice_on_a_missing_baseline_works(run: Run, model_file: Path, data_file: Path, name: str) -> None:
    args = ("explain", model_file, data_file, "-m", name, "--samples", "0:1")
    options = {"expected_gradients": ("--option", "draws=4"), "kernel_shap": ("--option", "groups=columns")}
    ran = run(*args, "--baseline", "zeros", *options.get(name, ()))
    assert (ran.status, ran.err) == (0, "")
    assert "compared with: zeros" in ran.out


@pytest.mark.parametrize(
    ("args", "blamed", "says"),
    [
        (["-m", "gradient", "--baseline", "zeros"], "--baseline", "Unknown option of gradient 'baseline'"),
        (["-m", "gradient", "--patterns", "p.npz"], "--patterns", "Unknown option of gradient 'patterns'"),
        (["-m", "gradient", "--option", "baseline=zeros"], "--option", "Unknown option of gradient 'baseline'"),
        (
            ["-m", "lrp", "-m", "gradient", "--baseline", "0"],
            "--baseline",
            "Unknown option of lrp, gradient 'baseline'",
        ),
        (["-m", "lrp", "-m", "gradient", "--option", "step=1"], "--option", "of lrp, gradient 'step'"),
        (["-m", "deeplift", "--baseline", "0", "--option", "baselin=0"], "--option", "of deeplift 'baselin'"),
    ],
)
def test_the_option_that_was_given_is_blamed(
    run: Run,
    model_file: Path,
    data_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    blamed: str,
    says: str,
) -> None:
    monkeypatch.setattr("kerascope.cli.parse.patterns", lambda path: path)
    ran = run("explain", model_file, data_file, *args)
    assert (ran.status, ran.out) == (2, "")
    said = " ".join(ran.err.replace("│", " ").split())
    assert f"Invalid value for {blamed}: " in said
    assert says in said


def test_outputs_are_checked_before_the_model_is_read(run: Run, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    ran = run("explain", tmp_path / "no model.keras", data_file, "--report", tmp_path / "r.html")
    assert "r.html exists already" in ran.err
    assert (tmp_path / "r.html").read_text() == "mine"


def test_a_failing_engine_asks_for_a_report(
    run: Run, model_file: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kerascope.explain as engine

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(sys.modules["kerascope.explain"], "Explainer", fail)
    del engine
    ran = run("explain", model_file, data_file)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("Error: RuntimeError: lost\nThis is a bug in kerascope: please report it.")


# Real processes -----------------------------------------------------------------------


def started(*args: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerascope.cli", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


def test_a_real_run(model_file: Path, data_file: Path, tmp_path: Path) -> None:
    ran = started("explain", model_file, data_file, "-m", "lrp", "--json", "--out", tmp_path / "o.zarr")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["explanations"][0]["store"] == str(tmp_path / "o.zarr")
    assert "Traceback" not in ran.stderr
    assert kerascope.open(tmp_path / "o.zarr").values.shape == (5, 12, 3)


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_full_disk_leaves_nothing(model_file: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: writing fails half-way."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2000, 12, 3)).astype("float32"))
    words = ("explain", model_file, tmp_path / "x.npy", "-m", "gradient", "--out", tmp_path / "o.zarr", "-q")
    command = shlex.join([sys.executable, "-m", "kerascope.cli", *map(str, words)])
    ran = subprocess.run(["bash", "-c", f"ulimit -f 100; exec {command}"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("Error: ")
    assert "File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy"]
