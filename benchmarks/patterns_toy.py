"""Signal and distractor in two dimensions: what a pattern finds, and what a gradient shows instead.

After figure 2 of Kindermans et al. 2018, ICLR: x = (1, 0) y + a_d e, with y uniform on [-1, 1] and e ~ N(0, 1). The
neuron that reads y off is orthogonal to the distractor a_d, so its weights, and with them the gradient, turn with a_d
although the signal stays where it is; the pattern stays as well.

    KERAS_BACKEND=tensorflow python benchmarks/patterns_toy.py

With a_d = (1, 1) the pattern must be (1, 0) to 0.02, PatternAttribution of an output of 1 likewise, the gradient
(1, -1), and rho of the filter 1 - 1/sqrt(13) = 0.7226 to 0.01. For twelve directions of a_d, at an angle t to the
signal, the gradient must be (1, -cot t) to 0.02, rho of the filter as derived in `filter_quality` to 0.01, and the
pattern stays. Exit status 1 if one bound fails.
"""

from __future__ import annotations

import argparse
import sys
import warnings

import keras
import numpy as np

import kerascope as ks

ANGLES = (15, 30, 45, 60, 75, 105, 120, 135, 150, 165, 240, 315)
"""Between distractor and signal, in degrees; at 0 and 180 nothing reads y off."""


def data(angle: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return x (count, 2) and y (count,); the distractor has length sqrt(2), as (1, 1) has."""
    rng = np.random.default_rng(seed)
    y, e = rng.uniform(-1, 1, count), rng.normal(size=count)
    t = np.deg2rad(angle)
    return np.outer(y, [1.0, 0.0]) + np.sqrt(2) * np.outer(e, [np.cos(t), np.sin(t)]), y


def neuron(x: np.ndarray, y: np.ndarray) -> keras.Model:
    """Return the least-squares neuron."""
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    model.layers[0].kernel.assign(weights.reshape(2, 1))
    return model


def filter_quality(angle: float) -> float:
    """Return rho of S(x) = w (w x)/(w w) for w = (1, -cot t).

    The residual lies along the distractor, where x has the amplitude y cos(t) + e |a_d|; its correlation with y is
    1/sqrt(1 + |a_d|^2 var(e) / (cos(t)^2 var(y))), with |a_d|^2 = 2, var(e) = 1 and var(y) = 1/3.
    """
    return 1 - 1 / np.sqrt(1 + 2 / (np.cos(np.deg2rad(angle)) ** 2 / 3))


def main() -> int:
    """Run, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    count = parser.parse_args().samples
    failed = 0
    print(
        f"{'angle':>6}  {'pattern':>16}  {'attribution':>16}  {'gradient':>18}  {'-cot t':>8}  {'rho(S_w)':>8}  exact"
    )
    for angle in (45, *(a for a in ANGLES if a != 45)):
        x, y = data(angle, count)
        model = neuron(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ks.KerascopeWarning)
            patterns = ks.Patterns.fit(model, x, batch_size=10_000)
            one = {"patterns": patterns, "start": "one"}
            shown = ks.explain(model, x[:1], "pattern_attribution", target=0, **one).values[0]
            gradient = ks.explain(model, x[:1], "gradient", target=0).values[0]
        pattern = patterns.layers[0].values[:, 0]
        rho = float(ks.signal_quality(model, patterns, x, observations=count, batch_size=10_000)["filter"][0])
        slope, exact = -1 / np.tan(np.deg2rad(angle)), filter_quality(angle)
        bounds = {
            "pattern": np.max(np.abs(pattern - [1, 0])) <= 0.02,
            "attribution": np.max(np.abs(shown - [1, 0])) <= 0.02,
            "gradient": np.max(np.abs(gradient - [1, slope])) <= 0.02 * max(1, abs(slope)),
            "rho": abs(rho - exact) <= 0.01,
        }
        missed = [name for name, held in bounds.items() if not held]
        failed += bool(missed)
        cells = [f"({v[0]:6.3f}, {v[1]:6.3f})" for v in (pattern, shown, gradient)]
        print(f"{angle:>6}  {'  '.join(cells)}  {slope:8.3f}  {rho:8.4f}  {exact:.4f}  {' '.join(missed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
