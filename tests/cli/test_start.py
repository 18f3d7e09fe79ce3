"""The command starts quickly, without Keras, and its help is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.backend_free
COMMANDS = ("explain", "inspect", "methods", "report", "demo")
HEAVY = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "pandas",
    "xarray",
    "zarr",
    "scipy",
    "bokeh",
    "matplotlib",
)


@pytest.mark.parametrize("args", [["--help"], ["explain", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    """What makes a command slow to start is what it imports; seconds would depend on the machine."""
    code = (
        "import atexit, sys\n"
        f"heavy = {HEAVY!r}\n"
        "say = lambda: sys.stderr.write('imported: ' + str([m for m in heavy if m in sys.modules]))\n"
        "atexit.register(say)\n"
        f"sys.argv = ['kerascope', *{args!r}]\n"
        "from kerascope.cli.main import main\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "imported: []")
    assert "kerascope" in ran.stdout


def test_every_command_has_help_and_an_example(run: Run) -> None:
    top = run("--help")
    assert top.status == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", top.out)
        one = run(name, "--help")
        assert one.status == 0
        assert f"Example: kerascope {name}" in one.out


def test_no_words_shows_the_help(run: Run) -> None:
    ran = run()
    assert "Usage: kerascope" in ran.out + ran.err


def test_version(run: Run) -> None:
    ran = run("--version")
    assert (ran.status, ran.err) == (0, "")
    assert re.fullmatch(rf"kerascope \d+\.\d+\S* \(keras {re.escape(version('keras'))}\)\n", ran.out)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["explan"], "No such command"),
        (["explain"], "Missing argument"),
        (["explain", "m.keras", "x.npy", "--nonsense"], "No such option"),
        (["explain", "m.keras", "x.npy", "--batch-size", "0"], "--batch-size"),
        (["explain", "m.keras", "x.npy", "--samples", "a"], "is no range of samples"),
        (["explain", "m.keras", "x.npy", "--dims", "a,,b"], "is no list of different names"),
        (["report"], "Missing argument"),
    ],
)
def test_wrong_usage(run: Run, args: list[str], says: str) -> None:
    ran = run(*args)
    assert ran.status == 2
    assert ran.out == ""
    assert says in ran.err


def test_python_m(tmp_path: object) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "kerascope.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert ran.stdout.startswith("kerascope ")
