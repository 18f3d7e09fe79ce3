from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascope import backend
from kerascope.model.convert import precision
from kerascope.model.layers import LAYERS, converter_of
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Product, Route, Winner
from tests.cases import cases, draw_weights, undrawn
from tests.unit.model.views import view_of, viewed
from tests.zoo.custom import CentredConv, Largest, NamedDense, ScaledDense, swish_like


def converted(shape: tuple[int, ...], fn: Any) -> list[Any]:
    """Return the operations that a function of a Keras input is made of; the view holds them against the model."""
    x = keras.Input(shape)
    with undrawn():
        model = keras.Model(x, fn(x))
    draw_weights(model, seed=2)
    return list(view_of(model, np.random.default_rng(1).normal(size=(3, *shape)).astype("float32"))[0].traced)


def kinds(nodes: list[Any]) -> list[type]:
    return [type(node.op) for node in nodes]


# Layers -----------------------------------------------------------------------------------

IMAGE, SERIES, VECTOR = (6, 5, 4), (6, 4), (4,)


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        (VECTOR, layers.Dense(2), [Affine]),
        (VECTOR, layers.Dense(2, activation="relu"), [Affine, Activation]),
        (VECTOR, layers.Dense(2, activation="softmax"), [Affine, Opaque]),
        (SERIES, layers.Conv1D(2, 3, padding="causal", activation="tanh"), [Affine, Activation]),
        (IMAGE, layers.SeparableConv2D(2, 3, activation="relu6"), [Affine, Affine, Activation]),
        (IMAGE, layers.DepthwiseConv2D(3), [Affine]),
        (IMAGE, layers.Conv2DTranspose(2, 3, strides=2), [Affine]),
        (SERIES, layers.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d"), [Affine]),
        (IMAGE, layers.BatchNormalization(), [Affine]),
        (IMAGE, layers.Rescaling(2.0, 1.0), [Affine]),
        (IMAGE, layers.Normalization(mean=1.0, variance=2.0, invert=True), [Affine]),
        (VECTOR, layers.LeakyReLU(), [Activation]),
        (VECTOR, layers.PReLU(), [Activation]),
        (VECTOR, layers.Softmax(), [Opaque]),
        (IMAGE, layers.MaxPooling2D(2), [Winner]),
        (IMAGE, layers.GlobalMaxPooling2D(), [Winner]),
        (IMAGE, layers.AveragePooling2D(2), [Mixture]),
        (IMAGE, layers.GlobalAveragePooling2D(), [Mixture]),
        (IMAGE, layers.ZeroPadding2D(1), [Route]),
        (IMAGE, layers.Cropping2D(1), [Route]),
        (IMAGE, layers.Flatten(), [Route]),
        (IMAGE, layers.Permute((2, 1, 3)), [Route]),
        (VECTOR, layers.RepeatVector(2), [Route]),
        (IMAGE, layers.UpSampling2D(2), [Route]),
        (IMAGE, layers.Resizing(4, 4), [Route]),
        (IMAGE, layers.Resizing(4, 4, interpolation="bicubic"), [Opaque]),
        (IMAGE, layers.Resizing(4, 4, crop_to_aspect_ratio=True), [Opaque]),
        (IMAGE, layers.RandomFlip(), []),
        (IMAGE, layers.RandomContrast(0.5), []),
        (IMAGE, layers.RandomBrightness(0.5), []),
        (IMAGE, layers.RandomRotation(0.5), []),
        (IMAGE, layers.RandomTranslation(0.5, 0.5), []),
        (IMAGE, layers.RandomZoom(0.5), []),
        (VECTOR, layers.Dropout(0.5), []),
        (VECTOR, layers.Activation("linear"), []),
        (IMAGE, layers.LayerNormalization(), [Opaque]),
        (SERIES, layers.SimpleRNN(2), [Opaque]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_are_taken_apart(shape: Any, layer: Any, expected: list[type]) -> None:
    nodes = converted(shape, layer)
    assert kinds(nodes) == expected
    assert all(node.name.startswith(layer.name) for node in nodes)
    assert all(node.source is type(layer) for node in nodes)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_name_in_the_table_is_a_layer_of_keras(name: str) -> None:
    newer = "Adaptive" in name or name == "RMSNormalization"
    assert hasattr(layers, name) or newer


def test_merging_layers_are_taken_apart() -> None:
    def branches(layer: Any) -> list[type]:
        found = converted(VECTOR, lambda x: layer([layers.Dense(3, name="a")(x), layers.Dense(3, name="b")(x)]))
        return [kind for kind in kinds(found) if kind is not Affine]

    assert branches(layers.Add()) == branches(layers.Average()) == branches(layers.Subtract()) == [Mixture]
    assert branches(layers.Maximum()) == branches(layers.Minimum()) == [Winner]
    assert branches(layers.Concatenate()) == [Route]
    assert branches(layers.Multiply()) == [Product]


def test_convolutions_hold_the_bias_along_their_channels() -> None:
    (node,) = converted(IMAGE, layers.Conv2D(3, 2))
    assert tuple(node.op.bias.shape) == (1, 1, 1, 3)
    if backend.name != "tensorflow":  # which has no channels-first convolution on a CPU
        (node,) = converted(IMAGE, layers.Conv2D(3, 2, data_format="channels_first"))
        assert tuple(node.op.bias.shape) == (1, 3, 1, 1)
        assert node.op.channel_axis == 1


# Activations --------------------------------------------------------------------------------

MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}
NAMES = [
    name
    for name, fn in sorted(vars(keras.activations).items())
    if callable(fn) and name[0].islower() and name not in {"get", "serialize", "deserialize", "threshold"}
]


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_of_keras_is_known(name: str) -> None:
    """A Keras release that brings a new activation fails here."""
    nodes = converted(VECTOR, lambda x: layers.Dense(4, activation=name)(x))
    if name in MIXING:
        assert not any(isinstance(node.op, Activation) for node in nodes)
    elif name == "linear":
        assert kinds(nodes) == [Affine]
    else:
        assert kinds(nodes) == [Affine, Activation]


@pytest.mark.parametrize("form", ["layer", "function", "operation", "maximum", "Activation"])
def test_a_relu_is_a_relu_however_it_is_written(form: str) -> None:
    forms: dict[str, Any] = {
        "layer": layers.ReLU(),
        "function": keras.activations.relu,
        "operation": ops.relu,
        "maximum": lambda x: ops.maximum(x, np.zeros((1, 4), "float32")),
        "Activation": layers.Activation(keras.activations.relu),
    }
    (node,) = converted(VECTOR, forms[form])
    assert node.op.is_relu


@pytest.mark.parametrize(
    "layer",
    [
        layers.ReLU(max_value=6),
        layers.ReLU(negative_slope=0.1),
        layers.ReLU(threshold=0.5),
        layers.Activation("relu6"),
        layers.Activation("elu"),
    ],
    ids=str,
)
def test_what_is_like_a_relu_is_none(layer: Any) -> None:
    (node,) = converted(VECTOR, layer)
    assert isinstance(node.op, Activation)
    assert not node.op.is_relu


# Operations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda x: x + 1.0, [Affine]),
        (lambda x: x + np.ones((6, 4), "float32"), [Affine]),
        (lambda x: x * np.ones((3, 6, 4), "float32")[:1], [Affine]),
        (lambda x: x[:, :1] * np.ones((6, 1), "float32"), [Route, Affine]),
        (lambda x: x + x, [Mixture]),
        (lambda x: x * x, [Product]),
        (lambda x: x / (x + 3.0), [Affine, Opaque]),
        (lambda x: ops.matmul(x, np.ones((4, 2), "float32")), [Affine]),
        (lambda x: ops.matmul(np.ones((2, 6), "float32"), x), [Affine]),
        (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), [Route, Opaque]),
        (lambda x: ops.sum(x, axis=(1, 2), keepdims=True), [Mixture]),
        (lambda x: ops.max(x, axis=1), [Winner]),
        (lambda x: ops.min(x, axis=1), [Opaque]),
        (lambda x: ops.maximum(x, 0.5), [Activation]),
        (lambda x: ops.where(x > 0, x, 0.1 * x), [Opaque, Affine, Opaque]),
        (lambda x: ops.clip(x, -1, 1), [Activation]),
        (lambda x: x**2, [Activation]),
        (lambda x: ops.cast(ops.cast(x, "float16"), "float32") * 1.0, [Affine]),
        (lambda x: x * ops.cast(x > 0, "float32"), [Opaque, Opaque, Product]),
        (lambda x: ops.concatenate([x, ops.multiply(ops.ones((1, 6, 4)), x)], axis=1), [Affine, Route]),
        (lambda x: ops.stop_gradient(x), [Opaque]),
    ],
)
def test_operations_are_taken_apart(fn: Any, expected: list[type]) -> None:
    nodes = converted(SERIES, fn)
    assert sorted(kind.__name__ for kind in kinds(nodes)) == sorted(kind.__name__ for kind in expected)


def test_constants_that_widen_a_tensor_get_a_kernel_of_their_own_size() -> None:
    """Each input cell then serves several outputs, and the kernel has an entry for each of them."""
    route, node = converted(SERIES, lambda x: x[:, :1] + np.ones((6, 1), "float32"))
    assert isinstance(route.op, Route)
    assert tuple(node.op.kernel.shape) == (1, 6, 4)


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (lambda x: x + 1, Opaque),
        (lambda x: ops.reshape(x, (-1, 2, 3)), Opaque),
        (lambda x: ops.maximum(x, 2), Opaque),
        (layers.Rescaling(0.5), Affine),
    ],
)
def test_operations_on_whole_numbers_have_no_rule(fn: Any, kind: type) -> None:
    x = keras.Input((6,), dtype="int32")
    model = keras.Model(x, layers.Flatten()(layers.Embedding(10, 2)(fn(x))) if kind is Opaque else fn(x))
    view, _ = view_of(model, np.arange(12, dtype="int32").reshape(2, 6) % 7)
    assert type(view.traced.nodes[0].op) is kind


def test_padding_with_numbers_below_zero_is_said() -> None:
    def padded(value: float) -> Any:
        return converted(SERIES, lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0)), constant_values=value))[0].op

    assert (padded(-1.0).pads, padded(-1.0).keeps_sign) == (True, False)
    assert (padded(0.0).pads, padded(0.0).keeps_sign) == (True, True)
    joined = converted(SERIES, lambda x: ops.concatenate([x, x], axis=1))[0].op
    assert (joined.pads, joined.keeps_sign) == (False, True)


class Add(keras.Operation):
    """An operation of the user's own that is called like one of Keras'."""

    def call(self, x: Any) -> Any:
        return ops.tanh(x) * 2.0

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def test_operations_of_the_users_own_are_not_taken_for_those_of_keras() -> None:
    assert kinds(converted(SERIES, Add())) == [Opaque]


# Whose layer it is ------------------------------------------------------------------------------


def test_a_subclass_that_only_adds_is_the_layer() -> None:
    (node,) = converted(VECTOR, NamedDense(3, "note", name="named"))
    assert isinstance(node.op, Affine)
    assert (node.name, node.source) == ("named", NamedDense)


@pytest.mark.parametrize(
    ("layer", "shape"), [(ScaledDense(3, name="own"), VECTOR), (CentredConv(3, 2, name="own"), IMAGE)]
)
def test_a_subclass_that_replaces_something_is_run_through(layer: Any, shape: Any) -> None:
    assert converter_of(layer) is None
    nodes = converted(shape, layer)
    assert all(node.name.startswith("own/ops.") for node in nodes)
    assert {node.source for node in nodes if isinstance(node.op, Affine)} == {type(layer)}
    assert issubclass(type(layer), keras.layers.Layer)


def test_a_merging_subclass_is_what_it_computes() -> None:
    nodes = converted(VECTOR, lambda x: Largest(name="largest")([x, -x]))
    assert kinds(nodes) == [Affine, Winner]


def test_an_activation_of_the_users_own_is_run_through() -> None:
    nodes = converted(VECTOR, layers.Dense(3, activation=swish_like, name="own"))
    assert [node.name for node in nodes] == [
        "own/ops.matmul",
        "own/ops.add",
        "own/ops.multiply",
        "own/ops.sigmoid",
        "own/ops.multiply:2",
    ]
    assert nodes[0].source is layers.Dense


def test_a_layer_as_an_activation_is_run_through() -> None:
    nodes = converted(VECTOR, layers.Dense(3, activation=layers.ReLU(name="inner"), name="outer"))
    assert nodes[-1].name == "inner"
    assert nodes[-1].op.is_relu


# The graph as a whole ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases(), ids=str)
def test_names_are_unique_and_nodes_in_order(case: Any) -> None:
    graph = viewed(case.name).view.traced
    assert len({node.name for node in graph}) == len(graph)
    known = set(graph.inputs)
    for node in graph:
        assert known.issuperset(node.inputs)
        known.update(node.outputs)
    assert known.issuperset(graph.outputs)
    assert known.issuperset(tensor for tensors in graph.layers.values() for tensor in tensors)


def test_a_layer_called_twice_is_two_nodes() -> None:
    view = viewed("shared_layer").view
    assert [node.name for node in view.traced] == ["twice", "twice/relu", "twice:2", "twice/relu:2", "last"]
    assert len(view.traced.layers["twice"]) == 2
    kernels = [
        backend.to_numpy(node.op.kernel)
        for node in view.traced
        if node.name.startswith("twice") and isinstance(node.op, Affine)
    ]
    np.testing.assert_array_equal(*kernels)


def test_fused_activations_are_split_and_said() -> None:
    graph = viewed("cnn").view.traced
    assert graph.split == ("conv_1: Conv2D + relu", "conv_2: Conv2D + relu", "classes: Dense + softmax")


def test_names_do_not_depend_on_what_was_made_before() -> None:
    def names() -> list[str]:
        x = keras.Input((4,), name="x")
        model = keras.Model(x, ops.relu(ops.add(x, 1.0)) * 2.0)
        return [node.name for node in view_of(model, np.ones((2, 4), "float32"))[0].traced]

    assert names() == names() == ["ops.add", "ops.relu", "ops.multiply"]


def test_models_in_16_bits_are_computed_in_32() -> None:
    seen = viewed("mixed_precision")
    assert seen.view.traced.half
    assert not viewed("cnn").view.traced.half
    kernels = [node.op.kernel for node in seen.view.traced if isinstance(node.op, Affine)]
    assert {keras.backend.standardize_dtype(kernel.dtype) for kernel in kernels} == {"float32"}


def test_precision_is_that_of_the_weights_or_else_of_the_layers(float64: None) -> None:
    x = keras.Input((3,))
    assert precision(keras.Model(x, layers.ReLU()(x))) == "float64"
    narrow = keras.Input((3,), dtype="float32")
    assert precision(keras.Model(narrow, layers.Dense(2, dtype="float32")(narrow))) == "float32"


def test_time_distributed_layers_keep_samples_apart() -> None:
    """Keras puts time before the samples on the way; no tensor of the graph does."""
    view = viewed("time_distributed").view
    assert kinds(list(view.logits)).count(Opaque) == 0
    assert view.traced.shapes[view.traced.nodes[0].outputs[0]] == (None, 4, 2)
