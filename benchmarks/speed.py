"""What a method costs, as a ratio to the model's own compiled gradient, in CPU time, in one run.

    KERAS_BACKEND=tensorflow python benchmarks/speed.py --model VGG16 --batch 8

Both are compiled and warmed up first; then they run in turn, so that a change of the machine's speed meets
both. CPU time is that of the whole process, all threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from nets import build, images

import kerascope as ks

METHODS = (
    "gradient",
    "lrp.epsilon",
    "lrp.epsilon_plus_flat",
    "lrp.epsilon_alpha2_beta1_flat",
    "lrp",
    "guided_backprop",
)


def own_gradient(model: Any, x: np.ndarray) -> Callable[[], Any]:
    """Return a function that computes the gradient of the top logit, compiled by the backend itself."""
    logits = keras.Model(model.inputs, _before_softmax(model))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient(batch: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(batch)
                top = tf.reduce_sum(tf.reduce_max(logits(batch, training=False), axis=1))
            return tape.gradient(top, batch)

        return lambda: gradient(tf.constant(x)).numpy()
    if backend == "jax":
        import jax

        def top(batch: Any) -> Any:
            return logits(batch, training=False).max(axis=1).sum()

        compiled = jax.jit(jax.grad(top))
        return lambda: np.asarray(compiled(x))
    import torch

    def run() -> Any:
        batch = torch.tensor(x, requires_grad=True)
        logits(batch, training=False).max(dim=1).values.sum().backward(inputs=[batch])
        return batch.grad.numpy()

    return run


def _before_softmax(model: Any) -> Any:
    last = model.layers[-1]
    twin = type(last).from_config(last.get_config() | {"activation": "linear"})
    out = twin(last.input)
    twin.set_weights(last.get_weights())
    return out


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return CPU and wall seconds of every run, the runs taken in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="VGG16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    model = build(arguments.model)
    x = images(arguments.batch, model.input_shape[1])
    runs: dict[str, Callable[[], Any]] = {"own compiled gradient": own_gradient(model, x)}
    for name in arguments.methods:
        explainer = ks.Explainer(model, name, batch_size=arguments.batch)
        runs[name] = lambda explainer=explainer: explainer(x)
    times = measure(runs, arguments.rounds)
    base = [cpu for cpu, _ in times["own compiled gradient"]]
    print(f"{arguments.model}, batch {arguments.batch}, {keras.backend.backend()}, {arguments.rounds} rounds")
    print(f"{'':32s}{'CPU s':>8s}{'wall s':>8s}{'ratio of CPU time to the gradient (median, min-max)':>54s}")
    for name, pairs in times.items():
        ratios = [cpu / own for (cpu, _), own in zip(pairs, base, strict=True)]
        cpu, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:32s}{cpu:8.2f}{wall:8.2f}{statistics.median(ratios):30.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()
