"""`kerascope methods`: every method, the question it answers, and what it needs."""

from __future__ import annotations

from kerascope.cli import options as opt


def methods(json: opt.Json = False) -> None:
    """List all methods: name, family, the question each answers, and what it needs.

    Example: `kerascope methods`
    """
    from kerascope.cli import terminal

    with terminal.only_json(json):
        terminal.start_backend()
        from kerascope import registry

        table = registry.methods()
    if json:
        terminal.print_json(table.to_dict("records"))
        return
    from rich.table import Table
    from rich.text import Text

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
