"""The rules of LRP once more, in NumPy and neuron by neuron, over a layer's explicit matrix.

Nothing here is shared with the library: the matrix comes from calling the Keras layer on unit vectors, and
every rule is written out as its definition, q_i / (sum q + bias) times R, one output at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.reference.run import predict


@dataclass(frozen=True)
class Matrix:
    """A layer as z = x w + b over flattened samples: w (inputs, outputs), b (outputs,)."""

    w: np.ndarray
    b: np.ndarray


def matrix_of(layer: Any, shape: Sequence[int]) -> Matrix:
    """Apply a built Keras layer to every unit vector; structural zeros of the matrix are exact."""
    size = int(np.prod(shape))
    bias = getattr(layer, "bias", None)
    kept = None if bias is None else keras.ops.convert_to_numpy(bias)
    zero = predict(layer, np.zeros((1, *shape))).reshape(-1)
    if bias is not None:
        bias.assign(np.zeros_like(kept))
    w = predict(layer, np.eye(size).reshape(size, *shape)).reshape(size, -1)
    if bias is not None:
        bias.assign(kept)
    return Matrix(w, zero)


@dataclass(frozen=True)
class Part:
    """A share of a neuron's relevance: contributions, what joins their sum below the line, and the weight."""

    q: np.ndarray
    extra: float = 0.0
    weight: float = 1.0
    epsilon: float = 0.0


Replica = Callable[..., list[Part]]
"""``replica(x, w, b, **options)`` for one neuron: inputs (n,), weights (n,), bias."""


def up(u: Any) -> Any:
    """Return the positive part."""
    return np.where(np.asarray(u) > 0, u, 0.0)


def down(u: Any) -> Any:
    """Return the negative part."""
    return np.where(np.asarray(u) < 0, u, 0.0)


def zero(x: np.ndarray, w: np.ndarray, b: float) -> list[Part]:
    """LRP-0."""
    return [Part(x * w, b)]


def epsilon(x: np.ndarray, w: np.ndarray, b: float, *, epsilon: float) -> list[Part]:
    """LRP-epsilon; the sign of zero is plus."""
    return [Part(x * w, b, epsilon=epsilon)]


def gamma(x: np.ndarray, w: np.ndarray, b: float, *, gamma: float) -> list[Part]:
    """Generalised gamma: the side of z decides which weights are favoured."""
    z = np.sum(x * w) + b
    if z == 0:
        return []
    if z > 0:
        q = up(x) * (w + gamma * up(w)) + down(x) * (w + gamma * down(w))
        return [Part(q, b + gamma * up(b))]
    q = up(x) * (w + gamma * down(w)) + down(x) * (w + gamma * up(w))
    return [Part(q, b + gamma * down(b))]


def alpha_beta(x: np.ndarray, w: np.ndarray, b: float, *, alpha: float, beta: float) -> list[Part]:
    """Alpha-beta: positive and negative contributions apart, each with its part of the bias."""
    return [Part(up(x * w), up(b), alpha), Part(down(x * w), down(b), -beta)]


def z_plus(x: np.ndarray, w: np.ndarray, b: float) -> list[Part]:
    """Positive contributions alone."""
    return [Part(up(x * w), up(b))]


def w_square(x: np.ndarray, w: np.ndarray, b: float) -> list[Part]:
    """Squared weights; neither input nor bias."""
    return [Part(w * w)]


def flat(x: np.ndarray, w: np.ndarray, b: float) -> list[Part]:
    """One share for every input that is connected."""
    return [Part((w != 0).astype(float))]


def z_box(x: np.ndarray, w: np.ndarray, b: float, *, low: np.ndarray, high: np.ndarray) -> list[Part]:
    """Contributions counted from the corner of the box that speaks most against the neuron."""
    return [Part(x * w - low * up(w) - high * down(w))]


def through(
    replica: Replica,
    x: np.ndarray,
    layer: Matrix,
    relevance: np.ndarray,
    *,
    bias: str = "absorb",
    **options: Any,
) -> tuple[np.ndarray, float]:
    """Send relevance (outputs,) of one sample (inputs,) back through a layer.

    Returns:
        Relevance of the inputs and what was absorbed.
    """
    received, absorbed = np.zeros(len(x)), 0.0
    for j, r in enumerate(relevance):
        left = r
        for part in replica(x, layer.w[:, j], 0.0 if bias == "ignore" else layer.b[j], **options):
            below = np.sum(part.q) + part.extra
            below += part.epsilon * (1 if below >= 0 else -1)
            if below == 0:
                continue
            received += part.weight * r * part.q / below
            left -= part.weight * r * np.sum(part.q) / below
        absorbed += left
    return received, absorbed


def share_in_proportion(
    x: np.ndarray, layer: Matrix, relevance: np.ndarray, epsilon: float = 1e-6
) -> tuple[np.ndarray, float]:
    """Send relevance back through a weightless mixture: proportional, stabilised."""
    return through(globals()["epsilon"], x, layer, relevance, epsilon=epsilon)
