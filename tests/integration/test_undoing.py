"""What a session may undo: its last word on each transaction, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import pytest
import streamlit as st
from sqlalchemy import Engine, text
from streamlit.testing.v1 import AppTest

from tests.support.transactions import Judged, store

NOON = datetime.fromisoformat("2026-03-01 12:00:00")


def session() -> None:
    """Three presses on two transactions, then as many of Undo as there is anything to undo."""
    import streamlit as st

    from fraudstream.dashboard import reviewing
    from fraudstream.store.reviews import Seen

    st.session_state["analyst"] = "Mona"
    for seen, outcome in ((Seen("T1", 0), "fraud"), (Seen("T2", 0), "fraud"), (Seen("T1", 1), "legitimate")):
        reviewing.decide(seen, outcome, "note", lambda _: None)  # type: ignore[arg-type]
    while decided := st.session_state["decided_by_this_session"]:
        reviewing.undo(decided[-1], "T2", lambda _: None)
        st.text(st.session_state["told_by_reviewing"].text)


@pytest.fixture
def in_this_process(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("MYSQL_URL", database)
    st.cache_resource.clear()
    yield AppTest.from_function(session, default_timeout=30)
    st.cache_resource.clear()


def test_the_last_word_on_each_transaction_is_undone_once(engine: Engine, in_this_process: AppTest) -> None:
    store(engine, [Judged(name, "U1", Decimal(2500), NOON) for name in ("T1", "T2")])
    in_this_process.run()
    assert not in_this_process.exception
    assert [each.value for each in in_this_process.text] == [
        "Undone, T1 is again: Confirmed fraud",
        "Undone, T2 is again: New",
    ]
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT TransactionID, label FROM labels ORDER BY TransactionID"))
        assert [tuple(row) for row in stored] == [("T1", "fraud"), ("T2", "withdrawn")]
