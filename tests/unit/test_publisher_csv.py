"""Reading the CSV: what is accepted, and what is refused with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.publisher.csv_source import CsvError, check_head, count_rows, read_rows
from fraudstream.schema import FIELD_NAMES

HEADER = "TransactionID,UserID,Amount,Location,Time,Device,Merchant"
ROW = "T1,U1,12.50,Cairo,2025-01-01 10:00:00,iOS,Amazon"
CELLS = ROW.split(",")


@pytest.fixture
def csv_file(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "rows.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


QUOTED = '"T,1",U1,"1,000.00",Cairo,x,"a ""b""","c\nd"'
QUOTED_CELLS = ["T,1", "U1", "1,000.00", "Cairo", "x", 'a "b"', "c\nd"]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        pytest.param(f"{HEADER}\n{ROW}\n", [CELLS], id="plain"),
        pytest.param(f"{HEADER}\n{ROW}", [CELLS], id="no last line end"),
        pytest.param(f"{HEADER}\r\n{ROW}\r\n", [CELLS], id="CRLF"),
        pytest.param(f"\ufeff{HEADER}\n{ROW}\n", [CELLS], id="byte-order mark"),
        pytest.param(f"\n{HEADER}\n\n{ROW}\n\n", [CELLS], id="blank lines"),
        pytest.param(f"{HEADER}\n,,,,,,\n", [[""] * 7], id="empty cells"),
        pytest.param(
            f"{HEADER}\n T1 ,U1,\t5,Café,,x,😀\n", [[" T1 ", "U1", "\t5", "Café", "", "x", "😀"]], id="spaces"
        ),
        pytest.param(f"{HEADER}\n{QUOTED}\n", [QUOTED_CELLS], id="quoted"),
    ],
)
def test_rows_are_read_as_they_are_written(csv_file, content, rows):
    assert [list(cells) for cells in read_rows(csv_file(content))] == rows


def test_columns_are_found_by_name_and_others_are_left_out(csv_file):
    names = ["Note", *reversed(FIELD_NAMES)]
    cells = ["x", *reversed(CELLS)]
    path = csv_file(f"{', '.join(names)}\n{','.join(cells)}\n")
    assert [list(cells) for cells in read_rows(path)] == [CELLS]


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("", "line 1", "the file is empty"),
        (f"{HEADER}\n", "line 2", "no rows after the header"),
        (f"{HEADER}\n\n\n", "line 4", "no rows after the header"),
        (f"{HEADER.replace('Merchant', 'Shop')}\n{ROW}\n", "line 1, column Merchant", "not in the header"),
        (
            f"{HEADER.replace('Amount', 'amount')}\n{ROW}\n",
            "line 1, column Amount",
            "which has TransactionID",
        ),
        (f"{HEADER},Time\n{ROW},x\n", "line 1, column Time", "named twice"),
        (HEADER.replace(",", ";") + "\n", "line 1, column TransactionID", "separated by ';'"),
        (HEADER.replace(",", "\t") + "\n", "line 1, column TransactionID", r"separated by '\t'"),
        (f"{HEADER}\n{ROW}\nT2,U1,1,Cairo,x,iOS\n", "line 3, column Merchant", "no cell; the row has 6 of 7"),
        (f"{HEADER}\n{ROW}\n{ROW},more\n", "line 3, column 8", "one cell too many"),
        (f'{HEADER}\n{ROW}\n"T2,U1,1\n{ROW}\n', "line 3", "never closed"),
        (f'{HEADER}\n"T1"x,U1,1,a,b,c,d\n', "line 2", "expected after"),
        (f"{HEADER}\n{ROW}\nT2,U1,{'9' * 131_073},a,b,c,d\n", "line 3", "field limit"),
        (f"{HEADER}\n{','.join(['x' * 20_000] * 7)}\n", "line 2", "more than 131,072 characters"),
        (f"{HEADER}\n{ROW}\n".encode() + b"T2,U1,1,Caf\xe9,x,iOS,y\n", "line 3, column Location", "0xe9"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "line 1, column 1", "save the file as UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_the_reason(csv_file, content, place, problem):
    path = csv_file(content)
    with pytest.raises(CsvError) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"{path}, {place}: ")
    assert problem in str(caught.value)


def test_rows_before_a_bad_one_are_read(csv_file):
    rows = read_rows(csv_file(f"{HEADER}\n{ROW}\n{ROW}\nshort\n"))
    assert list(next(rows)) == CELLS
    assert list(next(rows)) == CELLS
    with pytest.raises(CsvError, match="line 4, column UserID"):
        next(rows)


def test_a_quoted_line_end_does_not_shift_the_line_of_an_error(csv_file):
    path = csv_file(f'{HEADER}\nT1,U1,1,"a\nb\nc",x,y,z\nshort\n')
    with pytest.raises(CsvError, match="line 5, column UserID"):
        list(read_rows(path))


def test_the_head_is_checked_without_reading_on(csv_file):
    check_head(csv_file(f"{HEADER}\n{ROW}\nbad row far behind\n"))
    with pytest.raises(CsvError, match="no rows"):
        check_head(csv_file(f"{HEADER}\n"))


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(CsvError, match=r"missing\.csv: No such file"):
        check_head(tmp_path / "missing.csv")
    with pytest.raises(CsvError, match="Is a directory"):
        check_head(tmp_path)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("end", ["", "\n"])
def test_rows_are_counted_by_line_ends(csv_file, rows, end):
    assert count_rows(csv_file("\n".join([HEADER] + [ROW] * rows) + end)) == rows
