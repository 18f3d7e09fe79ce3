"""What is summed of a layer in one batch, measured from an origin near the data so that no digits are lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.model.primitives import Tensor
from kerascope.patterns.units import Unit

Sums = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Origin:
    """From where the moments of one layer are measured, the same in every batch.

    Covariances do not depend on it, but sums of large numbers that vary little would lose their digits. Patches of
    ``x`` are patches of ``x - shift`` plus the shift where a cell is read and 0 where it is padding.

    ``shifts``: what is taken off each input, one number per channel. ``offset``: what is added to the output of the
    layer on ``x - shift``; nearly the output less its mean. ``shift``: the shift of each kernel's cell. ``whole``:
    which cells of the kernel never read padding; None if all.
    """

    shifts: tuple[Tensor, ...]
    offset: Tensor
    shift: np.ndarray
    whole: np.ndarray | None
    positions: int

    @classmethod
    def of(cls, unit: Unit, found: Sums) -> Origin:
        """Return the origin of a layer from what `pilot` found."""
        held = {name: backend.to_numpy(tensor) for name, tensor in found.items()}
        whole = np.broadcast_to(held["seen"] == held["count"], held["seen"].shape)
        shift = _shift_of_cells(unit, held)
        # Where nothing is padded the shift adds a constant to the output: left out, it cannot be rounded.
        offset = -held["mean"] if whole.all() else held["offset"] - held["mean"] - held["offset_mean"]
        shifts = tuple(backend.from_numpy(held[f"shift {i}"]) for i in range(unit.inputs))
        positions = int(np.max(held["count"]))
        return cls(shifts, backend.from_numpy(offset), shift, None if whole.all() else whole.copy(), positions)


def pilot(unit: Unit, xs: tuple[Tensor, ...]) -> Sums:
    """Look at some samples: the mean of what a layer reads, and what that gives at its output."""
    shifts = tuple(map(unit.input_mean, xs))
    ones = tuple(ops.ones_like(x[:1]) for x in xs)
    alike = tuple(one * shift for one, shift in zip(ones, shifts, strict=True))
    pull_ones = backend.vjp(lambda kernel: unit.linear(ones, kernel), unit.kernel)[1]
    offset = unit.linear(alike, unit.kernel)
    y = unit.linear(_less(xs, shifts), unit.kernel)
    full = ops.ones_like(offset)
    return {
        "count": unit.per_neuron(full, pull_ones),
        "seen": pull_ones(full)[0],
        "offset": offset,
        "offset_mean": unit.output_mean(offset),
        "mean": unit.output_mean(y),
        **{f"shift {i}": shift for i, shift in enumerate(shifts)},
        **{f"digit {i}": pulled for i, pulled in enumerate(_digits(unit, ones, shifts, full))},
    }


def _digits(unit: Unit, ones: tuple[Tensor, ...], shifts: tuple[Tensor, ...], full: Tensor) -> list[Tensor]:
    """Return, for each binary digit, how often a cell of the kernel reads a shift whose number has a 1 there.

    Shifts are numbered through, those of all inputs. Digits can be told from sums over positions whatever rounding does
    to these; the shifts themselves could not.
    """
    sizes = [math.prod(shift.shape) for shift in shifts]
    numbers = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    pulled = []
    dtype = str(keras.backend.standardize_dtype(full.dtype))
    for digit in range(sum(sizes).bit_length()):
        having = [backend.from_numpy((number >> digit & 1).astype(dtype)) for number in numbers]
        marks = [o * ops.reshape(h, shift.shape) for o, h, shift in zip(ones, having, shifts, strict=True)]
        pull = backend.vjp(lambda kernel, marks=tuple(marks): unit.linear(marks, kernel), unit.kernel)[1]
        pulled.append(pull(full)[0])
    return pulled


def _shift_of_cells(unit: Unit, held: dict[str, np.ndarray]) -> np.ndarray:
    """Return what was taken off the cells that each cell of the kernel reads, in the kernel's shape."""
    shifts = np.concatenate([held[f"shift {i}"].astype("float64").ravel() for i in range(unit.inputs)])
    digits = (held[f"digit {i}"] > held["seen"] / 2 for i in range(len(shifts).bit_length()))
    number = sum(digit.astype(int) << i for i, digit in enumerate(digits))
    return shifts[np.minimum(number, len(shifts) - 1)] * (held["seen"] > 0)


def unit_sums(
    unit: Unit, xs: tuple[Tensor, ...], rows: Tensor, origin: Origin, *, sided: bool
) -> tuple[Tensor, list[Sums]]:
    """Return a layer's output, and its sums over samples and positions.

    Args:
        unit: the layer.
        xs: its inputs.
        rows: the weight of each sample (N,).
        origin: from where x and y are measured.
        sided: whether active neurons (output with bias above 0) and the others are summed apart, in this order.
    """
    z = unit.linear(xs, unit.kernel)
    z = z if unit.bias is None else z + unit.bias
    moved = _less(xs, origin.shifts)
    y, pull = backend.vjp(lambda kernel: unit.linear(moved, kernel), unit.kernel)
    y = y + origin.offset
    weight = ops.ones_like(y) * ops.reshape(rows, (-1,) + (1,) * (len(y.shape) - 1))
    weights = [weight]
    if sided:
        active = ops.cast(z > 0, y.dtype)
        weights = [weight * active, weight * (1 - active)]
    pull_ones = None
    if origin.whole is not None or unit.channel is None:
        ones = tuple(ops.ones_like(x[:1]) for x in xs)
        pull_ones = backend.vjp(lambda kernel: unit.linear(ones, kernel), unit.kernel)[1]
    found = []
    for w in weights:
        sums = {"count": unit.per_neuron(w, pull_ones), "y": unit.per_neuron(w * y, pull_ones)}
        sums["x"], sums["xy"] = pull(w)[0], pull(w * y)[0]
        if origin.whole is not None and pull_ones is not None:
            sums["seen"], sums["seen_y"] = (pull_ones(ops.sum(t, axis=0, keepdims=True))[0] for t in (w, w * y))
        found.append(sums)
    return z, found


def _less(xs: tuple[Tensor, ...], shifts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x - shift for x, shift in zip(xs, shifts, strict=True))
