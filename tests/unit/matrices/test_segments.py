from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kerascope.errors import BadInputError
from kerascope.matrices import profiles, segments

pytestmark = pytest.mark.backend_free

COLUMNS = ["sample", "target", "dim", "line", "name", "sign", "start", "stop", "length", "score", "share"]


def found(scores: list[float]) -> list[tuple[int, int, float]]:
    got = segments.maximal_segments(np.array([scores], dtype=np.float64))
    return list(zip(got.start.tolist(), got.stop.tolist(), got.score.tolist(), strict=True))


def table_of(maps: Any, dim: str = "column", **options: Any) -> pd.DataFrame:
    values = np.asarray(maps, dtype=np.float64)
    names = np.array([f"line {i}" for i in range(values.shape[1 if dim == "column" else 2])])
    given = {"coords": {}, "names": names, "targets": np.zeros((len(values), 1), int)} | options
    return segments.segment_table(values, ("row", "column"), dim, **given)


@pytest.mark.parametrize(
    ("scores", "stretches"),
    [
        (
            [4, -5, 3, -3, 1, 2, -2, 2, -2, 1, 5],
            [(0, 1, 4), (2, 3, 3), (4, 11, 7)],
        ),  # the paper's own example
        ([], []),
        ([0, 0], []),
        ([-1, -2], []),
        ([3], [(0, 1, 3)]),
        ([1, 2, 3], [(0, 3, 6)]),
        ([0, 1, 0, 0, 1, 0], [(1, 5, 2)]),  # zeros cost nothing inside, and add nothing at the ends
        ([5, -5, 5], [(0, 1, 5), (2, 3, 5)]),
        ([5, -4, 5], [(0, 3, 6)]),
        ([5, -4, 1, -4, 9], [(0, 1, 5), (2, 3, 1), (4, 5, 9)]),
        ([2, -1, 2, -1, 2, -1, 2], [(0, 7, 5)]),
        ([1, -3, 4, -1, 4, -9, 2], [(0, 1, 1), (2, 5, 7), (6, 7, 2)]),
    ],
)
def test_worked_examples(scores: list[float], stretches: list[tuple[int, int, float]]) -> None:
    assert found(scores) == stretches


def test_lines_do_not_touch_each_other(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(20, 30))
    got = segments.maximal_segments(scores)
    for line in range(20):
        here = got.line == line
        assert list(zip(got.start[here], got.stop[here], strict=True)) == [s[:2] for s in found(scores[line].tolist())]
    assert (np.diff(got.line) >= 0).all()


@pytest.mark.parametrize(
    "scores",
    [
        np.tile([1.0, -2.0], 150_000),  # falling totals: a search without pointers walks over every candidate
        np.tile([2.0, -1.0], 150_000),  # rising totals: everything is merged, step by step
        np.concatenate([np.tile([1.0, -2.0], 75_000), np.tile([2.0, -1.0], 150_000)]),
    ],
    ids=["falling", "rising", "valley"],
)
def test_time_is_linear(scores: np.ndarray) -> None:
    """A quadratic search would take hours here."""
    got = segments.maximal_segments(scores[None])
    total = np.concatenate([[0.0], np.cumsum(scores)])
    assert got.score.max() == (total[1:] - np.minimum.accumulate(total)[:-1]).max()


def test_scores_too_small_to_count_make_no_stretch() -> None:
    assert found([1e20, 1.0, -1e20, 1.0])[0][0] == 0
    got = segments.maximal_segments(np.array([[-1e20, 1e-20]]))
    assert len(got.line) == 0


def test_a_signed_map_is_sought_in_both_signs_without_offset() -> None:
    table = table_of([[[1.0, 2, -4, 0], [0, -1, 0, 3]]])
    assert list(table.columns) == COLUMNS
    assert table.drop(columns=["sample", "target", "dim"]).values.tolist() == [
        [0, "line 0", -1, 2, 3, 1, 4.0, pytest.approx(4 / 11)],
        [0, "line 0", 1, 0, 2, 2, 3.0, pytest.approx(3 / 11)],
        [1, "line 1", 1, 3, 4, 1, 3.0, pytest.approx(3 / 11)],
        [1, "line 1", -1, 1, 2, 1, 1.0, pytest.approx(1 / 11)],
    ]
    assert table.attrs["offset"] == 0.0
    assert table["dim"].tolist() == ["column"] * 4


def test_the_other_dim_runs_the_other_way(rng: np.random.Generator) -> None:
    maps = rng.normal(size=(3, 4, 6))
    across = table_of(maps, "row")
    turned = table_of(maps.transpose(0, 2, 1), "column")
    pd.testing.assert_frame_equal(across.drop(columns="dim"), turned.drop(columns="dim"))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_of_one_sign_is_sought_less_its_own_quantile(sign: int, rng: np.random.Generator) -> None:
    maps = rng.uniform(0.1, 0.2, size=(2, 5, 30))
    maps[0, 1], maps[1, 3] = 0.1, 0.1  # else a high cell beside them belongs to them
    maps[0, 1, 4:9] = 1.1
    maps[1, 3, 10:12] = 5
    table = table_of(sign * maps)
    offset = [np.quantile(one, 0.9) for one in maps]
    assert set(table["sign"]) == {sign}
    assert table.attrs["offset"] == pytest.approx(offset)
    first = table.groupby("sample").first()
    assert first[["line", "start", "stop"]].values.tolist() == [[1, 4, 9], [3, 10, 12]]
    expected = [maps[0, 1, 4:9].sum() - 5 * offset[0], maps[1, 3, 10:12].sum() - 2 * offset[1]]
    np.testing.assert_allclose(first["score"], expected)
    np.testing.assert_allclose(
        first["share"], [maps[0, 1, 4:9].sum() / maps[0].sum(), maps[1, 3, 10:12].sum() / maps[1].sum()]
    )


def test_each_sample_has_its_own_offset() -> None:
    table = table_of([[[1.0, -1.0]], [[1.0, 2.0]], [[0.0, 0.0]]])
    assert table.attrs["offset"] == [0.0, pytest.approx(1.9), 0.0]
    assert table["sample"].tolist() == [0, 0, 1]


def test_a_flat_or_zero_map_has_no_stretch() -> None:
    table = table_of([[[2.0, 2.0]], [[0.0, 0.0]]])
    assert len(table) == 0
    assert list(table.columns) == COLUMNS
    assert table.dtypes["sample"] == table.dtypes["line"] == np.int64


def test_the_profile_is_the_sum_over_lines() -> None:
    maps = np.array([[[1.0, -3, 2], [1, 1, 2]], [[1.0, 2, 30], [0, 0, 0]]])
    table = table_of(maps, summed=True)
    shown = ["sample", "line", "name", "sign", "start", "stop", "score", "share"]
    assert table[shown].values.tolist() == [
        [0, -1, "all", 1, 2, 3, 4.0, 0.5],
        [0, -1, "all", 1, 0, 1, 2.0, 0.25],
        [0, -1, "all", -1, 1, 2, 2.0, 0.25],
        [1, -1, "all", 1, 2, 3, pytest.approx(30 - np.quantile([1, 2, 30], 0.9)), pytest.approx(30 / 33)],
    ]
    assert table.attrs["on"] == "profile"


def test_targets_are_kept_apart(rng: np.random.Generator) -> None:
    values = rng.normal(size=(3, 2, 4, 6))
    targets = np.array([[5, 7]] * 3)
    given = {"coords": {}, "names": np.arange(4)}
    both = segments.segment_table(values, ("row", "column"), "column", targets=targets, **given)
    for t in (0, 1):
        one = segments.segment_table(values[:, t], ("row", "column"), "column", targets=targets[:, [t]], **given)
        same = both[both["target"] == targets[0, t]].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, one)


def test_channels_are_summed_with_their_signs(rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 3, 8, 2))
    given = {"coords": {}, "names": np.arange(3), "targets": np.zeros((2, 1), int)}
    got = segments.segment_table(values, ("row", "column", "channel"), "column", **given)
    pd.testing.assert_frame_equal(got, segments.segment_table(values.sum(-1), ("row", "column"), "column", **given))


def test_blocks_do_not_change_the_table(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    maps = np.concatenate([rng.normal(size=(4, 3, 9)), rng.uniform(size=(3, 3, 9))])
    before = table_of(maps)
    monkeypatch.setattr(profiles, "BLOCK_BYTES", 1)
    after = table_of(maps)
    pd.testing.assert_frame_equal(before, after)
    assert before.attrs == after.attrs


def test_blocks_keep_samples_and_targets_apart(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    values = rng.normal(size=(3, 2, 4, 6))
    given = {"coords": {}, "names": np.arange(4), "targets": np.arange(6).reshape(3, 2)}
    before = segments.segment_table(values, ("row", "column"), "column", **given)
    monkeypatch.setattr(profiles, "BLOCK_BYTES", 1)
    after = segments.segment_table(values, ("row", "column"), "column", **given)
    pd.testing.assert_frame_equal(before, after)
    assert (after["target"] // 2 == after["sample"]).all()


def test_coordinates_of_the_first_and_last_cell() -> None:
    coords = {"column": np.array(["a", "b", "c", "d"])}
    table = table_of([[[0.0, 1, 1, -1]]], coords=coords)
    assert list(table.columns) == [*COLUMNS, "start_coord", "stop_coord"]
    assert table[["start", "stop", "start_coord", "stop_coord"]].values.tolist() == [
        [1, 3, "b", "c"],
        [3, 4, "d", "d"],
    ]
    assert list(table_of([[[0.0, 1, 1, -1]]], coords={"row": np.array(["x"])}).columns) == COLUMNS


def test_one_axis_is_one_line() -> None:
    values = np.array([[0.0, 1, 1, -1]])
    table = segments.segment_table(
        values, ("feature",), "feature", coords={}, names=None, targets=np.zeros((1, 1), int)
    )
    assert table[["line", "name", "sign", "start", "stop"]].values.tolist() == [
        [-1, "all", 1, 1, 3],
        [-1, "all", -1, 3, 4],
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_refused(bad: float) -> None:
    maps = np.ones((3, 2, 2))
    maps[1, 0, 1] = bad
    with pytest.raises(BadInputError, match="The map of sample 1 has NaN or infinite cells"):
        table_of(maps)


def test_attributes_are_plain_and_say_what_is_meant() -> None:
    import json

    attrs = table_of([[[1.0, -1.0]], [[1.0, 2.0]]]).attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert attrs["algorithm"] == "Ruzzo and Tompa 1999"
    assert "90%" in attrs["offset_rule"]
