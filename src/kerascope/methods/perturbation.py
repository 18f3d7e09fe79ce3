"""Methods that replace parts of the input and watch the output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kerascope import baseline as baselines
from kerascope import groups as grouping
from kerascope.errors import BadInputError, IncompatibleMethodError, counted, whole
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.imputation import interpolated
from kerascope.methods.path import said_of_baselines
from kerascope.methods.session import Session

_LONG = 64
_LONG_WINDOWS = 16


@dataclass(frozen=True)
class Occlusion(Method):
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
            interpolated, with a little noise (Rong et al. 2022); None: background samples (at most ``fills`` of
            them, drawn from the seed).
        fills: how many background samples are used.
        groups: ``"cells"`` (use windows), ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.

    Reference: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV.
    """

    window: Any = None
    stride: Any = None
    fill: Any = None
    fills: int = 8
    groups: Any = "cells"

    family: ClassVar[str] = "perturbation"
    question: ClassVar[str] = "What does the output lose when this part of the input is replaced?"
    paper: ClassVar[str] = "Zeiler and Fergus 2014, ECCV"
    axioms: ClassVar[tuple[str, ...]] = ("implementation invariance", "dummy", "linearity", "shift invariance")
    needs: ClassVar[str] = "a fill or background samples; one input"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        whole(self.fills, "fills", 1)
        if not _is_cells(self.groups) and (self.window is not None or self.stride is not None):
            raise BadInputError("Give either window= and stride=, or groups=, not both.")

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        if len(session.view.signature.specs) > 1:
            raise IncompatibleMethodError(
                "occlusion works on models with one input; this one has "
                f"{len(session.view.signature.specs)}. Use integrated_gradients or lrp."
            )
        (spec,) = session.view.signature.specs
        if self._interpolates and not keras.backend.is_float_dtype(spec.dtype):
            raise IncompatibleMethodError(
                f"Input {spec.name!r} takes whole numbers ({spec.dtype}), between which nothing is interpolated. Give "
                "a whole number as fill, or background samples."
            )
        self._fills(session, 0)
        self._parts(session)

    @property
    def _interpolates(self) -> bool:
        return isinstance(self.fill, str) and self.fill == "linear"

    def depends_on_seed(self, session: Session) -> bool:
        """See `Method.depends_on_seed`: background samples are drawn where there are more than needed."""
        return self._interpolates or (
            self.fill is None and session.background is not None and self.fills < len(session.background[0])
        )

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        dtype, (shape,) = session.view.dtype, session.shapes
        _, parts, warnings = session.remember(("parts", id(self)), lambda: (self, *self._parts(session)))
        fills, sampled, text = self._fills(session, batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        explained = batch.selection.numbers_own(logits)
        drops = explained[:, :, None] - self._occluded(session, batch, parts, fills)
        maps = np.broadcast_to(parts.spread(drops), (*drops.shape[:3], *shape))
        error = maps.std(axis=0, ddof=1) / np.sqrt(len(maps)) if sampled and len(maps) > 1 else None
        return Attribution(
            values=(maps.mean(axis=0).astype(dtype),),
            explained=explained,
            logits=logits,
            standard_error=None if error is None else (error.astype(dtype),),
            group_values=None if _is_cells(self.groups) else drops.mean(axis=0).astype(dtype),
            baseline=None if self._interpolates else (fills,),
            baseline_text=text,
            warnings=(*warnings, *(() if self._interpolates else said_of_baselines(batch.inputs, (fills,)))),
        )

    def _parts(self, session: Session) -> tuple[Parts, tuple[str, ...]]:
        """Return which cells go together, and a warning."""
        (shape,) = session.shapes
        channel_axis = channel_axis_of(shape, session)
        if not _is_cells(self.groups):
            return Regions(grouping.resolve(self.groups, shape, channel_axis).cells), ()
        matrix = tuple(size for axis, size in enumerate(shape) if axis != channel_axis)
        window = _sizes(self.window, matrix, "window") or tuple(
            -(-n // _LONG_WINDOWS) if n > _LONG else 1 for n in matrix
        )
        stride = _sizes(self.stride, matrix, "stride") or window
        windows = Windows.over(matrix, window, stride)
        bare = int(np.sum(windows.covered == 0))
        note = f"Windows leave {bare} cells uncovered (stride {stride} above window {window}): they are 0."
        return windows if channel_axis is None else windows.with_axis(channel_axis), (note,) if bare else ()

    def _fills(self, session: Session, seed: int) -> tuple[np.ndarray, bool, str]:
        """Return what replaces the cells (F, *S), whether it was drawn from the background, and what it is in words.

        For interpolation that is the noise that is added to it.
        """
        asked = baselines.Asked("occlusion", "fill", also=("linear",), cells=True)
        if self._interpolates:
            return np.random.default_rng((seed, 1)).normal(size=(1, *session.shapes[0])), False, ""
        if self.fill is not None:
            resolved, text = baselines.resolve(self.fill, session.view, session.background, session.shapes, asked)
            return resolved[0], False, text
        if session.background is None:
            raise asked.missing()
        pool = session.background[0]
        chosen = np.random.default_rng(seed).choice(len(pool), min(self.fills, len(pool)), replace=False)
        return pool[np.sort(chosen)], True, counted(len(chosen), "background sample")

    def _occluded(self, session: Session, batch: Batch, parts: Parts, fills: np.ndarray) -> np.ndarray:
        """Return the explained number for each fill, with each part replaced: (F, B, T, number of parts)."""
        (x,) = batch.inputs
        rows, number = len(batch), parts.count
        axis = channel_axis_of(session.shapes[0], session)
        results = np.zeros((len(fills), number, rows, batch.selection.count))
        for draws, index in session.pairs(number * len(fills), rows):
            which, fill = draws % number, draws // number
            if self._interpolates:
                some, of_some = np.unique(which, return_inverse=True)
                changed = interpolated(x, index, of_some, parts.masks(some), axis, fills[0])
            else:
                changed = np.where(parts.masks(which), fills[fill], x[index])
            selection = batch.selection.rows(index)
            results[fill, which, index] = selection.numbers_own(session.logits((changed,), selection))
        return np.asarray(np.moveaxis(results, 1, 3))


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

    @property
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
    return tuple(int(min(s, n)) if name == "window" else int(s) for s, n in zip(sizes, matrix, strict=True))
