"""CSV files as matrices: what is a header, what a name, and which cell is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerascope.cli.csv_data import natural_order, read_matrices, read_matrix
from kerascope.cli.io import files_in
from kerascope.errors import BadInputError

pytestmark = pytest.mark.backend_free


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "values", "rows", "columns"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]], None, None),
        ("a,b\n1,2\n", [[1, 2]], None, ("a", "b")),
        ("r1,1,2\nr2,3,4\n", [[1, 2], [3, 4]], ("r1", "r2"), None),
        (",a,b\nr1,1,2\n", [[1, 2]], ("r1",), ("a", "b")),
        ("gene,a,b\nr1,1,2\n", [[1, 2]], ("r1",), ("a", "b")),
        ("time,a,b\n0,1,2\n", [[0, 1, 2]], None, ("time", "a", "b")),
        (",1990,1991\n7,1,2\n8,3,4\n", [[1, 2], [3, 4]], ("7", "8"), ("1990", "1991")),
        ("v\n1\n2\n", [[1], [2]], None, ("v",)),
        ("1\n2\n", [[1], [2]], None, None),
        ("1;2\n3;4\n", [[1, 2], [3, 4]], None, None),
        ("a\tb\n1\t2\n", [[1, 2]], None, ("a", "b")),
        ('\ufeff"a","b"\n 1 , 2.5e-3 \n\n', [[1, 0.0025]], None, ("a", "b")),
        ("nan,inf\n1,2\n", [[np.nan, np.inf], [1, 2]], None, None),
    ],
)
def test_headers_and_names(tmp_path: Path, text: str, values: list[list[float]], rows: object, columns: object) -> None:
    matrix = read_matrix(write(tmp_path / "m.csv", text))
    np.testing.assert_array_equal(matrix.values, values)
    assert (matrix.rows, matrix.columns) == (rows, columns)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2\n3\n", r"m\.csv, line 2: 1 cells, but line 1 has 2"),
        ("a,b\n1,2\n\n3,x\n", r"m\.csv, line 4, column 2: 'x' is not a number"),
        ("1,2\n3,\n", r"m\.csv, line 2, column 2: the cell is empty"),
        ("1,b\n2,3\n", r"m\.csv, line 1, column 2: 'b' is not a number"),
        ("1;2\n3,5;4\n", r"m\.csv, line 2, column 1: '3,5' has a decimal comma. Write decimal points"),
        ("1,2\nr,3\n", r"m\.csv, line 2, column 1: 'r' is not a number"),
        ("a,b\n", "a header but no numbers"),
        ("", "is empty"),
        ("\n \n", "is empty"),
    ],
)
def test_the_first_wrong_cell_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        read_matrix(write(tmp_path / "m.csv", text))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe1\x00,\x002")
    with pytest.raises(BadInputError, match=r"m\.csv is not a CSV file of UTF-8 text"):
        read_matrix(tmp_path / "m.csv")
    with pytest.raises(BadInputError, match="cannot be read"):
        read_matrix(tmp_path / "none.csv")


def test_several_files(tmp_path: Path) -> None:
    one = write(tmp_path / "s1.csv", ",a,b\nr,1,2\n")
    two = write(tmp_path / "s2.csv", ",a,b\nr,3,4\n")
    values, first = read_matrices([one, two])
    np.testing.assert_array_equal(values, [[[1, 2]], [[3, 4]]])
    assert first.columns == ("a", "b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            ",a,b,c\nr,1,2,3\n",
            r"s2\.csv holds a matrix of 1 rows x 3 columns, .*s1\.csv one of 1 rows x 2 columns",
        ),
        (",a,c\nr,3,4\n", r"s2\.csv names other columns than .*s1\.csv: 'c' in place of 'b'"),
        (",a,b\nq,3,4\n", r"s2\.csv names other rows than .*s1\.csv: 'q' in place of 'r'"),
        ("a,b\n3,4\n", r"s2\.csv names other rows .*only one of them has names"),
    ],
)
def test_files_that_differ(tmp_path: Path, text: str, says: str) -> None:
    one = write(tmp_path / "s1.csv", ",a,b\nr,1,2\n")
    with pytest.raises(BadInputError, match=says):
        read_matrices([one, write(tmp_path / "s2.csv", text)])


def test_natural_order(tmp_path: Path) -> None:
    names = ["s10.csv", "s2.csv", "S1.csv", "a.csv", "2.csv", "10.csv"]
    for name in [*names, ".hidden.csv", "notes.txt"]:
        write(tmp_path / name, "1\n")
    assert [p.name for p in files_in(tmp_path)] == ["2.csv", "10.csv", "a.csv", "S1.csv", "s2.csv", "s10.csv"]
    assert natural_order(Path("a/x1")) != natural_order(Path("b/x1"))
    with pytest.raises(BadInputError, match=r"neither a Zarr store nor a folder of \.csv files"):
        files_in(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


NUMBERS = st.floats(allow_nan=False, width=64)


@given(st.data(), st.integers(1, 4), st.integers(2, 4), st.booleans(), st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, h: int, w: int, header: bool, named: bool
) -> None:
    values = np.array(data.draw(st.lists(NUMBERS, min_size=h * w, max_size=h * w))).reshape(h, w)
    lines = [[repr(float(v)) for v in row] for row in values]
    if named:
        lines = [[f"row {i}", *line] for i, line in enumerate(lines)]
    if header:
        lines.insert(0, [*([""] if named else []), *(f"column {j}" for j in range(w))])
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    path.write_text("\n".join(",".join(line) for line in lines), encoding="utf-8")
    matrix = read_matrix(path)
    np.testing.assert_array_equal(matrix.values, values)
    assert (matrix.rows is not None, matrix.columns is not None) == (named, header)
