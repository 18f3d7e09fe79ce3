"""Run a Keras model once on symbolic tensors and write down every operation it performs.

Keras layers with a known meaning, and every ``keras.ops`` operation, are recorded as they are; everything
else (models, nested models, users' layers) is run through, so that what it does inside is recorded
instead. This is the only module that touches private names of Keras; they are looked up when a model is
traced, and everything replaced is put back before the trace returns.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerascope.errors import TraceError

_LOCK = threading.RLock()


@dataclass(frozen=True)
class Record:
    """One recorded call: ``op(*args, **kwargs) -> outputs``, with KerasTensors where data would be.

    ``within`` is the innermost layer that was run through and made the call; None for the model itself.
    ``whole`` marks a layer that could not be looked into.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    within: Any = None
    whole: bool = False


@dataclass
class Recording:
    """What a traced model did: its symbolic inputs and outputs, and the calls in between."""

    inputs: list[Any] = field(default_factory=list)
    outputs: Any = None
    records: list[Record] = field(default_factory=list)
    returned: list[tuple[str, list[Any]]] = field(default_factory=list)
    """Which layer returned which tensors, in order."""
    opaque: list[str] = field(default_factory=list)
    """Layers that could not be run through, with the reason."""
    looked_into: list[Any] = field(default_factory=list)
    """Layers and models that were run through."""
    depth: list[Any] = field(default_factory=list)
    """The layers that are being run through at this moment, outermost first."""
    suspended: int = 0
    thread: int = field(default_factory=threading.get_ident)

    @property
    def within(self) -> Any:
        """The innermost layer being run through that is no mere container."""
        return next((layer for layer in reversed(self.depth[1:]) if not is_container(layer)), None)

    def roll_back(self, marks: Sequence[int]) -> None:
        """Forget what was noted since the marks were taken."""
        for notes, mark in zip(self._notes, marks, strict=True):
            del notes[mark:]

    def marks(self) -> list[int]:
        """Return how much has been noted so far."""
        return [len(notes) for notes in self._notes]

    @property
    def _notes(self) -> tuple[list[Any], ...]:
        return self.records, self.returned, self.opaque, self.looked_into


def is_container(layer: Any) -> bool:
    """Return whether a layer is a Sequential or Functional model, with no code of its own."""
    call = getattr(type(layer).call, "__module__", "")
    return isinstance(layer, keras.Model) and call.startswith("keras.")


def record(
    model: Any,
    struct: Any,
    is_leaf: Callable[[Any], bool],
    pack: Callable[[Sequence[Any]], Any],
    batch: int | None = None,
) -> Recording:
    """Trace a built Keras model.

    Args:
        model: a built Keras model.
        struct: flat list of ``(shape without batch, dtype, name)``, one per input.
        is_leaf: tells whether a Keras layer is recorded whole rather than run through.
        pack: turns the flat list of tensors into what ``model(...)`` takes.
        batch: the batch size; None leaves it open.

    Raises:
        TraceError: if not even the shape of the model's outputs can be found out.
    """
    recording = Recording()
    with untouched(model), _patched(recording, is_leaf):
        recording.inputs = [keras.KerasTensor((batch, *shape), dtype=dtype, name=name) for shape, dtype, name in struct]
        try:
            recording.outputs = model(pack(recording.inputs), **inference(model))
        except TraceError:
            raise
        except Exception as error:
            raise TraceError(
                f"Model {model.name!r} could not be run on symbolic inputs: {type(error).__name__}: "
                f"{_first_line(error)}"
            ) from error
    return recording


def run(
    model: Any, packed: Any, state: Sequence[tuple[Any, Any]] = (), seeds: Mapping[int, Any] | None = None
) -> tuple[Any, dict[int, Any]]:
    """Return what a model returns at inference, leaving no mark on it.

    Args:
        model: a built Keras model.
        packed: its inputs.
        state: pairs of a variable and the value to be used instead of its own.
        seeds: states of random generators to begin with.

    Returns:
        The outputs, and the states of the random generators that were drawn from.
    """
    with untouched(model, state) as scope:
        before = dict(scope.state_mapping)
        scope.state_mapping.update(seeds or {})
        outputs = model(packed, **inference(model))
        drawn = {
            variable: value
            for variable, value in scope.state_mapping.items()
            if before.get(variable) is not value and tuple(value.shape) == (2,) and "int" in str(value.dtype)
        }
    return outputs, drawn


def inference(model: Any) -> dict[str, bool]:
    """Return the keyword that asks for inference, where the model's call takes it."""
    return {"training": False} if "training" in inspect.signature(model.call).parameters else {}


@contextlib.contextmanager
def untouched(model: Any, state: Sequence[tuple[Any, Any]] = ()) -> Iterator[Any]:
    """Let a model (or layer) run inside without changing it: its state, losses, the attributes it sets.

    Args:
        model: the model or layer.
        state: pairs of a variable and the value to be used instead of its own.

    Yields:
        The scope that collects what would have been changed.
    """
    with _LOCK, names_kept():
        layers = {id(layer): layer for layer in model._flatten_layers()}.values()
        attributes = [(layer, dict(vars(layer))) for layer in layers]
        try:
            with keras.StatelessScope(state, collect_losses=True) as scope:
                yield scope
        finally:
            for layer, before in attributes:
                _put_back(vars(layer), before)


@contextlib.contextmanager
def names_kept() -> Iterator[None]:
    """Put the counters back from which Keras names new layers and operations."""
    world = _keras_module("keras.src.backend.common.global_state")
    names = dict(world.get_global_attribute("object_name_uids") or {})
    try:
        yield
    finally:
        counters = world.get_global_attribute("object_name_uids")
        if counters is not None:
            counters.clear()
            counters.update(names)


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update({name: value for name, value in before.items() if now.get(name, now) is not value})


@contextlib.contextmanager
def _patched(recording: Recording, is_leaf: Callable[[Any], bool]) -> Iterator[None]:
    operation_module = _keras_module("keras.src.ops.operation")
    layer_module = _keras_module("keras.src.layers.layer")
    with contextlib.ExitStack() as stack:
        if keras.config.is_traceback_filtering_enabled():  # it would rewrite the messages of errors
            keras.config.disable_traceback_filtering()
            stack.callback(keras.config.enable_traceback_filtering)
        for module in (operation_module, layer_module):
            if hasattr(module, "Node"):
                _replace(stack, module, "Node", _meanwhile(recording, module.Node, _no_node))
        for owner in (operation_module.Operation, layer_module.Layer):
            if "symbolic_call" in vars(owner):
                original = owner.symbolic_call
                _replace(stack, owner, "symbolic_call", _recorder(recording, is_leaf, original))
        add_weight = layer_module.Layer.add_weight
        _replace(stack, layer_module.Layer, "add_weight", _meanwhile(recording, add_weight, _no_weight))
        _give_symbols_operators(stack)
        yield


def _recorder(recording: Recording, is_leaf: Callable[[Any], bool], original: Callable[..., Any]) -> Callable[..., Any]:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if recording.suspended or threading.get_ident() != recording.thread:
            return original(self, *args, **kwargs)
        is_layer = isinstance(self, keras.layers.Layer)
        if not is_layer and any(map(_is_function, [*vars(self).values(), *keras.tree.flatten((args, kwargs))])):
            raise TypeError(f"{type(self).__name__} takes functions, which no graph can hold.")
        whole = is_layer and not is_leaf(self)
        if whole:
            looked_into, outputs = _look_into(recording, self, args, kwargs)
            if looked_into:
                return outputs
        recording.suspended += 1
        try:
            outputs = original(self, *args, **kwargs)
        finally:
            recording.suspended -= 1
        recording.records.append(Record(self, args, dict(kwargs), outputs, recording.within, whole))
        if is_layer:
            recording.returned.append((self.name, keras.tree.flatten(outputs)))
        return outputs

    return symbolic_call


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, functools.partial)


def _look_into(recording: Recording, layer: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
    """Run through a layer's call; return whether that worked, and what it returned."""
    marks, whole = recording.marks(), not recording.depth
    recording.depth.append(layer)
    try:
        outputs = layer.call(*args, **kwargs)
        flat = keras.tree.flatten(outputs)
        if all(_may_return(leaf, constants=not whole) for leaf in flat):
            recording.looked_into.append(layer)
            recording.returned.append((layer.name, flat))
            return True, outputs
        reason = "its call returns something that does not depend on its input"
    except TraceError:
        raise
    except Exception as error:  # anything a user's call may raise makes it opaque
        reason = f"{type(error).__name__}: {_first_line(error)}"
    finally:
        recording.depth.pop()
    recording.roll_back(marks)
    recording.opaque.append(f"{layer.name} ({type(layer).__name__}): {reason}")
    return False, None


def _may_return(value: Any, *, constants: bool) -> bool:
    symbolic = value is None or isinstance(value, keras.KerasTensor)
    return symbolic or (constants and bool(keras.ops.is_tensor(value)))


def _meanwhile(recording: Recording, original: Callable[..., Any], stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is called instead of a part of Keras: the stand-in in the thread that traces, else that part."""

    def call(*args: Any, **kwargs: Any) -> Any:
        traces = threading.get_ident() == recording.thread
        return (stand_in if traces else original)(*args, **kwargs)

    return call


def _no_node(*args: Any, **kwargs: Any) -> None:
    """Stand in for Keras' Node, so that a symbolic call leaves no mark on the model's layers."""


def _no_weight(layer: Any, *args: Any, **kwargs: Any) -> None:
    """Stand in for Layer.add_weight: a trace must not build what has not been built."""
    raise TraceError(
        f"Layer {layer.name!r} ({type(layer).__name__}) has no weights yet, or makes new ones whenever it is called. "
        "Call the model once on a batch of samples first, and make layers in __init__ or build, not in call."
    )


def _give_symbols_operators(stack: contextlib.ExitStack) -> None:
    """Make operators do with symbols what they do with tensors, while a model is traced.

    ``weight * x`` and ``array * x`` reach ``KerasTensor.__rmul__``; ``x == 0`` compares numbers.
    """
    tensor = keras.KerasTensor
    _replace(stack, tensor, "__eq__", _equal)
    _replace(stack, tensor, "__array_ufunc__", None)
    if "__jax_array__" in vars(tensor):
        _remove(stack, tensor, "__jax_array__")
    if "__tf_tensor__" in vars(tensor):
        _replace(stack, tensor, "__tf_tensor__", _no_tensor)
    owners = [owner for owner in keras.Variable.__mro__ if owner.__module__.startswith("keras.")]
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        method = f"__{name}__"
        for owner in owners:
            if method in vars(owner):
                _replace(stack, owner, method, _yielding(vars(owner)[method]))


def _equal(self: Any, other: Any) -> Any:
    if isinstance(other, (int, float, np.ndarray, keras.Variable)):
        return keras.ops.equal(self, other)
    return True if self is other else NotImplemented


def _no_tensor(self: Any, dtype: Any = None, name: Any = None) -> Any:
    raise TypeError("A KerasTensor holds no values.")


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
