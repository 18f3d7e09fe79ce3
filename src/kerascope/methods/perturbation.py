"""Methods that replace parts of the input and watch the output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerascope import baseline as baselines
from kerascope import groups as grouping
from kerascope.errors import BadInputError
from kerascope.methods.base import Attribution, Batch, Method, missing_baseline
from kerascope.methods.averaging import chunks
from kerascope.methods.session import Arrays, Session

_LONG = 64
_LONG_WINDOWS = 16


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion: how much of the output is lost when a part of the input is replaced.

    D_w = f(x) - f(x with window w replaced), averaged over the fills; a cell gets the mean of D over the
    windows that cover it. Windows start at 0, stride, 2 stride, ...; the last one is cut at the border.
    With ``groups`` whole rows, columns, blocks or labelled regions are replaced instead, and every cell of a
    group gets the group's D.

    Args:
        window: window size, one number or one per matrix axis; None: one cell, or a sixteenth of an axis with
            more than 64 cells.
        stride: step between windows, likewise; None: the window.
        fill: what replaces the cells: as ``baseline`` in `IntegratedGradients`; None: background samples
            (at most ``fills`` of them, drawn from the seed).
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
        if self.fill is None and session.background is None:
            raise missing_baseline("occlusion")
        if len(session.view.signature.specs) > 1:
            raise BadInputError(
                "occlusion works on models with one input; this one has "
                f"{len(session.view.signature.specs)}. Use integrated_gradients or lrp."
            )

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        batch = batch.settled(session)
        (x,) = batch.inputs
        channel_axis = channel_axis_of(x.shape[1:], session)
        masks, coverage, labels, warnings = self._masks(x.shape[1:], channel_axis)
        fills, _ = self._fills(session, x.shape[1:], batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        explained = batch.selection.numbers_own(logits)
        drops = explained[:, :, None] - self._occluded(session, batch, masks, fills)
        covered = np.maximum(coverage, 1)
        flat = np.stack([mask.reshape(-1) for mask in masks]).astype("float64")
        values = (drops @ flat / covered.reshape(-1)).reshape(*drops.shape[:2], *masks[0].shape)
        values = np.broadcast_to(values, (*drops.shape[:2], *x.shape[1:])).astype(session.view.dtype)
        return Attribution(
            values=(values,),
            explained=explained,
            logits=logits,
            group_values=drops.astype(session.view.dtype) if labels else None,
            warnings=warnings,
        )

    def _masks(
        self, shape: tuple[int, ...], channel_axis: int | None
    ) -> tuple[list[np.ndarray], np.ndarray, bool, tuple[str, ...]]:
        if not _is_cells(self.groups):
            cells = grouping.resolve(self.groups, shape, channel_axis)
            masks = [cells.cells == g for g in range(cells.count)]
            return masks, np.ones(masks[0].shape), True, ()
        matrix = tuple(size for axis, size in enumerate(shape) if axis != channel_axis)
        window = _sizes(self.window, matrix, "window") or tuple(
            -(-n // _LONG_WINDOWS) if n > _LONG else 1 for n in matrix
        )
        stride = _sizes(self.stride, matrix, "stride") or window
        masks = windows(matrix, window, stride)
        if channel_axis is not None:
            masks = [np.expand_dims(mask, channel_axis) for mask in masks]
        coverage = np.sum(masks, axis=0)
        bare = int(np.sum(coverage == 0))
        note = f"{bare} cells are covered by no window (stride {stride} above window {window}): they are 0."
        return masks, coverage, False, (note,) if bare else ()

    def _fills(self, session: Session, shape: tuple[int, ...], seed: int) -> tuple[Arrays, str]:
        if self.fill is not None:
            return baselines.resolve(self.fill, session, [shape], "occlusion")
        if session.background is None:
            raise missing_baseline("occlusion")
        pool = session.background[0]
        count = min(self.fills, len(pool))
        chosen = np.random.default_rng(seed).choice(len(pool), count, replace=False)
        return (pool[np.sort(chosen)],), f"{count} of {len(pool)} background samples"

    def _occluded(
        self, session: Session, batch: Batch, masks: Sequence[np.ndarray], fills: Arrays
    ) -> np.ndarray:
        """Return the explained number with each mask replaced, averaged over fills: (B, T, number of masks)."""
        (x,), (filling,) = batch.inputs, fills
        rows, number = len(batch), len(masks)
        results = np.zeros((rows, batch.selection.count, number))
        stacked = np.stack(masks)
        for draws, index in chunks(number * len(filling), rows, session.batch_size):
            which, fill = draws % number, draws // number
            changed = np.where(stacked[which], filling[fill], x[index])
            selection = batch.selection.rows(index)
            numbers = selection.numbers_own(session.logits((changed,), selection))
            np.add.at(results, (index, slice(None), which), numbers)
        return results / len(filling)


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
    sizes = (value,) * len(matrix) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(sizes) != len(matrix) or any(not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise BadInputError(f"{name}={value!r}: expected a positive whole number, or one for each axis of {matrix}.")
    return tuple(int(min(s, n)) if name == "window" else int(s) for s, n in zip(sizes, matrix, strict=True))
