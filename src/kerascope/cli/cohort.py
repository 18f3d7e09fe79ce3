"""`kerascope cohort`: what the evidence of many samples has in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascope.cli import options as opt

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from kerascope.evidence.cohort import Cohort

_TOP = 6
"""Lines of each table that are printed; all with --json."""
Store = Annotated[Path, typer.Argument(help="What 'kerascope evidence --out' saved.", show_default=False)]
Labels = Annotated[
    str | None, typer.Option(help="FILE with the group of each sample; else the class it was explained for.")
]
Draws = Annotated[int, typer.Option(min=1, help="Permutations and bootstrap samples.")]
Ordered = Annotated[str | None, typer.Option(help="The axes along which neighbours join into clusters, as time.")]


def cohort(
    store: Store,
    labels: Labels = None,
    draws: Draws = 1000,
    ordered: Ordered = None,
    report: opt.Report = None,
    seed: opt.Seed = 0,
    json: opt.Json = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
) -> None:
    """Say what is common to a class: how often each line is called, where its stretches lie, what stands out.

    Example: `kerascope cohort evidence.zarr --draws 2000 --report classes.html`
    """
    from kerascope.cli import io, outputs, parse, terminal

    chosen = parse.dims(ordered)
    inputs: list[str | Path] = [store, *([labels] if labels else [])]
    place = outputs.plan(None, report, ["cohort"], force=force, inputs=inputs).report
    with terminal.only_json(json):
        terminal.start_backend(quiet=quiet)
        from kerascope.errors import BadInputError
        from kerascope.evidence.cohort import cohort as find
        from kerascope.evidence.record import Evidence
        from kerascope.opening import open as open_store

        evidence = open_store(store)
        if not isinstance(evidence, Evidence):
            raise BadInputError(f"{store} holds maps, not evidence: save it with 'kerascope evidence … --out'.")
        groups = None if labels is None else io.read_names(labels, "--labels")
        found = find(evidence, groups, draws=draws, ordered=chosen, seed=seed)
        if place:
            found.report(place, overwrite=force)
    if json:
        names = ("lines", "segments", "clusters", "differences")
        tables = {name: getattr(found, name).to_dict("records") for name in names}
        terminal.print_json({**tables, "report": str(place) if place else None})
        return
    _print(found)
    if place:
        terminal.stdout().print(f"\nReport {place}", soft_wrap=True)


def _print(found: Cohort) -> None:
    from rich.text import Text

    from kerascope.cli import terminal
    from kerascope.errors import counted
    from kerascope.evidence.classes import differing, group_name, of_group, outstanding

    console = terminal.stdout()
    for label in found.maps:
        count = int((found.labels == label).sum())
        console.print()
        console.print(Text(f"{group_name(found, label)}: {counted(count, 'sample')}", style="bold"))
        for dim, part in of_group(found.lines, label).groupby("dim", sort=False):
            called = part[part["called"] > 0]
            console.print(_table(f"{dim}", called, _line)) if len(called) else console.print(f"  no {dim} is called")
        for title, part, row in (
            ("stretches", of_group(found.segments, label), _segment),
            ("cells that stand out at fixed places", outstanding(found, label), _cluster),
        ):
            if len(part):
                console.print(_table(title, part, row))
    between = differing(found)
    if len(between):
        console.print()
        console.print(_table("where the two groups differ", between, _cluster))


def _table(title: str, part: pd.DataFrame, row: Any) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", show_header=True)
    table.add_column(f"  {title}")
    table.add_column("")
    for line in part.head(_TOP).to_dict("records"):
        table.add_row(*row(line))
    if len(part) > _TOP:
        table.add_row(f"  and {len(part) - _TOP} more", "")
    return table


def _line(line: dict[Any, Any]) -> tuple[str, str]:
    from kerascope.view.text import number, percent

    often = f"{percent(line['share'])} ({percent(line['share_low'])} to {percent(line['share_high'])})"
    mean = f"mean sum {number(line['sum'], signed=True)} ({number(line['sum_low'])} to {number(line['sum_high'])})"
    return f"  {line['name']}", f"called in {often}; {mean}"


def _segment(line: dict[Any, Any]) -> tuple[str, str]:
    from kerascope.view.text import number

    where = f"start {line['start']:g} ({line['start_low']:g} to {line['start_high']:g})"
    length = f"length {line['length']:g} ({line['length_low']:g} to {line['length_high']:g})"
    mean = number(line["sign"] * line["score"], signed=True)
    return f"  {line['name']}, along {line['dim']}", f"{line['count']} times; {where}, {length}; mean {mean}"


def _cluster(line: dict[Any, Any]) -> tuple[str, str]:
    from kerascope.view.text import number

    ends = [key.removesuffix("_first") for key in line if key.endswith("_first")]
    where = ", ".join(f"{dim} {line[f'{dim}_first']} to {line[f'{dim}_last']}" for dim in ends)
    return f"  {where}", f"p = {line['p']:.2g}, {line['cells']} cells, mean {number(line['mean'], signed=True)}"
