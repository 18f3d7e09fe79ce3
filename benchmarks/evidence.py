"""Planted motifs found again: precision, recall and false calls of `ks.evidence` and of other ways to call stretches.

    KERAS_BACKEND=jax python benchmarks/evidence.py --cache networks --out results/evidence.md

Matrices of 16 sensors x 128 steps of autoregressive noise (`ks.datasets.motifs`); motifs of 4, 12, 32 and 128 steps;
CNNs with Flatten, global average and global max heads. A call is right if it names the motif's row and overlaps it by
half (intersection over union). Free inputs hold no motif; each is explained for one of the marked classes.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence_nets import HEADS, trained

import kerascope as ks
from kerascope.evidence import null
from kerascope.matrices.segments import maximal_segments

LENGTHS = (4, 12, 32, 128)
STRENGTH = 0.6
MARKED, FREE, REFERENCES = 80, 60, 260
Calls = list[tuple[int, int, int, int]]
"""Sample, row, start, stop."""

PIPELINES: dict[str, dict[str, Any]] = {
    "evidence (default)": {},
    "evidence, no check by the model": {"check": False},
    "evidence on expected_gradients": {"method": "expected_gradients", "draws": 260},
    "evidence on input_x_gradient": {"method": "input_x_gradient"},
    "evidence on gradient": {"method": "gradient"},
    "evidence on smoothgrad": {"method": "smoothgrad", "draws": 20},
    "evidence on lrp": {"method": "lrp"},
    "evidence on lrp.epsilon": {"method": "lrp.epsilon"},
    "evidence on deeplift": {"method": "deeplift"},
    "evidence on random": {"method": "random"},
}


@dataclass(frozen=True)
class Trial:
    """One network and what it is asked."""

    model: Any
    x: np.ndarray
    target: np.ndarray
    truth: list[tuple[int, int, int] | None]
    background: np.ndarray
    labels: np.ndarray


def trial(model: Any, length: int, seed: int) -> Trial:
    """Draw fresh marked and free inputs, and references."""
    options = {"length": length, "strength": STRENGTH}
    pool = ks.datasets.motifs(5 * max(MARKED, FREE), seed=3000 + seed, **options)
    marked, free = np.flatnonzero(pool.y < 4)[:MARKED], np.flatnonzero(pool.y == 4)[:FREE]
    background = ks.datasets.motifs(REFERENCES, seed=4000 + seed, **options)
    truth = [(int(pool.row[i, 0]), int(pool.start[i, 0]), int(pool.stop[i, 0])) for i in marked]
    return Trial(
        model,
        np.concatenate([pool.x[marked], pool.x[free]]),
        np.concatenate([pool.y[marked], np.arange(len(free)) % 4]),
        [*truth, *[None] * len(free)],
        background.x,
        background.y,
    )


def by_evidence(options: dict[str, Any], t: Trial) -> tuple[Calls, np.ndarray]:
    """Call stretches with `ks.evidence`; return them and each sample's top row."""
    found = ks.evidence(
        t.model,
        t.x,
        background=t.background,
        background_labels=t.labels,
        target=t.target,
        ordered=("column",),
        **options,
    )
    calls = [(r.sample, r.line, r.start, r.stop) for r in found.segments.itertuples()]
    sums = found.rows.sort_values(["sample", "index"])["sum"].to_numpy().reshape(len(t.x), -1)
    return calls, sums.argmax(axis=1)


def maps(t: Trial) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the maps of the samples, and of each class's references, as the pipeline makes them."""
    method = ks.IntegratedGradients(steps=16)
    explainer = ks.Explainer(t.model, method, background=t.background, batch_size=64)
    found = explainer(t.x, target=ks.Contrast(t.target)).values
    others = {
        int(c): explainer(t.background[t.labels != c], target=ks.Contrast(int(c))).values for c in np.unique(t.target)
    }
    return np.asarray(found), {c: np.asarray(values) for c, values in others.items()}


def by_maximal_segments(quantile: float, t: Trial) -> tuple[Calls, np.ndarray]:
    """Call maximal segments (Ruzzo and Tompa) of the map less its own quantile, tested against references' best."""

    def scored(array: np.ndarray) -> list[list[tuple[float, int, int, int]]]:
        offset = np.quantile(array.reshape(len(array), -1), quantile, axis=1)
        results = []
        for one, off in zip(array, offset, strict=True):
            s = maximal_segments(one - off)
            results.append(list(zip(s.score, s.line, s.start, s.stop, strict=True)))
        return results

    return _against_references(scored, t)


def by_scan(t: Trial) -> tuple[Calls, np.ndarray]:
    """Call the best window over many lengths, each standardised by the references' maxima at that length."""
    found, others = maps(t)
    lengths = [4, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    calls: Calls = []

    def sums(array: np.ndarray, length: int) -> np.ndarray:
        total = np.concatenate([np.zeros((*array.shape[:2], 1)), array.cumsum(axis=2)], axis=2)
        return np.asarray(total[..., length:] - total[..., :-length])

    for c, reference in others.items():
        top = {n: sums(reference, n).max(axis=(1, 2)) for n in lengths}
        scale = {n: (v.mean(), v.std()) for n, v in top.items()}
        best = np.max([(top[n] - scale[n][0]) / scale[n][1] for n in lengths], axis=0)
        for i in np.flatnonzero(t.target == c):
            score, row, start, length = max(
                ((w.max() - scale[n][0]) / scale[n][1], *np.unravel_index(int(w.argmax()), w.shape), n)
                for n in lengths
                for w in [sums(found[i : i + 1], n)[0]]
            )
            if null.p_values(np.array(score), best) <= 0.05:
                calls.append((int(i), int(row), int(start), int(start + length)))
    return calls, found.sum(axis=2).argmax(axis=1)


def _against_references(scored: Callable[[np.ndarray], Any], t: Trial) -> tuple[Calls, np.ndarray]:
    found, others = maps(t)
    calls: Calls = []
    for c, reference in others.items():
        best = np.array([max((s[0] for s in one), default=0.0) for one in scored(reference)])
        mine = np.flatnonzero(t.target == c)
        for i, segments in zip(mine, scored(found[mine]), strict=True):
            for score, row, start, stop in segments:
                if null.p_values(np.array(score), best) <= 0.05:
                    calls.append((int(i), int(row), int(start), int(stop)))
    return calls, found.sum(axis=2).argmax(axis=1)


CALLERS: dict[str, Callable[[Trial], tuple[Calls, np.ndarray]]] = {
    **{name: (lambda t, o=options: by_evidence(o, t)) for name, options in PIPELINES.items()},
    "maximal segments, own 80 % quantile": lambda t: by_maximal_segments(0.8, t),
    "maximal segments, own 95 % quantile": lambda t: by_maximal_segments(0.95, t),
    "maximal segments, own 97.5 % quantile": lambda t: by_maximal_segments(0.975, t),
    "scan over window lengths": by_scan,
}


def judged(calls: Calls, top: np.ndarray, t: Trial) -> dict[str, float]:
    """Return precision, recall, the share of right top rows, and of free inputs with a call."""
    marked = [i for i, truth in enumerate(t.truth) if truth]
    right = [call for call in calls if _is_right(call, t.truth[call[0]])]
    on_marked = [call for call in calls if t.truth[call[0]]]
    free = [i for i, truth in enumerate(t.truth) if not truth]
    return {
        "precision": len(right) / len(on_marked) if on_marked else float("nan"),
        "recall": len({call[0] for call in right}) / len(marked),
        "top row": float(np.mean([top[i] == t.truth[i][0] for i in marked])),  # type: ignore[index]
        "false": len({call[0] for call in calls if not t.truth[call[0]]}) / len(free),
    }


def _is_right(call: tuple[int, int, int, int], truth: tuple[int, int, int] | None) -> bool:
    if truth is None or call[1] != truth[0]:
        return False
    overlap = min(call[3], truth[2]) - max(call[2], truth[1])
    return overlap / (max(call[3], truth[2]) - min(call[2], truth[1])) >= 0.5


def main() -> int:
    """Run every caller on every network; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="*", default=list(LENGTHS))
    parser.add_argument("--callers", nargs="*", default=list(CALLERS))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evidence.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    results: dict[tuple[str, int, str], list[dict[str, float]]] = {}
    accuracies = []
    for seed in range(arguments.seeds):
        for length in arguments.lengths:
            for head in HEADS:
                model, accuracy = trained(head, seed, cache=arguments.cache, length=length, strength=STRENGTH)
                accuracies.append((accuracy, length, head, seed))
                print(f"seed {seed}, length {length}, {head}: accuracy {accuracy:.3f}", flush=True)
                t = trial(model, length, seed)
                for name in arguments.callers:
                    started = time.process_time()
                    figures = judged(*CALLERS[name](t), t)
                    results.setdefault((name, length, head), []).append(figures)
                    text = ", ".join(f"{key} {value:.2f}" for key, value in figures.items())
                    print(f"  {name:40s}{text}   {time.process_time() - started:.0f} s", flush=True)
    lines = table(results, arguments.callers, arguments.lengths, arguments.seeds, accuracies)
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def table(
    results: dict[tuple[str, int, str], list[dict[str, float]]],
    callers: list[str],
    lengths: list[int],
    seeds: int,
    accuracies: list[tuple[float, int, str, int]],
) -> list[str]:
    """Return the results as Markdown: precision / recall by motif length, mean over heads and seeds."""
    low = min(accuracies)
    lines = [
        "# Planted motifs found again",
        "",
        f"Precision / recall at IoU .5, {seeds} networks each for Flatten, average and max heads, {MARKED} marked and "
        f"{FREE} free inputs, {REFERENCES * 4 // 5} references, level .05. Accuracies {low[0]:.3f} (length {low[1]}, "
        f"{low[2]}) to {max(accuracies)[0]:.3f}. Whole rows under a max head stand apart. Made by "
        "`benchmarks/evidence.py`.",
        "",
        "| caller | " + " | ".join(map(str, lengths)) + " | whole row, max head | right row on top | false calls |",
        "|---" * (len(lengths) + 4) + "|",
    ]
    for name in callers:
        cells = []
        for length in lengths:
            heads = [h for h in HEADS if not (length == 128 and h == "max")]
            runs = [run for head in heads for run in results[name, length, head]]
            cells.append(_pair(runs))
        cells.append(_pair(results[name, 128, "max"]) if 128 in lengths else "-")
        every = [run for length in lengths for head in HEADS for run in results[name, length, head]]
        cells.append(f"{np.mean([run['top row'] for run in every]):.3f}")
        cells.append(f"{np.mean([run['false'] for run in every]):.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _pair(runs: list[dict[str, float]]) -> str:
    precision = [run["precision"] for run in runs]
    found = f"{np.nanmean(precision):.2f}" if np.isfinite(precision).any() else "-"
    return f"{found} / {np.mean([run['recall'] for run in runs]):.2f}"


if __name__ == "__main__":
    sys.exit(main())
