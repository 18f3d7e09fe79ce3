"""DeepLIFT once more, in NumPy and neuron by neuron: a stack of matrices, activations and pooling windows.

Nothing here is shared with the library. Matrices come from `matrix_of`; every rule is written out as its
definition, one input, one output and one part at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.reference.replicas import Matrix

Function = Callable[[float], float]
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Activation:
    """An elementwise function and the rule it stands under; ``slope`` is its derivative, for equal inputs."""

    fn: Function
    slope: Function
    rule: str


@dataclass(frozen=True)
class Pool:
    """Maxima over windows: for each output the list of its inputs."""

    windows: Sequence[Sequence[int]]


Stage = Matrix | Activation | Pool


def relu(z: float) -> float:
    """Return max(z, 0)."""
    return max(z, 0.0)


def step(z: float) -> float:
    """Return the derivative of relu, 0 at 0."""
    return float(z > 0)


def deeplift(stages: Sequence[Stage], x: np.ndarray, x0: np.ndarray, target: int) -> np.ndarray:
    """Return the contributions of one sample (inputs,) against one reference (inputs,)."""
    pairs: list[Pair] = [(x, x0)]
    parts: list[Pair] = [(np.maximum(x - x0, 0), np.minimum(x - x0, 0))]
    for stage in stages:
        pair, part = _forward(stage, pairs[-1], parts[-1])
        pairs.append(pair)
        parts.append(part)
    start = np.zeros(len(pairs[-1][0]))
    start[target] = 1.0
    multipliers = (start, start)
    for stage, pair, part, out in zip(stages[::-1], pairs[-2::-1], parts[-2::-1], pairs[:0:-1], strict=True):
        multipliers = _backward(stage, pair, part, out, multipliers)
    return np.asarray(multipliers[0] * parts[0][0] + multipliers[1] * parts[0][1])


def _forward(stage: Stage, pair: Pair, part: Pair) -> tuple[Pair, Pair]:
    x, x0 = pair
    if isinstance(stage, Matrix):
        plus, minus = np.zeros(stage.w.shape[1]), np.zeros(stage.w.shape[1])
        for i, j in np.ndindex(stage.w.shape):
            contribution = stage.w[i, j] * (x[i] - x0[i])
            plus[j] += contribution if contribution > 0 else 0.0
            minus[j] += contribution if contribution < 0 else 0.0
        return (x @ stage.w + stage.b, x0 @ stage.w + stage.b), (plus, minus)
    if isinstance(stage, Pool):
        y, y0 = (np.array([max(values[i] for i in window) for window in stage.windows]) for values in pair)
        return (y, y0), (np.maximum(y - y0, 0), np.minimum(y - y0, 0))
    y, y0 = (np.array([stage.fn(z) for z in values]) for values in pair)
    plus, minus = np.zeros(len(x)), np.zeros(len(x))
    for i in range(len(x)):
        plus[i], minus[i] = _changes(stage, x[i], x0[i], part[0][i], part[1][i])
    return (y, y0), (plus, minus)


def _changes(stage: Activation, z: float, z0: float, plus: float, minus: float) -> tuple[float, float]:
    f = stage.fn
    if stage.rule == "rescale":
        slope = stage.slope(z) if z == z0 else (f(z) - f(z0)) / (z - z0)
        return slope * plus, slope * minus
    up = (f(z0 + plus) - f(z0) + f(z0 + minus + plus) - f(z0 + minus)) / 2
    down = (f(z0 + minus) - f(z0) + f(z0 + plus + minus) - f(z0 + plus)) / 2
    return up, down


def _backward(stage: Stage, pair: Pair, part: Pair, out: Pair, arriving: Pair) -> Pair:
    x, x0 = pair
    above, below = arriving
    plus, minus = np.zeros(len(x)), np.zeros(len(x))
    if isinstance(stage, Matrix):
        for i, j in np.ndindex(stage.w.shape):
            weight, change = stage.w[i, j], x[i] - x0[i]
            if change == 0:
                m = weight * (above[j] + below[j]) / 2
            else:
                m = weight * (above[j] if weight * change > 0 else below[j])
            plus[i] += m
            minus[i] += m
        return plus, minus
    if isinstance(stage, Pool):
        for j, window in enumerate(stage.windows):
            change = out[0][j] - out[1][j]
            if change == 0:
                continue
            winner = max(window, key=lambda i: x[i] if change > 0 else x0[i])
            m = (above[j] if change > 0 else below[j]) * change / (x[winner] - x0[winner])
            plus[winner] += m
            minus[winner] += m
        return plus, minus
    for i in range(len(x)):
        up, down = _changes(stage, x[i], x0[i], part[0][i], part[1][i])
        if stage.rule == "rescale":
            slope = stage.slope(x[i]) if x[i] == x0[i] else (out[0][i] - out[1][i]) / (x[i] - x0[i])
            plus[i], minus[i] = slope * above[i], slope * below[i]
        else:
            plus[i] = above[i] * up / part[0][i] if part[0][i] else 0.0
            minus[i] = below[i] * down / part[1][i] if part[1][i] else 0.0
    return plus, minus
