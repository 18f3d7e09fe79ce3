"""What the two training scripts share: saving a model, and the record beside it."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

DEMO = Path(__file__).resolve().parents[1] / "src" / "kerascope" / "demo"
DROPPED = {
    "quantization_config",  # these six are unknown to Keras 3.8, and at their defaults here
    "input_axes",
    "output_axes",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
    "compile_config",  # says how it was trained; the loaded model only predicts
    "shared_object_id",  # a memory address
}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file knows


def need_jax() -> None:
    """Stop unless Keras runs on JAX, on which the shipped models were trained."""
    if keras.backend.backend() != "jax":
        raise SystemExit(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax.")


def save_model(model: keras.Model, path: Path) -> None:
    """Save the model so that Keras 3.8 reads it too, and so that the same weights give the same bytes."""
    buffer = path.with_suffix(".tmp.keras")
    bare = keras.models.clone_model(model)  # without the optimizer's state, twice the size of the weights
    bare.set_weights(model.get_weights())
    bare.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer.unlink()
    members["config.json"] = _dumps(_without(json.loads(members["config.json"]), DROPPED))
    members["metadata.json"] = _dumps({"keras_version": keras.__version__})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    path.write_bytes(out.getvalue())


def record(name: str, model: keras.Model, facts: dict[str, Any], reference: np.ndarray) -> None:
    """Write what is known about a shipped model into models.json, beside it.

    Args:
        name: the model's name; its file is name.keras.
        model: as it was saved.
        facts: seeds, sizes and accuracies, JSON-able.
        reference: (M, *S), some inputs whose outputs are kept, for comparison on other backends.
    """
    path = DEMO / f"{name}.keras"
    content = path.read_bytes()
    outputs = np.asarray(keras.ops.convert_to_numpy(model(reference, training=False)), dtype=np.float64)
    entry = {
        **facts,
        "parameters": model.count_params(),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("keras", "jax", "numpy")},
        },
        "reference_outputs": [[round(float(value), 8) for value in row] for row in outputs],
    }
    book = DEMO / "models.json"
    models = json.loads(book.read_text("utf-8")) if book.exists() else {}
    book.write_text(json.dumps({**models, name: entry}, indent=1, sort_keys=True) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in entry.items() if key != "reference_outputs"}, indent=1))


def _dumps(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _without(value: Any, keys: set[str]) -> Any:
    """Return nested dicts and lists without the entries of those keys."""
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return [_without(v, keys) for v in value] if isinstance(value, list) else value
