"""A Zarr store that is whole or is not there: safe writing, verified opening, attributes as text.

A store is written into a temporary folder beside its place, counted, marked complete, forced to the disk and
only then renamed. Zarr reads a missing chunk as fill values without a word; opening therefore compares the
chunk files with the count taken when they were written. Plain `xarray.open_zarr` reads these stores.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.errors import BadInputError, KerascopeError, OutputExistsError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the layout; a store with a higher one is refused."""
CHUNK_BYTES = 4 * 2**20
CHUNK_NAMES = {"name": "default", "separator": "."}
"""Chunks are files "c.0.3" in one folder, not folders in folders: less to force to the disk."""
MARKS = ("kerascope_store", "complete", "chunk_files", "chunk_manifest")
"""Attributes that belong to the store, not to what is in it."""
_TAGS = ("__tuple__", "__float__", "__array__", "__items__")


# Attributes ---------------------------------------------------------------------------


def to_json(value: object) -> str:
    """Write a nested value as strict JSON from which `from_json` makes the same value again.

    Tuples, arrays, NaN and infinities, and keys that are not text are kept; NumPy scalars become Python's.

    Raises:
        BadInputError: something in it is none of these.
    """
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False)


def from_json(text: str) -> Any:
    """Read what `to_json` wrote."""
    return json.loads(text, object_hook=_rebuilt)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"__float__": repr(value)}
    if isinstance(value, tuple):
        return {"__tuple__": [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return {
            "__array__": [_plain(item) for item in value.ravel().tolist()],
            "dtype": value.dtype.str,
            "shape": list(value.shape),
        }
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and key not in _TAGS for key in value):
            return {key: _plain(item) for key, item in value.items()}
        return {"__items__": [[_plain(key), _plain(item)] for key, item in value.items()]}
    raise BadInputError(
        "Attributes hold text, numbers, None, lists, tuples, dicts and arrays. Received "
        f"{type(value).__name__}: {value!r:.80}. Put its text there."
    )


def _rebuilt(found: dict[str, Any]) -> Any:
    if "__tuple__" in found:
        return tuple(found["__tuple__"])
    if "__float__" in found:
        return float(found["__float__"])
    if "__array__" in found:
        return np.array(found["__array__"], dtype=found["dtype"]).reshape(found["shape"])
    if "__items__" in found:
        return {key: item for key, item in found["__items__"]}
    return found


# Writing ------------------------------------------------------------------------------


def write(dataset: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a dataset as a Zarr store; at no moment does a part of it stand at the path.

    Args:
        dataset: what to write.
        path: the folder to make; missing parents are made too.
        overwrite: replace a Zarr store or an empty folder that is there. Nothing else is ever replaced.

    Returns:
        The path, links resolved.

    Raises:
        OutputExistsError: something is there and `overwrite` is False.
        BadInputError: what is there is not a store, so it is not replaced.
        KerascopeError: the disk is full, or writing failed otherwise. Nothing is left behind.
    """
    place = Path(os.path.realpath(path))
    _may_write(place, overwrite)
    temporary: str | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = _folder_beside(place, "part")
        _write_zarr(dataset, temporary)
        _sync(temporary)
        _move(temporary, place, overwrite)
    except OSError as error:
        if isinstance(error, KerascopeError):
            raise
        raise KerascopeError(
            f"Could not write {str(place)!r}: {error.strerror or error}. Nothing was left there. Free some "
            "space or choose another place, and save again."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return place


def _may_write(place: Path, overwrite: bool) -> None:
    if not os.path.lexists(place):
        return
    if not overwrite:
        raise OutputExistsError(f"{str(place)!r} exists already. Give overwrite=True (--force) or another path.")
    if not place.is_dir() or not ((place / "zarr.json").is_file() or next(place.iterdir(), None) is None):
        raise BadInputError(
            f"{str(place)!r} is not a Zarr store, so it is not overwritten. Remove it yourself, or choose another path."
        )


def _write_zarr(dataset: xr.Dataset, folder: str) -> None:
    """Write the arrays, then count their files, and mark the store complete last of all."""
    import xarray as xr
    import zarr

    encoding: dict[str, dict[str, Any]] = {}
    texts = {}
    for key, variable in dataset.variables.items():
        name = str(key)
        encoding[name] = {"chunk_key_encoding": CHUNK_NAMES}
        if variable.ndim:
            encoding[name]["chunks"] = _chunks(variable.shape, variable.dtype.itemsize)
        if variable.dtype.kind in "Mm":
            unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
            length = unit[np.datetime_data(variable.dtype)[0]]
            since = " since 1970-01-01" if variable.dtype.kind == "M" else ""
            encoding[name] |= {"units": length + since, "dtype": "int64"}
        elif variable.dtype.kind == "U":  # Zarr has no settled form for text of fixed width
            texts[name] = xr.Variable(variable.dims, variable.values.astype(object), variable.attrs)
    dataset = dataset.assign_coords({n: v for n, v in texts.items() if n in dataset.coords})
    dataset = dataset.assign({n: v for n, v in texts.items() if n not in dataset.coords})
    dataset.to_zarr(folder, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    manifest = {str(name): _chunk_files(Path(folder, str(name))) for name in dataset.variables}
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    files = sum(count for count, _ in manifest.values())
    group.attrs.update({"kerascope_store": FORMAT, "chunk_files": files, "chunk_manifest": to_json(manifest)})
    group.attrs.update({"complete": 1})
    with warnings.catch_warnings():  # Zarr warns that version 3 does not settle this; xarray, if it's missing
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(folder)


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunk sizes: whole trailing axes as long as they fit, so that a sample is read alone."""
    left = max(1, CHUNK_BYTES // max(1, itemsize))
    sizes = []
    for size in reversed(shape):
        sizes.append(max(1, min(size, left)))
        left = max(1, left // sizes[-1])
    return tuple(reversed(sizes))


def _chunk_files(folder: Path) -> list[int]:
    """Count the chunk files of one array, and their bytes."""
    sizes = [entry.stat().st_size for entry in _files(folder) if entry.name != "zarr.json"]
    return [len(sizes), sum(sizes)]


def _files(folder: Path | str) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root, name)


def _folder_beside(place: Path, kind: str) -> str:
    """Make a hidden folder beside a place, on the same disk, with the usual permissions."""
    folder = place.parent / f".{place.name}.{secrets.token_hex(6)}.{kind}"
    folder.mkdir()
    return str(folder)


def _sync(folder: str) -> None:
    """Force every file and folder below, and the folder itself, to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync_one(os.path.join(root, name))
        _sync_one(root)


def _sync_one(path: str | Path) -> None:
    with contextlib.suppress(PermissionError, IsADirectoryError):  # a folder cannot be opened on Windows
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _move(temporary: str, place: Path, overwrite: bool) -> None:
    """Rename the finished store to its place; what was there comes back if that fails."""
    _may_write(place, overwrite)  # somebody else may have written there meanwhile
    aside = Path(_folder_beside(place, "old")) if place.exists() else None
    try:
        if aside is not None:
            os.rename(place, aside / "store")
        os.rename(temporary, place)
    except BaseException:
        if aside is not None and (aside / "store").exists() and not place.exists():
            os.rename(aside / "store", place)
        raise
    finally:
        if aside is not None and place.exists():  # never remove the only copy
            shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):  # it stands there, whatever the folder above says
        _sync_one(place.parent)


# Opening ------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a store that `write` made, lazily and undecoded, after checking that it is whole.

    Args:
        path: the folder.

    Returns:
        A dataset whose data variables are read when touched. Times are the numbers that stand in the store.

    Raises:
        BadInputError: there is no store, it is not one of kerascope's, or a part of it is missing.
    """
    place = Path(os.path.abspath(path))
    _check_whole(place, _marks(place))
    import xarray as xr

    dataset = xr.open_dataset(str(place), engine="zarr", consolidated=False, decode_cf=False, cache=False, chunks=None)
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if name not in MARKS}
    return dataset


def stamp(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return what changes when the store at the path is replaced by another; (0, 0) if it is gone."""
    try:
        found = os.stat(Path(path, "zarr.json"))
    except OSError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns


def check_stamp(path: str, before: tuple[int, int]) -> None:
    """Raise KerascopeError if the store at the path is no longer the one that had this stamp."""
    if stamp(path) != before:
        raise KerascopeError(f"The store {path!r} was replaced or removed since it was opened. Open it again.")


def _marks(place: Path) -> dict[str, Any]:
    """Read the store's own attributes, or say why this is not a store."""
    if not place.exists():
        raise BadInputError(f"There is no file or folder {str(place)!r}. Give the path of a saved result.")
    if not place.is_dir():
        patterns = " Fitted patterns are opened by ks.Patterns.open(path)." if place.suffix == ".npz" else ""
        raise BadInputError(f"{str(place)!r} is a file. A saved result is a folder (a Zarr store).{patterns}")
    try:
        with open(place / "zarr.json", encoding="utf-8") as file:
            marks = json.load(file).get("attributes", {})
    except FileNotFoundError:
        raise BadInputError(
            f"The folder {str(place)!r} is not a saved result: it has no zarr.json. Give a folder that .save() wrote."
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise BadInputError(
            f"The zarr.json in {str(place)!r} cannot be read: {error}. Save the result again."
        ) from None
    if not isinstance(marks, dict) or ("kerascope_store" not in marks and "kerascope_record" not in marks):
        raise BadInputError(
            f"{str(place)!r} is a Zarr store that kerascope did not write. Open it with xarray.open_zarr."
        )
    return marks


def _check_whole(place: Path, marks: dict[str, Any]) -> None:
    """Refuse a store that was not finished, that a newer version wrote, or that lacks a chunk."""
    if marks.get("complete") != 1:
        raise BadInputError(
            f"The store {str(place)!r} is incomplete: .save() did not write it to its end. Save it again."
        )
    version = marks.get("kerascope_store")
    if not isinstance(version, int) or version > FORMAT:
        raise BadInputError(
            f"The store {str(place)!r} has format {version}; this version of kerascope reads up to {FORMAT}. "
            "Update kerascope."
        )
    try:
        manifest = {
            str(name): [int(count), int(size)] for name, (count, size) in from_json(marks["chunk_manifest"]).items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInputError(f"The store {str(place)!r} lacks its list of chunks. Save the result again.") from None
    for name, expected in manifest.items():
        found = _chunk_files(place / name)
        if not (place / name / "zarr.json").is_file() or found != expected:
            raise BadInputError(
                f"The store {str(place)!r} is damaged: {name!r} should have {expected[0]} chunk files with "
                f"{expected[1]} bytes, and has {found[0]} with {found[1]}. Copy it again, or save it again."
            )
