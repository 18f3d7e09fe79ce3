"""Put the peers' maps beside kerascope's; writes results/peers.md, exit status 1 if anything unexplained differs.

KERAS_BACKEND=torch python benchmarks/peers/compare.py FOLDER
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import kerascope as ks

OUT = Path(__file__).resolve().parents[1] / "results" / "peers.md"
CAPTUM: dict[str, dict[str, Any]] = {
    "gradient": {},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 20},
    "deeplift": {},
    "guided_backprop": {},
    "deconvnet": {},
    "occlusion": {},
}
INNVESTIGATE: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 16},
    "deep_taylor.bounded": {"low": -3.0, "high": 3.0},
}
CAUSES: dict[tuple[str, str], str] = {
    (
        "captum",
        "deeplift",
    ): "networks with max pooling: Captum's values miss f(x) - f(x0) there (by up to 0.15 of values "
    "around 1), kerascope's do not",
    (
        "innvestigate",
        "lrp.z_plus_fast",
    ): "probably float32, amplified by denominators near zero (the input is not clipped); not shown",
    ("innvestigate", "lrp.epsilon"): "probably float32, amplified by a denominator near zero; not shown",
}
"""Known differences and why."""


def build(spec: dict[str, Any], weights: list[np.ndarray]) -> Any:
    """Return an exchanged network in Keras 3."""
    model = keras.Sequential([layers.Input(tuple(spec["shape"]))])
    for part in spec["layers"]:
        kind = part["kind"]
        options = {"activation": "relu" if part.get("relu") else None, "use_bias": part.get("bias")}
        if kind == "conv":
            model.add(layers.Conv2D(part["filters"], part["size"], padding=part["padding"], **options))
        elif kind == "dense":
            model.add(layers.Dense(part["units"], **options))
        else:
            pools = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}
            model.add(pools[kind](2) if kind in pools else layers.Flatten())
    model.set_weights(weights)
    return model


def with_captum(name: str, model: Any, x: np.ndarray, x0: np.ndarray, target: int) -> np.ndarray:
    """Explain as Captum was asked to."""
    options = dict(CAPTUM[name])
    if name in ("integrated_gradients", "deeplift"):
        options["baseline"] = x0
    if name == "occlusion":
        options["fill"] = x0
    return np.asarray(ks.explain(model, x, name, target=target, **options).values)


def with_innvestigate(name: str, model: Any, x: np.ndarray, x0: np.ndarray, target: int) -> np.ndarray:
    """Explain by iNNvestigate's conventions."""
    options = INNVESTIGATE.get(name, {})
    analyzer = ks.create_analyzer(name, model, "innvestigate", neuron_selection_mode="index", **options)
    return analyzer.analyze(x, target)


PEERS: dict[str, tuple[Callable[..., np.ndarray], bool]] = {
    "innvestigate": (with_innvestigate, False),
    "captum": (with_captum, True),
}


def at_precision(floatx: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Run with models of one precision."""
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        return make()
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


def main() -> int:
    """Compare, print, write."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    rows: dict[tuple[str, str], list[tuple[float, float, bool]]] = {}
    for path in sorted(folder.glob("net_*.json")):
        spec, data = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
        weights = [data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in data))]
        for peer, (ours, is_double) in PEERS.items():
            answers = folder / f"{peer}_{path.stem}.npz"
            if not answers.exists():
                continue
            for name, theirs in np.load(answers).items():
                rows.setdefault((peer, name), []).append(
                    _difference(name, ours, theirs, spec, weights, data, is_double)
                )
        print(path.stem, flush=True)
    lines = _table(rows)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    unexplained = [key for key, found in rows.items() if not all(ok for *_, ok in found) and key not in CAUSES]
    print(f"Unexplained: {unexplained or 'nothing'}")
    return 1 if unexplained else 0


def _difference(
    name: str,
    ours: Callable[..., np.ndarray],
    theirs: np.ndarray,
    spec: dict[str, Any],
    weights: list[np.ndarray],
    data: Any,
    is_double: bool,
) -> tuple[float, float, bool]:
    """Return mean and largest difference relative to the map, and whether it is allowed."""

    def explained(floatx: str) -> np.ndarray:
        def make() -> np.ndarray:
            arrays = (data[key].astype(floatx) for key in ("x", "x0"))
            return ours(name, build(spec, weights), *arrays, spec["target"])

        return at_precision(floatx, make).astype("float64").reshape(theirs.shape)

    exact = explained("float64")
    scale = max(float(np.max(np.abs(exact))), 1e-12)
    difference = np.abs(exact - theirs) / scale
    allowed = 1e-6
    if not is_double:
        allowed = 1e-5 + float(np.max(np.abs(explained("float32") - exact))) / scale
    within = float(difference.mean() if is_double else difference.max()) <= allowed
    return float(difference.mean()), float(difference.max()), within


def _table(rows: dict[tuple[str, str], list[tuple[float, float, bool]]]) -> list[str]:
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
        mean = np.mean([row[0] for row in found])
        worst, inside = max(row[1] for row in found), sum(row[2] for row in found)
        cause = CAUSES.get((peer, name), "" if inside == len(found) else "not explained")
        lines.append(
            f"| {peer} | {name} | {len(found)} | {mean:.1e} | {worst:.1e} | {inside} of {len(found)} | {cause} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
