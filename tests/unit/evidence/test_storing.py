"""Evidence saved and opened again, and asked for one of its samples."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import kerascope as ks
from tests.unit.evidence.test_evidence import H, W, grouped, planted_linear, quiet


def test_saved_and_opened_again(tmp_path):
    model, x, background = planted_linear()
    found = quiet(
        model,
        x,
        background=background,
        background_labels=np.ones(60, int),
        target=0,
        groups=[0, 1, 1, 2, 2],
        dims=("gene", "time"),
        coords={"gene": [f"g{i}" for i in range(H)], "time": np.linspace(0, 1, W)},
        class_names=("motif", "nothing"),
    )
    path = found.save(tmp_path / "found.zarr")
    again = ks.open(path)
    assert isinstance(again, ks.Evidence)
    for name in ("rows", "columns", "segments"):
        before, after = getattr(found, name), getattr(again, name)
        pd.testing.assert_frame_equal(before, after, check_exact=True)
        assert before.attrs == after.attrs
    assert again.warnings == found.warnings
    assert again.attrs == found.attrs
    assert np.array_equal(again.classes, found.classes)
    np.testing.assert_array_equal(again.explanation.values, found.explanation.values)
    with pytest.raises(ks.OutputExistsError):
        found.save(path)


@pytest.mark.parametrize("gene", [None, [f"g{i}" for i in range(H)]])
def test_times_are_saved_too(tmp_path, gene):
    model, x, background = planted_linear()
    times = np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]")
    coords = {"time": times, **({} if gene is None else {"gene": gene})}
    given = {"background": background, "background_labels": np.ones(60, int), "target": 0, "check": False}
    found = quiet(model, x, **given, dims=("gene", "time"), coords=coords)
    again = ks.open(found.save(tmp_path / "found.zarr"))
    pd.testing.assert_frame_equal(found.segments, again.segments, check_exact=True)
    along = again.segments[again.segments["dim"] == "time"]
    assert set(along["start_coord"]) == {pd.Timestamp("2020-01-04")}
    assert set(along["stop_coord"]) == {pd.Timestamp("2020-01-08")}


def test_samples_are_counted_from_either_end():
    found = grouped(None, check=False)
    for last, again in zip(found.of(5), found.of(-1), strict=True):
        pd.testing.assert_frame_equal(last, again)
    assert set(found.of(-1)[0]["sample"]) == {5}
    for wrong in (6, -7):
        with pytest.raises(ks.BadInputError, match=f"sample={wrong} is out of range: there are 6 samples, 0 to 5"):
            found.of(wrong)


def test_open_still_opens_explanations(tmp_path):
    model, x, _ = planted_linear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        path = ks.explain(model, x, "gradient").save(tmp_path / "e.zarr")
    assert isinstance(ks.open(path), ks.Explanation)
