"""Explain the exchanged networks with SHAP; runs in its own environment (Python 3.12, TensorFlow, Keras 3).

python run_shap.py FOLDER [beyond]

With "beyond" only the layers outside the exchanged networks are tried.
What goes through NumPy is in float64; DeepExplainer and GradientExplainer get a Keras 3 model on TensorFlow in float32.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import shap


def dense(layers, weights, x):
    """Return the outputs of a dense network, in NumPy."""
    weights = iter(weights)
    for layer in layers:
        x = x @ next(weights)
        x = x + next(weights) if layer["bias"] else x
        x = np.maximum(x, 0) if layer["relu"] else x
    return x


def build(spec, weights):
    """Return an exchanged network in Keras 3."""
    model = keras.Sequential([keras.layers.Input(tuple(spec["shape"]))])
    pools = {"average": keras.layers.AveragePooling2D, "max": keras.layers.MaxPooling2D}
    for part in spec["layers"]:
        kind, act = part["kind"], "relu" if part.get("relu") else None
        if kind == "conv":
            layer = keras.layers.Conv2D(
                part["filters"], part["size"], padding=part["padding"], activation=act, use_bias=part["bias"]
            )
        elif kind == "dense":
            layer = keras.layers.Dense(part["units"], activation=act, use_bias=part["bias"])
        else:
            layer = pools[kind](2) if kind in pools else keras.layers.Flatten()
        model.add(layer)
    model.set_weights(weights)
    return model


def by_questions(spec, weights, x, x0):
    """Return Shapley values of a dense network from its outputs."""

    def explained(rows):
        return dense(spec["layers"], weights, rows)[:, spec["target"]]

    masker = shap.maskers.Independent(x0)
    kernel = shap.KernelExplainer(explained, x0, keep_index=False)
    found = {
        "shapley_exact": shap.ExactExplainer(explained, masker)(x).values,
        "kernel_shap": kernel.shap_values(x, nsamples=2**10, l1_reg=False, silent=True),
    }
    for samples in (20, 320):
        explainer = shap.PermutationExplainer(explained, masker, seed=samples)
        found[f"drawn: permutations, {samples}"] = explainer(x, max_evals=samples * 21, silent=True).values
    return found


def by_gradients(spec, weights, x, x0):
    """Return what differentiates; where SHAP fails, its error."""
    found, errors = {}, {}
    asked = {
        "deeplift": (shap.DeepExplainer, {"check_additivity": False}),
        "drawn: expected_gradients, 200": (shap.GradientExplainer, {"nsamples": 200, "rseed": 1}),
        "drawn: expected_gradients, 3200": (shap.GradientExplainer, {"nsamples": 3200, "rseed": 2}),
    }
    for name, (explainer, options) in asked.items():
        try:
            values = explainer(build(spec, weights), x0).shap_values(x, **options)
            found[name] = np.asarray(values)[..., spec["target"]]
        except Exception as error:  # what it cannot do is a result here
            errors[name] = f"{type(error).__name__}: {error}"[:200]
    return found, errors


def beyond():
    """Return how DeepExplainer fares with other layers of Keras 3: its error, or by how much its sum misses."""
    layers = keras.layers
    between = {
        "LeakyReLU": layers.LeakyReLU(),
        "PReLU": layers.PReLU(alpha_initializer="ones"),
        "gelu": layers.Activation("gelu"),
        "silu": layers.Activation("silu"),
        "LayerNormalization": layers.LayerNormalization(),
        "BatchNormalization": layers.BatchNormalization(),
        "DepthwiseConv2D": layers.DepthwiseConv2D(3),
        "Conv2DTranspose": layers.Conv2DTranspose(3, 3),
        "overlapping MaxPooling2D": layers.MaxPooling2D(3, 1),
        "GlobalMaxPooling2D": layers.GlobalMaxPooling2D(),
    }
    rng, found = np.random.default_rng(3), {}
    x, x0 = (rng.normal(size=(1, 8, 8, 2)).astype("float32") for _ in range(2))
    keras.utils.set_random_seed(3)
    for name, layer in between.items():
        ends = [layers.Conv2D(4, 3, activation="relu"), layer, layers.Flatten(), layers.Dense(3)]
        model = keras.Sequential([layers.Input((8, 8, 2)), *ends])
        try:
            values = shap.DeepExplainer(model, x0).shap_values(x, check_additivity=False)
            total = np.asarray(model(x) - model(x0))[0]
            gap = np.abs(np.asarray(values)[0].sum(axis=(0, 1, 2)) - total)
            found[name] = f"sum misses f(x) - f(x0) by {np.max(gap) / np.max(np.abs(total)):.1%}"
        except Exception as error:  # what it cannot do is a result here
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            found[name] = f"{type(error).__name__}: {said[-1][:110]}"
    return found


def main():
    """Write the maps of every network into the folder."""
    folder = Path(sys.argv[1])
    (folder / "shap_beyond.json").write_text(json.dumps(beyond()), encoding="utf-8")
    if sys.argv[2:] == ["beyond"]:
        return
    for path in sorted(folder.glob("net_*.json")):
        spec, data = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
        weights = [data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in data))]
        x, x0 = data["x"], data["x0"]
        exact = by_questions(spec, weights, x, x0) if len(spec["shape"]) == 1 else {}
        np.savez(folder / f"shap_{path.stem}.npz", **exact)
        found, errors = by_gradients(spec, weights, x.astype("float32"), x0.astype("float32"))
        np.savez(folder / f"shap-keras_{path.stem}.npz", **found)
        print(path.stem, errors or "", flush=True)


main()
