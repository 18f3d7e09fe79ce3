"""What a report shows, as plain data: everything that can be tested without looking at pixels."""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kerascope.report.words import Fact
from kerascope.view.panel import Panel

Floats = npt.NDArray[np.float32]

SHOWN_ROWS = 8
"""Lines of each ranked table."""


@dataclass(frozen=True)
class Ranked:
    """A ranked row or column: signed sum, sum of absolute values, share of all absolute relevance.

    ``more``: texts for the table's further columns; ``strong``: it stands out.
    """

    index: int
    name: str
    sum: float
    abs_sum: float
    share: float
    more: tuple[str, ...] = ()
    strong: bool = False


@dataclass(frozen=True)
class Stretch:
    """A run of neighbours along ``dim`` in one line of the other axis.

    Args:
        dim: the axis it runs along.
        line, name: index and name of the line it lies in (-1 and "all" where a sample has one axis).
        sign: 1 or -1.
        start, stop: indices, ``stop`` exclusive; span: the same in words, with real coordinates.
        score: relevance it sums to times the sign, less the offset; share: of all absolute relevance.
        more: texts for the table's further columns.
        lines: the lines it lies in, where several were tested together; empty: ``line`` alone.
    """

    dim: str
    line: int
    name: str
    sign: int
    start: int
    stop: int
    span: str
    score: float
    share: float
    more: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    @property
    def signed(self) -> float:
        """The score with its sign."""
        return self.sign * self.score


ADDS_UP = "Sums are signed and add up to the sum of the map; share is the part of the sum of absolute relevance."


@dataclass(frozen=True)
class Plain:
    """A table of texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """A small plot: means, and how far single ones scatter (one standard deviation) around them."""

    title: str
    axis: str
    at: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]


@dataclass(frozen=True)
class Tables:
    """Ranked rows and columns, best first, and stretches by axis, best first.

    Args:
        rows, columns: largest absolute sum first, unless the tables were made by a test.
        stretches: by the dim along which they run.
        counts: how many stretches there are along a dim, where ``stretches`` holds the best of them only.
        most: how many along each dim are shown; None: all.
        line_header, stretch_header: further columns of the tables.
        note: what stands below them.
        others, curves: tables and small plots that follow.
        all_drawn: every stretch of the table is drawn, not only those near the best one.
        wide: each table takes the whole width.
    """

    rows: tuple[Ranked, ...] = ()
    columns: tuple[Ranked, ...] = ()
    stretches: dict[str, tuple[Stretch, ...]] = field(default_factory=dict)
    line_header: tuple[str, ...] = ()
    stretch_header: tuple[str, ...] = ()
    note: str = ADDS_UP
    others: tuple[Plain, ...] = ()
    curves: tuple[Curve, ...] = ()
    all_drawn: bool = False
    wide: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    most: int | None = SHOWN_ROWS

    def shown(self, dim: str) -> tuple[Stretch, ...]:
        """Return the stretches along a dim that the table shows."""
        return self.stretches[dim][: self.most]

    def left_out(self, dim: str) -> int:
        """Return how many stretches along a dim the table does not show."""
        return self.counts.get(dim, len(self.stretches[dim])) - len(self.shown(dim))


@dataclass(frozen=True)
class Page:
    """What is told of a sample in place of what its map alone says.

    Args:
        headline: its heading.
        findings: one sentence each.
        tables: the ranked tables.
        facts: put in front of those of the explanation.
        target, label: what it speaks for, and the sample's name; empty: as the explanation has them.
    """

    headline: str
    findings: tuple[str, ...]
    tables: Tables
    facts: tuple[Fact, ...] = ()
    target: str = ""
    label: str = ""


@dataclass(frozen=True)
class View:
    """One map of the report: the method, sample, target and input are positions in the report's lists.

    Args:
        cells: relevance, float32 (rows, columns), channels summed with their signs.
        limit: the largest absolute value; tight: 99 % of the cells stay below. Colours end at one of them.
        row_sums, column_sums: float32 profiles, the sums of ``cells``.
        tables: ranked rows, columns and stretches.
        headline, findings: the sentences on top.
        facts: what was explained, for this sample and target.
    """

    method: int
    sample: int
    target: int
    input: int
    target_name: str
    cells: Floats
    limit: float
    tight: float
    row_sums: Floats
    column_sums: Floats
    tables: Tables
    headline: str
    findings: tuple[str, ...]
    facts: tuple[Fact, ...]

    @property
    def answer(self) -> str:
        """The first finding, and how many more there are."""
        more = len(self.findings) - 1
        return f"{self.findings[0]}{f' ({more} more)' if more else ''}"

    @property
    def key(self) -> str:
        """Method, sample, target and input in one string, as used in the file."""
        return f"{self.method}-{self.sample}-{self.target}-{self.input}"


@dataclass(frozen=True)
class Method:
    """What holds for all maps of one explanation."""

    label: str
    family: str
    question: str
    targets: int
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    rules: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Shown:
    """One input of one sample.

    Args:
        cells: its values, float32 (rows, columns); means over channels where there are several.
        photo: uint8 (rows, columns, 3) for pictures.
        outline: border of the truth: (row 0, column 0, row 1, column 1) on cell edges.
        pixel: how high a cell is drawn, its width being 1: a photograph has its own proportions.
    """

    cells: Floats
    photo: npt.NDArray[np.uint8] | None = None
    outline: tuple[tuple[float, float, float, float], ...] = ()
    pixel: float = 1.0


@dataclass(frozen=True)
class Sample:
    """One sample: its index in the explanations, its name, and its inputs."""

    index: int
    label: str
    inputs: tuple[Shown, ...]


@dataclass(frozen=True)
class Report:
    """All that is shown.

    Args:
        notes: what was left out or averaged, for the reader.
        value_limits: for each input (lowest, highest) value over the samples shown, for its colours.
        stretch_dims: for each input the axes with stretches, the one drawn at first in front.
        unit: what a page is about: a sample, or a group of them.
    """

    title: str
    panels: tuple[Panel, ...]
    methods: tuple[Method, ...]
    samples: tuple[Sample, ...]
    views: tuple[View, ...]
    value_limits: tuple[tuple[float, float], ...]
    stretch_dims: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    unit: str = "sample"
    by_key: dict[str, View] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the views."""
        object.__setattr__(self, "by_key", {view.key: view for view in self.views})

    def view(self, method: int = 0, sample: int = 0, target: int = 0, input: int = 0) -> View:
        """Return the view at these positions."""
        return self.by_key[f"{method}-{sample}-{target}-{input}"]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; arrays become ``{"shape", "dtype", "base64"}``."""
        plain = jsonable(self)
        plain.pop("by_key")
        return dict(plain)


def jsonable(value: Any) -> Any:
    """Turn dataclasses, tuples and arrays into what JSON knows; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return pack(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def pack(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Pack an array: shape, dtype and its little-endian bytes in base64."""
    flat = np.ascontiguousarray(array)
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    code = base64.b64encode(flat.tobytes()).decode("ascii")
    return {"shape": list(flat.shape), "dtype": flat.dtype.name, "base64": code}
