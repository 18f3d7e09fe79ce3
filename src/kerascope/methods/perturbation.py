"""Methods that replace parts of the input and watch the output."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kerascope import groups as grouping
from kerascope.errors import BadInputError, IncompatibleMethodError, counted
from kerascope.methods.base import Attribution, Batch
from kerascope.methods.fills import Fills, Replacing
from kerascope.methods.imputation import interpolated
from kerascope.methods.path import are_baselines, said_of_baselines
from kerascope.methods.sampling import Moments
from kerascope.methods.session import Session

_LONG = 64
_LONG_WINDOWS = 16


@dataclass(frozen=True)
class Occlusion(Replacing):
    """Occlusion: how much of the output is lost when a part of the input is replaced.

    D_w = f(x) - f(x with window w replaced), averaged over the fills; a cell gets the mean of D over the
    windows that cover it. Windows start at 0, stride, 2 stride, ...; the last one is cut at the border.
    With ``groups`` whole rows, columns, blocks or labelled regions are replaced instead, and every cell of a
    group gets the group's D. With background samples as fills there is a standard error of their mean.

    Args:
        window: window size, one number or one per matrix axis; None: one cell, or a sixteenth of an axis with
            more than 64 cells.
        stride: step between windows, likewise; None: the window.
        fill: what replaces the cells: as ``baseline`` in `IntegratedGradients`; ``"linear"``: the cells around them,
            interpolated, with a little noise (Rong et al. 2022); None: background samples.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        groups: ``"cells"`` (use windows), ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: another name for ``fill``, which other methods have too.

    Reference: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV.
    """

    window: Any = None
    stride: Any = None
    fill: Any = None
    fills: int | None = None
    groups: Any = "cells"
    baseline: Any = None

    question: ClassVar[str] = "What does the output lose when this part of the input is replaced?"
    paper: ClassVar[str] = "Zeiler and Fergus 2014, ECCV"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "linearity", "shift invariance")
    called: ClassVar[str] = "occlusion"
    also: ClassVar[tuple[str, ...]] = ("linear",)

    def __post_init__(self) -> None:
        """Check the fields."""
        self.check_fields()
        if not _is_cells(self.groups) and (self.window is not None or self.stride is not None):
            raise BadInputError("Give either window= and stride=, or groups=, not both.")

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self.check_single(session)
        (spec,) = session.view.signature.specs
        if self._interpolates and not keras.backend.is_float_dtype(spec.dtype):
            raise IncompatibleMethodError(
                f"Input {spec.name!r} takes whole numbers ({spec.dtype}), between which nothing is interpolated. Give "
                "a whole number as fill, or background samples."
            )
        self.fills_of(session, 0)
        self._parts(session)

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        if not self._interpolates:
            super().check_inputs(session, inputs)

    @property
    def _interpolates(self) -> bool:
        return isinstance(self.given, str) and self.given == "linear"

    def depends_on_seed(self, session: Session) -> bool:
        """See `Method.depends_on_seed`: background samples are drawn where there are more than needed."""
        return self._interpolates or self.draws_fills(session)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        dtype, (shape,) = session.view.dtype, session.shapes
        _, parts, warnings = session.remember(("parts", id(self)), lambda: (self, *self._parts(session)))
        fills = self.fills_of(session, batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        explained = batch.selection.numbers_own(logits)
        lead, rows = explained.shape, np.arange(len(batch))
        maps, drops = Moments((*lead, *parts.shape)), np.zeros((*lead, parts.count))
        for number, answers in enumerate(self._occluded(session, batch, parts, fills.values)):
            lost = explained[:, :, None] - answers
            drops += lost / len(fills)
            maps.add(np.full(len(rows), number), rows, parts.spread(lost))
        values, error = maps.mean(len(fills)), maps.error(len(fills))
        said: tuple[str, ...] = ()
        if not self._interpolates:
            same = are_baselines(batch.inputs, (fills.values,))  # zeros, whatever rounding says
            values[same], error[same], drops[same] = 0, 0, 0
            said = said_of_baselines(batch.inputs, (fills.values,))
        values, error = (np.broadcast_to(array, (*lead, *shape)).astype(dtype) for array in (values, error))
        return Attribution(
            values=(values,),
            explained=explained,
            logits=logits,
            standard_error=(error,) if fills.sampled and len(fills) > 1 else None,
            group_values=None if _is_cells(self.groups) else drops.astype(dtype),
            baseline=None if self._interpolates else (fills.values,),
            baseline_text=fills.text,
            warnings=(*warnings, *said, *fills.notes),
        )

    def _parts(self, session: Session) -> tuple[Parts, tuple[str, ...]]:
        """Return which cells go together, and warnings."""
        (shape,) = session.shapes
        channel_axis = channel_axis_of(shape, session)
        if not _is_cells(self.groups):
            return Regions(grouping.resolve(self.groups, shape, channel_axis).cells), ()
        matrix = tuple(size for axis, size in enumerate(shape) if axis != channel_axis)
        asked = _sizes(self.window, matrix, "window") or tuple(
            -(-n // _LONG_WINDOWS) if n > _LONG else 1 for n in matrix
        )
        window = tuple(min(size, n) for size, n in zip(asked, matrix, strict=True))
        stride = _sizes(self.stride, matrix, "stride") or window
        windows, notes = Windows.over(matrix, window, stride), []
        if window != asked:
            notes.append(f"window={asked} is larger than the matrix {matrix}: it was cut to {window}.")
        if self.window is not None and stride == window and np.any(windows.starts + window > matrix):
            notes.append(
                f"Windows of {window} with stride {stride} do not tile the matrix {matrix}: the last ones are cut at "
                "its border, replace fewer cells than the others and tend to lose less by it."
            )
        if bare := int(np.sum(windows.covered == 0)):
            notes.append(
                f"Windows leave {counted(bare, 'cell')} uncovered (stride {stride} above window {window}), whose "
                "values are 0."
            )
        return windows if channel_axis is None else windows.with_axis(channel_axis), tuple(notes)

    def fills_of(self, session: Session, seed: int) -> Fills:
        """See `Replacing.fills_of`; for interpolation it is the noise that is added."""
        if self._interpolates:
            return Fills(np.random.default_rng((seed, 1)).normal(size=(1, *session.shapes[0])), "")
        return super().fills_of(session, seed)

    def _occluded(self, session: Session, batch: Batch, parts: Parts, fills: np.ndarray) -> Iterator[np.ndarray]:
        """Yield for each fill the explained number with each part replaced (B, T, P), good until the next."""
        (x,) = batch.inputs
        rows, number = len(batch), parts.count
        axis = channel_axis_of(session.shapes[0], session)
        found = np.zeros((number, rows, batch.selection.count))
        for draws, index in session.pairs(number * len(fills), rows):
            which, fill = draws % number, draws // number
            if self._interpolates:
                some, of_some = np.unique(which, return_inverse=True)
                changed = interpolated(x, index, of_some, parts.masks(some), axis, fills[0])
            else:
                changed = np.where(parts.masks(which), fills[fill], x[index])
            selection = batch.selection.rows(index)
            numbers = selection.numbers_own(session.logits((changed,), selection))
            for one in np.unique(fill):
                own = np.flatnonzero(fill == one)
                found[which[own], index[own]] = numbers[own]
                if which[own[-1]] == number - 1 and index[own[-1]] == rows - 1:
                    yield np.moveaxis(found, 0, 2)


class Parts(ABC):
    """The parts of a sample that are replaced one after the other; masks are made when they are asked for."""

    shape: tuple[int, ...]
    """What masks broadcast to a sample from: 1 along its channels."""
    count: int
    """The number of parts P."""

    @abstractmethod
    def masks(self, which: np.ndarray) -> np.ndarray:
        """Return the masks of some parts, bool (D, *shape)."""

    @abstractmethod
    def where(self, part: int) -> Any:
        """Return the index of a part's cells in an array (*shape)."""

    @functools.cached_property
    def covered(self) -> np.ndarray:
        """How many parts cover each cell, (*shape)."""
        cover = np.zeros(self.shape)
        for part in range(self.count):
            cover[self.where(part)] += 1
        return cover

    def spread(self, drops: np.ndarray) -> np.ndarray:
        """Give every cell the mean of the drops (..., P) of those parts that cover it, or 0."""
        total = np.zeros((*self.shape, *drops.shape[:-1]))
        for part in range(self.count):
            total[self.where(part)] += drops[..., part]
        mean = total / np.maximum(self.covered, 1).reshape(*self.shape, *(1,) * (drops.ndim - 1))
        return np.moveaxis(mean, range(len(self.shape)), range(-len(self.shape), 0))


class Windows(Parts):
    """Windows over the axes of a sample.

    Args:
        shape: see `Parts`.
        starts: where each begins, int (P, number of axes).
        size: of all of them, by axis; those at a border are cut.
    """

    def __init__(self, shape: tuple[int, ...], starts: np.ndarray, size: tuple[int, ...]) -> None:
        self.shape, self.starts, self.size = shape, starts, size
        self.count = len(starts)

    @classmethod
    def over(cls, matrix: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]) -> Windows:
        """Return all windows over a matrix that begin at multiples of the stride."""
        starts = [np.arange(0, n, s) for n, s in zip(matrix, stride, strict=True)]
        grid = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1)
        return cls(matrix, grid.reshape(-1, len(matrix)), window)

    def with_axis(self, axis: int) -> Windows:
        """Return the windows with an axis more, of size 1: all cells along it go together."""
        shape, size = ((*old[:axis], 1, *old[axis:]) for old in (self.shape, self.size))
        return Windows(tuple(shape), np.insert(self.starts, axis, 0, axis=1), tuple(size))

    def masks(self, which: np.ndarray) -> np.ndarray:
        """See `Parts.masks`."""
        masks = np.ones((len(which), *self.shape), bool)
        for axis, (n, size) in enumerate(zip(self.shape, self.size, strict=True)):
            first = self.starts[which, axis, None]
            inside = (np.arange(n) >= first) & (np.arange(n) < first + size)
            masks &= inside.reshape(len(which), *(n if a == axis else 1 for a in range(len(self.shape))))
        return masks

    def where(self, part: int) -> tuple[slice, ...]:
        """See `Parts.where`."""
        return tuple(slice(a, a + size) for a, size in zip(self.starts[part], self.size, strict=True))


class Regions(Parts):
    """Cells with the same label."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.shape = labels, labels.shape
        self.count = int(labels.max()) + 1

    def masks(self, which: np.ndarray) -> np.ndarray:
        """See `Parts.masks`."""
        return np.asarray(self.labels == which.reshape(-1, *(1,) * self.labels.ndim))

    def where(self, part: int) -> np.ndarray:
        """See `Parts.where`."""
        return np.asarray(self.labels == part)

    def spread(self, drops: np.ndarray) -> np.ndarray:
        """See `Parts.spread`; every cell is in one part."""
        return np.asarray(drops[..., self.labels])


def _is_cells(groups: Any) -> bool:
    return isinstance(groups, str) and groups == "cells"


def channel_axis_of(shape: tuple[int, ...], session: Session) -> int | None:
    """Return which axis of a sample holds channels: of a 3-D (or larger) sample the model's channel axis."""
    if len(shape) < 3:
        return None
    return 0 if session.view.channels_first else len(shape) - 1


def _sizes(value: Any, matrix: tuple[int, ...], name: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = (value,) * len(matrix) if np.ndim(value) == 0 else tuple(value)
    positive = all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) and s > 0 for s in sizes)
    if len(sizes) != len(matrix) or not positive:
        raise BadInputError(f"{name}={value!r}: expected a positive whole number, or one for each axis of {matrix}.")
    return tuple(map(int, sizes))
