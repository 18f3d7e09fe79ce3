"""What is decided before drawing: axes, orientation, pictures, stretches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kerascope.view.panel import count_drawn, counted_once, make_axis, make_panel, panel_of, repeats
from kerascope.view.picture import KINDS, as_picture, known_kind, picture_kind
from tests.report import cases
from tests.report.cases import photo, prepared

pytestmark = pytest.mark.backend_free


def test_numbers_at_equal_distances_are_positions():
    axis = make_axis("time", 5, np.arange(5, dtype=np.float32) * 0.1 + 2)
    assert axis.real
    assert axis.start == pytest.approx(2)
    assert axis.step == pytest.approx(0.1)
    assert axis.edge(0) == pytest.approx(1.95)
    assert axis.edge(5) == pytest.approx(2.45)
    assert axis.names == ("2", "2.1", "2.2", "2.3", "2.4")
    assert axis.span(1, 3) == "2.1 to 2.2"
    assert axis.span(1, 2) == "2.1"


@pytest.mark.parametrize(
    ("labels", "labelled"),
    [
        ([1.0, 2.0, 4.0], False),
        ([3.0, 2.0, 1.0], False),
        ([1.0, np.nan, 3.0], False),
        (np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="M8[D]"), False),
        (["a", "b", "c"], True),
        ([True, False, True], True),
        (None, False),
    ],
)
def test_other_labels_stand_at_their_indices(labels, labelled):
    axis = make_axis("d", 3, None if labels is None else np.asarray(labels))
    assert not axis.real
    assert axis.labelled == labelled
    assert [axis.at(i) for i in range(3)] == [0, 1, 2]
    assert axis.size == 3
    if labels is None:
        assert axis.names == ("0", "1", "2")


def test_dates_and_titles():
    axis = make_axis("day", 2, np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"))
    assert axis.names == ("2020-01-01", "2020-01-02")
    assert make_axis("row", 3).title(2) == "row 2"
    assert make_axis("gene", 2, np.array(["TP53", "MYC"])).title(1) == "MYC"


def test_many_time_steps_of_few_sensors_run_across():
    x = np.random.default_rng(0).normal(size=(2, 100, 6))
    turned = make_panel(x, ("time", "sensor"), {"sensor": np.array(list("abcdef"))})
    assert not turned.upright
    assert (turned.down.dim, turned.across.dim) == ("sensor", "time")
    assert turned.drawn(x[0]).shape == (6, 100)
    assert make_panel(x, ("row", "column")).upright
    assert make_panel(x.swapaxes(1, 2), ("sensor", "time")).upright


def test_cells_are_the_mean_over_channels_wherever_they_stand():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    last = make_panel(x, ("row", "column", "channel"))
    np.testing.assert_array_equal(last.cells(x[0]), x[0].mean(axis=2))
    first = make_panel(x, ("channel", "row", "column"))
    np.testing.assert_array_equal(first.cells(x[0]), x[0].mean(axis=0))
    one = make_panel(x[:, 0, 0], ("feature",))
    assert one.kind == "line"
    np.testing.assert_array_equal(one.cells(x[0, 0, 0]), x[0, 0, :1])


def test_stretches_run_along_numbers_not_along_names():
    x = np.zeros((1, 4, 9))
    named = {"gene": np.array(list("abcd"))}
    assert make_panel(x, ("gene", "time"), named).stretch_dims() == ("time", "gene")
    assert make_panel(x, ("gene", "time"), named).stretch_dims(["time"]) == ("time",)
    assert make_panel(x, ("row", "column")).stretch_dims() == ("column", "row")
    assert make_panel(x[:, 0], ("nu",)).stretch_dims() == ("nu",)
    assert make_panel(x[:, :, 0], ("gene",), named).stretch_dims() == ()
    assert make_panel(x[:, :, 0], ("gene",), named).stretch_dims(["gene"]) == ("gene",)
    assert count_drawn([5.0, 1.0, 0.5, 0.4]) == 3
    assert count_drawn([]) == 0


def test_pictures_are_told_from_matrices():
    x = photo().inputs
    dims = ("row", "column", "channel")
    assert make_panel(x, dims).kind == "picture"
    assert make_panel(x, dims).stretch_dims() == ()
    assert make_panel(np.moveaxis(x, -1, 1), ("channel", "row", "column")).kind == "picture"
    assert make_panel(x, ("time", "sensor", "channel")).kind == "matrix"
    assert make_panel(np.random.default_rng(0).random(x.shape), dims).kind == "matrix"
    assert make_panel(x[:, :8, :8], dims).kind == "matrix"
    assert make_panel(x[..., 0], dims[:2]).kind == "matrix"


@pytest.mark.parametrize(
    ("kind", "forward"),
    [
        ("0..1", lambda x: x),
        ("0..255", lambda x: x * 255),
        ("-1..1", lambda x: 2 * x - 1),
        ("means", lambda x: x[..., ::-1] * 255 - np.array([103.939, 116.779, 123.68])),
    ],
)
def test_a_picture_survives_its_preprocessing(kind, forward):
    original = photo().inputs.astype(np.float64)
    original[:, 0, 0], original[:, 0, 1] = 0.0, 1.0
    x = forward(original)
    assert picture_kind(x) == kind
    np.testing.assert_allclose(as_picture(x[0], kind), original[0] * 255, atol=0.51)


def test_a_picture_in_a_range_of_its_own_is_stretched():
    x = photo().inputs * 7.0 - 3.0
    assert picture_kind(x) == "stretch"
    shown = as_picture(x[0], "stretch")
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_grey_picture_has_three_equal_colours():
    x = photo((48, 48), channels=1).inputs
    shown = make_panel(x, ("row", "column", "channel")).photo(x[0])
    assert shown.shape == (48, 48, 3)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


def test_channels_first_pictures_come_out_the_same():
    x = photo().inputs
    last = make_panel(x, ("row", "column", "channel")).photo(x[1])
    first = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(make_panel(first, ("channel", "row", "column")).photo(first[1]), last)


FORWARD = {
    "0..255": lambda x: x,
    "0..1": lambda x: x / 255.0,
    "-1..1": lambda x: x / 127.5 - 1.0,
    "means": lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    "standard": lambda x: (x / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_says_how_it_was_prepared_is_turned_back_exactly(kind, rng):
    pixels = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)  # noise, and small: nobody would guess a picture
    x = FORWARD[kind](pixels.astype(np.float32)).astype(np.float32)
    panel = make_panel(x, ("y", "x", "channel"), picture=kind)
    assert panel.kind == "picture"
    np.testing.assert_array_equal(panel.photo(x[1]), pixels[1])
    first = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(make_panel(first, ("channel", "y", "x"), picture=kind).photo(first[1]), pixels[1])
    if kind in ("means", "standard"):  # in colour only
        assert make_panel(x[..., :1], ("y", "x", "channel"), picture=kind).kind == "matrix"
        return
    for grey in (x[..., :1], x[..., 0]):
        panel = make_panel(grey, ("y", "x", "channel")[: grey.ndim - 1], picture=kind)
        np.testing.assert_array_equal(panel.photo(grey[0]), np.repeat(pixels[0, ..., :1], 3, axis=-1))


def test_what_says_nothing_known_is_looked_at():
    e = prepared()
    assert (known_kind(e.attrs), panel_of(e).picture) == ("standard", "standard")
    for said in (None, "vgg16", {"kind": "later"}, {}):
        assert known_kind({"preprocess": said}) is None
    assert known_kind({}) is None
    other = np.zeros((1, 6, 6, 4), np.float32)
    assert make_panel(other, ("row", "column", "channel"), picture="0..255").kind == "matrix"
    assert make_panel(other[:, 0, 0], ("feature",), picture="0..255").kind == "line"


def test_only_maps_laid_over_all_channels_repeat_themselves():
    e = cases.cam()
    assert (repeats(e), panel_of(e).depth) == (3, 3)
    np.testing.assert_allclose(counted_once(e).matrix(0), e.values[0, ..., 0], rtol=1e-6)
    own = e.values * np.array([1.0, 1.0, 2.0], "float32")
    for other in (
        dataclasses.replace(e, values=own),
        dataclasses.replace(e, layer_map=None),
        cases.photo(),
        cases.sensors(),
    ):
        assert repeats(other) == 1
        assert counted_once(other) is other
    targets = dataclasses.replace(
        e,
        values=np.stack([e.values, -e.values], axis=1),
        explained=np.stack([e.explained] * 2, axis=1),
        target=np.array([[0, 1]] * 2),
        layer_map=np.stack([e.layer_map] * 2, axis=1),
        completeness_gap=None,
    )
    assert repeats(targets) == 3
