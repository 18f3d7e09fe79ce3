"""`kerascope report`: saved explanations to one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerascope.cli import options as opt


def report(
    stores: Annotated[list[Path], typer.Argument(help="Zarr stores that 'explain --out' wrote.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Heading; without one the model is named.")] = None,
    force: opt.Force = False,
) -> None:
    """Write one self-contained HTML report of saved explanations of the same samples.

    Example: `kerascope report maps/lrp.zarr maps/gradient.zarr --out report.html`
    """
    from kerascope.cli import outputs, terminal

    outputs.check_file(out, force=force)
    terminal.start_backend()
    from kerascope.explanation import open_explanation
    from kerascope.report import report as write_report

    explanations = [open_explanation(store) for store in stores]
    write_report(explanations, out, title=title, overwrite=force)
    terminal.stdout().print(f"Report {out}", soft_wrap=True)
