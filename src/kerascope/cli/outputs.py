"""Where results go, checked first: nothing is computed for a place that cannot be written."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from kerascope.errors import BadInputError, OutputExistsError


@dataclass(frozen=True)
class Outputs:
    """The places that results are written to.

    Attributes:
        stores: one Zarr store per explanation; empty without `--out`.
        report: the HTML report; None without `--report`.
        folder: the folder of the stores, where there are several; it is made.
        figures: the folder of the maps as pictures; None without `--figures`.
    """

    stores: tuple[Path, ...] = ()
    report: Path | None = None
    folder: Path | None = None
    figures: Path | None = None


def plan(
    out: Path | None,
    report: Path | None,
    names: Sequence[str],
    *,
    figures: Path | None = None,
    force: bool,
    inputs: Iterable[str | Path],
) -> Outputs:
    """Return where results go, having checked that they can.

    Args:
        out: what `--out` says: the store of one explanation, or the folder for the stores of several.
        report: what `--report` says.
        names: one name per explanation, for the stores in a folder.
        figures: what `--figures` says.
        force: replace what is there.
        inputs: the files that are read, which must not be overwritten.

    Raises:
        OutputExistsError: when something is there and `force` is False.
        BadInputError: when a place cannot be written.
    """
    named = [(name, p) for name, p in (("--out", out), ("--report", report), ("--figures", figures)) if p is not None]
    for (one, path), (other, place) in itertools.combinations(named, 2):
        if _same(path, place):
            raise typer.BadParameter(f"{one} and {other} name the same path.", param_hint=other)
    several = out is not None and len(names) > 1
    stores = () if out is None else tuple(out / f"{name}.zarr" for name in names) if several else (out,)
    for path in (*stores, *(place for place in (report, figures) if place)):
        if any(_same(path, Path(str(used).rpartition("::")[0] or str(used))) for used in inputs):
            raise BadInputError(f"{path} is one of the inputs: choose another place for the result.")
    folder = out if several else None
    if folder is not None and folder.exists() and not folder.is_dir():
        raise BadInputError(f"{folder} is a file; several methods need a folder for their stores.")
    for store in stores:
        check_store(store, force=force, parent=folder.parent if folder else None)
    if report is not None:
        check_file(report, force=force)
    if figures is not None:
        check_folder(figures, force=force, made_of=[path.name for path in figures.glob("*.png")])
    return Outputs(stores, report, folder, figures)


def check_store(path: Path, *, force: bool, parent: Path | None = None) -> None:
    """Check that a Zarr store can be written, into `parent` where the store's own folder is made later."""
    if os.path.lexists(path):
        if not force:
            raise OutputExistsError(f"{path} exists already. Choose another name, or --force to replace it.")
        is_store = path.is_dir() and ((path / "zarr.json").is_file() or not any(path.iterdir()))
        if not is_store:
            raise BadInputError(f"{path} is not a Zarr store, so it is not replaced, even with --force.")
    _check_writable(parent if parent is not None and not path.parent.exists() else path.parent)


def check_file(path: Path, *, force: bool) -> None:
    """Check that a file can be written."""
    if path.is_dir():
        raise BadInputError(f"{path} is a folder: name a file in it, such as {path / 'report.html'}.")
    if os.path.lexists(path) and not force:
        raise OutputExistsError(f"{path} exists already. Choose another name, or --force to replace it.")
    _check_writable(path.parent)


def _check_writable(folder: Path) -> None:
    """Check that files can be made in a folder by making one."""
    if not folder.exists():
        raise BadInputError(f"The folder {folder} does not exist: make it first (mkdir -p {folder}).")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInputError(f"Nothing can be written to {folder}: {error.strerror or error}.") from error


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def check_folder(path: Path, *, force: bool, made_of: Sequence[str]) -> None:
    """Check that a folder of results can be made.

    Args:
        path: the folder.
        force: replace it, if it is one: it holds nothing but `made_of`.
        made_of: the names that such a folder holds.
    """
    if os.path.lexists(path):
        if not force:
            raise OutputExistsError(f"{path} exists already. Choose another name, or --force to replace it.")
        if not path.is_dir() or {entry.name for entry in path.iterdir()} - set(made_of):
            raise BadInputError(
                f"{path} is not a folder of such results alone, so it is not replaced, even with --force."
            )
    _check_writable(path.parent)
