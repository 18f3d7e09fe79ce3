"""The few framework functions that `keras.ops` does not offer, for the backend Keras runs on.

Every backend module defines the same names:

- ``vjp(fn, *primals) -> (outputs, pull)``: value and vector-Jacobian product; ``pull`` may be called
  several times, takes cotangents in the structure of the outputs and returns one tensor per primal
  (zeros where the outputs do not depend on it, or where the primal holds no floats).
- ``compile(fn)``: the fastest sound way to call ``fn`` again and again with tensors of one shape.
- ``once(fn, *args)``: call ``fn`` a single time, without recording, whichever way is over soonest.
- ``inference()``: a context in which nothing is recorded for differentiation.
- ``snapshot(variable)``: the present value of a Keras variable as a plain tensor.
- ``stop_gradient(tensor)``, ``from_numpy(array)``, ``to_numpy(tensor)``, ``version()``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerascope.errors import BackendError

SUPPORTED = ("tensorflow", "jax", "torch")

name: str = keras.backend.backend()
if name not in SUPPORTED:
    raise BackendError(
        f"kerascope runs on the Keras backends {', '.join(SUPPORTED)}; Keras is set to {name!r}. "
        "Set KERAS_BACKEND before Keras is imported."
    )
_module: Any = importlib.import_module(f"kerascope.backend.{name}")

vjp = _module.vjp
compile = _module.compile
once = _module.once
inference = _module.inference
snapshot = _module.snapshot
stop_gradient = _module.stop_gradient
from_numpy: Callable[[np.ndarray], Any] = _module.from_numpy
to_numpy: Callable[[Any], np.ndarray] = _module.to_numpy
version = _module.version
