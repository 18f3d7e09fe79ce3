"""`kerascope.datasets`: what is drawn is what the labels and the truth say."""

from __future__ import annotations

import numpy as np
import pytest

from kerascope import datasets
from kerascope.errors import BadInputError, UnknownNameError

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def data() -> datasets.Planted:
    return datasets.planted(500, seed=7)


def test_planted_shapes_types_and_range(data: datasets.Planted) -> None:
    assert data.x.shape == data.truth.shape == (500, 20, 64)
    assert (data.x.dtype, data.y.dtype, data.truth.dtype) == (np.float32, np.int64, np.bool_)
    assert 0.0 <= data.x.min() < 0.1
    assert 0.9 < data.x.max() <= 1.0
    assert len(data) == 500
    assert len(data.row_names) == len(set(data.row_names)) == 20
    assert data.class_names == ("motif in r02", "motif in r07", "motif in r12", "motif in r17", "no motif")


def test_planted_classes_are_balanced_in_every_stretch(data: datasets.Planted) -> None:
    assert np.bincount(data.y).tolist() == [100] * 5
    assert np.bincount(data.y[13:33]).tolist() == [4] * 5


def test_planted_truth_is_the_motif_and_nothing_else(data: datasets.Planted) -> None:
    for i in range(len(data)):
        expected = np.zeros((20, 64), dtype=bool)
        if data.y[i] < 4:
            expected[data.row[i], data.start[i] : data.stop[i]] = True
            assert data.stop[i] - data.start[i] == 12
            assert data.start[i] >= 0
            assert data.stop[i] <= 64
            assert data.class_names[data.y[i]] == f"motif in {data.row_names[data.row[i]]}"
        else:
            assert (data.row[i], data.start[i], data.stop[i]) == (-1, -1, -1)
        np.testing.assert_array_equal(data.truth[i], expected)


def test_planted_the_difference_to_the_noise_lies_where_truth_says() -> None:
    with_motif, noise = datasets.planted(50, seed=3), datasets.planted(50, seed=3, strength=0.0)
    added = with_motif.x - noise.x
    assert not added[~with_motif.truth].any()
    hump = np.sin(3 * np.pi * (np.arange(12) + 0.5) / 12) ** 2
    for i in np.flatnonzero(with_motif.y < 4):
        seen = added[i, with_motif.row[i], with_motif.start[i] : with_motif.stop[i]]
        unclipped = with_motif.x[i, with_motif.row[i], with_motif.start[i] : with_motif.stop[i]] < 1
        np.testing.assert_allclose(seen[unclipped], 0.4 * hump[unclipped], atol=1e-6)


def test_planted_noise_has_the_stated_scale_and_is_smooth_along_rows_alone() -> None:
    noise = datasets.planted(200, seed=5, strength=0.0).x - 0.5
    assert noise.std() == pytest.approx(0.12, abs=0.002)
    assert noise.mean() == pytest.approx(0.0, abs=0.003)
    kernel = np.hanning(7)[1:-1]
    expected = np.sum(kernel[1:] * kernel[:-1]) / np.sum(kernel**2)
    assert np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / noise.var() == pytest.approx(expected, abs=0.01)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var() == pytest.approx(0.0, abs=0.01)
    white = datasets.planted(200, seed=5, strength=0.0, smoothing=1).x - 0.5
    assert np.mean(white[:, :, 1:] * white[:, :, :-1]) / white.var() == pytest.approx(0.0, abs=0.01)


def test_planted_motifs_start_anywhere(data: datasets.Planted) -> None:
    starts = datasets.planted(5000, seed=1).start
    counts = np.bincount(starts[starts >= 0], minlength=53)
    assert counts.shape == (53,)
    assert counts.min() > 0.5 * 4000 / 53
    assert counts.max() < 1.6 * 4000 / 53


def test_planted_is_seeded_and_keeps_its_first_samples() -> None:
    first, again, other = (datasets.planted(20, seed=s) for s in (4, 4, 5))
    longer = datasets.planted(45, seed=4)
    for name in ("x", "y", "truth", "row", "start", "stop"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(first, name), getattr(longer, name)[:20])
    assert not np.array_equal(first.x, other.x)
    assert not np.array_equal(first.start, other.start)


def test_planted_other_sizes() -> None:
    data = datasets.planted(9, seed=0, shape=(5, 30), classes=2, length=6)
    assert data.x.shape == (9, 5, 30)
    assert data.class_names == ("motif in r1", "motif in r3", "no motif")
    assert set(data.row[data.y < 2].tolist()) == {1, 3}
    assert data.truth.sum(axis=(1, 2)).tolist() == [6, 6, 0] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"classes": 0}, "classes must be at least 1, not 0"),
        ({"smoothing": 0}, "smoothing must be at least 1, not 0"),
        ({"length": 2}, "length must be at least 3, not 2"),
        ({"length": 65}, "length 65 does not fit into 64 columns"),
        ({"classes": 21}, "21 classes need a row each, but there are 20 rows"),
    ],
)
def test_planted_refuses_what_cannot_be_drawn(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        datasets.planted(**{"n": 4, "seed": 0, **wrong})


def test_names_are_the_keywords_of_an_explanation(data: datasets.Planted) -> None:
    assert set(data.names) == {"dims", "coords", "class_names"}
    assert data.names["dims"] == ("row", "column")
    assert data.names["coords"]["row"].tolist() == list(data.row_names)


@pytest.mark.parametrize("split", ["train", "test"])
def test_basic_motions_is_whole_balanced_and_named(split: str) -> None:
    data = datasets.basic_motions(split)
    assert data.x.shape == (40, 100, 6)
    assert data.x.dtype == np.float32
    assert np.isfinite(data.x).all()
    assert np.bincount(data.y).tolist() == [10, 10, 10, 10]
    assert data.y.dtype == np.int64
    assert data.class_names == ("standing", "running", "walking", "badminton")
    assert data.truth is None
    assert data.dims == ("time", "sensor")
    assert data.coords["sensor"].tolist() == [f"{d} {a}" for d in ("accelerometer", "gyroscope") for a in "xyz"]
    np.testing.assert_array_equal(data.coords["time"], np.arange(100) / 10)


def test_basic_motions_holds_the_numbers_of_the_archive() -> None:
    train, test = datasets.basic_motions("train"), datasets.basic_motions("test")
    np.testing.assert_array_equal(train.x[0, :4, 0], np.float32([0.079106, 0.079106, -0.903497, 1.116125]))
    np.testing.assert_array_equal(test.x[0, :4, 0], np.float32([-0.740653, -0.740653, 10.208449, 2.867009]))
    assert not set(map(bytes, train.x)) & set(map(bytes, test.x))
    effort = [train.x[train.y == c].std() for c in range(4)]
    assert effort[0] < effort[2] < min(effort[1], effort[3])  # standing < walking < running, badminton


@pytest.mark.parametrize(("split", "count"), [("train", 270), ("test", 370)])
def test_japanese_vowels_are_whole_and_named(split: str, count: int) -> None:
    data = datasets.japanese_vowels(split)
    assert (data.x.shape, data.x.dtype, data.dims) == ((count, 25, 12), np.float32, ("frame", "coefficient"))
    assert np.isfinite(data.x).all()
    per_class = {"train": [30] * 9, "test": [31, 35, 88, 44, 29, 24, 40, 50, 29]}  # Kudo et al. 1999
    assert np.bincount(data.y).tolist() == per_class[split]
    assert [len(data.coords[dim]) for dim in data.dims] == [25, 12]
    assert len(data.class_names) == 9


def test_japanese_vowels_hold_the_numbers_of_the_archive() -> None:
    train, test = datasets.japanese_vowels("train"), datasets.japanese_vowels("test")
    np.testing.assert_allclose(train.x[0, :3, 0], [1.860936, 1.906684, 1.919277], rtol=1e-6)
    np.testing.assert_allclose(train.x[0, :2, 1], [-0.207383, -0.16094], rtol=1e-6)
    np.testing.assert_allclose(test.x[0, -2:, 0], [1.422048, 1.424727], rtol=1e-6)


def test_basic_motions_gyroscope_comes_last() -> None:
    """The last three channels, and they alone, lie on one grid of steps: another device."""
    x = datasets.basic_motions("train").x.astype(float)
    off_grid = np.abs(x / 0.0026634 - np.round(x / 0.0026634)).mean(axis=(0, 1))
    assert off_grid[3:].max() < 0.05 < 0.2 < off_grid[:3].min()


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tets'\. Did you mean 'test'"):
        datasets.basic_motions("tets")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'planted\.keras'"):
        datasets.demo_file("planted.kera")
    with pytest.raises(UnknownNameError, match=r"Unknown demo file '\.\./errors\.py'"):
        datasets.demo_file("../errors.py")
