"""Where evidence is hard to see: two motifs together, correlated rows, and a model that learned nothing.

    KERAS_BACKEND=jax python benchmarks/evidence_hard.py --cache networks

About half an hour of one core with 27 networks to train. Motifs of 12 steps in matrices of 16 sensors x 128 steps.
Writes results/evidence_hard.md; exit status 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from evidence_bounds import RESULTS, Bounds, write
from evidence_nets import HEADS, planted, trained

import kerascope as ks

LENGTH, SAMPLES, REFERENCES = 12, 80, 208
CORRELATION = 0.8
Span = tuple[int, int, int]
"""Row, start, stop."""


def found(model: Any, x: Any, **options: Any) -> ks.Evidence:
    """Return the evidence along time."""
    return ks.evidence(model, x, dims=("sensor", "time"), ordered=("time",), **options)


def spans(data: Any, i: int) -> list[Span]:
    """Return the motifs of a sample."""
    return [(int(data.row[i, k]), int(data.start[i, k]), int(data.stop[i, k])) for k in (0, 1) if data.row[i, k] >= 0]


def is_right(call: Any, span: Span, groups: list[list[int]]) -> bool:
    """Whether a called stretch lies in the motif's row, or its group, and overlaps it by half."""
    members: list[int] = next((g for g in groups if call.line in g), [call.line])
    overlap = min(call.stop, span[2]) - max(call.start, span[1])
    return span[0] in members and overlap / (max(call.stop, span[2]) - min(call.start, span[1])) >= 0.5


def judged(e: ks.Evidence, truth: list[list[Span]]) -> dict[str, float]:
    """Return recall of motifs (as called lines, and as stretches at IoU .5) and precision of calls."""
    groups = e.attrs["groups"].get("sensor", [])
    calls = list(e.segments.itertuples())
    lines = e.rows[e.rows["called"]]
    hit = stretch = 0
    for i, motifs in enumerate(truth):
        rows = lines[lines["sample"] == i]["index"].tolist()
        members = {m for row in rows for m in next((g for g in groups if row in g), [row])}
        for span in motifs:
            hit += span[0] in members
            stretch += any(call.sample == i and is_right(call, span, groups) for call in calls)
    right = sum(any(is_right(call, span, groups) for span in truth[call.sample]) for call in calls)
    total = sum(map(len, truth))
    return {"rows": hit / total, "recall": stretch / total, "precision": right / max(len(calls), 1)}


def conjunction(bounds: Bounds, seeds: int, cache: Path | None) -> None:
    """Both motifs together make the class: other classes carry one of them."""
    runs: dict[str, list[dict[str, float]]] = {"default": [], "free": []}
    warned, clean = [], []
    for head, seed in every(seeds):
        model, accuracy = trained(head, seed, cache=cache, length=LENGTH, conjunction=True)
        data = planted(4 * SAMPLES // 2, seed=3000 + seed, length=LENGTH, conjunction=True)
        background = planted(4 * REFERENCES, seed=4000 + seed, length=LENGTH, conjunction=True)
        both = np.flatnonzero(data.y == 0)
        truth = [spans(data, i) for i in both]
        options = {"background": background.x[:260], "background_labels": background.y[:260], "target": 0}
        free = background.x[background.y == 3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ks.KerascopeWarning)
            default = found(model, data.x[both], **options)
            given = found(model, data.x[both], references=free, **options)
        runs["default"].append(judged(default, truth))
        runs["free"].append(judged(given, truth))
        warned.append(any("carry part of the evidence" in text for text in default.warnings))
        if warned[-1]:
            right = [span[0] for motifs in truth for span in motifs]
            p = default.rows.set_index(["sample", "index"])["p_clean"]
            clean.append(np.mean([p[i // 2, row] <= 0.05 for i, row in enumerate(right)]))
        print(f"  {head}, seed {seed}: accuracy {accuracy:.3f}, {runs['default'][-1]}, {runs['free'][-1]}", flush=True)
    for key in ("rows", "recall"):
        what = "rows called" if key == "rows" else "stretches at IoU .5"
        bounds.say(f"AND, default references: share of {what}", mean(runs["default"], key))
        bounds.say(f"AND, references without motif: share of {what}", mean(runs["free"], key), low=0.9)
    bounds.say("AND, references without motif: precision", mean(runs["free"], "precision"))
    bounds.say("AND, default references: share of networks warned of", float(np.mean(warned)), low=1.0)
    if clean:
        bounds.say("AND, default references: share of rows with p_clean <= .05", float(np.mean(clean)))


def correlated(bounds: Bounds, seeds: int, cache: Path | None) -> None:
    """Neighbouring rows are correlated at .8."""
    runs: dict[str, list[dict[str, float]]] = {"alone": [], "grouped": []}
    for head, seed in every(seeds):
        model, accuracy = trained(head, seed, cache=cache, length=LENGTH, correlation=CORRELATION)
        data = planted(SAMPLES * 5 // 4, seed=3000 + seed, length=LENGTH, correlation=CORRELATION)
        background = planted(260, seed=4000 + seed, length=LENGTH, correlation=CORRELATION)
        marked = np.flatnonzero(data.y < 4)
        truth = [spans(data, i) for i in marked]
        for name, groups in (("alone", None), ("grouped", "correlated")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ks.KerascopeWarning)
                e = found(
                    model,
                    data.x[marked],
                    background=background.x,
                    background_labels=background.y,
                    target=data.y[marked],
                    groups=groups,
                )
            runs[name].append(judged(e, truth))
        sizes = [len(g) for g in e.attrs["groups"]["sensor"]]
        print(
            f"  {head}, seed {seed}: accuracy {accuracy:.3f}, {runs['alone'][-1]}, groups {sizes} "
            f"{runs['grouped'][-1]}",
            flush=True,
        )
    bounds.say("correlated rows: recall", mean(runs["alone"], "recall"), low=0.9)
    bounds.say("correlated rows: precision", mean(runs["alone"], "precision"), low=0.75)
    bounds.say("correlated rows, grouped: recall", mean(runs["grouped"], "recall"), low=0.9)
    lift = mean(runs["grouped"], "precision") - mean(runs["alone"], "precision")
    bounds.say("correlated rows, grouped: precision", mean(runs["grouped"], "precision"))
    bounds.say("correlated rows: precision gained by grouping", lift, low=0.0)


def shuffled(bounds: Bounds, seeds: int, cache: Path | None) -> None:
    """Labels were shuffled before training: there is nothing to find."""
    shares = []
    for head, seed in every(seeds):
        model, accuracy = trained(head, seed, cache=cache, shuffled=True, length=LENGTH)
        data = planted(200, seed=3000 + seed, length=LENGTH)
        background = planted(260, seed=4000 + seed, length=LENGTH)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ks.KerascopeWarning)
            e = found(
                model,
                data.x,
                background=background.x,
                background_labels=background.y,
                target=np.random.default_rng(seed).permutation(data.y),
                check=False,
            )
        shares.append(e.rows.groupby("sample")["called"].any().mean())
        print(f"  {head}, seed {seed}: accuracy {accuracy:.3f}, called in {shares[-1]:.3f}", flush=True)
    # 200 inputs and about 208 references a network: the mean has a standard deviation of about .021 / sqrt(networks).
    room = 2 * 0.021 / np.sqrt(len(shares))
    bounds.say("shuffled labels: inputs with a call", float(np.mean(shares)), high=0.05 + float(room))


def every(seeds: int) -> list[tuple[str, int]]:
    """Return heads and seeds."""
    return [(head, seed) for seed in range(seeds) for head in HEADS]


def mean(runs: list[dict[str, float]], key: str) -> float:
    """Return the mean of a figure over networks."""
    return float(np.mean([run[key] for run in runs]))


PARTS = {"conjunction": conjunction, "correlated": correlated, "shuffled": shuffled}


def main() -> int:
    """Run the parts; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "evidence_hard.md")
    arguments = parser.parse_args()
    bounds = Bounds()
    said = [
        f"Motifs of {LENGTH} steps; means over {3 * arguments.seeds} networks (Flatten, average and max heads, "
        f"{arguments.seeds} training seeds), {SAMPLES} motifs each. Made by `benchmarks/evidence_hard.py`."
    ]
    for name in arguments.parts:
        print(name, flush=True)
        PARTS[name](bounds, arguments.seeds, arguments.cache)
        write(arguments.out, "Evidence where it is hard to see", said, bounds.table())
    return bounds.status


if __name__ == "__main__":
    sys.exit(main())
