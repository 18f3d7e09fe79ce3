"""Model files to load, sound and edited: helpers of the tests of `load_model`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

Config = dict[str, Any]
layers = keras.layers


def small() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Conv1D(4, 3, activation="relu"),
            layers.Dropout(0.1),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )


def outputs(model: keras.Model) -> np.ndarray:
    x = np.linspace(-1, 1, 36, dtype="float32").reshape(2, 6, 3)
    return keras.ops.convert_to_numpy(model(x, training=False))


def save_h5(model: keras.Model, path: Path) -> Path:
    model.save(path)  # warns through absl, not through warnings
    return path


def rewritten(source: Path, edit: Callable[[Config], Any], name: str = "edited.keras") -> Path:
    """Return a copy of a .keras archive with its config.json edited."""
    target = source.parent / name
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "config.json":
                config = json.loads(content)
                content = json.dumps(edit(config) or config).encode()
            new.writestr(entry, content)
    return target


def rewritten_h5(path: Path, edit: Callable[[Config], Any]) -> Path:
    """Edit the architecture in an HDF5 model file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config = edit(config) or config
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)
    return path


def layer(config: Config, class_name: str) -> Config:
    return next(item for item in config["config"]["layers"] if item["class_name"] == class_name)


def with_extra(source: Path, name: str, content: bytes, **entry: Any) -> Path:
    """Return a copy of an archive with one more member."""
    target = source.parent / "extra.keras"
    target.write_bytes(source.read_bytes())
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = entry.get("external_attr", 0)
        archive.writestr(info, content)
    return target
