"""`load_model`: what loads, what is refused and why, and that nothing in a file runs or fills the memory."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import marshal
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from kerascope.errors import BadInputError, KerascopeError, UnknownNameError, UnsafeModelError
from kerascope.model import load
from kerascope.model.load import load_model

Config = dict[str, Any]
layers = keras.layers


def small() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Conv1D(4, 3, activation="relu"),
            layers.Dropout(0.1),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )


def outputs(model: keras.Model) -> np.ndarray:
    x = np.linspace(-1, 1, 36, dtype="float32").reshape(2, 6, 3)
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    small().save(path)
    return path


def save_h5(model: keras.Model, path: Path) -> Path:
    model.save(path)  # warns through absl, not through warnings
    return path


def rewritten(source: Path, edit: Callable[[Config], Any], name: str = "edited.keras") -> Path:
    """Return a copy of a .keras archive with its config.json edited."""
    target = source.parent / name
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "config.json":
                config = json.loads(content)
                content = json.dumps(edit(config) or config).encode()
            new.writestr(entry, content)
    return target


def rewritten_h5(path: Path, edit: Callable[[Config], Any]) -> Path:
    """Edit the architecture in an HDF5 model file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config = edit(config) or config
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)
    return path


def layer(config: Config, class_name: str) -> Config:
    return next(item for item in config["config"]["layers"] if item["class_name"] == class_name)


def with_extra(source: Path, name: str, content: bytes, **entry: Any) -> Path:
    """Return a copy of an archive with one more member."""
    target = source.parent / "extra.keras"
    target.write_bytes(source.read_bytes())
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = entry.get("external_attr", 0)
        archive.writestr(info, content)
    return target


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where Keras is asked to load: the refusal must come before."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the file reached Keras")

    monkeypatch.setattr(keras.saving, "load_model", refuse)


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
    model = keras.Sequential(
        [keras.Input((6, 3)), layers.Flatten(name="flatten"), layers.Dense(2, name="head")]
    )
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

    with pytest.raises(
        BadInputError, match=r"Keras .* cannot build the model in .* \(written by Keras"
    ) as caught:
        load_model(rewritten(saved, edit))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


# Code in files ------------------------------------------------------------------------


def lambda_model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6, 3)), layers.Lambda(lambda x: x * 2.0, output_shape=(6, 3), name="twice")]
    )


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_python_lambdas_only_when_asked_for_by_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lambda_model().save(tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr(keras.saving, "load_model", lambda *a, **k: pytest.fail("reached Keras"))
        with pytest.raises(UnsafeModelError, match=r"'twice' holds Python code.*unsafe=True.*--unsafe"):
            load_model(tmp_path / name)
    loaded = load_model(tmp_path / name, unsafe=True)
    np.testing.assert_allclose(outputs(loaded), outputs(lambda_model()))


def test_a_lambda_hidden_deep_in_the_file(saved: Path, never_built: None) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "AAAA", "defaults": None, "closure": None}}
    for place in ("kernel_initializer", "activation", "anything"):

        def edit(config: Config, place: str = place) -> None:
            layer(config, "Dense")["config"][place] = [{"deeper": code}]

        with pytest.raises(UnsafeModelError, match="'head' holds Python code"):
            load_model(rewritten(saved, edit))


def test_the_code_of_an_old_lambda_layer_never_runs(tmp_path: Path) -> None:
    """Keras 2 kept marshalled code in a list; some releases of Keras 3 run it whatever safe_mode says."""
    flag = tmp_path / "the code ran"
    source = f"lambda x: (open({str(flag)!r}, 'w').close(), x)[1]"
    code = base64.b64encode(marshal.dumps(compile(source, "<s>", "eval").co_consts[0])).decode()
    path = save_h5(lambda_model(), tmp_path / "m.h5")

    def edit(config: Config) -> None:
        old = {"function": [code, None, None], "function_type": "lambda"}
        layer(config, "Lambda")["config"].update(old)

    with pytest.raises(UnsafeModelError, match="'twice' holds Python code"):
        load_model(rewritten_h5(path, edit))
    assert not flag.exists()


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ({"module": "builtins", "class_name": "function", "config": "exec"}, UnknownNameError, "'exec'"),
        ({"module": "os", "class_name": "function", "config": "system"}, UnknownNameError, "'system'"),
        (
            {"module": "keras.utils", "class_name": "function", "config": "get_file"},
            UnsafeModelError,
            "get_file",
        ),
        (
            {"module": "keras.models", "class_name": "load_model", "config": {}},
            UnsafeModelError,
            "load_model",
        ),
        (
            {"module": "keras.src.utils.python_utils", "class_name": "X", "config": {}},
            UnsafeModelError,
            "utils",
        ),
        (
            {"module": "subprocess", "class_name": "Popen", "config": {"args": "x"}},
            UnknownNameError,
            "'Popen'",
        ),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {}}, UnsafeModelError, "SavedModel"),
        (
            {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}},
            UnsafeModelError,
            "pickled PyTorch",
        ),
        (
            {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
            UnsafeModelError,
            "reads a file of this machine",
        ),
    ],
)
def test_functions_and_classes_that_are_no_part_of_a_model(
    saved: Path, never_built: None, reference: Config, error: type[Exception], says: str
) -> None:
    def edit(config: Config) -> None:
        layer(config, "Dense")["config"]["activation"] = reference

    with pytest.raises(error, match=says):
        load_model(rewritten(saved, edit))


def test_pickled_weights_are_not_opened(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "npz.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("config.json", old.read("config.json"))
        new.writestr("model.weights.npz", b"")
    with pytest.raises(UnsafeModelError, match="can hold pickled code"):
        load_model(path)


# Archives built to harm ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:/evil", "..\\evil"])
def test_names_that_leave_the_archive(saved: Path, never_built: None, name: str) -> None:
    with pytest.raises(UnsafeModelError, match="leads out of the archive"):
        load_model(with_extra(saved, name, b"x"), unsafe=True)


def test_links_in_an_archive(saved: Path, never_built: None) -> None:
    path = with_extra(saved, "assets", b"/etc", external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(UnsafeModelError, match="leads out of the archive"):
        load_model(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(saved: Path, never_built: None) -> None:
    with pytest.raises(UnsafeModelError, match=r"holds 'config\.json' twice"):
        load_model(with_extra(saved, "config.json", b"{}"))


def test_decompression_bombs(saved: Path, never_built: None) -> None:
    with pytest.raises(UnsafeModelError, match="decompression bomb"):
        load_model(with_extra(saved, "assets/zeros", bytes(80 * 2**20)))


def edited_weights(saved: Path, edit: Callable[[h5py.File], None]) -> Path:
    """Return a copy of an archive with its weights file edited."""
    target = saved.parent / "weights.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "model.weights.h5":
                buffer = io.BytesIO(content)
                with h5py.File(buffer, "r+") as file:
                    edit(file)
                content = buffer.getvalue()
            new.writestr(entry, content)
    return target


def test_weights_that_claim_more_than_they_store(saved: Path, never_built: None) -> None:
    def edit(file: h5py.File) -> None:
        file.create_dataset("huge", shape=(10**9,), dtype="f4", chunks=(10**6,), compression="gzip")

    with pytest.raises(UnsafeModelError, match=r"/huge of shape \(1000000000,\) claims 4,000,000,000 bytes"):
        load_model(edited_weights(saved, edit))


def test_weights_that_link_elsewhere(saved: Path, never_built: None, tmp_path: Path) -> None:
    def external(file: h5py.File) -> None:
        file["layers/dense/vars/stolen"] = h5py.ExternalLink("/etc/other.h5", "/x")

    def soft(file: h5py.File) -> None:
        file["soft"] = h5py.SoftLink("/layers")

    def outside(file: h5py.File) -> None:
        file.create_dataset("out", shape=(4,), dtype="f4", external=[(str(tmp_path / "raw"), 0, 16)])

    for edit, says in ((external, "is a link"), (soft, "is a link"), (outside, "from another file")):
        with pytest.raises(UnsafeModelError, match=says):
            load_model(edited_weights(saved, edit))


def test_a_group_linked_into_itself_ends(saved: Path) -> None:
    def edit(file: h5py.File) -> None:
        file["again"] = file["/"]

    load_model(edited_weights(saved, edit))


# Sizes --------------------------------------------------------------------------------


def test_a_layer_that_asks_for_eight_gigabytes(saved: Path, never_built: None) -> None:
    def edit(config: Config) -> None:
        layer(config, "Dense")["config"]["units"] = 125_000_000

    with pytest.raises(
        UnsafeModelError, match=r"declares 2,125,0.* weights \(7\.9 GiB\).*head.*\(16, 125000000\)"
    ):
        load_model(rewritten(saved, edit))


def test_eight_gigabytes_by_way_of_the_input_shape(saved: Path, never_built: None) -> None:
    def edit(config: Config) -> None:
        layer(config, "InputLayer")["config"]["batch_shape"] = [None, 10**9, 3]
        for item in config["config"]["layers"]:
            item.pop("build_config", None)

    with pytest.raises(UnsafeModelError, match=r"declares .* but stores"):
        load_model(rewritten(saved, edit))


def test_eight_gigabytes_in_hdf5(tmp_path: Path, never_built: None) -> None:
    path = save_h5(small(), tmp_path / "m.h5")

    def edit(config: Config) -> None:
        layer(config, "Dense")["config"]["units"] = 125_000_000

    with pytest.raises(UnsafeModelError, match=r"declares 2,125,0.* weights"):
        load_model(rewritten_h5(path, edit))


def test_what_the_size_check_builds_is_gone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables made without memory must not get it later, when some other stateless scope is left."""
    made: list[Any] = []
    real = load._from_config

    def spy(*args: Any) -> keras.Model:
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(load, "_from_config", spy)
    load_model(saved)
    with keras.StatelessScope():
        pass
    assert made[0].count_params() > 0
    assert all(v._value is None for v in made[0].variables)


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

    with pytest.raises(
        UnknownNameError, match=r"'HyperDropout'.*The file was written by Keras .*; this is Keras"
    ):
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
