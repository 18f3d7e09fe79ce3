"""Saved patterns: what comes back, and what broken, foreign and badly placed files are told."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kerascope as ks

WRONG_PICKLES = np.array([{"a": 1}], dtype=object)


def model() -> Any:
    made = keras.Sequential(
        [
            keras.layers.Input((7, 2)),
            keras.layers.Conv1D(3, 2, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    rng = np.random.default_rng(2)
    made.set_weights([rng.normal(size=w.shape) for w in made.get_weights()])
    return made


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(60, 7, 2)).astype("float32")


def test_saved_and_opened_is_the_same_to_the_bit(x: np.ndarray, tmp_path: Path) -> None:
    made = model()
    patterns = ks.Patterns.fit(made, x)
    path = patterns.save(tmp_path / "new" / "patterns.npz")
    again = ks.Patterns.open(path)
    assert repr(again) == repr(patterns)
    assert f"fingerprint={patterns.fingerprint!r}" in repr(again)
    assert "estimator='relu'" in repr(again)
    for name in patterns:
        one, two = patterns[name], again[name]
        for field in ("values", "positives", "dead"):
            assert np.array_equal(getattr(one, field), getattr(two, field))
            assert getattr(one, field).dtype == getattr(two, field).dtype
        assert (one.other is None) == (two.other is None)
        assert (one.estimator, one.neurons, one.observations) == (two.estimator, two.neurons, two.observations)
    assert again.table().equals(patterns.table())
    for method in ("patternnet", "pattern_attribution"):
        maps = [ks.explain(made, x[:3], method, patterns=p) for p in (patterns, again)]
        assert np.array_equal(maps[0].values, maps[1].values)
    assert os.listdir(path.parent) == ["patterns.npz"]


def test_they_fit_the_model_that_was_saved_too(x: np.ndarray, tmp_path: Path) -> None:
    made = model()
    made.save(tmp_path / "model.keras")
    patterns = ks.Patterns.fit(made, x)
    e = ks.explain(tmp_path / "model.keras", x[:3], "patternnet", patterns=patterns)
    assert np.any(e.values)
    assert patterns.fingerprint in json.dumps(e.attrs["method"])
    opened = ks.open(e.save(tmp_path / "map.zarr"))
    assert patterns.fingerprint in json.dumps(opened.attrs["method"])


def test_what_is_no_patterns_has_no_quality(x: np.ndarray) -> None:
    with pytest.raises(ks.BadInputError, match=r"patterns must be ks\.Patterns, .* got str"):
        ks.signal_quality(None, "patterns.npz", x)  # type: ignore[arg-type]


def test_nothing_is_overwritten_unasked(x: np.ndarray, tmp_path: Path) -> None:
    patterns, path = ks.Patterns.fit(model(), x), tmp_path / "p.npz"
    path.write_text("mine")
    with pytest.raises(ks.OutputExistsError, match="exists already"):
        patterns.save(path)
    assert path.read_text() == "mine"
    patterns.save(path, overwrite=True)
    assert len(ks.Patterns.open(path)) == 2
    with pytest.raises(ks.BadInputError, match="is a folder"):
        patterns.save(tmp_path)


def test_a_failure_leaves_the_old_file_and_nothing_else(
    x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns, path = ks.Patterns.fit(model(), x), tmp_path / "p.npz"
    path.write_text("mine")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ks.KerascopeError, match="No space left on device"):
        patterns.save(path, overwrite=True)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["p.npz"]


def test_broken_and_foreign_files(x: np.ndarray, tmp_path: Path) -> None:
    path = ks.Patterns.fit(model(), x).save(tmp_path / "p.npz")
    whole = path.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(ks.BadInputError, match=words):
            ks.Patterns.open(path)

    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        refused("holds no patterns, or is damaged")
    for place in range(100, len(whole) - 100, len(whole) // 15):  # a flipped byte is found, or harmless
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ks.Patterns.open(path)
        except ks.BadInputError:
            continue
    path.write_text("text")
    refused("holds no patterns, or is damaged")
    np.savez(path, x=x)
    refused("is no file of patterns")
    with open(path, "wb") as file:
        np.save(file, x)
    refused("is no file of patterns")
    np.savez(path, about=WRONG_PICKLES)
    refused("holds no patterns, or is damaged")


def changed(path: Path, **changes: Any) -> None:
    """Write the file again with other facts or arrays."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    about = json.loads(bytes(held["about"]))
    for name, value in changes.items():
        if name.startswith("array_"):
            held["0/" + name.removeprefix("array_")] = value
        else:
            about[name] = value
    held["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, **held)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, r"has format 2; .* reads up to 1\. Update"),
        ({"what": "else"}, "is no file of patterns"),
        ({"layers": [{}]}, "is damaged: it lacks"),
        ({"array_dead": np.zeros(2, bool)}, "arrays of layer 'conv' that fit each other"),
        ({"array_other": np.zeros(2)}, "arrays of layer 'conv' that fit each other"),
        ({"array_values": np.zeros((2, 2, 3), int)}, "arrays of layer 'conv' that fit each other"),
    ],
)
def test_facts_that_make_no_sense(x: np.ndarray, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = ks.Patterns.fit(model(), x).save(tmp_path / "p.npz")
    changed(path, **changes)
    with pytest.raises(ks.BadInputError, match=words):
        ks.Patterns.open(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ks.BadInputError, match="does not exist"):
        ks.Patterns.open(tmp_path / "none.npz")
    with pytest.raises(ks.BadInputError, match="is a folder"):
        ks.Patterns.open(tmp_path)


def test_progress_and_the_table(x: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    patterns = ks.Patterns.fit(model(), x, batch_size=25, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(25, 60), (50, 60), (60, 60)]
    table = patterns.table().set_index("layer")
    assert table.loc["conv"].to_dict() | {"fewest": 0} == {
        "kind": "Conv1D",
        "estimator": "relu",
        "neurons": 3,
        "reads": 4,
        "observations": 60 * 6,
        "fewest": 0,
        "dead": 0,
    }
    assert ("conv" in patterns, "other" in patterns, len(patterns)) == (True, False, 2)
    with pytest.raises(ks.UnknownNameError, match=r"'other'.*Known: conv, dense"):
        patterns["other"]
    with pytest.raises(ks.BadInputError, match="batch_size"):
        ks.Patterns.fit(model(), x, batch_size=0)


def test_the_figure_of_signal_quality(x: np.ndarray, tmp_path: Path) -> None:
    made = model()
    quality = ks.signal_quality(made, ks.Patterns.fit(made, x), np.concatenate([x] * 4))
    figure = ks.plot_signal_quality(quality)
    (axes,) = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}
    assert np.array_equal(drawn["pattern"], quality["rho"])
    assert np.array_equal(drawn["filter"], quality["filter"])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["conv", "dense"]
    figure.savefig(tmp_path / "quality.png")
    assert ks.plot_signal_quality(quality, ax=figure.add_subplot()) is figure
    with pytest.raises(ks.BadInputError, match="this lacks highest, lowest"):
        ks.plot_signal_quality(quality.drop(columns=["lowest", "highest"]))


def test_the_model_is_left_alone(x: np.ndarray) -> None:
    made = model()
    before = [weight.copy() for weight in made.get_weights()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = ks.Patterns.fit(made, x)
        ks.signal_quality(made, patterns, np.concatenate([x] * 4))
    assert all(np.array_equal(a, b) for a, b in zip(before, made.get_weights(), strict=True))
