"""What lies in a model file, read without building anything: the architecture and the sizes of the weights.

Two formats hold a whole Keras model: `.keras` (a zip of `config.json`, `metadata.json` and
`model.weights.h5`) and the older HDF5 file (the architecture in the attribute `model_config`). Both are told
by content, not by name. Nothing here trusts the file: names that leave the archive, members that unpack to
far more than they store, links to other files and encodings that can hold code are refused before Keras sees
them.
"""

from __future__ import annotations

import io
import json
import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import h5py

from kerascope.errors import BadInputError, KerascopeError, UnsafeModelError

_CONFIG, _METADATA = "config.json", "metadata.json"
_WEIGHTS_H5, _WEIGHTS_NPZ = "model.weights.h5", "model.weights.npz"
_H5_MAGIC, _ZIP_MAGICS = b"\x89HDF\r\n\x1a\n", (b"PK\x03\x04", b"PK\x05\x06")
# What other files people hand over by mistake begin with.
_OTHER_MAGICS = (
    (b"\x93NUMPY", "It is a NumPy array: is it the data?"),
    (b"\x80", "It looks like a Python pickle, which kerascope never opens."),
    (b"version https://git-lfs", "It is a Git LFS pointer: fetch the file itself with 'git lfs pull'."),
    (b"<", "It looks like a web page: was the download a login or an error page?"),
)
_BOMB_FLOOR = 64 * 2**20  # bytes; below this no expansion hurts
_BOMB_RATIO = 100  # float weights compress to about 0.9 of their size; zeros to 1/1000
_CONFIG_LIMIT = 100 * 2**20  # bytes; the largest of keras.applications has 1 MB

# What zipfile and h5py raise on a damaged file.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
    *(EOFError, OSError, RuntimeError, ValueError, KeyError),
)

SAVE_AGAIN = "Save the whole model with model.save('model.keras') and give that file."


@dataclass(frozen=True)
class StoredModel:
    """What a model file says about itself.

    Attributes:
        path: the file.
        kind: `"keras"` (zip) or `"h5"`.
        config: the architecture, as the file has it.
        keras_version: the release that wrote it, or `"unknown"`.
        stored: how many numbers the weights in the file hold.
    """

    path: Path
    kind: Literal["keras", "h5"]
    config: dict[str, Any]
    keras_version: str
    stored: int


def read_stored_model(path: Path) -> StoredModel:
    """Return what the file at `path` holds.

    Raises:
        BadInputError: when it is no Keras model, or damaged.
        UnsafeModelError: when the file is built to harm: bombs, links, names that leave the archive.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise BadInputError(f"The model file {path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(_H5_MAGIC):
        return _read_h5(path)
    if head.startswith(_ZIP_MAGICS):
        return _read_zip(path)
    hint = next((hint for magic, hint in _OTHER_MAGICS if head.startswith(magic)), "")
    if not head:
        hint = "It is empty."
    raise BadInputError(
        f"{path} is not a Keras model file: expected a .keras archive or an .h5 file. {hint or SAVE_AGAIN}"
    )


def _read_zip(path: Path) -> StoredModel:
    """Return what a .keras archive holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            names = set(archive.namelist())
            if _CONFIG not in names:
                hint = "It looks like a PyTorch file. " if any(n.endswith("data.pkl") for n in names) else ""
                raise BadInputError(
                    f"{path} is a zip archive without {_CONFIG}, so it is not a Keras model. {hint}{SAVE_AGAIN}"
                )
            config = _parse(path, archive.read(_CONFIG))
            metadata = _parse(path, archive.read(_METADATA)) if _METADATA in names else {}
            stored = _stored_in_zip(path, archive, names)
    except KerascopeError:
        raise
    except _DAMAGE as error:
        raise BadInputError(
            f"{path} is a damaged or incomplete .keras archive ({error}): copy or download it again."
        ) from error
    return StoredModel(path, "keras", config, str(metadata.get("keras_version", "unknown")), stored)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise UnsafeModelError where an archive's table of contents is built to harm."""
    seen: set[str] = set()
    for member in archive.infolist():
        name = member.filename
        leaves = (
            "\\" in name
            or PurePosixPath(name).is_absolute()
            or bool(PureWindowsPath(name).drive)
            or ".." in PurePosixPath(name).parts
        )
        if leaves or stat.S_ISLNK(member.external_attr >> 16):
            raise UnsafeModelError(
                f"{path} holds {name!r}, a name or link that leads out of the archive. Keras never writes "
                f"such "
                "an entry; do not use this file."
            )
        if name in seen:
            raise UnsafeModelError(
                f"{path} holds {name!r} twice, so it is unclear which one counts. Keras never writes such a file."
            )
        seen.add(name)
        if member.file_size > max(_BOMB_FLOOR, _BOMB_RATIO * member.compress_size) or (
            name in (_CONFIG, _METADATA) and member.file_size > _CONFIG_LIMIT
        ):
            raise UnsafeModelError(
                f"{path} holds {name!r}, {member.compress_size:,} bytes that unpack to {member.file_size:,}: "
                "a decompression bomb. Refused."
            )


def _stored_in_zip(path: Path, archive: zipfile.ZipFile, names: set[str]) -> int:
    """Return how many numbers the weights in a .keras archive hold."""
    if _WEIGHTS_H5 in names:
        content = io.BytesIO(archive.read(_WEIGHTS_H5))
        try:
            with h5py.File(content, "r") as file:
                return sum(_numbers(path, file, skip="optimizer"))
        except KerascopeError:
            raise
        except _DAMAGE as error:
            raise BadInputError(f"The weights in {path} are damaged ({error}): copy it again.") from error
    if _WEIGHTS_NPZ in names:
        raise UnsafeModelError(
            f"{path} keeps its weights as {_WEIGHTS_NPZ}, an encoding that can hold pickled code. Load it "
            f"where "
            f"you trust it and save it again in the default format: model.save('model.keras')."
        )
    raise BadInputError(f"{path} holds an architecture but no weights ({_WEIGHTS_H5} is missing). {SAVE_AGAIN}")


def _read_h5(path: Path) -> StoredModel:
    """Return what an HDF5 model file holds."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise BadInputError(
                    f"{path} is an HDF5 file without an architecture: it holds weights only, or data. {SAVE_AGAIN}"
                )
            config = _parse(path, text)
            version = file.attrs.get("keras_version", "unknown")
            weights = file.get("model_weights", getlink=True)
            if not isinstance(weights, h5py.HardLink):
                raise BadInputError(f"{path} holds an architecture but no weights. {SAVE_AGAIN}")
            stored = sum(_numbers(path, file["model_weights"]))
    except KerascopeError:
        raise
    except _DAMAGE as error:
        raise BadInputError(f"{path} is a damaged or incomplete HDF5 file ({error}): copy it again.") from error
    version = version.decode("utf-8", "replace") if isinstance(version, bytes) else str(version)
    return StoredModel(path, "h5", config, version, stored)


def _numbers(path: Path, top: Any, *, skip: str | None = None) -> Iterator[int]:
    """Yield how many numbers each array below an HDF5 group holds; links are refused."""
    groups: list[Any] = [top]
    seen: set[int] = set()  # addresses: a group may be linked into itself
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            if group is top and name == skip:
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeModelError(
                    f"{path}: {group.name.rstrip('/')}/{name} is a link, possibly to another file on this "
                    f"machine. "
                    "Keras never writes links; do not use this file."
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                yield _numbers_of(path, item)


def _numbers_of(path: Path, dataset: Any) -> int:
    """Return how many numbers an HDF5 dataset holds."""
    if dataset.external or dataset.is_virtual:
        raise UnsafeModelError(
            f"{path}: the array {dataset.name} takes its numbers from another file. Keras never writes such "
            f"arrays; "
            "do not use this file."
        )
    count: int = math.prod(dataset.shape)
    stored = dataset.id.get_storage_size()
    size = count * dataset.dtype.itemsize
    if size > max(_BOMB_FLOOR, _BOMB_RATIO * stored):
        raise UnsafeModelError(
            f"{path}: the array {dataset.name} of shape {dataset.shape} claims {size:,} bytes but the file "
            f"stores "
            f"{stored:,} of them: a decompression bomb. Refused."
        )
    return count


def _parse(path: Path, text: Any) -> dict[str, Any]:
    """Return a JSON object from the file."""
    try:
        content = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInputError(f"The architecture in {path} is not readable JSON ({error}): copy it again.") from error
    if not isinstance(content, dict):
        raise BadInputError(
            f"The architecture in {path} is a JSON {type(content).__name__}, not an object. {SAVE_AGAIN}"
        )
    return content
