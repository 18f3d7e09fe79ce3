"""Are the p-values of `ks.evidence` what they say? Fresh references against held-out inputs of the same kind.

    KERAS_BACKEND=jax python benchmarks/evidence_null.py --cache networks

About a quarter of an hour of one core, three networks to train included. Inputs of the classes other than c are
explained for c; disjoint sets of references and of held-out inputs are drawn from them. Networks that know motifs are
also shown inputs without any. Writes results/evidence_null.md; exit status 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from evidence_bounds import RESULTS, Bounds, write
from evidence_nets import planted, trained
from scipy import stats

import kerascope as ks
from kerascope.evidence import null, sentences
from kerascope.evidence.study import maps_of

SETS, REFERENCES, HELD_OUT, TARGET = 50, 208, 100, 0
MODELS = ("demo", "flatten", "average", "max")
LEVEL = 0.05


def maxima(model: Any, x: np.ndarray, baseline: np.ndarray) -> dict[str, np.ndarray]:
    """Return the largest row sum and the largest column sum of each input's map, as `ks.evidence` makes it."""
    method = ks.IntegratedGradients(steps=16)
    explainer = ks.Explainer(model, method, background=baseline, batch_size=128)
    maps = maps_of(explainer(x, target=ks.Contrast(TARGET)))
    return {"rows": maps.sum(axis=2).max(axis=1), "columns": maps.sum(axis=1).max(axis=1)}


def calibration(bounds: Bounds, name: str, largest: np.ndarray) -> None:
    """Split into sets of references and held-out inputs; compare both, and count calls."""
    sets = largest[: SETS * (REFERENCES + HELD_OUT)].reshape(SETS, -1)
    references, held_out = sets[:, :REFERENCES], sets[:, REFERENCES:]
    same = [stats.ks_2samp(a, b).pvalue >= 0.01 for a, b in zip(references, held_out, strict=True)]
    bounds.say(f"{name}: sets of {SETS} whose scores pass Kolmogorov-Smirnov at 1 %", float(np.sum(same)), low=47)
    p = np.stack([null.p_values(b, a) for a, b in zip(references, held_out, strict=True)])
    called = (p <= LEVEL).sum(axis=1)
    bounds.say(f"{name}: called of held-out inputs, mean over sets", called.mean() / HELD_OUT, 0.04, 0.06)
    # p <= level for at most k references above: of the k-th largest, the tail is Beta(k, N + 1 - k).
    k = int(np.floor(LEVEL * (REFERENCES + 1) + 1e-9))
    expected = stats.betabinom(HELD_OUT, k, REFERENCES + 1 - k)
    draws = expected.rvs((4000, SETS), random_state=0).std(axis=1, ddof=1) / HELD_OUT
    low, high = np.quantile(draws, [0.005, 0.995])
    spread = called.std(ddof=1) / HELD_OUT
    note = f"(beta-binomial: {expected.std() / HELD_OUT:.3f})"
    bounds.say(f"{name}: standard deviation over sets", spread, float(low), float(high), note)
    bounds.say(f"{name}: smallest p times (N + 1)", float(p.min() * (REFERENCES + 1)), low=1.0)


def without_motif(bounds: Bounds, name: str, largest: np.ndarray, free: np.ndarray) -> float:
    """Return the share called of inputs without a motif, which are of another population than the references."""
    references = largest[: SETS * (REFERENCES + HELD_OUT)].reshape(SETS, -1)[:, :REFERENCES]
    called = [np.mean(null.p_values(a, b) <= LEVEL) for a, b in zip(free.reshape(SETS, -1), references, strict=True)]
    note = f"(over sets: sd {np.std(called, ddof=1):.3f})"
    bounds.say(f"{name}: called of inputs without motif, mean over sets", float(np.mean(called)), note=note)
    return float(np.mean(called))


def end_to_end(
    bounds: Bounds, name: str, model: Any, x: np.ndarray, background: np.ndarray, largest: np.ndarray
) -> None:
    """Check on one set that `ks.evidence` gives these p-values, and that the smallest is printed as a bound."""
    held_out = np.concatenate([x[REFERENCES : REFERENCES + HELD_OUT], strongest(model)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        found = ks.evidence(
            model,
            held_out,
            background=background,
            references=x[:REFERENCES],
            target=TARGET,
            check=False,
            batch_size=128,
        )
    p = found.rows.groupby("sample")["p"].min().to_numpy()
    expected = null.p_values(largest[REFERENCES : REFERENCES + HELD_OUT], largest[:REFERENCES])
    same = np.isclose(p[:HELD_OUT], expected, atol=1.5 / (REFERENCES + 1))  # a tie may fall either way in float32
    bounds.say(f"{name}, one set through `ks.evidence`: share of p-values that agree", float(same.mean()), low=1.0)
    least = found.rows.loc[found.rows["p"].idxmin()]
    text = sentences.of_line(found, "row", least)
    is_bound = f"p <= {1 / (REFERENCES + 1):.2g}" in text
    bounds.say(f'{name}: p = 1/(N + 1) is printed as a bound: "{text}"', float(is_bound), low=1.0)


def strongest(model: Any) -> np.ndarray:
    """Return inputs of the class itself, for the smallest p there is."""
    shape = model.input_shape[1:]
    data = ks.datasets.planted(60, seed=77) if shape[0] == 20 else planted(60, seed=77, length=12)
    return np.asarray(data.x[data.y == TARGET].reshape(-1, *shape))


def study(bounds: Bounds, name: str, cache: Path | None) -> dict[str, float]:
    """Explain enough inputs of one network for all sets, and hold what is found to its bounds.

    Returns:
        Of rows and columns: the share called of inputs without a motif; nothing for the demo's model, which has none.
    """
    is_demo = name == "demo"
    model: Any = (
        ks.load_model(ks.datasets.demo_file("planted.keras"))
        if is_demo
        else trained(name, 0, cache=cache, length=12)[0]
    )
    draw: Any = ks.datasets.planted if is_demo else functools.partial(planted, length=12)
    needed, shape = SETS * (REFERENCES + HELD_OUT), model.input_shape[1:]
    data, others = draw(needed * 4 // 3 + 20, seed=50), draw(256, seed=51)
    rng = np.random.default_rng(0)
    x = rng.permutation(data.x[data.y != TARGET])[:needed].reshape(-1, *shape)
    background = others.x.reshape(-1, *shape)
    largest = maxima(model, x, background)
    for lines, values in largest.items():
        calibration(bounds, f"{name}, {lines}", values)
    end_to_end(bounds, name, model, x, background, largest["rows"])
    if is_demo:
        return {}
    free = draw(5 * SETS * HELD_OUT, seed=52)
    found = maxima(model, free.x[free.y == 4].reshape(-1, *shape), background)
    return {lines: without_motif(bounds, f"{name}, {lines}", values, found[lines]) for lines, values in largest.items()}


def main() -> int:
    """Run the networks; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--out", type=Path, default=RESULTS / "evidence_null.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    bounds = Bounds()
    free = [study(bounds, name, arguments.cache) for name in arguments.models]
    for lines in ("rows", "columns"):
        shares = [found[lines] for found in free if found]
        if shares:
            what = f"{lines}: called of inputs without motif, mean over networks"
            bounds.say(what, float(np.mean(shares)), 0.03, 0.08)
    said = [
        f"{SETS} disjoint sets of {REFERENCES} references and {HELD_OUT} held-out inputs of the same classes, "
        f"explained for class {TARGET}, level {LEVEL:g}. `demo` is the demo's planted model, the others are named "
        "by their head (motifs of 12 steps). The bounds of a standard deviation hold 99 % of draws from the "
        "beta-binomial distribution that N references allow. Made by `benchmarks/evidence_null.py`."
    ]
    write(arguments.out, "Are the p-values what they say?", said, bounds.table())
    return bounds.status


if __name__ == "__main__":
    sys.exit(main())
