"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="A .keras or .h5 file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe", help="Run code that the model file holds. Only for files you trust."),
]
CustomObjects = Annotated[
    list[Path] | None,
    typer.Option("--custom-objects", help="Python file that defines the model's own layers; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
