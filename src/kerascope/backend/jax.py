"""JAX: vector-Jacobian products and compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return the outputs of ``fn`` and the function that pulls cotangents back to the primals."""
    outputs, pull = jax.vjp(fn, *primals)
    return outputs, pull


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with XLA; weights that ``fn`` closes over become constants."""
    return jax.jit(fn)


def inference() -> contextlib.AbstractContextManager[None]:
    """Do nothing: JAX records nothing unless asked."""
    return contextlib.nullcontext()


def snapshot(variable: Any) -> Any:
    """Return the variable's present (immutable) array."""
    return jnp.asarray(variable.value)


def stop_gradient(tensor: Any) -> Any:
    """Return the tensor, cut off from differentiation."""
    return jax.lax.stop_gradient(tensor)


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to NumPy."""
    return np.asarray(tensor)


def version() -> str:
    """Return the framework's version."""
    return str(jax.__version__)
