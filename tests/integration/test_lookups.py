"""Stored transactions are found by their ids, whatever these are and whichever is the last."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event

from fraudstream.store.lookups import StoredTransactions, not_behind
from fraudstream.store.tables import clean_data
from tests.support.transactions import Judged, store

TIME = datetime.fromisoformat("2026-01-01")
# What the order of texts depends on: spaces and what comes before them, bytes of several lengths.
TRICKY = "\0\t\x1f !~\x7f\x80\xa0\u00e9\u200d\ufffd\U00010000\U0001f600aAzZ09"
ID = (
    st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
    .map(str.strip)
    .filter(bool)
)


def store_only(engine: Engine, ids: set[str]) -> None:
    with engine.begin() as connection:
        connection.execute(delete(clean_data))
    store(engine, [Judged(each, "u", Decimal(1), TIME) for each in ids])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(ID, max_size=4), st.sets(ID, max_size=6))
@example({"T", "T\x00"}, {"T\x01"})
@example({"T\x1fa"}, {"T"})
@example({"\uffff"}, {"\U00010000"})
def test_exactly_what_is_stored_is_found(engine: Engine, stored: set[str], others: set[str]) -> None:
    store_only(engine, stored)

    found = StoredTransactions(engine.url)([*stored, *others])

    assert found.keys() == stored


def test_ids_that_ascend_are_not_looked_up(engine: Engine) -> None:
    store_only(engine, {"T0001", "T0002"})
    asked: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(
        _connection: object, _cursor: object, statement: str, parameters: object, *_rest: object
    ) -> None:
        asked.append(f"{statement} {parameters}")

    try:
        found = StoredTransactions(engine.url)(["T0002", "T0003", "T0004"])
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert found.keys() == {"T0002"}
    assert [text for text in asked if "T0003" in text or "T0004" in text] == []
    assert [text for text in asked if "T0002" in text] != []


def test_in_an_empty_table_nothing_is_looked_up(engine: Engine) -> None:
    store_only(engine, set())

    assert list(not_behind(["T1"], None)) == []
    assert StoredTransactions(engine.url)(["T1"]) == {}
