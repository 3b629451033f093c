"""The queue as a table and as a CSV, and the words on an alert."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.reviews import Review, Word
from fraudstream.views import queue

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
REASONS = '[{"code":"AMOUNT_OVER_2000","amount":2500.0,"limit":2000.0},{"code":"NEWER","x":1}]'


def rows(**other: Any) -> pd.DataFrame:
    usual = {
        "TransactionID": "T1",
        "UserID": "U1",
        "Amount": Decimal("2500.00"),
        "Location": None,
        "Time": NOON,
        "Device": "iOS",
        "Merchant": "Noon",
        "score": 0.97123,
        "reasons": REASONS,
        "alert_id": 1,
        "state": "new",
        "source": None,
        "by": None,
        "note": None,
        "version": 0,
    }
    return pd.DataFrame([{**usual, **other}])


def exported(table: pd.DataFrame) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(queue.queue_csv(table).decode("utf-8-sig"), newline="")))


def test_the_table_has_what_the_codes_stand_for_and_the_csv_the_numbers() -> None:
    table = queue.queue_table(rows())
    assert table["Reasons"].tolist() == ["High amount, NEWER"]
    assert table["Location"].tolist() == ["(missing)"]
    assert exported(rows()) == [
        {
            "TransactionID": "T1", "UserID": "U1", "Amount": "2500.00", "Location": "",
            "Time": "2026-03-01 12:00:00", "Device": "iOS", "Merchant": "Noon", "Score": "0.9712",
            "Reasons": "Amount 2,500.00 is over 2,000.00; NEWER", "State": "New", "Said by": "", "Note": "",
        }
    ]  # fmt: skip


def test_an_empty_queue_is_a_table_and_a_csv_with_a_header() -> None:
    nothing = rows().iloc[:0]
    assert queue.queue_table(nothing).empty
    assert exported(nothing) == []


FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", " =1", "＝1", "－1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    (row,) = exported(rows(TransactionID=cell, note=cell, by=cell, source="review", state="fraud"))
    assert (row["TransactionID"], row["Note"], row["Said by"]) == (f"'{cell}",) * 3


@pytest.mark.parametrize("cell", ["x;=1+1", "x; @SUM(A1)", 'x;"=1"', "x\t-1", "x\n+1", "x;;＝1"])
def test_no_part_of_a_cell_is_a_formula_where_another_character_separates_cells(cell: str) -> None:
    (row,) = exported(rows(Merchant=cell))
    assert row["Merchant"] != cell
    parts = re.split("[;\t\r\n]", row["Merchant"])
    assert [part for part in parts if part.lstrip(' "').startswith(FORMULA_STARTS)] == []


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(';\t\n\r =+-@"'), max_size=30))
def test_a_cell_comes_back_as_it_was_but_for_apostrophes(text: str) -> None:
    (row,) = exported(rows(Merchant=text))
    assert row["Merchant"].replace("'", "") == text.replace("'", "")
    parts = re.split("[;\t\r\n]", row["Merchant"])
    assert [part for part in parts if part.lstrip(' "').startswith(FORMULA_STARTS)] == []
    assert not row["Merchant"].lstrip(" ").startswith(("\t", "\r", "\n"))


def test_a_word_says_whose_it_is_and_since_when() -> None:
    assert queue.word_text(None) == "New: nobody has reviewed it"
    review = Word("review", "fraud", NOON, "ann@example.com")
    assert queue.word_text(review) == "Confirmed fraud, says ann@example.com, 2026-03-01 12:00"
    imported = Word("bank", "legitimate", NOON)
    assert queue.word_text(imported) == "Legitimate, says label source bank, 2026-03-01 12:00"


def test_a_step_of_a_reviews_history_is_in_the_zone_of_the_data() -> None:
    taken_back = Review(2, None, None, "ann", NOON, NOON)
    said = Review(1, "fraud", "seen before", "ann", NOON, NOON)
    zone = ZoneInfo("Africa/Cairo")
    assert queue.review_text(said, zone) == "2026-03-01 14:00 ann: Confirmed fraud: seen before"
    assert queue.review_text(taken_back, zone) == "2026-03-01 14:00 ann: Review taken back"


def test_newer_alerts_are_counted_up_to_a_limit() -> None:
    assert queue.newer_text(0, 1_000) == "No newer alerts"
    assert queue.newer_text(1, 1_000) == "Show 1 newer alert"
    assert queue.newer_text(12, 1_000) == "Show 12 newer alerts"
    assert queue.newer_text(1_000, 1_000) == "Show 1,000 and more newer alerts"
