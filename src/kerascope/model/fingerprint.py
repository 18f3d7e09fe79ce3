"""A short name for a model's exact weights, quick enough to be taken before every call."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from kerascope import backend


def fingerprint(model: keras.Model) -> str:
    """Return a short hash of the model's architecture names and every bit of its weights."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(backend.to_numpy(backend.snapshot(weight)))
        digest.update(f"{weight.path}{array.shape}{array.dtype}".encode())
        digest.update(checksum(array))
    return digest.hexdigest()[:16]


def weights_fingerprint(model: keras.Model) -> str:
    """Return a short hash of layers' names and weights that saving and loading does not change.

    The path of a weight begins with the model's name, or does not, depending on how the model was made.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(backend.to_numpy(backend.snapshot(weight)))
        digest.update(f"{'/'.join(weight.path.split('/')[-2:])}{array.shape}{array.dtype}".encode())
        digest.update(checksum(array))
    return digest.hexdigest()[:16]


def checksum(array: np.ndarray) -> bytes:
    """Return bytes that change when elements change or trade places: wrapping sums by block and by place."""
    flat = array.reshape(-1).view(np.uint8)
    whole = len(flat) // (8 * _BLOCK) * (8 * _BLOCK)
    words = flat[:whole].view(np.uint64).reshape(-1, _BLOCK)
    sums = [np.add.reduce(words, axis=axis, dtype=np.uint64).tobytes() for axis in (0, 1)]
    return b"".join(sums) + flat[whole:].tobytes()


_BLOCK = 1024
"""Words per block; what is left over is taken as it is."""
