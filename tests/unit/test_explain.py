"""`explain` and `Explainer`: one trace and one compilation, honest results, errors before any work."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope import backend as kerascope_backend
from kerascope.explain import open_session
from kerascope.model import trace
from tests.unit.models import convolutional, draw, kernel, linear, two_heads, two_inputs, with_weights

X = draw(5, 3, 2)
layers = keras.layers


def values(model, x, method, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.explain(model, x, method, **how).values


def explained(model, x, method, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.explain(model, x, method, **how)


# The result ---------------------------------------------------------------------------


def test_the_record_says_where_it_comes_from():
    model = linear()
    e = ks.explain(model, X, "integrated_gradients", background=draw(6, 3, 2, seed=1), steps=4, seed=5)
    attrs = e.attrs
    assert attrs["kerascope"] == ks.__version__
    assert (attrs["keras"], attrs["backend"], attrs["seed"]) == (keras.__version__, keras.backend.backend(), 5)
    assert (attrs["dtype"], attrs["batch_size"]) == ("float32", 32)
    assert attrs["model"]["name"] == model.name
    assert attrs["model"]["parameters"] == 28
    assert attrs["method"]["name"] == "integrated_gradients"
    assert attrs["method"]["options"]["steps"] == 4
    assert attrs["method_reason"] is None
    assert attrs["output"]["taken_off"] == "softmax"
    assert attrs["output"]["explained"] == "logit"
    assert attrs["graph"]["operations"] == len(attrs["rules"])
    assert set(attrs["rules"][0]) == {"node", "layer", "rule"}
    assert attrs["baseline"]["count"] == 1
    assert "6 background samples" in attrs["baseline"]["text"]
    json.dumps(attrs)
    assert e.method == ks.IntegratedGradients(steps=4)
    np.testing.assert_allclose(e.completeness_gap, 0, atol=1e-5)
    np.testing.assert_allclose(e.outputs, keras.ops.convert_to_numpy(model(X)), rtol=1e-5)
    np.testing.assert_array_equal(e.inputs, X)
    assert (e.values.dtype, e.dims, e.warnings) == (np.dtype("float32"), ("row", "column"), [])


def test_without_a_method_the_recommended_one_is_taken_and_the_reason_given():
    e = ks.explain(linear(), X)
    assert (e.method, e.method_name) == (ks.LRP(), "lrp")
    assert "without background samples" in e.attrs["method_reason"]
    e = ks.explain(linear(), X, background=X + 1)
    assert e.method_name == "integrated_gradients"
    assert "with background samples" in e.attrs["method_reason"]


def test_methods_as_objects_and_options_by_name_agree():
    model = linear()
    by_name = ks.explain(model, X, "lrp.epsilon", epsilon=0.5)
    np.testing.assert_array_equal(by_name.values, ks.explain(model, X, ks.LRP("epsilon", epsilon=0.5)).values)
    assert not np.array_equal(by_name.values, ks.explain(model, X, "lrp.epsilon").values)
    assert by_name.method == ks.LRP("epsilon", epsilon=0.5)


def test_several_methods_at_once_trace_the_model_once(monkeypatch):
    model, counts = convolutional(), Counts(monkeypatch)
    x = draw(2, 6, 5, 1)
    methods = ["gradient", ks.LRP("epsilon", epsilon=0.5), "lrp.epsilon", "integrated_gradients"]
    found = ks.explain(model, x, methods, baseline=0.5, epsilon=0.25, steps=4)
    assert counts.traces == 1
    assert [e.method_name for e in found] == ["gradient", "lrp.epsilon", "lrp.epsilon", "integrated_gradients"]
    assert [e.method.options.get("epsilon") for e in found] == [None, 0.5, 0.25, None]
    for method, e in zip(["gradient", ks.LRP("epsilon", epsilon=0.5)], found, strict=False):
        np.testing.assert_allclose(e.values, values(model, x, method), rtol=1e-5, atol=1e-7)


def test_several_methods_are_checked_before_any_runs():
    told = []
    with pytest.raises(ks.MissingBaselineError):
        ks.explain(linear(), X, ["gradient", "integrated_gradients"], progress=lambda *how: told.append(how))
    assert told == []
    with pytest.raises(ks.UnknownNameError, match="option of gradient, lrp"):
        ks.explain(linear(), X, ["gradient", "lrp"], steps=3)
    with pytest.raises(ks.UnknownNameError, match="gradiant"):
        ks.explain(linear(), X, ["lrp", "gradiant"])
    with pytest.raises(ks.BadInputError, match="names no method"):
        ks.explain(linear(), X, [])
    with pytest.raises(ks.BadInputError, match="must be a name or a method object"):
        ks.explain(linear(), X, ["lrp", 3])


def test_several_methods_are_checked_with_what_is_asked_before_any_runs():
    """A target that cuts off what a method refuses is accepted as for one method; what does not fit stops all."""
    inputs = keras.Input((4,))
    inside = layers.Dense(5, name="inside")(inputs)
    model, x = keras.Model(inputs, layers.Dense(2)(keras.ops.sort(inside))), draw(3, 4)
    target, told = ks.Neuron("inside", 0), []
    alone = values(model, x, "lrp", target=target)
    both = ks.explain(model, x, ["lrp", "gradient"], target=target)
    np.testing.assert_allclose(both[0].values, alone)
    how = {"progress": lambda *parts: told.append(parts)}
    with pytest.raises(ks.BadInputError, match="outside"):
        ks.explain(linear(), X, ["gradient", "lrp.z_box"], low=-0.1, high=0.1, **how)
    with pytest.raises(ks.IncompatibleMethodError, match="deep_taylor decomposes"):
        ks.explain(linear(), X, ["gradient", "deep_taylor"], target=lambda z: z[:, 0], **how)
    assert told == []


def test_an_option_goes_to_the_methods_that_read_it():
    """Every composite of LRP has the fields of all; one that has no use for an option is left alone."""
    boxed = ks.explain(linear(), X, ["lrp.epsilon", "lrp.z_box"], low=-9.0, high=9.0, epsilon=0.5)
    assert boxed[0].method == ks.LRP("epsilon", epsilon=0.5)
    assert boxed[1].method == ks.LRP("z_box", low=-9.0, high=9.0)
    with pytest.raises(ks.UnknownNameError, match="option of lrp"):
        ks.explain(linear(), X, ["lrp.epsilon", "lrp.z_plus"], gamma=0.5)


def test_what_was_changed_about_the_background_is_said_of_every_explanation():
    model = convolutional()
    found = explained(model, draw(2, 6, 5, 1), ["integrated_gradients", "deeplift"], background=draw(4, 6, 5))
    for e in found:
        assert any(text.startswith("background") for text in e.warnings)


@pytest.mark.parametrize("wrapper", [ks.SmoothGrad, ks.NoiseGrad])
def test_what_a_base_method_warns_of_is_said_once(wrapper):
    model = linear()
    model.layers[-1].set_weights([-np.ones((6, 4)), np.zeros(4)])
    e = explained(model, np.abs(X) + 1, wrapper(ks.DeepTaylor(), draws=3), target=0, batch_size=2)
    (text,) = [text for text in e.warnings if "explained logits are not positive" in text]
    assert text.startswith("Of the noisy copies, some explained logits")


def test_a_path_is_as_good_as_a_model(tmp_path):
    model = linear()
    model.save(tmp_path / "model.keras")
    wanted = values(model, X, "gradient")
    np.testing.assert_allclose(values(tmp_path / "model.keras", X, "gradient"), wanted, rtol=1e-6)
    np.testing.assert_allclose(values(str(tmp_path / "model.keras"), X, "gradient"), wanted, rtol=1e-6)


def test_the_result_survives_saving(tmp_path):
    e = ks.explain(linear(), X, ks.Occlusion(window=(1, 2), fill="zeros"), class_names=list("abcd"))
    again = ks.open(e.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.values, e.values)
    assert again.method == e.method
    assert again.attrs == e.attrs
    e = ks.explain(linear(), X, ks.SmoothGrad(ks.LRP("alpha_beta", alpha=3.0, beta=2.0), draws=2))
    assert ks.open(e.save(tmp_path / "nested")).method == e.method


# Batches, seeds, progress -------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("method", ["gradient", ks.SmoothGrad(draws=3), ks.Occlusion(fill="mean")])
def test_batches_and_their_padding_change_nothing(method, compiled):
    model, x, background = linear(), draw(7, 3, 2), draw(4, 3, 2, seed=1)
    whole, *others = (
        ks.Explainer(model, method, background=background, batch_size=size, compile=compiled)(x).values
        for size in (32, 1, 3, 7)
    )
    for found in others:
        np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())


def test_a_seed_gives_one_map_and_another_seed_another():
    x, model = draw(2, 3, 2), linear(activation="tanh")
    explainer = ks.Explainer(model, ks.SmoothGrad(draws=3), compile=False)
    first = explainer(x, seed=1).values
    np.testing.assert_array_equal(explainer(x, seed=1).values, first)
    np.testing.assert_array_equal(explainer(x, seed=np.int32(1)).values, first)
    assert not np.array_equal(explainer(x, seed=2).values, first)
    np.testing.assert_array_equal(explainer(x).values, explainer(x, seed=0).values)


def test_progress_as_a_function():
    calls = []
    ks.explain(linear(), X, "gradient", batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_progress_as_a_bar(capsys):
    ks.explain(linear(), X, "gradient", progress=True)
    out = capsys.readouterr()
    assert "Explaining 5 samples by gradient" in out.err
    assert "100%" in out.err
    assert out.out == ""


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        (ks.IntegratedGradients(baseline="zeros", steps=8), 8),
        (ks.SmoothGrad(ks.IntegratedGradients(baseline="zeros", steps=8), draws=4), 4),
        (ks.NoiseGrad(draws=4), 4),
        (ks.Occlusion(fill=0.0), 6),
        (ks.ShapleySampling(baseline="zeros", draws=8), 4),
    ],
    ids=lambda value: getattr(type(value), "__name__", value),
)
def test_progress_within_one_sample(method, passes):
    calls = []
    x = X[:1]
    ks.explain(linear(), x, method, memory_budget=1, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_allclose(calls, [(k / passes, 1) for k in range(1, passes + 1)])


# Once only ----------------------------------------------------------------------------


class Counts:
    """How often models were traced, functions compiled, and functions run through in Python."""

    def __init__(self, monkeypatch):
        self.traces = self.compilations = self.runs = 0
        record, compile_ = trace.record, kerascope_backend.compile

        def counted_trace(*args, **kwargs):
            self.traces += 1
            return record(*args, **kwargs)

        def counted_compile(fn):
            self.compilations += 1

            def counted(*args):
                self.runs += 1
                return fn(*args)

            return compile_(counted)

        monkeypatch.setattr(trace, "record", counted_trace)
        monkeypatch.setattr(kerascope_backend, "compile", counted_compile)

    def since(self, before, backend):
        runs = self.runs - before[2] if backend != "torch" else 0  # PyTorch runs Python each time
        return self.traces - before[0], self.compilations - before[1], runs

    @property
    def now(self):
        return self.traces, self.compilations, self.runs


@pytest.mark.parametrize(
    "method",
    [
        "gradient",
        "lrp",
        "guided_backprop",
        "deep_taylor",
        "grad_cam",
        ks.IntegratedGradients(steps=4),
        ks.SmoothGrad(draws=3),
        ks.Occlusion(window=3),
    ],
    ids=lambda m: m if isinstance(m, str) else type(m).__name__,
)
def test_a_second_call_neither_traces_nor_compiles(method, monkeypatch, backend):
    counts = Counts(monkeypatch)
    x = draw(8, 6, 5, 1)
    explainer = ks.Explainer(convolutional(), method, background=draw(3, 6, 5, 1, seed=1), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        explainer(x)
        before = counts.now
        assert min(before[:2]) > 0
        for again in (x, x + 1, x[:3], x[:1]):
            explainer(again)
            explainer(again, target=1)
            explainer(again, target=2, seed=3)
            explainer(again, target=np.arange(len(again)) % 3)
            explainer(again, target=ks.Class(0))
    assert counts.since(before, backend) == (0, 0, 0)


def test_a_smaller_last_batch_is_not_compiled_again(monkeypatch, backend):
    counts = Counts(monkeypatch)
    explainer = ks.Explainer(linear(), "gradient", batch_size=4)
    explainer(draw(4, 3, 2))
    before = counts.now
    explainer(draw(11, 3, 2))
    assert counts.since(before, backend) == (0, 0, 0)


def test_other_sizes_are_traced_for_themselves():
    model = with_weights(
        keras.Sequential(
            [
                layers.Input((None, 2)),
                layers.Conv1D(3, 2, activation="relu"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
            ]
        )
    )
    method = ks.IntegratedGradients(steps=64, baseline="zeros")
    explainer = ks.Explainer(model, method)
    for length in (6, 9, 6):
        x = draw(2, length, 2)
        e = explainer(x)
        assert e.values.shape == (2, length, 2)
        fresh = ks.explain(model, x, method)
        np.testing.assert_allclose(e.values, fresh.values, rtol=1e-5, atol=1e-6)
    with pytest.raises(ks.BadInputError, match=r"background has shape \(4, 9, 2\); .* \(N, 6, 2\)"):
        ks.explain(model, draw(2, 6, 2), "integrated_gradients", background=draw(4, 9, 2))


# Stale models -------------------------------------------------------------------------


def test_changed_weights_are_refused():
    model = convolutional.__wrapped__()
    explainer = ks.Explainer(model, "gradient")
    x = draw(2, 6, 5, 1)
    first = explainer(x)
    for weight in model.weights:
        kept = np.array(keras.ops.convert_to_numpy(weight))
        for place in {0, kept.size // 2, kept.size - 1}:
            changed = kept.copy()
            changed.flat[place] = np.nextafter(changed.flat[place], np.inf)
            weight.assign(changed)
            with pytest.raises(ks.StaleModelError, match=r"The weights of model .* have changed.*Make a new Explainer"):
                explainer(x)
        weight.assign(kept)
    np.testing.assert_array_equal(explainer(x).values, first.values)


def test_permuted_weights_are_refused():
    model = with_weights(keras.Sequential([layers.Input((3, 2)), layers.Flatten(), layers.Dense(400, name="head")]))
    explainer = ks.Explainer(model, "gradient", compile=False)
    explainer(X, target=0)
    swapped = kernel(model).copy()
    swapped[2, 10:14] = swapped[2, [12, 13, 10, 11]]  # two whole words: their sum stays
    model.get_layer("head").kernel.assign(swapped)
    with pytest.raises(ks.StaleModelError):
        explainer(X, target=0)


# Background ---------------------------------------------------------------------------


def test_a_lone_sample_as_background_is_said():
    with pytest.warns(ks.KerascopeWarning, match="background: one sample was given"):
        e = ks.explain(linear(), X, "integrated_gradients", background=draw(3, 2, seed=1))
    assert "background: one sample was given" in e.warnings[0]


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (draw(4, 2, 3), r"background has shape \(4, 2, 3\); the model takes samples of shape \(N, 3, 2\)"),
        (np.full((4, 3, 2), np.nan), r"background holds 24 values that are NaN"),
        (np.zeros((0, 3, 2)), r"background holds no samples"),
    ],
)
def test_a_bad_background_is_named(background, message):
    with pytest.raises(ks.BadInputError, match=message):
        ks.explain(linear(), X, "gradient", background=background)


def test_a_missing_baseline():
    for method in ("integrated_gradients", "expected_gradients", "occlusion"):
        with pytest.raises(ks.MissingBaselineError, match=r"[Gg]ive background=… \(some training samples\)"):
            ks.explain(linear(), X, method)


# What a method of one's own may do wrong ---------------------------------------------


def test_the_users_arrays_stay_as_they_are():
    x, background = X.copy(), draw(4, 3, 2, seed=1)
    kept = background.copy()
    for method in ("gradient", "lrp", "integrated_gradients", "occlusion", "input"):
        values(linear(), x, method, background=background)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(background, kept)


def test_a_method_that_writes_into_its_batch_does_not_reach_the_users_array():
    class Writes(ks.Gradient):
        def attribute(self, session, batch):
            found = super().attribute(session, batch)
            batch.inputs[0][...] = 0
            return found

    x = X.copy()
    e = ks.explain(linear(), x, Writes())
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(e.inputs, X)


def test_a_method_of_ones_own_that_returns_the_wrong_shape():
    class Wrong(ks.Gradient):
        def attribute(self, session, batch):
            found = super().attribute(session, batch)
            return type(found)(values=tuple(v[:, 0] for v in found.values))

    message = (
        r"Wrong\.attribute must return one array \(B, T, \*S\) per input, here of shape \[\(5, 1, 3, 2\)\]; "
        r"it returned \[\(5, 3, 2\)\]"
    )
    with pytest.raises(ks.KerascopeError, match=message):
        ks.explain(linear(), X, Wrong())


def test_values_that_are_not_finite_are_never_returned():
    class Infinite(ks.Gradient):
        def attribute(self, session, batch):
            found = super().attribute(session, batch)
            return type(found)(values=tuple(np.full_like(v, np.inf) for v in found.values))

    with pytest.raises(ks.KerascopeError, match="Infinite returned 30 values that are not finite"):
        ks.explain(linear(), X, Infinite())


# Warnings -----------------------------------------------------------------------------


def test_warnings_stand_in_the_result_and_name_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        e = ks.explain(convolutional(), draw(2, 6, 5, 1), "guided_backprop")
    assert [str(w.message) for w in caught] == list(e.warnings)
    assert {w.filename for w in caught} == {__file__}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ks.Explainer(convolutional(), "guided_backprop")(draw(2, 6, 5, 1))
    assert {w.filename for w in caught} == {__file__}


def test_warnings_of_batches_are_added_up():
    class Counting(ks.Gradient):
        def attribute(self, session, batch):
            found = super().attribute(session, batch)
            return type(found)(values=found.values, warnings=(f"{len(batch)} maps are odd.", "Once."))

    with pytest.warns(ks.KerascopeWarning):
        e = ks.explain(linear(), X, Counting(), batch_size=2)
    assert e.warnings == ["5 maps are odd.", "Once."]


def test_a_wide_gap_is_warned_of():
    model, x = convolutional(), 5 * draw(3, 6, 5, 1)
    with pytest.warns(ks.KerascopeWarning, match=r"miss what they must sum to by more than 5% \(largest gap"):
        e = ks.explain(model, x, ks.IntegratedGradients(steps=1, baseline="zeros"))
    assert np.abs(e.completeness_gap).max() > 0.05 * np.abs(e.explained).min()
    e = ks.explain(model, x, ks.IntegratedGradients(steps=256, baseline="zeros"))
    assert e.warnings == []


def test_rounding_at_the_baseline_is_no_gap():
    model, x = convolutional(), np.ones((2, 6, 5, 1), "float32")
    x[1] += np.float32(1e-7)
    e = explained(model, x, ks.IntegratedGradients(steps=16, baseline=np.ones((6, 5, 1))), target=0)
    assert not any("miss what they must sum to" in text for text in e.warnings)
    assert np.abs(e.completeness_gap).max() <= 1e-5 * np.abs(e.explained).max()


# check --------------------------------------------------------------------------------


def test_check_says_which_methods_fit_and_why_not():
    table = ks.check(linear()).set_index("method")
    assert list(table.index) == list(ks.methods()["name"])
    assert table.loc["lrp", "fits"]
    assert table.loc["lrp", "why"] == ""
    assert table.loc["integrated_gradients", "fits"]
    assert "background=" in table.loc["integrated_gradients", "why"]
    assert not table.loc["grad_cam", "fits"]
    assert "spatial axes" in table.loc["grad_cam", "why"]


def test_check_takes_models_without_samples():
    for model in (two_inputs(), two_heads()):
        assert ks.check(model)["fits"].any()
    text = keras.Sequential(
        [layers.Input((None,), dtype="int32"), layers.Embedding(5, 3), layers.GlobalAveragePooling1D()]
    )
    assert not ks.check(text).set_index("method").loc["lrp", "fits"]


def test_a_traced_model_is_shared_by_many_explainers(monkeypatch):
    model = linear()
    session = open_session(model, X)
    monkeypatch.setattr(trace, "record", None)
    for name in ("gradient", "lrp"):
        e = ks.Explainer.on(session, name)(X)
        monkeypatch.undo()
        np.testing.assert_allclose(e.values, ks.explain(model, X, name).values, rtol=1e-5)
        monkeypatch.setattr(trace, "record", None)


def test_memory_budget_bounds_the_rows_of_a_pass(monkeypatch):
    """Passes over copies take fewer rows; the answer is the same, and the budget is recorded."""
    from kerascope.methods.session import Session

    model, x = convolutional(), np.random.default_rng(0).normal(size=(3, *convolutional().input_shape[1:]))
    rows: list[int] = []
    run = Session.run

    def counted(self, key, build, inputs, selection, extra=()):
        rows.append(len(inputs[0]))
        return run(self, key, build, inputs, selection, extra)

    monkeypatch.setattr(Session, "run", counted)
    whole = ks.explain(model, x, "integrated_gradients", baseline=0.5, steps=16)
    widest = max(rows)
    rows.clear()
    tight = ks.explain(model, x, "integrated_gradients", baseline=0.5, steps=16, memory_budget=2000)
    assert max(rows) < widest
    np.testing.assert_allclose(tight.values, whole.values, rtol=1e-5, atol=1e-6)
    assert tight.attrs["memory_budget"] == 2000
    with pytest.raises(ks.BadInputError, match="memory_budget must be a whole number of at least 1"):
        ks.explain(model, x, "gradient", memory_budget=0)


@pytest.mark.parametrize("as_dict", [False, True])
def test_baselines_of_inputs_of_different_shapes(as_dict: bool) -> None:
    """A list or a dict holds one baseline per input, of whatever shape each has."""
    a, b = keras.layers.Input((2,), name="a"), keras.layers.Input((3, 1), name="b")
    model = keras.Model([a, b], keras.layers.Dense(2)(keras.layers.Concatenate()([a, keras.layers.Flatten()(b)])))
    x = [np.ones((4, 2)), np.ones((4, 3, 1))]
    baseline = {"a": np.full(2, 0.5), "b": np.zeros((3, 1))} if as_dict else [np.full(2, 0.5), np.zeros((3, 1))]
    found = ks.explain(model, x, "integrated_gradients", baseline=baseline, target=1)
    kernel = model.layers[-1].get_weights()[0][:, 1]
    np.testing.assert_allclose(found.values[0], np.tile(0.5 * kernel[:2], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(found.values[1][..., 0], np.tile(kernel[2:], (4, 1)), atol=1e-6)
