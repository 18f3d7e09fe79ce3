"""One recorded call of a Keras layer or operation, as the converters see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kerascope import backend
from kerascope.model.primitives import Tensor
from kerascope.model.trace import Record


@dataclass(frozen=True)
class Call:
    """A recorded call with its tensors numbered.

    ``tensors`` names the tensors among the arguments in the order in which they occur; ``dtype`` is the
    precision the graph is computed in.
    """

    record: Record
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
        return next(leaf for leaf in self._leaves() if isinstance(leaf, keras.KerasTensor))

    @property
    def rank(self) -> int:
        """The number of axes of the first output, the batch axis included."""
        return len(self.out.shape)

    @property
    def operands(self) -> tuple[Any, Any]:
        """The two operands of a binary operation: KerasTensors or constants."""
        bound = [*self.record.args, *self.record.kwargs.values()]
        return bound[0], bound[1]

    def constant(self, value: Any) -> Tensor:
        """Return an array, number or variable as a plain tensor in the graph's precision."""
        if isinstance(value, keras.Variable):
            value = backend.snapshot(value)
        return ops.cast(ops.convert_to_tensor(value), self.dtype)

    def weight(self, variable: Any) -> Tensor | None:
        """Return a layer's weight as a plain tensor, or None where the layer has none."""
        return None if variable is None else self.constant(variable)

    def replay(self) -> Callable[..., Any]:
        """Return a function that makes the same call with other tensors."""
        structure = (self.record.args, self.record.kwargs)
        leaves = keras.tree.flatten(structure)
        slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, keras.KerasTensor)]
        run = stateless(self.op)

        def fn(*tensors: Tensor) -> Any:
            filled: list[Any] = list(leaves)
            for slot, tensor in zip(slots, tensors, strict=True):
                filled[slot] = tensor
            args, kwargs = keras.tree.pack_sequence_as(structure, filled)
            return _cast_floats(run(*args, **kwargs), self.dtype)

        return fn

    def _leaves(self) -> Sequence[Any]:
        return keras.tree.flatten((self.record.args, self.record.kwargs))


def stateless(op: Any) -> Callable[..., Any]:
    """Return a function that calls a Keras operation without leaving a mark on it.

    What has no weights is called past its dtype policy, so that it computes in the graph's precision.
    """
    if not isinstance(op, keras.layers.Layer) or not op.variables:
        return op.call

    def run(*args: Any, **kwargs: Any) -> Any:
        outputs, _ = op.stateless_call(op.trainable_variables, op.non_trainable_variables, *args, **kwargs)
        return outputs

    return run


def _cast_floats(outputs: Any, dtype: str) -> Any:
    flat = [
        ops.cast(leaf, dtype) if keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype)) else leaf
        for leaf in keras.tree.flatten(outputs)
    ]
    return flat[0] if len(flat) == 1 else tuple(flat)
