"""What the commands share when they talk to the terminal: results on stdout, all else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.console import Console

from kerascope.cli.backend import use_installed_backend
from kerascope.errors import KerascopeError


def stdout() -> Console:
    """Return the console for results; names are shown as they are, brackets and all."""
    return Console(markup=False, highlight=False)


def note(text: str, *, quiet: bool = False) -> None:
    """Say something on stderr."""
    if not quiet:
        typer.echo(text, err=True)


def start_backend(*, quiet: bool = False) -> None:
    """Choose an installed backend, say which where the user would expect another, and import Keras."""
    choice = use_installed_backend()
    if choice.note is not None:
        note(f"Backend: {choice.name}. {choice.note[0].upper()}{choice.note[1:]}.", quiet=quiet)
    import keras  # noqa: F401  # here, so that nothing is imported on another backend


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Keep stdout for the JSON: whatever a library prints meanwhile goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that JSON does not have become null."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value of dicts, lists, text, numbers, true, false and null."""
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@contextlib.contextmanager
def progress_bar(text: str, *, quiet: bool) -> Iterator[Callable[[float, int], None]]:
    """Show a bar with the time left on stderr, where that is a terminal; give a function (done, total)."""
    console = Console(stderr=True, markup=False)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), TaskProgressColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def wrong_usage(error: KerascopeError, hint: str) -> typer.BadParameter:
    """Return a library error as wrong usage of an option."""
    return typer.BadParameter(str(error), param_hint=hint)
