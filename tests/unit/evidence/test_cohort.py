"""What is common to a class: counts, intervals, clusters and aligned stretches, against hand-made answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kerascope as ks
from kerascope.evidence import classes, clusters
from kerascope.evidence.cohort import bootstrap, wilson
from tests.unit.evidence.test_evidence import planted_linear, quiet


def found(**options: object) -> ks.Evidence:
    model, x, background = planted_linear()
    x[1, 1, 3:8] -= 4.0  # one of six without its motif
    return quiet(model, x, background=background, background_labels=np.ones(60, int), target=0, **options)


def test_how_often_lines_are_called():
    cohort = ks.cohort(found(), draws=200)
    row = cohort.lines[(cohort.lines["dim"] == "row") & (cohort.lines["index"] == 1)].iloc[0]
    assert (row["called"], row["samples"], row["share"]) == (5, 6, 5 / 6)
    assert row["share_low"] == pytest.approx(0.4365, abs=1e-3)  # Wilson's interval for 5 of 6
    assert row["share_high"] == pytest.approx(0.9699, abs=1e-3)
    assert row["sum_low"] < row["sum"] < row["sum_high"]
    assert cohort.lines.iloc[0]["index"] == 1  # the most often called comes first


def test_where_stretches_lie():
    cohort = ks.cohort(found(), draws=50)
    best = cohort.segments[cohort.segments["dim"] == "column"].iloc[0]
    columns = ["line", "count", "share", "start", "start_low", "length", "length_high"]
    assert best[columns].tolist() == [1, 5, 5 / 6, 3, 3, 5, 5]
    aligned = cohort.aligned(0, "column", 1, margin=1)
    assert aligned["count"].tolist() == [5] * 7
    assert np.all(aligned["input"].to_numpy()[1:-1] > 3.5)
    assert abs(aligned["input"].iloc[0]) < 0.2
    with pytest.raises(ks.BadInputError, match="No stretch along 'column' was called in line 4"):
        cohort.aligned(0, "column", 4)


def test_stretches_for_and_against_are_laid_apart():
    model, x, background = planted_linear()
    x[3:, 1, 3:8] -= 8.0  # half of the samples against
    evidence = quiet(model, x, background=background, background_labels=np.ones(60, int), target=0, sign="both")
    cohort = ks.cohort(evidence, draws=20)
    segments = cohort.segments[(cohort.segments["dim"] == "column") & (cohort.segments["line"] == 1)]
    assert dict(zip(segments["sign"], segments["count"], strict=True)) == {1: 3, -1: 3}
    for sign in (1, -1):
        aligned = cohort.aligned(0, "column", 1, sign=sign)
        assert set(aligned["count"]) == {3}
        assert np.all(sign * aligned["relevance"] > 3)
    assert set(cohort.aligned(0, "column", 1)["count"]) == {6}
    curves = classes._curves(cohort, 0)
    signs = {c.title.split(" around its ")[1]: np.sign(np.mean(c.mean)) for c in curves}
    assert signs == {"3 stretches along column": 1, "3 negative stretches along column": -1}
    with pytest.raises(ks.BadInputError, match="No stretch of sign -1 along 'column' was called in line 1"):
        ks.cohort(found(), draws=20).aligned(0, "column", 1, sign=-1)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (None, ["motif"]),
        ([0, 0, 0, 1, 1, 1], ["group 0", "group 1"]),
        ([0.5, 0.5, 0.5, 2, 2, 2], ["group 0.5", "group 2.0"]),
        (["ill"] * 3 + ["well"] * 3, ["ill", "well"]),
    ],
)
def test_only_classes_have_the_names_of_classes(labels, names):
    cohort = ks.cohort(found(class_names=("motif", "nothing")), labels, draws=20)
    assert [classes.group_name(cohort, label) for label in cohort.maps] == names
    assert classes.means(cohort).coords["sample"].tolist() == names


def test_a_target_that_is_no_class_has_its_text():
    model, x, background = planted_linear()
    evidence = quiet(model, x, background=background, references=background, target=ks.Neuron(model.layers[-1].name, 0))
    assert set(evidence.classes) == {-1}
    cohort = ks.cohort(evidence, draws=20)
    name = classes.group_name(cohort, -1)
    assert name == evidence.explanation.target_name(0)
    assert "-1" not in name


def test_clusters_are_said_at_the_level_of_the_evidence():
    cohort = ks.cohort(quiet_all(), draws=199)
    cohort.clusters["p"] = 0.2
    assert not any("at fixed places" in text for text in classes.said(cohort, 0))
    cohort.evidence.attrs["level"] = 0.3
    assert any("at fixed places" in text for text in classes.said(cohort, 0))


def test_only_clusters_at_the_level_are_listed():
    cohort = ks.cohort(quiet_all(), draws=199)
    assert len(classes._others(cohort, 0)[0].rows) == len(classes.outstanding(cohort, 0)) > 0
    assert repr(cohort).startswith("<Cohort: 12 samples in 1 groups; at level 0.05: ")
    cohort.clusters["p"] = 1.0
    assert classes._others(cohort, 0)[0].rows == ()
    assert not len(classes.outstanding(cohort, 0))
    assert repr(cohort).endswith(" 0 clusters>")


def test_empty_tables_have_their_columns():
    full, evidence = ks.cohort(found(), draws=20), found()
    empty = ks.cohort(replace(evidence, segments=evidence.segments.head(0)), list("aabbcc"), draws=20)
    for name in ("segments", "clusters", "differences"):
        assert len(getattr(empty, name)) == 0
    assert list(empty.segments.columns) == list(full.segments.columns)
    assert list(empty.clusters.columns) == list(empty.differences.columns) == list(full.clusters.columns)
    assert len(empty.differences["p"]) == 0
    assert classes.said(empty, "a")


def test_the_planted_cells_form_one_cluster():
    cohort = ks.cohort(quiet_all(), draws=199, ordered="column")
    best = cohort.clusters.iloc[0]
    assert best[["row_first", "row_last", "column_first", "column_last", "cells"]].tolist() == [1, 1, 3, 7, 5]
    assert best["p"] <= 0.05


def quiet_all() -> ks.Evidence:
    model, x, background = planted_linear()
    more = np.concatenate([x, x + 0.05 * np.random.default_rng(3).normal(size=x.shape).astype("float32")])
    return quiet(model, more, background=background, background_labels=np.ones(60, int), target=0)


def test_two_groups_explained_for_one_target_are_compared():
    model, x, background = planted_linear()
    both = np.concatenate([x, 0.1 * np.random.default_rng(9).normal(size=x.shape).astype("float32")])
    evidence = quiet(model, both, background=background, background_labels=np.ones(60, int), target=0)
    cohort = ks.cohort(evidence, ["ill"] * 6 + ["well"] * 6, draws=199)
    best = cohort.differences.iloc[0]
    assert best["label"] == "ill less well"
    assert best[["row_first", "column_first", "column_last"]].tolist() == [1, 3, 7]
    assert best["p"] == 1 / 200
    assert set(cohort.maps) == {"ill", "well"}


# Clusters -----------------------------------------------------------------------------


def test_t_values_are_scipys():
    from scipy import stats

    rng = np.random.default_rng(0)
    maps, first = rng.normal(size=(9, 3, 4)), np.arange(9) < 4
    np.testing.assert_allclose(clusters._t_of_mean(maps), stats.ttest_1samp(maps, 0).statistic)
    expected = stats.ttest_ind(maps[first], maps[~first]).statistic
    np.testing.assert_allclose(clusters._t_of_difference(maps, first), expected)


JOINED = [((True, True), 1), ((False, True), 2), ((True, False), 3), ((False, False), 5)]


@pytest.mark.parametrize(("ordered", "count"), JOINED)
def test_cells_join_along_ordered_axes_only(ordered, count):
    t = np.zeros((3, 4))
    t[0, :3] = 3.0
    t[1, 1:3] = 5.0
    labels, mass = clusters._clusters(t, ordered)
    assert labels.max() == len(mass) == count
    assert mass.sum() == pytest.approx(t.sum())


def test_signs_stay_apart():
    t = np.array([[3.0, 3.0, -4.0, -4.0]])
    labels, mass = clusters._clusters(t, (True, True))
    assert labels.tolist() == [[1, 1, 2, 2]]
    assert mass.tolist() == [6.0, -8.0]


def test_the_level_holds_on_noise():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(60):
        tested = clusters.differs_from_zero(rng.normal(size=(10, 4, 12)), (False, True), draws=99, seed=trial)
        hits += bool(len(tested.p)) and tested.p.min() <= 0.05
    assert hits <= 8  # 60 trials at .05: more than eight has a chance of 1 %


def test_intervals():
    low, high = wilson(np.array([0, 10]), 10)
    assert low[0] == pytest.approx(0, abs=1e-12)
    assert high[1] == pytest.approx(1, abs=1e-12)
    values = np.random.default_rng(2).normal(3, 1, (400, 2))
    at = bootstrap(values, 2000, 0)
    half = 1.96 * values.std(axis=0) / 20
    np.testing.assert_allclose(at, [values.mean(axis=0) - half, values.mean(axis=0) + half], atol=0.01)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1], {}, "one group for each of 6 samples"),
        (None, {"draws": 0}, "draws must be at least 1"),
        (None, {"ordered": ("clumn",)}, "Unknown ordered dim 'clumn'"),
        (None, {"ordered": "clumn"}, "Unknown ordered dim 'clumn'"),
        ([1.0, np.nan, 2, 2, 1, np.nan], {}, r"those of 2 are missing \(NaN or None\): 1, 5\. Give these"),
        (["a", None, "b", "b", "a", "a"], {}, r"those of 1 are missing \(NaN or None\): 1\. Give these"),
    ],
)
def test_bad_input(labels, options, message):
    with pytest.raises(ks.KerascopeError, match=message):
        ks.cohort(found(), labels, **options)


def test_maps_alone_are_no_evidence():
    with pytest.raises(ks.BadInputError, match=r"an Evidence; got Explanation\. Call ks\.evidence"):
        ks.cohort(found(check=False).explanation)
