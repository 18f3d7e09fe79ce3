"""What the reference tests share: memory for what JAX compiled is given back after each file."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    """Uncompiled methods on many shapes leave thousands of little programs behind, a megabyte each."""
    yield
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
        gc.collect()
