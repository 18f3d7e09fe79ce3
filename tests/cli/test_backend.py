"""Which backend the command line takes, without importing one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from kerascope.cli import backend
from kerascope.cli.backend import choose_backend, is_installed, use_installed_backend
from kerascope.errors import BackendError

pytestmark = pytest.mark.backend_free
NOWHERE = Path("/nowhere/keras.json")


def only(*names: str) -> dict[str, object]:
    return {"installed": lambda name: name in names}


def config(folder: Path, text: str) -> Path:
    (folder / "keras.json").write_text(text)
    return folder / "keras.json"


def test_what_the_user_set_is_kept(tmp_path: Path) -> None:
    named = config(tmp_path, '{"backend": "torch"}')
    choice = choose_backend({"KERAS_BACKEND": "jax"}, named, **only("jax", "torch", "tensorflow"))
    assert (choice.name, choice.note) == ("jax", None)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("torch", "KERAS_BACKEND is 'torch', which is not installed here. Installed: jax."),
        (
            "numpy",
            "KERAS_BACKEND is 'numpy', but kerascope runs on tensorflow, jax, torch only. Installed: jax.",
        ),
    ],
)
def test_what_the_user_set_and_cannot_be(wanted: str, says: str) -> None:
    with pytest.raises(BackendError) as caught:
        choose_backend({"KERAS_BACKEND": wanted}, NOWHERE, **only("jax"))
    assert str(caught.value) == f"{says} Set KERAS_BACKEND to one of these, or unset it."


def test_the_configured_one_is_kept(tmp_path: Path) -> None:
    named = config(tmp_path, '{"backend": "torch"}')
    choice = choose_backend({"KERAS_BACKEND": ""}, named, **only("tensorflow", "torch"))
    assert (choice.name, choice.note) == ("torch", None)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"backend": "torch"}', "names 'torch', which is not installed here"),
        ('{"backend": "openvino"}', "names 'openvino', on which kerascope does not run"),
        ("{", "tensorflow, the default of Keras, is not installed here"),
        ('{"backend": 3}', "tensorflow, the default of Keras, is not installed here"),
        ("[]", "tensorflow, the default of Keras, is not installed here"),
    ],
)
def test_an_installed_one_in_place_of_the_configured(tmp_path: Path, text: str, note: str) -> None:
    choice = choose_backend({}, config(tmp_path, text), **only("jax"))
    assert choice.name == "jax"
    assert choice.note is not None
    assert choice.note.endswith(note)


def test_without_any_wish_the_default_of_keras_first() -> None:
    assert choose_backend({}, NOWHERE, **only("jax", "torch", "tensorflow")) == backend.Choice("tensorflow")
    assert choose_backend({}, NOWHERE, **only("torch")).name == "torch"


def test_none_installed() -> None:
    with pytest.raises(BackendError, match=r"none is installed here.*pip install 'kerascope\[jax\]'"):
        choose_backend({"KERAS_BACKEND": "jax"}, NOWHERE, **only())


def test_installed_means_all_modules_and_no_bare_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    real = backend.find_spec

    def spec(name: str) -> object:
        if name == "jaxlib":
            return None
        if name == "torch":
            return types.SimpleNamespace(origin=None)  # a folder named torch lies about
        return real("json")

    monkeypatch.setattr(backend, "find_spec", spec)
    assert [is_installed(name) for name in ("tensorflow", "jax", "torch")] == [True, False, False]


def test_a_module_without_a_spec_counts_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # its __spec__ is None
    assert is_installed("torch")


def test_too_late_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setattr(backend, "choose_backend", lambda *a: pytest.fail("chose all the same"))
    assert use_installed_backend().name == "torch"


def test_where_keras_looks_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend._config_file({"KERAS_HOME": str(tmp_path)}) == tmp_path / "keras.json"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backend._config_file({}) == tmp_path / ".keras" / "keras.json"
    monkeypatch.setattr(os, "access", lambda *a: False)
    assert backend._config_file({}) == Path("/tmp/.keras/keras.json")


@pytest.mark.parametrize("named", ["plaidml", "jax"])
def test_a_real_process_takes_one_says_so_and_imports_none(tmp_path: Path, named: str) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": named}))
    environ = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"KERAS_HOME": str(tmp_path)}
    code = (
        "import os, sys\n"
        "from kerascope.cli.backend import use_installed_backend\n"
        "choice = use_installed_backend()\n"
        "print(choice.name, os.environ['KERAS_BACKEND'], choice.note)\n"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch', 'numpy') if m in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    chosen, imported = ran.stdout.splitlines()
    expected = "jax jax None" if named == "jax" else "'plaidml', on which kerascope does not run"
    assert chosen.endswith(expected)
    assert imported == "[]"
