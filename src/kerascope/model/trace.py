"""Run a Keras model once on symbolic tensors and write down every operation it performs.

Keras layers with a known meaning, and every ``keras.ops`` operation, are recorded as they are; everything
else (models, nested models, users' layers) is run through, so that what it does inside is recorded
instead. This is the only module that touches private names of Keras; they are looked up when a model is
traced, and everything replaced is put back before the trace returns.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from kerascope.errors import TraceError

_LOCK = threading.RLock()


@dataclass(frozen=True)
class Record:
    """One recorded call: ``op(*args, **kwargs) -> outputs``, with KerasTensors where data would be."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any


@dataclass
class Recording:
    """What a traced model did: its symbolic inputs and outputs, and the calls in between."""

    inputs: list[Any]
    outputs: Any = None
    records: list[Record] = field(default_factory=list)
    layer_outputs: dict[str, list[Any]] = field(default_factory=dict)
    opaque: list[str] = field(default_factory=list)
    """Layers that could not be run through, with the reason."""
    suspended: int = 0


def record(
    model: Any, struct: Any, is_leaf: Callable[[Any], bool], pack: Callable[[Sequence[Any]], Any]
) -> Recording:
    """Trace a built Keras model.

    Args:
        model: a built Keras model.
        struct: flat list of ``(shape without batch, dtype, name)``, one per input.
        is_leaf: tells whether a Keras layer is recorded whole rather than run through.
        pack: turns the flat list of tensors into what ``model(...)`` takes.

    Raises:
        TraceError: if not even the shape of the model's outputs can be found out.
    """
    tensors = [keras.KerasTensor((None, *shape), dtype=dtype, name=name) for shape, dtype, name in struct]
    recording = Recording(inputs=tensors)
    with _LOCK, _patched(recording, is_leaf), keras.StatelessScope():
        try:
            recording.outputs = model(pack(tensors), training=False)
        except TypeError:
            recording.records.clear()
            recording.outputs = model(pack(tensors))
        except Exception as error:
            raise TraceError(
                f"Model {model.name!r} could not be run on symbolic inputs: {type(error).__name__}: "
                f"{_first_line(error)}"
            ) from error
    return recording


@contextlib.contextmanager
def _patched(recording: Recording, is_leaf: Callable[[Any], bool]) -> Iterator[None]:
    operation_module = _keras_module("keras.src.ops.operation")
    layer_module = _keras_module("keras.src.layers.layer")
    global_state = _keras_module("keras.src.backend.common.global_state")
    names = global_state.get_global_attribute("object_name_uids")
    kept_names = dict(names) if names is not None else None
    with contextlib.ExitStack() as stack:
        for module in (operation_module, layer_module):
            if hasattr(module, "Node"):
                _replace(stack, module, "Node", _no_node)
        for owner in (operation_module.Operation, layer_module.Layer):
            if "symbolic_call" in vars(owner):
                original = owner.symbolic_call
                _replace(stack, owner, "symbolic_call", _recorder(recording, is_leaf, original))
        _let_symbols_stand_on_the_right(stack)
        try:
            yield
        finally:
            if kept_names is not None:
                names.clear()
                names.update(kept_names)


@contextlib.contextmanager
def exact(dtype: str) -> Iterator[None]:
    """Keep Keras from rounding float64 results to float32, which it does on JAX and PyTorch.

    Args:
        dtype: the precision of what is computed inside; nothing is done unless it is ``"float64"``.
    """
    table = getattr(_keras_module("keras.src.backend.common.dtypes"), "BIT64_TO_BIT32_DTYPE", {})
    if dtype != "float64" or table.get("float64", "float64") == "float64":
        yield
        return
    with _LOCK:
        before = table["float64"]
        table["float64"] = "float64"
        try:
            yield
        finally:
            table["float64"] = before


def _recorder(
    recording: Recording, is_leaf: Callable[[Any], bool], original: Callable[..., Any]
) -> Callable[..., Any]:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if recording.suspended:
            return original(self, *args, **kwargs)
        if isinstance(self, keras.layers.Layer) and not is_leaf(self):
            mark, opaque_mark = len(recording.records), len(recording.opaque)
            try:
                outputs = self.call(*args, **kwargs)
                if all(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(outputs)):
                    _note_layer(recording, self, outputs)
                    return outputs
                reason = "its call returns something that is no tensor"
            except Exception as error:  # noqa: BLE001 - anything a user's call may raise makes it opaque
                reason = f"{type(error).__name__}: {_first_line(error)}"
            del recording.records[mark:]
            del recording.opaque[opaque_mark:]
            recording.opaque.append(f"{self.name} ({type(self).__name__}): {reason}")
        recording.suspended += 1
        try:
            outputs = original(self, *args, **kwargs)
        finally:
            recording.suspended -= 1
        recording.records.append(Record(self, args, dict(kwargs), outputs))
        if isinstance(self, keras.layers.Layer):
            _note_layer(recording, self, outputs)
        return outputs

    return symbolic_call


def _note_layer(recording: Recording, layer: Any, outputs: Any) -> None:
    recording.layer_outputs.setdefault(layer.name, []).extend(keras.tree.flatten(outputs))


def _no_node(*args: Any, **kwargs: Any) -> None:
    """Stand in for Keras' Node, so that a symbolic call leaves no mark on the model's layers."""


def _let_symbols_stand_on_the_right(stack: contextlib.ExitStack) -> None:
    """Make ``weight * x`` and ``array * x`` reach ``KerasTensor.__rmul__`` while a model is traced."""
    tensor = keras.KerasTensor
    _replace(stack, tensor, "__array_ufunc__", None)
    if "__jax_array__" in vars(tensor):
        _remove(stack, tensor, "__jax_array__")
    owners = [owner for owner in keras.Variable.__mro__ if owner.__module__.startswith("keras.")]
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        method = f"__{name}__"
        for owner in owners:
            if method in vars(owner):
                _replace(stack, owner, method, _yielding(vars(owner)[method]))


def _yielding(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Any, other: Any) -> Any:
        return NotImplemented if isinstance(other, keras.KerasTensor) else original(self, other)

    return operator


def _replace(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    if before is missing:
        stack.callback(delattr, owner, name)
    else:
        stack.callback(setattr, owner, name, before)


def _remove(stack: contextlib.ExitStack, owner: Any, name: str) -> None:
    stack.callback(setattr, owner, name, vars(owner)[name])
    delattr(owner, name)


def _keras_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TraceError(
            f"Keras {keras.__version__} has no module {name!r}, which tracing needs. "
            "Use a Keras release that this version of kerascope was tested with (see the README)."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "(no message)"
