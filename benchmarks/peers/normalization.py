"""LRP through BatchNormalization: iNNvestigate 2.1.2 beside kerascope with its conventions.

    env-innvestigate/bin/python benchmarks/peers/normalization.py theirs FILE.npz
    KERAS_BACKEND=torch python benchmarks/peers/normalization.py ours FILE.npz

The first draws two networks (dense; convolutional with one BatchNormalization without gamma) and writes them with its
maps; the second explains the same and writes results/peers_normalization.md. Allowed: 1e-5 of the map's largest value
plus the distance of kerascope's own float32 map from its float64 map, which is what rounding does. Exit status 1 beyond
that.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

CLASS = 1
FUSED = {"bn_layer_fuse_mode": "two_linear"}
ASKED: list[tuple[str, dict[str, Any]]] = [
    *((f"lrp.{rule}", {}) for rule in ("z", "epsilon", "w_square", "flat", "alpha_2_beta_1", "alpha_2_beta_1_IB")),
    *((f"lrp.{rule}", {}) for rule in ("alpha_1_beta_0", "alpha_1_beta_0_IB", "z_plus", "z_plus_fast")),
    *((f"lrp.sequential_preset_{preset}", {}) for preset in ("a", "a_flat", "b", "b_flat")),
    *((f"lrp.{rule}", FUSED) for rule in ("z", "epsilon", "alpha_2_beta_1")),
    ("lrp.sequential_preset_a", {"bn_layer_rule": "Z"}),
    ("lrp", {"rule": "Epsilon", "bn_layer_rule": "Alpha1Beta0"}),
]


def network(keras: Any, kind: str) -> Any:
    """Return one of the two networks, in whichever Keras."""
    layers = keras.layers
    if kind == "dense":
        inputs = layers.Input((6,))
        h = layers.BatchNormalization()(layers.Dense(5, activation="relu")(inputs))
        h = layers.Dense(4, activation="relu")(h)
    else:
        inputs = layers.Input((8, 8, 2))
        h = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(inputs))
        h = layers.BatchNormalization(scale=False)(layers.Conv2D(4, 3)(h))
        h = layers.Flatten()(layers.MaxPooling2D()(layers.Activation("relu")(h)))
    return keras.Model(inputs, layers.Dense(3)(h))


def drawn(model: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw weights; variances are positive and far from 1."""
    names = [weight.name for layer in model.layers for weight in layer.weights]
    shapes = [weight.shape for weight in model.get_weights()]
    return [
        rng.uniform(0.3, 2, shape) if "variance" in name else 0.5 * rng.normal(size=shape)
        for name, shape in zip(names, shapes, strict=True)
    ]


def theirs(path: Path) -> int:
    """Explain with iNNvestigate and write what was drawn and found."""
    import innvestigate
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    rng, found = np.random.default_rng(0), {}
    for kind in ("dense", "convolutional"):
        weights = drawn(network(tf.keras, kind), rng)
        found.update({f"{kind}|weight|{k}": weight for k, weight in enumerate(weights)})
        x = rng.normal(size=(3, *network(tf.keras, kind).input_shape[1:])).astype("float32")
        found[f"{kind}|x"] = x
        for name, options in ASKED:
            tf.keras.backend.clear_session()
            model = network(tf.keras, kind)
            model.set_weights(weights)
            analyzer = innvestigate.create_analyzer(name, model, neuron_selection_mode="index", **options)
            found[f"{kind}|map|{name}|{json.dumps(options)}"] = analyzer.analyze(x, neuron_selection=CLASS)
    np.savez(path, **found)
    return 0


def ours(path: Path) -> int:
    """Explain with kerascope, compare, print and write the table."""
    import keras

    import kerascope as ks

    warnings.simplefilter("ignore", ks.KerascopeWarning)
    data, rows, outside = np.load(path), [], 0
    for key in (key for key in data.files if "|map|" in key):
        kind, _, name, options = key.split("|")
        maps = {}
        for dtype in ("float64", "float32"):
            keras.config.set_dtype_policy(dtype)
            model = network(keras, kind)
            model.set_weights([data[f"{kind}|weight|{k}"] for k in range(len(model.weights))])
            given = {"neuron_selection_mode": "index", **json.loads(options)}
            analyzer = ks.create_analyzer(name, model, "innvestigate", **given)
            maps[dtype] = np.asarray(analyzer.analyze(data[f"{kind}|x"].astype(dtype), CLASS))
        largest = np.abs(maps["float64"]).max()
        apart = np.abs(maps["float64"] - data[key]).max() / largest
        rounding = np.abs(maps["float64"] - maps["float32"]).max() / largest
        inside = bool(apart <= 1e-5 + rounding)
        outside += not inside
        rows.append(f"| {kind} | {name} | {options} | {apart:.1e} | {rounding:.1e} | {'yes' if inside else '**no**'} |")
    lines = [
        "# LRP through BatchNormalization, beside iNNvestigate 2.1.2",
        "",
        "Largest difference, and what rounding to float32 does to kerascope's own map, over the map's largest value. "
        "Made by `benchmarks/peers/normalization.py`.",
        "",
        "| network | analyzer | options | apart | float32 | within bounds |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    out = Path(__file__).resolve().parents[1] / "results" / "peers_normalization.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit({"theirs": theirs, "ours": ours}[sys.argv[1]](Path(sys.argv[2])))
