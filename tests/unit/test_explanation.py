from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import sys
import types
from typing import Any

import numpy as np
import pytest

from kerascope.errors import BadInputError, UnknownNameError
from kerascope.explanation import Explanation
from tests.unit.explanations import make, make_full, make_several

pytestmark = pytest.mark.backend_free


# What is accepted ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"values": np.zeros((4, 3, 6))}, r"values should have shape \(4, 3, 5\). Received \(4, 3, 6\)"),
        ({"values": [[1.0]]}, r"values holds NumPy arrays. Received list"),
        ({"values": None}, "An explanation needs 'values'"),
        ({"values": {"a": np.zeros((4, 3, 5))}}, "values needs one array"),
        ({"inputs": np.zeros((3, 3, 5))}, r"inputs should have shape \(4, 3, 5\). Received \(3, 3, 5\)"),
        ({"outputs": np.zeros((3, 3))}, r"outputs has one line per sample: 4. Received shape \(3, 3\)"),
        ({"explained": np.zeros((4, 1, 1))}, r"explained has shape \(N,\) or \(N, T\). Received \(4, 1, 1\)"),
        ({"explained": 1.0}, "explained holds NumPy arrays. Received float"),
        ({"explained": [np.zeros(4)]}, "explained is one NumPy array. Received list"),
        ({"target": np.zeros(3, int)}, r"target should have shape \(4,\). Received \(3,\)"),
        ({"target": np.zeros(4)}, "target holds class indices, whole numbers. Received float64"),
        ({"completeness_gap": np.zeros((4, 1))}, r"completeness_gap should have shape \(4,\)"),
        ({"absorbed": np.zeros(5)}, r"absorbed should have shape \(4,\)"),
        ({"standard_error": np.zeros((4, 3))}, r"standard_error should have shape \(4, 3, 5\)"),
        ({"baseline": np.zeros((2, 3, 6))}, r"baseline should have shape \(2, 3, 5\). Received \(2, 3, 6\)"),
        ({"group_values": np.zeros((3, 2))}, r"group_values begins with the axes \(4,\)"),
        ({"group_values": np.zeros((4, 2, 2))}, r"group_values begins with the axes \(4,\)"),
        ({"layer_map": np.zeros((3, 2, 2))}, r"layer_map begins with the axes \(4,\)"),
        ({"dims": ("row",)}, r"dims names the axes of one sample. Received dims=\('row',\)"),
        ({"dims": ("row", "row")}, "Every dim needs a name of its own"),
        ({"dims": ("gene", "sample")}, "'sample' has a meaning of its own .*'sample_axis'"),
        ({"dims": ("row", "a/b")}, "A dim is a text without '/'"),
        ({"dims": ("row", "")}, "A dim is a text"),
        ({"dims": (1, 2)}, "A dim is a text"),
        ({"dims": {"x": ("row", "column")}}, "values is a dict or list. Received one array"),
        ({"coords": {"row": ["a", "b"]}}, r"coords\['row'\] needs 3 labels, one per index. Received 2"),
        ({"coords": {"row": [["a"]]}}, r"coords\['row'\] needs one label per index"),
        ({"coords": {"row": np.zeros(3, complex)}}, "neither numbers, times nor text"),
        ({"coords": {"row": np.zeros(3, "M8[Y]")}}, "Give them in days to nanoseconds"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make(**fields)


def test_labels_of_an_unknown_dim_offer_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown dim in coords 'columm'. Did you mean 'column'\?"):
        make(coords={"columm": np.arange(5)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"values": {"left/in": np.zeros((4, 3, 5))}},
            r"values needs arrays for the inputs \['left/in', 'right'\]",
        ),
        ({"values": [np.zeros((4, 3, 5))]}, "values needs arrays for the inputs .* Received 1 arrays"),
        (
            {"baseline": {"left/in": np.zeros((1, 3, 5)), "right": np.zeros((2, 2, 4, 2))}},
            "baseline needs the same",
        ),
        ({"coords": {"row": ["a", "b", "c"]}}, r"Inputs have the sizes \[2, 3\] along 'row'"),
    ],
)
def test_several_inputs_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make_several(**fields)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["a", "bc", "d"], np.array(["a", "bc", "d"])),
        (np.array(["a", 1, None], dtype=object), np.array(["a", "1", "None"])),
        (np.array([b"a", b"\xc3\xa9", b""]), np.array(["a", "é", ""])),
        (range(3), np.arange(3)),
        (np.array(["2020-01-01"] * 3, "M8[D]"), np.array(["2020-01-01"] * 3, "M8[D]")),
    ],
)
def test_labels_become_arrays(given: object, kept: np.ndarray) -> None:
    labels = make(coords={"row": given}).coords["row"]
    assert labels.dtype == kept.dtype
    assert labels.tolist() == kept.tolist()


def test_lists_of_names_become_tuples() -> None:
    e = make(dims=["row", "column"], class_names=["a", "b", "c"], warnings=["careful"])
    assert (e.dims, e.class_names, e.warnings) == (("row", "column"), ("a", "b", "c"), ["careful"])


def test_it_is_frozen_and_holds_the_arrays_it_was_given() -> None:
    values = np.zeros((4, 3, 5), np.float32)
    e = make(values=values)
    assert e.values is values
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.values = values  # type: ignore[misc]
    assert e.baseline is None
    assert not hasattr(e, "valves")


# Choosing samples ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        (3, [3]),
        (-1, [3]),
        (np.int64(0), [0]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0, 2], [2, 0, 2]),
        (np.array([-1, 1]), [3, 1]),
        ([True, False, False, True], [0, 3]),
        (np.array([False] * 4), []),
        ([], []),
    ],
)
@pytest.mark.parametrize("maker", [make_full, make_several])
def test_choosing_samples_keeps_their_axis(maker: Any, index: Any, numbers: list[int]) -> None:
    e = maker()
    some = e[index]
    assert len(some) == len(numbers)
    for name in ("explained", "target", "completeness_gap", "absorbed", "group_values", "layer_map"):
        if getattr(e, name) is not None:
            np.testing.assert_array_equal(getattr(some, name), getattr(e, name)[numbers], err_msg=name)
    for name in ("values", "inputs", "outputs", "standard_error"):
        before, after = getattr(e, name), getattr(some, name)
        pairs = [(before[k], after[k]) for k in before] if isinstance(before, dict) else [(before, after)]
        for whole, part in pairs:
            np.testing.assert_array_equal(part, whole[numbers], err_msg=name)
    assert some.baseline is e.baseline
    assert (some.dims, some.warnings, some.class_names) == (e.dims, e.warnings, e.class_names)


def test_numbers_per_sample_in_coords_and_attributes_are_chosen_too() -> None:
    e = make_full()
    some = e[[3, 1]]
    assert some.coords["sample"].tolist() == ["d", "b"]
    assert some.coords["row"] is e.coords["row"]
    assert some.attrs["largest_sum"] == [4.0, 2.0]
    assert some.attrs["baseline"]["output"] == [0.4, 0.2]
    assert e[1:3].attrs["largest_sum"] == [2.0, 3.0]
    assert e.attrs["largest_sum"] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("name", ["largest_sum", "log_scale", "noise"])
def test_every_attribute_of_one_number_per_sample_is_chosen(name: str) -> None:
    e = make(attrs={name: [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]]})
    assert e[1:3].attrs[name] == [[2.0, 6.0], [3.0, 7.0]]
    assert e[[3, 0]].attrs[name] == [[4.0, 8.0], [1.0, 5.0]]
    assert e[2].attrs[name] == [[3.0, 7.0]]
    assert make(attrs={name: None})[2].attrs[name] is None


def test_a_slice_shares_memory() -> None:
    e = make()
    assert np.shares_memory(e[1:3].values, e.values)
    assert np.shares_memory(e[2].values, e.values)


def test_a_list_of_inputs_stays_a_list_and_a_tuple_a_tuple() -> None:
    assert isinstance(make_several(list)[1].values, list)
    assert isinstance(make_several(tuple)[1].values, tuple)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (4, r"There are 4 samples, 0 to 3. Received 4"),
        (-5, "There are 4 samples"),
        ([0, 9], "There are 4 samples"),
        ([True, False], "A mask needs one truth value per sample: 4. Received 2"),
        (True, "chosen along one axis"),
        ((0, 1, slice(None)), "chosen along one axis"),
        (1.5, "chosen along one axis"),
        ("a", "chosen along one axis"),
        (np.zeros((2, 2), int), "chosen along one axis"),
    ],
)
def test_odd_indices_are_refused(index: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message) if "(" in message else message):
        make()[index]


def test_iteration_yields_every_sample_once() -> None:
    e = make()
    some = list(e)
    assert [len(one) for one in some] == [1, 1, 1, 1]
    np.testing.assert_array_equal(np.concatenate([one.values for one in some]), e.values)


def test_copies_and_pickles_are_the_same_record() -> None:
    e = make_full()
    for other in (copy.copy(e), copy.deepcopy(e), pickle.loads(pickle.dumps(e)), dataclasses.replace(e)):
        np.testing.assert_array_equal(other.values, e.values)
        assert other.coords.keys() == e.coords.keys()


# Maps and profiles ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "matrix"),
    [
        (("row", "column", "channel"), ("row", "column")),
        (("channel", "row", "column"), ("row", "column")),
        (("row", "column", "depth"), ("row", "column")),
        (("frame", "row", "column", "channel"), ("frame", "row")),
        (("time", "channel"), ("time", "channel")),
        (("feature",), ("feature",)),
    ],
)
def test_matrix_dims_leave_the_channels_out(dims: tuple[str, ...], matrix: tuple[str, ...]) -> None:
    e = make(shape=(2, 3, 4, 5)[: len(dims)], dims=dims)
    assert e.matrix_dims() == matrix
    rest = tuple(i for i, d in enumerate(dims) if d not in matrix)
    expected = e.values[1].sum(axis=rest) if rest else e.values[1]
    expected = expected[:, None] if expected.ndim == 1 else expected
    np.testing.assert_allclose(e.matrix(1), expected, rtol=1e-5, atol=1e-6)
    assert e.matrix(1).dtype == np.float32


def test_matrix_chooses_sample_and_target() -> None:
    e = make_full()
    np.testing.assert_allclose(e.matrix(-1, 1), e.values[3, 1].sum(axis=-1), rtol=1e-5, atol=1e-6)
    with pytest.raises(BadInputError, match=r"There are 2 targets, 0 to 1. Received 2"):
        e.matrix(0, 2)
    with pytest.raises(BadInputError, match=r"There are 1 targets"):
        make().matrix(0, 1)
    with pytest.raises(BadInputError, match=r"There are 4 samples"):
        e.matrix(4)


def test_a_matrix_without_channels_is_no_copy() -> None:
    e = make()
    assert np.shares_memory(e.matrix(2), e.values)


def test_profiles_sum_over_all_other_axes() -> None:
    e = make_full()
    wide = e.values.astype(np.float64)
    np.testing.assert_allclose(e.profile("row"), wide.sum(axis=(3, 4)), rtol=1e-12)
    np.testing.assert_allclose(e.profile("column"), wide.sum(axis=(2, 4)), rtol=1e-12)
    np.testing.assert_allclose(e.profile("channel"), wide.sum(axis=(2, 3)), rtol=1e-12)
    assert e.profile("row").dtype == np.float64
    np.testing.assert_allclose(e.profile("row").sum(-1), e.profile("column").sum(-1), rtol=1e-9)


def test_absolute_profiles_sum_channels_with_their_signs_first() -> None:
    values = np.array([[[[1.0, -1.0], [2.0, 1.0]], [[-3.0, 1.0], [0.0, 0.5]]]], np.float32)
    e = make(n=1, shape=(2, 2, 2), values=values)
    np.testing.assert_allclose(e.profile("row", absolute=True), [[3.0, 2.5]])
    np.testing.assert_allclose(e.profile("column", absolute=True), [[2.0, 3.5]])
    np.testing.assert_allclose(e.profile("channel", absolute=True), [[6.0, 3.5]])


def test_unknown_names_offer_the_nearest() -> None:
    e = make()
    with pytest.raises(UnknownNameError, match=r"Unknown dim 'colum'. Did you mean 'column'\? Known: column, row"):
        e.profile("colum")
    with pytest.raises(UnknownNameError, match=r"Unknown dim 'rows'"):
        e.segments("rows")
    with pytest.raises(UnknownNameError, match=r"Unknown dim 'x'"):
        e.labels("x")


# Names ---------------------------------------------------------------------------------


def test_labels_are_coordinates_or_numbered() -> None:
    e = make_full()
    assert e.labels("row").tolist() == ["weiß", "语言", "x y/z"]
    assert e.labels("channel").tolist() == ["channel 0", "channel 1", "channel 2"]


def test_target_names_are_class_names_only_where_those_name_the_output() -> None:
    target = np.array([2, 0, 1, 1])
    assert make(target=target, class_names=("a", "b", "c")).target_name(0) == "c"
    assert make(target=target, class_names=("a", "b")).target_name(0) == "class 2"
    assert make(target=target).target_name(-1) == "class 1"
    one_unit = make(target=np.zeros(4, int), outputs=np.zeros((4, 1)), class_names=("no", "yes"))
    assert one_unit.target_name(0) == "the output unit"
    assert make(target=object()).target_name(0) == "top class"
    assert make(target="Contrast()", attrs={}).target_name(0) == "Contrast()"
    two = make(targets=2, target=np.tile([2, 0], (4, 1)), class_names=("a", "b", "c"))
    assert [two.target_name(1, t) for t in (0, 1)] == ["c", "a"]


def test_the_method_is_named_from_what_is_there() -> None:
    named = types.SimpleNamespace(name="gradient")
    assert make(attrs={}, method=named).method_name == "gradient"
    assert make(attrs={}, method="mine").method_name == "mine"
    assert make(method=named).method_name == "lrp.epsilon"
    assert "object" in make(attrs={}, method=object()).method_name


# Tables --------------------------------------------------------------------------------

LINES = ["sample", "target", "index", "name", "sum", "abs_sum", "share"]


def test_rows_are_ranked_within_each_sample() -> None:
    values = np.array([[[1.0, -1.0, 0.5], [-4.0, 0.0, 1.0]], [[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]]], np.float32)
    e = make(n=2, shape=(2, 3), values=values, target=np.array([2, 1]), coords={"row": ["up", "down"]})
    table = e.rows()
    assert list(table.columns) == LINES
    assert table.values.tolist() == [
        [0, 2, 1, "down", -3.0, 5.0, pytest.approx(5 / 7.5)],
        [0, 2, 0, "up", 0.5, 2.5, pytest.approx(2.5 / 7.5)],
        [1, 1, 1, "down", 3.0, 3.0, 0.6],
        [1, 1, 0, "up", 2.0, 2.0, 0.4],
    ]


def test_columns_are_those_of_the_second_matrix_dim() -> None:
    e = make_full()
    table = e.columns()
    assert list(table.columns) == LINES
    assert len(table) == 4 * 2 * 5
    for (sample, target), some in table.groupby(["sample", "target"], sort=False):
        t = e.target[sample].tolist().index(target)
        maps = e.values[sample, t].astype(np.float64).sum(axis=-1)
        by_index = some.sort_values("index")
        if len(some) > 5:  # both targets are the same class
            continue
        np.testing.assert_allclose(by_index["sum"], maps.sum(axis=0), rtol=1e-9)
        np.testing.assert_allclose(by_index["abs_sum"], np.abs(maps).sum(axis=0), rtol=1e-9)
        np.testing.assert_allclose(by_index["share"], np.abs(maps).sum(axis=0) / np.abs(maps).sum(), rtol=1e-9)
        assert (np.diff(some["sum"].abs()) <= 0).all()


def test_the_target_column_holds_class_indices_or_the_text() -> None:
    e = make(targets=2, target=np.array([[0, 2]] * 4))
    assert e.rows()["target"].tolist() == [0] * 3 + [2] * 3 + ([0] * 3 + [2] * 3) * 3
    assert set(make(target=object()).rows()["target"]) == {"top class"}
    assert set(make(target=object()).segments("row")["target"]) == {"top class"}


def test_one_axis_has_rows_and_no_columns() -> None:
    e = make(shape=(6,))
    assert len(e.rows()) == 4 * 6
    assert e.matrix(0).shape == (6, 1)
    with pytest.raises(BadInputError, match=r"one axis, 'feature', so there are no columns. Use .rows\(\)"):
        e.columns()


def test_segments_find_the_planted_stretch() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (2, 6, 40)).astype(np.float32)
    values[0, 4, 10:22] = 1
    values[0, 4, [9, 22]] = -0.5  # else a little noise at the ends belongs to it
    values[1, 2, 30:40] = -1
    values[1, 2, 29] = 0.5
    time = np.arange(40) * 0.5
    e = make(n=2, shape=(6, 40), values=values, dims=("sensor", "time"), coords={"time": time})
    table = e.segments("time")
    first = table.groupby("sample").first()
    assert first[["line", "name", "sign", "start", "stop", "length"]].values.tolist() == [
        [4, "sensor 4", 1, 10, 22, 12],
        [2, "sensor 2", -1, 30, 40, 10],
    ]
    assert first[["start_coord", "stop_coord"]].values.tolist() == [[5.0, 10.5], [15.0, 19.5]]
    assert first["dim"].tolist() == ["time", "time"]
    np.testing.assert_allclose(first["score"], [values[0, 4, 10:22].sum(), -values[1, 2, 30:40].sum()], rtol=1e-6)
    assert table.attrs["offset"] == 0.0


def test_segments_on_the_profile_have_no_line() -> None:
    values = np.zeros((1, 2, 6), np.float32)
    values[0, :, 2:4] = 1
    values[0, 0, 5] = -3
    table = make(n=1, shape=(2, 6), values=values).segments("column", profile=True)
    assert table[["line", "name", "sign", "start", "stop", "score"]].values.tolist() == [
        [-1, "all", 1, 2, 4, 4.0],
        [-1, "all", -1, 5, 6, 3.0],
    ]


def test_segments_along_unordered_dims_are_refused() -> None:
    e = make(attrs={"ordered": ["column"]})
    assert len(e.segments("column"))
    with pytest.raises(BadInputError, match=r"Neighbours along 'row' mean nothing.* Seek stretches along 'column'"):
        e.segments("row")
    assert len(make(attrs={"ordered": None}).segments("row"))
    with pytest.raises(BadInputError, match="along no dim"):
        make(attrs={"ordered": []}).segments("row")


def test_segments_along_a_summed_axis_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"Stretches run along a matrix dim: 'row' or 'column'. Received 'channel'"):
        make_full().segments("channel")


def test_tables_of_no_samples_are_empty() -> None:
    none = make()[[]]
    assert len(none.rows()) == 0
    assert list(none.rows().columns) == LINES
    assert len(none.segments("row")) == 0
    assert none.profile("row", absolute=True).shape == (0, 3)


# Several inputs ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_are_asked_for_by_name(kind: type) -> None:
    e = make_several(kind)
    right = e.values["right"] if kind is dict else e.values[1]
    assert e.input_names == ("left/in", "right")
    np.testing.assert_allclose(e.profile("row", input="right"), right.sum(axis=(2, 3)))
    np.testing.assert_allclose(e.matrix(1, input="right"), right[1].sum(axis=-1))
    assert len(e.rows(input="left/in")) == 4 * 3
    assert len(e.columns(input="right")) == 4 * 4
    assert set(e.segments("row", input="right")["line"]) <= set(range(4))
    for ask in (e.rows, e.columns, lambda: e.segments("row"), lambda: e.profile("row"), lambda: e.matrix(0)):
        with pytest.raises(BadInputError, match=r"several inputs. Say which: input='left/in' or 'right'"):
            ask()
    with pytest.raises(UnknownNameError, match=r"Unknown input 'rigth'. Did you mean 'right'\?"):
        e.rows(input="rigth")


def test_the_only_input_needs_no_name() -> None:
    with pytest.raises(BadInputError, match=r"takes one input. Leave input='a' out"):
        make().rows(input="a")
    one = make(values={"x": np.ones((4, 3, 5))}, inputs={"x": np.ones((4, 3, 5))}, dims={"x": ("row", "column")})
    assert len(one.rows()) == len(one.rows(input="x")) == 12


# xarray --------------------------------------------------------------------------------


def test_xarray_has_named_axes_and_shares_memory() -> None:
    e = make_full()
    ds = e.to_xarray()
    dims = {name: ds[name].dims for name in ds.data_vars}
    assert dims == {
        "attribution": ("sample", "target", "row", "column", "channel"),
        "input": ("sample", "row", "column", "channel"),
        "output": ("sample", "class"),
        "explained": ("sample", "target"),
        "target_class": ("sample", "target"),
        "completeness_gap": ("sample", "target"),
        "absorbed": ("sample", "target"),
        "standard_error": ("sample", "target", "row", "column", "channel"),
        "baseline": ("reference", "row", "column", "channel"),
        "layer_map": ("sample", "target", "layer_axis_0", "layer_axis_1"),
        "group_values": ("sample", "target", "group"),
    }
    assert np.shares_memory(ds["attribution"].values, e.values)
    assert ds["row"].values.tolist() == e.coords["row"].tolist()
    assert ds["class"].values.tolist() == list(e.class_names or ())
    assert ds.attrs["seed"] == 3
    assert ds.attrs["method"].startswith('{"name": "lrp.epsilon"')


def test_xarray_without_targets_names_the_classes_target() -> None:
    ds = make().to_xarray()
    assert ds["target"].dims == ("sample",)
    assert ds["attribution"].dims == ("sample", "row", "column")
    assert "target" not in make(target="text").to_xarray()


def test_xarray_of_several_inputs_and_heads() -> None:
    ds = make_several().to_xarray()
    assert ds["attribution_left_in"].dims == ("sample", "row_left_in", "column_left_in")
    assert ds["input_right"].dims == ("sample", "row_right", "column_right", "channel")
    assert ds["output_a_b"].dims == ("sample", "class_a_b")
    assert ds["output_c"].dims == ("sample", "output_axis_0_c", "class_c")


def test_own_axes_give_way_to_the_users_names() -> None:
    e = make(
        dims=("class", "group"),
        coords={"class": list("abc")},
        group_values=np.zeros((4, 7)),
        class_names="xyz",
    )
    ds = e.to_xarray()
    assert ds["attribution"].dims == ("sample", "class", "group")
    assert ds["output"].dims == ("sample", "class_")
    assert ds["group_values"].dims == ("sample", "group_")
    assert ds["class"].values.tolist() == ["a", "b", "c"]
    without_labels = make(dims=("class", "group"), shape=(3, 5), class_names="xyz").to_xarray()
    assert "class" not in without_labels.coords


def test_variables_of_alike_inputs_keep_apart() -> None:
    arrays = {"a b": np.ones((4, 2)), "a/b": np.zeros((4, 2))}
    e = make(values=arrays, inputs=arrays, dims={"a b": ("x",), "a/b": ("x",)})
    ds = e.to_xarray()
    assert {ds["attribution_a_b"].values.mean(), ds["attribution_a_b_"].values.mean()} == {0.0, 1.0}


@pytest.mark.parametrize("value", [object(), {"deep": [object()]}, 1 + 2j])
def test_attributes_that_are_no_plain_data_are_refused(value: object) -> None:
    with pytest.raises(BadInputError, match="Attributes hold text, numbers, None"):
        make(attrs={"x": value}).to_xarray()


@pytest.mark.parametrize("name", ["complete", "kerascope_record", "chunk_files"])
def test_attribute_names_of_the_store_are_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=f"The attribute name '{name}' is kerascope's own"):
        make(attrs={name: 1}).to_xarray()


# Words and pictures --------------------------------------------------------------------


def test_repr_is_one_line() -> None:
    assert repr(make()) == "<Explanation by lrp.epsilon: 4 samples, 3 row x 5 column>"
    assert "1 sample, 2 targets each, 3 row x 5 column x 3 channel" in repr(make_full()[0])
    assert "left/in: 3 row x 5 column; right: 2 row x 4 column x 2 channel" in repr(make_several())


def test_html_is_a_table_with_everything_escaped() -> None:
    attrs = {
        "method": {"name": "<script>alert(1)</script>", "question": "a & b?"},
        "output": {"explained": "logit"},
    }
    e = make(attrs=attrs, warnings=("<img src=x>",), class_names=("<b>", "<i>", "<u>"))
    text = e._repr_html_()
    assert set(re.findall(r"<(\w+)", text)) == {"table", "caption", "tr", "th", "td"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a &amp; b?" in text
    assert "nothing is promised" in text
    gap = make(completeness_gap=np.array([0.0, np.nan, -0.25, 0.125]))
    assert "at most 0.25" in gap._repr_html_()


def test_plot_and_report_go_to_the_parts_that_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    figure = types.ModuleType("kerascope.view.figure")
    figure.plot = lambda *args, **kwargs: calls.append((args, kwargs)) or "figure"  # type: ignore[attr-defined]
    report = types.ModuleType("kerascope.report")
    report.report = lambda *args, **kwargs: calls.append((args, kwargs)) or "path"  # type: ignore[attr-defined]
    import kerascope.view

    monkeypatch.setitem(sys.modules, "kerascope.view.figure", figure)
    monkeypatch.setattr(kerascope.view, "figure", figure, raising=False)
    monkeypatch.setitem(sys.modules, "kerascope.report", report)
    e = make()
    assert e.plot(2, segments=False) == "figure"
    assert e.report("x.html", title="T") == "path"
    assert calls == [
        ((e, 2), {"target": 0, "ax": None, "segments": False, "truth": None}),
        ((e, "x.html"), {"title": "T", "overwrite": False, "truth": None, "samples": None}),
    ]


def test_importing_the_record_imports_nothing_slow() -> None:
    import subprocess

    slow = "('keras', 'pandas', 'xarray', 'zarr', 'scipy', 'matplotlib')"
    code = f"import sys, kerascope.explanation; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_explanations_are_compared_by_identity() -> None:
    e = make()
    assert e == e
    assert e != Explanation(**{f.name: getattr(e, f.name) for f in dataclasses.fields(e)})
    assert len({e, e}) == 1
