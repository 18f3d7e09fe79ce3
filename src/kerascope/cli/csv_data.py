"""Matrices in CSV files: one matrix a file, several files or a folder are samples."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerascope.errors import BadInputError

SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Matrix:
    """One matrix from a file.

    Attributes:
        values: array (H, W), float64.
        rows: names of the rows, from a first column of names; None without one.
        columns: names of the columns, from a header row; None without one.
    """

    values: np.ndarray
    rows: tuple[str, ...] | None
    columns: tuple[str, ...] | None


def natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts names as people do: sample_2 before sample_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p], str(path)


def read_matrices(files: Sequence[Path]) -> tuple[np.ndarray, Matrix]:
    """Return the matrices of several files, (N, H, W), and the first of them for its names.

    Raises:
        BadInputError: when a cell is no number, or the files differ in shape or names.
    """
    first = read_matrix(files[0])
    values = np.empty((len(files), *first.values.shape))
    values[0] = first.values
    for i, file in enumerate(files[1:], start=1):
        matrix = read_matrix(file)
        if matrix.values.shape != first.values.shape:
            raise BadInputError(
                f"{file} holds a matrix of {_size(matrix)}, {files[0]} one of {_size(first)}: all samples "
                f"must "
                "have the same shape."
            )
        for kind, names, expected in (
            ("row", matrix.rows, first.rows),
            ("column", matrix.columns, first.columns),
        ):
            if names != expected:
                raise BadInputError(f"{file} names other {kind}s than {files[0]}: {_difference(names, expected)}.")
        values[i] = matrix.values
    return values, first


def read_matrix(file: Path) -> Matrix:
    """Return the matrix in one file.

    The first row is a header if none of its cells is a number, or if its first cell, the corner, is empty;
    the first column holds names if none of its cells below the header is a number, or if the corner is empty.

    Raises:
        BadInputError: names file, line and column of the first cell that is no number.
    """
    lines = _cells(file)
    (first_number, first_cells), width = lines[0], len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            raise BadInputError(
                f"{file}, line {number}: {len(cells)} cells, but line {first_number} has {width}. Every line "
                f"of a "
                "matrix must have the same number of cells."
            )
    corner = first_cells[0]
    # "a,1,2" is a row and its name; ",1,2" a header of numbers.
    header = (not corner and width > 1) or not any(map(_is_number, first_cells))
    body = lines[1:] if header else lines
    if not body:
        raise BadInputError(f"{file} holds a header but no numbers.")
    first_column = [cells[0] for _, cells in body]
    named = width > 1 and ((header and not corner) or not any(map(_is_number, first_column)))
    start = 1 if named else 0
    return Matrix(
        _numbers(file, body, start),
        tuple(first_column) if named else None,
        tuple(first_cells[start:]) if header else None,
    )


def _cells(file: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a file that are not blank: their numbers and their cells."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            delimiter = next((d for d in "\t;," if d in head), ",")
            reader = csv.reader(stream, delimiter=delimiter)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{file} is not a CSV file of UTF-8 text ({error}).") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise BadInputError(f"{file} is empty.")
    return lines


def _numbers(file: Path, body: list[tuple[int, list[str]]], start: int) -> np.ndarray:
    """Return the cells from column `start` on as numbers, (H, W)."""
    values = np.empty((len(body), len(body[0][1]) - start))
    for i, (number, cells) in enumerate(body):
        for j, cell in enumerate(cells[start:]):
            try:
                values[i, j] = float(cell)
            except ValueError:
                raise BadInputError(f"{file}, line {number}, column {start + j + 1}: {_what_is_wrong(cell)}") from None
    return values


def _what_is_wrong(cell: str) -> str:
    """Return why a cell is no number, and what to do."""
    if not cell:
        return "the cell is empty. Fill or leave out what is missing."
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return f"{cell!r} has a decimal comma. Write decimal points."
    return f"{cell!r} is not a number."


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _size(matrix: Matrix) -> str:
    return "{} rows x {} columns".format(*matrix.values.shape)


def _difference(names: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> str:
    """Return in words the first difference between two lists of names."""
    if names is None or expected is None:
        return "only one of them has names"
    i = next(i for i, (a, b) in enumerate(zip(names, expected, strict=True)) if a != b)
    return f"{names[i]!r} in place of {expected[i]!r}"
