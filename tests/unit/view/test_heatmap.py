"""Colours: symmetric, white at zero, nothing hidden."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from kerascope.errors import BadInputError, UnknownNameError
from kerascope.view import heatmap

pytestmark = pytest.mark.backend_free

MAPS = arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6))


@pytest.mark.parametrize("name", ["relevance", "signed"])
@pytest.mark.parametrize("size", [3, 5, 255, 257])
def test_the_middle_of_a_diverging_palette_is_white(name, size):
    colours = heatmap.palette(name, size)
    assert colours.shape == (size, 3)
    assert colours.dtype == np.uint8
    assert colours[size // 2].tolist() == [255, 255, 255]
    assert (np.delete(colours, size // 2, axis=0).min(axis=1) < 255).all()


def test_relevance_is_blue_below_zero_and_red_above():
    low, high = heatmap.palette()[40].astype(int), heatmap.palette()[-40].astype(int)
    assert low[2] > low[0] + 50
    assert high[0] > high[2] + 50


def test_unknown_palettes_and_even_sizes_are_refused():
    with pytest.raises(UnknownNameError, match="relevance"):
        heatmap.palette("relevence")
    with pytest.raises(BadInputError, match="odd number of colours, at least 3; got 4"):
        heatmap.palette(size=4)


@given(MAPS)
def test_colours_of_a_map_and_its_negative_are_mirrored(values):
    limit = heatmap.symmetric_limit(values)
    assert limit == heatmap.symmetric_limit(-values) > 0
    unit, mirrored = heatmap.normalise(values, limit), heatmap.normalise(-values, limit)
    np.testing.assert_array_equal(unit, -mirrored)
    assert np.abs(unit).max() <= 1


@given(MAPS)
def test_zero_is_white_and_the_largest_cell_has_an_end_colour(values):
    colours = heatmap.colour(values)
    assert (colours[values == 0] == 255).all()
    if np.abs(values).max() > 0:
        i = np.unravel_index(np.abs(values).argmax(), values.shape)
        assert colours[i].tolist() == heatmap.palette()[0 if values[i] < 0 else -1].tolist()


def test_limits():
    assert heatmap.symmetric_limit(np.array([-3.0, 1.0, np.nan, np.inf])) == 3.0
    assert heatmap.symmetric_limit(np.zeros(4)) == 1.0
    assert heatmap.symmetric_limit(np.array([np.nan])) == 1.0
    many = np.r_[np.linspace(-1, 1, 1000), 50.0]
    assert heatmap.symmetric_limit(many) == 50.0
    assert 0.9 < heatmap.symmetric_limit(many, quantile=0.99) <= 1.0
    mostly_zero = np.r_[np.zeros(1000), 2.0]
    assert heatmap.symmetric_limit(mostly_zero, quantile=0.5) == 2.0
    with pytest.raises(BadInputError, match="positive"):
        heatmap.normalise(many, 0.0)


def test_a_missing_number_is_grey():
    colours = heatmap.colour(np.array([np.nan, 1.0]))
    assert tuple(colours[0]) == heatmap.NAN_COLOUR


def test_hex_and_fading():
    assert heatmap.to_hex(np.array([[255, 0, 16]], dtype=np.uint8)) == ["#ff0010"]
    faded = heatmap.fading(heatmap.palette(size=5), strength=1.0)
    assert faded[:, 3].tolist() == [255, 180, 0, 180, 255]
    assert heatmap.to_hex(faded)[2] == "#ffffff00"


def test_a_map_of_zeros_over_a_picture_shows_the_pale_picture(rng):
    picture = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    values = np.zeros((5, 6))
    np.testing.assert_array_equal(heatmap.lay_over(picture, values, 1.0), heatmap.pale(picture))
    values[2, 3] = 1.0
    over = heatmap.lay_over(picture, values, 1.0, strength=1.0)
    assert over[2, 3].tolist() == heatmap.palette()[-1].tolist()
    assert heatmap.pale(picture).min() >= 100


@given(arrays(np.bool_, (4, 6)))
def test_an_outline_separates_inside_from_outside(mask):
    level, upright = np.zeros((5, 6), dtype=int), np.zeros((4, 7), dtype=int)
    for r0, c0, r1, c1 in heatmap.outline(mask):
        assert (r0 == r1) != (c0 == c1)
        if r0 == r1:
            level[int(r0), int(c0) : int(c1)] += 1
        else:
            upright[int(r0) : int(r1), int(c0)] += 1
    padded = np.pad(mask, 1).astype(int)
    np.testing.assert_array_equal(level, np.abs(np.diff(padded, axis=0))[:, 1:-1])
    np.testing.assert_array_equal(upright, np.abs(np.diff(padded, axis=1))[1:-1])


def test_an_outline_of_a_box_is_four_lines():
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    assert sorted(heatmap.outline(mask)) == [(1, 2, 1, 5), (1, 2, 3, 2), (1, 5, 3, 5), (3, 2, 3, 5)]
