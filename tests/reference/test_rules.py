"""Every LRP rule on every kind of kernel layer, against a replica in NumPy.

Not covered here: weightless operations (test_weightless.py), whole networks (test_conservation.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope import rules
from tests.reference import replicas
from tests.reference.nets import samples, stack
from tests.reference.replicas import Matrix, Replica, matrix_of, through
from tests.reference.run import Bench, SentBack, same

LOW, HIGH = -1.0, 1.25


@dataclass(frozen=True)
class Row:
    """A rule, its replica, and the options of the replica."""

    rule: rules.Rule
    replica: Replica
    options: dict[str, Any]


def with_either_bias(rule: Callable[..., rules.Rule], replica: Replica, **options: Any) -> dict[str, Row]:
    """Return a rule's rows with the bias in the denominators and without."""
    name = rule.__name__ + "".join(f"_{value}" for value in options.values())
    return {
        f"{name}_{bias}": Row(rule(**options, bias=bias), replica, {**options, "bias": bias})
        for bias in ("absorb", "ignore")
    }


RULES: dict[str, Row] = {
    **with_either_bias(rules.Zero, replicas.zero),
    **with_either_bias(rules.Epsilon, replicas.epsilon, epsilon=0.1),
    **with_either_bias(rules.Epsilon, replicas.epsilon, epsilon=1e-6),
    **with_either_bias(rules.Gamma, replicas.gamma, gamma=0.25),
    **with_either_bias(rules.Gamma, replicas.gamma, gamma=0.0),
    **with_either_bias(rules.AlphaBeta, replicas.alpha_beta, alpha=1.0, beta=0.0),
    **with_either_bias(rules.AlphaBeta, replicas.alpha_beta, alpha=2.0, beta=1.0),
    **with_either_bias(rules.AlphaBeta, replicas.alpha_beta, alpha=3.5, beta=2.5),
    **with_either_bias(rules.ZPlus, replicas.z_plus),
    "WSquare": Row(rules.WSquare(), replicas.w_square, {}),
    "Flat": Row(rules.Flat(), replicas.flat, {}),
}

# Name: (shape of a sample, layer). Few different shapes: JAX compiles every operation for each of them.
LINE, PLANE, SMALL_PLANE, CUBE = (8, 4), (5, 5, 4), (3, 3, 4), (3, 3, 3, 2)
LAYERS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "dense": ((6,), lambda **kw: layers.Dense(5, **kw)),
    "dense on the last axis": (LINE, lambda **kw: layers.Dense(4, **kw)),
    "einsum": (LINE, lambda use_bias, **kw: einsum(use_bias=use_bias)),
    "conv1d strided": (LINE, lambda **kw: layers.Conv1D(4, 3, strides=2, padding="same", **kw)),
    "conv1d causal": (LINE, lambda **kw: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, **kw)),
    "conv1d same dilated": (LINE, lambda **kw: layers.Conv1D(4, 3, padding="same", dilation_rate=2, **kw)),
    "depthwise1d": (LINE, lambda **kw: layers.DepthwiseConv1D(3, strides=2, padding="same", **kw)),
    "transposed1d": ((4, 4), lambda **kw: layers.Conv1DTranspose(4, 3, strides=2, padding="same", **kw)),
    "conv2d valid": (PLANE, lambda **kw: layers.Conv2D(4, 3, **kw)),
    "conv2d uneven": (PLANE, lambda **kw: layers.Conv2D(4, (3, 2), strides=(1, 2), padding="same", **kw)),
    "conv2d same strided": (PLANE, lambda **kw: layers.Conv2D(4, 3, strides=2, padding="same", **kw)),
    "conv2d dilated": (PLANE, lambda **kw: layers.Conv2D(4, 2, dilation_rate=2, **kw)),
    "conv2d grouped": (PLANE, lambda **kw: layers.Conv2D(4, 3, groups=2, **kw)),
    "conv2d stride beyond the kernel": (PLANE, lambda **kw: layers.Conv2D(4, 1, strides=2, **kw)),
    "depthwise2d": (PLANE, lambda **kw: layers.DepthwiseConv2D(3, strides=2, padding="same", **kw)),
    "depthwise2d doubling": (SMALL_PLANE, lambda **kw: layers.DepthwiseConv2D(2, depth_multiplier=2, **kw)),
    "transposed2d": (SMALL_PLANE, lambda **kw: layers.Conv2DTranspose(4, 3, **kw)),
    "transposed2d gaps": (SMALL_PLANE, lambda **kw: layers.Conv2DTranspose(4, 1, strides=2, **kw)),
    "conv3d same": (CUBE, lambda **kw: layers.Conv3D(2, 2, padding="same", **kw)),
    "transposed3d": ((2, 2, 2, 2), lambda **kw: layers.Conv3DTranspose(2, 2, **kw)),
}


def einsum(*, use_bias: bool) -> Any:
    """Return a dense layer over both axes of a matrix."""
    return layers.EinsumDense("nij,ijk->nk", output_shape=4, bias_axes="k" if use_bias else None)


def cells(shape: tuple[int, ...], *, low: float) -> np.ndarray:
    """Return a drawn sample, one with its first half zero, and one that is zero throughout."""
    x = samples(shape, 3, low=low)
    x.reshape(3, -1)[1, : x[0].size // 2] = 0
    x[2] = 0
    return x


@functools.cache
def case(name: str, *, bias: bool, after_relu: bool) -> tuple[Bench, tuple[Matrix, ...], np.ndarray]:
    """Return a layer in a traced model, its matrices in order, and what is sent back to its outputs."""
    shape, build = LAYERS[name]
    layer = build(use_bias=bias)
    before = [layers.ReLU()] if after_relu else []
    bench = Bench(stack(shape, *before, layer, layers.Flatten()), cells(shape, low=0.0 if after_relu else LOW))
    matrix = matrix_of(layer, shape)
    return bench, (matrix,), np.random.default_rng(3).normal(size=matrix.w.shape[1])


def check(found: SentBack, row: Row, matrices: tuple[Matrix, ...], relevance: np.ndarray) -> None:
    """Compare what every input received, and what was absorbed, with the replica, back to front."""
    received, absorbed = [], []
    for x in found.inputs:
        inputs = [x.reshape(-1)]
        for matrix in matrices[:-1]:
            inputs.append(inputs[-1] @ matrix.w + matrix.b)
        r, lost = relevance, 0.0
        for values, matrix in zip(inputs[::-1], matrices[::-1], strict=True):
            r, kept = through(row.replica, values, matrix, r, **row.options)
            lost += kept
        received.append(r.reshape(x.shape))
        absorbed.append(lost)
    size = np.max(np.abs(received), initial=1.0)
    same(found.values, received, what="relevance of the inputs")
    assert np.max(np.abs(found.absorbed - absorbed)) <= 1e-9 * size, (found.absorbed, absorbed)
    assert np.max(np.abs(found.completeness_gap)) <= 1e-9 * size


# Without a bias, and on inputs known to be non-negative, one layer of each form will do.
FORMS = ("dense", "conv2d same strided", "depthwise1d", "transposed1d", "einsum")
CASES = [(name, True, False) for name in LAYERS]
CASES += [(name, bias, after_relu) for name in FORMS for bias, after_relu in ((False, False), (True, True))]


def _words(value: object) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"


@pytest.mark.parametrize(("name", "bias", "after_relu"), CASES, ids=_words)
def test_rules_on_layer(name, bias, after_relu, float64):
    """Relevance received and absorbed are those of the replica, for every rule."""
    bench, matrices, relevance = case(name, bias=bias, after_relu=after_relu)
    for label, row in RULES.items():
        try:
            check(bench.sent_back(row.rule, relevance), row, matrices, relevance)
        except AssertionError as error:
            raise AssertionError(f"{label}: {error}") from error


@pytest.mark.parametrize("name", LAYERS)
def test_box_rule_on_layer(name, float64):
    """The box rule counts from the corners; bounds may be numbers, per channel, or per cell."""
    bench, matrices, relevance = case(name, bias=True, after_relu=False)
    shape = LAYERS[name][0]
    per_channel = np.linspace(LOW - 0.5, LOW, shape[-1])
    per_cell = np.linspace(HIGH, HIGH + 1, int(np.prod(shape))).reshape(shape)
    for low, high in ((LOW, HIGH), (per_channel, per_cell)):
        spread = {
            "low": np.broadcast_to(low, shape).reshape(-1),
            "high": np.broadcast_to(high, shape).reshape(-1),
        }
        row = Row(rules.ZBox(low, high), replicas.z_box, spread)
        check(bench.sent_back(row.rule, relevance), row, matrices, relevance)


@pytest.mark.parametrize("kind", ["SeparableConv1D", "SeparableConv2D"])
def test_rules_on_separable(kind, float64):
    """A separable convolution is a depthwise one and a pointwise one, and the rule stands at both."""
    rank = int(kind[-2])
    shape = {1: LINE, 2: SMALL_PLANE}[rank]
    layer = getattr(layers, kind)(4, 2, padding="same")
    bench = Bench(stack(shape, layer, layers.Flatten()), cells(shape, low=LOW))
    depthwise = getattr(layers, f"DepthwiseConv{rank}D")(2, padding="same", use_bias=False)
    pointwise = getattr(layers, f"Conv{rank}D")(4, 1)
    depthwise.build((None, *shape))
    pointwise.build((None, *shape[:-1], 4))
    depthwise.kernel.assign(layer.depthwise_kernel)
    pointwise.kernel.assign(layer.pointwise_kernel)
    pointwise.bias.assign(layer.bias)
    matrices = matrix_of(depthwise, shape), matrix_of(pointwise, (*shape[:-1], 4))
    relevance = np.random.default_rng(3).normal(size=matrices[1].w.shape[1])
    for row in RULES.values():
        check(bench.sent_back(row.rule, relevance), row, matrices, relevance)


def test_padding_layer_becomes_the_convolutions(float64):
    """Behind a ZeroPadding2D the flat rule divides by real inputs, and nothing leaks into the border."""
    convolution = layers.Conv2D(4, 3)
    padded = stack(SMALL_PLANE, layers.ZeroPadding2D((1, 2)), convolution, layers.Flatten())
    bench = Bench(padded, cells(SMALL_PLANE, low=LOW))
    border = layers.Conv2D(4, 3)
    border.build((None, 5, 7, 4))
    for mine, theirs in zip(border.weights, convolution.weights, strict=True):
        mine.assign(theirs)
    whole = matrix_of(border, (5, 7, 4))
    inside = np.zeros((5, 7, 4), bool)
    inside[1:-1, 2:-2] = True
    matrix = Matrix(whole.w[inside.reshape(-1)], whole.b)
    relevance = np.random.default_rng(3).normal(size=matrix.w.shape[1])
    for row in RULES.values():
        check(bench.sent_back(row.rule, relevance), row, (matrix,), relevance)


def test_pass_hands_relevance_on_and_refuses_another_shape(float64):
    """Pass gives input i what arrived at output i; where shapes differ that means nothing."""
    square = Bench(stack((5,), layers.Dense(5)), samples((5,)))
    relevance = np.arange(5.0) - 2
    passed = square.sent_back(rules.Pass(), relevance)
    same(passed.values, np.tile(relevance, (3, 1)))
    assert np.all(passed.absorbed == 0)
    with pytest.raises(ks.IncompatibleMethodError, match="differ in shape"):
        Bench(stack((5,), layers.Dense(4)), samples((5,))).sent_back(rules.Pass(), relevance[:4])


def test_contributions_that_cancel_count_as_positive(float64):
    """Where z = 0 epsilon joins it with the sign plus: x w / epsilon R, not minus that."""
    layer = layers.Dense(1, use_bias=False)
    model = stack((2,), layer)
    layer.kernel.assign(np.array([[1.0], [-1.0]]))
    found = Bench(model, np.array([[2.0, 2.0]])).sent_back(rules.Epsilon(0.5), np.array([3.0]))
    same(found.values, [[12.0, -12.0]])


def test_a_sample_in_a_corner_of_the_box(float64):
    """Where low stands at every positive weight and high at every negative one, all relevance is absorbed."""
    layer = layers.Dense(2, use_bias=False)
    model = stack((4,), layer)
    layer.kernel.assign(np.array([[0.3, 1.0], [-0.7, 1.0], [0.1, -1.0], [-0.9, 1.0]]))
    corner = np.where(np.array([0.3, -0.7, 0.1, -0.9]) > 0, 0.1, 0.7)[None]
    found = Bench(model, corner).sent_back(rules.ZBox(0.1, 0.7), np.array([1.0, 0.0]))
    assert np.all(found.values == 0)
    assert found.absorbed[0] == 1.0
