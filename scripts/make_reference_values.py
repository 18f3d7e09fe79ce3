"""Write the float64 maps in tests/reference/stored: every method on every case, computed on one backend.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python scripts/make_reference_values.py

The tests compare them with what each backend finds. They guard against drift; what they hold has been
proven elsewhere in tests/reference, by closed forms, replicas and identities.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")

from tests.reference import stored_cases  # noqa: E402 - the line above must run first


def main() -> None:
    """Compute and write every case, and say how large the files are."""
    stored_cases.FOLDER.mkdir(exist_ok=True)
    size = 0
    for name in stored_cases.CASES:
        found = stored_cases.compute(name, "float64")
        narrow = {key for key, array in found.items() if array.dtype != np.float64}
        if narrow:
            raise SystemExit(f"{name}: not in float64 (on JAX set JAX_ENABLE_X64=1): {sorted(narrow)[:3]}")
        np.savez_compressed(stored_cases.path_of(name), **found)  # type: ignore[arg-type]
        size += stored_cases.path_of(name).stat().st_size
        print(f"{name}: {len({key.split('|')[0] for key in found})} methods")
    print(f"{size / 1000:.0f} kB in {stored_cases.FOLDER.name}, by {keras.backend.backend()}")


if __name__ == "__main__":
    main()
