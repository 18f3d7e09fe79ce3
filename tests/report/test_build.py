"""The report's data: what it shows are the explanation's own numbers."""

from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pytest

from kerascope.errors import BadInputError
from kerascope.report import build as module
from kerascope.report import report
from kerascope.report.build import build
from kerascope.report.data import jsonable
from kerascope.report.plots import frame
from kerascope.view.text import number, percent
from tests.report import cases

pytestmark = pytest.mark.backend_free

ALL = {
    "sensors": cases.sensors,
    "planted": lambda: cases.planted()[0],
    "photo": cases.photo,
    "line": cases.line,
    "table": cases.table,
    "targets": cases.several_targets,
    "inputs": cases.several_inputs,
    "hostile": cases.hostile,
}


@pytest.mark.parametrize("name", ALL)
def test_maps_and_profiles_are_those_of_the_explanation(name):
    e = ALL[name]()
    report = build([e])
    targets = e.explained.shape[1] if e.explained.ndim == 2 else 1
    assert len(report.views) == len(e) * targets * max(1, len(e.input_names))
    for view in report.views:
        key = report.panels[view.input].key or None
        n = report.samples[view.sample].index
        np.testing.assert_array_equal(view.cells.ravel(), e.matrix(n, view.target, input=key).ravel())
        np.testing.assert_allclose(view.row_sums, view.cells.sum(axis=1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(view.column_sums, view.cells.sum(axis=0), rtol=1e-4, atol=1e-6)
        assert view.limit == np.abs(view.cells).max()
        assert 0 < view.tight <= view.limit


@pytest.mark.parametrize("name", ["sensors", "planted", "photo", "targets"])
def test_ranked_lines_are_those_of_the_tables(name):
    e = ALL[name]()
    for view in build([e]).views:
        n, t = view.sample, view.target
        for ranked, table, sums in (
            (view.tables.rows, e[n].rows(), view.row_sums),
            (view.tables.columns, e[n].columns(), view.column_sums),
        ):
            mine = table[table["target"] == np.ravel(e.target[n])[t]]
            assert [r.index for r in ranked] == mine["index"].tolist()
            assert [r.sum for r in ranked] == mine["sum"].tolist()
            assert [r.share for r in ranked] == mine["share"].tolist()
            np.testing.assert_allclose([r.sum for r in ranked], sums[[r.index for r in ranked]], rtol=1e-4, atol=1e-6)


def test_lines_of_one_axis_are_its_features():
    e = cases.table()
    view = build([e]).view(sample=1)
    assert view.tables.rows == ()
    top = e[1].rows().iloc[0]
    assert view.tables.columns[0].name == top["name"]
    assert view.tables.columns[0].sum == top["sum"]


@pytest.mark.parametrize("name", ["sensors", "planted", "line", "targets"])
def test_stretches_are_those_of_the_tables(name):
    e = ALL[name]()
    report = build([e])
    for view in report.views:
        assert view.tables.stretches.keys() == set(report.stretch_dims[0])
        for dim, found in view.tables.stretches.items():
            table = e[view.sample].segments(dim)
            table = table[table["target"] == np.ravel(e.target[view.sample])[view.target]]
            assert len(found) == min(len(table), module.MOST_STRETCHES) > 0
            for mine, (_, theirs) in zip(found, table.iterrows(), strict=False):
                for field in ("line", "sign", "start", "stop", "score", "share"):
                    assert getattr(mine, field) == theirs[field], field


def test_stretches_have_real_coordinates():
    e = cases.sensors()
    best = build([e]).view().tables.stretches["time"][0]
    assert best.name == cases.SENSORS[best.line]
    assert best.span == f"{best.start / 10:g} to {(best.stop - 1) / 10:g}"
    assert best.signed == best.sign * best.score


def test_the_answer_names_the_planted_row_and_stretch():
    e, truth = cases.planted()
    for n, view in enumerate(build([e], truth=truth).views):
        row = int(np.nonzero(truth[n])[0][0])
        best = view.tables.rows[0]
        assert best.index == row
        assert view.answer.startswith(f"Most positive by row: {row} (+")
        assert f"strongest stretch: row {row}, column " in view.answer
        assert " of absolute relevance)" in view.answer


def test_the_answer_is_about_named_lines():
    view = build([cases.sensors()]).view()
    assert view.headline.startswith("Sample 0: class standing, logit ")
    assert view.answer.startswith("Most positive by sensor: gyro_x (+")
    assert "; most negative: " in view.answer
    assert "strongest stretch: gyro_x, time " in view.answer


def test_zero_and_negative_maps_have_an_answer():
    e = cases.sensors(1)
    zero = dataclasses.replace(e, values=np.zeros_like(e.values))
    assert build([zero]).view().answer == "The map is zero everywhere."
    negative = dataclasses.replace(e, values=-np.abs(e.values))
    assert build([negative]).view().answer.startswith("No sensor is positive; most negative: ")


def test_a_map_with_missing_numbers_is_shown_without_stretches():
    e = cases.sensors(1)
    values = e.values.copy()
    values[0, 3, 2] = np.nan
    view = build([dataclasses.replace(e, values=values)]).view()
    assert view.tables.stretches == {"time": (), "sensor": ()}
    assert np.isfinite(view.limit)


def test_the_truth_is_outlined():
    e, truth = cases.planted()
    for n, sample in enumerate(build([e], truth=truth).samples):
        rows, columns = np.nonzero(truth[n])
        border = np.array(sample.inputs[0].outline)
        assert border[:, ::2].min() == rows.min()
        assert border[:, ::2].max() == rows.max() + 1
        assert border[:, 1::2].min() == columns.min()
        assert border[:, 1::2].max() == columns.max() + 1
    again = build([e], truth=truth[..., None]).samples
    assert [s.inputs[0].outline for s in again] == [s.inputs[0].outline for s in build([e], truth=truth).samples]
    assert all(not s.inputs[0].outline for s in build([e]).samples)


@pytest.mark.parametrize("bad", [np.zeros((3, 20)), np.zeros((2, 20, 64)), np.zeros((3, 20, 64))])
def test_truth_of_another_shape_or_kind_is_refused(bad):
    mask = bad.astype(bool) if bad.shape != (3, 20, 64) else bad
    with pytest.raises(BadInputError, match="truth must"):
        build([cases.planted()[0]], truth=mask)


def test_pictures_keep_their_colours():
    e = cases.photo()
    report = build([e])
    assert report.panels[0].kind == "picture"
    np.testing.assert_allclose(report.samples[1].inputs[0].photo, e.inputs[1] * 255, atol=0.51)
    assert "Relevance is summed over the 3 channels." in report.notes
    assert "the strongest pixel is at row " in report.view().answer


@pytest.mark.parametrize("kind", ["means", "standard"])
def test_pictures_that_were_prepared_are_turned_back(kind):
    report = build([cases.prepared(kind)])
    for sample, inputs in zip(report.samples, cases.photo().inputs, strict=True):
        np.testing.assert_array_equal(sample.inputs[0].photo, np.rint(inputs * 255.0))
    assert report.notes[0].startswith("To show the picture, the ImageNet ")
    assert report.view(sample=1).headline.startswith("Sample 1: class dog, logit ")
    assert report.view(sample=1).target_name == "dog"


def test_samples_over_the_limit_are_left_out_and_it_is_said(monkeypatch):
    report = build([cases.sensors(60)])
    assert [s.index for s in report.samples] == list(range(50))
    assert report.notes[0].startswith("Shown: the first 50 of 60 samples: 10 are left out")
    chosen = build([cases.sensors(60)], samples=[59, 3, -2])
    assert [s.index for s in chosen.samples] == [59, 3, 58]
    assert chosen.view(sample=0).headline.startswith("Sample 59: ")
    assert not any("left out" in note for note in chosen.notes)
    monkeypatch.setattr(module, "MOST_CELLS", 5 * 2 * 600)
    assert len(build([cases.sensors(9)]).samples) == 5
    assert len(build([cases.sensors(9)], samples=range(8)).samples) == 5
    with pytest.raises(BadInputError, match="samples=60 is out of range: there are 60 samples, 0 to 59"):
        build([cases.sensors(60)], samples=[60])
    with pytest.raises(BadInputError, match="at least one sample"):
        build([cases.sensors(2)], samples=[])


def test_targets_over_the_limit_are_left_out_and_it_is_said(monkeypatch):
    monkeypatch.setattr(module, "MOST_TARGETS", 2)
    report = build([cases.several_targets()])
    assert report.methods[0].targets == 2
    assert "integrated_gradients: the first 2 targets are shown, 1 are left out." in report.notes


def test_one_report_shows_one_set_of_inputs():
    e = cases.sensors(3)
    bare = dataclasses.replace(e, coords={})
    assert build([e, dataclasses.replace(e, values=-e.values)]).notes == (
        "The matrix is drawn turned: time from left to right.",
    )
    attrs = cases.attrs(model={"name": "other", "fingerprint": "0"})
    assert build([e, dataclasses.replace(e, attrs=attrs)]).notes[0].startswith("The explanations are of different")
    with pytest.raises(BadInputError, match="explanation 2 explains other values than the first"):
        build([e, dataclasses.replace(e, inputs=e.inputs + 1)])
    with pytest.raises(BadInputError, match="has 2 samples, the first has 3"):
        build([e, cases.sensors(2)])
    with pytest.raises(BadInputError, match=r"shape \(3, 90, 6\), the first of shape \(3, 100, 6\)"):
        build([bare, dataclasses.replace(bare, values=e.values[:, :90], inputs=e.inputs[:, :90])])
    with pytest.raises(BadInputError, match="has dims"):
        build([e, dataclasses.replace(e, dims=("t", "s"), coords={})])
    with pytest.raises(BadInputError, match="has inputs"):
        build([e, cases.several_inputs()])
    with pytest.raises(BadInputError, match="at least one explanation"):
        build([])


def test_methods_of_one_name_are_told_apart():
    e = cases.sensors(1)
    attrs = [cases.attrs(), cases.attrs()]
    attrs[1]["method"]["options"] = {"steps": 8}
    both = [dataclasses.replace(e, attrs=a) for a in attrs]
    assert module.method_labels(both) == [
        "integrated_gradients (steps = 64)",
        "integrated_gradients (steps = 8)",
    ]
    assert module.method_labels([e, e]) == ["integrated_gradients (no. 1)", "integrated_gradients (no. 2)"]
    other = dataclasses.replace(e, attrs=cases.attrs("lrp"))
    assert module.method_labels([e, other]) == ["integrated_gradients", "lrp"]


def test_everything_is_json_and_arrays_survive():
    report = build([cases.sensors(2)])
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    packed = plain["views"][1]["cells"]
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=packed["dtype"]).reshape(packed["shape"])
    np.testing.assert_array_equal(raw, report.views[1].cells)
    assert plain["views"][0]["headline"] == report.view().headline
    assert jsonable({"a": (np.float32(1.5), float("nan"))}) == {"a": [1.5, None]}


def test_what_is_no_explanation_is_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"got dict\. Evidence and cohorts write their own"):
        report({"not": "one"}, tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()
    assert report((e for e in [cases.sensors(2)]), tmp_path / "any.html").exists()  # whatever can be gone through


def test_the_samples_chosen_are_those_of_the_report(tmp_path):
    path = cases.sensors(4).report(tmp_path / "some.html", samples=[2])
    assert "Sample 2" in path.read_text("utf-8")
    assert "Sample 1" not in path.read_text("utf-8")


def test_a_map_that_is_the_same_for_every_channel_is_shown_once():
    e = cases.cam()
    report = build([e])
    for view, raw in zip(report.views, e.layer_map, strict=True):
        np.testing.assert_allclose(view.cells, np.kron(raw, np.ones((8, 8))), rtol=1e-6)
        assert view.limit == pytest.approx(np.abs(raw).max())
        table = e[view.sample].rows()
        assert [r.index for r in view.tables.rows] == table["index"].tolist()
        np.testing.assert_allclose([r.sum for r in view.tables.rows], table["sum"] / 3, rtol=1e-6)
        peak = raw.ravel()[np.abs(raw).argmax()]
        strongest = f"({number(peak, signed=True)}, the same for every channel)"
        assert strongest in view.answer
    assert "Relevance is the same for every channel, and shown once." in report.notes
    both = build([e, cases.photo((32, 32))]).notes
    assert any("summed over the 3 channels (that by cam is the same for every channel" in note for note in both)


def test_no_sum_is_told_where_none_is_promised():
    view = build([cases.cam()]).view()
    assert "Sum of the map" not in {fact.term for fact in view.facts}
    assert "sums to" not in view.answer
    positive = view.cells[view.cells > 0].sum() / np.abs(view.cells).sum()
    assert view.answer.endswith(f"; {percent(positive)} of absolute relevance is positive.")
    assert "positive relevance sums to" in build([cases.photo()]).view().answer.lower()


def test_photographs_get_their_own_proportions():
    report = build([cases.resized(cases.photo((64, 64)), (300, 450), (640, 64))])
    assert [s.inputs[0].pixel for s in report.samples] == pytest.approx([300 / 450, 10.0])
    facts = {fact.term: fact.text for fact in report.view().facts}
    assert facts["Photograph"].startswith("450 pixels wide, 300 high; ")
    for sample, ratio in zip(report.samples, (1.5, 0.1), strict=True):
        width, height = frame(report.panels[0], sample.inputs[0].pixel)
        assert width / height == pytest.approx(ratio, rel=0.02)
    assert build([cases.photo()]).samples[0].inputs[0].pixel == 1.0
