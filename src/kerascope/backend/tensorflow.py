"""TensorFlow: vector-Jacobian products and compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return the outputs of ``fn`` and the function that pulls cotangents back to the primals.

    The tape is persistent, so that several targets share one forward pass.
    """
    primals = tuple(tf.convert_to_tensor(primal) for primal in primals)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(primals)
        outputs = fn(*primals)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        grads = tape.gradient(
            outputs, primals, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return tuple(tf.convert_to_tensor(grad) for grad in grads)

    return outputs, pull


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Trace into a TensorFlow graph, once for each shape; unused operations are pruned."""
    return tf.function(fn, autograph=False)


def inference() -> contextlib.AbstractContextManager[None]:
    """Do nothing: TensorFlow records only under a tape."""
    return contextlib.nullcontext()


def snapshot(variable: Any) -> Any:
    """Return the variable's present value."""
    return tf.convert_to_tensor(variable.value)


def stop_gradient(tensor: Any) -> Any:
    """Return the tensor, cut off from differentiation."""
    return tf.stop_gradient(tensor)


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to NumPy."""
    return np.asarray(tensor)


def version() -> str:
    """Return the framework's version."""
    return str(tf.__version__)
