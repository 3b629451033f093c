"""A CSV through the stream's own cleaning: usable rows only, in the file's order, each transaction once."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from fraudstream.offline import usable_transactions
from fraudstream.publisher.csv_source import CsvError
from fraudstream.schema import FIELD_NAMES, TRANSACTION_ARROW

HEADER = ",".join(FIELD_NAMES)


def line(transaction_id: str, amount: str = "10", time: str = "2025-01-02 03:04:05") -> str:
    return f"{transaction_id},U1,{amount},cairo,{time},iOS,"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{each}\n" for each in (HEADER, *lines)), encoding="utf-8")
    return path


def read(path: Path, rows_at_once: int = 3) -> pa.Table:
    return usable_transactions(path, ZoneInfo("UTC"), rows_at_once=rows_at_once)


def test_usable_rows_come_in_the_files_order_each_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.csv",
        line("T9", "1"),
        line("T1", "2", "2025-01-05 00:00:00"),
        line("T2", ""),
        line("T2", "3"),
        line("T9", "1"),
        line("T1", "4"),
        line("T0", "5", "yesterday"),
        line("T2", "6"),
        line("T8", "7"),
    )
    for rows_at_once in (4, 100):
        table = read(path, rows_at_once)
        assert table.schema == TRANSACTION_ARROW
        found = list(zip(table["TransactionID"].to_pylist(), table["Amount"].to_pylist(), strict=True))
        assert found == [("T9", 1), ("T1", 2), ("T2", 3), ("T8", 7)]


def test_cells_are_cleaned_as_the_stream_cleans_them(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"Note,{HEADER}\n,T1, U1 ,2.345,cairo,2025-01-02T03:04Z,NULL,\n", encoding="utf-8-sig")
    assert read(path).to_pylist() == [
        {
            "TransactionID": "T1",
            "UserID": "U1",
            "Amount": Decimal("2.35"),
            "Location": "Cairo",
            "Time": datetime.fromisoformat("2025-01-02 03:04:00"),
            "Device": "NULL",
            "Merchant": None,
        }
    ]


def test_a_file_without_a_usable_row_gives_no_transactions(tmp_path: Path) -> None:
    table = read(write(tmp_path / "data.csv", line("T1", "much"), line("", "1")))
    assert len(table) == 0 and table.schema == TRANSACTION_ARROW


def test_a_row_that_is_no_csv_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", line("T1"), line("T2"), line("T3"), line("T4"), "T5,U1")
    with pytest.raises(CsvError, match=r"data\.csv, line 6, column Amount: no cell"):
        read(path)


def test_a_file_that_is_no_csv_of_transactions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(CsvError, match="TransactionID: not in the header"):
        read(path)
