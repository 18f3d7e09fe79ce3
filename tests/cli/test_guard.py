"""Failures become one clear line and an exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from kerascope.cli.guard import Guarded, describe
from kerascope.errors import (
    BadInputError,
    KerascopeError,
    MissingBaselineError,
    OutputExistsError,
    unknown_name,
)

pytestmark = pytest.mark.backend_free


def invoke(action: Callable[[], None]) -> tuple[int, str, str]:
    app = typer.Typer(cls=Guarded, pretty_exceptions_enable=False)

    @app.callback()
    def top() -> None:
        """Several commands."""

    @app.command()
    def go() -> None:
        action()

    result = CliRunner().invoke(app, ["go"])
    return result.exit_code, result.stdout, result.stderr


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_library_errors_are_one_line_and_status_1() -> None:
    assert invoke(raising(BadInputError("x is odd. Give another."))) == (
        1,
        "",
        "Error: x is odd. Give another.\n",
    )
    assert invoke(raising(unknown_name("dim", "tme", ["time"])))[0] == 1


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (MissingBaselineError("Needs low= and high=."), "--option low=0 --option high=1."),
        (MissingBaselineError("Give background=…"), "--background FILE, or --baseline zeros."),
        (OutputExistsError("It exists."), "--force replaces it."),
    ],
)
def test_words_of_python_get_those_of_the_command_line(error: KerascopeError, ending: str) -> None:
    assert describe(error) == f"{error} On the command line: {ending}"


def test_no_hint_twice() -> None:
    assert describe(OutputExistsError("It exists: --force replaces it.")) == "It exists: --force replaces it."


def test_bugs_ask_to_be_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERASCOPE_TRACEBACK", raising=False)
    status, out, err = invoke(raising(ZeroDivisionError("division\nby zero")))
    assert (status, out) == (1, "")
    assert err == (
        "Error: ZeroDivisionError: division by zero\nThis is a bug in kerascope: please report it. "
        "KERASCOPE_TRACEBACK=1 before the command shows where it happened.\n"
    )
    monkeypatch.setenv("KERASCOPE_TRACEBACK", "1")
    _, _, err = invoke(raising(ZeroDivisionError("x")))
    assert "Traceback (most recent call last)" in err
    assert "in action" in err


def test_the_system_and_the_memory() -> None:
    full = OSError(28, os.strerror(28), "maps.zarr")
    assert describe(full) == "The system refused access to a file maps.zarr: No space left on device."

    class ResourceExhaustedError(Exception):
        pass

    for error in (MemoryError(), ResourceExhaustedError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")):
        assert describe(error).startswith("The memory was not enough. Try a smaller --batch-size")


def test_stopped_by_the_user() -> None:
    assert invoke(raising(KeyboardInterrupt())) == (
        130,
        "",
        "Stopped. Nothing half-written is left behind.\n",
    )


def test_exits_and_wrong_usage_pass() -> None:
    assert invoke(raising(typer.Exit(5)))[0] == 5
    status, _, err = invoke(raising(typer.BadParameter("no such thing", param_hint="--x")))
    assert status == 2
    assert "no such thing" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_real_process_that_is_stopped_cleans_up(tmp_path: Path, number: int, status: int) -> None:
    code = (
        "import sys, tempfile, time, typer\n"
        "from kerascope.cli import main as m\n"
        "def sleep() -> None:\n"
        f"    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(30)\n"
        "m.app.command()(sleep)\n"
        "sys.argv = ['kerascope', 'sleep']\n"
        "m.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """`kerascope … | head` ends without a word."""
    code = (
        "import sys\n"
        "from kerascope.cli import main as m\n"
        "def flood() -> None:\n"
        "    for i in range(100000): print('line', i)\n"
        "m.app.command()(flood)\n"
        "sys.argv = ['kerascope', 'flood']\n"
        "m.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=20) == 1


def test_arrays_are_numbers_for_json() -> None:
    from kerascope.cli.terminal import plain

    value = {"a": np.float32(1.5), "b": np.array([1, 2]), "c": float("nan"), 3: (np.int64(1), None, True)}
    assert plain(value) == {"a": 1.5, "b": [1, 2], "c": None, "3": [1, None, True]}
    assert plain({"x": object}) == {"x": "<class 'object'>"}
