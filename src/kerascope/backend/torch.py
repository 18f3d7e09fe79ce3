"""PyTorch: vector-Jacobian products; nothing is compiled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return the outputs of ``fn`` and the function that pulls cotangents back to the primals.

    Differentiates with respect to detached copies, so no parameter's ``.grad`` is touched.
    """
    with torch.enable_grad():
        leaves = [primal.detach().requires_grad_(primal.is_floating_point()) for primal in primals]
        outputs = fn(*leaves)
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    single = isinstance(outputs, torch.Tensor)
    heads = [outputs] if single else list(outputs)
    live = [i for i, head in enumerate(heads) if head.requires_grad]

    def pull(cotangents: Any) -> tuple[Any, ...]:
        seeds = [cotangents] if single else list(cotangents)
        grads: Any = [None] * len(floats)
        if live and floats:
            grads = torch.autograd.grad(
                [heads[i] for i in live],
                floats,
                [seeds[i] for i in live],
                retain_graph=True,
                allow_unused=True,
            )
        found = iter(grads)
        return tuple(
            _or_zeros(next(found), leaf) if leaf.requires_grad else torch.zeros(leaf.shape).to(leaf.device)
            for leaf in leaves
        )

    detached = [head.detach() for head in heads]
    return (detached[0] if single else tuple(detached)), pull


def _or_zeros(grad: Any, leaf: Any) -> Any:
    return torch.zeros_like(leaf) if grad is None else grad


def once(fn: Callable[..., Any], *args: Any) -> Any:
    """Call without recording: every operation runs as it comes, nothing is compiled."""
    with torch.no_grad():
        return fn(*args)


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Run eagerly without recording: compiling costs minutes and gains little on a CPU."""

    @functools.wraps(fn)
    def run(*args: Any) -> Any:
        with torch.no_grad():
            return fn(*args)

    return run


def inference() -> contextlib.AbstractContextManager[None]:
    """Record nothing for differentiation."""
    quiet: contextlib.AbstractContextManager[None] = torch.no_grad()
    return quiet


def snapshot(variable: Any) -> Any:
    """Return the variable's present value, detached (it shares memory with the variable)."""
    return variable.value.detach()


def stop_gradient(tensor: Any) -> Any:
    """Return the tensor, cut off from differentiation."""
    return tensor.detach()


def from_numpy(array: np.ndarray) -> Any:
    """Return an array as a tensor, where Keras keeps its own."""
    return keras.ops.convert_to_tensor(array)


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to NumPy."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def version() -> str:
    """Return the framework's version."""
    return str(torch.__version__)
