"""From a file to a Keras model, safely: `load_model`.

In this order, each before the next: the file is looked at as bytes (`archive`), its architecture as plain
JSON (`config_check`), then the model is built without memory for its weights, to compare their sizes with
what the file stores, and only then loaded by Keras itself.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from kerascope.errors import BadInputError, KerascopeError, UnsafeModelError
from kerascope.model.archive import SAVE_AGAIN, StoredModel, read_stored_model
from kerascope.model.config_check import check_config

_SIZE_FLOOR = 16 * 2**20  # numbers (64 MB as float32); smaller models hurt nobody
_SIZE_RATIO = 1.5  # weights declared to weights stored; 1 in every sound file
_SUFFIXES = {"keras": (".keras",), "h5": (".h5", ".hdf5")}


def load_model(
    source: keras.Model | str | os.PathLike[str],
    *,
    unsafe: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Return a Keras model from a file; a model is returned as it is.

    The model is not compiled: losses and optimizers are not needed, and may be custom. `.keras` archives and
    HDF5 files (`.h5`, `.hdf5`; also most of Keras 2) are read, and told by their content.

    Args:
        source: a Keras model, or the path to a file that holds one.
        unsafe: run the code that a file holds (Lambda layers) and build it whatever size it claims. Only for
            files whose origin you trust.
        custom_objects: your own classes and functions that the model uses, by name.

    Returns:
        The model, with its weights.

    Raises:
        BadInputError: when the file is missing, damaged, or no Keras model.
        UnsafeModelError: when it asks for code to be run, or for far more memory than its weights take.
        UnknownNameError: when it uses classes that Keras does not know.

    Example:
        >>> import keras, tempfile, pathlib
        >>> from kerascope.model.load import load_model
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.keras"
        >>> keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
        >>> load_model(path).output_shape
        (None, 2)
    """
    if isinstance(source, keras.Model):
        return source
    objects = _checked_objects(custom_objects)
    stored = read_stored_model(_model_path(source))
    objects = check_config(stored, objects, unsafe=unsafe)
    if not unsafe:
        _check_sizes(stored, objects, own_code=bool(custom_objects))
    with _right_suffix(stored) as path:
        try:
            model = keras.saving.load_model(path, custom_objects=objects, compile=False, safe_mode=not unsafe)
        except Exception as error:  # Keras raises whatever a configuration made it trip over
            raise _cannot_build(stored, error) from error
    if not isinstance(model, keras.Model):
        raise BadInputError(f"{stored.path} holds a {type(model).__name__}, not a model. {SAVE_AGAIN}")
    return model


def _checked_objects(custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the user's objects as a dict, or raise BadInputError."""
    objects = dict(custom_objects or {})
    for name, value in objects.items():
        if not isinstance(name, str) or not callable(value):
            raise BadInputError(
                f"custom_objects must map names to classes or functions, not {name!r} to {type(value).__name__}."
            )
    return objects


def _model_path(source: Any) -> Path:
    """Return the path to a model file, or raise the BadInputError that says what is there instead."""
    if not isinstance(source, str | os.PathLike):
        raise BadInputError(
            f"Expected a Keras model or the path to a .keras or .h5 file, not a {type(source).__name__}."
        )
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".keras", ".h5", ".hdf5"))[:5]
        there = f" Model files there: {', '.join(near)}." if near else ""
        raise BadInputError(f"There is no model file {path}.{there}")
    if (path / "saved_model.pb").exists():
        raise BadInputError(
            f"{path} is a TensorFlow SavedModel folder, which Keras 3 cannot turn back into layers. Where it "
            f"was "
            "made, load it with the Keras that wrote it and save it again: model.save('model.keras')."
        )
    if (path / "config.json").exists():
        raise BadInputError(
            f"{path} is an unpacked .keras archive: pack it again (in the folder: zip -r ../model.keras .)."
        )
    raise BadInputError(f"{path} is a folder, not a Keras model file. {SAVE_AGAIN}")


def _check_sizes(stored: StoredModel, objects: dict[str, Any], *, own_code: bool) -> None:
    """Raise UnsafeModelError where the architecture asks for far more weights than the file stores.

    The model is built in a thread of its own inside a `StatelessScope`: there Keras makes variables that know
    their shape and have no memory, and what it remembers about them ends with the thread.
    """
    outcome: dict[str, Any] = {}

    def build() -> None:
        scope = keras.StatelessScope()
        scope.__enter__()  # never left: leaving it would give the variables their memory
        try:
            outcome["shapes"] = [(v.path, tuple(v.shape)) for v in _from_config(stored, objects).variables]
        except BaseException as error:  # handed to the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=build, name="kerascope-sizes")
    thread.start()
    thread.join()
    if "error" in outcome:
        # The user's own layers may need values while they are built; they are not what this check is about.
        if own_code and isinstance(outcome["error"], Exception):
            return
        raise _cannot_build(stored, outcome["error"]) from outcome["error"]
    sizes = {name: math.prod(shape) for name, shape in outcome["shapes"]}
    declared = sum(sizes.values())
    if declared > _SIZE_FLOOR and declared > _SIZE_RATIO * stored.stored:
        largest, shape = max(outcome["shapes"], key=lambda item: math.prod(item[1]))
        raise UnsafeModelError(
            f"{stored.path} declares {declared:,} weights ({4 * declared / 2**30:,.1f} GiB) but stores "
            f"{stored.stored:,}: building it would fill the memory for nothing. The largest is {largest!r} "
            f"of shape "
            f"{shape}. If you trust where the file comes from, say unsafe=True (on the command line "
            f"--unsafe)."
        )


def _from_config(stored: StoredModel, objects: dict[str, Any]) -> keras.Model:
    """Return the model that the architecture describes, without the weights of the file."""
    config = json.loads(json.dumps(stored.config))  # Keras changes what it is given
    config["compile_config"] = None
    if stored.kind == "keras":
        return keras.saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=True)
    legacy = {"Sequential": keras.Sequential, "Functional": keras.Model, "Model": keras.Model}
    name = config.get("class_name", "")
    model_class = objects.get(name) or legacy.get(name, keras.Model)
    with keras.saving.custom_object_scope(objects):
        return model_class.from_config(config.get("config"))


@contextlib.contextmanager
def _right_suffix(stored: StoredModel) -> Iterator[Path]:
    """Give the file under a name that Keras accepts: some releases of Keras 2 wrote HDF5 into `.keras`."""
    suffixes = _SUFFIXES[stored.kind]
    if str(stored.path).endswith(suffixes):
        yield stored.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffixes[0]}"
        try:
            path.symlink_to(stored.path.resolve())
        except OSError:  # no links on this file system
            shutil.copyfile(stored.path, path)
        yield path


def _cannot_build(stored: StoredModel, error: BaseException) -> KerascopeError:
    """Return the error for a file that Keras could not turn into a model."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "safe_mode" in reason or "unsafe deserialization" in reason:
        return UnsafeModelError(
            f"{stored.path}: Keras refuses to load it safely: {_shortened(reason)} If you trust where it "
            f"comes from, "
            "say unsafe=True (on the command line --unsafe)."
        )
    return BadInputError(
        f"Keras {keras.__version__} cannot build the model in {stored.path} (written by Keras "
        f"{stored.keras_version}): {_shortened(reason)} If it uses classes or functions of your own, give "
        f"them as "
        "custom_objects (on the command line --custom-objects module.py)."
    )


def _shortened(reason: str, limit: int = 300) -> str:
    """Return a sentence of at most `limit` characters."""
    if len(reason) > limit:
        return reason[:limit].rstrip() + " …"
    return reason if reason.endswith((".", "!", "?")) else reason + "."
