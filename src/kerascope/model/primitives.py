"""The primitive operations a model is taken apart into.

Whatever a layer is called in Keras, methods see one of a few kinds: a kernel with a bias (`Affine`), an
elementwise nonlinearity (`Activation`), a weightless linear mixture (`Mixture`), a choice of the largest
(`Winner`), a product of two tensors (`Product`), a rearrangement of cells (`Route`), or a function of which
only the derivative is known (`Opaque`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from keras import ops

from kerascope import backend

Tensor = Any

#: Activations whose outputs are never negative.
NON_NEGATIVE = frozenset(["relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exp", "abs", "square", "softmax"])
#: Activations with values between 0 and 1: what comes out of them can serve as a gate.
GATES = frozenset({"sigmoid", "hard_sigmoid", "softmax"})
#: Activations a final layer may carry without taking part in the decision; they are taken off.
HEADS = frozenset({"softmax", "sigmoid", "log_softmax"})


@dataclass(frozen=True, eq=False, kw_only=True)
class Primitive:
    """One operation of a graph: a pure function of tensors."""

    label: str
    """What the operation is called in tables, e.g. ``"Conv2D"``."""

    kind: ClassVar[str] = "opaque"

    def __call__(self, *tensors: Tensor) -> Any:
        """Compute the operation's output, or a tuple of outputs."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Primitive):
    """``z = linear(x, kernel) + bias``: dense, every convolution, and per-cell scaling.

    ``form`` says how the kernel's axes are laid out: ``"dense"`` (..., in, out), ``"conv"`` (..., in per
    group, out), ``"depthwise"`` (..., in, multiplier), ``"transpose"`` (..., out, in), ``"einsum"`` (any),
    ``"diagonal"`` (broadcasts against x). ``bias`` has the rank of z and broadcasts against it.
    """

    linear: Callable[[Tensor, Tensor], Tensor]
    kernel: Tensor
    bias: Tensor | None = None
    form: str = "dense"
    channel_axis: int = -1
    """Where z holds the channels that the bias and a BatchNormalization act on."""
    zero_padded: bool = False
    padding: Callable[..., Any] | None = None
    """The layer of padding that was made part of ``linear``, if one was."""

    kind: ClassVar[str] = "affine"

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return z for the one input x."""
        z = self.linear(tensors[0], self.kernel)
        return z if self.bias is None else z + self.bias

    @property
    def is_diagonal(self) -> bool:
        """Whether every cell is scaled and shifted by itself, as in BatchNormalization."""
        return self.form == "diagonal"

    def scale_outputs(self, scale: np.ndarray) -> Affine | None:
        """Return the operation times a scale (C,) or (), or None where the layout is not known."""
        kernel = backend.to_numpy(self.kernel)
        spread = _spread_over_outputs(self.form, kernel.shape, scale)
        if spread is None:
            return None
        bias = self.bias
        if bias is not None:
            shape = as_channels(scale, len(bias.shape), self.channel_axis)
            bias = backend.from_numpy(backend.to_numpy(bias) * shape)
        return replace(self, kernel=backend.from_numpy(kernel * spread), bias=bias)

    def scale_inputs(self, scale: np.ndarray) -> Affine | None:
        """Return ``x -> self(scale * x)`` for a per-channel scale (C_in,) or (), or None."""
        kernel = backend.to_numpy(self.kernel)
        spread = _spread_over_inputs(self.form, kernel.shape, scale)
        return None if spread is None else replace(self, kernel=backend.from_numpy(kernel * spread))

    def shift_outputs(self, shift: np.ndarray) -> Affine:
        """Return the operation plus ``shift``, which has the rank of z."""
        total = shift if self.bias is None else backend.to_numpy(self.bias) + shift
        return replace(self, bias=backend.from_numpy(total))


def as_channels(vector: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Reshape a vector (C,) or scalar so that it broadcasts along one axis of a tensor of that rank."""
    if not vector.shape:
        return vector.reshape((1,) * rank)
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def _spread_over_outputs(form: str, kernel: tuple[int, ...], scale: np.ndarray) -> np.ndarray | None:
    if not scale.shape or form in ("dense", "conv"):
        return scale
    if form == "depthwise":
        return scale.reshape(kernel[-2:])
    if form == "transpose":
        return scale.reshape(-1, 1)
    return None


def _spread_over_inputs(form: str, kernel: tuple[int, ...], scale: np.ndarray) -> np.ndarray | None:
    if not scale.shape or form == "transpose":
        return scale
    if form in ("dense", "depthwise"):
        return scale.reshape(-1, 1)
    if form == "conv":
        per_group, outputs = kernel[-2:]
        groups = len(scale) // per_group
        by_group = scale.reshape(groups, per_group).T
        return np.repeat(by_group, outputs // groups, axis=1)
    return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(Primitive):
    """An elementwise nonlinearity of one tensor."""

    name: str
    fn: Callable[[Tensor], Tensor]

    kind: ClassVar[str] = "activation"

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return ``fn(x)``."""
        return self.fn(tensors[0])

    @property
    def is_relu(self) -> bool:
        """Whether this is max(x, 0) and nothing else (ReLU6 and leaky ReLU are not)."""
        return self.name == "relu"


@dataclass(frozen=True, eq=False, kw_only=True)
class Mixture(Primitive):
    """A linear map without weights: pooling by average, sums, Add, Average, Subtract."""

    fn: Callable[..., Tensor]
    keeps_sign: bool = True
    """Whether non-negative inputs give non-negative outputs."""

    kind: ClassVar[str] = "mixture"

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return ``fn(*tensors)``."""
        return self.fn(*tensors)


@dataclass(frozen=True, eq=False, kw_only=True)
class Winner(Primitive):
    """The largest (or smallest) of several values: max pooling, Maximum, Minimum."""

    fn: Callable[..., Tensor]
    axes: tuple[int, ...] | None = None
    """Set where the maximum runs over whole axes: there ties must be broken by hand (to the first)."""

    kind: ClassVar[str] = "winner"

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return ``fn(*tensors)``."""
        return self.fn(*tensors)

    def first_of(self, x: Tensor) -> Tensor:
        """Return 1 at the first maximum over ``axes`` of x and 0 elsewhere, in the shape of x."""
        if self.axes is None:
            raise ValueError("first_of needs a maximum over whole axes")
        rank = len(x.shape)
        axes = sorted(axis % rank for axis in self.axes)
        kept = [axis for axis in range(rank) if axis not in axes]
        order = [*kept, *axes]
        moved = ops.transpose(x, order)
        shape = ops.shape(moved)
        cells = math.prod(shape[len(kept) :])
        flat = ops.reshape(moved, (*shape[: len(kept)], cells))
        hot = ops.one_hot(ops.argmax(flat, axis=-1), cells, dtype=x.dtype)
        back = [order.index(axis) for axis in range(rank)]
        return ops.transpose(ops.reshape(hot, shape), back)


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Primitive):
    """The product of two tensors that both depend on the input."""

    kind: ClassVar[str] = "product"

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return ``x1 * x2``."""
        return ops.multiply(tensors[0], tensors[1])


@dataclass(frozen=True, eq=False, kw_only=True)
class Route(Primitive):
    """A rearrangement: every output cell is one input cell, a fixed mixture of them, or a constant zero."""

    fn: Callable[..., Any]
    pads: bool = False
    """Whether some output cells hold a constant: relevance that reaches them is lost, and counted."""
    keeps_cells: bool = True
    """Whether output cells are copies of input cells (False for interpolation)."""
    keeps_sign: bool = True
    """Whether non-negative inputs give non-negative outputs: not where a constant cell is negative."""

    kind: ClassVar[str] = "route"

    def __call__(self, *tensors: Tensor) -> Any:
        """Return ``fn(*tensors)``."""
        return self.fn(*tensors)


@dataclass(frozen=True, eq=False, kw_only=True)
class Opaque(Primitive):
    """A function that can be differentiated but for which no rule is known."""

    fn: Callable[..., Any]
    name: str = ""
    """The activation's name where it is one that mixes cells (softmax)."""
    reverses: bool = False
    """Whether it returns the first axis behind the batch axis last step first, as a recurrent layer can."""

    kind: ClassVar[str] = "opaque"

    def __call__(self, *tensors: Tensor) -> Any:
        """Return ``fn(*tensors)``."""
        return self.fn(*tensors)
