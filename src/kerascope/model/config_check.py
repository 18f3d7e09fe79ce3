"""What the architecture in a model file asks for, looked at before Keras builds it: code, functions, classes.

Keras refuses some of this by itself, but not in every release that kerascope supports: up to 3.8 any Python
module could be imported by a `.keras` file, and up to 3.11 an HDF5 file could run the code of a Lambda layer
in spite of `safe_mode`. So the check is made here, on the plain JSON, and errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerascope.errors import UnknownNameError, UnsafeModelError
from kerascope.model.archive import StoredModel

# What Keras writes in place of plain values: no classes to be looked up.
_VALUES = {
    "__keras_tensor__",
    "__tensor__",
    "__numpy__",
    "__bytes__",
    "__ellipsis__",
    "__slice__",
    "__typespec__",
}
_CODE_LAYERS = {
    "TFSMLayer": "runs a TensorFlow SavedModel from another folder",
    "TorchModuleWrapper": "holds a pickled PyTorch module",
}
_LOOKUP_LAYERS = {"StringLookup", "IntegerLookup", "TextVectorization"}
_KERAS_PACKAGES = {"keras", "keras_hub", "keras_cv", "keras_nlp"}
# Parts of Keras that no architecture needs: they read and write files, or load other models.
_NO_PART_OF_A_MODEL = {
    "utils",
    "config",
    "saving",
    "export",
    "backend",
    "datasets",
    "callbacks",
    "preprocessing",
}
_FUNCTION_HOMES = {
    *("ops", "activations", "losses", "metrics", "random"),
    *("initializers", "regularizers", "constraints", "quantizers"),
}
_BUILTIN_HOMES = ("activations", "losses", "metrics", "initializers", "regularizers", "constraints")
_LEGACY_MODELS = {"Functional", "Model", "Sequential"}
_RAW_TENSORFLOW = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod", "InstanceMethod"}


@dataclass(frozen=True)
class _Reference:
    """One class or function that the architecture names.

    Attributes:
        name: of the class or function.
        registered: the name it was registered under, `"package>Name"`; often the same.
        module: where the file says it lives; None where it does not know, `""` in legacy files.
        where: the name of the layer that holds it.
        is_function: a function, not a class.
        is_layer: stands where a layer must stand.
        config: its own configuration.
    """

    name: str
    registered: str
    module: str | None
    where: str
    is_function: bool
    is_layer: bool
    config: Any


def check_config(stored: StoredModel, custom_objects: Mapping[str, Any], *, unsafe: bool) -> dict[str, Any]:
    """Check that an architecture asks for nothing but layers known to Keras or given by the user.

    Args:
        stored: what the file holds.
        custom_objects: the user's classes and functions by name.
        unsafe: allow code in the file, as the user asked by name.

    Returns:
        The custom objects to hand to Keras: those given, and those registered, under the names the file uses.

    Raises:
        UnsafeModelError: when the file holds code, or names functions that are no part of a model.
        UnknownNameError: when classes or functions are needed that nobody registered.
    """
    objects, unknown = dict(custom_objects), {}
    for reference in _references(stored.config):
        if not unsafe:
            _refuse_code(stored, reference)
        known = _registered(reference, custom_objects)
        if known is not None:
            objects[reference.registered] = objects[reference.name] = known
        elif not _belongs_to_keras(stored, reference, unsafe=unsafe):
            unknown[reference.name] = reference
    if unknown:
        raise _unknown(stored, unknown)
    return objects


def _references(config: dict[str, Any]) -> Iterator[_Reference]:
    """Yield every class and function that a configuration names, outermost first."""
    # A list instead of recursion: the nesting comes from the file. The root's compile_config is never built.
    waiting: list[tuple[Any, str, str]] = [
        ({key: value for key, value in config.items() if key != "compile_config"}, "layers", "the model")
    ]
    while waiting:
        item, key, where = waiting.pop()
        if isinstance(item, list):
            waiting.extend((value, key, where) for value in reversed(item))
        if not isinstance(item, dict):
            continue
        name, inner = item.get("class_name"), item.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            where = inner["name"]
        if isinstance(name, str) and "config" in item and name not in _VALUES:
            yield _reference(item, key, where)
        waiting.extend((value, key, where) for key, value in reversed(item.items()))


def _reference(item: dict[str, Any], key: str, where: str) -> _Reference:
    """Return what one ``{"class_name": ..., "config": ...}`` refers to."""
    name, inner = str(item["class_name"]), item["config"]
    is_function = name == "function" and isinstance(inner, str)
    if is_function:
        name, registered = inner.split(">")[-1], inner
    else:
        registered = str(item.get("registered_name") or name)
        name = name.split(">")[-1]
    module = item.get("module", "")
    return _Reference(
        name=name,
        registered=registered,
        module=module if isinstance(module, str) else None,
        where=where,
        is_function=is_function,
        is_layer=key in ("layers", "layer", "cell", "cells", "forward_layer", "backward_layer"),
        config=inner,
    )


def _refuse_code(stored: StoredModel, reference: _Reference) -> None:
    """Raise UnsafeModelError where the file itself holds code, or reads files."""
    config = reference.config if isinstance(reference.config, dict) else {}
    why = _CODE_LAYERS.get(reference.name)
    legacy_code = reference.name == "Lambda" and (  # the code in a list, or beside a word that says so
        isinstance(config.get("function"), list)
        or "lambda" in (config.get("function_type"), config.get("output_shape_type"))
    )
    if reference.name == "__lambda__" or legacy_code:
        why = "holds Python code (a lambda)"
    elif reference.name in _LOOKUP_LAYERS and isinstance(config.get("vocabulary"), str):
        why = f"reads a file of this machine, {config['vocabulary']!r}"
    if why:
        raise UnsafeModelError(
            f"{stored.path}: {reference.where!r} {why}. Loading it would let the file act on this machine. "
            f"If you "
            "trust where it comes from, say unsafe=True (on the command line --unsafe). Better: replace the "
            "layer "
            "by keras.ops calls or a registered layer class and save the model again."
        )


def _registered(reference: _Reference, custom_objects: Mapping[str, Any]) -> Any | None:
    """Return the user's class or function for a reference, None where there is none."""
    for name in (reference.registered, reference.name):
        found = custom_objects.get(name)
        if found is None:
            found = keras.saving.get_registered_object(name)
        if found is not None:
            return found
    return None


def _belongs_to_keras(stored: StoredModel, reference: _Reference, *, unsafe: bool) -> bool:
    """Tell whether Keras can be expected to know a reference.

    Raises:
        UnsafeModelError: when it is of Keras, but no part of a model, and not `unsafe`.
    """
    if reference.name == "__lambda__":  # allowed by the user: `_refuse_code` has let it pass
        return True
    module = reference.module
    if module == "builtins" and reference.is_function:
        return any(hasattr(getattr(keras, home), reference.name) for home in _BUILTIN_HOMES)
    if module == "" and not reference.is_function:  # legacy: no module is given
        strict = reference.is_layer and reference.name not in _LEGACY_MODELS
        return not strict or hasattr(keras.layers, reference.name)
    if module is None or module.split(".")[0] not in _KERAS_PACKAGES:
        return False
    if not unsafe and module.split(".")[0] == "keras" and not _is_part_of_a_model(module, reference):
        raise UnsafeModelError(
            f"{stored.path}: {reference.where!r} asks for {module}.{reference.name}, which is no part of a "
            f"model: "
            "Keras does not write such files by itself. If you trust where it comes from, say unsafe=True "
            "(on the command line --unsafe)."
        )
    return module != "keras.layers" or reference.is_function or hasattr(keras.layers, reference.name)


def _is_part_of_a_model(module: str, reference: _Reference) -> bool:
    """Tell whether a name in a Keras module is something that architectures are made of."""
    part = next((part for part in module.split(".")[1:] if part != "src"), "")
    if reference.is_function:
        return part in _FUNCTION_HOMES or (part == "applications" and reference.name == "preprocess_input")
    return part not in _NO_PART_OF_A_MODEL and reference.name[:1].isupper()


def _unknown(stored: StoredModel, unknown: Mapping[str, _Reference]) -> UnknownNameError:
    """Return the error for classes and functions that nobody knows, all of them at once."""
    names = ", ".join(
        f"{reference.name!r} (at {reference.where!r})" if reference.where != name else repr(name)
        for name, reference in list(unknown.items())[:10]
    )
    more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
    first = next(iter(unknown))
    if _RAW_TENSORFLOW & set(unknown):
        advice = (
            "The model was made of raw TensorFlow calls in Keras 2, which Keras 3 cannot rebuild: write "
            "these steps "
            "with keras.ops, load the old weights, and save the model again."
        )
    elif any((reference.module or "").split(".")[0] in _KERAS_PACKAGES for reference in unknown.values()):
        advice = (
            f"The file was written by Keras {stored.keras_version}; this is Keras {keras.__version__}: "
            "install a release that has them."
        )
    else:
        advice = (
            f"Give your own: custom_objects={{{first!r}: {first}}}, or on the command line "
            "--custom-objects module.py, a Python file that defines them."
        )
    return UnknownNameError(
        f"{stored.path} needs classes or functions that Keras does not know: {names}{more}. {advice}"
    )
