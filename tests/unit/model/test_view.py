from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascope import backend
from kerascope.errors import BadInputError, BadTargetError, TraceError
from kerascope.explain import open_session
from kerascope.model.fingerprint import checksum, fingerprint
from kerascope.model.signature import InputSpec, Signature, signature_of
from kerascope.model.verify import Verifier
from tests.cases import by_name, cases, draw_weights
from tests.unit.model.views import deviation, run, values, view_of, viewed

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


# Heads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases(), ids=str)
def test_outputs_follow_from_the_logits_alone(case: Any) -> None:
    seen, found = viewed(case.name), values(case.name)
    logits = [ops.convert_to_tensor(found.canonized[head.logits]) for head in seen.view.heads]
    finished = [backend.to_numpy(tensor) for tensor in seen.view.finish(logits)]
    assert deviation(finished, found.outputs) < seen.tolerance


def test_heads_are_named_as_keras_names_them() -> None:
    assert [head.name for head in viewed("several_heads").view.heads][:3] == ["kind", "alarm", "size"]
    found = viewed("dict_of_heads")
    shapes = {head.name: head.shape for head in found.view.heads}
    assert shapes == {"ant": (None, 2), "zebra": (None, 3)}
    assert [head.name for head in viewed("subclassed_dict").view.heads] == ["output_0", "output_1"]


def test_a_head_is_found_by_name_or_number() -> None:
    view = viewed("several_heads").view
    assert view.head("alarm") is view.head(1)
    assert view.head("alarm").taken_off == "sigmoid"
    only = viewed("cnn").view
    assert only.head(None) is only.heads[0]
    with pytest.raises(BadTargetError, match=r"4 outputs: kind, alarm, size, hidden. Say which"):
        view.head(None)
    with pytest.raises(BadTargetError, match="alarm"):
        view.head("alarn")
    with pytest.raises(BadTargetError):
        view.head(4)


def test_two_outputs_may_be_one_tensor() -> None:
    x = keras.Input((4,))
    h = layers.Dense(3, name="dense")(x)
    model = keras.Model(x, [h, layers.Softmax(name="softmax")(h), layers.Identity()(h), x])
    view, arrays = view_of(model, X)
    assert [head.taken_off for head in view.heads] == [None, "softmax", None, None]
    assert len({head.logits for head in view.heads}) == 2
    assert (
        deviation(
            [backend.to_numpy(t) for t in view.finish(view.logits(*view.to_tensors(arrays)))], view.predict_raw(arrays)
        )
        < 1e-6
    )


# Layers inside ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cnn", "conv_1"),
        ("cnn", "pool"),
        ("cnn", "classes"),
        ("nested", "middle"),
        ("residual_preactivated", "first_norm"),
        ("subclassed", "block_0"),
    ],
)
def test_at_layer_gives_what_the_layer_returns(name: str, layer: str) -> None:
    seen = viewed(name)
    kept: list[Any] = []
    (target,) = [part for part in seen.model._flatten_layers() if part.name == layer]
    original = target.call

    def call(*args: Any, **kwargs: Any) -> Any:
        kept.append(original(*args, **kwargs))
        return kept[-1]

    target.call = call
    try:
        seen.model(seen.view.to_tensors(seen.arrays)[0], training=False)
    finally:
        del target.call
    graph = seen.view.at_layer(layer)
    assert deviation(run(graph, *seen.view.to_tensors(seen.arrays)), [backend.to_numpy(kept[-1])]) < 1e-5


def test_at_layer_finds_what_has_been_folded_away() -> None:
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, name="dense"), layers.BatchNormalization(), layers.ReLU()]
    )
    draw_weights(model, seed=8)
    view, arrays = view_of(model, X)
    kernel, bias = model.get_weights()[:2]
    found = run(view.at_layer("dense"), *view.to_tensors(arrays))
    np.testing.assert_allclose(found[0], X @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_at_layer_refuses_what_is_not_clear() -> None:
    with pytest.raises(BadTargetError, match="'twice' is called 2 times"):
        viewed("shared_layer").view.at_layer("twice")
    with pytest.raises(BadTargetError, match="conv_1"):
        viewed("cnn").view.at_layer("conv1")


def test_keeping_leaves_a_tensor_in_the_graph_to_the_logits() -> None:
    view = viewed("residual").view
    for node in view.traced:
        graph = view.keeping(node.outputs[0])
        assert graph.outputs[:1] == (view.heads[0].logits,)
        final = node.outputs[0] == view.heads[0].final
        assert final or node.outputs[0] in {tensor for kept in graph for tensor in kept.outputs}
    assert view.keeping(view.logits.nodes[0].outputs[0]) is view.logits


# Checking ------------------------------------------------------------------------------------------


def test_only_keras_own_layers_are_checked_at_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Verifier._expected

    def expected(self: Any, size: int) -> Any:
        sizes.append(size)
        return original(self, size)

    monkeypatch.setattr(Verifier, "_expected", expected)
    for name, looked_at in {
        "residual": [1],
        "operations_relu": [1],
        "operations_rearranged": [2, 1],
        "own_weights": [2, 1],
    }.items():
        case = by_name(name)
        view_of(case.build(), case.sample(1))
        assert sizes == looked_at, name
        sizes.clear()


def test_a_graph_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel read wrongly by one percent is enough."""
    from kerascope.model import layers as table

    def wrong(call: Any) -> Any:
        (affine, *rest) = table._conv(call)
        return (affine.scale_outputs(np.float32(1.01)), *rest)

    monkeypatch.setitem(table.LAYERS, "Conv2D", wrong)
    case = by_name("cnn")
    with pytest.raises(
        TraceError, match=r"differs from the model by \d\.\de-0\d of its largest output at batch size 1"
    ):
        view_of(case.build(), case.sample(2))


def test_samples_that_make_the_model_overflow_are_refused() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, ops.square(layers.Dense(2)(x)))
    draw_weights(model, seed=3)
    with pytest.raises(BadInputError, match="itself returns values that are not finite"):
        view_of(model, X * 1e30)


def test_open_sizes_are_those_of_the_samples() -> None:
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.GlobalMaxPooling1D()(layers.Conv1D(4, 2)(x)))
    draw_weights(model, seed=3)
    view, arrays = view_of(model, np.resize(X, (2, 7, 3)))
    assert view.signature.specs[0].shape == (None, 3)
    assert view.traced.shapes[view.traced.nodes[0].outputs[0]] == (None, 6, 4)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6


def test_channels_first_is_seen_in_convolutions_alone() -> None:
    assert viewed("conv1d").view.channels_first is False
    assert viewed("dense").view.channels_first is False
    assert viewed("norm_along_rows").view.channels_first is False


# How a model takes its inputs ------------------------------------------------------------------------


def test_signatures_of_functional_models() -> None:
    one = viewed("cnn").view.signature
    assert one.specs[0].shape == (8, 6, 1)
    assert one.structure is None
    two = viewed("siamese").view.signature
    assert (two.names, two.structure) == (("left", "right"), [0, 1])
    named = viewed("dict_inputs").view.signature
    assert named.names == ("facts", "signal")
    assert named.structure == {"facts": 0, "signal": 1}
    assert [spec.shape for spec in named.specs] == [(3,), (6, 4)]
    assert viewed("embedded_tokens").view.signature.specs[0].dtype == "int32"


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
def test_inputs_of_a_dict_are_called_by_its_keys() -> None:
    a, b = keras.Input((4,), name="some"), keras.Input((4,), name="others")
    model = keras.Model({"second": a, "first": b}, layers.Dense(2)(layers.Subtract()([a, b])))
    view, arrays = view_of(model, {"second": X, "first": 2 * X})
    assert view.signature.names == ("first", "second")
    np.testing.assert_array_equal(arrays[0], 2 * X)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6


def test_a_lone_input_in_a_dict_or_list_is_packed_as_the_model_takes_it() -> None:
    for pack in (lambda x: {"a": x}, lambda x: [x]):
        x = keras.Input((4,), name="a")
        model = keras.Model(pack(x), layers.Dense(2)(x))
        for given in (X, pack(X)):
            view, arrays = view_of(model, given)
            assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6
            assert view.signature.restore(["map"], given) == "map"


def test_nested_inputs_keep_their_structure() -> None:
    a, b, c = (keras.Input((4,), name=name) for name in ("a", "b", "lone"))
    model = keras.Model({"pair": [a, b], "lone": c}, layers.Add()([a, layers.Dense(4)(b), layers.Dense(4)(c)]))
    x = {"pair": [X, 2 * X], "lone": 3 * X}
    view, arrays = view_of(model, x)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6
    restored = view.signature.restore(arrays, x)
    assert restored["pair"][1] is x["pair"][1]
    assert restored["lone"] is x["lone"]
    with pytest.raises(BadInputError, match="Input 'pair' of the model is made of 2 arrays; got ndarray"):
        view.signature.flatten({"pair": X, "lone": X})


def test_signatures_of_subclassed_models_follow_the_samples() -> None:
    case = by_name("subclassed_dict")
    signature = signature_of(case.build(), case.sample(2))
    assert signature.names == ("signal", "facts")
    assert [spec.shape for spec in signature.specs] == [(4, 3), (2,)]
    built = by_name("subclassed").build()
    assert signature_of(built, np.zeros((2, 5, 4, 2), "int64")).specs == (InputSpec("input", (5, 4, 2), "float32"),)


TWO = Signature((InputSpec("a", (2,), "float32"), InputSpec("b", (3,), "float32")), [0, 1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X, "takes 2 inputs .a, b. as a list or dict; got ndarray"),
        ([X], "got list of 1"),
        ({"a": X}, r"takes inputs \['a', 'b'\]; got \['a'\]"),
        ({"a": X, "c": X}, r"got \['a', 'c'\]"),
    ],
)
def test_inputs_in_another_structure_are_refused(x: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        TWO.flatten(x)


def test_inputs_come_back_as_they_were_given() -> None:
    assert TWO.flatten({"b": 2, "a": 1}) == [1, 2] == TWO.flatten([1, 2])
    assert TWO.restore([1, 2], {"b": 0, "a": 0}) == {"a": 1, "b": 2}
    assert TWO.restore([1, 2], [0, 0]) == [1, 2] == TWO.pack([1, 2])


def test_integers_stay_integers_and_floats_get_the_precision() -> None:
    tokens = viewed("embedded_tokens")
    assert "int32" in str(tokens.view.to_tensors(tokens.arrays)[0].dtype)
    floats = viewed("cnn").view.to_tensors([np.ones((1, 8, 6, 1), "float64")])
    assert "float32" in str(floats[0].dtype)


# Fingerprints -------------------------------------------------------------------------------------------


def test_a_fingerprint_changes_with_any_weight() -> None:
    model = by_name("cnn").build()
    before = fingerprint(model)
    assert before == fingerprint(model)
    array = backend.to_numpy(backend.snapshot(model.weights[2])).copy()
    array.ravel()[-1] = np.nextafter(array.ravel()[-1], np.float32(9))
    model.weights[2].assign(array)
    assert fingerprint(model) != before


@pytest.mark.parametrize("places", [(0, 1), (0, 5000), (0, 1024), (3, 1027), (9998, 9999)])
def test_a_checksum_sees_numbers_that_trade_places(places: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(size=10000)
    swapped = array.copy()
    swapped[list(places)] = array[list(places[::-1])]
    assert checksum(array) != checksum(swapped)
    assert checksum(array) == checksum(array.copy())
    assert checksum(np.zeros(0)) == checksum(np.zeros(0))
    assert checksum(np.float32(1.0).reshape(())) != checksum(np.float32(2.0).reshape(()))


def test_a_sequential_models_head_goes_by_its_last_layer():
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, name="classes")])
    head = open_session(model).view.heads[0]
    assert head.name == "classes"
