"""The job's picture of confirmed outcomes, as labels and transactions come in any order."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.history import wide_code_of
from fraudstream.known_outcomes import CHANGE_COLUMNS, KnownOutcomes
from fraudstream.schema import TRANSACTION_ARROW

DAY = timedelta(days=1)
TIME = datetime.fromisoformat("2025-01-02 03:04:05")
KNOWN = TIME + 7 * DAY
EPOCH = datetime.fromisoformat("1970-01-01")

Change = dict[str, Any]


def change(transaction_id: str, number: int = 1, **other: Any) -> Change:
    """A label of a stored transaction."""
    usual = {
        "source": "bank",
        "fraud": True,
        "withdrawn": False,
        "known_at": KNOWN,
        "Merchant": "Noon",
        "Time": TIME,
    }
    return {"TransactionID": transaction_id, "change_id": number, **usual, **other}


def early(transaction_id: str, number: int = 1, **other: Any) -> Change:
    """A label whose transaction is not stored yet."""
    return change(transaction_id, number, Merchant=None, Time=None, **other)


def changes(*rows: Change) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(CHANGE_COLUMNS))


def stored(*transaction_ids: str, merchant: str | None = "Noon", time: datetime = TIME) -> pa.Table:
    rows = [{"TransactionID": name, "Merchant": merchant, "Time": time} for name in transaction_ids]
    return pa.Table.from_pylist(rows, TRANSACTION_ARROW)


def said(known: KnownOutcomes) -> list[tuple[int, int, int, bool]]:
    found = known.outcomes()
    columns = (found.merchant, found.time_s, found.known_at_s, found.fraud)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def seconds(time: datetime) -> int:
    return int((time - EPOCH).total_seconds())


FRAUD_AT_NOON = (wide_code_of("Noon"), seconds(TIME), seconds(KNOWN), True)


def test_a_label_that_was_read_while_its_transaction_was_being_stored_counts() -> None:
    followed = KnownOutcomes.none().followed(changes(early("T1"), early("T2", 2)), stored("T1"))
    assert said(followed) == [FRAUD_AT_NOON]
    assert followed.some_wait


def test_nothing_known_is_no_outcome_and_asks_for_every_change() -> None:
    assert said(KnownOutcomes.none()) == []
    assert KnownOutcomes.none().last_change < 0


def test_a_label_of_a_stored_transaction_counts_at_once() -> None:
    known = KnownOutcomes.none().changed(changes(change("T1", 4)))
    assert said(known) == [FRAUD_AT_NOON]
    assert known.last_change == 4


def test_a_label_that_comes_first_counts_once_its_transaction_is_stored() -> None:
    known = KnownOutcomes.none().changed(changes(early("T1"), early("T2", fraud=False)))
    assert said(known) == []
    known = known.arrived(stored("other", "T1"))
    assert said(known) == [FRAUD_AT_NOON]
    assert len(said(known.arrived(stored("T2")))) == 2


def test_nothing_new_is_the_same_picture() -> None:
    known = KnownOutcomes.none().changed(changes(change("T1"), early("T2", 2)))
    assert known.changed(changes()) is known
    assert known.arrived(stored("other")) is known
    assert known.arrived(stored()) is known


def test_a_changed_label_replaces_the_former_word_of_its_source() -> None:
    known = (
        KnownOutcomes.none().changed(changes(change("T1", 1))).changed(changes(change("T1", 2, fraud=False)))
    )
    assert [fraud for *_, fraud in said(known)] == [False]
    assert known.last_change == 2


def test_a_word_that_was_taken_back_counts_no_more_and_another_sources_does() -> None:
    said_twice = KnownOutcomes.none().changed(changes(change("T1", 1), change("T1", 2, source="review")))
    undone = said_twice.changed(changes(change("T1", 3, source="review", withdrawn=True)))
    assert said(undone) == [FRAUD_AT_NOON]
    gone = undone.changed(changes(change("T1", 4, withdrawn=True)))
    assert said(gone) == []
    assert gone.last_change == 4


def test_nobody_waits_for_the_transaction_of_a_word_that_was_taken_back() -> None:
    known = KnownOutcomes.none().changed(changes(early("T1")))
    assert known.some_wait
    assert not known.changed(changes(early("T1", 2, withdrawn=True))).some_wait


def test_of_several_sources_the_word_known_last_counts_and_at_the_same_time_fraud() -> None:
    first = change("T1", source="a", fraud=True)
    later = change("T1", source="b", fraud=False, known_at=KNOWN + DAY)
    same = change("T1", source="c", fraud=False)
    for rows in itertools.permutations([first, later]):
        assert [fraud for *_, fraud in said(KnownOutcomes.none().changed(changes(*rows)))] == [False]
    for rows in itertools.permutations([first, same]):
        assert said(KnownOutcomes.none().changed(changes(*rows))) == [FRAUD_AT_NOON]


def test_a_transaction_without_a_merchant_says_nothing_of_one() -> None:
    known = KnownOutcomes.none().changed(changes(early("T1"), change("T2", Merchant=None)))
    assert said(known.arrived(stored("T1", merchant=None))) == []


@given(st.data())
def test_the_order_of_labels_and_transactions_does_not_matter(data: st.DataObject) -> None:
    ids = ["T1", "T2", "T3", "T4"]
    times = {name: TIME + number * DAY for number, name in enumerate(ids)}
    labelled = data.draw(st.lists(st.sampled_from(ids), unique=True))
    steps = data.draw(
        st.permutations([("label", name) for name in labelled] + [("store", name) for name in ids])
    )
    known, present = KnownOutcomes.none(), set()
    for number, (step, name) in enumerate(steps):
        if step == "store":
            present.add(name)
            known = known.arrived(stored(name, time=times[name]))
        elif name in present:
            known = known.changed(changes(change(name, number, Time=times[name])))
        else:
            known = known.changed(changes(early(name, number)))
    assert [time for _, time, *_ in said(known)] == sorted(seconds(times[name]) for name in labelled)
    assert np.all(np.diff(known.outcomes().time_s) >= 0)
