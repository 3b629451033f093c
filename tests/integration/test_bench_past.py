"""What the bench puts into a database in millions is what a job would have left there."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from benchmarks.past import forget_mails, store_more_transactions
from fraudstream.store import outbox
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from tests.support.transactions import Judged, store

NOON = datetime.fromisoformat("2025-01-15 12:00:00")


def number(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(query)) or 0


def test_copies_of_flagged_transactions_have_alerts_that_nobody_is_to_be_told_of(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    store(engine, [Judged(f"T{each}", f"U{each % 3}", Decimal(2410), NOON) for each in range(10)])
    forget_mails(engine)
    assert number(engine, "SELECT COUNT(*) FROM alerts") == 10

    store_more_transactions(engine, 34)
    assert number(engine, "SELECT COUNT(*) FROM clean_data") == 34
    same = "TransactionID, UserID, `Time`"
    # The last month was copied in part.
    assert number(engine, f"SELECT COUNT(*) FROM alerts JOIN clean_data USING ({same})") == 34
    assert number(engine, "SELECT COUNT(DISTINCT `Time`) FROM alerts") == 4
    assert number(engine, "SELECT COUNT(DISTINCT codes) FROM alerts") == 1
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=0, sent=0, failed=0)
    engine.dispose()
