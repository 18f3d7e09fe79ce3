"""Figures with the bounds they are held to: printed as they come, written as Markdown, an exit status at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Bounds:
    """Figures measured so far."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def say(self, what: str, value: float, low: float = -math.inf, high: float = math.inf, note: str = "") -> None:
        """Take a figure that shall lie between two bounds, both included."""
        holds = low <= value <= high
        ends = [f">= {low:g}"] * (low > -math.inf) + [f"<= {high:g}"] * (high < math.inf)
        bound = " and ".join(ends)
        number = f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
        text = number + (f" {note}" if note else "")
        self.rows.append((what, text, bound, holds))
        print(f"{what}: {text}" + (f"   ({bound}: {'holds' if holds else 'MISSED'})" if bound else ""), flush=True)

    def table(self) -> list[str]:
        """Return the figures as Markdown."""
        lines = ["| figure | value | bound | |", "|---|---|---|---|"]
        for what, value, bound, holds in self.rows:
            lines.append(
                f"| {what} | {value} | {bound or '-'} | {('holds' if holds else '**missed**') * bool(bound)} |"
            )
        return lines

    @property
    def status(self) -> int:
        """0 where all bounds hold, else 1."""
        return int(not all(row[3] for row in self.rows))


def write(path: Path, title: str, *parts: list[str]) -> None:
    """Write Markdown: a title, then parts with a blank line between them."""
    text = "\n\n".join([f"# {title}", *("\n".join(part) for part in parts if part)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"\nWrote {path}", flush=True)
