"""`ks.evidence` on models whose answers can be worked out by hand."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import kerascope as ks
from kerascope.evidence.drops import symmetric
from kerascope.evidence.study import Study

H, W, K = 5, 12, 3


def linear(channels: int = 1, units: int = K, seed: int = 0) -> Any:
    """A linear classifier of matrices; returns the model and its weights (H, W, C, K)."""
    model = keras.Sequential([layers.Input((H, W, channels)), layers.Flatten(), layers.Dense(units)])
    weights = np.random.default_rng(seed).normal(size=(H, W, channels, units))
    model.set_weights([weights.reshape(-1, units).astype("float32"), np.zeros(units, "float32")])
    return model, weights


def samples(count: int, seed: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, H, W, channels)).astype("float32")


def quiet(*args: Any, **kwargs: Any) -> ks.Evidence:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.evidence(*args, **kwargs)


def contrast(weights: np.ndarray, c: int) -> np.ndarray:
    others = [k for k in range(weights.shape[-1]) if k != c]
    return weights[..., c] - weights[..., others].mean(axis=-1)


@pytest.mark.parametrize("channels", [1, 2])
def test_sums_p_and_drops_of_a_linear_model(channels):
    model, weights = linear(channels)
    x, background = samples(4, 1, channels), samples(40, 2, channels)
    y, labels = np.array([0, 2, 1, 0]), np.random.default_rng(3).integers(0, K, 40)
    found = quiet(model, x, background=background, background_labels=labels, target=y, fills=5, dims=("r", "t"))
    mean = background.mean(axis=0)
    fills = background[np.sort(np.random.default_rng(0).choice(40, 5, replace=False))]
    for i, c in enumerate(y):
        w = contrast(weights, c)
        sums = (w * (x[i] - mean)).sum(axis=(1, 2))
        others = (w * (background[labels != c] - mean)).sum(axis=(2, 3)).max(axis=1)
        p = [(1 + np.sum(others >= s)) / (1 + len(others)) for s in sums]
        table = found.rows[found.rows["sample"] == i].sort_values("index")
        np.testing.assert_allclose(table["sum"], sums, atol=2e-5)
        assert np.array_equal(table["p"], p)
        assert np.all(table["target"] == c)
        drops = (w * (x[i] - fills)).sum(axis=(2, 3))  # (F, H)
        measured = table[table["drop"].notna()]
        np.testing.assert_allclose(measured["drop"], drops.mean(axis=0)[measured["index"]], atol=2e-5)
        half = 2.7764451 * drops.std(axis=0, ddof=1) / np.sqrt(5)  # Student's t with 4 degrees of freedom
        expected = (drops.mean(axis=0) - half)[measured["index"]]
        np.testing.assert_allclose(measured["drop_low"], expected, atol=1e-4)
    assert found.attrs["references"] == {int(c): int(np.sum(labels != c)) for c in np.unique(y)}


def planted_weights() -> np.ndarray:
    weights = np.zeros((H, W, 1, 2))
    weights[1, 3:8, 0, 0] = 1.0
    return weights


def planted_linear() -> tuple[Any, np.ndarray, np.ndarray]:
    """Class 0 is row 1, columns 3 to 7, of size 4; class 1 is nothing; small weights elsewhere."""
    weights = planted_weights()
    model = keras.Sequential([layers.Input((H, W, 1)), layers.Flatten(), layers.Dense(2)])
    model.set_weights([weights.reshape(-1, 2).astype("float32"), np.zeros(2, "float32")])
    x, background = 0.1 * samples(6, 1), 0.1 * samples(60, 2)
    x[:, 1, 3:8] += 4.0
    return model, x, background


@pytest.mark.parametrize("check", [True, False])
def test_a_planted_stretch_is_called_alone(check):
    model, x, background = planted_linear()
    found = quiet(model, x, background=background, background_labels=np.ones(60, int), target=0, check=check)
    assert found.rows[found.rows["called"]]["index"].tolist() == [1] * 6
    along = found.segments[found.segments["dim"] == "column"]
    assert along[["line", "start", "stop", "whole"]].values.tolist() == [[1, 3, 8, False]] * 6
    np.testing.assert_allclose(along["score"], found.rows[found.rows["called"]]["sum"], rtol=1e-5)
    assert np.all(along["p"] == 1 / 61)
    assert along["drop"].notna().all() == check
    if check:  # the line's whole drop sits in the stretch
        np.testing.assert_allclose(along["drop"], found.rows[found.rows["called"]]["drop"], rtol=1e-4)


def test_negative_evidence_is_that_of_minus_the_model():
    model, x, background = planted_linear()
    labels = np.ones(60, int)
    against = quiet(
        model, x, background=background, background_labels=labels, target=1, references=background, sign="negative"
    )
    speaks = quiet(model, x, background=background, background_labels=labels, target=0)
    np.testing.assert_allclose(against.segments["score"], speaks.segments["score"], rtol=1e-5)
    assert np.all(against.segments["sign"] == -1)
    np.testing.assert_allclose(against.segments["drop"], -speaks.segments["drop"], rtol=1e-4)
    both = quiet(model, x, background=background, background_labels=labels, target=0, sign="both")
    assert both.rows[both.rows["called"]]["index"].tolist() == [1] * 6


def test_negative_evidence_is_sought_beside_the_class_itself():
    """References of other classes speak against the class themselves: p is against samples of the class."""
    model, x, background = planted_linear()
    both = np.concatenate([background, x])
    labels = np.array([1] * 60 + [0] * 6)
    found = quiet(model, background[:3], background=both, background_labels=labels, target=0, sign="negative")
    assert found.attrs["references"] == {0: 6}
    assert found.attrs["references_from"] == "the class itself"
    weights = contrast(planted_weights(), 0)
    mean = both.mean(axis=0)
    least = (weights * (x - mean)).sum(axis=(2, 3)).min(axis=1)
    for i in range(3):
        sums = (weights * (background[i] - mean)).sum(axis=(1, 2))
        p = [(1 + np.sum(least <= s + 1e-6)) / 7 for s in sums]
        table = found.rows[found.rows["sample"] == i].sort_values("index")
        np.testing.assert_allclose(table["p"], p)


def test_rows_measured_come_before_those_that_are_not():
    """Of equal p the larger drop comes first, whatever the sign; what was not measured comes last."""
    model, x, background = planted_linear()
    how = {"background": background, "references": np.concatenate([background] * 2), "fills": 4}
    for sign, target in (("positive", 0), ("negative", 1)):
        found = quiet(model, x, target=target, sign=sign, **how)
        for _, table in found.columns.groupby("sample"):
            for _, equal in table.groupby("p"):
                strength = equal["drop"].to_numpy() * (1 if sign == "positive" else -1)
                measured = ~np.isnan(strength)
                assert np.all(np.diff(measured.astype(int)) <= 0)
                assert np.all(np.diff(strength[measured]) <= 1e-9)


def test_units_of_sigmoids_do_not_exclude_each_other():
    """References of a label are the samples without it, whatever else they have; the unit itself is explained."""
    plain, weights = linear()
    model = keras.Sequential([layers.Input((H, W, 1)), layers.Flatten(), layers.Dense(K, activation="sigmoid")])
    model.set_weights(plain.get_weights())
    x, background = samples(4, 1), samples(60, 2)
    found = quiet(model, x, background=background, target=2)
    logits = (background[..., None] * weights).sum(axis=(1, 2, 3))
    assert found.attrs["references"] == {2: int(np.sum(logits[:, 2] <= 0))}
    assert np.any(
        (logits[:, 2] <= 0) & (logits.argmax(axis=1) == 2)
    )  # the largest of units that are all off is no label
    sums = (weights[..., 2] * (x - background.mean(axis=0))).sum(axis=(2, 3))
    np.testing.assert_allclose(found.rows.sort_values(["sample", "index"])["sum"], sums.ravel(), atol=2e-5)


def test_a_unit_named_as_an_output_is_a_class():
    model, _ = linear()
    x, background = samples(3, 1), samples(60, 2)
    one, other = (quiet(model, x, background=background, target=t) for t in (ks.Output(1), ks.Class(1)))
    pd.testing.assert_frame_equal(one.rows, other.rows)
    assert one.attrs == other.attrs


def test_doubtful_references_are_said():
    model, x, background = planted_linear()
    how = {"background": background, "background_labels": np.ones(60, int)}

    def said(text: str, **options: Any) -> bool:
        return any(text in warning for warning in quiet(model, x, **how | options).warnings)

    hidden = ks.Neuron(model.layers[-1].name, 0)
    assert said("the whole background serves as references", target=hidden)
    assert not said("the whole background serves as references", target=hidden, references=background)
    assert said("one maximum holds for both signs", target=0, sign="both")
    assert not said("one maximum holds for both signs", target=0, sign="both", references=background)
    assert said("holds 7, which is no class of the model", target=0, background_labels=np.full(60, 7))
    assert not said("which is no class of the model", target=0)
    unit, _ = linear(units=1)
    assert any("no sigmoid" in text for text in quiet(unit, samples(3, 6), background=samples(60, 7)).warnings)


def test_options_go_to_the_default_method_too():
    model, x, background = planted_linear()
    found = quiet(model, x, background=background, background_labels=np.ones(60, int), target=0, steps=4, fills=100)
    assert found.explanation.method == ks.IntegratedGradients(steps=4)
    assert found.attrs["fills"] == 60  # as many as there are


def test_a_stretch_of_the_whole_sample_is_a_finding():
    """With one axis stretches are tested over the whole sample: where one is called nothing is silent."""
    model = keras.Sequential([layers.Input((40,)), layers.Dense(2)])
    model.set_weights([np.stack([np.ones(40), np.zeros(40)], axis=1).astype("float32"), np.zeros(2, "float32")])
    rng = np.random.default_rng(0)
    x, background = rng.normal(size=(6, 40)).astype("float32"), rng.normal(size=(60, 40)).astype("float32")
    x[:, 10:30] += 1.5
    found = quiet(model, x, background=background, background_labels=np.ones(60, int), target=0)
    assert len(found.segments)
    assert not any("absence" in text for text in found.warnings)


def test_top_class_and_labels_by_the_model():
    model, _ = linear()
    x, background = samples(5, 4), samples(50, 5)
    found = quiet(model, x, background=background)
    top = model.predict(x, verbose=0).argmax(axis=1)
    assert np.array_equal(found.classes, top)
    predicted = model.predict(background, verbose=0).argmax(axis=1)
    assert found.attrs["references"] == {int(c): int(np.sum(predicted != c)) for c in np.unique(top)}


def test_one_unit_means_the_unit():
    model, weights = linear(units=1)
    x, background = samples(3, 6), samples(60, 7)
    found = quiet(model, x, background=background)
    sums = (weights[..., 0] * (x - background.mean(axis=0))).sum(axis=(2, 3))
    np.testing.assert_allclose(found.rows.sort_values(["sample", "index"])["sum"], sums.ravel(), atol=2e-5)
    assert found.attrs["references"] == {0: int(np.sum(model.predict(background, verbose=0) <= 0))}


def test_plain_logit_by_class_object():
    model, weights = linear()
    x, background = samples(2, 8), samples(50, 9)
    found = quiet(model, x, background=background, target=ks.Class(1))
    sums = (weights[..., 1] * (x - background.mean(axis=0))).sum(axis=(2, 3))
    np.testing.assert_allclose(found.rows.sort_values(["sample", "index"])["sum"], sums.ravel(), atol=2e-5)


def test_one_axis():
    model = keras.Sequential([layers.Input((W,)), layers.Dense(2)])
    weights = np.zeros((W, 2), "float32")
    weights[4:7, 0] = 1
    model.set_weights([weights, np.zeros(2, "float32")])
    x, background = 0.1 * samples(3, 1)[:, 0, :, 0], 0.1 * samples(50, 2)[:, 0, :, 0]
    x[:, 4:7] += 3
    found = quiet(model, x, background=background, background_labels=np.ones(50, int), target=0, dims=("time",))
    assert found.segments[["line", "name", "start", "stop"]].values.tolist() == [[-1, "all", 4, 7]] * 3
    assert len(found.columns) == 0
    assert set(found.rows[found.rows["called"]]["index"]) == {4, 5, 6}


def test_nothing_depends_on_the_batch():
    model, x, background = planted_linear()
    labels = np.ones(60, int)
    whole = quiet(model, x, background=background, background_labels=labels, target=0)
    alone = quiet(model, x[2:3], background=background, background_labels=labels, target=0, batch_size=7)
    columns = ["index", "sum", "drop", "drop_low", "p", "called"]
    first = whole.rows[whole.rows["sample"] == 2][columns].reset_index(drop=True)
    np.testing.assert_allclose(first.astype(float), alone.rows[columns].astype(float), rtol=1e-5, atol=1e-6)


def test_symmetric_drop_is_the_shapley_value_of_two_players():
    rng = np.random.default_rng(0)
    f = dict(zip([(), (0,), (1,), (0, 1)], rng.normal(size=4), strict=True))  # which players are replaced
    by_definition = ((f[()] - f[(0,)]) + (f[(1,)] - f[(0, 1)])) / 2
    assert symmetric(f[()], f[(0,)], f[(1,)], f[(0, 1)]) == pytest.approx(by_definition)


# Groups -------------------------------------------------------------------------------


def grouped(groups: Any, **options: Any) -> ks.Evidence:
    model, x, background = planted_linear()
    x[:, 3, 3:8] += 4.0  # not used by the model
    labels = np.ones(60, int)
    return quiet(model, x, background=background, background_labels=labels, target=0, groups=groups, **options)


def test_a_group_is_one_line():
    alone, found = grouped(None), grouped([7, 7, 2, 9, 2], ordered=("column",))
    assert found.attrs["groups"] == {"row": [[0, 1], [2, 4], [3]]}
    one = found.rows[found.rows["sample"] == 0].sort_values("index")
    assert one["index"].tolist() == [0, 2, 3]  # the first row of each
    assert one["name"].tolist() == ["row 0+row 1", "row 2+row 4", "row 3"]
    by_row = alone.rows[alone.rows["sample"] == 0].set_index("index")
    for column in ("sum", "abs_sum", "share", "drop"):  # the model is linear: drops add up too
        rows = by_row[column]
        np.testing.assert_allclose(one[column], [rows[0] + rows[1], rows[2] + rows[4], rows[3]], atol=1e-5)
    assert found.rows[found.rows["called"]]["index"].tolist() == [0] * 6
    stretches = found.segments[["dim", "line", "name", "start", "stop"]].values.tolist()
    assert stretches == [["column", 0, "row 0+row 1", 3, 8]] * 6
    np.testing.assert_allclose(found.segments["drop"], found.rows[found.rows["called"]]["drop"], rtol=1e-4)


def test_groups_may_have_names():
    names = ["a", "a", "b", "c", "b"]
    for given in (names, {"row": np.array(names)}, pd.Series(names)):
        assert grouped(given, check=False).attrs["groups"] == {"row": [[0, 1], [2, 4], [3]]}


def test_groups_of_one_change_nothing():
    alone, found = grouped(None), grouped({"row": np.arange(H)})
    for name in ("rows", "columns", "segments"):
        pd.testing.assert_frame_equal(getattr(alone, name), getattr(found, name))


def test_a_groups_p_is_against_groups():
    model, weights = linear()
    x, background = samples(3, 1), samples(40, 2)
    found = quiet(
        model, x, background=background, background_labels=np.arange(40) % K, target=0, groups=[0, 0, 1, 1, 1]
    )
    w, mean = contrast(weights, 0), background.mean(axis=0)
    others = (w * (background[np.arange(40) % K != 0] - mean)).sum(axis=(2, 3))
    largest = np.stack([others[:, :2].sum(axis=1), others[:, 2:].sum(axis=1)]).max(axis=0)
    sums = (w * (x - mean)).sum(axis=(2, 3))
    table = found.rows.sort_values(["sample", "index"])
    expected = np.stack([sums[:, :2].sum(axis=1), sums[:, 2:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(table["sum"], expected.ravel(), atol=2e-5)
    assert table["p"].tolist() == [(1 + np.sum(largest >= s)) / (1 + len(largest)) for s in expected.ravel()]
    size = np.abs(w * (x - mean)).sum(axis=(2, 3))
    absolute = np.stack([size[:, :2].sum(axis=1), size[:, 2:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(table["abs_sum"], absolute.ravel(), atol=5e-5)


def test_correlated_rows_are_grouped():
    model, _ = linear()
    background = samples(300, 2)
    background[:, 3] = -background[:, 0] + 0.3 * background[:, 3]  # r = -.96
    background[:, 4] = 0.6 * background[:, 1] + 0.8 * background[:, 4]  # r = .6
    background[:, 2] = 1.0
    x = samples(2, 1)

    def groups(value: Any) -> Any:
        return quiet(model, x, background=background, target=0, groups=value).attrs["groups"]

    assert groups("correlated") == {"row": [[0, 3], [1, 4], [2]]}
    assert groups(0.8) == {"row": [[0, 3], [1], [2], [4]]}
    assert list(groups({"column": "correlated"})) == ["column"]


def test_groups_are_for_the_dim_without_order():
    model, x, background = planted_linear()
    given = {"background": background, "background_labels": np.ones(60, int), "target": 0}
    assert list(quiet(model, x, **given, groups=0.9, ordered=("row",)).attrs["groups"]) == ["column"]


def test_a_dim_with_none_stays_alone():
    alone, found = grouped(None), grouped({"row": None})
    assert found.attrs["groups"] == {}
    pd.testing.assert_frame_equal(alone.rows, found.rows)
    assert list(grouped({"row": None, "column": 0.9}).attrs["groups"]) == ["column"]


def test_wrong_groups_are_refused_before_anything_is_explained(monkeypatch):
    def explain(*_: Any, **__: Any) -> Any:
        raise AssertionError("explained")

    monkeypatch.setattr(Study, "explain", explain)
    for options in ({"groups": {"row": [0, 1]}}, {"groups": {"rwo": 0.5}}, {"ordered": ("tme",)}):
        with pytest.raises(ks.KerascopeError):
            grouped(**{"groups": None, **options})


def test_correlations_need_samples():
    model, x, background = planted_linear()
    for value in ("correlated", 0.7):
        with pytest.raises(ks.BadInputError, match=r"takes at least 3 samples; got 2\. Give more background"):
            quiet(model, x, background=background[:2], references=background, target=0, groups=value)
    quiet(model, x, background=background[:3], references=background, target=0, groups="correlated", check=False)


def test_a_common_course_is_no_correlation():
    from kerascope.evidence.grouping import correlated

    rng = np.random.default_rng(0)
    course = np.sin(np.arange(30))[:, None]
    assert correlated(10 * course + rng.normal(size=(50, 4, 30, 1)), 0, 0.5) == ((0,), (1,), (2,), (3,))


def test_correlations_are_numpys():
    from kerascope.evidence.grouping import _correlations

    array = np.random.default_rng(1).normal(size=(20, 4, 6, 2))
    centred = array - array.mean(axis=0)
    for axis in (0, 1):
        lines = np.moveaxis(centred, 1 + axis, 0).reshape(array.shape[1 + axis], -1)
        lines = np.concatenate([lines, -lines], axis=1)  # mean zero, so that corrcoef centres nothing
        np.testing.assert_allclose(_correlations(array, axis), np.corrcoef(lines), atol=1e-12)


def test_groups_with_channels_and_one_axis():
    model, _ = linear(channels=2)
    found = quiet(model, samples(2, 1, 2), background=samples(60, 2, 2), target=0, groups="correlated")
    assert sum(map(len, found.attrs["groups"]["row"])) == H
    model = keras.Sequential([layers.Input((W,)), layers.Dense(2)])
    x, background = samples(2, 1)[:, 0, :, 0], samples(60, 2)[:, 0, :, 0]
    background[:, 5] = background[:, 2]
    found = quiet(model, x, background=background, target=0, groups=0.9, dims=("gene",))
    assert [2, 5] in found.attrs["groups"]["gene"]


def test_a_cohort_of_groups_adds_their_relevance():
    cohort = ks.cohort(grouped([7, 2, 9, 2, 7], ordered=("column",)), draws=20)
    best = cohort.lines[cohort.lines["dim"] == "row"].iloc[0]
    assert (best["index"], best["name"], best["called"]) == (1, "row 1+row 3", 6)
    aligned = cohort.aligned(0, "column", 1)
    np.testing.assert_allclose(aligned["relevance"].sum(), best["sum"], rtol=1e-3)
    assert aligned["input"].between(3.5, 4.5).all()  # the mean of both rows


# Warnings and refusals ----------------------------------------------------------------


def test_too_few_references_are_said():
    model, x, background = planted_linear()
    found = quiet(model, x, background=background[:10], background_labels=np.ones(10, int), target=0)
    assert "At least 19 are needed" in " ".join(found.warnings)
    assert not found.rows["called"].any()


def test_absence_is_said():
    model, x, background = planted_linear()
    quiet_x = np.concatenate([x, 0.1 * samples(6, 9)])
    found = quiet(
        model,
        quiet_x,
        background=np.concatenate([background, x]),
        background_labels=np.array([1] * 60 + [0] * 6),
        target=np.array([0] * 6 + [1] * 6),
        class_names=("motif", "nothing"),
    )
    assert any("'nothing'" in text and "absence" in text for text in found.warnings)


def test_mixed_references_are_said():
    model, x, background = planted_linear()
    half = background.copy()
    half[:20, 1, 3:5] += 4.0  # a class of its own that carries part of the evidence
    labels = np.array([2] * 20 + [1] * 40)
    found = quiet(model, x, background=half, background_labels=labels, target=0)
    texts = [text for text in found.warnings if "references carry part of the evidence" in text]
    assert texts
    for text in texts:
        assert ("times what the cleanest class reaches" in text) != ("where the cleanest class never does" in text)
        assert "inf times" not in text
    table = found.rows[found.rows["index"] == 1]
    assert np.all(table["p_clean"] == 1 / 41)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 2}, "level must lie between 0 and 1"),
        ({"sign": "plus"}, "Known: both, negative, positive"),
        ({"fills": 1}, "fills must be a whole number of at least 2"),
        ({"fills": 2.5}, "fills must be a whole number of at least 2"),
        ({"step": 4}, "Unknown option of integrated_gradients 'step'"),
        ({"background_labels": np.ones(60, int), "target": 0, "sign": "negative"}, "None of 60 background samples are"),
        ({"ordered": ("tme",)}, "Known: column, row"),
        ({"background_labels": np.zeros(3, int)}, "background_labels must be 60 whole numbers"),
        ({"background_labels": np.zeros(60, int), "target": 0}, "All 60 background samples are of class 0"),
        ({"groups": "corelated"}, "Unknown kind of groups 'corelated'"),
        ({"groups": {"rwo": 0.5}}, "Unknown dim of groups 'rwo'"),
        ({"groups": 1.0}, "between 0 and 1"),
        ({"groups": [0, 1]}, "5 labels, whole numbers or names, one for each index along 'row'"),
        ({"groups": [[0, 1], [2, 3, 4]]}, "5 labels, whole numbers or names, one for each index along 'row'; got [[0"),
        ({"groups": [0.5, 1, 1, 2, 2]}, "got shape (5,), dtype float64"),
        ({"target": np.zeros((6, 2), int)}, "one target per sample"),
        ({"target": lambda z: z[:, 0]}, "no classes to draw references from"),
    ],
)
def test_bad_input(options, message):
    model, x, background = planted_linear()
    with pytest.raises(ks.KerascopeError, match=re.escape(message)):
        quiet(model, x, background=background, **options)
