"""Turning one digit into another by erasing pixels: which method finds those that matter?

After Shrikumar et al. 2017 (DeepLIFT), section 4.1.

    KERAS_BACKEND=tensorflow python benchmarks/digits.py --seeds 3

For a digit of class o and another class t, pixels are ranked by the difference of their contributions to the two
logits, and up to 157 of them (a fifth) with a positive difference are erased. The score is the change of the log-odds
between o and t that this brings. Methods are compared by its median over held-out digits; the paper, on the whole of
MNIST, has RevealCancel ahead of input x gradient by factors of 1.27, 1.20, 1.17 and 1.11 on these tasks.
Exit status 1 if RevealCancel's median gain over input x gradient is above zero on fewer than three tasks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from digit_nets import split, strided

import kerascope as ks

TASKS = ((8, 3), (8, 6), (9, 1), (4, 1))
PAPER = (1.27, 1.20, 1.17, 1.11)
ERASED = 157
METHODS: dict[str, tuple[Any, bool]] = {
    "deeplift.reveal_cancel": (ks.DeepLIFT(rule="reveal_cancel", baseline="zeros"), False),
    "deeplift (rescale)": (ks.DeepLIFT(baseline="zeros"), False),
    "integrated_gradients, 10 steps": (ks.IntegratedGradients(steps=10, baseline="zeros"), False),
    "integrated_gradients, 64 steps": (ks.IntegratedGradients(steps=64, baseline="zeros"), False),
    "input_x_gradient": (ks.InputXGradient(), False),
    "guided_backprop x input": (ks.GuidedBackprop(), True),
    "random": (ks.Random(), True),
}
"""Methods, and whether their map is multiplied by the input."""
FIRST, OTHER = "deeplift.reveal_cancel", "input_x_gradient"


def explainers(model: Any) -> dict[str, ks.Explainer]:
    """Return an explainer for each method."""
    return {name: ks.Explainer(model, method, batch_size=64) for name, (method, _) in METHODS.items()}


def log_odds(explainer: ks.Explainer, x: np.ndarray, task: tuple[int, int]) -> np.ndarray:
    """Return log p_o - log p_t for every digit; any method's explainer tells it."""
    return np.asarray(explainer(x, target=ks.Contrast(*task)).explained)


def erased(x: np.ndarray, ranking: np.ndarray) -> np.ndarray:
    """Return digits without the pixels of highest positive rank, at most `ERASED` of them."""
    flat, scores = x.reshape(len(x), -1).copy(), ranking.reshape(len(x), -1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :ERASED]
    kept = np.where(np.take_along_axis(scores, order, axis=1) > 0, 0, np.take_along_axis(flat, order, axis=1))
    np.put_along_axis(flat, order, kept, axis=1)
    return flat.reshape(x.shape)


def changes(by_name: dict[str, ks.Explainer], x: np.ndarray, task: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return by method the change of the log-odds (N,) when its pixels are erased."""
    teller = by_name["random"]
    before = log_odds(teller, x, task)
    found = {}
    for name, explainer in by_name.items():
        values = explainer(x, target=np.tile(task, (len(x), 1))).values
        times_input = METHODS[name][1]
        ranking = (values[:, 0] - values[:, 1]) if name != "random" else np.abs(values[:, 0])
        ranking = ranking * x if times_input else ranking
        found[name] = before - log_odds(teller, erased(x, ranking), task)
    return found


def run(seed: int) -> tuple[float, dict[str, dict[str, np.ndarray]]]:
    """Train a network; return its accuracy, and the changes by task and method."""
    x, y, held_out, classes = split(seed)
    started = time.perf_counter()
    model = strided(x, y, seed)
    accuracy = float(np.mean(model.predict(held_out, verbose=0).argmax(axis=1) == classes))
    by_name = explainers(model)
    results = {f"{o} -> {t}": changes(by_name, held_out[classes == o], (o, t)) for o, t in TASKS}
    print(f"seed {seed}: accuracy {accuracy:.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    return accuracy, results


def pooled(runs: list[tuple[float, dict[str, dict[str, np.ndarray]]]], task: str, name: str) -> np.ndarray:
    """Return the changes of all networks' digits."""
    return np.concatenate([results[task][name] for _, results in runs])


def row(name: str, cells: list[str]) -> str:
    """Return one line of a table."""
    return f"| {name} | {' | '.join(cells)} |"


def report(runs: list[tuple[float, dict[str, dict[str, np.ndarray]]]]) -> tuple[list[str], dict[str, Any]]:
    """Return the figures as Markdown and as plain data."""
    tasks = list(runs[0][1])

    def over(fn: Callable[[str], float]) -> list[float]:
        return [float(fn(task)) for task in tasks]

    medians = {name: over(lambda task, name=name: np.median(pooled(runs, task, name))) for name in METHODS}
    gains = {
        name: over(lambda task, name=name: np.median(pooled(runs, task, FIRST) - pooled(runs, task, name)))
        for name in METHODS
        if name != FIRST
    }
    ratios = [a / b for a, b in zip(medians[FIRST], medians[OTHER], strict=True)]
    each = [
        [float(np.median(results[task][FIRST]) / np.median(results[task][OTHER])) for task in tasks]
        for _, results in runs
    ]
    accuracies = ", ".join(f"{accuracy:.3f}" for accuracy, _ in runs)
    lines = [
        "# Turning digits into others",
        "",
        f"Median change of the log-odds when up to {ERASED} pixels are erased; {len(runs)} networks (accuracy "
        f"{accuracies}), {', '.join(str(len(pooled(runs, task, FIRST))) for task in tasks)} held-out digits in all, "
        f"Keras {keras.__version__} on {keras.backend.backend()}. Made by `benchmarks/digits.py`.",
        "",
        row("method", tasks),
        row("---", ["---:"] * len(tasks)),
        *(row(name, [f"{value:.2f}" for value in values]) for name, values in medians.items()),
        "",
        f"Median over digits of {FIRST} less another method's change:",
        "",
        row("than", tasks),
        row("---", ["---:"] * len(tasks)),
        *(row(name, [f"{value:+.2f}" for value in values]) for name, values in gains.items()),
        "",
        f"{FIRST} over {OTHER}, ratio of medians:",
        "",
        row("", tasks),
        row("---", ["---:"] * len(tasks)),
        row("here", [f"{value:.2f}" for value in ratios]),
        *(row(f"network {i}", [f"{value:.2f}" for value in values]) for i, values in enumerate(each)),
        row("paper", [f"{value:.2f}" for value in PAPER]),
    ]
    data = {"tasks": tasks, "medians": medians, "gains": gains, "ratios": ratios, "ratios_by_network": each}
    return lines, {**data, "accuracy": [accuracy for accuracy, _ in runs]}


def main() -> int:
    """Run, print, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "digits.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    lines, data = report([run(seed) for seed in range(arguments.seeds)])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))
    won = sum(gain > 0 for gain in data["gains"][OTHER])
    print(f"median gain of {FIRST} over {OTHER} above zero on {won} of {len(TASKS)} tasks")
    return 0 if won >= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
