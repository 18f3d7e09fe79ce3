"""The absent input: ``baseline`` in every method that compares with one, and samples that are it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.methods.session import Session
from tests.reference.nets import cnn, mlp, samples
from tests.reference.run import Bench, predict, same

FEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 8},
    "expected_gradients": {"draws": 12},
    "deeplift": {},
    "deeplift.reveal_cancel": {},
    "deeplift_shap": {},
    "occlusion": {},
    "lime": {"draws": 40},
    "kernel_shap": {"draws": 20},
    "shapley_sampling": {"draws": 12},
    "shapley_exact": {},
}
REPLACING = ("occlusion", "lime", "kernel_shap", "shapley_sampling", "shapley_exact")
AVERAGING = ("expected_gradients", "deeplift_shap", *REPLACING)
"""Those that take a background's samples, not their mean."""


@pytest.fixture
def bench(float64) -> Bench:
    return Bench(mlp("tanh"), samples((5,)), background=samples((5,), 4, seed=6))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("given", ["zeros", "mean", "median", 0.3, "one", "several"])
def test_a_baseline_overrides_the_background(name, given, bench):
    """A word, a number, one array or several, over which is averaged; the record holds what it was."""
    background, several = bench.session.background[0], samples((5,), 3, seed=8)
    arrays = {
        "zeros": np.zeros((1, 5)),
        "mean": background.mean(axis=0, keepdims=True),
        "median": np.median(background, axis=0, keepdims=True),
        0.3: np.full((1, 5), 0.3),
        "one": several[:1],
        "several": several,
    }[given]
    value = {"one": several[0], "several": several}.get(given, given)
    found = bench(name, baseline=value, **FEW[name])
    same(found.baseline, arrays)
    if np.isfinite(found.completeness_gap).all():
        promised = found.values.sum(axis=1) - found.completeness_gap
        same(promised, bench.logits()[:, 0] - predict(bench.model, arrays)[:, 0].mean())
    if name in AVERAGING:
        as_background = Bench(bench.model, bench.x, background=arrays)
        same(found.values, as_background.values(name, **FEW[name]))


@pytest.mark.parametrize("name", FEW)
def test_without_one_it_is_asked_for(name, float64):
    bench = Bench(mlp(), samples((5,)))
    message = rf"^{name} compares .* none was given: give background=… .* or baseline='zeros'\.$"
    for options in ({}, {"baseline": "mean"}):
        with pytest.raises(ks.MissingBaselineError, match=message):
            bench(name, **options)
    with pytest.raises(ks.BadInputError, match=r"baseline= has shape \(4,\)"):
        bench(name, baseline=np.zeros(4))
    with pytest.raises(ks.UnknownNameError, match=r"Unknown baseline 'zero'\. Did you mean 'zeros'"):
        bench(name, baseline="zero")


@pytest.mark.parametrize("name", REPLACING)
def test_a_fill_is_a_baseline_by_another_name(name, bench):
    """Both names are known where cells are replaced; each is named in what is said of it."""
    for value in ("zeros", "median", samples((5,), 3, seed=8)):
        same(bench.values(name, fill=value, **FEW[name]), bench.values(name, baseline=value, **FEW[name]))
    assert bench(name, fill=np.zeros(5), **FEW[name]).attrs["baseline"]["text"] == "a given fill"
    with pytest.raises(ks.BadInputError, match=r"fill= has shape \(4,\)"):
        bench(name, fill=np.zeros(4))
    with pytest.raises(ks.BadInputError, match="baseline= and fill= are two names for one thing"):
        bench(name, fill=0.0, baseline=0.0)


def test_linear_interpolation_is_occlusions_alone(bench):
    same(bench.values("occlusion", baseline="linear"), bench.values("occlusion", fill="linear"))
    with pytest.raises(ks.UnknownNameError, match="Unknown fill 'linear'"):
        bench("kernel_shap", fill="linear")


@pytest.mark.parametrize("name", ["expected_gradients", "deeplift_shap"])
def test_baselines_of_several_inputs(name, float64):
    inputs = [layers.Input((3,)), layers.Input((2,))]
    joined = layers.Dense(4, activation="tanh")(layers.Concatenate()(inputs))
    model = keras.Model(inputs, layers.Dense(2)(joined))
    x = [samples((3,)), samples((2,))]
    given = [samples((3,), 2, seed=3), samples((2,), 2, seed=4)]
    found = Bench(model, x)(name, baseline=given, **FEW[name])
    expected = Bench(model, x, background=given)(name, **FEW[name])
    for a, b in zip(found.values, expected.values, strict=True):
        same(a, b)


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("name", FEW)
def test_a_sample_at_the_baseline_gets_zeros(name, floatx, request):
    """Exactly, with a warning, also from a background all alike; refused where all samples are."""
    if floatx == "float64":
        request.getfixturevalue("float64")
    x = samples((5,)).astype(floatx)
    bench = Bench(mlp(), x, background=np.repeat(x[1:2], 3, axis=0))
    for options in ({"baseline": x[1]}, {}, {"baseline": x[[1, 1]]}):
        found = bench(name, **options, **FEW[name])
        assert not np.any(found.values[1])
        assert np.any(found.values[0])
        assert found.standard_error is None or not np.any(found.standard_error[1])
        assert any(text.startswith("1 of the samples cannot be told from the baseline") for text in found.warnings)
        for same_again in (x[1:2], x[[1, 1]]):
            with pytest.raises(ks.BadInputError, match="Every sample equals every baseline"):
                bench(name, same_again, **options)
    found = bench(name, baseline=x[[1, 2]], **FEW[name])  # one of two is not both
    assert np.any(found.values[1])
    assert not any("cannot be told" in text for text in found.warnings)


@pytest.mark.parametrize("name", REPLACING[:4])
def test_the_values_of_groups_are_zeros_too(name, float64):
    x = samples((4, 3))
    model = keras.Sequential([layers.Input((4, 3)), layers.Flatten(), layers.Dense(6, "tanh"), layers.Dense(2)])
    found = Bench(model, x)(name, baseline=x[0], groups="rows", **FEW[name])
    assert not np.any(found.group_values[0])
    assert np.any(found.group_values[1])


# The background -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPLACING[1:])
def test_every_background_sample_is_used(name, float64):
    """Values add up to f(x) less the mean over the whole background, which is the baseline on record."""
    background = samples((5,), 40, seed=4)
    bench = Bench(mlp(), samples((5,)), background=background)
    found = bench(name, **FEW[name])
    same(found.baseline, background)
    assert found.attrs["baseline"]["text"] == "40 background samples"
    assert not any("background" in text for text in found.warnings)
    same(found.values, bench.values(name, baseline=background, **FEW[name]))
    if name != "lime":
        same(found.values.sum(axis=1), bench.logits()[:, 0] - predict(bench.model, background)[:, 0].mean())
        assert np.max(np.abs(found.completeness_gap)) < 1e-9


@pytest.mark.parametrize("name", REPLACING[1:])
def test_some_background_samples_are_used_where_asked(name, float64):
    """They are drawn from the seed, without repetition; the result says how many, and what that leaves open."""
    background = samples((5,), 40, seed=4)
    bench = Bench(mlp(), samples((5,)), background=background)
    found = bench(name, fills=6, **FEW[name])
    assert found.attrs["baseline"]["text"] == "6 of 40 background samples"
    chosen = [np.flatnonzero(np.all(background == fill, axis=1)).item() for fill in found.baseline]
    assert chosen == sorted(set(chosen))
    same(found.values, bench.values(name, baseline=background[chosen], **FEW[name]))
    other = bench(name, fills=6, seed=1, **FEW[name]).baseline
    assert not np.array_equal(other, found.baseline)
    (said,) = [text for text in found.warnings if "background" in text]
    assert said.startswith("6 of 40 background samples were used (fills=6): values explain the difference from their")
    assert ("standard_error does not include which were drawn" in said) == (found.standard_error is not None)
    for fills in (40, 41):
        every = bench(name, fills=fills, **FEW[name])
        assert every.attrs["baseline"]["text"] == "40 background samples"
        assert not any("background" in text for text in every.warnings)


def test_many_fills_keep_to_the_memory_budget_and_are_told_of():
    """A pass holds pieces of all coalitions with all fills; progress moves through them."""
    model, x = cnn(), samples((6, 6, 2), 1)
    background, told = samples((6, 6, 2), 300, seed=3), []
    explainer = ks.Explainer(model, "kernel_shap", background=background, groups="rows", memory_budget=1, compile=False)
    rows: list[int] = []
    explainer.prepare(x)
    logits = Session.logits

    def watched(session: Session, inputs: Any, selection: Any) -> Any:
        rows.append(len(inputs[0]))
        return logits(session, inputs, selection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "logits", watched)
        explainer = explainer.using("kernel_shap", groups="columns", fills=20, draws=10)
        with pytest.warns(ks.KerascopeWarning):
            explainer(x, progress=lambda done, total: told.append(done))
    assert sorted(set(rows)) == [1, 20]  # one copy of the sample at a time; the fills by themselves, once
    assert len(told) == 200
    assert told == sorted(told)
