"""`load_model` and files built to harm: nothing in a file runs, leads elsewhere, or fills the memory."""

from __future__ import annotations

import base64
import io
import marshal
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from kerascope.errors import UnknownNameError, UnsafeModelError
from kerascope.model import load
from kerascope.model.load import load_model
from tests.unit.model.model_files import (
    Config,
    layer,
    outputs,
    rewritten,
    rewritten_h5,
    save_h5,
    small,
    with_extra,
)

layers = keras.layers


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    small().save(path)
    return path


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where Keras is asked to load: the refusal must come before."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the file reached Keras")

    monkeypatch.setattr(keras.saving, "load_model", refuse)


# Code in files ------------------------------------------------------------------------


def lambda_model() -> keras.Model:
    return keras.Sequential([keras.Input((6, 3)), layers.Lambda(lambda x: x * 2.0, output_shape=(6, 3), name="twice")])


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_python_lambdas_only_when_asked_for_by_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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

    with pytest.raises(UnsafeModelError, match=r"declares 2,125,0.* weights \(7\.9 GiB\).*head.*\(16, 125000000\)"):
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
