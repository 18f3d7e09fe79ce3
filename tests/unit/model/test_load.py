"""`load_model`: what loads, and what files that are no models, or not wholly, are told."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from kerascope.errors import BadInputError, KerascopeError, UnknownNameError
from kerascope.model.load import load_model
from tests.unit.model.model_files import (
    Config,
    layer,
    outputs,
    rewritten,
    rewritten_h5,
    save_h5,
    small,
)

layers = keras.layers


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    small().save(path)
    return path


# What loads ---------------------------------------------------------------------------


def test_a_model_is_returned_as_it_is() -> None:
    model = small()
    assert load_model(model) is model


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.hdf5"])
def test_files_give_the_same_outputs(tmp_path: Path, name: str) -> None:
    model = small()
    model.save(tmp_path / name)
    loaded = load_model(tmp_path / name)
    np.testing.assert_array_equal(outputs(loaded), outputs(model))
    assert not loaded.compiled
    np.testing.assert_array_equal(outputs(load_model(str(tmp_path / name))), outputs(model))


@pytest.mark.parametrize(("saved_as", "named"), [("m.h5", "n.keras"), ("m.keras", "n.zip"), ("m.h5", "n")])
def test_the_content_decides_not_the_name(tmp_path: Path, saved_as: str, named: str) -> None:
    model = small()
    model.save(tmp_path / saved_as)
    (tmp_path / saved_as).rename(tmp_path / named)
    np.testing.assert_array_equal(outputs(load_model(tmp_path / named)), outputs(model))


def test_a_custom_loss_is_not_needed(tmp_path: Path) -> None:
    def my_loss(y: Any, p: Any) -> Any:
        return keras.ops.mean((y - p) ** 2)

    model = small()
    model.compile("adam", my_loss)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(load_model(tmp_path / "m.keras")), outputs(model))


def test_functional_with_operations_nested_and_shared(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="inner_dense")])
    x = keras.Input((6, 3))
    y = keras.ops.mean(x, axis=1)
    y = layers.Add()([inner(y), inner(y[:, :3])]) * 2.0
    model = keras.Model(x, layers.Lambda(keras.ops.relu)(y))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(load_model(tmp_path / "m.keras")), outputs(model))


def test_keras_2_hdf5(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6, 3)), layers.Flatten(name="flatten"), layers.Dense(2, name="head")])
    path = save_h5(model, tmp_path / "old.h5")

    def as_keras_2(config: Config) -> Config:
        start = {"name": "input_1", "batch_input_shape": [None, 6, 3], "dtype": "float32", "sparse": False}
        initializer = {"class_name": "Zeros", "config": {}}
        dense = {"name": "head", "units": 2, "activation": "linear", "kernel_initializer": initializer}
        stack = [
            {"class_name": "InputLayer", "config": start},
            {"class_name": "Flatten", "config": {"name": "flatten", "data_format": "channels_last"}},
            {"class_name": "Dense", "config": dense},
        ]
        return {"class_name": "Sequential", "config": {"name": "s", "layers": stack}}

    rewritten_h5(path, as_keras_2)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = b"2.4.0"
    np.testing.assert_allclose(outputs(load_model(path)), outputs(model))


def test_an_object_loaded_that_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small().save(tmp_path / "m.keras")
    monkeypatch.setattr(keras.saving, "load_model", lambda *a, **k: layers.Dense(2))
    with pytest.raises(BadInputError, match="holds a Dense, not a model"):
        load_model(tmp_path / "m.keras")


# Files that are no models -------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "It is empty"),
        (b"\x93NUMPY\x01\x00", "NumPy array"),
        (b"\x80\x04\x95pickle", "pickle, which kerascope never opens"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"hello", r"model\.save\('model\.keras'\)"),
    ],
)
def test_not_a_model_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"m\.keras is not a Keras model file.*{says}"):
        load_model(path)


def test_a_zip_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(BadInputError, match=r"zip archive without config\.json.*PyTorch"):
        load_model(path)


def test_an_architecture_without_weights(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("config.json", old.read("config.json"))
    with pytest.raises(BadInputError, match="an architecture but no weights"):
        load_model(path)


def test_weights_without_an_architecture(tmp_path: Path) -> None:
    small().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(BadInputError, match=r"without an architecture.*Save the whole model"):
        load_model(tmp_path / "m.weights.h5")
    path = save_h5(small(), tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    with pytest.raises(BadInputError, match="an architecture but no weights"):
        load_model(path)


def test_paths_that_lead_nowhere(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no model file .*other\.keras.*Model files there: model\.keras"):
        load_model(tmp_path / "other.keras")
    with pytest.raises(BadInputError, match=r"is a folder, not a Keras model file"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"unpacked \.keras archive.*zip -r"):
        load_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"SavedModel folder.*save it again: model\.save"):
        load_model(tmp_path)
    with pytest.raises(BadInputError, match=r"Expected a Keras model or the path .* not a list"):
        load_model([1])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_an_unreadable_file(saved: Path) -> None:
    saved.chmod(0)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_model(saved)


@pytest.mark.parametrize("text", ["[1]", "{", '"model"', "[" * 100_000])
def test_an_architecture_that_is_no_object(saved: Path, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
    with pytest.raises(BadInputError, match="The architecture in"):
        load_model(path)


def test_damaged_archives_say_so(saved: Path, rng: np.random.Generator, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "damaged.keras"
    for _ in range(60):
        damaged = bytearray(content)
        if rng.random() < 0.5:
            damaged = damaged[: rng.integers(4, len(damaged))]
        else:
            damaged[rng.integers(len(damaged)) :][:20] = b"\xff" * 20
            damaged[rng.integers(4, len(damaged))] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(KerascopeError):  # and nothing else; some bytes do not matter
            load_model(path)


def test_a_cut_hdf5_file(tmp_path: Path) -> None:
    path = save_h5(small(), tmp_path / "m.h5")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInputError, match="damaged or incomplete HDF5 file"):
        load_model(path)


def test_what_keras_cannot_build_is_said_in_one_line(saved: Path) -> None:
    def edit(config: Config) -> None:
        layer(config, "Conv1D")["config"]["filters"] = -1

    with pytest.raises(BadInputError, match=r"Keras .* cannot build the model in .* \(written by Keras") as caught:
        load_model(rewritten(saved, edit))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


# Classes of one's own -----------------------------------------------------------------


class Twice(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 2.0 * x


def bend(x: Any) -> Any:
    return keras.ops.maximum(x, -0.5)


@keras.saving.register_keras_serializable("load_test")
class Thrice(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 3.0 * x


def own_model() -> keras.Model:
    return keras.Sequential([keras.Input((6, 3)), Twice(name="mine"), layers.Dense(2, activation=bend)])


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_custom_layers(tmp_path: Path, name: str) -> None:
    model = own_model()
    model.save(tmp_path / name)
    with pytest.raises(UnknownNameError, match=r"'Twice' \(at 'mine'\)") as caught:
        load_model(tmp_path / name)
    assert "'bend'" in str(caught.value)
    assert "custom_objects={'Twice': Twice}" in str(caught.value)
    assert "--custom-objects module.py" in str(caught.value)
    loaded = load_model(tmp_path / name, custom_objects={"Twice": Twice, "bend": bend})
    np.testing.assert_array_equal(outputs(loaded), outputs(model))


def test_registered_layers_need_nothing_more(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6, 3)), Thrice()])
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(load_model(tmp_path / "m.keras")), outputs(model))


def test_a_class_saved_with_its_package_is_found_by_its_name(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6, 3)), Thrice(name="mine")])
    model.save(tmp_path / "m.keras")

    def edit(config: Config) -> None:
        layer(config, "Thrice")["registered_name"] = "elsewhere>Thrice"

    path = rewritten(tmp_path / "m.keras", edit)
    loaded = load_model(path, custom_objects={"Thrice": Thrice})
    np.testing.assert_array_equal(outputs(loaded), outputs(model))


def test_a_custom_object_scope_counts(tmp_path: Path) -> None:
    own_model().save(tmp_path / "m.keras")
    with keras.saving.custom_object_scope({"Twice": Twice, "bend": bend}):
        load_model(tmp_path / "m.keras")


def test_a_layer_of_another_release(saved: Path) -> None:
    def edit(config: Config) -> None:
        layer(config, "Dropout")["class_name"] = "HyperDropout"

    with pytest.raises(UnknownNameError, match=r"'HyperDropout'.*The file was written by Keras .*; this is Keras"):
        load_model(rewritten(saved, edit))


def test_raw_tensorflow_of_keras_2(tmp_path: Path) -> None:
    path = save_h5(small(), tmp_path / "m.h5")

    def edit(config: Config) -> None:
        layer(config, "Dropout")["class_name"] = "TFOpLambda"

    with pytest.raises(UnknownNameError, match=r"raw TensorFlow calls in Keras 2.*keras\.ops"):
        load_model(rewritten_h5(path, edit))


@pytest.mark.parametrize("objects", [{1: Twice}, {"Twice": 3}])
def test_custom_objects_must_map_names_to_classes(saved: Path, objects: Any) -> None:
    with pytest.raises(BadInputError, match="custom_objects must map names to classes or functions"):
        load_model(saved, custom_objects=objects)
