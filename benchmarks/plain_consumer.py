"""The floor of what Spark costs: a loop of plain Python that reads, parses and inserts, and does no more."""

from __future__ import annotations

import time
from datetime import datetime

import orjson
from confluent_kafka import Consumer
from sqlalchemy import Engine, text

from benchmarks.errors import BenchFailed
from fraudstream.schema import TIME_FORMAT

_BATCH = 5_000
_GIVE_UP_S = 30.0
_TABLE = (
    "CREATE TABLE plain (TransactionID VARCHAR(64), UserID VARCHAR(64), Amount DECIMAL(18,2), Location "
    "VARCHAR(128), Time DATETIME, Device VARCHAR(128), Merchant VARCHAR(128), Is_Fraud VARCHAR(3))"
)
_INSERT = text(
    "INSERT INTO plain VALUES (:TransactionID, :UserID, :Amount, :Location, :Time, :Device, :Merchant, "
    ":Is_Fraud)"
)


def plain_rate(engine: Engine, bootstrap_servers: str, topic: str, records: int) -> float:
    """Rows a second over the topic's first `records`: no features, no model, no duplicates found."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "plain",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    with engine.begin() as connection:
        connection.execute(text(_TABLE))
    started, done = None, 0
    try:
        while done < records:
            messages = consumer.consume(_BATCH, timeout=_GIVE_UP_S)
            if not messages:
                raise BenchFailed(f"after {done} of {records} records there was none for {_GIVE_UP_S:g} s")
            started = started or time.monotonic()
            rows = [row for row in (_row(message.value() or b"") for message in messages) if row]
            with engine.begin() as connection:
                connection.execute(_INSERT, rows)
            done += len(messages)
        return done / (time.monotonic() - (started or 0))
    finally:
        consumer.close()


def _row(message: bytes) -> dict[str, object] | None:
    row = orjson.loads(message)
    if row["Amount"] is None or row["Time"] is None:
        return None
    return {
        **row,
        "Time": datetime.strptime(row["Time"], TIME_FORMAT),  # noqa: DTZ007
        "Is_Fraud": "YES" if row["Amount"] > 2000 else "NO",
    }
