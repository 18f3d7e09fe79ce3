"""Draw fifty small ReLU networks with an input and a class each, as plain arrays and JSON.

python benchmarks/peers/write_nets.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

COUNT = 50


def layers_of(rng: np.random.Generator, number: int) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Return the layers of a network, and the shape of its input."""
    pooling = (None, "average", "max")[number % 3]
    bias = number % 2 == 0
    if number < COUNT // 2:
        widths = [int(w) for w in rng.integers(8, 20, rng.integers(1, 4))]
        parts = [{"kind": "dense", "units": w, "relu": True, "bias": bias} for w in widths]
        return [*parts, {"kind": "dense", "units": 4, "relu": False, "bias": bias}], (10,)
    parts = []
    for block in range(2):
        padding = "same" if rng.random() < 0.5 else "valid"
        conv = {"kind": "conv", "filters": int(rng.integers(3, 7)), "size": 3, "padding": padding}
        parts.append({**conv, "relu": True, "bias": bias})
        if pooling and block == 0:
            parts.append({"kind": pooling})
    return [*parts, {"kind": "flatten"}, {"kind": "dense", "units": 4, "relu": False, "bias": bias}], (12, 12, 3)


def weights_of(rng: np.random.Generator, parts: list[dict[str, Any]], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Draw kernels and biases in the order of the layers, following the shapes."""
    found = []
    for part in parts:
        if part["kind"] == "conv":
            fan = part["size"] ** 2 * shape[-1]
            kernel = rng.normal(size=(part["size"], part["size"], shape[-1], part["filters"])) * np.sqrt(2 / fan)
            side = shape[0] if part["padding"] == "same" else shape[0] - part["size"] + 1
            shape = (side, side, part["filters"])
        elif part["kind"] in ("average", "max"):
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
            continue
        elif part["kind"] == "flatten":
            shape = (int(np.prod(shape)),)
            continue
        else:
            kernel = rng.normal(size=(shape[0], part["units"])) * np.sqrt(2 / shape[0])
            shape = (part["units"],)
        found.append(kernel)
        if part["bias"]:
            found.append(0.2 * rng.normal(size=kernel.shape[-1]))
    return found


def main() -> None:
    """Write the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        rng = np.random.default_rng((20, number))
        parts, shape = layers_of(rng, number)
        arrays = {f"weight_{i}": w for i, w in enumerate(weights_of(rng, parts, shape))}
        inputs = {"x": np.clip(rng.normal(size=(1, *shape)), -3, 3), "x0": 0.1 * rng.normal(size=(1, *shape))}
        np.savez(folder / f"net_{number:02d}.npz", **arrays, **inputs)
        spec = {"layers": parts, "shape": shape, "target": int(rng.integers(4))}
        (folder / f"net_{number:02d}.json").write_text(json.dumps(spec), encoding="utf-8")
    print(f"{COUNT} networks in {folder}")


if __name__ == "__main__":
    main()
