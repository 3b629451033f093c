"""The dashboard's reads on a million transactions: what they cost does not grow with the rows."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from fraudstream.store.engine import make_engine
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.reads.timing import read_times_ms
from tests.support.large_database import fill

ROWS, DAYS = 1_000_000, 30
MOST_MS = 300
_LABELLED = "SELECT label, COUNT(*) FROM alerts JOIN labels USING (TransactionID) GROUP BY label"


@pytest.mark.timeout(900)
def test_every_read_is_quick(database: str) -> None:
    engine = make_engine(make_url(database))
    fill(engine, ROWS, DAYS)
    with engine.connect() as connection:
        labelled = dict(connection.execute(text(_LABELLED)).tuples().all())
    assert labelled["legitimate"] > labelled["fraud"] > ROWS / 1_000
    times = read_times_ms(open_engine(make_url(database)), repeats=5)
    slow = {name: round(ms) for name, ms in times.items() if ms > MOST_MS}
    assert len(times) > 100
    assert slow == {}
