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


@dataclass(frozen=True)
class Ranked:
    """A ranked row or column: signed sum, sum of absolute values, share of all absolute relevance."""

    index: int
    name: str
    sum: float
    abs_sum: float
    share: float


@dataclass(frozen=True)
class Stretch:
    """A run of neighbours along ``dim`` in one line of the other axis.

    Args:
        dim: the axis it runs along.
        line, name: index and name of the line it lies in (-1 and "all" where a sample has one axis).
        sign: 1 or -1.
        start, stop: indices, ``stop`` exclusive; span: the same in words, with real coordinates.
        score: relevance it sums to times the sign, less the offset; share: of all absolute relevance.
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

    @property
    def signed(self) -> float:
        """The score with its sign."""
        return self.sign * self.score


@dataclass(frozen=True)
class Tables:
    """Ranked rows and columns, largest absolute sum first, and stretches by axis, best score first."""

    rows: tuple[Ranked, ...] = ()
    columns: tuple[Ranked, ...] = ()
    stretches: dict[str, tuple[Stretch, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """One map of the report: the method, sample, target and input are positions in the report's lists.

    Args:
        cells: relevance, float32 (rows, columns), channels summed with their signs.
        limit: the largest absolute value; tight: 99 % of the cells stay below. Colours end at one of them.
        row_sums, column_sums: float32 profiles, the sums of ``cells``.
        tables: ranked rows, columns and stretches.
        headline, answer: the sentences on top.
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
    answer: str
    facts: tuple[Fact, ...]

    @property
    def key(self) -> str:
        """Method, sample, target and input in one string, as used in the file."""
        return f"{self.method}-{self.sample}-{self.target}-{self.input}"


@dataclass(frozen=True)
class Method:
    """What holds for all maps of one explanation."""

    label: str
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
    """

    cells: Floats
    photo: npt.NDArray[np.uint8] | None = None
    outline: tuple[tuple[float, float, float, float], ...] = ()


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
    """

    title: str
    panels: tuple[Panel, ...]
    methods: tuple[Method, ...]
    samples: tuple[Sample, ...]
    views: tuple[View, ...]
    value_limits: tuple[tuple[float, float], ...]
    stretch_dims: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
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
