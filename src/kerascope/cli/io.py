"""DATA on the command line: from files to arrays, with the names that lie beside them.

`.npy`, `.npz`, Zarr and HDF5 (`file::key` picks an array), `.csv` (one matrix a file) and `.png`, `.jpg` (one
picture a file); several files or a folder of these are samples. Arrays and pictures stay on disk until they are
needed where the format allows it. Nothing pickled is ever opened.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.cli import csv_data
from kerascope.errors import BadInputError, KerascopeError, unknown_name

if TYPE_CHECKING:
    from kerascope.cli.pictures import Pictures

FORMATS = "Known: .npy, .npz, .csv, .png, .jpg, Zarr and HDF5 (file::key picks an array)."
PICTURES = (".png", ".jpg", ".jpeg")
_H5_MAGIC = b"\x89HDF\r\n\x1a\n"
_H5_SUFFIXES = (".h5", ".hdf5", ".he5", ".nc", ".mat")


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """What was read, and what the files say about it.

    Attributes:
        values: samples (N, *S), sliceable: an array, a memory map, an HDF5 or Zarr array; for a model with
            several inputs a dict of these.
        source: where it came from, for messages.
        dims: names of one sample's axes, where the file has them.
        coords: names or numbers along those axes, by dim, where the file has them.
        axis_names: the same by axis of one sample, where the file names no dims.
        samples: one name per sample, where the files have them.
    """

    values: Any
    source: str
    dims: tuple[str, ...] | None = None
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)
    axis_names: Mapping[int, np.ndarray] = field(default_factory=dict)
    samples: np.ndarray | None = None

    def __len__(self) -> int:
        """Return N."""
        first = next(iter(self.values.values())) if isinstance(self.values, dict) else self.values
        return int(first.shape[0])

    def chosen(self, samples: slice | None) -> Data:
        """Return the samples of a slice only; their names say which they were.

        Raises:
            BadInputError: when the slice selects nothing.
        """
        if samples is None:
            return self
        count = len(self)
        places = np.arange(count)[samples]
        if not len(places):
            raise BadInputError(
                f"--samples {_slice_text(samples)} selects none of the {count} samples in {self.source}."
            )
        names = places if self.samples is None else self.samples[samples]
        if isinstance(self.values, dict):
            return replace(self, values={k: v[samples] for k, v in self.values.items()}, samples=names)
        return replace(self, values=self.values[samples], samples=names)

    def named(self, dims: Sequence[str] | None) -> tuple[tuple[str, ...] | None, dict[str, np.ndarray]]:
        """Return dims and coords for the explanation: the user's names before those of the file.

        Args:
            dims: names of one sample's axes that the user gave; None without.
        """
        chosen = tuple(dims) if dims is not None else self.dims
        coords = dict(self.coords) if dims is None or tuple(dims) == self.dims else {}
        if self.axis_names:
            names = chosen or ("row", "column")
            coords.update({names[axis]: values for axis, values in self.axis_names.items() if axis < len(names)})
        return chosen, coords


def read_data(specs: Sequence[str], *, inputs: Sequence[str] = (), pictures: Pictures | None = None) -> Data:
    """Read DATA.

    Args:
        specs: one file or folder, with `::key` where it holds several arrays; or several `.csv` files or pictures.
        inputs: names of the model's inputs; an archive that holds an array for each of several is taken
            whole.
        pictures: how pictures become samples of the model; None: none are read.

    Returns:
        The samples and their names.

    Raises:
        BadInputError: when a file is missing, damaged, of an unknown format, or holds several arrays and no
            key.
        UnknownNameError: when the key names no array of the file.
    """
    return _read(specs, inputs, pictures, as_data=True)


def _read(specs: Sequence[str], inputs: Sequence[str], pictures: Pictures | None, *, as_data: bool) -> Data:
    paths = [_split(spec) for spec in specs]
    for path, _ in paths:
        if not path.exists():
            raise BadInputError(f"There is no data file {path}.")
    path, key = paths[0]
    files = [path for path, _ in paths]
    if len(files) == 1 and path.is_dir() and not _is_zarr(path):
        files = files_in(path)
    kind = files[0].suffix.lower()
    if len(files) == 1 and kind not in PICTURES and kind not in csv_data.SUFFIXES:
        return _reader(path)(path, key, inputs)
    for file, useless in paths:
        if useless is not None:
            raise BadInputError(f"{file} holds no arrays with names: leave ::{useless} out.")
    if kind in PICTURES:
        return _read_pictures(files, pictures, None if files[0] == path else path, as_data=as_data)
    return _read_csv(files)


def read_array(spec: str, *, inputs: Sequence[str] = (), pictures: Pictures | None = None) -> Any:
    """Read an array that is not DATA, or a dict of them for a model with several inputs; see `read_data`."""
    return _read([spec], inputs, pictures, as_data=False).values


def read_names(spec: str, what: str) -> np.ndarray:
    """Read names or numbers: a text file with one a line, a one-column .csv, a .npy, or `a,b,c`.

    Args:
        spec: the file, or the names themselves with commas between them.
        what: the option it was given to, for messages.

    Returns:
        Array (n,): of whole numbers or floats where all entries are numbers, else of text.
    """
    path, key = _split(spec)
    if path.is_dir():
        raise BadInputError(f"{what}: {path} is a folder; expected a file with one name per line.")
    if not path.exists():
        if "," in spec:
            return _typed([part.strip() for part in spec.split(",")])
        raise BadInputError(f"{what}: there is no file {path} (or give the names with commas: a,b,c).")
    if path.suffix.lower() in (".npy", ".npz") or _is_hdf5(path):
        values = np.asarray(_reader(path)(path, key, ()).values)
        values = values.astype(str) if values.dtype.kind == "S" else values
    else:
        values = _typed(_lines(path, what))
    if values.ndim != 1 or values.dtype.kind not in "biufU":
        raise BadInputError(
            f"{what}: {path} holds an array of shape {values.shape} and dtype {values.dtype}; expected one "
            f"name or "
            "number per entry, shape (n,)."
        )
    return values


def _lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file; of a .csv its only column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{what}: {path} is not readable as text, one name per line ({error}).") from error
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise BadInputError(f"{what}: {path} is empty.")
    if path.suffix.lower() in csv_data.SUFFIXES:
        if any("," in line or "\t" in line for line in lines) and len(lines) > 1:
            raise BadInputError(f"{what}: {path} has several columns; expected one name per line.")
        if len(lines) == 1:
            lines = [part.strip() for part in lines[0].split(",")]
        lines = [line.strip('"') for line in lines]
    return lines


def _typed(texts: list[str]) -> np.ndarray:
    """Return texts as whole numbers, as numbers, or as they are."""
    for kind in (np.int64, np.float64):
        try:
            return np.array([kind(text) for text in texts])
        except (ValueError, OverflowError):
            continue
    return np.array(texts)


def _split(spec: str) -> tuple[Path, str | None]:
    """Return the path and the key of `file::key`."""
    path, found, key = str(spec).rpartition("::")
    return (Path(path).expanduser(), key) if found else (Path(spec).expanduser(), None)


_Reader = Callable[[Path, str | None, Sequence[str]], Data]


def _reader(path: Path) -> _Reader:
    """Return the function that reads a file or folder of this kind."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _read_zarr
    if suffix == ".npy":
        return _read_npy
    if suffix == ".npz":
        return _read_npz
    if suffix in _H5_SUFFIXES or _is_hdf5(path):
        return _read_hdf5
    if suffix in (".pkl", ".pickle", ".pt", ".pth"):
        raise BadInputError(
            f"{path}: kerascope never opens pickled files, which can run code. Save the array with numpy.save."
        )
    raise BadInputError(f"{path} is of no format that kerascope reads. {FORMATS}")


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == _H5_MAGIC


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _read_npy(path: Path, key: str | None, inputs: Sequence[str]) -> Data:
    if key is not None:
        raise BadInputError(f"{path} holds one array: leave ::{key} out.")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _not_numpy(path, error) from error
    return Data(values=values, source=str(path))


def _read_npz(path: Path, key: str | None, inputs: Sequence[str]) -> Data:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not hasattr(archive, "files"):
                raise BadInputError(f"{path} is a single .npy array: rename it.")
            keys = _choose(path, key, dict.fromkeys(archive.files, ""), inputs)
            arrays = {name: archive[name] for name in keys}
    except KerascopeError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _not_numpy(path, error) from error
    return Data(values=_one_or_all(arrays, inputs), source=_source(path, keys))


def _not_numpy(path: Path, error: Exception) -> BadInputError:
    if "pickle" in str(error) or "Python objects" in str(error):
        return BadInputError(
            f"{path} holds pickled Python objects, which can run code and are never opened. Save a numeric "
            f"array: "
            "numpy.save(file, array.astype('float32'))."
        )
    return BadInputError(f"{path} is not a NumPy file, or it is damaged ({' '.join(str(error).split())}).")


def _read_hdf5(path: Path, key: str | None, inputs: Sequence[str]) -> Data:
    import h5py

    try:
        file = h5py.File(path, "r")  # stays open: the arrays are read when they are needed
    except OSError as error:
        raise BadInputError(f"{path} is not an HDF5 file, or it is damaged ({error}).") from error
    found: dict[str, str] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim and not item.is_scale:
            found[name] = f"{item.shape} {item.dtype}"

    file.visititems(note)
    if key is not None and key not in found and isinstance(file.get(key), h5py.Dataset):
        found[key] = ""  # behind a link, or an axis
    keys = _choose(path, key, found, inputs)
    arrays = {name: file[name] for name in keys}
    labels = tuple(dim.label for dim in arrays[keys[0]].dims) if len(keys) == 1 else ()
    dims = labels[1:] if len(labels) > 1 and all(labels[1:]) else None
    return Data(values=_one_or_all(arrays, inputs), source=_source(path, keys), dims=dims)


def _read_zarr(path: Path, key: str | None, inputs: Sequence[str]) -> Data:
    import zarr

    try:
        top = zarr.open(path, mode="r")
        items = [] if isinstance(top, zarr.Array) else list(top.members(max_depth=None))
    except Exception as error:  # the stores raise many kinds
        raise BadInputError(f"{path} is not a Zarr store, or it is damaged ({error}).") from error
    if isinstance(top, zarr.Array):
        if key is not None:
            raise BadInputError(f"{path} holds one array: leave ::{key} out.")
        _refuse_pickle(path, top)
        return Data(values=top, source=str(path))
    arrays = {name: item for name, item in items if isinstance(item, zarr.Array)}
    axes = {dim for array in arrays.values() if array.ndim > 1 for dim in _zarr_dims(array)}
    found = {
        name: f"{array.shape} {array.dtype}"
        for name, array in arrays.items()
        if array.ndim and (name == key or name.split("/")[-1] not in axes)
    }
    keys = _choose(path, key, found, inputs)
    for name in keys:
        _refuse_pickle(path, arrays[name])
    source, values = _source(path, keys), _one_or_all({name: arrays[name] for name in keys}, inputs)
    if len(keys) > 1:
        return Data(values=values, source=source)
    return replace(_zarr_names(path, keys[0], arrays), values=values, source=source)


def _zarr_names(path: Path, key: str, arrays: Mapping[str, Any]) -> Data:
    """Return the names of dims, cells and samples that xarray stored beside an array."""
    dims = _zarr_dims(arrays[key])
    if len(dims) < 2:
        return Data(values=None, source="")
    folder = key.rpartition("/")[0]
    coords = {}
    for axis, dim in enumerate(dims):
        beside = arrays.get(f"{folder}/{dim}" if folder else dim)
        if beside is not None and beside.shape == (arrays[key].shape[axis],):
            _refuse_pickle(path, beside)
            coords[dim] = np.asarray(beside[:])
            if coords[dim].dtype.kind in "OT":
                coords[dim] = coords[dim].astype(str)
    samples = coords.pop(dims[0], None)
    return Data(values=None, source="", dims=dims[1:], coords=coords, samples=samples)


def _zarr_dims(array: Any) -> tuple[str, ...]:
    """Return the names of an array's axes, none where it has none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(map(str, names)) if len(names) == array.ndim and all(names) else ()


def _refuse_pickle(path: Path, array: Any) -> None:
    """Raise where an array's numbers would come out of a pickle."""
    metadata = array.metadata
    codecs = (
        *(getattr(metadata, "codecs", None) or ()),
        *(getattr(metadata, "filters", None) or ()),
        getattr(metadata, "compressor", None),
    )
    if any("pickle" in repr(codec).lower() for codec in codecs):
        raise BadInputError(
            f"{path}: the array {array.name} is pickled, which can run code; it is never opened. Store plain numbers."
        )


def _choose(path: Path, key: str | None, found: Mapping[str, str], inputs: Sequence[str]) -> list[str]:
    """Return the keys to read: the one asked for, the only one, or one for each of the model's inputs."""
    if key is not None:
        if key not in found:
            raise unknown_name(f"array in {path}", key, found)
        return [key]
    if len(inputs) > 1 and set(inputs) <= set(found):
        return list(inputs)
    if len(found) == 1:
        return list(found)
    if not found:
        raise BadInputError(f"{path} holds no arrays.")
    listed = ", ".join(f"{name} {text}".strip() for name, text in list(found.items())[:30])
    more = f" and {len(found) - 30} more" if len(found) > 30 else ""
    likely = next((name for name in found if name.lower().startswith(("x", "data"))), next(iter(found)))
    raise BadInputError(f"{path} holds several arrays: {listed}{more}. Say which: {path}::{likely}")


def _one_or_all(arrays: dict[str, Any], inputs: Sequence[str]) -> Any:
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def _source(path: Path, keys: Sequence[str]) -> str:
    return f"{path}::{keys[0]}" if len(keys) == 1 else str(path)


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are samples: matrices or pictures, sorted naturally."""
    found = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    files = [p for p in found if p.suffix.lower() in (*csv_data.SUFFIXES, *PICTURES)]
    if not files:
        raise BadInputError(f"{folder} is neither a Zarr store nor a folder of .csv files or pictures.")
    return sorted(files, key=csv_data.natural_order)


def _of_one_kind(paths: Sequence[Path], suffixes: Sequence[str], what: str) -> tuple[list[Path], np.ndarray, str]:
    """Return files in natural order, their names, and all of them in words; refuse files of another kind."""
    other = [path for path in paths if path.is_dir() or path.suffix.lower() not in suffixes]
    if other:
        raise BadInputError(
            f"Several DATA must all be {what} each; {other[0]} is not. Other formats hold all samples in one file."
        )
    files = sorted(paths, key=csv_data.natural_order)
    names: list[str] = [str(file) for file in files]
    for shorter in ([file.name for file in files], [file.stem for file in files]):
        names = shorter if len(set(shorter)) == len(files) else names
    source = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    return files, np.array(names), source


def _left_out(folder: Path | None) -> list[str]:
    """Return the names of what a folder of pictures holds besides them; hidden files aside."""
    held = () if folder is None else folder.iterdir()
    others = [p for p in held if p.is_dir() or p.suffix.lower() not in PICTURES]
    return sorted(p.name + "/" * p.is_dir() for p in others if not p.name.startswith("."))


def _read_pictures(paths: Sequence[Path], pictures: Pictures | None, folder: Path | None, *, as_data: bool) -> Data:
    """Read pictures as samples, in natural order; ``folder``: the one that was given, where it was one."""
    files, names, source = _of_one_kind(paths, PICTURES, "pictures, one sample")
    if pictures is None:
        raise BadInputError(f"{files[0]} is a picture; here an array is wanted. Save it with numpy.save.")
    pictures.left_out += _left_out(folder)
    values = pictures.read(files, names=names.tolist() if as_data else None)
    return Data(values=values, source=source, samples=names)


def _read_csv(paths: Sequence[Path]) -> Data:
    """Read CSV files as samples, in natural order."""
    files, names, source = _of_one_kind(paths, csv_data.SUFFIXES, ".csv files, one matrix")
    values, first = csv_data.read_matrices(files)
    axis_names = {0: first.rows, 1: first.columns}
    return Data(
        values=values,
        source=source,
        axis_names={axis: np.array(n) for axis, n in axis_names.items() if n is not None},
        samples=names,
    )


def _slice_text(chosen: slice) -> str:
    parts = ("" if p is None else str(p) for p in (chosen.start, chosen.stop, chosen.step))
    return ":".join(parts).removesuffix(":")
