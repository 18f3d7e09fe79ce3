"""One pass over samples that learns the pattern of every neuron, without cutting out patches.

The sum over samples and positions of ``patch * g`` is the derivative of the layer by its kernel with cotangent
g, so a few vector-Jacobian products per layer give all moments, for every kind of convolution.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from kerascope import backend
from kerascope.errors import IncompatibleMethodError, unknown_name, warn, whole
from kerascope.inputs import read_samples
from kerascope.model.convert import precision
from kerascope.model.fingerprint import weights_fingerprint
from kerascope.model.graph import Graph, as_tuple
from kerascope.model.load import load_model
from kerascope.model.primitives import Tensor
from kerascope.model.trace import exact
from kerascope.model.view import ModelView, signature_of
from kerascope.patterns.moments import Moments, Regime
from kerascope.patterns.store import ESTIMATORS, LayerPattern, Patterns
from kerascope.patterns.sums import Origin, Sums, pilot, unit_sums
from kerascope.patterns.units import Unit, units_of

if TYPE_CHECKING:
    import os

Estimator = str | Mapping[str, str]
Progress = bool | Callable[[int, int], None]
T = TypeVar("T")

_LONGEST_SUM = 2**14
"""So many observations of a neuron are summed at most before float64 takes over."""


def fit(
    model: keras.Model | str | os.PathLike[str],
    x: Any,
    *,
    estimator: Estimator = "relu",
    batch_size: int = 32,
    progress: Progress = False,
) -> Patterns:
    """Learn patterns: see `Patterns.fit`."""
    view, arrays = open_view(model, x)
    return fit_on(view, arrays, estimator=estimator, batch_size=batch_size, progress=progress)


def open_view(model: keras.Model | str | os.PathLike[str], x: Any) -> tuple[ModelView, tuple[np.ndarray, ...]]:
    """Return a model's graph, and samples as it takes them."""
    model = load_model(model)
    signature = signature_of(model, x)
    arrays = read_samples(x, signature, dtype=precision(model)).arrays
    return ModelView(model, signature, [array[:2].copy() for array in arrays]), arrays


def fit_on(
    view: ModelView,
    arrays: Sequence[np.ndarray],
    *,
    estimator: Estimator = "relu",
    batch_size: int = 32,
    progress: Progress = False,
    compile: bool = True,
) -> Patterns:
    """Learn the patterns of a model that has been traced already.

    Args:
        view: the model.
        arrays: samples, one array (N, *S) per input.
        estimator: see `Patterns.fit`.
        batch_size: samples per pass.
        progress: see `Patterns.fit`.
        compile: False runs everything step by step.
    """
    batch_size = whole(batch_size, "batch_size", 1)
    with exact(view.dtype):
        units = units_of(view.logits, channels_first=view.channels_first)
    if not units:
        raise IncompatibleMethodError("The model has no layer with a kernel: there are no patterns to fit.")
    chosen = _estimators(units, estimator)
    moments = _moments(view, units, chosen, arrays, batch_size, progress, compile)
    epsilon = float(np.finfo(view.dtype).eps)
    layers = tuple(_layer(unit, chosen[unit.name], moments[unit.name], epsilon) for unit in units)
    said = estimator if isinstance(estimator, str) else ", ".join(f"{k}={v}" for k, v in estimator.items())
    found = Patterns(weights_fingerprint(view.model), str(view.model.name), said, len(arrays[0]), layers)
    for text in found.warnings:
        warn(text)
    return found


def _estimators(units: Sequence[Unit], estimator: Estimator) -> dict[str, str]:
    """Return the estimator of every layer: by its own name or glob, else "relu" before a ReLU, "linear" elsewhere."""
    overrides = {} if isinstance(estimator, str) else dict(estimator)
    default = estimator if isinstance(estimator, str) else "relu"
    for name in (default, *overrides.values()):
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, ESTIMATORS)
    names = [unit.name for unit in units]
    for pattern in overrides:
        if not fnmatch.filter(names, pattern):
            raise unknown_name("layer in estimator", pattern, names)
    found = {}
    for unit in units:
        given = [value for pattern, value in overrides.items() if fnmatch.fnmatchcase(unit.name, pattern)]
        fallback = default if unit.before_relu else "linear"
        found[unit.name] = given[-1] if given else fallback
    return found


def _moments(
    view: ModelView,
    units: Sequence[Unit],
    chosen: Mapping[str, str],
    arrays: Sequence[np.ndarray],
    batch_size: int,
    progress: Progress,
    compile: bool,
) -> dict[str, Moments]:
    sided = {name for name, estimator in chosen.items() if estimator != "linear"}
    count, size = len(arrays[0]), min(batch_size, len(arrays[0]))
    origins = _origins(view, units, [array[:size].copy() for array in arrays], compile)
    most = max(1, _LONGEST_SUM // max(origin.positions for origin in origins.values()))
    size = -(-size // -(-size // most))  # equal parts of a batch

    def run(xs: Sequence[Tensor], rows: Tensor) -> dict[str, list[Sums]]:
        return _sums(view.logits, units, sided, origins, xs, rows)

    step = backend.compile(run) if compile else run
    found: dict[str, Moments] = {}
    for block in blocks(count, batch_size, progress):
        for start in range(block.start, block.stop, size):
            index = np.minimum(np.arange(start, start + size), count - 1)
            real = (np.arange(start, start + size) < block.stop).astype(view.dtype)
            with backend.inference(), exact(view.dtype):
                sums = step(view.to_tensors([array[index] for array in arrays]), backend.from_numpy(real))
            for name, sides in sums.items():
                batch = Moments(tuple(_regime(side, origins[name]) for side in sides), origins[name].shift)
                found[name] = found[name].merged(batch) if name in found else batch
    return found


def _regime(sums: Sums, origin: Origin) -> Regime:
    held = {name: backend.to_numpy(tensor) for name, tensor in sums.items()}
    if origin.whole is not None:  # a cell that never reads padding sees every observation, to the last digit
        held["seen"] = np.where(origin.whole, held["count"], held["seen"])
        held["seen_y"] = np.where(origin.whole, held["y"], held["seen_y"])
    return Regime.of_sums(held)


def _origins(view: ModelView, units: Sequence[Unit], arrays: Sequence[np.ndarray], compile: bool) -> dict[str, Origin]:
    """Return from where the moments of every layer are measured: the means of some samples."""

    def run(*xs: Tensor) -> dict[str, Sums]:
        return _visited(view.logits, units, xs, lambda unit, inputs: (_output(unit, inputs), pilot(unit, inputs)))

    with backend.inference(), exact(view.dtype):
        tensors = view.to_tensors(arrays)
        found = backend.once(run, *tensors) if compile else run(*tensors)
        return {unit.name: Origin.of(unit, found[unit.name]) for unit in units}


def _output(unit: Unit, xs: tuple[Tensor, ...]) -> Tensor:
    y = unit.linear(xs, unit.kernel)
    return y if unit.bias is None else y + unit.bias


def blocks(count: int, size: int, progress: Progress, text: str = "Fitting patterns") -> Iterator[slice]:
    """Cut samples into batches; say how far it is after each."""
    cuts: Any = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if progress is True:
        from rich.console import Console
        from rich.progress import track

        cuts = track(cuts, description=text, console=Console(stderr=True))
    for cut in cuts:
        yield cut
        if callable(progress):
            progress(cut.stop, count)


def _sums(
    graph: Graph,
    units: Sequence[Unit],
    sided: set[str],
    origins: Mapping[str, Origin],
    xs: Sequence[Tensor],
    rows: Tensor,
) -> dict[str, list[Sums]]:
    """Run the graph on a batch and sum what every neuron reads and answers; ``rows`` (N,) is 0 for padding."""

    def visit(unit: Unit, inputs: tuple[Tensor, ...]) -> tuple[Tensor, list[Sums]]:
        return unit_sums(unit, inputs, rows, origins[unit.name], sided=unit.name in sided)

    return _visited(graph, units, xs, visit)


def _visited(
    graph: Graph,
    units: Sequence[Unit],
    xs: Sequence[Tensor],
    visit: Callable[[Unit, tuple[Tensor, ...]], tuple[Tensor, T]],
) -> dict[str, T]:
    """Run the graph and return what ``visit`` found at each unit, besides its output."""
    by_name = {unit.name: unit for unit in units}
    values = dict(zip(graph.inputs, xs, strict=True))
    found: dict[str, T] = {}
    waiting = _reads(graph)
    for node in graph:
        inputs = tuple(values[i] for i in node.inputs)
        if node.name in by_name:
            z, found[node.name] = visit(by_name[node.name], inputs)
            results: tuple[Tensor, ...] = (z,)
        else:
            results = as_tuple(node.op(*inputs))
        values.update(zip(node.outputs, results, strict=True))
        for tensor in dict.fromkeys(node.inputs):
            waiting[tensor] -= 1
            if not waiting[tensor]:
                del values[tensor]
    return found


def _reads(graph: Graph) -> dict[int, int]:
    """Return how many nodes read each tensor."""
    return {tensor: len(readers) for tensor, readers in graph.consumers().items()}


def _layer(unit: Unit, estimator: str, moments: Moments, epsilon: float) -> LayerPattern:
    kernel = backend.to_numpy(unit.kernel).astype("float64")
    reads = unit.layout(kernel.ndim)
    every, other = moments.everywhere, None
    if len(moments.sides) == 1:
        positives = every.count
        values, dead = moments.pattern(every, kernel, reads, epsilon)
    else:
        positive, negative = moments.sides
        positives = positive.count
        sides = (positive, negative) if estimator == "relu" else (negative, positive)
        values, dead = moments.pattern(sides[0], kernel, reads, epsilon)
        other, _ = moments.pattern(sides[1], kernel, reads, epsilon)
    return LayerPattern(
        name=unit.name,
        kind=unit.node.op.label,
        form=unit.form,
        estimator=estimator,
        values=values,
        other=other,
        neurons=unit.neurons,
        observations=round(float(np.max(every.count))),
        positives=np.rint(positives).astype("int64").reshape(-1),
        dead=np.broadcast_to(dead, positives.shape).reshape(-1).copy(),
        kernel_norm=float(np.linalg.norm(kernel)),
    )
