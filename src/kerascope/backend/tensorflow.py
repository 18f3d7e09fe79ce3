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
    # Copies: of one tensor given twice, the tape would return the sum of both derivatives for each.
    primals = tuple(tf.identity(primal) for primal in primals)
    watched = [primal for primal in primals if primal.dtype.is_floating]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(watched)
        outputs = fn(*primals)
    single = not isinstance(outputs, (tuple, list))
    heads = [outputs] if single else list(outputs)
    live = [i for i, head in enumerate(heads) if head.dtype.is_floating]

    def pull(cotangents: Any) -> tuple[Any, ...]:
        seeds = [cotangents] if single else list(cotangents)
        grads = tape.gradient([heads[i] for i in live], watched, [seeds[i] for i in live])
        found = iter(grads)
        return tuple(
            _or_zeros(next(found), primal) if primal.dtype.is_floating else tf.zeros(tf.shape(primal))
            for primal in primals
        )

    return outputs, pull


def _or_zeros(grad: Any, primal: Any) -> Any:
    return tf.zeros_like(primal) if grad is None else tf.convert_to_tensor(grad)


def once(fn: Callable[..., Any], *args: Any) -> Any:
    """Call: every operation runs as it comes, nothing is compiled."""
    return fn(*args)


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Trace into a TensorFlow graph, once for each shape; unused operations are pruned."""
    compiled: Callable[..., Any] = tf.function(fn, autograph=False)
    return compiled


def inference() -> contextlib.AbstractContextManager[None]:
    """Do nothing: TensorFlow records only under a tape."""
    return contextlib.nullcontext()


def snapshot(variable: Any) -> Any:
    """Return the variable's present value."""
    return tf.convert_to_tensor(variable.value)


def stop_gradient(tensor: Any) -> Any:
    """Return the tensor, cut off from differentiation."""
    return tf.stop_gradient(tensor)


def from_numpy(array: np.ndarray) -> Any:
    """Return an array as a tensor."""
    return tf.convert_to_tensor(array)


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to NumPy."""
    return np.asarray(tensor)


def version() -> str:
    """Return the framework's version."""
    return str(tf.__version__)
