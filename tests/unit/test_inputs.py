"""What may be given as samples, what is said about it, and what is refused."""

from __future__ import annotations

import re

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import kerascope as ks
from kerascope.inputs import check_coords, name_dims, read_samples
from kerascope.model.view import InputSpec, Signature
from tests.unit.models import draw, linear, two_inputs

X = draw(4, 3, 2)


def read(x, *shape, dtype="float32"):
    floats = dtype if dtype.startswith("float") else "float32"
    return read_samples(x, Signature((InputSpec("x", shape, dtype),), None), dtype=floats)


# Shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shape", "result", "notes"),
    [
        ((4, 3, 2), (3, 2), (4, 3, 2), []),
        ((3, 2), (3, 2), (1, 3, 2), ["batch axis"]),
        ((4, 3), (3, 1), (4, 3, 1), ["channel axis of size 1 was added"]),
        ((4, 3, 2), (3, 2, 1), (4, 3, 2, 1), ["channel axis of size 1 was added"]),
        ((4, 3, 2), (1, 3, 2), (4, 1, 3, 2), ["channel axis of size 1 was added"]),
        ((3, 2), (3, 2, 1), (1, 3, 2, 1), ["batch axis", "was added"]),
        ((4, 3, 2, 1), (3, 2), (4, 3, 2), ["channel axis of size 1 was dropped"]),
        ((4, 1, 3, 2), (3, 2), (4, 3, 2), ["channel axis of size 1 was dropped"]),
        ((3, 2, 1), (3, 2), (1, 3, 2), ["batch axis", "was dropped"]),
        ((1, 3, 2), (3, 2), (1, 3, 2), []),
        ((4,), (4,), (1, 4), ["batch axis"]),
        ((4, 5), (5,), (4, 5), []),
        ((4, 7, 2), (None, 2), (4, 7, 2), []),
        ((7, 2), (None, 2), (1, 7, 2), ["batch axis"]),
        ((4, 7), (None, 1), (4, 7, 1), ["channel axis of size 1 was added"]),
        ((3, 1), (3, 1), (1, 3, 1), ["batch axis"]),
    ],
)
def test_axes_are_added_or_dropped_and_that_is_said(given, shape, result, notes):
    x = draw(*given)
    samples = read(x, *shape)
    assert samples.arrays[0].shape == result
    np.testing.assert_array_equal(samples.arrays[0].ravel(), x.ravel())
    assert len(samples.notes) == len(notes)
    for note, words in zip(samples.notes, notes, strict=True):
        assert words in note
        assert note.startswith("x: ")


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (
            (4, 2, 3),
            (3, 2),
            "x has shape (4, 2, 3); the model takes samples of shape (N, 3, 2), or one of shape (3, 2).",
        ),
        ((6,), (3, 2), "x has shape (6,); the model takes samples of shape (N, 3, 2)"),
        ((4, 3, 2, 2), (3, 2), "x has shape (4, 3, 2, 2); the model takes samples of shape (N, 3, 2)"),
        (
            (4, 3),
            (None, 5),
            "x has shape (4, 3); the model takes samples of shape (N, any, 5), or one of shape (any, 5).",
        ),
        ((4, 3), (5,), "x has shape (4, 3); the model takes samples of shape (N, 5), or one of shape (5,)."),
    ],
)
def test_other_shapes_are_refused_with_both_shapes(given, shape, message):
    with pytest.raises(ks.BadInputError, match=re.escape(message)):
        read(draw(*given), *shape)


# Values -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_located(value):
    x = draw(5000, 3, 2)
    x[4999, 2, 1] = x[4321, 1, 0] = value
    message = f"x holds 2 values that are NaN or infinite; the first is {value} in sample 4321 at (1, 0)."
    with pytest.raises(ks.BadInputError, match=re.escape(message)):
        read(x, 3, 2)
    x[4999] = 0
    with pytest.raises(ks.BadInputError, match="x holds 1 value that is NaN"):
        read(x, 3, 2)


def test_numbers_too_large_for_the_model_are_not_called_infinite():
    x = X.astype("float64")
    x[1, 2, 0] = 1e300
    with pytest.raises(ks.BadInputError, match=r"too large for float32; the first is 1e\+300 in sample 1 at \(2, 0\)"):
        read(x, 3, 2)
    assert read(x, 3, 2, dtype="float64").arrays[0].dtype == "float64"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([["a", "b"]]), r"x must hold numbers; its dtype is <U1"),
        (np.array([[1j, 2]]), r"x must hold numbers; its dtype is complex128"),
        (np.array([[None, 2.0]]), r"x must hold numbers; its dtype is object"),
        (np.array([["2020-01-01", "2021-01-01"]], "datetime64[D]"), r"its dtype is datetime64"),
        (None, r"its dtype is object"),
        ("x.npy", r"its dtype is <U5"),
        ([[1.0, 2.0], [1.0]], r"x must be an array of numbers; list could not be turned into one \(.*inhomogeneous"),
        (np.zeros((0, 2)), r"x holds no samples: its shape is \(0, 2\)\. Give at least one sample"),
        (np.zeros((2, 0)), r"x holds no samples: its shape is \(2, 0\)"),
        (3.0, r"x holds no samples: its shape is \(\)"),
        ([], r"x holds no samples: its shape is \(0,\)"),
        (np.ma.masked_greater(np.ones((2, 2)), 0), r"x has masked cells\. Fill them first"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(x, message):
    with pytest.raises(ks.BadInputError, match=message):
        read(x, 2)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint64", "bool", ">f4"])
def test_numbers_of_any_kind_become_the_models(dtype):
    x = np.array([[0, 1, 1]], dtype)
    array = read(x, 3).arrays[0]
    assert (array.dtype, array.tolist()) == (np.dtype("float32"), [[0, 1, 1]])


def test_whole_numbers_are_not_rounded_in_silence():
    assert read([[1.0, 2.0]], 2, dtype="int32").arrays[0].dtype == "int32"
    for bad in ([[1.5, 2.0]], [[1e12, 0.0]], [[np.nan, 1.0]]):
        with pytest.raises(ks.BadInputError, match=r"x must hold whole numbers \(int32\)"):
            read(bad, 2, dtype="int32")
    with pytest.raises(ks.BadInputError, match="whole numbers"):
        read([[-1, 1]], 2, dtype="uint8")


# Containers ---------------------------------------------------------------------------


def as_memmap(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def as_hdf5(x, folder):
    return h5py.File(folder / "x.h5", "w").create_dataset("x", data=x)


def as_tensor(x, folder):
    return keras.ops.convert_to_tensor(x)


def as_tracked_tensor(x, folder):
    tensor = keras.ops.convert_to_tensor(x)
    return tensor.requires_grad_() if hasattr(tensor, "requires_grad_") else tensor


def as_half_tensor(x, folder):
    return keras.ops.convert_to_tensor(np.round(x), "bfloat16")


CONTAINERS = {
    "memmap": as_memmap,
    "hdf5": as_hdf5,
    "zarr": lambda x, folder: zarr.create_array(folder / "x.zarr", data=x),
    "tensor": as_tensor,
    "tensor with gradient": as_tracked_tensor,
    "bfloat16": as_half_tensor,
    "list": lambda x, folder: x.tolist(),
    "list of arrays": lambda x, folder: list(x),
    "list of one array": lambda x, folder: [x],
    "dict of one array": lambda x, folder: {"x": x},
    "reversed": lambda x, folder: x[::-1],
    "flipped": lambda x, folder: x[:, ::-1],
    "column order": lambda x, folder: np.asfortranarray(x),
    "read only": lambda x, folder: np.broadcast_to(x[:1], x.shape),
    "xarray": lambda x, folder: xr.DataArray(x),
    "unmasked": lambda x, folder: np.ma.masked_greater(x, 1e9),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("name", ["gradient", "random"])
def test_containers_of_numbers_give_what_the_array_gives(kind, name, tmp_path):
    model = linear()
    given = CONTAINERS[kind](X, tmp_path)
    plain = given["x"] if isinstance(given, dict) else given
    plain = plain[0] if kind == "list of one array" else plain
    if kind == "bfloat16":
        array = np.round(X)
    else:
        array = np.asarray(plain.detach() if hasattr(plain, "detach") else plain, "float32")
    e = ks.explain(model, given, name)
    expected = ks.explain(model, np.array(array), name)
    np.testing.assert_allclose(e.values, expected.values, rtol=1e-6)
    np.testing.assert_array_equal(e.inputs, array)
    assert isinstance(e.values, np.ndarray)


# DataArrays ---------------------------------------------------------------------------


def data_array(*dims, shape, **coords):
    return xr.DataArray(draw(*shape), dims=dims, coords={k: (k, v) for k, v in coords.items()})


def test_a_data_array_brings_dims_and_coords():
    x = data_array(
        "trial", "time", "sensor", shape=(4, 3, 2), sensor=["ax", "ay"], time=[0.0, 0.5, 1.0], trial=[7, 8, 9, 5]
    )
    e = ks.explain(linear(), x, "gradient")
    assert e.dims == ("time", "sensor")
    assert e.coords["sensor"].tolist() == ["ax", "ay"]
    assert e.coords["time"].tolist() == [0.0, 0.5, 1.0]
    assert e.coords["sample"].tolist() == [7, 8, 9, 5]
    assert set(e.columns()["name"]) == {"ax", "ay"}


def test_a_lone_data_array_and_one_without_the_channel():
    with pytest.warns(ks.KerascopeWarning, match="one sample was given; it got a batch axis"):
        e = ks.explain(linear(), data_array("time", "sensor", shape=(3, 2), sensor=["ax", "ay"]), "random")
    assert e.dims == ("time", "sensor")
    assert set(e.coords) == {"sensor"}
    samples = read(data_array("trial", "time", "sensor", shape=(4, 3, 2), trial=[1, 2, 3, 4]), 3, 2, 1)
    assert samples.dims == (("time", "sensor", "channel"),)
    assert samples.coords["sample"].tolist() == [1, 2, 3, 4]
    samples = read(data_array("time", "sensor", shape=(1, 2), sensor=["ax", "ay"]), 1, 2)
    assert samples.dims == (("time", "sensor"),)
    samples = read(data_array("trial", "time", "sensor", "unit", shape=(4, 3, 2, 1)), 3, 2)
    assert samples.dims == (("time", "sensor"),)


def test_given_names_and_labels_go_before_those_of_a_data_array():
    x = data_array("trial", "time", "sensor", shape=(4, 3, 2), sensor=["ax", "ay"], time=[0, 1, 2])
    e = ks.explain(linear(), x, "random", dims=("when", "what"), coords={"what": ["a", "b"]})
    assert e.dims == ("when", "what")
    assert e.coords["what"].tolist() == ["a", "b"]
    assert e.coords["when"].tolist() == [0, 1, 2]


# Names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "shape", "first", "result"),
    [
        (None, (3,), False, ("feature",)),
        (None, (3, 2), False, ("row", "column")),
        (None, (3, 2, 1), False, ("row", "column", "channel")),
        (None, (1, 3, 2), True, ("channel", "row", "column")),
        (None, (3, 2, 4, 1), False, ("axis_0", "axis_1", "axis_2", "axis_3")),
        (("time", "sensor"), (3, 2), False, ("time", "sensor")),
        (("time", "sensor"), (3, 2, 1), False, ("time", "sensor", "channel")),
        (["time", "sensor"], (1, 3, 2), True, ("channel", "time", "sensor")),
        (("time", "sensor", "unit"), (3, 2, 1), False, ("time", "sensor", "unit")),
        ("gene", (3,), False, ("gene",)),
    ],
)
def test_axes_get_names(dims, shape, first, result):
    assert name_dims(dims, shape, channels_first=first) == result


def test_dims_that_do_not_fit():
    message = r"dims=\('time',\) names 1 axes; one sample has 3, of sizes \(3, 2, 1\)\. Give one name for each"
    with pytest.raises(ks.BadInputError, match=message):
        name_dims(("time",), (3, 2, 1), channels_first=False)
    model = linear()
    with pytest.raises(ks.BadInputError, match="names 3 axes; one sample has 2"):
        ks.explain(model, X, "random", dims=("a", "b", "c"))
    with pytest.raises(ks.BadInputError, match="Every dim needs a name of its own"):
        ks.explain(model, X, "random", dims=("a", "a"))
    with pytest.raises(ks.BadInputError, match="'sample' has a meaning of its own"):
        ks.explain(model, X, "random", dims=("sample", "a"))


def test_coords_that_do_not_fit():
    with pytest.raises(ks.UnknownNameError, match=r"Unknown dim in coords 'sensors'. Did you mean 'sensor'"):
        check_coords({"sensors": [1, 2]}, {"time": 3, "sensor": 2})
    with pytest.raises(ks.BadInputError, match=r"coords for 'sensor' have shape \(3,\); the dim has 2 entries"):
        check_coords({"sensor": [1, 2, 3]}, {"sensor": 2})
    with pytest.raises(ks.UnknownNameError, match=r"Unknown dim in coords 'colum'. Did you mean 'column'"):
        ks.explain(linear(), X, "random", coords={"colum": ["a", "b"]})


def test_class_names():
    model = linear()
    names = ("walk", "run", "sit", "lie")
    e = ks.explain(model, X, "random", class_names=list(names), target=2)
    assert e.class_names == names
    assert e.target_name(0) == "sit"
    for listed in (pd.Index(names), dict.fromkeys(names), np.array(names)):
        e = ks.explain(model, X, "random", target="lie", class_names=listed)
        assert (e.class_names, e.target[0]) == (names, 3)
    with pytest.raises(ks.BadInputError, match=r"one name for each output unit \(.*: 4\); got 3 names"):
        ks.explain(model, X, "random", class_names=["a", "b", "c"])
    with pytest.raises(ks.BadInputError, match=r"one name for each output unit.*got 'abcd'"):
        ks.explain(model, X, "random", class_names="abcd")


# Several inputs -----------------------------------------------------------------------

PAIR = {"series": draw(4, 5, 2), "table": draw(4, 3, seed=1)}


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.parametrize("given", ["dict", "list", "tuple"])
def test_several_inputs_come_back_as_they_were_given(kind, given):
    x = PAIR if given == "dict" else list(PAIR.values()) if given == "list" else tuple(PAIR.values())
    e = ks.explain(two_inputs(kind), x, "gradient", target=1)
    assert isinstance(e.values, dict if given == "dict" else list)
    series, table = e.values.values() if given == "dict" else e.values
    weights = np.asarray(keras.ops.convert_to_numpy(two_inputs(kind).get_layer("head").kernel))[:, 1]
    np.testing.assert_allclose(series, np.tile(weights[:10].reshape(5, 2), (4, 1, 1)), rtol=1e-5)
    np.testing.assert_allclose(table, np.tile(weights[10:], (4, 1)), rtol=1e-5)
    assert e.dims == {"series": ("row", "column"), "table": ("feature",)}
    if given == "dict":
        assert list(e.values) == ["series", "table"]
        turned = ks.explain(two_inputs(kind), dict(reversed(PAIR.items())), "gradient", target=1)
        np.testing.assert_array_equal(turned.values["table"], table)


def test_names_for_several_inputs():
    model = two_inputs()
    dims = {"series": ("time", "sensor"), "table": ("fact",)}
    e = ks.explain(model, PAIR, "random", dims=dims, coords={"sensor": ["a", "b"], "fact": [1, 2, 3]})
    assert e.dims == dims
    assert ks.explain(model, PAIR, "random", dims=[("time", "sensor"), ("fact",)]).dims == dims
    assert ks.explain(model, PAIR, "random", dims={"table": ("fact",)}).dims["series"] == ("row", "column")
    arrays = {
        "series": data_array("trial", "time", "sensor", shape=(4, 5, 2), sensor=["a", "b"]),
        "table": PAIR["table"],
    }
    e = ks.explain(model, arrays, "random")
    assert e.dims == {"series": ("time", "sensor"), "table": ("feature",)}
    assert e.coords["sensor"].tolist() == ["a", "b"]
    with pytest.raises(ks.UnknownNameError, match=r"Unknown input in dims 'serie'. Did you mean 'series'"):
        ks.explain(model, PAIR, "random", dims={"serie": ("a", "b")})
    with pytest.raises(ks.BadInputError, match=r"takes 2 inputs: give dims as a dict by input \(series, table\)"):
        ks.explain(model, PAIR, "random", dims=("time", "sensor"))
    same = {"series": ("time", "fact"), "table": ("fact",)}
    with pytest.raises(ks.BadInputError, match=r"sizes 2 and 3 along 'fact'.*give their dims different names"):
        ks.explain(model, PAIR, "random", dims=same, coords={"fact": [1, 2, 3]})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"series": PAIR["series"]}, r"takes inputs \['series', 'table'\]; got \['series'\]"),
        ({"series": 0, "tabel": 0}, r"takes inputs \['series', 'table'\]; got \['series', 'tabel'\]"),
        ([PAIR["series"]], r"takes 2 inputs \(series, table\) as a list or dict; got list of 1"),
        (PAIR["series"], r"takes 2 inputs \(series, table\) as a list or dict; got ndarray"),
        (PAIR | {"table": draw(3, 3)}, r"hold different numbers of samples \(series: 4, table: 3\)"),
        (PAIR | {"table": draw(4, 4)}, r"x\['table'\] has shape \(4, 4\); the model takes samples of shape \(N, 3\)"),
        (PAIR | {"table": np.full((4, 3), np.nan)}, r"x\['table'\] holds 12 values that are NaN"),
    ],
)
def test_several_inputs_that_do_not_fit(x, message):
    with pytest.raises(ks.BadInputError, match=message):
        ks.explain(two_inputs(), x, "random")


def test_a_lone_sample_of_several_inputs():
    with pytest.warns(ks.KerascopeWarning, match="one sample was given"):
        e = ks.explain(two_inputs(), {name: array[0] for name, array in PAIR.items()}, "gradient")
    assert e.values["series"].shape == (1, 5, 2)
    assert len(e.warnings) == 2
