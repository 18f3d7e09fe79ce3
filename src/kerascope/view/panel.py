"""What a figure and a report must know of an input before drawing it: axes, orientation, kind; NumPy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from kerascope.matrices.profiles import CHANNEL, matrix_dims
from kerascope.record import each, parts
from kerascope.view.picture import PICTURE_DIMS, as_picture, known_kind, original_size, picture_kind

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["matrix", "picture", "line"]


DRAWN_SHARE = 0.1
"""Share of the best stretch's score below which a stretch stands in the table, but is not drawn."""


@dataclass(frozen=True)
class Axis:
    """One axis of a matrix as it is drawn.

    Args:
        dim: its name.
        names: one text per index.
        start, step: index i stands at ``start + i * step``: real coordinates where they are numbers at equal
            distances, else indices.
        labelled: the names are words, so that each deserves a tick of its own.
        real: positions are coordinates.
    """

    dim: str
    names: tuple[str, ...]
    start: float = 0.0
    step: float = 1.0
    labelled: bool = False
    real: bool = False

    @property
    def size(self) -> int:
        """Number of indices."""
        return len(self.names)

    def at(self, index: float) -> float:
        """Position of an index."""
        return self.start + index * self.step

    def edge(self, index: float) -> float:
        """Position of the border before an index; ``edge(size)`` is the far end."""
        return self.start + (index - 0.5) * self.step

    def title(self, index: int) -> str:
        """Name an index so that it can stand alone: its label, or the dim and its number."""
        return self.names[index] if self.labelled else f"{self.dim} {self.names[index]}"

    def span(self, start: int, stop: int) -> str:
        """Name the indices from start up to, not including, stop."""
        first, last = self.names[start], self.names[max(start, stop - 1)]
        return first if first == last else f"{first} to {last}"


@dataclass(frozen=True)
class Panel:
    """How the samples of one input are drawn.

    Args:
        key: the input's name; empty where the model has one input.
        rows, columns: the matrix axes; a line has one row.
        kind: a matrix of cells, a picture, or a line (one axis).
        matrix_axes: positions of the matrix axes in a sample, one or two.
        channel_axis: position of the channel axis in a sample, or None.
        upright: False where the rows run across, because they are many and the columns are few and named.
        picture: how numbers become colours, for pictures.
        depth: cells of a sample that lie in one of the matrix: its channels.
    """

    key: str
    rows: Axis
    columns: Axis
    kind: Kind
    matrix_axes: tuple[int, ...]
    channel_axis: int | None = None
    upright: bool = True
    picture: str | None = None
    depth: int = 1

    @property
    def down(self) -> Axis:
        """The axis drawn from top to bottom."""
        return self.rows if self.upright else self.columns

    @property
    def across(self) -> Axis:
        """The axis drawn from left to right."""
        return self.columns if self.upright else self.rows

    def cells(self, sample: Floats) -> Floats:
        """Return the input's cells (rows, columns): the mean over its channels; with one, its values."""
        others = tuple(a for a in range(np.ndim(sample)) if a not in self.matrix_axes)
        out: Floats = np.mean(sample, axis=others, dtype=np.float64) if others else np.asarray(sample)
        return out.reshape(self.rows.size, self.columns.size)

    def photo(self, sample: Floats) -> npt.NDArray[np.uint8]:
        """Return a sample as a picture, uint8 (rows, columns, 3)."""
        x = np.asarray(sample)
        last = x[..., None] if self.channel_axis is None else np.moveaxis(x, self.channel_axis, -1)
        return as_picture(last, self.picture or "stretch")

    def stretch_dims(self, ordered: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the axes along which stretches are shown, the one whose neighbours mean most first.

        Not along pixels of a picture; axes with numbers before axes with names, then the longer one.

        Args:
            ordered: axes along which neighbours mean something; None if nobody said.
        """
        if self.kind == "picture":
            return ()
        axes = [self.columns] if self.kind == "line" else [self.rows, self.columns]
        if ordered is not None:
            axes = [axis for axis in axes if axis.dim in ordered]
        elif self.kind == "line" and self.columns.labelled:
            return ()
        return tuple(a.dim for a in sorted(axes, key=lambda a: (a.labelled, -a.size)) if a.size > 1)

    def drawn(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn (rows, columns, ...) into (down, across, ...)."""
        return matrix if self.upright else np.swapaxes(matrix, 0, 1)


def count_drawn(scores: Sequence[float]) -> int:
    """Return how many of the stretches with these scores, best first, are drawn as boxes."""
    return sum(1 for score in scores if score >= DRAWN_SHARE * scores[0])


def repeats(e: Explanation) -> int:
    """Return how many cells of each sample repeat one value of a map: its channels, for a class activation map.

    Returns:
        1 for all other maps.
    """
    if e.layer_map is None:
        return 1
    (key, values), *_ = parts(e.values, e.input_names).items()  # class activation maps have one input
    dims = e.sample_dims(input=key or None)
    lead = values.ndim - len(dims)
    summed = [lead + axis for axis, dim in enumerate(dims) if dim not in matrix_dims(dims)]
    first = values[tuple(slice(0, 1) if axis in summed else slice(None) for axis in range(values.ndim))]
    same = bool(np.all((values == first) | np.isnan(values)))
    return math.prod(values.shape[axis] for axis in summed) if same else 1


def counted_once(e: Explanation) -> Explanation:
    """Return an explanation that is shown with its channels summed: where they repeat a map, they add up to it."""
    copies = repeats(e)
    return e if copies == 1 else dataclasses.replace(e, values=each(lambda values: values / copies, e.values))


def pixel_height(e: Explanation, panel: Panel, sample: int = 0) -> float:
    """Return how high a cell is drawn, its width being 1: photographs get their own proportions back."""
    size = original_size(e, sample) if panel.kind == "picture" else None
    return 1.0 if size is None else size[0] / size[1] * panel.columns.size / panel.rows.size


def panel_of(e: Explanation, key: str = "") -> Panel:
    """Decide how an input of an explanation is drawn; ``key`` names it where there are several."""
    samples = parts(e.inputs, e.input_names)[key][:8]
    return make_panel(samples, e.sample_dims(input=key or None), e.coords, key=key, picture=known_kind(e.attrs))


def make_panel(
    samples: Floats,
    dims: Sequence[str],
    coords: Mapping[str, Any] | None = None,
    *,
    key: str = "",
    picture: str | None = None,
) -> Panel:
    """Decide how an input is drawn.

    Args:
        samples: (N, *S), the inputs.
        dims: names of the axes S.
        coords: labels or numbers by dim.
        key: the input's name, where there are several.
        picture: how the pictures that these are known to be were prepared; None looks at the numbers.
    """
    coords, shape = coords or {}, samples.shape[1:]
    names = list(dims)
    channel = names.index(CHANNEL) if CHANNEL in names and len(names) > 2 else None
    axes = tuple(names.index(dim) for dim in matrix_dims(tuple(dims)))
    made = [make_axis(names[a], shape[a], coords.get(names[a])) for a in axes]
    if len(made) == 1:
        depth = math.prod(shape) // made[0].size
        return Panel(key, Axis("", ("",)), made[0], "line", axes, channel, depth=depth)
    rows, columns = made
    kind = _known(picture, shape, channel) or _picture(samples, names, axes, channel)
    turned = kind is None and rows.size >= 2 * columns.size and not rows.labelled and rows.dim != "row"
    return Panel(
        key,
        rows,
        columns,
        "matrix" if kind is None else "picture",
        axes,
        channel,
        upright=not turned,
        picture=kind,
        depth=math.prod(shape) // (rows.size * columns.size),
    )


def _known(picture: str | None, shape: Sequence[int], channel: int | None) -> str | None:
    """Return how known pictures were prepared, or None where samples of this shape can be none."""
    channels = shape[channel] if channel is not None else 1 if len(shape) == 2 else 0
    fits = channels == 3 or (channels == 1 and picture not in ("means", "standard"))
    return picture if fits and len(shape) in (2, 3) else None


def _picture(samples: Floats, names: Sequence[str], axes: tuple[int, ...], channel: int | None) -> str | None:
    """Return the kind of picture, or None; only samples with axes of a picture's names are tried."""
    if channel is None or len(names) != 3 or (names[axes[0]], names[axes[1]]) not in PICTURE_DIMS:
        return None
    return picture_kind(np.moveaxis(samples, channel + 1, -1))


def make_axis(dim: str, size: int, labels: Any = None) -> Axis:
    """Return the axis of a dim with ``size`` indices and, where given, one label or number for each."""
    if labels is None or len(labels) != size:
        return Axis(dim, tuple(str(i) for i in range(size)))
    values = np.asarray(labels)
    names = tuple(_name(v) for v in values.tolist()) if values.dtype.kind in "fiub" else tuple(map(_name, values))
    if values.dtype.kind not in "fiu":
        return Axis(dim, names, labelled=values.dtype.kind not in "mM")
    numbers = values.astype(np.float64)
    if size > 1 and np.isfinite(numbers).all():
        step = (numbers[-1] - numbers[0]) / (size - 1)
        if step > 0.0 and np.allclose(np.diff(numbers), step, rtol=1e-3, atol=0.0):
            return Axis(dim, names, float(numbers[0]), float(step), real=True)
    return Axis(dim, names)


def _name(value: object) -> str:
    """Return a label as text: numbers short, bytes decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
