"""`--custom-objects module.py`: the user's own classes and functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kerascope.cli.custom import load_custom_objects
from kerascope.errors import BadInputError

pytestmark = pytest.mark.backend_free


def module(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_what_a_file_defines_and_imports(tmp_path: Path) -> None:
    module(tmp_path, "class Beside: pass\n", "beside.py")
    path = module(
        tmp_path,
        "import os\nfrom numpy import ndarray\nfrom typing import Any\nfrom beside import Beside\n"
        "LIMIT = 3\nclass Mine: pass\ndef bend(x): return x\n",
    )
    before = list(sys.path)
    assert set(load_custom_objects([path])) == {"Beside", "Mine", "bend"}
    assert sys.path == before
    assert load_custom_objects([]) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("LIMIT = 3", r"mine\.py defines no class and no function"),
        ("x = 1\nimport nowhere_at_all\n", r"mine\.py fails in line 2: ModuleNotFoundError: No module named"),
        ("def f(:\n", r"mine\.py fails in line 1: SyntaxError"),
        ("def f():\n    1 / 0\nf()\n", r"mine\.py fails in line 2: ZeroDivisionError"),
    ],
)
def test_files_that_fail(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        load_custom_objects([module(tmp_path, text)])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"there is no file .*none\.py"):
        load_custom_objects([tmp_path / "none.py"])
    with pytest.raises(BadInputError, match=r"is not a Python file; its name must end in \.py"):
        load_custom_objects([module(tmp_path, "", "mine.txt")])
