"""Figures: what is drawn, read back from Matplotlib's artists."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from kerascope.errors import BadInputError
from kerascope.view.figure import plot
from kerascope.view.heatmap import pale
from tests.report import cases

pytestmark = pytest.mark.backend_free


def axes_by_title(figure, title):
    return next(axes for axes in figure.axes if axes.get_title() == title)


def widths(axes):
    return np.array([bar.get_width() for bar in axes.patches])


def test_a_matrix_has_shared_axes_symmetric_colours_and_profiles():
    e = cases.sensors(2)
    figure = plot(e, 1)
    left, right = axes_by_title(figure, "Input"), axes_by_title(figure, "Relevance")
    assert right.get_shared_x_axes().joined(left, right)
    assert right.get_shared_y_axes().joined(left, right)
    image = right.images[0]
    np.testing.assert_array_equal(image.get_array(), e.matrix(1).T)  # time runs across
    low, high = image.get_clim()
    assert low == -high == pytest.approx(-np.abs(e.values[1]).max())
    assert image.cmap(0.5)[:3] == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(left.images[0].get_array(), e.inputs[1].T)
    assert image.get_extent() == pytest.approx((-0.05, 9.95, 5.5, -0.5))
    side = axes_by_title(figure, "Sum")
    np.testing.assert_allclose(widths(side), e.values[1].sum(axis=0), rtol=1e-5)
    below = next(a for a in figure.axes if a.get_ylabel() == "Sum")
    heights = np.array([bar.get_height() for bar in below.patches])
    np.testing.assert_allclose(heights, e.values[1].sum(axis=1), rtol=1e-4, atol=1e-6)
    assert [t.get_text() for t in left.get_yticklabels()] == list(cases.SENSORS)
    assert below.get_xlabel() == "time"


def test_the_title_names_class_logit_and_method():
    figure = plot(cases.sensors(3), -1)
    title = figure.get_suptitle()
    assert title.startswith("Sample 2: class walking, logit ")
    assert title.endswith("\nintegrated_gradients")


def test_stretches_are_boxes_where_the_table_has_them():
    e = cases.sensors(2)
    best = e[1].segments("time").iloc[0]
    right = axes_by_title(plot(e, 1), "Relevance")
    boxes = [p.get_bbox().bounds for p in right.patches]
    expected = (best["start"] * 0.1 - 0.05, best["line"] - 0.5, best["length"] * 0.1, 1.0)
    assert boxes[0] == pytest.approx(expected)
    assert not axes_by_title(plot(e, 1, segments=False), "Relevance").patches


def test_the_truth_is_dashed():
    e, truth = cases.planted()
    figure = plot(e, 1, truth=truth)
    lines = [c for c in axes_by_title(figure, "Relevance").collections if isinstance(c, LineCollection)]
    points = np.concatenate(lines[-1].get_segments())
    rows, columns = np.nonzero(truth[1])
    assert points[:, 0].min() == columns.min() - 0.5
    assert points[:, 0].max() == columns.max() + 0.5
    assert points[:, 1].min() == rows.min() - 0.5
    assert lines[-1].get_linestyles()[0][1] is not None
    assert len(plot(e, 1, truth=truth[1]).axes) == len(figure.axes)
    with pytest.raises(BadInputError, match=r"truth must have shape \(3, 20, 64\)"):
        plot(e, 1, truth=truth[:, :5])


def test_a_picture_is_shown_and_lies_under_the_map():
    e = cases.photo()
    figure = plot(e, 1)
    left, right = axes_by_title(figure, "Input"), axes_by_title(figure, "Relevance")
    np.testing.assert_allclose(left.images[0].get_array(), e.inputs[1] * 255, atol=0.51)
    assert len(right.images) == 2
    assert right.images[1].cmap(0.5)[3] == 0.0
    box = right.get_window_extent()
    assert box.width / box.height == pytest.approx(128 / 96, rel=1e-2)


def test_the_map_lies_over_the_photograph_that_was_prepared():
    for kind in ("means", "standard"):
        e = cases.prepared(kind)
        figure = plot(e, 1)
        left, right = axes_by_title(figure, "Input"), axes_by_title(figure, "Relevance")
        pixels = np.rint(cases.photo().inputs[1] * 255.0).astype(np.uint8)
        np.testing.assert_array_equal(left.images[0].get_array(), pixels)
        np.testing.assert_array_equal(right.images[0].get_array(), pale(pixels))
        over = right.images[1]
        np.testing.assert_array_equal(over.get_array(), e.matrix(1))
        alphas = [over.cmap(x)[3] for x in (0.0, 0.25, 0.5, 1.0)]
        assert alphas == pytest.approx([0.75, 0.75 * 0.5**0.5, 0.0, 0.75], abs=0.01)  # sqrt(|map| / largest)
        assert over.cmap(0.0)[2] > over.cmap(0.0)[0]  # blue against, red for
        assert over.cmap(1.0)[0] > over.cmap(1.0)[2]
        assert figure.get_suptitle().startswith("Sample 1: class dog, logit ")


def test_a_line_is_drawn_over_its_relevance():
    e = cases.line()
    figure = plot(e, 1)
    top, bottom = figure.axes[:2]
    np.testing.assert_allclose(top.lines[0].get_ydata(), e.inputs[1])
    np.testing.assert_allclose(top.lines[0].get_xdata(), e.coords["wavenumber"])
    np.testing.assert_array_equal(top.images[0].get_array()[0], e.values[1])
    heights = [bar.get_height() for bar in bottom.patches[: e.values.shape[1]]]
    np.testing.assert_allclose(heights, e.values[1])


@pytest.mark.parametrize(
    "make",
    [cases.table, cases.hostile, cases.several_inputs, lambda: cases.photo((48, 48), channels=1)],
    ids=["table", "hostile", "inputs", "grey"],
)
def test_others_can_be_drawn_and_saved(make, tmp_path):
    figure = plot(make())
    figure.savefig(tmp_path / "figure.png")
    figure.savefig(tmp_path / "figure.pdf")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_one_of_several_inputs_and_targets():
    e = cases.several_inputs()
    assert plot(e, 0, input="person").axes[1].get_xlabel() == "feature"
    many = cases.several_targets()
    figure = plot(many, 1, target=2)
    np.testing.assert_array_equal(axes_by_title(figure, "Relevance").images[0].get_array(), many.values[1, 2].T)
    assert "class walking" in figure.get_suptitle()
    with pytest.raises(BadInputError, match="3 targets"):
        plot(many, 1, target=3)
    with pytest.raises(BadInputError, match="3 samples"):
        plot(many, 7)


@pytest.mark.parametrize("make", [cases.sensors, cases.line])
def test_the_map_alone_on_axes_of_the_user(make):
    e, mine = make(), Figure(figsize=(4, 3))
    axes = mine.add_subplot()
    assert plot(e, 1, ax=axes) is mine
    assert len(mine.axes) == 1
    assert axes.get_title().startswith("Sample 1: ")


def test_no_global_state_is_touched():
    before = "matplotlib.pyplot" in sys.modules
    figure = plot(cases.sensors(1), figsize=(8, 4))
    assert figure.get_size_inches().tolist() == [8, 4]
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_map_that_is_the_same_for_every_channel_is_drawn_once():
    e = cases.cam()
    drawn = axes_by_title(plot(e, 1), "Relevance").images[-1]
    np.testing.assert_allclose(drawn.get_array(), np.kron(e.layer_map[1], np.ones((8, 8))), rtol=1e-6)
    assert drawn.get_clim()[1] == pytest.approx(np.abs(e.layer_map[1]).max())


def test_a_photograph_has_its_own_proportions():
    e = cases.resized(cases.photo((64, 64)), (300, 450), (450, 300))
    for i, ratio in enumerate((1.5, 1 / 1.5)):
        figure = plot(e, i)
        figure.canvas.draw()
        for title in ("Input", "Relevance"):
            box = axes_by_title(figure, title).get_window_extent()
            assert box.width / box.height == pytest.approx(ratio, rel=0.01)
