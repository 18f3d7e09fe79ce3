from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascope import backend
from kerascope.model import canonize as module
from kerascope.model.canonize import Check, canonize, input_path, relative_deviation
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Opaque, Route
from tests.cases import by_name, cases, draw_weights
from tests.unit.model.views import deviation, run, values, view_of, viewed

X = np.random.default_rng(0).normal(size=(3, 6, 5, 2)).astype("float32")


def stacked(*parts: Any, shape: tuple[int, ...] = (6, 5, 2)) -> Any:
    """Return the view of layers put one on the other, with drawn weights."""
    model = keras.Sequential([layers.Input(shape), *parts])
    draw_weights(model, seed=4)
    return view_of(model, np.resize(X, (3, *shape)))[0]


def only(graph: Graph, name: str) -> Any:
    (node,) = [node for node in graph if node.name == name]
    return node


def numbers(value: Any) -> np.ndarray:
    return np.asarray(backend.to_numpy(backend.snapshot(value) if isinstance(value, keras.Variable) else value))


# The same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases(), ids=str)
def test_canonized_graph_is_the_model(case: Any) -> None:
    seen, found = viewed(case.name), values(case.name)
    finals = [found.canonized[head.final] for head in seen.view.heads]
    assert deviation(finals, found.outputs) < seen.tolerance
    assert not [note for note in seen.view.graph.notes if "refused" in note]


@pytest.mark.parametrize("case", cases(), ids=str)
def test_tensors_keep_their_numbers(case: Any) -> None:
    """A tensor that survives holds what it held before: layers can be asked for in either graph."""
    seen, found = viewed(case.name), values(case.name)
    shared = sorted(found.canonized.keys() & found.traced.keys())
    assert deviation([found.canonized[i] for i in shared], [found.traced[i] for i in shared]) < 1e-4
    assert len(shared) > len(seen.view.graph.inputs)


# Folding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("batchnorm", without="unfolded scaled_input"), ids=str)
def test_every_norm_is_folded(case: Any) -> None:
    graph = viewed(case.name).view.graph
    assert not [node.name for node in graph if isinstance(node.op, Affine) and node.op.is_diagonal]
    norms = [
        layer for layer in viewed(case.name).model._flatten_layers() if type(layer).__name__ == "BatchNormalization"
    ]
    assert sum(" into " in text for text in graph.folded) >= len(norms)


@pytest.mark.parametrize(
    ("name", "left"), [("residual_preactivated", {"first_norm", "last_norm"}), ("norm_along_rows", None)]
)
def test_what_cannot_be_folded_stays(name: str, left: set[str] | None) -> None:
    graph = viewed(name).view.graph
    diagonal = {node.name for node in graph if isinstance(node.op, Affine) and node.op.is_diagonal}
    assert len(diagonal) == (2 if left else 1)
    assert left is None or diagonal == left


@pytest.mark.parametrize("case", cases("scaled_input"), ids=str)
def test_what_scales_the_input_stays_and_is_known(case: Any) -> None:
    graph = viewed(case.name).view.graph
    diagonal = {node.name for node in graph if isinstance(node.op, Affine) and node.op.is_diagonal}
    assert diagonal
    assert diagonal == input_path(graph)
    assert not graph.folded


def norm_numbers(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and shift that a BatchNormalization applies."""
    gamma, beta, mean, variance = (numbers(weight).astype("float64") for weight in layer.weights)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def test_norm_after_a_convolution_by_hand() -> None:
    conv, norm = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")
    node = only(stacked(conv, norm).graph, "conv")
    scale, shift = norm_numbers(norm)
    np.testing.assert_allclose(numbers(node.op.kernel), numbers(conv.kernel) * scale, rtol=1e-5)
    expected = numbers(conv.bias) * scale + shift
    np.testing.assert_allclose(numbers(node.op.bias), expected.reshape(1, 1, 1, 4), rtol=1e-4, atol=1e-6)


def test_norm_before_a_convolution_without_padding_gives_one_bias_per_channel() -> None:
    norm, conv = layers.BatchNormalization(), layers.Conv2D(4, 3, name="conv")
    node = only(stacked(layers.ReLU(), norm, conv).graph, "conv")
    scale, shift = norm_numbers(norm)
    np.testing.assert_allclose(numbers(node.op.kernel), numbers(conv.kernel) * scale[:, None], rtol=1e-5)
    expected = numbers(conv.bias) + np.einsum("hwio,i->o", numbers(conv.kernel).astype("float64"), shift)
    np.testing.assert_allclose(numbers(node.op.bias), expected.reshape(1, 1, 1, 4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "zeros"])
def test_norm_before_a_padded_convolution_gives_a_map(padding: str) -> None:
    """At the border a part of the window is padding, where the norm's shift does not reach."""
    norm, same = layers.BatchNormalization(), padding == "same"
    conv = layers.Conv2D(4, 3, padding="same" if same else "valid", name="conv")
    between = [] if same else [layers.ZeroPadding2D(1)]
    node = only(stacked(layers.ReLU(), norm, *between, conv).graph, "conv")
    _, shift = norm_numbers(norm)
    inside = np.pad(np.ones((6, 5)), 1)
    kernel = numbers(conv.kernel).astype("float64")
    expected = np.zeros((6, 5, 4))
    for row in range(6):
        for column in range(5):
            window = inside[row : row + 3, column : column + 3]
            expected[row, column] = numbers(conv.bias) + np.einsum("hw,hwio,i->o", window, kernel, shift)
    assert node.op.zero_padded
    np.testing.assert_allclose(numbers(node.op.bias), expected[None], rtol=1e-4, atol=1e-5)
    assert np.abs(expected[0, 0] - expected[2, 2]).max() > 0.1


def test_a_zero_padding_becomes_a_part_of_every_convolution_after_it() -> None:
    x = keras.Input((6, 5, 2))
    padded = layers.ZeroPadding2D(1, name="padding")(x)
    outputs = [layers.Conv2D(2, 3, name="a")(padded), layers.DepthwiseConv2D(3, name="b")(padded)]
    view, _ = view_of(keras.Model(x, layers.Add()(outputs)), X)
    assert [node.name for node in view.graph][:2] in (["a", "b"], ["b", "a"])
    assert view.graph.folded == ("padding into the convolution after it",)


def test_a_padding_that_something_else_reads_stays() -> None:
    x = keras.Input((6, 5, 2))
    padded = layers.ZeroPadding2D(1, name="padding")(x)
    view, _ = view_of(keras.Model(x, layers.Concatenate()([padded, layers.Conv2D(2, 3, padding="same")(padded)])), X)
    assert view.graph.nodes[0].name == "padding"


def test_a_norm_read_twice_is_folded_into_both_or_neither() -> None:
    x = keras.Input((4,))
    h = layers.BatchNormalization(name="norm")(layers.ReLU()(x))
    both = keras.Model(x, layers.Add()([layers.Dense(2)(h), layers.Dense(2)(h)]))
    one = keras.Model(x, layers.Add()([layers.Dense(4)(h), h]))
    for model, folded in ((both, True), (one, False)):
        draw_weights(model, seed=5)
        view, _ = view_of(model, X.reshape(-1, 4)[:3])
        assert ("norm" not in [node.name for node in view.graph]) == folded


def test_a_norm_is_not_folded_into_a_layer_that_is_read_before_it() -> None:
    x = keras.Input((4,))
    h = layers.Dense(3, name="dense")(x)
    model = keras.Model(x, layers.Concatenate()([h, layers.BatchNormalization(name="norm")(h)]))
    draw_weights(model, seed=5)
    assert "norm" in [node.name for node in view_of(model, X.reshape(-1, 4)[:3])[0].graph]


def test_a_chain_of_scalings_is_folded_whole() -> None:
    view = stacked(layers.Dense(3, name="dense"), layers.BatchNormalization(), layers.Rescaling(2.0, 1.0), shape=(4,))
    assert [node.name for node in view.graph] == ["dense"]
    assert len(view.graph.folded) == 2


def test_protected_tensors_survive() -> None:
    view = stacked(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(), layers.ReLU())
    (before,) = view.traced.layers["conv"]
    assert before not in {tensor for node in view.graph for tensor in node.outputs}
    assert before in {tensor for node in view.keeping(before) for tensor in node.outputs}


# Refusing what changes the outputs ------------------------------------------------------------


def test_a_rewrite_that_changes_the_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_percent_more(graph: Graph, protected: frozenset[int]) -> Graph:
        return graph.with_weights([weight * 1.01 for weight in graph.weights])

    view = stacked(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(), layers.ReLU())
    monkeypatch.setattr(module, "CANONIZERS", (*module.CANONIZERS, one_percent_more))
    tensors = view.to_tensors([X])
    check = Check(tensors, tuple(run(view.unfolded, *tensors)), 1e-4)
    graph = canonize(view.unfolded, check)
    assert len(graph.folded) == 1
    assert len(graph.notes) == 1
    assert graph.notes[0].startswith("one_percent_more was refused: it changed the outputs by ")
    assert deviation(run(graph, *tensors), check.outputs) < 1e-5


def test_relative_deviation() -> None:
    a = np.array([1.0, -4.0])
    assert relative_deviation(a + np.array([0.0, 0.4]), a) == pytest.approx(0.1)
    assert relative_deviation(a, a[:1]) == np.inf
    assert relative_deviation(np.array([np.nan, 1.0]), a) == np.inf
    assert relative_deviation(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert relative_deviation(np.array([0.5]), np.array([0.0])) == 0.5


# Taking off the head --------------------------------------------------------------------------


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


FUNCTIONS = {
    "softmax": softmax,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "log_softmax": lambda z: np.log(softmax(z)),
    None: lambda z: z,
}


@pytest.mark.parametrize("case", cases(), ids=str)
def test_logits_are_what_the_head_was_applied_to(case: Any) -> None:
    seen, found = viewed(case.name), values(case.name)
    for head, output in zip(seen.view.heads, found.outputs, strict=True):
        z = found.canonized[head.logits]
        assert np.abs(FUNCTIONS[head.taken_off](z) - output).max() < seen.tolerance * max(1, np.abs(output).max())
        assert head.shape == (None, *output.shape[1:]) == (None, *z.shape[1:])


@pytest.mark.parametrize(
    "name", ["softmax_layer", "softmax_activation_layer", "softmax_operation", "softmax_in_nested_head"]
)
def test_logits_by_hand(name: str) -> None:
    """A dense ReLU layer, then the layer called logits, in NumPy."""
    seen, found = viewed(name), values(name)
    w1, b1, w2, b2 = (numbers(weight).astype("float64") for weight in seen.model.weights)
    hidden = np.maximum(found.arrays[0].reshape(15, -1) @ w1 + b1, 0)
    np.testing.assert_allclose(found.canonized[seen.view.heads[0].logits], hidden @ w2 + b2, rtol=1e-4, atol=1e-5)


def test_logits_of_a_convolution_head_by_hand() -> None:
    for name in ("softmax_after_reshape", "softmax_before_reshape"):
        seen, found = viewed(name), values(name)
        w1, b1, w2, b2 = (numbers(weight).astype("float64") for weight in seen.model.weights)
        windows = np.lib.stride_tricks.sliding_window_view(found.arrays[0], (3, 3), axis=(1, 2))
        hidden = np.maximum(np.einsum("nyxiab,abio->nyxo", windows, w1) + b1, 0).mean(axis=(1, 2))
        expected = hidden @ w2[0, 0] + b2
        np.testing.assert_allclose(found.canonized[seen.view.heads[0].logits], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("cnn", ["softmax"]),
        ("log_softmax", ["log_softmax"]),
        ("one_sigmoid", ["sigmoid"]),
        ("many_sigmoids", ["sigmoid"]),
        ("several_heads", ["softmax", "sigmoid", None, None]),
        ("softmax_before_reshape", ["softmax"]),
        ("softmax_map", ["softmax"]),
        ("dense_along_rows", [None]),
    ],
)
def test_what_is_taken_off_is_said(name: str, taken: list[str | None]) -> None:
    view = viewed(name).view
    assert [head.taken_off for head in view.heads] == taken
    names = [f"{what} of output {head.name}" for head, what in zip(view.heads, taken, strict=True) if what]
    assert view.graph.taken_off == tuple(names)


def test_only_what_is_final_is_taken_off() -> None:
    assert [node.name for node in viewed("softmax_inside").view.logits if isinstance(node.op, Opaque)] == [
        "inside/softmax"
    ]
    x = keras.Input((4,))
    two = layers.Average()([layers.Dense(3, activation="softmax")(x), layers.Dense(3, activation="softmax")(x)])
    mixed = layers.Concatenate()([layers.Dense(1, activation="sigmoid")(x), layers.Dense(2)(x)])
    for output in (two, mixed):
        assert view_of(keras.Model(x, output), X.reshape(-1, 4)[:3])[0].heads[0].taken_off is None


def test_a_part_of_a_softmax_is_no_softmax() -> None:
    """Half of the probabilities cannot be had from half of the logits: nothing is taken off."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(4, activation="softmax")(x)[:, :2])
    draw_weights(model, seed=6)
    view, arrays = view_of(model, X.reshape(-1, 4)[:3])
    assert view.heads[0].taken_off is None
    assert not [node for node in view.graph if "logits" in node.name]
    assert deviation(run(view.logits, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(view.predict_raw(arrays)[0], softmax(arrays[0] @ kernel + bias)[:, :2], rtol=1e-5)


def test_a_softmax_under_a_mask_is_not_taken_off() -> None:
    x = keras.Input((4,))
    h = layers.Dense(4)(x)
    view, _ = view_of(keras.Model(x, layers.Softmax()(h, mask=ops.greater(h, -1.0))), X.reshape(-1, 4)[:3])
    assert view.heads[0].taken_off is None


def test_rearrangements_behind_a_softmax_are_undone_on_the_way_back() -> None:
    view = viewed("softmax_before_reshape").view
    names = [node.name.split(" ", 1)[-1] for node in view.graph]
    assert names[-4:] == ["(logits)", "(back)", "(of logits)", "(of logits)"]
    assert [node for node in view.logits if "back" in node.name] == []
    assert isinstance(view.logits.nodes[-1].op, Route)


def test_input_path_ends_at_the_first_layer_that_mixes() -> None:
    x = keras.Input((6, 5, 2))
    h = layers.Permute((2, 1, 3), name="turn")(layers.Rescaling(2.0, name="scale")(x))
    model = keras.Model(x, layers.Rescaling(3.0, name="later")(layers.ReLU()(layers.ZeroPadding2D(1, name="pad")(h))))
    view, _ = view_of(model, X)
    assert input_path(view.graph) == {"turn", "scale", "pad"}


def test_weights_of_a_wrong_graph_are_seen() -> None:
    """The comparison that every test here rests on sees one kernel changed by one percent."""
    case = by_name("cnn")
    view, arrays = view_of(case.build(), case.sample(3))
    weights = view.traced.weights
    wrong = view.traced.with_weights([weights[0] * 1.01, *weights[1:]])
    assert deviation(run(wrong, *view.to_tensors(arrays)), view.predict_raw(arrays)) > 1e-4
    renamed = replace(view.traced, notes=("same numbers",))
    assert deviation(run(renamed, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6
