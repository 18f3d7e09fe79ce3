"""The reports of evidence and of cohorts show the numbers of the tables, and say what was tested."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import kerascope as ks
from kerascope.evidence import classes, pages, sentences, words
from kerascope.report.build import build
from kerascope.view.text import number
from tests.unit.evidence.test_evidence import contrast, grouped, linear, samples

NAMES = ("<b>walk</b>", "run", "rest")


@pytest.fixture(scope="module")
def found():
    model, weights = linear()
    x, background = samples(9, 1), samples(90, 2)
    for i in range(6):
        x[i, 2, 3:7] = 5 * np.sign(contrast(weights, i % 3)[2, 3:7])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        return ks.evidence(
            model,
            x,
            background=background,
            background_labels=np.arange(90) % 3,
            target=np.arange(9) % 3,
            dims=("sensor", "time"),
            coords={"sensor": list("abcde"), "time": np.arange(12) / 10},
            class_names=NAMES,
            ordered=("time",),
            level=0.4,
            sign="both",
        )


def shown(found, monkeypatch, tmp_path, write):
    """Return the data of a report that is written."""
    caught = []
    monkeypatch.setattr(
        sys.modules[write.__module__], "build", lambda *a, **k: caught.append(build(*a, **k)) or caught[0]
    )
    path = write(found, tmp_path / "report.html")
    return caught[0], path.read_text("utf-8")


def test_every_sample_has_its_findings_and_tables(found, monkeypatch, tmp_path):
    report, text = shown(found, monkeypatch, tmp_path, pages.write_report)
    assert len(report.views) == len(found)
    for n, view in enumerate(report.views):
        assert view.findings == tuple(sentences.of_sample(found, n)) or view.findings == (pages.NOTHING,)
        assert view.target_name == NAMES[n % 3]
        for ranked, table in ((view.tables.rows, found.rows), (view.tables.columns, found.columns)):
            mine = table[table["sample"] == n]
            assert [(r.index, r.sum, r.strong) for r in ranked] == list(
                zip(mine["index"], mine["sum"], mine["called"], strict=True)
            )
            for r, drop, p in zip(ranked, mine["drop"], mine["p"], strict=True):
                assert r.more[0].startswith(number(drop)) if np.isfinite(drop) else r.more[0] == ""
                assert r.more[1].removeprefix("≤ ") == f"{p:.2g}"
        mine = found.segments[found.segments["sample"] == n]
        drawn = view.tables.stretches["time"]
        assert [(s.line, s.start, s.stop, s.sign) for s in drawn] == list(
            zip(mine["line"], mine["start"], mine["stop"], mine["sign"], strict=True)
        )
        assert view.tables.left_out("time") == 0
    assert any(len(view.findings) > 1 for view in report.views)
    assert "level 0.4, both evidence" in text
    assert "60 for &lt;b&gt;walk&lt;/b&gt;" in text
    assert "<b>walk" not in text


def test_bounds_of_p_are_written_as_bounds(found, monkeypatch, tmp_path):
    report, _ = shown(found, monkeypatch, tmp_path, pages.write_report)
    texts = {r.more[1]: p for v in report.views for r, p in _with_p(found, v)}
    for text, p in texts.items():
        assert text.startswith("≤ ") == np.isclose(p, 1 / 61)
    assert any(text.startswith("≤ ") for text in texts)


def _with_p(found, view):
    mine = found.rows[found.rows["sample"] == view.sample]
    return zip(view.tables.rows, mine["p"], strict=True)


def test_a_report_is_not_overwritten_unasked(found, tmp_path):
    path = found.report(tmp_path / "one.html", samples=[1], title="Mine")
    with pytest.raises(ks.OutputExistsError):
        found.report(path)
    with pytest.raises(ks.OutputExistsError):
        ks.cohort(found, draws=9).report(path)
    assert "Mine" in found.report(path, overwrite=True, samples=[1], title="Mine").read_text("utf-8")


def test_a_class_has_a_page_of_means(found, monkeypatch, tmp_path):
    cohort = ks.cohort(found, draws=19)
    report, text = shown(cohort, monkeypatch, tmp_path, classes.write_report)
    assert [sample.label for sample in report.samples] == list(NAMES)
    for c, view in enumerate(report.views):
        np.testing.assert_allclose(view.cells, found.explanation.values[c::3].mean(axis=0)[..., 0], atol=1e-5)
        assert view.headline == f"{NAMES[c]}: 3 samples"
        lines = cohort.lines[(cohort.lines["label"] == c) & (cohort.lines["dim"] == "sensor")]
        assert [r.sum for r in view.tables.rows] == lines["sum"].tolist()
        for r, called, low in zip(view.tables.rows, lines["called"], lines["share_low"], strict=True):
            assert r.more[0].startswith(f"{called} of 3 (")
            assert r.strong == (called >= 2)
            mine = found.rows[(found.rows["index"] == r.index) & (found.rows["sample"] % 3 == c)]
            assert r.share == pytest.approx(mine["share"].mean())
            assert low <= called / 3 + 1e-12
        segments = cohort.segments[cohort.segments["label"] == c]
        assert len(view.tables.stretches["time"]) == len(segments)
        single = found.segments[found.segments["sample"] % 3 == c]
        for s in view.tables.stretches["time"]:
            mine = single[(single["line"] == s.line) & (single["sign"] == s.sign)]
            assert s.share == pytest.approx(mine["share"].mean())
        assert view.tables.others[0].title.startswith("Cells that stand out")
        for curve in view.tables.curves:
            assert len(curve.at) == len(curve.mean) == len(curve.spread)
    assert any(view.tables.curves for view in report.views)
    assert "<b>walk" not in text


def test_the_gap_of_means_is_the_mean_gap(found):
    means = classes.means(ks.cohort(found, draws=9))
    for c in range(3):
        assert means.completeness_gap[c] == pytest.approx(found.explanation.completeness_gap[c::3].mean(), abs=1e-7)
        assert means.explained[c] == pytest.approx(found.explanation.explained[c::3].mean(), rel=1e-5)


def test_the_stretch_of_a_group_lies_in_all_its_lines(monkeypatch, tmp_path):
    found = grouped([7, 2, 9, 2, 7], ordered=("column",))
    for write, of in ((pages.write_report, found), (classes.write_report, ks.cohort(found, draws=20))):
        report, _ = shown(of, monkeypatch, tmp_path / write.__module__, write)
        for view in report.views:
            (stretch,) = view.tables.stretches["column"]
            assert (stretch.line, stretch.lines) == (1, (1, 3))


def test_groups_over_the_limit_are_left_out_and_it_is_said(found, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[build.__module__], "MOST_SAMPLES", 2)
    numbered = {"labels": np.arange(len(found)) % 3}
    for unit, what, options in (("class", "classes", {}), ("group", "groups", numbered)):
        cohort = ks.cohort(found, draws=9, **options)
        report, text = shown(cohort, monkeypatch, tmp_path / unit, classes.write_report)
        assert f"Shown: the first 2 of 3 {what}: 1 are left out to keep the file small." in report.notes
        assert f"<label>{unit.capitalize()}" in text
        assert f'aria-label="Next {unit}"' in text


def test_arrays_are_read_once_for_all_means(found, monkeypatch):
    cohort, reads = ks.cohort(found, draws=9), []

    class Stored:
        def __array__(self, dtype=None, copy=None):
            reads.append(1)
            return found.explanation.inputs

    monkeypatch.setattr(classes, "each", lambda function, _: function(Stored()))
    monkeypatch.setattr(classes, "replace", lambda e, **fields: fields)
    assert len(classes.means(cohort)["inputs"]) == 3
    assert len(reads) <= 6  # one of each array


def test_how_pictures_were_read_is_a_fact(found):
    import dataclasses

    text = "5 x 12 pixels, grey; values scaled to 0 to 1"
    attrs = {**found.explanation.attrs, "preprocess": {"name": "0-1", "kind": "0..1", "text": text}}
    report = build([dataclasses.replace(found.explanation, attrs=attrs)])
    assert ("Pictures", text) in [(fact.term, fact.text) for fact in report.methods[0].facts]


@pytest.mark.parametrize("grouped", [True, False])
def test_groups_are_advised_where_there_are_none(grouped):
    (text,) = words.of_disagreement({"sensor": 0.1, "time": None}, grouped=grouped)
    assert ("groups='correlated'" in text) != grouped
    assert "Correlated lines" in text


def test_samples_with_one_axis(tmp_path):
    import keras

    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(2)])
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        found = ks.evidence(
            model,
            rng.normal(size=(4, 8)),
            background=rng.normal(size=(60, 8)),
            background_labels=np.arange(60) % 2,
            target=0,
            level=0.5,
        )
    assert found.report(tmp_path / "line.html").exists()
    assert ks.cohort(found, draws=9).report(tmp_path / "classes.html").exists()
