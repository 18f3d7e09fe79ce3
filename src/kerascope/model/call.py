"""One recorded call of a Keras layer or operation, as the converters see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.model import trace
from kerascope.model.primitives import Tensor


@dataclass(frozen=True)
class Call:
    """A recorded call with its tensors numbered.

    ``tensors`` names the tensors among the arguments in the order in which they occur; ``dtype`` is the
    precision the graph is computed in.
    """

    record: trace.Record
    tensors: tuple[int, ...]
    dtype: str

    @property
    def op(self) -> Any:
        """The Keras layer or operation."""
        return self.record.op

    @property
    def label(self) -> str:
        """Its class name."""
        return type(self.record.op).__name__

    @property
    def out(self) -> Any:
        """The (first) output as a KerasTensor."""
        return keras.tree.flatten(self.record.outputs)[0]

    @property
    def x(self) -> Any:
        """The first tensor argument as a KerasTensor."""
        return next(leaf for leaf in self.leaves if isinstance(leaf, keras.KerasTensor))

    @property
    def rank(self) -> int:
        """The number of axes of the first output, the batch axis included."""
        return len(self.out.shape)

    @property
    def operands(self) -> tuple[Any, Any]:
        """The two operands of a binary operation: KerasTensors or constants."""
        bound = [*self.record.args, *self.record.kwargs.values()]
        return bound[0], bound[1]

    @property
    def leaves(self) -> Sequence[Any]:
        """Everything the call was given, flat: tensors, constants, options."""
        flat: list[Any] = keras.tree.flatten((self.record.args, self.record.kwargs))
        return flat

    @property
    def constants(self) -> list[Any]:
        """What was given as a value and is neither None nor an option in words."""
        return [
            leaf for leaf in self.leaves if not isinstance(leaf, (keras.KerasTensor, str, bool)) and leaf is not None
        ]

    def constant(self, value: Any) -> Tensor:
        """Return an array, number or variable as a plain tensor in the graph's precision."""
        if isinstance(value, keras.Variable):
            value = backend.snapshot(value)
        return ops.cast(ops.convert_to_tensor(value), self.dtype)

    def array(self, value: Any) -> np.ndarray:
        """Return an array, number or variable in NumPy, in the graph's precision; nothing is compiled."""
        if isinstance(value, keras.Variable):
            value = backend.snapshot(value)
        array = backend.to_numpy(value) if ops.is_tensor(value) else np.asarray(value)
        return array.astype(self.dtype)

    def weight(self, variable: Any) -> Tensor | None:
        """Return a layer's weight as a plain tensor, or None where the layer has none."""
        return None if variable is None else self.constant(variable)

    def replay(self, run: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Return a function that makes the same call with other tensors, of what was called or of ``run``."""
        structure = (self.record.args, self.record.kwargs)
        leaves = [_present(leaf) for leaf in self.leaves]
        slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, keras.KerasTensor)]
        run = run or stateless(self.op, whole=self.record.whole)

        def fn(*tensors: Tensor) -> Any:
            filled: list[Any] = list(leaves)
            for slot, tensor in zip(slots, tensors, strict=True):
                filled[slot] = tensor
            args, kwargs = keras.tree.pack_sequence_as(structure, filled)
            return _cast_floats(run(*args, **kwargs), self.dtype)

        return fn


def _present(leaf: Any) -> Any:
    return backend.snapshot(leaf) if isinstance(leaf, keras.Variable) else leaf


def stateless(op: Any, *, whole: bool) -> Callable[..., Any]:
    """Return a function that calls a Keras operation without leaving a mark on it.

    Args:
        op: a layer or operation.
        whole: whether it is a layer that could not be looked into: it is called as a user would. Anything
            else is called past its dtype policy, so that it computes in the graph's precision.
    """
    if not isinstance(op, keras.layers.Layer) or not (whole or op.variables):
        return op.call  # type: ignore[no-any-return]
    values = [(variable, backend.snapshot(variable)) for variable in op.variables]
    call = op if whole else op.call

    def run(*args: Any, **kwargs: Any) -> Any:
        with trace.untouched(op, values):
            return call(*args, **kwargs)

    return run


def is_float(tensor: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)))


def _cast_floats(outputs: Any, dtype: str) -> Any:
    flat = [
        ops.cast(leaf, dtype) if is_float(leaf) else leaf for leaf in keras.tree.flatten(outputs) if leaf is not None
    ]
    return flat[0] if len(flat) == 1 else tuple(flat)
