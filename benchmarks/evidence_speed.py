"""What the statistics of `ks.evidence` cost beside the maps: 1,000 matrices of 128 x 64, 256 references.

    KERAS_BACKEND=jax python benchmarks/evidence_speed.py

About a minute of one core. CPU seconds of the maps (of samples and references) and of all else: p-values, rows,
columns, stretches (without the check by the model). Writes results/evidence_speed.md; exit
status 1 where all else takes longer.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from evidence_bounds import RESULTS, Bounds, write
from keras import layers

import kerascope as ks
from kerascope.explain import Explainer

CLASSES = 4


def network(shape: tuple[int, int]) -> Any:
    """Return a small CNN with random weights: the smaller the model, the more all else weighs."""
    keras.utils.set_random_seed(0)
    inputs = layers.Input(shape)
    h = layers.Conv1D(16, 7, padding="same", activation="relu")(inputs)
    h = layers.Conv1D(32, 5, padding="same", activation="relu")(layers.MaxPooling1D(2)(h))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling1D()(h)))


class Clock:
    """Counts the CPU seconds that explaining takes, by wrapping `Explainer.__call__`."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0
        explain = Explainer.__call__

        def timed(explainer: Explainer, *args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return explain(explainer, *args, **kwargs)
            finally:
                self.seconds += time.process_time() - started
                self.calls += 1

        Explainer.__call__ = timed  # type: ignore[method-assign]


def peak() -> float:
    """Return the largest resident size so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Measure; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--references", type=int, default=256)
    parser.add_argument("--shape", type=int, nargs=2, default=[128, 64])
    parser.add_argument("--all-called", action="store_true", help="level near 1, so that every line gets a stretch")
    parser.add_argument("--out", type=Path, default=RESULTS / "evidence_speed.md")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = tuple(arguments.shape)
    x = rng.normal(size=(arguments.samples, *shape)).astype("float32")
    steps = arguments.references * CLASSES // (CLASSES - 1)
    background = rng.normal(size=(steps + 1, *shape)).astype("float32")
    x[::2, 40:60, 5] += 1.5
    model = network(shape)
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    quiet = {"background": background, "background_labels": np.arange(len(background)) % CLASSES, "check": False}
    quiet |= {"target": np.arange(len(x)) % CLASSES, "batch_size": 64, "dims": ("time", "sensor")}
    ks.evidence(model, x[:64], **quiet | {"target": quiet["target"][:64]})  # compiles
    clock, before = Clock(), peak()
    shown: list[float] = []
    quiet["progress"] = lambda done, total: shown.append(done)
    started = time.process_time()
    found = ks.evidence(model, x, level=0.99 if arguments.all_called else 0.05, **quiet)
    seconds = time.process_time() - started
    rest = seconds - clock.seconds
    bounds = Bounds()
    bounds.say("CPU seconds of the maps", clock.seconds, note=f"({clock.calls} calls of the explainer)")
    bounds.say("CPU seconds of all else", rest)
    bounds.say("all else over maps", rest / clock.seconds, high=1.0)
    bounds.say("peak memory, MiB", peak(), note=f"({before:.0f} before; the maps alone are {x.nbytes / 2**20:.0f})")
    bounds.say("times that progress was shown", float(len(shown)), low=1.0)
    counts = f"{int(found.rows['called'].sum())} rows, {int(found.columns['called'].sum())} columns and "
    said = [
        f"{len(x)} matrices of {shape[0]} x {shape[1]}, references {found.attrs['references']}; called: {counts}"
        f"{len(found.segments)} stretches. Backend {keras.backend.backend()}, one core. Made by "
        "`benchmarks/evidence_speed.py`."
    ]
    write(arguments.out, "What the statistics of evidence cost", said, bounds.table())
    return bounds.status


if __name__ == "__main__":
    sys.exit(main())
