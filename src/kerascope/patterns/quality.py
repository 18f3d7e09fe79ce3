"""How much of a neuron's answer its pattern explains: rho(S), by layer and by neuron."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerascope import backend
from kerascope.errors import BadInputError, StaleModelError, warn
from kerascope.model.fingerprint import weights_fingerprint
from kerascope.model.graph import Graph, as_tuple
from kerascope.model.primitives import Tensor
from kerascope.model.trace import exact
from kerascope.model.view import ModelView
from kerascope.patterns.fit import blocks, open_view
from kerascope.patterns.store import LayerPattern, Patterns
from kerascope.patterns.units import Unit, units_of

if TYPE_CHECKING:
    import os

    import keras
    import pandas as pd

Array = np.ndarray

_RIDGE = 1e-10
"""Added to the covariance of the residual, as a share of its mean variance: it is singular along the filter."""
_FEW = 10
"""So many observations per cell that a neuron reads are the least for a regression that says something."""
_SCORES = ("rho", "rho_rectified", "filter", "random")


def signal_quality(
    model: keras.Model | str | os.PathLike[str],
    patterns: Patterns,
    x: Any,
    *,
    by: Literal["layer", "neuron"] = "layer",
    batch_size: int = 32,
    observations: int = 20000,
    neurons: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well patterns capture the signal of every layer's neurons.

    A neuron answers ``y = w x``; its pattern estimates the signal ``S(x) = a y``, in two parts where it was fitted
    from active observations: ``a+ y`` above the threshold, ``a- y`` below. What the residual still knows of the
    answer is ``rho(S) = 1 - max_v corr(y, v (x - S(x)))``, here 1 - sqrt(R^2) of the linear regression of y on
    the residual: 1 is perfect. On the samples that patterns were fitted to it is 1 by construction: give others,
    and many more observations than a neuron reads cells.

    Args:
        model: the model that the patterns were fitted to.
        patterns: from `Patterns.fit`.
        x: samples (N, *S) that were not used for fitting.
        by: one row per ``"layer"`` (means over its neurons) or per ``"neuron"``.
        batch_size: samples per pass.
        observations: at most so many pairs of sample and position per layer, drawn at random.
        neurons: at most so many neurons per layer, evenly spaced.
        seed: of the draw and of the random directions.

    Returns:
        A table with ``layer, kind, estimator, neurons, reads, observations`` (or ``neuron``) and rho of the pattern
        for the answer as it is (``rho``), and for the answer behind the ReLU that follows (``rho_rectified``, nan
        where none does); for comparison rho of the ``filter``, S(x) = w y / (w w), and of a ``random`` direction.
        By layer also ``lowest`` and ``highest`` rho. nan for dead neurons, and for kernels known as an einsum only.

    Raises:
        StaleModelError: if the patterns belong to another model.
        BadInputError: for samples that the model cannot take.

    Reference: Kindermans et al. 2018, ICLR, section 4.

    Example:
        >>> import keras, numpy as np, kerascope as ks
        >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(400, 3))
        >>> quality = ks.signal_quality(model, ks.Patterns.fit(model, x[:200]), x[200:])
        >>> bool(quality["rho"][0] > 0.8)
        True
    """
    if not isinstance(patterns, Patterns):
        raise BadInputError(
            f"patterns must be ks.Patterns, from ks.Patterns.fit(model, x_train) or ks.Patterns.open(path); got "
            f"{type(patterns).__name__}."
        )
    if by not in ("layer", "neuron"):
        raise BadInputError(f"by must be 'layer' or 'neuron'; got {by!r}.")
    view, arrays = open_view(model, x)
    if (present := weights_fingerprint(view.model)) != patterns.fingerprint:
        raise StaleModelError(
            f"These patterns were fitted to another model, or to other weights of it ({patterns.fingerprint}; this one "
            f"is {present}). Fit them again: ks.Patterns.fit(model, x_train)."
        )
    rng = np.random.default_rng(seed)
    found = []
    for unit, seen in _observed(view, arrays, batch_size, observations, rng):
        found += _of_layer(unit, patterns[unit.name], seen, neurons, rng)
    return _table(found, by)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Observations of a layer: what neurons read (M, groups, P), and what they answer with bias (M, neurons)."""

    patches: Array
    answers: Array


def _observed(
    view: ModelView, arrays: Sequence[Array], batch_size: int, most: int, rng: np.random.Generator
) -> Iterator[tuple[Unit, _Seen | None]]:
    """Yield every layer with some of its observations, one layer held in memory at a time."""
    graph = view.logits
    with exact(view.dtype):
        units = units_of(graph, channels_first=view.channels_first)
    for unit in units:
        if unit.channel is None:
            yield unit, None
            continue
        parts = []
        share = rng.integers(2**63)
        for block in blocks(len(arrays[0]), batch_size, False):
            with backend.inference(), exact(view.dtype):
                xs, z = _run_to(graph, unit, view.to_tensors([array[block].copy() for array in arrays]))
                parts.append(_patches(unit, xs, z, _chosen(z, unit, len(arrays[0]), block, most, int(share))))
        yield unit, _Seen(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _run_to(graph: Graph, unit: Unit, tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return what a layer reads and returns."""
    node = unit.node
    wanted = tuple(dict.fromkeys((*node.inputs, *node.outputs)))
    found = dict(zip(wanted, as_tuple(graph.run(tensors, wanted)), strict=True))
    return tuple(found[i] for i in node.inputs), found[node.outputs[0]]


def _chosen(z: Tensor, unit: Unit, samples: int, block: slice, most: int, seed: int) -> list[Array]:
    """Return, for each sample of a batch, the positions that are observed: the same whatever the batch size."""
    shape = tuple(z.shape)
    positions = int(np.prod(shape[1:], dtype=int)) // int(shape[(unit.channel or 0) % len(shape)])
    total = samples * positions
    if total <= most:
        return [np.arange(positions)] * (block.stop - block.start)
    drawn = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
    return [drawn[(drawn // positions) == i] % positions for i in range(block.start, block.stop)]


def _patches(unit: Unit, xs: tuple[Tensor, ...], z: Tensor, chosen: list[Array]) -> tuple[Array, Array]:
    """Return what neurons read (m, groups, P) and answer (m, neurons) at the chosen positions of each sample."""
    answers = np.moveaxis(backend.to_numpy(z), unit.channel or 0, -1)
    answers = answers.reshape(len(answers), -1, answers.shape[-1])
    read, answered = [], []
    for i, places in enumerate(chosen):
        if len(places):
            read.append(_read_by(unit, tuple(x[i : i + 1] for x in xs))[places].astype("float64"))
            answered.append(answers[i][places].astype("float64"))
    if not read:
        empty = _read_by(unit, tuple(x[:1] for x in xs))[:0]
        return empty.astype("float64"), answers[0][:0].astype("float64")
    return np.concatenate(read), np.concatenate(answered)


def _read_by(unit: Unit, xs: tuple[Tensor, ...]) -> Array:
    """Return what the neurons read at every position of one sample (positions, groups, P)."""
    if unit.form == "sum":
        shape = np.broadcast_shapes(*(tuple(x.shape) for x in xs))
        every = [np.moveaxis(np.broadcast_to(backend.to_numpy(x), shape), unit.channel or 0, -1) for x in xs]
        return np.stack([array.reshape(-1, array.shape[-1]) for array in every], axis=-1)
    if unit.form == "dense":
        rows = backend.to_numpy(xs[0])
        return rows.reshape(-1, 1, rows.shape[-1])
    kernel, groups = _unit_kernel(unit, xs[0])
    found = backend.to_numpy(unit.linear(xs, backend.from_numpy(kernel)))
    found = np.moveaxis(found, unit.channel or 0, -1)
    return found.reshape(-1, groups, found.shape[-1] // groups)


def _unit_kernel(unit: Unit, x: Tensor) -> tuple[Array, int]:
    """Return the kernel whose outputs are the cells of a patch, and the number of groups of channels."""
    shape, dtype = tuple(unit.kernel.shape), backend.to_numpy(unit.kernel).dtype
    taps = int(np.prod(shape[:-2], dtype=int))
    if unit.form == "depthwise":
        one = np.eye(taps, dtype=dtype).reshape(*shape[:-2], 1, taps)
        return np.repeat(one, shape[-2], axis=-2), shape[-2]
    if unit.form == "transpose":
        size = taps * shape[-1]
        return np.moveaxis(np.eye(size, dtype=dtype).reshape(*shape[:-2], shape[-1], size), -1, -2).copy(), 1
    size = taps * shape[-2]
    groups = int(x.shape[(unit.channel or 0) % len(x.shape)]) // shape[-2]
    return np.tile(np.eye(size, dtype=dtype).reshape(*shape[:-1], size), groups), groups


def _of_layer(
    unit: Unit, layer: LayerPattern, seen: _Seen | None, most: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return one row per measured neuron."""
    facts: dict[str, Any] = {"layer": unit.name, "kind": layer.kind, "estimator": layer.estimator}
    count = layer.dead.size
    facts["reads"] = layer.values.size // count
    if seen is None:
        return [{**facts, "neuron": 0, "observations": 0, **dict.fromkeys(_SCORES, np.nan)}]
    facts["observations"] = len(seen.answers)
    if len(seen.answers) < _FEW * facts["reads"]:
        warn(
            f"{unit.name!r}: {len(seen.answers)} observations are few for neurons that read {facts['reads']} cells; "
            "rho comes out too low. Give more samples, or raise observations=."
        )
    kernel = _columns(unit, backend.to_numpy(unit.kernel).astype("float64"))
    above, below = _columns(unit, layer.positive), _columns(unit, layer.negative)
    picked = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    per_group = count // seen.patches.shape[1]
    rows, measured = [], -1
    for j in picked:
        if j // per_group != measured:
            measured = j // per_group
            patch = _Patch.of(seen.patches[:, measured])
        scores = dict.fromkeys(_SCORES, np.nan)
        if not layer.dead[j]:
            direction = rng.normal(size=len(kernel))
            z = seen.answers[:, j]
            scores = _scores(patch, kernel[:, j], (above[:, j], below[:, j]), direction, z, rectified=unit.before_relu)
        rows.append({**facts, "neuron": int(j), **scores})
    return rows


def _columns(unit: Unit, kernel: Array) -> Array:
    """Return a kernel as (P, neurons)."""
    count = len(unit.neurons)
    moved = np.moveaxis(kernel, unit.neurons, range(kernel.ndim - count, kernel.ndim))
    return moved.reshape(-1, int(np.prod(moved.shape[kernel.ndim - count :], dtype=int)))


@dataclass(frozen=True, eq=False)
class _Patch:
    """What a group of neurons reads (M, P), less its mean (P,), and its covariance."""

    x: Array
    mean: Array
    covariance: Array

    @classmethod
    def of(cls, x: Array) -> _Patch:
        mean = x.mean(axis=0)
        x = x - mean
        return cls(x, mean, x.T @ x / len(x))


def _scores(
    patch: _Patch, w: Array, patterns: tuple[Array, Array], direction: Array, z: Array, *, rectified: bool
) -> dict[str, float]:
    """Return rho of a neuron's pattern, its filter and a random direction.

    Args:
        patch: what it reads.
        w: its filter (P,).
        patterns: above and below the threshold, (P,) each.
        direction: any vector (P,).
        z: its answer with bias (M,).
        rectified: whether rho of the answer behind a ReLU is wanted.
    """
    y, active = patch.x @ w + patch.mean @ w, z > 0
    parts = [(patterns[0], y)]
    if not np.array_equal(*patterns):
        parts = [(patterns[0], y * active), (patterns[1], y * ~active)]
    rho = rho_of(patch.x, patch.covariance, parts, y)
    behind = rho_of(patch.x, patch.covariance, parts, np.maximum(z, 0)) if rectified else np.nan
    filters = rho_of(patch.x, patch.covariance, [(w / (w @ w), y)], y)
    random = rho_of(patch.x, patch.covariance, [(direction / (w @ direction), y)], y)
    return dict(zip(_SCORES, (rho, behind, filters, random), strict=True))


def rho_of(x: Array, covariance: Array, parts: Sequence[tuple[Array, Array]], target: Array) -> float:
    """Return 1 - sqrt(R^2) of the regression of a target on ``x - sum_k a_k u_k``.

    Args:
        x: (M, P), mean zero.
        covariance: of x, (P, P).
        parts: pairs of a pattern a_k (P,) and its amplitudes u_k (M,).
        target: (M,).
    """
    target = target - target.mean()
    variance = float(target @ target) / len(target)
    if variance <= np.finfo("float64").tiny:
        return float("nan")
    a = np.stack([pattern for pattern, _ in parts], axis=1)
    u = np.stack([amplitude - amplitude.mean() for _, amplitude in parts], axis=1)
    with_x, with_u = x.T @ u / len(x), u.T @ u / len(x)
    residual = covariance - with_x @ a.T - a @ with_x.T + a @ with_u @ a.T
    shared = x.T @ target / len(x) - a @ (u.T @ target) / len(x)
    ridge = _RIDGE * max(float(np.trace(residual)) / len(residual), float(np.finfo("float64").tiny))
    weights = np.linalg.solve(residual + ridge * np.eye(len(residual)), shared)
    explained = float(np.clip(shared @ weights / variance, 0.0, 1.0))
    return 1 - float(np.sqrt(explained))


def _table(rows: list[dict[str, Any]], by: str) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows)
    if by == "neuron":
        return table[["layer", "kind", "estimator", "neuron", "reads", "observations", *_SCORES]]
    grouped = table.groupby("layer", sort=False)
    summary = grouped.agg(
        kind=("kind", "first"),
        estimator=("estimator", "first"),
        neurons=("neuron", "size"),
        reads=("reads", "first"),
        observations=("observations", "first"),
        **{score: (score, "mean") for score in _SCORES},
        lowest=("rho", "min"),
        highest=("rho", "max"),
    )
    return summary.reset_index()
