"""DATA, labels and names from every format; keys; what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from kerascope.cli import io
from kerascope.cli.io import read_array, read_data, read_names
from kerascope.errors import BadInputError, UnknownNameError

pytestmark = pytest.mark.backend_free
X = np.arange(24, dtype="float32").reshape(2, 4, 3)


def values(data: io.Data) -> np.ndarray:
    return np.asarray(data.values[:])


# NumPy --------------------------------------------------------------------------------


def test_npy_stays_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    data = read_data([str(tmp_path / "x.npy")])
    assert isinstance(data.values, np.memmap)
    np.testing.assert_array_equal(values(data), X)
    assert (len(data), data.dims, data.samples) == (2, None, None)
    with pytest.raises(BadInputError, match="holds one array: leave ::k out"):
        read_data([f"{tmp_path / 'x.npy'}::k"])


def test_npz_with_one_array_or_a_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", only=X)
    np.testing.assert_array_equal(values(read_data([str(tmp_path / "one.npz")])), X)
    np.savez(tmp_path / "two.npz", x=X, y=X[0])
    data = read_data([f"{tmp_path / 'two.npz'}::x"])
    np.testing.assert_array_equal(values(data), X)
    assert data.source.endswith("two.npz::x")
    with pytest.raises(BadInputError, match=r"two\.npz holds several arrays: x, y. Say which: .*two\.npz::x$"):
        read_data([str(tmp_path / "two.npz")])
    with pytest.raises(UnknownNameError, match=r"Unknown array in .*two\.npz 'xx'. Did you mean 'x'\?"):
        read_data([f"{tmp_path / 'two.npz'}::xx"])


def test_npz_for_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", left=X, right=X[:, 0], other=X)
    data = read_data([str(tmp_path / "m.npz")], inputs=("left", "right"))
    assert {name: array.shape for name, array in data.values.items()} == {"left": (2, 4, 3), "right": (2, 3)}
    assert len(data) == 2
    chosen = data.chosen(slice(1, 2))
    assert chosen.values["right"].shape == (1, 3)


class Evil:
    """Pickles to code that makes a file when it is loaded."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.flag), "w")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    objects = np.array([Evil(flag)], dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", o=objects)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Evil(flag)))
    for name in ("o.npy", "o.npz", "p.npy"):
        with pytest.raises(BadInputError, match="pickled Python objects, which can run code and are never opened"):
            read_data([str(tmp_path / name)])
    for suffix in (".pkl", ".pt"):
        (tmp_path / f"p{suffix}").write_bytes(pickle.dumps(Evil(flag)))
        with pytest.raises(BadInputError, match="never opens pickled files"):
            read_data([str(tmp_path / f"p{suffix}")])
    assert not flag.exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_damaged_numpy_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(path, X) if name == "x.npy" else np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadInputError, match=rf"{name} is not a NumPy file, or it is damaged"):
        read_data([str(path)])


# HDF5 and Zarr ------------------------------------------------------------------------


def test_hdf5(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["g/x"] = X
        file["scalar"] = 3
        file["g/x"].dims[1].label, file["g/x"].dims[2].label = "time", "sensor"
    data = read_data([str(tmp_path / "d.h5")])
    assert not isinstance(data.values, np.ndarray)  # read when it is needed
    np.testing.assert_array_equal(values(data), X)
    assert data.dims == ("time", "sensor")
    with h5py.File(tmp_path / "e.data", "w") as file:  # told by its content
        file["x"], file["y"] = X, X[0]
    with pytest.raises(BadInputError, match=r"several arrays: x \(2, 4, 3\) float32, y \(4, 3\) float32"):
        read_data([str(tmp_path / "e.data")])
    np.testing.assert_array_equal(values(read_data([f"{tmp_path / 'e.data'}::y"])), X[0])
    with pytest.raises(UnknownNameError, match="Unknown array"):
        read_data([f"{tmp_path / 'e.data'}::z"])
    (tmp_path / "bad.h5").write_bytes(b"no")
    with pytest.raises(BadInputError, match=r"bad\.h5 is not an HDF5 file"):
        read_data([str(tmp_path / "bad.h5")])
    with h5py.File(tmp_path / "none.h5", "w"):
        pass
    with pytest.raises(BadInputError, match=r"none\.h5 holds no arrays"):
        read_data([str(tmp_path / "none.h5")])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore")  # Zarr says that text is not settled in version 3
def test_zarr_of_xarray_brings_its_names(tmp_path: Path, version: int) -> None:
    import xarray as xr

    array = xr.DataArray(
        X,
        dims=("case", "time", "sensor"),
        coords={"case": ["a", "b"], "time": [0.5, 1.0, 1.5, 2.0], "sensor": ["u", "v", "w"]},
    )
    xr.Dataset({"x": array}).to_zarr(tmp_path / "d.zarr", zarr_format=version)
    data = read_data([str(tmp_path / "d.zarr")])
    np.testing.assert_array_equal(values(data), X)
    assert data.dims == ("time", "sensor")
    assert data.samples is not None
    assert data.samples.tolist() == ["a", "b"]
    assert {dim: labels.tolist() for dim, labels in data.coords.items()} == {
        "time": [0.5, 1.0, 1.5, 2.0],
        "sensor": ["u", "v", "w"],
    }
    dims, coords = data.named(None)
    assert (dims, set(coords)) == (("time", "sensor"), {"time", "sensor"})
    dims, coords = data.named(("t", "s"))  # the user's names; those of the file belong to other dims
    assert (dims, coords) == (("t", "s"), {})


def test_plain_zarr_arrays_and_groups(tmp_path: Path) -> None:
    import zarr

    zarr.save_array(tmp_path / "a.zarr", X)
    np.testing.assert_array_equal(values(read_data([str(tmp_path / "a.zarr")])), X)
    with pytest.raises(BadInputError, match="leave ::k out"):
        read_data([f"{tmp_path / 'a.zarr'}::k"])
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=X)
    group.create_array("deep/y", data=X[0])
    with pytest.raises(BadInputError, match=r"several arrays: .*deep/y \(4, 3\) float32"):
        read_data([str(tmp_path / "g.zarr")])
    np.testing.assert_array_equal(values(read_data([f"{tmp_path / 'g.zarr'}::deep/y"])), X[0])
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(BadInputError, match=r"a\.zarr is not a Zarr store, or it is damaged"):
        read_data([str(tmp_path / "a.zarr")])


@pytest.mark.filterwarnings("ignore")
def test_pickled_zarr_arrays_are_never_opened(tmp_path: Path) -> None:
    import zarr

    zarr.create_array(tmp_path / "p.zarr", shape=(2,), dtype="f4", zarr_format=2)
    metadata = json.loads((tmp_path / "p.zarr" / ".zarray").read_text())
    metadata["compressor"] = {"id": "pickle", "protocol": 5}
    (tmp_path / "p.zarr" / ".zarray").write_text(json.dumps(metadata))
    (tmp_path / "p.zarr" / "0").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(BadInputError, match="pickle"):  # Zarr itself refuses it too, in the releases tried
        read_data([str(tmp_path / "p.zarr")])
    assert not (tmp_path / "ran").exists()


# CSV ----------------------------------------------------------------------------------


def test_csv_files_are_samples(tmp_path: Path) -> None:
    for i in (10, 9):
        (tmp_path / f"s{i}.csv").write_text(f",u,v\nr0,{i},1\nr1,2,3\n")
    for specs in ([str(tmp_path)], [str(tmp_path / "s10.csv"), str(tmp_path / "s9.csv")]):
        data = read_data(specs)
        assert data.values.shape == (2, 2, 2)
        assert data.values[:, 0, 0].tolist() == [9, 10]
        assert data.samples is not None
        assert data.samples.tolist() == ["s9", "s10"]
    dims, coords = data.named(None)
    assert dims is None
    assert {d: c.tolist() for d, c in coords.items()} == {"row": ["r0", "r1"], "column": ["u", "v"]}
    dims, coords = data.named(("gene", "dose"))
    assert {d: c.tolist() for d, c in coords.items()} == {"gene": ["r0", "r1"], "dose": ["u", "v"]}
    one = read_data([str(tmp_path / "s9.csv")])
    assert one.values.shape == (1, 2, 2)


@pytest.mark.parametrize("specs", [["s9.csv::k"], ["s9.csv", "s10.csv::k"], [".::k"]])
def test_a_key_where_there_is_nothing_to_choose(tmp_path: Path, specs: list[str]) -> None:
    for i in (10, 9):
        (tmp_path / f"s{i}.csv").write_text("1,2\n")
    with pytest.raises(BadInputError, match="holds no arrays with names: leave ::k out"):
        read_data([f"{tmp_path}/{spec}" for spec in specs])


def test_csv_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.csv").write_text("1,2\n")
    data = read_data([str(tmp_path / "b" / "s.csv"), str(tmp_path / "a" / "s.csv")])
    assert data.samples is not None
    assert data.samples.tolist() == [str(tmp_path / "a" / "s.csv"), str(tmp_path / "b" / "s.csv")]


def test_several_data_must_be_csv(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "s.csv").write_text("1\n")
    with pytest.raises(BadInputError, match=r"must all be \.csv files, one matrix each; .*x\.npy is not"):
        read_data([str(tmp_path / "s.csv"), str(tmp_path / "x.npy")])


# Common -------------------------------------------------------------------------------


def test_files_that_are_missing_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no data file .*x\.npy"):
        read_data([str(tmp_path / "x.npy")])
    (tmp_path / "x.xyz").write_text("1")
    with pytest.raises(BadInputError, match=r"x\.xyz is of no format that kerascope reads. Known: \.npy"):
        read_data([str(tmp_path / "x.xyz")])


def test_choosing_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    data = read_data([str(tmp_path / "x.npy")])
    assert data.chosen(None) is data
    chosen = data.chosen(slice(-1, None))
    np.testing.assert_array_equal(values(chosen), X[1:])
    assert chosen.samples is not None
    assert chosen.samples.tolist() == [1]  # which they were
    with pytest.raises(BadInputError, match=r"--samples 5:9 selects none of the 2 samples in .*x\.npy"):
        data.chosen(slice(5, 9))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("n.txt", "a\nb c\n\n", ["a", "b c"]),
        ("n.txt", "1\n2\n", [1, 2]),
        ("n.txt", "1\n2.5\n", [1.0, 2.5]),
        ("n.txt", "1\n\nb", ["1", "", "b"]),
        ("n.csv", '"a"\nb\n', ["a", "b"]),
        ("n.csv", "a, b,c\n", ["a", "b", "c"]),
    ],
)
def test_names_in_text(tmp_path: Path, name: str, content: str, expected: list[object]) -> None:
    (tmp_path / name).write_text(content)
    assert read_names(str(tmp_path / name), "--labels").tolist() == expected


def test_names_in_arrays_and_in_place(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "n.npz", k=np.array([3, 4]), other=X)
    assert read_names(str(tmp_path / "n.npy"), "--labels").tolist() == ["a", "b"]
    assert read_names(f"{tmp_path / 'n.npz'}::k", "--labels").tolist() == [3, 4]
    assert read_names("u, v,w", "--labels").tolist() == ["u", "v", "w"]
    assert read_names("1,2", "--labels").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("n.txt", b"", "--labels: .* is empty"),
        ("n.csv", b"a,b\nc,d\n", "--labels: .* has several columns; expected one name per line"),
        ("n.txt", b"\xff\xfe\x00", "--labels: .* is not readable as text"),
    ],
)
def test_names_that_are_none(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=says):
        read_names(str(tmp_path / name), "--labels")


def test_names_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"--labels: there is no file .*none\.txt \(or give the names"):
        read_names(str(tmp_path / "none.txt"), "--labels")
    with pytest.raises(BadInputError, match="is a folder"):
        read_names(str(tmp_path), "--labels")
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(BadInputError, match=r"an array of shape \(2, 4, 3\) and dtype float32; expected one name"):
        read_names(str(tmp_path / "x.npy"), "--labels")


def test_read_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(read_array(str(tmp_path / "x.npy")), X)
