from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascope.errors import BadInputError, TraceError
from kerascope.model import trace
from kerascope.model.primitives import Opaque
from tests.cases import by_name, cases, draw_weights
from tests.unit.model.views import deviation, keras_parts, run, state_of, values, view_of, viewed
from tests.zoo.custom import Raw

NAMES = [case.name for case in cases()]
X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


class Own(keras.Model):
    """A model whose call is a function of the test's own."""

    def __init__(self, call: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense, self.other, self.late = layers.Dense(3), layers.Dense(3), layers.Dense(2, name="late")
        self.fn = call

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.other.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.fn(self, inputs)


def own(call: Any) -> keras.Model:
    model = Own(call, name="own")
    model.build((None, 4))
    draw_weights(model, seed=3)
    return model


# What a graph computes ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_the_model(name: str) -> None:
    """Here at 15 rows; making the view has compared them at one or two sizes before."""
    seen, found = viewed(name), values(name)
    assert deviation([found.traced[i] for i in seen.view.traced.outputs], found.outputs) < seen.tolerance


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_that_occur(name: str) -> None:
    graph, found = viewed(name).view.traced, values(name).traced
    for tensor, value in found.items():
        assert graph.shapes[tensor] == (None, *value.shape[1:])
        assert len(value) == 15


def test_float64_is_traced_in_float64(float64: None) -> None:
    for name in ("residual", "own_weights", "recurrent"):
        case = by_name(name)
        view, arrays = view_of(case.build(), case.sample(3))
        assert view.dtype == "float64"
        tensors = view.to_tensors(arrays)
        with trace.exact("float64"):
            found, folded, unfolded = (run(graph, *tensors) for graph in (view.traced, view.graph, view.unfolded))
        assert deviation(found, view.predict_raw(arrays)) < 1e-12
        assert 0 <= deviation(folded, unfolded) < 1e-12


# What a trace leaves behind -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_model_changes(name: str) -> None:
    seen = viewed(name)
    for part, before in seen.before.items():
        assert seen.after[part] == before, part
    assert seen.before["weights"]


def test_nothing_in_keras_changes() -> None:
    before = keras_parts()
    view_of(by_name("subclassed").build(), by_name("subclassed").sample(2))
    assert keras_parts() == before


def test_everything_is_put_back_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = by_name("subclassed").build(), by_name("subclassed").sample(2)
    parts, state = keras_parts(), state_of(model)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        model.last, model.new = "changed", 1
        raise KeyboardInterrupt

    monkeypatch.setattr(trace, "_look_into", interrupted)
    with pytest.raises(KeyboardInterrupt):
        view_of(model, x)
    assert keras_parts() == parts
    assert state_of(model) == state


def test_another_thread_may_use_keras_meanwhile() -> None:
    """What it builds during a trace is whole, and not taken for a part of the traced model."""
    started, done, built = threading.Event(), threading.Event(), []

    def build() -> None:
        started.wait(20)
        x = keras.Input((2,))
        built.append(keras.Model(x, layers.Dense(1, name="elsewhere")(x)))
        done.set()

    def call(model: Any, x: Any) -> Any:
        if isinstance(x, keras.KerasTensor):
            started.set()
            assert done.wait(20)
        return model.dense(x)

    thread = threading.Thread(target=build)
    thread.start()
    view, _ = view_of(own(call), X)
    thread.join()
    assert [node.op.label for node in view.traced] == ["Dense"]
    assert [layer.name for layer in built[0].layers][1:] == ["elsewhere"]
    assert built[0](np.ones((2, 2), "float32")).shape == (2, 1)


def test_state_and_losses_stay(rng: np.random.Generator) -> None:
    class Counting(layers.Layer):
        def build(self, shape: Any) -> None:
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

        def call(self, inputs: Any) -> Any:
            self.seen.assign(self.seen + 1)
            self.add_loss(ops.mean(inputs))
            return inputs * 2.0

    model = keras.Sequential([layers.Input((4,)), Counting(), layers.Dense(2, activity_regularizer="l2")])
    before = state_of(model)
    view_of(model, X)
    assert state_of(model) == before


# What cannot be followed ----------------------------------------------------------------


def test_opaque_layers_are_named_with_the_reason() -> None:
    (note,) = viewed("raw_framework").view.traced.notes
    assert note.startswith("not looked into: raw (Raw): ")
    (node,) = [node for node in viewed("raw_framework").view.traced if isinstance(node.op, Opaque)]
    assert (node.name, node.op.label) == ("raw", "Raw")


def test_a_comparison_with_a_number_is_one() -> None:
    """Keras' symbols have no ``==``: it would say False, and samples without a zero would not tell."""
    view, arrays = view_of(own(lambda model, x: model.dense(ops.where(x == 0, 5.0, x))), X)
    zeros = [np.where(array > 0.3, 0, array) for array in arrays]
    assert deviation(run(view.traced, *view.to_tensors(zeros)), view.predict_raw(zeros)) < 1e-6
    assert "ops.equal" in [node.name for node in view.traced]


def test_control_flow_makes_its_layer_opaque() -> None:
    def loop(model: Any, x: Any) -> Any:
        return ops.fori_loop(0, 2, lambda i, h: ops.tanh(model.late(h)[:, :1] + h), x)

    def call(model: Any, x: Any) -> Any:
        return ops.cond(ops.any(x > 0), lambda: model.dense(x), lambda: model.other(x))

    for fn, message in ((loop, "ForiLoop takes functions"), (call, "Cond takes functions")):
        model = own(fn)
        model.late.build((None, 4))
        try:
            view, arrays = view_of(model, X[:1])
        except TraceError:
            assert fn is call  # the choice is made for the whole batch: it depends on the other samples
            continue
        (note,) = view.traced.notes
        assert note.startswith(f"not looked into: own (Own): TypeError: {message}")
        assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-5


@pytest.mark.parametrize("end", ["attention", "pooling"])
def test_masks_travel_along(end: str) -> None:
    x = keras.Input((5, 4))
    h = layers.Masking(0.0)(x)
    if end == "attention":
        h = layers.MultiHeadAttention(2, 3)(h, h)
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(h)))
    draw_weights(model, seed=7)
    samples = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    samples[:, 3:] = 0
    view, arrays = view_of(model, samples)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-5
    assert any(isinstance(node.op, Opaque) for node in view.logits)


def test_what_an_opaque_layer_has_inside_is_forgotten() -> None:
    """It was begun to be looked into, and then not: neither its layers nor its notes are told of."""

    class Outer(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="outer")
            self.raw, self.dense = Raw(name="raw_inside"), layers.Dense(4, name="dense_inside")

        def build(self, shape: Any) -> None:
            self.raw.build(shape)
            self.dense.build(shape)

        def call(self, inputs: Any) -> Any:
            h = self.raw(self.dense(inputs))
            if isinstance(h, keras.KerasTensor):
                raise RuntimeError("no symbols, please")
            return h

    model = keras.Sequential([layers.Input((4,)), Outer(), layers.Dense(2, name="last")])
    draw_weights(model, seed=2)
    view, _ = view_of(model, X)
    assert view.traced.notes == ("not looked into: outer (Outer): RuntimeError: no symbols, please",)
    assert set(view.traced.layers) == {model.name, "outer", "last"}
    assert [node.op.label for node in view.traced] == ["Outer", "Dense"]


def test_a_model_that_leaves_the_framework_is_refused_or_said_to_have_no_derivative() -> None:
    model = own(lambda model, x: model.dense(ops.convert_to_tensor(np.tanh(ops.convert_to_numpy(x)))))
    if keras.backend.backend() == "torch":  # where such a detour runs, but cuts the derivative off
        view, _ = view_of(model, X)
        assert view.traced.notes[1:] == ("no derivative comes through own (Own): maps by gradient are zero behind it",)
        return
    with pytest.raises(TraceError, match="could not be run on symbolic inputs"):
        view_of(model, X)


def first_if_two(model: Any, x: Any) -> Any:
    return model.dense(x) if x.shape[0] == 2 else model.other(x)


def other_if_symbolic(model: Any, x: Any) -> Any:
    return model.dense(x) if isinstance(x, keras.KerasTensor) else model.other(x)


def noisy(model: Any, x: Any) -> Any:
    return model.dense(x) + keras.random.normal((1, 3))


def own_noise(model: Any, x: Any) -> Any:
    return model.dense(x) + ops.convert_to_tensor(np.random.default_rng().normal(size=(1, 3)).astype("float32"))


def dropped(model: Any, x: Any) -> Any:
    return model.dense(layers.Dropout(0.5)(x, training=True))


def mean_of_batch(model: Any, x: Any) -> Any:
    return model.dense(x - ops.mean(x, axis=0, keepdims=True))


def turned_round(model: Any, x: Any) -> Any:
    return model.dense(ops.flip(x, axis=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (first_if_two, "something else for a sample when other samples stand beside it|differs from the model"),
        (other_if_symbolic, "differs from the model by"),
        (noisy, "draws random numbers at inference"),
        (dropped, "draws random numbers at inference|differs from the model by"),
        (own_noise, "differs from the model by|or by chance"),
        (mean_of_batch, "when other samples stand beside it"),
        (turned_round, "when other samples stand beside it"),
        (lambda model, x: ops.mean(model.dense(x), axis=0), r"returns shape \(3,\) for 2 samples"),
        (lambda model, x: model.dense(x) / 0.0, "values that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_what_no_graph_can_follow_is_refused(call: Any, message: str) -> None:
    with pytest.raises((TraceError, BadInputError), match=message):
        view_of(own(call), X)


def test_a_lone_sample_does_not_hide_that_samples_mix() -> None:
    with pytest.raises(TraceError, match="when other samples stand beside it"):
        view_of(own(mean_of_batch), X[:1])


def test_what_has_not_been_built_is_refused() -> None:
    model = own(lambda model, x: model.late(model.dense(x)))
    with pytest.raises(TraceError, match=r"Layer 'late' \(Dense\) has no weights yet"):
        view_of(model, X)
    assert not model.late.built
    model(X)
    view, arrays = view_of(model, X)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6


def test_layers_made_in_every_call_are_refused() -> None:
    with pytest.raises(TraceError, match="makes new ones whenever it is called"):
        view_of(own(lambda model, x: layers.Dense(2, name="new")(x)), X)


def test_a_model_that_was_never_built_is_refused() -> None:
    class Unbuilt(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    with pytest.raises(BadInputError, match="has not been built"):
        view_of(Unbuilt(), X)


def by_size(model: Any, x: Any) -> Any:
    return model.dense(ops.reshape(x, (ops.shape(x)[0], 4)))


def by_product_of_sizes(model: Any, x: Any) -> Any:
    halves = ops.reshape(x, (ops.shape(x)[0] * 2, 2))
    return model.dense(ops.reshape(ops.relu(halves), (ops.shape(x)[0], 4)))


@pytest.mark.parametrize(
    ("call", "labels"), [(by_size, ["Reshape", "Dense"]), (by_product_of_sizes, ["Reshape", "Dense"])]
)
def test_a_batch_size_written_into_shapes_is_followed(call: Any, labels: list[str]) -> None:
    """``shape(x)[0]`` is unknown in a trace; where that does not do, one at a fixed size is checked at others."""
    view, arrays = view_of(own(call), X)
    assert not view.traced.notes
    assert [node.op.label for node in view.traced] == labels
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6


def test_training_behaviour_is_never_traced() -> None:
    """A functional model remembers that a layer was told to train; at inference Keras overrules it."""
    x = keras.Input((4,))
    h = layers.BatchNormalization()(layers.Dense(4)(x), training=True)
    model = keras.Model(x, layers.Dropout(0.5)(h, training=True))
    draw_weights(model, seed=1)
    view, arrays = view_of(model, X)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-5
    assert [node.op.label for node in view.traced] == ["Dense", "BatchNormalization"]


def test_none_among_the_outputs_is_passed_over() -> None:
    view, arrays = view_of(own(lambda model, x: (model.dense(x), None, model.other(x))), X)
    assert len(view.heads) == 2
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6


def test_random_numbers_that_do_not_matter_are_no_reason_to_refuse() -> None:
    def call(model: Any, x: Any) -> Any:
        return model.dense(x) + 0.0 * keras.random.normal((1, 3))

    view, arrays = view_of(own(call), X)
    assert deviation(run(view.traced, *view.to_tensors(arrays)), view.predict_raw(arrays)) < 1e-6
