from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from kerascope import store
from kerascope.errors import BadInputError, KerascopeError, OutputExistsError, UnknownNameError
from kerascope.explanation import Explanation, open_explanation
from tests.unit.explanations import make, make_full, make_several

pytestmark = pytest.mark.backend_free

FIELDS = tuple(Explanation.__dataclass_fields__)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type and dtype, nested too; nan equals nan."""
    if isinstance(a, np.ndarray):
        equal_nan = a.dtype.kind in "fcmM"
        return type(b) is np.ndarray and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=equal_nan)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def assert_same(a: Explanation, b: Explanation, *, but: tuple[str, ...] = ()) -> None:
    for name in FIELDS:
        if name not in but:
            assert same(getattr(a, name), getattr(b, name)), name


@pytest.fixture
def one_sample_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 60)  # a sample of 3 x 5 float32


def left_beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p != path)


# Round trips ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "e",
    [
        make(),
        make_full(),
        make_several(),
        make_several(list),
        make_several(tuple),
        make(targets=3, n=2),
        make(shape=(6,)),
        make(shape=(2, 3, 4, 5)),
        make(values=np.full((4, 3, 5), np.nan), explained=np.zeros(4, np.float64)),
        make(values=np.zeros((4, 3, 5), np.float16), inputs=np.arange(60).reshape(4, 3, 5).astype(np.int8)),
        make(inputs=np.arange(60).reshape(4, 3, 5) % 2 == 0, outputs=np.zeros(4)),
        make(inputs=np.ones((4, 3, 5), ">f8"), target=np.arange(4, dtype=np.uint8)),
        make(outputs=[np.zeros((4, 1)), np.zeros((4, 2, 3))]),
        make(dims=("class", "group"), class_names=("a", "b", "c"), group_values=np.ones((4, 2))),
        make()[[]],
        make_full()[::-2],
    ],
    ids=lambda e: repr(e)[12:60],
)
@pytest.mark.usefixtures("one_sample_a_chunk")
def test_everything_comes_back_exactly(e: Explanation, tmp_path: Path) -> None:
    place = e.save(tmp_path / "e.zarr")
    assert place == tmp_path / "e.zarr"
    assert left_beside(place) == []
    assert_same(e, open_explanation(place))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["", "日本", "a\nb", "ü", "x" * 300]),
        np.array([1.5, np.nan, -np.inf, 0.0, 1e300]),
        np.array([1, 2, 2, -(2**62), 2**62]),
        np.array([1, 2, 3, 4, 65535], np.uint16),
        np.array([0.5, 1, 2, 3, 4], np.float16),
        np.array([0.5, 1, 2, 3, 4], ">f4"),
        np.array([True, False, True, False, True]),
        np.array(["2024-02-29", "1700-01-01", "NaT", "2300-12-31", "1969-12-31"], "M8[D]"),
        np.array(["2024-02-29T12:30"] * 5, "M8[m]"),
        np.array(["2024-02-29T12:30:01.123456789", "NaT"] + ["1969-12-31T23:59:59.999999999"] * 3, "M8[ns]"),
        np.array(["0001-01-01", "9999-12-31", "NaT", "2000-01-01", "2000-01-02"], "M8[s]"),
        np.array([0, 1, 2, 3, 2**60], "M8[us]"),
        np.array([0, -1, 5, 7, 10**12], "m8[ms]"),
        np.array([0, 250, 500, 750, 1000], "m8[25s]"),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_come_back_exactly(labels: np.ndarray, tmp_path: Path) -> None:
    e = make(coords={"column": labels})
    assert_same(e, open_explanation(e.save(tmp_path / "e.zarr")))


def test_a_second_round_is_the_same_as_the_first(tmp_path: Path) -> None:
    first = open_explanation(make_full().save(tmp_path / "1"))
    assert_same(first, open_explanation(first.save(tmp_path / "2")))


def test_a_target_object_comes_back_as_its_text(tmp_path: Path) -> None:
    class Contrast:
        def __repr__(self) -> str:
            return "Contrast(a=1, b=2)"

    opened = open_explanation(make(target=Contrast()).save(tmp_path / "e"))
    assert opened.target == "Contrast(a=1, b=2)"
    assert set(opened.rows()["target"]) == {"top class"}  # the text in the attributes says it better


def test_plain_xarray_reads_it(tmp_path: Path) -> None:
    times = np.array(["2024-02-29", "NaT", "2024-03-01"], "M8[D]")
    e = make(coords={"row": times, "column": list("abcdé")}, completeness_gap=np.array([1.0, np.nan, 2, 3]))
    place = e.save(tmp_path / "e.zarr")
    with xr.open_zarr(place) as ds:
        np.testing.assert_array_equal(ds["attribution"].values, e.values)
        np.testing.assert_array_equal(ds["completeness_gap"].values, e.completeness_gap)
        assert ds["target"].dtype == np.int64
        assert ds["row"].values.astype("M8[D]").tolist() == times.tolist()
        assert ds["column"].values.tolist() == list("abcdé")
        assert ds["attribution"].dims == ("sample", "row", "column")
        assert (ds.attrs["complete"], ds.attrs["kerascope_store"]) == (1, store.FORMAT)
        assert json.loads(ds.attrs["method"])["name"] == "lrp.epsilon"
        assert ds.attrs["chunk_files"] == sum(1 for p in place.rglob("c*") if p.is_file())


def test_the_method_is_made_from_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make().save(tmp_path / "e")
    registry = types.ModuleType("kerascope.registry")
    calls = []

    def method_from_config(config: dict[str, Any]) -> str:
        calls.append(config)
        return f"made {config['name']}"

    registry.method_from_config = method_from_config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kerascope.registry", registry)
    opened = open_explanation(place)
    assert opened.method_name == "lrp.epsilon"
    assert calls == []  # not before it is asked for
    assert opened[1:].method == "made lrp.epsilon"
    assert calls == [{"name": "lrp.epsilon", "question": "where?"}]


@pytest.mark.parametrize("error", [UnknownNameError("?"), TypeError("?"), KeyError("?"), ImportError("?")])
def test_an_unknown_method_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def method_from_config(config: dict[str, Any]) -> str:
        raise error

    registry = types.ModuleType("kerascope.registry")
    registry.method_from_config = method_from_config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kerascope.registry", registry)
    assert open_explanation(make().save(tmp_path / "e")).method == "lrp.epsilon"
    assert open_explanation(make(attrs={}, method="mine").save(tmp_path / "m")).method == "mine"


# Laziness ------------------------------------------------------------------------------


def test_opening_reads_no_array(tmp_path: Path) -> None:
    e = make_full()
    opened = open_explanation(e.save(tmp_path / "e"))
    assert repr(opened) == repr(e)
    assert len(opened) == 4
    assert opened.labels("channel").tolist() == e.labels("channel").tolist()
    assert not {"values", "inputs", "outputs", "explained"} & set(opened.__dict__)
    assert opened.values is opened.values
    assert "values" in opened.__dict__
    assert "inputs" not in opened.__dict__


@pytest.mark.usefixtures("one_sample_a_chunk")
def test_one_sample_is_read_without_the_others(tmp_path: Path) -> None:
    e = make()
    place = e.save(tmp_path / "e")
    one, some = open_explanation(place)[2], open_explanation(place)[[2, 2, 2]][1:]
    for number in (0, 1, 3):
        (place / "attribution" / f"c.{number}.0.0").unlink()
    np.testing.assert_array_equal(one.values, e.values[[2]])
    np.testing.assert_array_equal(some.values, e.values[[2, 2]])


def test_a_store_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    place = make().save(tmp_path / "e")
    opened = open_explanation(place)
    explained = opened.explained
    make(n=5).save(place, overwrite=True)
    assert opened.explained is explained
    with pytest.raises(KerascopeError, match=r"was replaced or removed since it was opened. Open it again"):
        _ = opened.values
    shutil.rmtree(place)
    with pytest.raises(KerascopeError, match="was replaced or removed"):
        _ = opened[0].values


def test_it_may_be_saved_over_itself(tmp_path: Path) -> None:
    e = make_full()
    place = e.save(tmp_path / "e")
    open_explanation(place).save(place, overwrite=True)
    assert_same(e, open_explanation(place))


def test_a_relative_path_stays_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    e = make()
    assert e.save("e.zarr") == tmp_path / "e.zarr"
    opened = open_explanation("e.zarr")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(opened.values, e.values)


# Chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((10, 4, 5), (10, 4, 5)),
        ((1000, 128, 64), (128, 128, 64)),
        ((3, 1024, 1024, 3), (1, 341, 1024, 3)),
        ((2, 3_000_000), (1, 1_048_576)),
        ((0, 4), (1, 4)),
        ((7,), (7,)),
    ],
)
def test_chunks_hold_whole_samples_as_long_as_they_fit(shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    assert store._chunks(shape, 4) == chunks


# What exists already -------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    e = make()
    place = e.save(tmp_path / "e")
    with pytest.raises(OutputExistsError, match=r"exists already. Give overwrite=True"):
        make_full().save(place)
    assert_same(e, open_explanation(place))
    assert left_beside(place) == []


def test_a_store_or_an_empty_folder_is_overwritten_when_asked(tmp_path: Path) -> None:
    place = tmp_path / "e"
    place.mkdir()
    make().save(place, overwrite=True)
    (place / "attribution" / "zarr.json").unlink()  # a damaged one too
    e = make_full()
    e.save(place, overwrite=True)
    assert_same(e, open_explanation(place))
    assert left_beside(place) == []


def test_what_is_no_store_is_never_overwritten(tmp_path: Path) -> None:
    folder, file = tmp_path / "home", tmp_path / "file.npy"
    folder.mkdir()
    (folder / "thesis.txt").write_text("dear")
    file.write_text("dear")
    for place in (folder, file):
        with pytest.raises(BadInputError, match="is not a Zarr store, so it is not overwritten"):
            make().save(place, overwrite=True)
    assert (folder / "thesis.txt").read_text() == file.read_text() == "dear"
    with pytest.raises(KerascopeError, match="Could not write"):
        make().save(file / "e")


def test_parents_are_made_and_links_followed(tmp_path: Path) -> None:
    e = make()
    place = e.save(tmp_path / "a" / "b" / "e")
    link = tmp_path / "link"
    link.symlink_to(place)
    with pytest.raises(OutputExistsError):
        e.save(link)
    assert make_full().save(link, overwrite=True) == place
    assert link.is_symlink()
    assert_same(make_full(), open_explanation(link))


def test_the_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    place = make().save(tmp_path / "e")
    assert place.stat().st_mode == (tmp_path / "usual").stat().st_mode


# Writing that fails --------------------------------------------------------------------


@pytest.fixture(params=["new", "over"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, dict[str, bool]]]:
    """A place to write to, free or taken; afterwards it is as it was, and nothing lies beside it."""
    place, before = tmp_path / "e.zarr", make(n=2)
    if request.param == "new":
        yield place, {}
        assert not place.exists()
    else:
        before.save(place)
        yield place, {"overwrite": True}
        assert_same(before, open_explanation(place))
    assert left_beside(place) == []


def full_disk(after: int) -> Callable[..., Any]:
    """Something to stand in for writing a file: works so many times, then the disk is full."""
    from zarr.storage import _local

    real, count = _local._put, [0]

    def put(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    return put


@pytest.mark.parametrize("after", [0, 5, 12, 20])
def test_a_full_disk_leaves_nothing(
    target: tuple[Path, dict[str, bool]], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zarr.storage import _local

    place, how = target
    with monkeypatch.context() as patch:
        patch.setattr(_local, "_put", full_disk(after))
        with pytest.raises(KerascopeError, match=r"Could not write '.*e.zarr': No space left on device. Nothing was"):
            make_full().save(place, **how)


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_failure_at_the_end_leaves_nothing(
    target: tuple[Path, dict[str, bool]], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, how = target
    real = getattr(os, failing)

    def fails(*args: Any) -> Any:
        if failing == "rename" and not str(args[0]).endswith(".part"):
            return real(*args)  # moving the old store aside, and back
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fails)
        with pytest.raises(KerascopeError, match="Input/output error"):
            make_full().save(place, **how)


def test_the_only_copy_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(n=2)
    place = before.save(tmp_path / "e")
    real = os.rename

    def fails(source: Any, goal: Any) -> None:
        if goal == place:
            raise OSError(errno.EIO, "Input/output error")
        real(source, goal)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(KerascopeError, match="Input/output error"):
        make().save(place, overwrite=True)
    (kept,) = left_beside(place)
    assert_same(before, open_explanation(tmp_path / kept / "store"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_any_interruption_leaves_nothing(
    target: tuple[Path, dict[str, bool]], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(folder: str) -> None:
        raise error

    place, how = target
    with monkeypatch.context() as patch:
        patch.setattr(store, "_sync", sync)
        with pytest.raises(error):
            make_full().save(place, **how)


def test_somebody_elses_store_written_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make(n=2).save(tmp_path / "other")
    place = tmp_path / "e"

    def sync(folder: str) -> None:
        shutil.copytree(other, place)

    monkeypatch.setattr(store, "_sync", sync)
    with pytest.raises(OutputExistsError, match="exists already"):
        make().save(place)
    assert_same(make(n=2), open_explanation(place))
    assert left_beside(place) == ["other"]


def test_every_file_is_forced_to_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), real_fsync(handle))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), real_rename(a, b))[1])
    place = make().save(tmp_path / "e")
    files = list(place.rglob("*"))
    assert events == ["fsync"] * (len(files) + 1) + ["rename", "fsync"]


CHILD = """
    import os, sys, time
    from zarr.storage import _local
    sys.path.insert(0, {root!r})
    from tests.unit.explanations import make_full
    real, count = _local._put, [0]
    def put(*args, **kwargs):
        count[0] += 1
        if count[0] == {stop}:
            print("here", flush=True)
            time.sleep(60)
        return real(*args, **kwargs)
    _local._put = put
    make_full().save({place!r}, overwrite=True)
    print("done", flush=True)
"""


@pytest.mark.parametrize(("stop", "there"), [(4, False), (15, True), (28, False)])
def test_a_kill_in_mid_write_leaves_nothing_that_opens(stop: int, there: bool, tmp_path: Path) -> None:
    place = tmp_path / "e.zarr"
    before = make(n=2)
    if there:
        before.save(place)
    root = str(Path(__file__).resolve().parents[2])
    code = textwrap.dedent(CHILD.format(root=root, stop=stop, place=str(place)))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
    if there:
        assert_same(before, open_explanation(place))
    else:
        assert not place.exists()
    rest = left_beside(place)
    assert len(rest) == 1  # nobody could clean up
    assert rest[0].startswith(".e.zarr.")
    with pytest.raises(BadInputError):
        open_explanation(tmp_path / rest[0])
    make_full().save(place, overwrite=True)
    assert_same(make_full(), open_explanation(place))


# Opening what is not whole -------------------------------------------------------------


@pytest.mark.usefixtures("one_sample_a_chunk")
def test_a_store_that_lacks_any_file_is_refused(tmp_path: Path) -> None:
    e = make_full(warnings=())
    place = e.save(tmp_path / "e")
    files = sorted(p for p in place.rglob("*") if p.is_file())
    by_array = {p.relative_to(place).parts[0]: p for p in files}
    assert {"attribution", "explained", "completeness_gap", "row", "class"} <= set(by_array)
    for name, file in by_array.items():
        for missing in {file, place / name / "zarr.json"} if name != "zarr.json" else {file}:
            kept = missing.read_bytes()
            missing.unlink()
            with pytest.raises(BadInputError, match=r"damaged: |not a saved result"):
                open_explanation(place)
            missing.write_bytes(kept)
    open_explanation(place)


def test_a_truncated_chunk_is_refused(tmp_path: Path) -> None:
    place = make().save(tmp_path / "e")
    chunk = place / "attribution" / "c.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(BadInputError, match=r"damaged: 'attribution' should have 1 chunk files with \d+ bytes"):
        open_explanation(place)


def test_variables_added_by_others_do_no_harm(tmp_path: Path) -> None:
    e = make()
    place = e.save(tmp_path / "e")
    note = xr.Dataset({"note": ("sample", np.arange(4.0))})
    note.attrs = json.loads((place / "zarr.json").read_text())["attributes"]
    note.to_zarr(place, mode="a", consolidated=False, zarr_format=3)
    assert_same(e, open_explanation(place))


def marked(change: Callable[[dict[str, Any]], None], place: Path) -> None:
    text = json.loads((place / "zarr.json").read_text())
    change(text["attributes"])
    (place / "zarr.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("complete"), r"is incomplete: .save\(\) did not write it to its end"),
        (lambda a: a.update(complete=0), "is incomplete"),
        (
            lambda a: a.update(kerascope_store=store.FORMAT + 1),
            r"has format 2; this version .* reads up to 1",
        ),
        (lambda a: a.pop("chunk_manifest"), "lacks its list of chunks"),
        (lambda a: a.update(chunk_manifest="{"), "lacks its list of chunks"),
        (lambda a: a.update(chunk_manifest="[1]"), "lacks its list of chunks"),
        (lambda a: a.pop("kerascope_record"), "holds no explanation that can be read"),
        (lambda a: a.update(kerascope_record="{}"), "holds no explanation that can be read"),
        (
            lambda a: a.update(kerascope_record='{"kind": "Evidence"}'),
            "holds a saved Evidence, not an Explanation",
        ),
        (lambda a: (a.pop("kerascope_store"), a.pop("kerascope_record")), "that kerascope did not write"),
        (lambda a: a.clear(), "that kerascope did not write. Open it with xarray.open_zarr"),
    ],
)
def test_odd_marks_are_refused(change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    place = make().save(tmp_path / "e")
    marked(change, place)
    with pytest.raises(BadInputError, match=message):
        open_explanation(place)


def test_a_record_without_its_main_arrays_is_refused(tmp_path: Path) -> None:
    place = make().save(tmp_path / "e")

    def drop(attributes: dict[str, Any]) -> None:
        record = json.loads(attributes["kerascope_record"])
        del record["fields"]["values"], record["fields"]["outputs"]
        attributes["kerascope_record"] = json.dumps(record)

    marked(drop, place)
    with pytest.raises(BadInputError, match="lacks values, outputs"):
        open_explanation(place)


def test_what_is_no_store_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no file or folder '.*nothing'"):
        open_explanation(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match=r"is a file. A saved result is a folder \(a Zarr store\)"):
        open_explanation(tmp_path / "file")
    with pytest.raises(BadInputError, match=r"is not a saved result: it has no zarr.json"):
        open_explanation(tmp_path)
    for text in ("{", "[]", '{"attributes": []}', "\x00"):
        (tmp_path / "zarr.json").write_text(text)
        with pytest.raises(BadInputError, match=r"cannot be read|kerascope did not write"):
            open_explanation(tmp_path)
    make().to_xarray().drop_attrs().to_zarr(tmp_path / "foreign", consolidated=False, zarr_format=3)
    with pytest.raises(BadInputError, match="kerascope did not write"):
        open_explanation(tmp_path / "foreign")


# Attributes as text --------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(max_size=5) | st.integers() | st.sampled_from(["__tuple__", "__float__", "__array__", "__items__"])
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(nested)
def test_nested_values_come_back_from_strict_json(value: Any) -> None:
    text = store.to_json(value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)
    assert same(value, store.from_json(text))


def test_arrays_and_numpy_numbers_become_text_too() -> None:
    value = {"a": np.array([[1.5, np.nan]], np.float32), "b": np.array(["x", "é"]), "c": np.array([], bool)}
    assert same(value, store.from_json(store.to_json(value)))
    assert store.from_json(store.to_json((np.float32(0.5), np.int64(3), np.bool_(True)))) == (0.5, 3, True)
