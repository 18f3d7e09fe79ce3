"""Methods that replace parts of the input and watch the output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerascope import baseline as baselines
from kerascope import groups as grouping
from kerascope.errors import BadInputError, IncompatibleMethodError
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.imputation import interpolated
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
        if self.fills < 1:
            raise BadInputError(f"fills must be at least 1; got {self.fills}.")
        if not _is_cells(self.groups) and (self.window is not None or self.stride is not None):
            raise BadInputError("Give either window= and stride=, or groups=, not both.")

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        if len(session.view.signature.specs) > 1:
            raise IncompatibleMethodError(
                "occlusion works on models with one input; this one has "
                f"{len(session.view.signature.specs)}. Use integrated_gradients or lrp."
            )
        self._fills(session, 0)
        self._masks(session)

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
        _, masks, warnings = session.remember(("masks", id(self)), lambda: (self, *self._masks(session)))
        fills, sampled = self._fills(session, batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        explained = batch.selection.numbers_own(logits)
        drops = explained[:, :, None] - self._occluded(session, batch, masks, fills)
        maps = np.broadcast_to(_spread(drops, masks), (*drops.shape[:3], *shape))
        error = maps.std(axis=0, ddof=1) / np.sqrt(len(maps)) if sampled and len(maps) > 1 else None
        return Attribution(
            values=(maps.mean(axis=0).astype(dtype),),
            explained=explained,
            logits=logits,
            standard_error=None if error is None else (error.astype(dtype),),
            group_values=None if _is_cells(self.groups) else drops.mean(axis=0).astype(dtype),
            warnings=warnings,
        )

    def _masks(self, session: Session) -> tuple[list[np.ndarray], tuple[str, ...]]:
        """Return which cells go together, bool arrays that broadcast against a sample, and a warning."""
        (shape,) = session.shapes
        channel_axis = channel_axis_of(shape, session)
        if not _is_cells(self.groups):
            cells = grouping.resolve(self.groups, shape, channel_axis)
            return [cells.cells == g for g in range(cells.count)], ()
        matrix = tuple(size for axis, size in enumerate(shape) if axis != channel_axis)
        window = _sizes(self.window, matrix, "window") or tuple(
            -(-n // _LONG_WINDOWS) if n > _LONG else 1 for n in matrix
        )
        stride = _sizes(self.stride, matrix, "stride") or window
        masks = windows(matrix, window, stride)
        if channel_axis is not None:
            masks = [np.expand_dims(mask, channel_axis) for mask in masks]
        bare = int(np.sum(~np.any(masks, axis=0)))
        note = f"Windows leave {bare} cells uncovered (stride {stride} above window {window}): they are 0."
        return masks, (note,) if bare else ()

    def _fills(self, session: Session, seed: int) -> tuple[np.ndarray, bool]:
        """Return what replaces the cells (F, *S), and whether it was drawn from the background.

        For interpolation that is the noise that is added to it.
        """
        asked = baselines.Asked("occlusion", "fill")
        if self._interpolates:
            return np.random.default_rng((seed, 1)).normal(size=(1, *session.shapes[0])), False
        if self.fill is not None:
            resolved, _ = baselines.resolve(self.fill, session.view, session.background, session.shapes, asked)
            return resolved[0], False
        if session.background is None:
            raise asked.missing()
        pool = session.background[0]
        chosen = np.random.default_rng(seed).choice(len(pool), min(self.fills, len(pool)), replace=False)
        return pool[np.sort(chosen)], True

    def _occluded(self, session: Session, batch: Batch, masks: Sequence[np.ndarray], fills: np.ndarray) -> np.ndarray:
        """Return the explained number for each fill, with each mask replaced: (F, B, T, number of masks)."""
        (x,) = batch.inputs
        rows, number = len(batch), len(masks)
        axis = channel_axis_of(session.shapes[0], session)
        results = np.zeros((len(fills), number, rows, batch.selection.count))
        stacked = np.stack(masks)
        for draws, index in session.pairs(number * len(fills), rows):
            which, fill = draws % number, draws // number
            if self._interpolates:
                changed = interpolated(x, index, which, stacked, axis, fills[0])
            else:
                changed = np.where(stacked[which], fills[fill], x[index])
            selection = batch.selection.rows(index)
            results[fill, which, index] = selection.numbers_own(session.logits((changed,), selection))
        return np.asarray(np.moveaxis(results, 1, 3))


def _spread(drops: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Give every cell the mean of the drops (..., number of masks) of those masks that cover it, or 0."""
    total = np.zeros((*drops.shape[:-1], *masks[0].shape))
    for number, mask in enumerate(masks):
        total[..., mask] += drops[..., number, None]
    return np.asarray(total / np.maximum(np.sum(masks, axis=0), 1))


def _is_cells(groups: Any) -> bool:
    return isinstance(groups, str) and groups == "cells"


def channel_axis_of(shape: tuple[int, ...], session: Session) -> int | None:
    """Return which axis of a sample holds channels: of a 3-D (or larger) sample the model's channel axis."""
    if len(shape) < 3:
        return None
    return 0 if session.view.channels_first else len(shape) - 1


def windows(matrix: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]) -> list[np.ndarray]:
    """Return the masks of all windows over a matrix, each a bool array of its shape."""
    starts = [range(0, n, s) for n, s in zip(matrix, stride, strict=True)]
    masks = []
    for corner in itertools.product(*starts):
        mask = np.zeros(matrix, bool)
        mask[tuple(slice(a, a + w) for a, w in zip(corner, window, strict=True))] = True
        masks.append(mask)
    return masks


def _sizes(value: Any, matrix: tuple[int, ...], name: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = (value,) * len(matrix) if np.ndim(value) == 0 else tuple(value)
    if len(sizes) != len(matrix) or any(not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise BadInputError(f"{name}={value!r}: expected a positive whole number, or one for each axis of {matrix}.")
    return tuple(int(min(s, n)) if name == "window" else int(s) for s, n in zip(sizes, matrix, strict=True))
