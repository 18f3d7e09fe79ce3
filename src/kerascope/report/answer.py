"""The answer on top of a report, in one sentence, from the ranked tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kerascope.report.data import Ranked, Stretch, Tables
from kerascope.view.panel import Axis, Panel
from kerascope.view.text import number, percent

Cells = npt.NDArray[np.floating[Any]]


def answer(cells: Cells, panel: Panel, tables: Tables, *, sums: bool = True, repeated: bool = False) -> str:
    """Say which lines and which stretch carry most relevance.

    Args:
        cells: the map (rows, columns).
        panel: how the input is drawn, for names.
        tables: its ranked rows, columns and stretches.
        sums: the method promises what its map sums to.
        repeated: the map is the same for every channel.
    """
    if not np.any(cells):
        return "The map is zero everywhere."
    if panel.kind == "picture":
        return _picture(cells, panel, sums, repeated)
    by_rows = panel.kind == "matrix" and (panel.rows.labelled or not panel.columns.labelled)
    axis, lines = (panel.rows, tables.rows) if by_rows else (panel.columns, tables.columns)
    best = sorted((r for r in lines if r.sum > 0), key=lambda r: -r.sum)[:3]
    worst = min(lines, key=lambda r: r.sum)
    if best:
        first = _line(best[0], " of absolute relevance")
        said = [f"most positive by {axis.dim}: {', '.join([first, *map(_line, best[1:])])}"]
    else:
        said = [f"no {axis.dim} is positive"]
    if worst.sum < 0:
        said.append(f"most negative: {_line(worst)}")
    found = [s for some in tables.stretches.values() for s in some if s.sign > 0]
    if found:
        said.append(f"strongest stretch: {_stretch(found[0], panel)}")
    return _sentence("; ".join(said))


def _cut(name: str, most: int = 48) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _line(line: Ranked, of: str = "") -> str:
    return f"{_cut(line.name)} ({number(line.sum, signed=True)}, {percent(line.share)}{of})"


def _stretch(stretch: Stretch, panel: Panel) -> str:
    lead = "" if panel.kind == "line" else f"{_cut(stretch.name)}, "
    value = number(stretch.signed, signed=True)
    return f"{lead}{stretch.dim} {stretch.span} ({value}, {percent(stretch.share)})"


def _picture(cells: Cells, panel: Panel, sums: bool, repeated: bool) -> str:
    """Say where a picture's relevance is strongest, and how much it has of either sign."""
    up, down = float(cells[cells > 0].sum()), float(cells[cells < 0].sum())
    i, j = np.unravel_index(int(np.nanargmax(np.abs(cells))), cells.shape)
    place = f"{_place(panel.rows, int(i))}, {_place(panel.columns, int(j))}"
    value = number(float(cells[i, j]), signed=True) + (", the same for every channel" if repeated else "")
    strongest = f"the strongest pixel is at {place} ({value})"
    if not sums:
        return _sentence(f"{strongest}; {percent(up / (up - down))} of absolute relevance is positive")
    signs = f"positive relevance sums to {number(up, signed=True)}, negative to {number(down, signed=True)}"
    return _sentence(f"{signs}; {strongest}")


def _place(axis: Axis, index: int) -> str:
    return f"{axis.dim} {axis.names[index]}"
