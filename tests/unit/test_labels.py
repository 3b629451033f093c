"""A CSV of confirmed outcomes: good rows are kept, bad ones named by their line."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.labels import BadRow, Label, LabelFile, LabelFileError, read_labels

CAIRO = ZoneInfo("Africa/Cairo")
NOW = datetime.fromisoformat("2025-02-01 12:00:00")
KNOWN = datetime.fromisoformat("2025-01-20 08:30:00")
HEADER = "TransactionID,label,known_at\n"


def read(text: str) -> LabelFile:
    return read_labels(io.StringIO(text, newline=""), CAIRO, NOW)


def test_each_row_is_a_label() -> None:
    read_file = read(f"{HEADER}T1,fraud,2025-01-20 08:30:00\n\nT2, Legitimate ,2025-01-20T08:30:00\n")
    assert read_file == LabelFile((Label("T1", "fraud", KNOWN), Label("T2", "legitimate", KNOWN)), ())


def test_columns_come_in_any_order_and_among_others() -> None:
    read_file = read('note, label ,known_at,TransactionID\n"a, b",fraud,2025-01-20 08:30:00,T1\n')
    assert read_file.labels == (Label("T1", "fraud", KNOWN),)


@pytest.mark.parametrize(
    "known_at", ["2025-01-20 06:30:00Z", "2025-01-20T11:30:00+05:00", "2025-01-20 08:30:00.999"]
)
def test_a_time_with_an_offset_is_converted_and_fractions_are_cut(known_at: str) -> None:
    assert read(f"{HEADER}T1,fraud,{known_at}\n").labels == (Label("T1", "fraud", KNOWN),)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",fraud,2025-01-20 08:30:00", "TransactionID is missing"),
        (f"{'x' * 65},fraud,2025-01-20 08:30:00", "TransactionID has more than 64 characters"),
        ("T1,maybe,2025-01-20 08:30:00", "label 'maybe' is neither fraud nor legitimate"),
        ("T1,,2025-01-20 08:30:00", "label '' is neither fraud nor legitimate"),
        ("T1,fraud,", "known_at '' is not YYYY-MM-DD HH:MM:SS"),
        ("T1,fraud,20.01.2025", "known_at '20.01.2025' is not YYYY-MM-DD HH:MM:SS"),
        ("T1,fraud,2025-02-30 00:00:00", "known_at '2025-02-30 00:00:00' is no date that there is"),
        ("T1,fraud,1999-12-31 23:59:59", "known_at 1999-12-31 23:59:59 is before 2000-01-01"),
        ("T1,fraud,9999-12-31 23:59:59Z", "known_at '9999-12-31 23:59:59Z' is no date that there is"),
        ("T1,fraud,2025-02-01 12:00:01", "known_at 2025-02-01 12:00:01 lies in the future"),
        ("T1,fraud", "the row has 2 cells, another number than the header"),
        ("T1,fraud,2025-01-20 08:30:00,x", "the row has 4 cells, another number than the header"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_the_others_are_kept(row: str, problem: str) -> None:
    read_file = read(f"{HEADER}A,fraud,2025-01-20 08:30:00\n{row}\nB,fraud,2025-01-20 08:30:00\n")
    assert [label.transaction_id for label in read_file.labels] == ["A", "B"]
    assert read_file.bad_rows == (BadRow(3, problem),)


def test_of_two_labels_the_one_known_last_holds_wherever_it_stands() -> None:
    early, late = "T1,fraud,2025-01-20 08:30:00\n", "T1,legitimate,2025-01-21 08:30:00\n"
    for rows in (early + late, late + early, early + late + early + late):
        read_file = read(HEADER + rows)
        assert read_file == LabelFile((Label("T1", "legitimate", KNOWN + timedelta(days=1)),), ())


def test_two_outcomes_of_one_time_contradict_each_other() -> None:
    read_file = read(f"{HEADER}T1,fraud,2025-01-20 08:30:00\nT1,legitimate,2025-01-20 08:30:00\n")
    assert read_file.labels == (Label("T1", "fraud", KNOWN),)
    assert read_file.bad_rows == (BadRow(3, "line 2 says 'fraud' as of the same time"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; it must begin with TransactionID,label,known_at"),
        ("\n\n", "the file is empty"),
        ("TransactionID,is_fraud\nT1,1\n", "line 1: column label is missing"),
        ("\nTransactionID;label;known_at\n", "line 2: column TransactionID is missing"),
        ("TransactionID,label,label,known_at\n", "line 1: column label is named twice"),
        (f'{HEADER}T1,fraud,2025-01-20 08:30:00\n"T2,fraud\n', "line 3: not a CSV from here on"),
    ],
)
def test_what_is_no_file_of_labels_is_refused_whole(text: str, message: str) -> None:
    with pytest.raises(LabelFileError) as caught:
        read(text)
    assert message in str(caught.value)


@given(st.lists(st.lists(st.text(max_size=70), max_size=5), max_size=20))
def test_every_row_is_a_label_or_named(rows: list[list[str]]) -> None:
    """Whatever the cells hold; only rows of no cell at all are no rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["TransactionID", "label", "known_at"], *rows])
    read_file = read(text.getvalue())
    assert len(read_file.labels) + len(read_file.bad_rows) == sum(bool(row) for row in rows)
