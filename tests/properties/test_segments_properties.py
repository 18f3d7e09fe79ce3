"""Ruzzo-Tompa against the definition of a maximal scoring stretch, tried on every stretch there is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerascope.matrices.segments import maximal_segments, segment_table

pytestmark = pytest.mark.backend_free

whole_scores = st.lists(st.integers(-4, 4), max_size=14)
maps = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(st.integers(-9, 9), min_size=width, max_size=width), min_size=1, max_size=4)
)


def stretches(scores: list[int]) -> list[tuple[int, int]]:
    got = maximal_segments(np.array([scores], dtype=np.float64).reshape(1, -1))
    assert got.score.tolist() == [float(sum(scores[a:b])) for a, b in zip(got.start, got.stop, strict=True)]
    return list(zip(got.start.tolist(), got.stop.tolist(), strict=True))


def by_properties(scores: list[int]) -> list[tuple[int, int]]:
    """Stretches that score more than every proper part (the empty one too), in no longer one of that kind."""
    spans = list(combinations(range(len(scores) + 1), 2))
    score = {(a, b): sum(scores[a:b]) for a, b in spans}

    def beats_its_parts(a: int, b: int) -> bool:
        parts = ((c, d) for c, d in spans if a <= c and d <= b and (c, d) != (a, b))
        return score[a, b] > 0 and all(score[part] < score[a, b] for part in parts)

    good = [span for span in spans if beats_its_parts(*span)]
    return [(a, b) for a, b in good if not any(c <= a and b <= d and (c, d) != (a, b) for c, d in good)]


def by_recursion(scores: list[int], first: int = 0) -> list[tuple[int, int]]:
    """The best stretch, the shortest where several are; then the same left and right of it."""
    spans = list(combinations(range(len(scores) + 1), 2))
    if not spans:
        return []
    a, b = max(spans, key=lambda span: (sum(scores[span[0] : span[1]]), span[0] - span[1]))
    if sum(scores[a:b]) <= 0:
        return []
    left, right = by_recursion(scores[:a], first), by_recursion(scores[b:], first + b)
    return [*left, (first + a, first + b), *right]


@given(whole_scores)
def test_stretches_are_those_of_the_definition(scores: list[int]) -> None:
    assert stretches(scores) == by_properties(scores)


@given(whole_scores)
def test_stretches_are_those_of_taking_the_best_again_and_again(scores: list[int]) -> None:
    assert stretches(scores) == by_recursion(scores)


@given(st.lists(st.floats(-1e3, 1e3, allow_nan=False, width=32), max_size=60))
def test_stretches_are_disjoint_positive_and_hold_every_positive_cell(scores: list[float]) -> None:
    array = np.array([scores]).reshape(1, -1)
    got = maximal_segments(array)
    assert (got.start < got.stop).all()
    assert (got.stop[:-1] <= got.start[1:]).all()
    assert (got.score > 0).all()
    covered = np.zeros(len(scores), bool)
    for start, stop in zip(got.start, got.stop, strict=True):
        covered[start:stop] = True
    total = np.concatenate([[0.0], np.cumsum(array[0])])
    counts = (array[0] > 0) & (total[1:] > total[:-1])
    assert covered[counts].all()


@given(whole_scores, st.integers(1, 5))
def test_scaling_and_reversing_move_nothing(scores: list[int], factor: int) -> None:
    assert stretches([factor * s for s in scores]) == stretches(scores)
    n = len(scores)
    assert sorted((n - b, n - a) for a, b in stretches(scores[::-1])) == stretches(scores)


@given(maps)
def test_the_other_sign_is_the_map_turned_over(cells: list[list[int]]) -> None:
    array = np.array([cells], dtype=np.float64)
    options = {"coords": {}, "names": np.arange(array.shape[1]), "targets": np.zeros((1, 1), int)}
    table = segment_table(array, ("row", "column"), "column", **options)
    turned = segment_table(-array, ("row", "column"), "column", **options)
    turned["sign"] *= -1
    key = ["line", "start", "sign"]
    assert table.sort_values(key)["score"].tolist() == turned.sort_values(key)["score"].tolist()
    assert (table["share"] <= 1 + 1e-12).all()
    for sign in (1, -1):
        assert table.loc[table["sign"] == sign, "share"].sum() <= 1 + 1e-12
