"""A batch is judged alike whether the batch before it can be seen in the database already or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import FindHistories
from fraudstream.merchant_risk import no_outcomes
from fraudstream.rules import load_rules
from fraudstream.schema import CLEANED_ARROW, FIELD_NAMES, Outcome
from fraudstream.scoring import FindStored, Judge, Known, by_outcome, judge_partition
from fraudstream.uncommitted import Uncommitted

NOON = datetime.fromisoformat("2025-01-02 12:00:00")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "TransactionID": st.sampled_from(["T1", "T2", "T3", "T4", "T5", "T6"]),
            "UserID": st.sampled_from(["U1", "U2", "U3"]),
            "Amount": st.sampled_from([Decimal("1.00"), Decimal("2.50")]),
            "Time": st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours)),
            "Location": st.sampled_from([None, "Cairo"]),
        }
    ),
    max_size=8,
)


class Database:
    """What is stored of the batches so far, as the look-ups of the real one give it."""

    def __init__(self, *judged: pa.Table) -> None:
        self.transactions: dict[str, tuple[Any, ...]] = {}
        self.histories: dict[str, bytes] = {}
        for batch in judged:
            rows = batch.to_pylist()
            stored = (row for row in rows if row["outcome"] == Outcome.STORED)
            self.transactions |= {
                row["TransactionID"]: tuple(row[name] for name in FIELD_NAMES) for row in stored
            }
            self.histories |= {
                row["UserID"]: row["history"] for row in rows if row["outcome"] == Outcome.HISTORY
            }

    def find_stored(self, ids: list[str]) -> dict[str, tuple[Any, ...]]:
        return {each: self.transactions[each] for each in ids if each in self.transactions}

    def find_histories(self, users: list[str]) -> dict[str, bytes]:
        return {each: self.histories[each] for each in users if each in self.histories}


def batch(rows: list[dict[str, Any]], first_offset: int) -> pa.Table:
    whole = [
        {"partition_id": 0, "offset": offset, "kafka_time": datetime(2026, 1, 1, tzinfo=UTC), **row}
        for offset, row in enumerate(rows, first_offset)
    ]
    return pa.Table.from_pylist(whole, CLEANED_ARROW)


def judge(cleaned: pa.Table, find_stored: FindStored, find_histories: FindHistories) -> pa.Table:
    known = Known(find_stored, find_histories, no_outcomes())
    return judge_partition(cleaned, judge=Judge(load_rules(), None), known=known)


@given(first=ROWS, second=ROWS, third=ROWS)
def test_it_makes_no_difference_what_the_database_shows_of_the_batch_before(
    first: list[dict[str, Any]], second: list[dict[str, Any]], third: list[dict[str, Any]]
) -> None:
    empty = Database()
    one = judge(batch(first, 0), empty.find_stored, empty.find_histories)
    after_one = Database(one)
    two = judge(batch(second, 10), after_one.find_stored, after_one.find_histories)
    after_two = Database(one, two)
    three = judge(batch(third, 20), after_two.find_stored, after_two.find_histories)

    before = Uncommitted.of(by_outcome(two))
    for shown in (after_one, after_two):
        found = judge(
            batch(third, 20),
            partial(before.find_stored, otherwise=shown.find_stored),
            partial(before.find_histories, otherwise=shown.find_histories),
        )
        assert found.equals(three)


def test_the_database_is_asked_for_the_rest_only() -> None:
    asked: list[list[str]] = []

    def find(keys: list[str]) -> dict[str, Any]:
        asked.append(keys)
        return {}

    rows = [{"TransactionID": f"T{n}", "UserID": f"U{n}", "Amount": 1, "Time": NOON} for n in (1, 2)]
    before = Uncommitted.of(by_outcome(judge(batch(rows, 0), lambda _ids: {}, lambda _users: {})))
    assert before.find_stored(["T1", "T3"], otherwise=find).keys() == {"T1"}
    assert before.find_histories(["U2", "U9"], otherwise=find).keys() == {"U2"}
    assert asked == [["T3"], ["U9"]]


@pytest.mark.parametrize("outcome", [Outcome.DUPLICATE, Outcome.REJECTED])
def test_what_was_not_stored_is_not_there(outcome: Outcome) -> None:
    amount = Decimal(1 if outcome is Outcome.DUPLICATE else 2)
    rows = [{"TransactionID": "T1", "UserID": "U1", "Amount": amount, "Time": NOON, "Location": "Cairo"}]
    stored = ("T1", "U1", Decimal("1.00"), "Cairo", NOON, None, None)
    judged = judge(batch(rows, 0), lambda _ids: {"T1": stored}, lambda _users: {})
    assert pc.equal(judged["outcome"], outcome.value).to_pylist() == [True]
    nothing = Uncommitted.of(by_outcome(judged))
    assert len(nothing.transactions) == len(nothing.histories) == 0
    assert nothing.find_stored(["T1"], otherwise=lambda _ids: {"T1": stored}) == {"T1": stored}
