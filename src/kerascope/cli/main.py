"""The `kerascope` command: its commands, and nothing heavy at the top, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from kerascope.cli.cohort import cohort
from kerascope.cli.demo import demo
from kerascope.cli.evidence import evidence
from kerascope.cli.explain import explain
from kerascope.cli.fit_patterns import fit_patterns
from kerascope.cli.guard import Guarded, prepare_process
from kerascope.cli.inspect import inspect
from kerascope.cli.methods import methods
from kerascope.cli.report import report

app = typer.Typer(
    name="kerascope",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from kerascope._version import __version__

        typer.echo(f"kerascope {__version__} (keras {version('keras')})")
        raise typer.Exit


@app.callback()
def kerascope(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Which rows, columns and stretches of a matrix made a Keras model say this class?

    Exit status: 0 done, 1 failed, 2 wrong usage. KERAS_BACKEND chooses tensorflow, jax or torch.
    """


app.command()(explain)
app.command()(evidence)
app.command()(cohort)
app.command(name="fit-patterns")(fit_patterns)
app.command()(inspect)
app.command()(methods)
app.command()(report)
app.command()(demo)


def main() -> None:
    """Run the command line."""
    prepare_process()
    app(prog_name="kerascope")
