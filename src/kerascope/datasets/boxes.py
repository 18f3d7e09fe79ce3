"""Time series whose class is a shifted box of time steps x features, after Ismail et al. 2020."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kerascope.datasets.base import Dataset
from kerascope.datasets.motifs import autoregressive
from kerascope.errors import BadInputError, unknown_name

Array = npt.NDArray[np.float64]

STEPS, FEATURES = 50, 50
_NARMA_MEAN, _NARMA_SD = 0.3352, 0.0819
"""Of the process below, over 4000 series."""


@dataclass(frozen=True)
class _Layout:
    """A box of ``size`` (steps, features); where it lies, and whether its place or its sign tells the class."""

    size: tuple[int, int]
    moving: bool = False
    positional: str = ""


_LAYOUTS: dict[str, _Layout] = {
    "middle": _Layout((30, 30)),
    "small_middle": _Layout((14, 14)),
    "moving_middle": _Layout((30, 30), moving=True),
    "moving_small_middle": _Layout((15, 15), moving=True),
    "rare_time": _Layout((6, 40)),
    "moving_rare_time": _Layout((6, 40), moving=True),
    "rare_feature": _Layout((40, 6)),
    "moving_rare_feature": _Layout((40, 6), moving=True),
    "positional_time": _Layout((20, 20), positional="time"),
    "positional_feature": _Layout((20, 20), positional="feature"),
}
BOX_LAYOUTS: tuple[str, ...] = tuple(_LAYOUTS)
"""Names of the ten layouts."""


def boxes(n: int, *, seed: int, layout: str = "middle", process: str = "gaussian") -> Dataset:
    """Draw series of 50 steps x 50 features in two classes, told apart by a box of cells.

    The box is shifted by +1 in class 1 and by -1 in class 0; in the two positional layouts it is shifted by +1 in
    both, and where it lies (early or late, low or high features) tells the class. Moving boxes lie anywhere.

    Args:
        n: number of samples; sample i is of class ``i % 2``.
        seed: where the random numbers start.
        layout: one of `BOX_LAYOUTS`.
        process: one of `BOX_PROCESSES`: what the series are without the box, of variance about 1.

    Returns:
        A `Dataset` with x (N, 50, 50) float32, time x feature, y (N,) and truth (N, 50, 50).

    Raises:
        UnknownNameError: for another layout or process.

    Reference: Ismail et al. 2020, "Benchmarking deep learning interpretability in time series predictions", NeurIPS.

    Example:
        >>> from kerascope import datasets
        >>> data = datasets.boxes(4, seed=0, layout="rare_time")
        >>> data.x.shape, int(data.truth[0].sum())
        ((4, 50, 50), 240)
    """
    if layout not in _LAYOUTS:
        raise unknown_name("layout", layout, BOX_LAYOUTS)
    if process not in _PROCESSES:
        raise unknown_name("process", process, BOX_PROCESSES)
    if n < 1 or seed < 0:
        raise BadInputError(f"n must be at least 1 and seed at least 0; got {n} and {seed}.")
    noise_seed, place_seed = np.random.SeedSequence(seed).spawn(2)
    x = np.stack([_PROCESSES[process](np.random.default_rng(own)) for own in noise_seed.spawn(n)])
    y = np.arange(n, dtype=np.int64) % 2
    draws = np.random.default_rng(place_seed).random((n, 2))
    form = _LAYOUTS[layout]
    truth = np.zeros(x.shape, dtype=np.bool_)
    for i in range(n):
        at, column = _corner(form, int(y[i]), draws[i])
        truth[i, at : at + form.size[0], column : column + form.size[1]] = True
    sign = np.ones(n) if form.positional else 2.0 * y - 1
    x = x + sign[:, None, None] * truth
    return Dataset(
        x=x.astype(np.float32),
        y=y,
        truth=truth,
        class_names=("early", "late") if form.positional else ("box at -1", "box at +1"),
        dims=("time", "feature"),
    )


def _corner(form: _Layout, label: int, draw: Array) -> tuple[int, int]:
    """Return the first step and the first feature of a sample's box."""
    free = np.array([STEPS, FEATURES]) - form.size
    if form.moving:
        return int(draw[0] * (free[0] + 1)), int(draw[1] * (free[1] + 1))
    middle = free // 2
    if form.positional:
        # Five cells from the border the one class's box begins, five before the other border the other's ends.
        place = 5 if label == 0 else int(free[0]) - 5
        return (place, int(middle[1])) if form.positional == "time" else (int(middle[0]), place)
    return int(middle[0]), int(middle[1])


def _gaussian(rng: np.random.Generator) -> Array:
    return rng.standard_normal((STEPS, FEATURES))


def _autoregressive(rng: np.random.Generator) -> Array:
    return autoregressive(rng.standard_normal((STEPS, FEATURES)), 0.9, axis=0)


def _continuous_autoregressive(rng: np.random.Generator) -> Array:
    """An Ornstein-Uhlenbeck process at irregular times: decay 0.9 per unit, gaps exponential with mean one."""
    gaps = rng.exponential(size=(STEPS, FEATURES))
    white = rng.standard_normal((STEPS, FEATURES))
    found = np.empty_like(white)
    found[0] = white[0]
    for t in range(1, STEPS):
        kept = 0.9 ** gaps[t]
        found[t] = kept * found[t - 1] + np.sqrt(1 - kept**2) * white[t]
    return found


def _harmonic(rng: np.random.Generator) -> Array:
    """Sine waves of period 10 to 50 steps and random phase, with noise of a tenth of their variance."""
    t = np.arange(STEPS)[:, None]
    period, phase = rng.uniform(10, 50, (1, FEATURES)), rng.uniform(0, 2 * np.pi, (1, FEATURES))
    waves = np.sqrt(2) * np.sin(2 * np.pi * t / period + phase)
    return np.asarray(np.sqrt(0.9) * waves + np.sqrt(0.1) * rng.standard_normal(waves.shape))


def _pseudo_periodic(rng: np.random.Generator) -> Array:
    """Sine waves whose amplitude and frequency vary from step to step."""
    shape = (STEPS, FEATURES)
    amplitude = 1 + 0.3 * rng.standard_normal(shape)
    frequency = (1 + 0.2 * rng.standard_normal(shape)) / rng.uniform(10, 50, (1, FEATURES))
    phase = rng.uniform(0, 2 * np.pi, (1, FEATURES)) + 2 * np.pi * np.cumsum(frequency, axis=0)
    return np.asarray(np.sqrt(2) * amplitude * np.sin(phase))


def _gaussian_process(rng: np.random.Generator) -> Array:
    """A Gaussian process with the Matern kernel of smoothness 3/2 and a length of five steps."""
    distance = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS))) * np.sqrt(3) / 5
    root = np.linalg.cholesky((1 + distance) * np.exp(-distance) + 1e-9 * np.eye(STEPS))
    return np.asarray(root @ rng.standard_normal((STEPS, FEATURES)))


def _narma(rng: np.random.Generator) -> Array:
    """The nonlinear moving average of order ten driven by uniform noise, brought to mean 0 and variance 1."""
    order, burn = 10, 50
    drive = rng.uniform(0, 0.5, (order + burn + STEPS, FEATURES))
    found = np.zeros_like(drive)
    for t in range(order, len(drive)):
        last, past = found[t - 1], found[t - order : t].sum(axis=0)
        value = 0.3 * last + 0.05 * last * past + 1.5 * drive[t - order] * drive[t - 1] + 0.1
        found[t] = np.tanh(value)  # keeps the rare series that would run away
    return np.asarray((found[-STEPS:] - _NARMA_MEAN) / _NARMA_SD)


_PROCESSES: dict[str, Callable[[np.random.Generator], Array]] = {
    "gaussian": _gaussian,
    "harmonic": _harmonic,
    "gaussian_process": _gaussian_process,
    "pseudo_periodic": _pseudo_periodic,
    "autoregressive": _autoregressive,
    "continuous_autoregressive": _continuous_autoregressive,
    "narma": _narma,
}
BOX_PROCESSES: tuple[str, ...] = tuple(_PROCESSES)
"""Names of the seven processes."""
