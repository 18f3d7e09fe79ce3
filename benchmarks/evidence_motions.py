"""Evidence on real recordings: does it follow its channel, and does the model need what is reported?

    KERAS_BACKEND=jax python benchmarks/evidence_motions.py

About five minutes of one core. BasicMotions (100 steps x 6 sensors, 4 activities) and the demo's model. Two sensors of
the input are swapped: with the model's first layers swapped too the evidence must move with them exactly; retrained on
swapped recordings from other starts it must do so on average. Then the reported stretches of held-out recordings are
replaced by other recordings' values, and random stretches of equal size likewise. Writes results/evidence_motions.md.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from evidence_bounds import RESULTS, Bounds, write
from keras import layers
from scipy import stats

import kerascope as ks
from kerascope.evidence.study import maps_of

SWAPPED = (0, 5)
"""Accelerometer x and gyroscope z: they differ most in size."""
RANDOM, FILLS, DRAWS = 40, 16, 10000


def order() -> np.ndarray:
    """Return the order of sensors with two swapped; its own inverse."""
    found = np.arange(6)
    found[list(SWAPPED)] = SWAPPED[::-1]
    return found


def build(x: np.ndarray) -> Any:
    """Return the demo's architecture, untrained, its normalisation adapted to x."""
    normalize = layers.Normalization(axis=-1)
    normalize.adapt(x)
    parts = [keras.Input((100, 6)), normalize, layers.Conv1D(16, 7, padding="same")]
    parts += [layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.MaxPooling1D(2)]
    parts += [layers.Conv1D(32, 5, padding="same"), layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    return keras.Sequential([*parts, layers.GlobalAveragePooling1D(), layers.Dense(4, activation="softmax")])


def trained(x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Train as the demo's model was."""
    keras.utils.set_random_seed(seed)
    model = build(x)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, epochs=60, verbose=0)
    return model


def rewired(model: Any, x: np.ndarray) -> Any:
    """Return the model for swapped sensors: normalisation of swapped recordings, the kernel's inputs swapped."""
    found = build(x[..., order()])
    mine, theirs = model.layers, found.layers
    for one, other in zip(mine[1:], theirs[1:], strict=True):
        weights = one.get_weights()
        if one.name.startswith("conv") and weights[0].shape[1] == 6:
            weights[0] = weights[0][:, order()]
        other.set_weights(weights)
    return found


def found(
    model: Any, x: np.ndarray, y: np.ndarray, background: np.ndarray, labels: np.ndarray, *, check: bool = True
) -> ks.Evidence:
    """Return the evidence of recordings, stretches along time."""
    dims = ("time", "sensor")
    given = {"background": background, "background_labels": labels, "target": y, "check": check}
    return ks.evidence(model, x, dims=dims, ordered=("time",), **given)


def sensor_sums(e: ks.Evidence) -> np.ndarray:
    """Return the sum of each recording's map over time (N, 6)."""
    return maps_of(e.explanation).sum(axis=1)


def profile(sums: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mean of each class, sensors within a class over their absolute sum (4, 6)."""
    means = np.stack([sums[y == c].mean(axis=0) for c in range(4)])
    return np.asarray(means / np.abs(means).sum(axis=1, keepdims=True))


def swapping(bounds: Bounds, model: Any, train: Any, test: Any, starts: int) -> None:
    """Swap two sensors of the input."""
    turned = order()
    plain = found(model, test.x, test.y, train.x, train.y)
    other = found(rewired(model, train.x), test.x[..., turned], test.y, train.x[..., turned], train.y)
    gap = np.abs(maps_of(other.explanation)[..., turned] - maps_of(plain.explanation)).max()
    bounds.say(
        "rewired: largest difference of maps over largest value",
        gap / np.abs(plain.explanation.values).max(),
        high=1e-3,
    )
    keys = ["sample", "line", "start", "stop"]
    before = {tuple(row) for row in plain.segments[keys].to_numpy().tolist()}
    after = {(s, int(turned[line]), a, b) for s, line, a, b in other.segments[keys].to_numpy().tolist()}
    shared = len(before & after) / max(len(before | after), 1)
    bounds.say(f"rewired: stretches that moved with their sensor, of {len(before | after)}", shared, low=0.98)
    retrained(bounds, train, test, starts)


def retrained(bounds: Bounds, train: Any, test: Any, starts: int) -> None:
    """Train again on swapped recordings: profiles over sensors must be more alike when swapped back than when not."""
    turned, stay, move, base = order(), [], [], []
    for start in range(starts):
        # One model of the recordings as they are, one of swapped ones, from the same start.
        first = trained(train.x, train.y, start + 1)
        second = trained(train.x[..., turned], train.y, start + 101)
        one = profile(sensor_sums(found(first, test.x, test.y, train.x, train.y, check=False)), test.y)
        two = sensor_sums(found(second, test.x[..., turned], test.y, train.x[..., turned], train.y, check=False))
        stay.append(np.corrcoef(one.ravel(), profile(two, test.y).ravel())[0, 1])
        move.append(np.corrcoef(one.ravel(), profile(two, test.y)[:, turned].ravel())[0, 1])
        third = trained(train.x, train.y, start + 201)
        again = profile(sensor_sums(found(third, test.x, test.y, train.x, train.y, check=False)), test.y)
        base.append(np.corrcoef(one.ravel(), again.ravel())[0, 1])
    bounds.say(
        f"retrained, {starts} pairs: correlation of class profiles over sensors, swapped back", float(np.mean(move))
    )
    bounds.say("retrained: the same without swapping back", float(np.mean(stay)))
    bounds.say("retrained: between two models of the recordings as they are", float(np.mean(base)))
    gain = np.subtract(move, stay)
    low, high = interval(gain)
    note = f"(95 % by bootstrap over pairs: {low:.3f} to {high:.3f}; single pairs {gain.min():.3f} to {gain.max():.3f})"
    bounds.say("retrained: gain by swapping back", float(gain.mean()), note=note)
    bounds.say("lower end of the interval of that gain", low, low=0.0)


class Costs:
    """What the contrast loses when cells are replaced by training recordings' values at the same places."""

    def __init__(self, model: Any, test: Any, fills: np.ndarray) -> None:
        self.logits = keras.Model(model.inputs, _logits(model))
        self.test, self.fills = test, fills

    def contrast(self, x: np.ndarray, c: int) -> np.ndarray:
        """Return the logit of c less the mean of the others."""
        z = np.asarray(self.logits.predict(x, verbose=0, batch_size=1024))
        return z[:, c] - np.delete(z, c, axis=1).mean(axis=1)

    def of(self, sample: int, spans: list[tuple[int, int, int]]) -> np.ndarray:
        """Return the mean loss over fills for each stretch (sensor, start, stop) of one recording."""
        x, c = self.test.x[sample], int(self.test.y[sample])
        changed = np.repeat(x[None], len(spans) * len(self.fills), axis=0).reshape(
            len(spans), len(self.fills), *x.shape
        )
        for k, (sensor, start, stop) in enumerate(spans):
            changed[k, :, start:stop, sensor] = self.fills[:, start:stop, sensor]
        after = self.contrast(changed.reshape(-1, *x.shape), c).reshape(len(spans), -1)
        return np.asarray(self.contrast(x[None], c)[0] - after.mean(axis=1))


def _logits(model: Any) -> Any:
    h = model.inputs[0]
    for layer in model.layers[:-1]:
        h = layer(h)
    kernel, bias = model.layers[-1].get_weights()
    return keras.ops.matmul(h, kernel) + bias


def replacing(bounds: Bounds, model: Any, train: Any, test: Any) -> None:
    """Replace the strongest reported stretch of each recording, and random ones of its size."""
    e = found(model, test.x, test.y, train.x, train.y)
    rng = np.random.default_rng(0)
    costs = Costs(model, test, train.x[rng.choice(len(train), FILLS, replace=False)])
    best = e.segments.groupby("sample").first()
    reported, random = [], []
    for sample, row in best.iterrows():
        span, length = (int(row["line"]), int(row["start"]), int(row["stop"])), int(row["length"])
        free = [
            (s, a, a + length)
            for s in range(6)
            for a in range(100 - length + 1)
            if s != span[0] or a + length <= span[1] or a >= span[2]
        ]
        chosen = rng.choice(len(free), min(RANDOM, len(free)), replace=False)
        found_costs = costs.of(int(sample), [span, *(free[k] for k in chosen)])
        reported.append(found_costs[0])
        random.append(found_costs[1:].mean())
    gap = np.subtract(reported, random)
    bounds.say(
        "recordings with a reported stretch", float(len(best)), note=f"of {len(test)}; {len(e.segments)} stretches"
    )
    for name, values in (("reported", np.array(reported)), ("random", np.array(random)), ("reported less random", gap)):
        low, high = interval(values)
        note = f"(95 % by bootstrap over recordings: {low:.3f} to {high:.3f})"
        bounds.say(f"mean loss of the contrast, {name} stretches", float(values.mean()), note=note)
    bounds.say("lower end of the interval of that difference", interval(gap)[0], low=0.0)
    p = stats.wilcoxon(gap, alternative="greater").pvalue
    bounds.say("p, Wilcoxon's signed ranks over recordings", float(p), high=0.01)
    bounds.say("share of recordings in which the reported one costs more", float(np.mean(gap > 0)))
    for c, name in enumerate(test.class_names):
        mine = gap[test.y[best.index.to_numpy(dtype=int)] == c]
        if len(mine):
            bounds.say(f"{name}: difference", float(mine.mean()), note=f"({len(mine)} recordings)")


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(1)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> int:
    """Run both parts; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS / "evidence_motions.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    train, test = ks.datasets.basic_motions("train"), ks.datasets.basic_motions("test")
    model = ks.load_model(ks.datasets.demo_file("basic_motions.keras"))
    bounds = Bounds()
    replacing(bounds, model, train, test)
    swapping(bounds, model, train, test, arguments.starts)
    said = [
        f"BasicMotions, {len(test)} held-out recordings, 30 references of other classes each. Random stretches: "
        f"{RANDOM} of the reported one's length, in any sensor, beside it; {FILLS} training recordings as fills. "
        "Made by `benchmarks/evidence_motions.py`."
    ]
    write(arguments.out, "Evidence in BasicMotions", said, bounds.table())
    return bounds.status


if __name__ == "__main__":
    sys.exit(main())
