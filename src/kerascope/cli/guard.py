"""What happens when a command fails: one clear line and an exit status, never a traceback.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by the user.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from kerascope.errors import (
    BadTargetError,
    KerascopeError,
    MissingBaselineError,
    MissingPatternsError,
    OutputExistsError,
)

TRACEBACK = "KERASCOPE_TRACEBACK"
"""Environment variable: set to 1, failures show their traceback as well."""

# Typer and its parser raise these themselves and print them well: wrong usage, exits, --help.
_PARSER_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

# The library's messages name Python arguments; these say the same for the command line.
# Kind of error, a word in its message ("" for any), what to say.
_HINTS: tuple[tuple[type[KerascopeError], str, str], ...] = (
    (BadTargetError, "ks.Output", "On the command line: --target cell:3,4,0."),
    (BadTargetError, "output=", "On the command line: --target 0@HEAD, with the output's name for HEAD."),
    (MissingPatternsError, "", "On the command line: kerascope fit-patterns, then --patterns FILE."),
    (MissingBaselineError, "low=", "On the command line: --option low=0 --option high=1."),
    (MissingBaselineError, "", "On the command line: --background FILE, or --baseline zeros."),
    (OutputExistsError, "", "On the command line: --force replaces it."),
)


class Guarded(TyperGroup):
    """A group of commands whose failures are told to people."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn every failure into a message on stderr and an exit status."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, _PARSER_ERROR, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _say("Stopped. Nothing half-written is left behind.")
            raise typer.Exit(130) from None
        except Exception as error:
            _say(f"Error: {describe(error)}", error)
            raise typer.Exit(1) from error


def describe(error: BaseException) -> str:
    """Return in one paragraph what went wrong and what to do."""
    if isinstance(error, KerascopeError):
        text = str(error)
        hint = next((h for kind, word, h in _HINTS if isinstance(error, kind) and word in text), "")
        return text if not hint or "--" in text else f"{text} {hint}"
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return "The memory was not enough. Try a smaller --batch-size, or fewer samples (--samples 0:10)."
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        return f"The system refused access to a file{place}: {error.strerror or error}."
    message = " ".join(str(error).split()) or "no message"
    return (
        f"{type(error).__name__}: {message}\nThis is a bug in kerascope: please report it. "
        f"{TRACEBACK}=1 before the command shows where it happened."
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a backend ran out of memory; each has a class of its own for that."""
    return "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ in (
        "OutOfMemoryError",
        "ResourceExhaustedError",
    )


def _say(text: str, error: BaseException | None = None) -> None:
    """Write to stderr, with the traceback where it is asked for."""
    if error is not None and os.environ.get(TRACEBACK, "") not in ("", "0"):
        typer.echo("".join(traceback.format_exception(error)), err=True)
    typer.echo(text, err=True)


def prepare_process() -> None:
    """Set up the process for the command line: quiet backends, safe output, cleaning up when terminated."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode shows '?', and the command goes on
            stream.reconfigure(errors="replace")
    # So that `finally` runs and temporary folders go: by default the process would just end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
