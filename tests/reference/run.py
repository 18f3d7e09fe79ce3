"""How the reference tests run methods: uncompiled, on a model that is traced once."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import kerascope as ks
from kerascope import backend
from kerascope.lrp.composites import assign
from kerascope.model.propagate import Walked, forward
from kerascope.model.trace import exact
from kerascope.patterns.fit import fit_on, open_view

TIGHT = 1e-9


@dataclass(frozen=True)
class SentBack:
    """What a walk found: the samples, relevance of their cells, what was absorbed, and the gap in the sums."""

    inputs: np.ndarray
    values: np.ndarray
    absorbed: np.ndarray
    completeness_gap: np.ndarray


class Bench:
    """A traced model on which many methods are run.

    Batches are as large as the samples are many: then every pass has one shape, which JAX compiles once. Methods that
    are asked for by name get patterns fitted to ``train``, if they need any and are given none.
    """

    def __init__(
        self, model: Any, x: Any, *, background: Any = None, batch_size: int | None = None, train: Any = None
    ) -> None:
        self.x, self.model, self.train = x, model, train
        batch_size = batch_size or len(x[0] if isinstance(x, list) else x)
        explainer = ks.Explainer(model, "gradient", background=background, batch_size=batch_size, compile=False)
        explainer.prepare(x)
        self.session = explainer.session
        self.session.memory = batch_size * self.session.bytes_per_row

    def __call__(self, method: Any, x: Any = None, *, target: Any = 0, seed: int = 0, **options: Any) -> ks.Explanation:
        """Explain; warnings about the result are not this test's business."""
        if method in ("patternnet", "pattern_attribution") and self.train is not None:
            options = {"patterns": self.patterns, **options}
        explainer = ks.Explainer.on(self.session, method, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ks.KerascopeWarning)
            return explainer(self.x if x is None else x, target=target, seed=seed)

    @functools.cached_property
    def patterns(self) -> ks.Patterns:
        """What is fitted to the training data, in batches of the size that everything else has."""
        return fitted(self.model, self.train, batch_size=len(self.x))

    def values(self, method: Any, x: Any = None, **options: Any) -> np.ndarray:
        """Return the map alone."""
        return np.asarray(self(method, x, **options).values)

    def logits(self, x: Any = None) -> np.ndarray:
        """Return what the model returns, which for the models here are logits."""
        return predict(self.model, self.x if x is None else x)

    def walk(self, composite: Any, x: np.ndarray, start: np.ndarray, **options: Any) -> Walked:
        """Walk relevance back from the logits (N, K) and return what arrived at every tensor."""
        graph, dtype = self.session.view.logits, self.session.view.dtype
        with backend.inference(), exact(dtype):
            assignment = assign(graph, composite, dtype=dtype, **{"bias": None, **options})
            _, walk = forward(graph, self.session.view.to_tensors([x]), assignment.handlers)
            return walk({graph.outputs[0]: keras.ops.convert_to_tensor(start)}, measure=True)

    def relevance_of_input(self, walked: Walked) -> np.ndarray:
        """Return what arrived at the input."""
        return backend.to_numpy(walked.values[self.session.view.logits.inputs[0]])

    def sent_back(self, rule: Any, relevance: np.ndarray) -> SentBack:
        """Send a given relevance (outputs,) of every sample back, with one rule at every kernel."""
        start = np.tile(relevance, (len(self.x), 1)).astype(self.x.dtype)
        walked = self.walk(ks.Composite([("*", rule)]), self.x, start)
        values, absorbed = self.relevance_of_input(walked), np.zeros(len(self.x))
        if walked.absorbed is not None:
            absorbed = backend.to_numpy(walked.absorbed)
        return SentBack(self.x, values, absorbed, total(values) - (relevance.sum() - absorbed))


def explain(model: Any, x: np.ndarray, method: Any, *, background: Any = None, **options: Any) -> ks.Explanation:
    """Explain a model once; see `Bench`."""
    return Bench(model, x, background=background)(method, **options)


def fitted(model: Any, x: Any, **options: Any) -> ks.Patterns:
    """Fit patterns without compiling; dead neurons in a handful of samples are not this test's business."""
    view, arrays = open_view(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return fit_on(view, arrays, compile=False, **{"batch_size": len(arrays[0]), **options})


def predict(model: Any, x: np.ndarray) -> np.ndarray:
    """Return a model's outputs in NumPy."""
    with backend.inference():
        return backend.to_numpy(model(keras.ops.convert_to_tensor(x), training=False))


def total(values: np.ndarray) -> np.ndarray:
    """Sum over everything but the samples."""
    return np.asarray(values.reshape(len(values), -1).sum(axis=1))


def same(found: Any, expected: Any, tolerance: float = TIGHT, *, what: str = "") -> None:
    """Assert that two maps agree, relative to the largest absolute value expected."""
    found, expected = np.asarray(found, "float64"), np.asarray(expected, "float64")
    assert found.shape == expected.shape, f"{what}: shapes {found.shape} and {expected.shape}"
    scale = np.max(np.abs(expected), initial=0.0)
    deviation = np.max(np.abs(found - expected), initial=0.0)
    assert deviation <= tolerance * scale + 1e-12, f"{what}: off by {deviation:.2e} of {scale:.2e}"


def differ(found: Any, other: Any, least: float = 1e-3, *, what: str = "") -> None:
    """Assert that two maps differ by more than a share of the largest absolute value."""
    found, other = np.asarray(found), np.asarray(other)
    scale = max(np.max(np.abs(found)), np.max(np.abs(other)))
    deviation = np.max(np.abs(found - other))
    assert deviation > least * scale, f"{what}: alike to {deviation:.2e} of {scale:.2e}"
