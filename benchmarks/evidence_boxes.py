"""The layouts of Ismail et al. 2020: area under the precision-recall curve of methods at cells, rows and columns.

    KERAS_BACKEND=torch python benchmarks/evidence_boxes.py

About ten minutes of one core (PyTorch runs uncompiled: with 24 networks compiling takes longer than explaining).
Series of 50 steps x 50 features in two classes, told apart by a box of cells; a 2-D CNN and a 1-D temporal
convolutional network, of at least 90 % accuracy. Writes results/evidence_boxes_cnn.md and evidence_boxes_tcn.md. The
curve is threshold-free and not weighted by saliency: the numbers are not those of the paper's AUPR, which is.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from evidence_bounds import RESULTS, write
from keras import layers
from scipy import stats

import kerascope as ks

LAYOUTS = ("middle", "moving_middle", "rare_time", "moving_rare_time", "rare_feature", "moving_rare_feature")
PROCESSES = ("gaussian", "autoregressive")
TRAIN, TEST, EPOCHS, ATTEMPTS, ENOUGH = 1000, 40, 8, 2, 0.9
METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "input": {},
    "gradient": {},
    "smoothgrad": {"draws": 16},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 16},
    "expected_gradients": {"draws": 32},
    "deeplift": {},
    "lrp": {},
    "lrp.epsilon": {},
    "lrp.z_plus": {},
    "guided_backprop": {},
    "grad_cam": {},
    "hires_cam": {},
    "occlusion": {"window": 5, "stride": 5, "fills": 8},
}
LEVELS = ("cells", "rows", "columns")
Scores = dict[tuple[str, str, str, str], np.ndarray]
"""AUPRC of each test sample, by layout, model, method and level; processes joined."""


def cnn() -> Any:
    """Return a CNN over time and features."""
    inputs = layers.Input((50, 50))
    h = layers.Reshape((50, 50, 1))(inputs)
    h = layers.MaxPooling2D(2)(layers.Conv2D(8, 5, padding="same", activation="relu")(h))
    h = layers.Conv2D(16, 5, padding="same", activation="relu")(h)
    h = layers.Flatten()(layers.AveragePooling2D(5)(h))
    h = layers.Dropout(0.3)(h)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dense(32, activation="relu")(h)))


def tcn() -> Any:
    """Return a temporal convolutional network: causal, dilated, residual."""
    inputs = layers.Input((50, 50))
    h = layers.Conv1D(32, 1)(inputs)
    for dilation in (1, 2, 4, 8):
        inner = layers.Conv1D(32, 3, padding="causal", dilation_rate=dilation, activation="relu")(h)
        h = layers.ReLU()(layers.Add()([h, layers.Conv1D(32, 3, padding="causal", dilation_rate=dilation)(inner)]))
    h = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(h))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(h))


MODELS = {"CNN": cnn, "TCN": tcn}


def trained(build: Any, layout: str, process: str) -> tuple[Any, float]:
    """Train until accuracy suffices; return the best network and its accuracy."""
    train = ks.datasets.boxes(TRAIN, seed=1, layout=layout, process=process)
    held_out = ks.datasets.boxes(300, seed=2, layout=layout, process=process)
    best, reached = None, -1.0
    for attempt in range(ATTEMPTS):
        keras.utils.set_random_seed(attempt)
        model = build()
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
        model.fit(train.x, train.y, batch_size=32, epochs=EPOCHS * (1 + attempt), verbose=0)
        accuracy = float(np.mean(model.predict(held_out.x, verbose=0).argmax(axis=1) == held_out.y))
        if accuracy > reached:
            best, reached = model, accuracy
        if reached >= ENOUGH:
            break
    return best, reached


def average_precision(scores: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the area under each row's precision-recall curve (N,); ties are broken at random."""
    shuffle = rng.permutation(scores.shape[1])
    scores, truth = scores[:, shuffle], truth[:, shuffle]
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / hits.sum(axis=1))


def judged(values: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the area at each level; rows and columns score the sum of absolute values."""
    size, rng = np.abs(values).astype(float), np.random.default_rng(0)
    flat = (len(size), -1)
    return {
        "cells": average_precision(size.reshape(flat), truth.reshape(flat), rng),
        "rows": average_precision(size.sum(axis=2), truth.any(axis=2), rng),
        "columns": average_precision(size.sum(axis=1), truth.any(axis=1), rng),
    }


def measure(scores: Scores, layout: str, process: str, name: str) -> float:
    """Train one network and judge every method on it; return the accuracy."""
    model, accuracy = trained(MODELS[name], layout, process)
    if accuracy < ENOUGH:
        return accuracy
    data = ks.datasets.boxes(TEST, seed=3, layout=layout, process=process)
    background = ks.datasets.boxes(64, seed=4, layout=layout, process=process).x
    for method, options in METHODS.items():
        try:
            explained = ks.explain(
                model, data.x, method, target=data.y, background=background, batch_size=60, **options
            )
        except ks.IncompatibleMethodError:
            continue  # class activation maps of a network over time alone
        except ks.UnknownNameError:
            explained = ks.explain(model, data.x, method, target=data.y, batch_size=60, **options)
        for level, found in judged(explained.values, data.truth).items():
            key = (layout, name, method, level)
            scores[key] = np.concatenate([scores.get(key, np.empty(0)), found])
    return accuracy


def above(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the mean of a is above that of b: paired t over samples, one-sided at 2.5 %."""
    difference = a - b
    if np.ptp(difference) == 0:
        return bool(difference[0] > 0)
    return bool(stats.ttest_1samp(difference, 0, alternative="greater").pvalue <= 0.025)


def tables(scores: Scores, level: str) -> list[str]:
    """Return the table of one level; a star marks what `random` or a plain gradient is not beaten by."""
    keys = [(layout, name) for name in MODELS for layout in LAYOUTS if (layout, name, "random", level) in scores]
    head = " | ".join(f"{name}, {layout.replace('_', ' ')}" for layout, name in keys)
    lines = [f"## {level.capitalize()}", "", f"| method | {head} |", "|---" * (len(keys) + 1) + "|"]
    for method in METHODS:
        cells = []
        for layout, name in keys:
            found = scores.get((layout, name, method, level))
            if found is None:
                cells.append("-")
                continue
            mark = ""
            if method != "random" and not above(found, scores[layout, name, "random", level]):
                mark = " r"
            elif method not in ("random", "gradient") and not above(found, scores[layout, name, "gradient", level]):
                mark = " g"
            cells.append(f"{found.mean():.2f}{mark}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def unbeaten(scores: Scores) -> list[str]:
    """Say for each level how often a method beats `random`, and a plain gradient."""
    lines = ["## In how many of the settings a method is better than these", ""]
    lines += ["| method | " + " | ".join(f"{level}: random, gradient" for level in LEVELS) + " |", "|---" * 4 + "|"]
    for method in METHODS:
        if method == "random":
            continue
        cells = []
        for level in LEVELS:
            keys = [(a, b) for a, b, m, at in scores if m == method and at == level]
            texts = []
            for other in ("random", "gradient"):
                better = sum(above(scores[a, b, method, level], scores[a, b, other, level]) for a, b in keys)
                texts.append("-" if other == method else f"{better} of {len(keys)}")
            cells.append(", ".join(texts))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def main() -> int:
    """Run all settings; print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="*", default=list(LAYOUTS), choices=list(ks.datasets.BOX_LAYOUTS))
    parser.add_argument("--processes", nargs="*", default=list(PROCESSES), choices=list(ks.datasets.BOX_PROCESSES))
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder; one table for each kind of network")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    for name in arguments.models:
        scores: Scores = {}
        accuracies = []
        for layout in arguments.layouts:
            for process in arguments.processes:
                started = time.process_time()
                accuracy = measure(scores, layout, process, name)
                accuracies.append((accuracy, f"{name}, {layout}, {process}"))
                print(
                    f"{accuracies[-1][1]}: accuracy {accuracy:.3f}   {time.process_time() - started:.0f} s", flush=True
                )
                missing = [text for reached, text in accuracies if reached < ENOUGH]
                said = [
                    f"Mean area under the precision-recall curve of |relevance| over {TEST} test series of each of the "
                    f"processes {', '.join(arguments.processes)}; accuracies from {min(accuracies)[0]:.2f}. `r`: not "
                    "better than `random`; `g`: better than that, not than a plain gradient (paired t over series, 2.5 "
                    f"%). Left out for an accuracy below {ENOUGH}: {'; '.join(missing) or 'none'}. Made by "
                    "`benchmarks/evidence_boxes.py`."
                ]
                write(
                    arguments.out / f"evidence_boxes_{name.lower().replace(' ', '_')}.md",
                    f"Boxes of Ismail et al. 2020: {name}",
                    said,
                    *(tables(scores, level) for level in LEVELS),
                    unbeaten(scores),
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
