"""`kerascope inspect`: what a model is made of, what each operation gets, and which methods fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kerascope.cli import options as opt


def inspect(
    model: opt.Model,
    method: Annotated[
        str, typer.Option("--method", "-m", help="The method whose rules are shown: see 'kerascope methods'.")
    ] = "lrp",
    data: Annotated[
        str | None,
        typer.Option(help="FILE[::KEY] of samples, for models that do not say what shape they take."),
    ] = None,
    json: opt.Json = False,
    unsafe: opt.Unsafe = False,
    custom_objects: opt.CustomObjects = None,
    quiet: opt.Quiet = False,
) -> None:
    """Show every primitive operation of a model with the rule it gets, and which methods fit the model.

    Example: `kerascope inspect model.keras --method lrp.epsilon_plus`
    """
    from kerascope.cli import parse, terminal

    with terminal.only_json(json):
        terminal.start_backend(quiet=quiet)
        parse.methods([method])
        found = _look(model, method, data, unsafe=unsafe, custom_objects=custom_objects or [])
    if json:
        terminal.print_json(found)
    else:
        _print(terminal.stdout(), found)


def _look(path: Path, method: str, data: str | None, *, unsafe: bool, custom_objects: Sequence[Path]) -> dict[str, Any]:
    """Return everything that is shown, as plain data."""
    from kerascope._version import __version__
    from kerascope.cli.custom import load_custom_objects
    from kerascope.cli.io import read_array
    from kerascope.errors import KerascopeError, MissingBaselineError
    from kerascope.explain import check, open_session
    from kerascope.model.load import load_model
    from kerascope.registry import METHODS

    model = load_model(path, unsafe=unsafe, custom_objects=load_custom_objects(custom_objects))
    x = None if data is None else read_array(data, inputs=[t.name for t in getattr(model, "inputs", None) or ()])
    session = open_session(model, x)
    graph, chosen, problem = session.view.logits, METHODS[method], None
    try:
        chosen.check(session)
    except MissingBaselineError:
        pass  # nothing was given here; the rules do not depend on it
    except KerascopeError as error:
        problem = str(error)
    try:
        operations = chosen.rule_table(session)
    except KerascopeError as error:
        problem = problem or str(error)
        operations = [{"node": n.name, "layer": n.op.label, "kind": n.op.kind, "rule": ""} for n in session.view.logits]
    return {
        "kerascope": __version__,
        "model": {"path": str(path), "name": model.name, "parameters": int(model.count_params())},
        "method": method,
        "problem": problem,
        "operations": operations,
        **{name: list(getattr(graph, name)) for name in ("folded", "split", "taken_off", "notes")},
        "methods": check(model, x).to_dict("records"),
    }


def _print(console: Console, found: dict[str, Any]) -> None:
    """Print it for people."""
    model = found["model"]
    console.print(Text(f"Model {model['name']}: {model['parameters']:,} parameters", style="bold"))
    console.print(f"\n{len(found['operations'])} operations, with their rules under {found['method']}:")
    if found["problem"]:
        console.print(Text(f"{found['method']} does not fit: {found['problem']}", style="yellow"), soft_wrap=True)
    table = _table("", "operation", "layer", "kind", "rule")
    for i, row in enumerate(found["operations"]):
        table.add_row(str(i), *(Text(str(row[key])) for key in ("node", "layer", "kind", "rule")))
    console.print(table)
    for name, title in (
        ("taken_off", "Taken off"),
        ("folded", "Folded"),
        ("split", "Split"),
        ("notes", "Notes"),
    ):
        if found[name]:
            console.print(Text(f"\n{title}", style="bold"))
            for text in found[name]:
                console.print(f"  {text}", soft_wrap=True)
    _print_methods(console, found["methods"])


def _print_methods(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print which methods fit, which fit when given what they need, and which do not and why."""
    ready = [row["method"] for row in rows if row["fits"] and not row["why"]]
    console.print(Text("\nMethods that fit this model", style="bold"))
    console.print(f"  {', '.join(ready) or 'none'}")
    for title, fits in (
        ("Methods that fit when given what they need", True),
        ("Methods that do not fit", False),
    ):
        chosen = [row for row in rows if row["fits"] is fits and row["why"]]
        if chosen:
            console.print(Text(f"\n{title}", style="bold"))
            table = _table("method", "why")
            for row in chosen:
                table.add_row(Text(row["method"]), Text(row["why"]))
            console.print(Padding(table, (0, 0, 0, 2)))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=title in ("", "method"))
    return table
