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
    floats = [i for i, primal in enumerate(primals) if _is_float(primal)]

    def of_floats(*values: Any) -> Any:
        filled = list(primals)
        for i, value in zip(floats, values, strict=True):
            filled[i] = value
        return fn(*filled)

    outputs, back = jax.vjp(of_floats, *(primals[i] for i in floats))

    def pull(cotangents: Any) -> tuple[Any, ...]:
        grads: list[Any] = [None] * len(primals)
        seeds = jax.tree.map(_cotangent, outputs, _like(outputs, cotangents))
        for i, grad in zip(floats, back(seeds), strict=True):
            grads[i] = grad
        return tuple(
            jnp.zeros(jnp.shape(primal), "float32") if grad is None else grad
            for primal, grad in zip(primals, grads, strict=True)
        )

    return outputs, pull


def _is_float(value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.floating))


def _like(outputs: Any, cotangents: Any) -> Any:
    return type(outputs)(cotangents) if isinstance(outputs, (tuple, list)) else cotangents


def _cotangent(output: Any, cotangent: Any) -> Any:
    """Return what JAX wants to arrive at an output: nothing, in a dtype of its own, at whole numbers."""
    return cotangent if _is_float(output) else np.zeros(output.shape, jax.dtypes.float0)


def once(fn: Callable[..., Any], *args: Any) -> Any:
    """Compile hastily and call: running every operation by itself would compile each of them."""
    try:
        hasty = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        run = jax.jit(fn).lower(*args).compile(compiler_options=hasty)
    except Exception:  # what cannot be compiled, for one reason or another, may still run
        return fn(*args)
    return run(*args)


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with XLA; weights that ``fn`` closes over become constants."""
    compiled: Callable[..., Any] = jax.jit(fn)
    return compiled


def inference() -> contextlib.AbstractContextManager[None]:
    """Do nothing: JAX records nothing unless asked."""
    return contextlib.nullcontext()


def snapshot(variable: Any) -> Any:
    """Return the variable's present (immutable) array."""
    return jnp.asarray(variable.value)


def stop_gradient(tensor: Any) -> Any:
    """Return the tensor, cut off from differentiation."""
    return jax.lax.stop_gradient(tensor)


def from_numpy(array: np.ndarray) -> Any:
    """Return an array as a tensor; nothing is compiled for it."""
    return jax.device_put(array)


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to NumPy."""
    return np.asarray(tensor)


def version() -> str:
    """Return the framework's version."""
    return str(jax.__version__)
