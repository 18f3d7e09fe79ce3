"""Put the peers' maps beside kerascope's; writes results/peers.md, exit status 1 if anything unexplained differs.

KERAS_BACKEND=torch python benchmarks/peers/compare.py FOLDER [PEER ...]

With names of peers only these are compared again; the others' figures are taken from the folder.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asked
import keras
import numpy as np
from keras import layers

import kerascope as ks

OUT = Path(__file__).resolve().parents[1] / "results" / "peers.md"
ROUNDING = 2.0**-24
SHAKES = 32
Row = dict[str, Any]


def build(spec: dict[str, Any], weights: list[np.ndarray]) -> Any:
    """Return an exchanged network in Keras 3."""
    model = keras.Sequential([layers.Input(tuple(spec["shape"]))])
    for part in spec["layers"]:
        kind, name = part["kind"], "last" if part is spec["layers"][-1] else None
        options = {"activation": "relu" if part.get("relu") else None, "use_bias": part.get("bias"), "name": name}
        if kind == "conv":
            model.add(layers.Conv2D(part["filters"], part["size"], padding=part["padding"], **options))
        elif kind == "dense":
            model.add(layers.Dense(part["units"], **options))
        else:
            pools = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}
            model.add(pools[kind](2) if kind in pools else layers.Flatten())
    model.set_weights(weights)
    return model


def at_precision(floatx: str, make: Callable[[], Any]) -> Any:
    """Run with models of one precision."""
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        return make()
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


class Net:
    """One exchanged network with kerascope's maps of it."""

    def __init__(self, path: Path) -> None:
        """Read a network."""
        self.path, self.spec = path, json.loads(path.read_text())
        self.data = dict(np.load(path.with_suffix(".npz")))
        self.model = functools.cache(self._model)

    def weights(self, *, bias: bool) -> list[np.ndarray]:
        """Return the weights, biases as drawn or zero."""
        found = [self.data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in self.data))]
        return found if bias else [w * (w.ndim > 1) for w in found]

    def _model(self, floatx: str, bias: bool) -> Any:
        return at_precision(floatx, lambda: build(self.spec, self.weights(bias=bias)))

    def explained(self, peer: str, name: str, floatx: str, shape: tuple[int, ...], shake: Any = None) -> np.ndarray:
        """Return kerascope's map for a row; ``shake`` changes inputs and weights by one rounding of float32."""
        bias = asked.has_biases(name)
        model = self.model(floatx, bias)
        x, x0 = (self.data[key] for key in ("x", "x0"))
        if shake is not None:
            x, x0, *weights = (_shaken(array, shake) for array in (x, x0, *self.weights(bias=bias)))
            model.set_weights(weights)
        x, x0 = x.astype(floatx), x0.astype(floatx)
        found = at_precision(floatx, lambda: asked.ours(peer, name, model, x, x0, self.spec["target"]))
        if shake is not None:
            model.set_weights(self.weights(bias=bias))
        return np.asarray(found).astype("float64").reshape(shape)

    def compared(self, peer: str, name: str, theirs: np.ndarray) -> Row:
        """Return the differences relative to the map's largest value, and whether they are allowed."""
        exact = self.explained(peer, name, "float64", theirs.shape)
        scale = max(float(np.max(np.abs(exact))), 1e-12)
        difference = np.abs(exact - theirs) / scale
        row: Row = {"net": self.path.stem, "mean": float(difference.mean()), "max": float(difference.max())}
        row["square"] = float(np.mean(np.square(difference)))
        if name.startswith("drawn: "):
            return row | {"ok": True}
        if asked.IS_DOUBLE[peer]:
            row["ok"] = row["mean"] <= 1e-6
        else:
            single = self.explained(peer, name, "float32", theirs.shape)
            row["ok"] = row["max"] <= 1e-5 + float(np.max(np.abs(single - exact))) / scale
        cause = asked.CAUSES.get((peer, name))
        row["explained"] = row["ok"] or (cause is not None and cause[1](self.spec))
        if not row["explained"] and not asked.IS_DOUBLE[peer]:
            row["moved"] = self._moved(peer, name, exact) / scale
            row["explained"] = row["max"] <= row["moved"]
        return row

    def _moved(self, peer: str, name: str, exact: np.ndarray) -> float:
        rng = np.random.default_rng(21)
        maps = (self.explained(peer, name, "float64", exact.shape, rng) for _ in range(SHAKES))
        return max(float(np.max(np.abs(moved - exact))) for moved in maps)


def _shaken(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array * (1 + ROUNDING * rng.choice([-1.0, 1.0], size=array.shape))


def compare(folder: Path, peer: str) -> dict[str, list[Row]]:
    """Return the rows of a peer, and keep them in the folder."""
    rows: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("net_*.json")):
        answers, net = folder / f"{peer}_{path.stem}.npz", Net(path)
        for name, theirs in np.load(answers).items() if answers.exists() else ():
            rows.setdefault(name, []).append(net.compared(peer, name, theirs))
        print(peer, path.stem, flush=True)
    (folder / f"compared_{peer}.json").write_text(json.dumps(rows), encoding="utf-8")
    return rows


def main() -> int:
    """Compare, print, write."""
    folder, again = Path(sys.argv[1]), sys.argv[2:] or list(asked.PEERS)
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    for peer in again:
        compare(folder, peer)
    kept = {peer: folder / f"compared_{peer}.json" for peer in asked.PEERS}
    rows = {
        (peer, name): found
        for peer, path in kept.items()
        if path.exists()
        for name, found in json.loads(path.read_text()).items()
    }
    lines = [*_table(rows), *_even(folder), *_drawn_table(rows), *_beyond(folder / "shap_beyond.json")]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    unexplained = [key for key, found in rows.items() if not all(row.get("explained", True) for row in found)]
    print(f"Unexplained: {unexplained or 'nothing'}")
    return 1 if unexplained else 0


def _table(rows: dict[tuple[str, str], list[Row]]) -> list[str]:
    lines = [
        "# Side by side with the peers",
        "",
        "Differences relative to the largest value of each map. Made by `benchmarks/peers/compare.py`; how, and what "
        "is allowed, stands in `benchmarks/peers/README.md`.",
        "",
        "| peer | method | networks | mean difference | worst network | within bounds | why not |",
        "|---|---|---|---|---|---|---|",
    ]
    for (peer, name), found in sorted(rows.items()):
        if name.startswith("drawn: "):
            continue
        mean = np.mean([row["mean"] for row in found])
        worst, inside = max(row["max"] for row in found), sum(row["ok"] for row in found)
        lines.append(
            f"| {asked.PEERS[peer]} | {name} | {len(found)} | {mean:.1e} | {worst:.1e} | {inside} of {len(found)} | "
            f"{_why(peer, name, found)} |"
        )
    return lines


def _why(peer: str, name: str, found: list[Row]) -> str:
    outside = [row for row in found if not row["ok"]]
    if not outside:
        return ""
    if not all(row["explained"] for row in outside):
        return "not explained"
    moved = [f"{row['net']}: {row['max']:.1e} apart, {row['moved']:.1e} moved" for row in outside if "moved" in row]
    if moved:
        return (
            "float32: a denominator near zero makes the map ill-conditioned. Kerascope's own float64 map moves further "
            f"when inputs and weights change by one rounding of float32 ({SHAKES} draws): {'; '.join(moved)}"
        )
    return asked.CAUSES[peer, name][0]


def _even(folder: Path) -> list[str]:
    """Return how far autoLRP's maps are from Zennit's where neither has a rule for average pooling."""
    worst, count = 0.0, 0
    for path in sorted(folder.glob("zennit-even_*.npz")):
        others = folder / path.name.replace("zennit-even", "autolrp")
        for name, even in np.load(path).items() if others.exists() else ():
            theirs = np.load(others)[name]
            worst = max(worst, float(np.max(np.abs(even - theirs)) / max(np.max(np.abs(theirs)), 1e-12)))
            count += 1
    if not count:
        return []
    text = (
        f"Average pooling is all that sets autoLRP apart in networks without biases: Zennit with its pooling rule "
        f"taken away gives autoLRP's maps to {worst:.1e} ({count} maps of the four rules, all networks)."
    )
    return ["", text]


def _drawn_table(rows: dict[tuple[str, str], list[Row]]) -> list[str]:
    lines = [
        "",
        "What a peer draws cannot agree to the digit; it must come closer to kerascope's exact values, by 4 where it "
        "draws 16 times as much (root mean square of the differences, all networks).",
        "",
        "| peer | what is drawn | compared with | networks | draws: difference | 16 times: difference | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    pairs: dict[tuple[str, str], list[tuple[int, list[Row]]]] = {}
    for (peer, name), found in rows.items():
        if name.startswith("drawn: "):
            what, draws = name.removeprefix("drawn: ").split(", ")
            pairs.setdefault((peer, what), []).append((int(draws), found))
    for (peer, what), both in sorted(pairs.items()):
        texts, errors = [], []
        for draws, found in sorted(both, key=lambda pair: pair[0]):
            errors.append(float(np.sqrt(np.mean([row["square"] for row in found]))))
            texts.append(f"{draws}: {errors[-1]:.1e}")
        lines.append(
            f"| {asked.PEERS[peer]} | {what} | {asked.EXACT_FOR_DRAWN[what]} | {len(both[0][1])} | {texts[0]} | "
            f"{texts[-1]} | {errors[0] / errors[-1]:.1f} |"
        )
    return lines


def _beyond(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines = [
        "",
        f"{asked.PEERS['shap-keras']}: DeepExplainer beyond these networks, one convolution, one other layer and one "
        "dense layer; its check of the sum switched off.",
        "",
        "| other layer | what DeepExplainer does |",
        "|---|---|",
    ]
    return lines + [f"| {name} | {text} |" for name, text in json.loads(path.read_text()).items()]


if __name__ == "__main__":
    sys.exit(main())
