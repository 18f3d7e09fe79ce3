from __future__ import annotations

import numpy as np
import pytest

from kerascope.errors import BadInputError, UnknownNameError
from kerascope.matrices import profiles

pytestmark = pytest.mark.backend_free

DIMS = ("row", "column", "channel")


def test_blocks_cover_all_samples_once(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    values = rng.normal(size=(7, 2, 3, 4, 2)).astype(np.float32)
    whole = [block for _, block in profiles.map_blocks(values, DIMS, ("row", "column"))]
    assert len(whole) == 1
    monkeypatch.setattr(profiles, "BLOCK_BYTES", 3 * 8 * 2 * 3 * 4 * 2)
    blocks = list(profiles.map_blocks(values, DIMS, ("row", "column")))
    assert [first for first, _ in blocks] == [0, 3, 6]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole[0])
    monkeypatch.setattr(profiles, "BLOCK_BYTES", 1)
    assert len(list(profiles.map_blocks(values, DIMS, ("row", "column")))) == 7


def test_maps_without_targets_have_one() -> None:
    ((_, block),) = profiles.map_blocks(np.ones((2, 3, 4), np.float32), ("row", "column"), ("row", "column"))
    assert block.shape == (2, 1, 3, 4)
    assert block.dtype == np.float64


def test_sums_are_made_in_float64() -> None:
    values = np.full((1, 1, 100_001), 1e-4, np.float32)
    values[0, 0, 0] = 1e4
    got = profiles.profile(values, ("row", "column"), "row")[0, 0]
    assert got == pytest.approx(1e4 + 1e5 * float(np.float32(1e-4)), rel=1e-12)


def test_profiles_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 3, 4, 2))
    names, targets = np.array(["a", "b", "c"]), np.zeros((5, 1), int)
    before = profiles.line_table(values, DIMS, "row", names=names, targets=targets)
    monkeypatch.setattr(profiles, "BLOCK_BYTES", 1)
    after = profiles.line_table(values, DIMS, "row", names=names, targets=targets)
    assert before.equals(after)


def test_shares_sum_to_one_and_are_zero_for_a_zero_map(rng: np.random.Generator) -> None:
    values = rng.normal(size=(3, 4, 5))
    values[1] = 0
    names, targets = np.arange(4), np.zeros((3, 1), int)
    table = profiles.line_table(values, ("row", "column"), "row", names=names, targets=targets)
    sums = table.groupby("sample")["share"].sum()
    assert sums.tolist() == [pytest.approx(1), 0, pytest.approx(1)]
    assert table.loc[table["sample"] == 1, "index"].tolist() == [0, 1, 2, 3]


def test_sums_of_rows_and_columns_add_up_to_the_total(rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 3, 4, 2))
    targets = np.zeros((2, 1), int)
    for dim, size in (("row", 3), ("column", 4)):
        table = profiles.line_table(values, DIMS, dim, names=np.arange(size), targets=targets)
        np.testing.assert_allclose(table.groupby("sample")["sum"].sum(), values.sum(axis=(1, 2, 3)))


def test_equal_lines_keep_their_order() -> None:
    values = np.array([[[1.0], [-2.0], [2.0], [-1.0]]])
    table = profiles.line_table(values, ("row", "column"), "row", names=np.arange(4), targets=np.zeros((1, 1), int))
    assert table["index"].tolist() == [1, 2, 0, 3]


def test_names_keep_their_type() -> None:
    times = np.array(["2024-05-01", "2024-05-02"], "M8[s]")
    values = np.array([[[1.0, -2.0]]])
    table = profiles.line_table(values, ("row", "column"), "column", names=times, targets=np.zeros((1, 1), int))
    assert table["name"].to_numpy().astype("M8[s]").tolist() == times[::-1].tolist()


def test_what_is_meant_stands_in_the_attributes() -> None:
    table = profiles.line_table(
        np.ones((1, 1, 2)), ("row", "column"), "column", names=np.arange(2), targets=np.zeros((1, 1), int)
    )
    assert table.attrs["dim"] == "column"
    assert "sum of absolute values" in table.attrs["share"]


def test_summed_axes_have_no_ranked_lines() -> None:
    with pytest.raises(
        BadInputError, match=r"Lines are ranked along a matrix dim: 'row' or 'column'. Received 'channel'"
    ):
        profiles.line_table(np.ones((1, 1, 1, 1)), DIMS, "channel", names=np.arange(1), targets=np.zeros((1, 1), int))
    with pytest.raises(UnknownNameError, match=r"Unknown dim 'chanel'\. Did you mean 'channel'"):
        profiles.profile(np.ones((1, 1, 1, 1)), DIMS, "chanel")
