"""What the tests of the model part share: every case model traced once, and a look at what must not change."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerascope import backend
from kerascope.model import trace
from kerascope.model.canonize import evaluate
from kerascope.model.graph import Graph
from kerascope.model.verify import predict
from kerascope.model.view import ModelView, signature_of
from tests.cases import Case, by_name


@dataclass(frozen=True)
class Viewed:
    """A case model with its view, and the model's state before and after the view was made."""

    case: Case
    model: keras.Model
    view: ModelView
    arrays: tuple[np.ndarray, ...]
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def tolerance(self) -> float:
        return 5e-3 if "half" in self.case.traits else 1e-5


@functools.cache
def viewed(name: str) -> Viewed:
    case = by_name(name)
    model, x = case.build(), case.sample(3)
    before = state_of(model)
    view, arrays = view_of(model, x)
    return Viewed(case, model, view, arrays, before, state_of(model))


def view_of(model: keras.Model, x: Any) -> tuple[ModelView, tuple[np.ndarray, ...]]:
    signature = signature_of(model, x)
    arrays = tuple(signature.flatten(x))
    return ModelView(model, signature, arrays), arrays


@dataclass(frozen=True)
class Values:
    """Numbers of a case model for 15 rows: three samples x, 0, the samples y = turned(x), x + y, and 2 x.

    ``traced`` and ``canonized`` hold every tensor of the two graphs, ``outputs`` what the model returns.
    """

    arrays: tuple[np.ndarray, ...]
    outputs: list[np.ndarray]
    traced: dict[int, np.ndarray]
    canonized: dict[int, np.ndarray]


@functools.cache
def values(name: str) -> Values:
    """Run a case model and both of its graphs, compiled as one where the backend compiles."""
    seen = viewed(name)
    view, arrays = seen.view, tuple(probes(array) for array in seen.arrays)
    outputs = predict(seen.model, view.signature, arrays, view.dtype)
    wanted = [(*graph.inputs, *graph.producers()) for graph in (view.traced, view.graph)]

    def run(*tensors: Any) -> Any:
        return [list(g.run(tensors, w)) for g, w in zip((view.traced, view.graph), wanted, strict=True)]

    found = backend.once(run, *view.to_tensors(arrays))
    held = [dict(zip(w, map(backend.to_numpy, f), strict=True)) for w, f in zip(wanted, found, strict=True)]
    return Values(arrays, outputs, *held)


def probes(x: np.ndarray) -> np.ndarray:
    """Return the rows of `Values` for one input; whole numbers are only repeated."""
    if x.dtype.kind != "f":
        return np.tile(x, (5,) + (1,) * (x.ndim - 1))
    signs = np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, -1, 1).astype(x.dtype)
    y = np.roll(x * signs, 1, axis=0)
    return np.concatenate([x, 0 * x, y, x + y, 2 * x])


def run(graph: Graph, *tensors: Any) -> list[np.ndarray]:
    """Return a graph's outputs, in the quickest way there is."""
    return evaluate(graph, tensors)


def deviation(found: Any, expected: Any) -> float:
    """Return the largest difference relative to the largest number expected, over all outputs."""
    assert len(found) == len(expected)
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        a, b = a.astype("float64"), b.astype("float64")
        assert np.isfinite(a).all()
        assert np.isfinite(b).all()
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9)))
    return worst


def state_of(model: keras.Model) -> dict[str, Any]:
    """Return everything that tracing a model must leave as it was."""
    layers = model._flatten_layers()
    state = trace._keras_module("keras.src.backend.common.global_state")
    return {
        "weights": [backend.to_numpy(backend.snapshot(weight)).tobytes() for weight in model.weights],
        "trainable": [(layer.name, layer.trainable) for layer in layers],
        "nodes": [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers],
        "attributes": [{name: id(value) for name, value in vars(layer).items()} for layer in layers],
        "losses": len(model.losses),
        "names": dict(state.get_global_attribute("object_name_uids") or {}),
    }


def keras_parts() -> dict[str, Any]:
    """Return what a trace replaces in Keras, as it is now."""
    operation = trace._keras_module("keras.src.ops.operation")
    layer = trace._keras_module("keras.src.layers.layer")
    owners = [operation.Operation, layer.Layer, keras.KerasTensor]
    owners += [cls for cls in keras.Variable.__mro__ if cls.__module__.startswith("keras.")]
    parts = {f"{cls.__module__}.{cls.__name__}": dict(vars(cls)) for cls in owners}
    parts |= {module.__name__: getattr(module, "Node", None) for module in (operation, layer)}
    return parts | {"filtering": keras.config.is_traceback_filtering_enabled()}
