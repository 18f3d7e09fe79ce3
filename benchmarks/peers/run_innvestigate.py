"""Explain the exchanged networks with iNNvestigate 2.1.2; runs in its own environment (Python 3.10, TensorFlow 2.14).

python run_innvestigate.py FOLDER
"""

import json
import sys
from pathlib import Path

import innvestigate
import numpy as np
import tensorflow as tf

tf.compat.v1.disable_eager_execution()
ANALYZERS = {
    "gradient": {},
    "input_t_gradient": {},
    "deconvnet": {},
    "guided_backprop": {},
    "integrated_gradients": {"steps": 16},
    "lrp.z": {},
    "lrp.epsilon": {},
    "lrp.w_square": {},
    "lrp.flat": {},
    "lrp.alpha_2_beta_1": {},
    "lrp.alpha_2_beta_1_IB": {},
    "lrp.alpha_1_beta_0": {},
    "lrp.alpha_1_beta_0_IB": {},
    "lrp.z_plus": {},
    "lrp.z_plus_fast": {},
    "lrp.sequential_preset_a": {},
    "lrp.sequential_preset_a_flat": {},
    "lrp.sequential_preset_b": {},
    "lrp.sequential_preset_b_flat": {},
    "deep_taylor": {},
    "deep_taylor.bounded": {"low": -3.0, "high": 3.0},
}


def build(spec, weights):
    """Return an exchanged network in tf.keras."""
    layers = tf.keras.layers
    inputs = value = layers.Input(tuple(spec["shape"]))
    plain = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D, "flatten": layers.Flatten}
    for part in spec["layers"]:
        kind, act = part["kind"], "relu" if part.get("relu") else None
        if kind == "conv":
            size, padding = part["size"], part["padding"]
            layer = layers.Conv2D(part["filters"], size, padding=padding, activation=act, use_bias=part["bias"])
        elif kind == "dense":
            layer = layers.Dense(part["units"], activation=act, use_bias=part["bias"])
        else:
            layer = plain[kind]()
        value = layer(value)
    model = tf.keras.Model(inputs, value)
    model.set_weights(weights)
    return model


def main():
    """Write the maps of every network into the folder; further words choose analyzers."""
    folder, chosen = Path(sys.argv[1]), sys.argv[2:] or list(ANALYZERS)
    for path in sorted(folder.glob("net_*.json")):
        spec = json.loads(path.read_text())
        data = np.load(path.with_suffix(".npz"))
        weights = [data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in data))]
        answers = folder / f"innvestigate_{path.stem}.npz"
        found = dict(np.load(answers)) if answers.exists() else {}
        for name in chosen:
            # A model of its own for each: after a first analyzer the input layer rule of a second one is not applied.
            tf.keras.backend.clear_session()
            model = build(spec, weights)
            analyzer = innvestigate.create_analyzer(name, model, neuron_selection_mode="index", **ANALYZERS[name])
            selection = [spec["target"]] if name == "integrated_gradients" else spec["target"]
            found[name] = analyzer.analyze(data["x"].astype("float32"), neuron_selection=selection)
        np.savez(answers, **found)
        print(path.stem, flush=True)


main()
