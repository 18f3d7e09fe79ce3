"""`kerascope methods`: every method, the question it answers, and what it needs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascope.cli import options as opt

if TYPE_CHECKING:
    import pandas as pd


def methods(
    name: Annotated[str | None, typer.Argument(help="One method: everything about it.", show_default=False)] = None,
    json: opt.Json = False,
) -> None:
    """List all methods: name, family, the question each answers, and what it needs; or all about one.

    Example: `kerascope methods lrp.epsilon`
    """
    from kerascope.cli import terminal

    with terminal.only_json(json):
        terminal.start_backend()
        from kerascope import registry

        table = registry.methods()
        one = None if name is None else _facts(name)
    if json:
        rows = [{**row, "axioms": _words(row["axioms"])} for row in table.to_dict("records")]
        terminal.print_json(rows if one is None else one)
    elif one is not None:
        _print_one(one)
    else:
        _print_all(table)


def _facts(name: str) -> dict[str, Any]:
    """Return all that a method says of itself."""
    from kerascope import registry

    method = registry.as_method(name, {})
    return {
        "name": name,
        "family": method.family,
        "question": method.question,
        "needs": method.needs,
        "promises": method.promise,
        "axioms": list(method.axioms),
        "options": registry.config_of(method)["options"],
        "class": f"ks.{type(method).__name__}",
        "paper": method.paper,
        "citation": method.citation(),
        "description": inspect.getdoc(type(method)) or "",
    }


def _words(text: str) -> list[str]:
    return text.split(", ") if text else []


def _print_one(facts: dict[str, Any]) -> None:
    from rich.text import Text

    from kerascope.cli import terminal

    console = terminal.stdout()
    console.print()
    console.print(Text(facts["name"], style="bold underline"), Text(facts["question"]))
    for term in ("family", "needs", "promises", "axioms", "options", "class"):
        value = facts[term]
        if isinstance(value, dict):
            value = ", ".join(f"{key}={text}" for key, text in value.items())
        text = ", ".join(value) if isinstance(value, list) else value
        console.print(f"  {term}: {text or 'none'}", soft_wrap=True)
    console.print(f"\n{facts['description']}", soft_wrap=True)
    console.print(f"\n{facts['citation']}", soft_wrap=True)


def _print_all(table: pd.DataFrame) -> None:
    from rich.table import Table
    from rich.text import Text

    from kerascope.cli import terminal

    console = terminal.stdout()
    for family, rows in table.groupby("family", sort=False):
        shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        shown.add_column("method", no_wrap=True, width=max(map(len, table["name"])))
        shown.add_column("the question it answers", ratio=3)
        shown.add_column("needs", ratio=2)
        above = ("", "")
        for row in rows.to_dict("records"):
            said = (str(row["question"] or ""), str(row["needs"] or ""))
            # Variants of one method ask the same question: once is enough.
            shown.add_row(Text(row["name"]), *(Text(text) for text in (("", "") if said == above else said)))
            above = said
        console.print(Text(f"\n{family}", style="bold"))
        console.print(shown)
