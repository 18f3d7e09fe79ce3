"""From the words of the command line to values: what they mean, and what is wrong usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import kerascope as ks
from kerascope.cli import parse, targets
from kerascope.errors import BadInputError, BadTargetError, UnknownNameError

NAMES = ("standing", "walking", "3")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, None),
        ("0:10", slice(0, 10)),
        (":5", slice(None, 5)),
        ("2:", slice(2, None)),
        ("0:10:2", slice(0, 10, 2)),
        ("3", slice(3, 4)),
        ("-1", slice(-1, None)),
        ("-2", slice(-2, -1)),
    ],
)
def test_samples(text: str | None, chosen: slice | None) -> None:
    assert parse.samples(text) == chosen


@pytest.mark.parametrize("text", ["", "a", "1-3", "1:2:3:4", "1.5", "0:9:0"])
def test_samples_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is no range of samples\. Write start:stop, as 0:10"):
        parse.samples(text)


def test_dims() -> None:
    assert parse.dims(None) is None
    assert parse.dims("time, sensor") == ("time", "sensor")
    for text in ("", "a,,b", "a,a"):
        with pytest.raises(typer.BadParameter, match="is no list of different names"):
            parse.dims(text)


def test_coords(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u\nv\n")
    found = parse.coords([f"sensor={tmp_path / 's.txt'}", "time=0.5,1.0"])
    assert {dim: labels.tolist() for dim, labels in found.items()} == {
        "sensor": ["u", "v"],
        "time": [0.5, 1.0],
    }
    for pair in ("sensor", "=x", "sensor="):
        with pytest.raises(typer.BadParameter, match="is not DIM=FILE"):
            parse.coords([pair])


def test_class_names(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("1\n2\n")
    assert parse.class_names(str(tmp_path / "c.txt")) == ("1", "2")
    assert parse.class_names("a,b") == ("a", "b")
    assert parse.class_names(None) is None


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        (None, None, None),
        ("top", None, None),
        ("all", None, "all"),
        ("2", None, 2),
        ("-1", None, -1),  # the library says that there is no such class
        ("walking", NAMES, 1),
        ("3", NAMES, 2),  # a name wins
        ("0,2,1", None, [0, 2, 1]),
        ("walking, 0", NAMES, [1, 0]),
    ],
)
def test_target(text: str | None, names: Any, expected: Any) -> None:
    found = targets.target(text, names)
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected


def test_target_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("walking\n0\n")
    found = targets.target(str(tmp_path / "t.txt"), NAMES)
    assert found.tolist() == [1, 0]


def test_target_in_a_file_of_a_head(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("walking\n0\n")
    found = targets.target(f"{tmp_path / 't.txt'}@quality", NAMES)
    assert (found.index.tolist(), found.output) == ([1, 0], "quality")


def test_target_of_the_top_classes() -> None:
    assert targets.target("top:2", None).k == 2
    for text in ("top:0", "top:x", "top:"):
        with pytest.raises(typer.BadParameter, match="is not top:K"):
            targets.target(text, None)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("contrast:walking,0", NAMES, ks.Contrast(1, 0)),
        ("contrast:2", None, ks.Contrast(2)),
        ("contrast:0,1@quality", None, ks.Contrast(0, 1, "quality")),
        ("neuron:block/conv:3,0", None, ks.Neuron("block/conv", (3, 0))),
        ("neuron:dense:7", None, ks.Neuron("dense", (7,))),
        ("cell:3,4,0", None, ks.Output((3, 4, 0))),
        ("cell:3,4,0@1", None, ks.Output((3, 4, 0), 1)),
        ("2@quality", None, ks.Class(2, "quality")),
        ("walking@quality", NAMES, ks.Class(1, "quality")),
        ("all@quality", None, ks.Class("all", "quality")),
        ("top@quality", None, ks.TopClass(1, "quality")),
        ("top:2@0", None, ks.TopClass(2, 0)),
        ("a@b", ("x", "a@b"), 1),  # a class's name
        ("contrast:a@b,x", ("x", "a@b"), ks.Contrast(1, 0)),
    ],
)
def test_target_of_other_kinds(text: str, names: Any, expected: Any) -> None:
    assert targets.target(text, names) == expected


def test_target_one_class_per_sample_of_a_head() -> None:
    found = targets.target("0,2@quality", None)
    assert (found.index.tolist(), found.output) == ([0, 2], "quality")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("contrast:0,1,2", "is not contrast:A,B"),
        ("neuron:conv", "is not neuron:LAYER:INDEX"),
        ("neuron:conv:", "is not neuron:LAYER:INDEX"),
        ("neuron:conv:a,b", "whole numbers with commas"),
        ("cell:1,x", "whole numbers with commas"),
        ("cell:", "whole numbers with commas"),
        ("cell:--1", "whole numbers with commas"),
        ("cell:\u00b2", "whole numbers with commas"),
        ("top:\u00b2", "is not top:K"),
    ],
)
def test_target_badly_written(text: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        targets.target(text, None)


def test_target_that_is_none() -> None:
    with pytest.raises(BadTargetError, match=r"'walkin'\. Did you mean 'walking'\? Known: 3, standing, walking"):
        targets.target("walkin", NAMES)
    with pytest.raises(BadTargetError, match=r"'walking' is no class number, and no class names are known.*--class-n"):
        targets.target("walking", None)


def test_background_labels_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("standing\nwalkin\n")
    with pytest.raises(BadTargetError, match=r"^--background-labels 'standing' is no class number.*FILE\.$"):
        parse.class_indices(str(path), None)
    with pytest.raises(BadTargetError, match=r"^--background-labels: .*'walkin'\. Did you mean 'walking'\?"):
        parse.class_indices(str(path), NAMES)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text("0\n1\n7\n")
    assert parse.labels(None, NAMES, 3, None) is None
    assert parse.labels(str(path), NAMES, 3, None) == ["standing", "walking", "class 7"]
    assert parse.labels(str(path), None, 3, slice(1, None)) == ["class 1", "class 7"]
    path.write_text("a\nb\n")
    assert parse.labels(str(path), NAMES, 2, None) == ["a", "b"]
    with pytest.raises(BadInputError, match="--labels holds 2 labels for 3 samples in the data"):
        parse.labels(str(path), NAMES, 3, None)


def test_baseline(tmp_path: Path) -> None:
    assert parse.baseline(None, ()) is None
    assert parse.baseline("median", ()) == "median"
    assert parse.baseline("-0.5", ()) == -0.5
    np.savez(tmp_path / "b.npz", b=np.ones(3), c=np.ones(2))
    np.testing.assert_array_equal(parse.baseline(f"{tmp_path / 'b.npz'}::b", ()), np.ones(3))
    with pytest.raises(typer.BadParameter, match="'zeroes' is no number, no file, and not zeros, mean or median"):
        parse.baseline("zeroes", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=128", (None, "steps", 128)),
        ("epsilon=1e-3", (None, "epsilon", 0.001)),
        ("window=(1, 8)", (None, "window", (1, 8))),
        ("groups=rows", (None, "groups", "rows")),
        ("bias=None", (None, "bias", None)),
        ("bias=none", (None, "bias", None)),
        ("upsample=false", (None, "upsample", False)),
        ("relu=true", (None, "relu", True)),
        ("relu=True", (None, "relu", True)),
        ("lrp.gamma:gamma=0.5", ("lrp.gamma", "gamma", 0.5)),
        ("text=a=b", (None, "text", "a=b")),
        ("evil=__import__('os')", (None, "evil", "__import__('os')")),  # text, never run
    ],
)
def test_options(text: str, expected: tuple[Any, ...]) -> None:
    assert parse.options([text]) == [expected]


def test_an_option_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "low.npy", np.zeros(3))
    ((method, name, value),) = parse.options([f"low=@{tmp_path / 'low.npy'}"])
    assert (method, name) == (None, "low")
    np.testing.assert_array_equal(value, np.zeros(3))


@pytest.mark.parametrize("text", ["steps", "=3", "1x=3", ":steps=3", "a b=3"])
def test_options_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not name=value, as steps=128"):
        parse.options([text])


def test_methods() -> None:
    assert parse.methods([]) == [None]
    assert parse.methods(["lrp", "gradient"]) == ["lrp", "gradient"]
    with pytest.raises(typer.BadParameter, match=r"Unknown method 'lrp\.epsilom'. Did you mean 'lrp\.epsilon'"):
        parse.methods(["lrp.epsilom"])
    with pytest.raises(typer.BadParameter, match="asked for twice"):
        parse.methods(["lrp", "lrp"])


def test_options_go_to_the_methods_that_have_them() -> None:
    steps, low = (None, "steps", 8), ("lrp.z_box", "low", 0.0)
    methods = ["integrated_gradients", "lrp.z_box"]
    assert parse.options_by_method(methods, [steps, low]) == [{"steps": 8}, {"low": 0.0}]
    assert parse.options_by_method([None], [steps]) == [{"steps": 8}]  # it says itself what it does not know
    assert parse.options_by_method(["lrp"], [steps]) == [{"steps": 8}]
    with pytest.raises(UnknownNameError, match="Unknown option of lrp, gradient 'steps'"):
        parse.options_by_method(["lrp", "gradient"], [steps])
    with pytest.raises(UnknownNameError, match=r"Unknown method of an option 'lrp\.z_box'"):
        parse.options_by_method(["lrp"], [low])


@pytest.mark.parametrize(
    ("text", "count"), [("1GiB", 2**30), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("4096", 4096), ("2kb", 2000)]
)
def test_memory_sizes(text: str, count: int) -> None:
    assert parse.memory(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "1TiB", "much"])
def test_no_memory_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        parse.memory(text)
