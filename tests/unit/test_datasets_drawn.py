"""The drawn truth sets: what was planted lies where the truth says, and the noise is what it claims to be."""

from __future__ import annotations

import numpy as np
import pytest

from kerascope import datasets
from kerascope.errors import KerascopeError

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize("length", [4, 12, 32, 128])
def test_motifs_lie_where_the_truth_says(length):
    data = datasets.motifs(40, seed=3, length=length)
    bare = datasets.motifs(40, seed=3, length=length, strength=0.0)
    changed = np.abs(data.x - bare.x) > 1e-6
    assert not np.any(changed & ~data.truth)
    assert changed.sum() > 0.8 * data.truth.sum()
    marked = data.y < 4
    assert np.array_equal(data.truth.sum(axis=(1, 2)), np.where(marked, length, 0))
    assert np.array_equal(data.row[marked, 0] // 2, data.y[marked])  # two rows of its own
    assert set(data.row[data.y == 1, 0]) == {2, 3}
    for i in np.flatnonzero(marked):
        assert data.truth[i, data.row[i, 0], data.start[i, 0] : data.stop[i, 0]].all()
    assert np.all(data.row[~marked] == -1)


@pytest.mark.parametrize("length", [4, 12, 32, 128])
def test_a_bump_fills_its_cells(length):
    data, bare = (datasets.motifs(20, seed=3, length=length, strength=h) for h in (0.1, 0.0))  # too low to be clipped
    shape = (data.x - bare.x)[data.truth & (data.y == 0)[:, None, None]].reshape(-1, length) / 0.1
    np.testing.assert_allclose(shape, shape[:, ::-1], atol=1e-5)
    assert np.mean(shape > 0.5) >= 0.8  # a squared sine: 0.5


def test_the_first_samples_do_not_depend_on_how_many():
    for draw in (
        lambda n: datasets.motifs(n, seed=5),
        *(lambda n, p=p: datasets.boxes(n, seed=5, process=p) for p in datasets.BOX_PROCESSES),
    ):
        assert np.array_equal(draw(4).x, draw(9).x[:4])


def test_conjunction_needs_both_motifs():
    data = datasets.motifs(40, seed=1, conjunction=True)
    held = (data.row >= 0).astype(int).tolist()
    assert held == [[[1, 1], [1, 0], [0, 1], [0, 0]][c] for c in data.y]
    assert data.class_names == ("both", "first", "second", "neither")


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_noise_correlates_as_asked(correlation):
    x = datasets.motifs(400, seed=2, strength=0.0, correlation=correlation).x.astype(float) - 0.5
    variance = x.var()
    assert np.sqrt(variance) == pytest.approx(0.12, rel=0.02)
    assert np.mean(x[:, :-1] * x[:, 1:]) / variance == pytest.approx(correlation, abs=0.01)
    assert np.mean(x[:, :, :-1] * x[:, :, 1:]) / variance == pytest.approx(0.7, abs=0.01)


SIZES = {"middle": 900, "small_middle": 196, "rare_time": 240, "rare_feature": 240, "positional_time": 400}
SIZES |= {"moving_middle": 900, "moving_small_middle": 225, "moving_rare_time": 240, "moving_rare_feature": 240}
SIZES |= {"positional_feature": 400}


@pytest.mark.parametrize("layout", datasets.BOX_LAYOUTS)
def test_a_box_is_shifted_and_nothing_else(layout):
    data = datasets.boxes(40, seed=4, layout=layout)
    assert np.all(data.truth.sum(axis=(1, 2)) == SIZES[layout])
    signs = np.ones(40) if "positional" in layout else 2 * data.y - 1
    inside = np.array([x[t].mean() for x, t in zip(data.x, data.truth, strict=True)])
    outside = np.array([x[~t].mean() for x, t in zip(data.x, data.truth, strict=True)])
    np.testing.assert_allclose(inside, signs, atol=5 / np.sqrt(SIZES[layout]))
    np.testing.assert_allclose(outside, 0, atol=0.2)
    places = {tuple(np.argwhere(t)[0]) for t in data.truth}
    if layout.startswith("moving"):
        assert len(places) > 10
    else:
        assert len(places) == (2 if "positional" in layout else 1)


@pytest.mark.parametrize("process", datasets.BOX_PROCESSES)
def test_processes_are_of_mean_zero_and_variance_one(process):
    data = datasets.boxes(30, seed=6, process=process)
    bare = data.x - (2.0 * data.y - 1)[:, None, None] * data.truth
    assert bare.mean() == pytest.approx(0, abs=0.06)
    assert bare.var() == pytest.approx(1, abs=0.12)


def test_an_autoregressive_process_remembers():
    bare = datasets.boxes(30, seed=6, process="autoregressive")
    x = bare.x - (2.0 * bare.y - 1)[:, None, None] * bare.truth
    assert np.corrcoef(x[:, :-1].ravel(), x[:, 1:].ravel())[0, 1] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: datasets.motifs(0, seed=0), "n must be at least 1"),
        (lambda: datasets.motifs(3, seed=0, length=200), "does not fit into 128 steps"),
        (lambda: datasets.motifs(3, seed=0, classes=9), "9 classes need 18 rows"),
        (lambda: datasets.motifs(3, seed=0, correlation=1.0), "below 1"),
        (lambda: datasets.boxes(3, seed=0, layout="middel"), "middle"),
        (lambda: datasets.boxes(3, seed=0, process="ar"), "autoregressive"),
        (lambda: datasets.boxes(0, seed=0), "n must be at least 1"),
    ],
)
def test_bad_sizes_and_names(draw, message):
    with pytest.raises(KerascopeError, match=message):
        draw()
