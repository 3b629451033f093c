"""What the bench puts into a database in millions is what a job would have left there."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from benchmarks.past import forget_mails, store_more_transactions
from fraudstream.store import outbox
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.tables import metadata
from tests.support.transactions import Judged, store

NOON = datetime.fromisoformat("2025-01-15 12:00:00")


def number(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(query)) or 0


@pytest.mark.parametrize("random_ids", [False, True])
def test_copies_are_earlier_transactions_with_alerts_that_nobody_is_to_be_told_of(
    database: str, random_ids: bool
) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    times = (NOON, NOON + timedelta(days=2))
    ids = [f"{hashlib.sha256(bytes([each])).hexdigest()[:24]}" for each in range(10)]
    store(engine, [Judged(each, "U1", Decimal(2410), times[at % 2]) for at, each in enumerate(ids)])
    forget_mails(engine)
    assert number(engine, "SELECT COUNT(*) FROM alerts") == 10

    store_more_transactions(engine, 34, random_ids=random_ids)
    assert number(engine, "SELECT COUNT(*) FROM clean_data") == 40
    same = "TransactionID, UserID, `Time`"
    assert number(engine, f"SELECT COUNT(*) FROM alerts JOIN clean_data USING ({same})") == 40
    assert number(engine, "SELECT COUNT(DISTINCT `Time`) FROM alerts") == 8
    assert number(engine, "SELECT COUNT(DISTINCT codes) FROM alerts") == 1
    copies = f"FROM clean_data WHERE `Time` < '{NOON}'"
    assert number(engine, f"SELECT COUNT(*) {copies} AND TransactionID < '{min(ids)}'") == (
        pytest.approx(30 / 11, abs=5) if random_ids else 30
    )
    for rollup in (name for name in metadata.tables if name.startswith("rollup_")):
        assert number(engine, f"SELECT SUM(transactions) FROM {rollup}") == 40, rollup
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=0, sent=0, failed=0)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []  # no index is missing
    engine.dispose()
