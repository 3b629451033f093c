"""Puts judged transactions into a database as a batch of the job would: rows, counts and alerts agree."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import orjson
import pyarrow as pa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects.mysql import insert

from fraudstream.schema import CITIES, DEVICES, JUDGED_ARROW, MERCHANTS
from fraudstream.store.daily_counts import add_to_daily_counts, joined_codes
from fraudstream.store.rollups import add_to_rollups
from fraudstream.store.tables import alerts, clean_data, pipeline_totals

FLAG_OVER = Decimal(2000)
_PROCESSED_AT = datetime.fromisoformat("2026-01-01")
_START = datetime.fromisoformat("2026-03-01")


@dataclass(frozen=True)
class Judged:
    """One transaction of `clean_data`; it is flagged when its amount is over 2,000 or `reasons` are given."""

    transaction_id: str
    user_id: str
    amount: Decimal
    time: datetime
    location: str | None = "Cairo"
    device: str | None = "iOS"
    merchant: str | None = "Amazon"
    reasons: str | None = None
    score: float | None = None
    model_version: str | None = None
    features: bytes | None = None

    @property
    def shown_score(self) -> float:
        if self.score is not None:
            return self.score
        return 1.0 if self.is_fraud == "YES" else 0.1

    @property
    def why(self) -> str | None:
        if self.reasons is None and self.amount > FLAG_OVER:
            reason = {"code": "AMOUNT_OVER_2000", "amount": float(self.amount), "limit": float(FLAG_OVER)}
            return orjson.dumps([reason]).decode()
        return self.reasons

    @property
    def is_fraud(self) -> str:
        return "NO" if self.why is None else "YES"


def random_transactions(
    count: int, *, seed: int, start: datetime = _START, days: float = 3, prefix: str = "T"
) -> list[Judged]:
    """`count` transactions in no order of time, one in twenty flagged, one name in twenty missing."""
    rng = random.Random(seed)

    def name(names: Sequence[str]) -> str | None:
        return None if rng.random() < 0.05 else rng.choice(names)

    def amount() -> Decimal:
        return (
            Decimal(rng.randint(200_001, 900_000) if rng.random() < 0.05 else rng.randint(0, 200_000)) / 100
        )

    return [
        Judged(
            transaction_id=f"{prefix}{number:06}",
            user_id=f"U{rng.randint(1, 50):03}",
            amount=amount(),
            time=start + timedelta(seconds=rng.randrange(int(days * 86_400))),
            location=name(CITIES),
            device=name(DEVICES),
            merchant=name(MERCHANTS),
        )
        for number in range(count)
    ]


def store(
    engine: Engine,
    transactions: Iterable[Judged],
    *,
    topic: str = "transactions",
    duplicates: int = 0,
    rejected: int = 0,
) -> None:
    """Commit the transactions as one batch of the job would."""
    rows = list(transactions)
    flagged = sum(row.is_fraud == "YES" for row in rows)
    counts = {"stored": len(rows), "flagged": flagged, "duplicates": duplicates, "rejected": rejected}
    with engine.begin() as connection:
        if rows:
            connection.execute(clean_data.insert(), [_stored(row, number) for number, row in enumerate(rows)])
            _count(connection, rows)
            if flagged:
                connection.execute(alerts.insert(), _alerts(rows))
        totals = {"topic": topic, **counts, "updated_at": _PROCESSED_AT}
        _add(connection, pipeline_totals, [totals], tuple(counts))


def _stored(row: Judged, offset: int) -> dict[str, object]:
    return {
        "TransactionID": row.transaction_id,
        "UserID": row.user_id,
        "Amount": row.amount,
        "Location": row.location,
        "Time": row.time,
        "Device": row.device,
        "Merchant": row.merchant,
        "Is_Fraud": row.is_fraud,
        "score": row.shown_score,
        "reasons": row.why,
        "topic_id": "topic",
        "partition_id": 0,
        "offset": offset,
        "kafka_time": _PROCESSED_AT,
        "processed_at": _PROCESSED_AT,
        "model_version": row.model_version,
        "features": row.features,
    }


def _count(connection: Connection, rows: list[Judged]) -> None:
    """Each model's rows apart, as no batch is judged by two."""
    names = ("Time", "Amount", "Location", "Device", "Merchant", "Is_Fraud", "score", "reasons")
    schema = pa.schema([JUDGED_ARROW.field(name) for name in names])
    for version in {row.model_version for row in rows}:
        same = [_stored(row, 0) for row in rows if row.model_version == version]
        table = pa.Table.from_pylist([{name: row[name] for name in names} for row in same], schema)
        add_to_rollups(connection, table)
        add_to_daily_counts(connection, table, version)


def _alerts(rows: list[Judged]) -> list[dict[str, object]]:
    return [
        {
            "TransactionID": row.transaction_id,
            "UserID": row.user_id,
            "Time": row.time,
            "codes": joined_codes(row.why or "[]"),
            "state": "waiting",
            "created_at": _PROCESSED_AT,
        }
        for row in rows
        if row.is_fraud == "YES"
    ]


def _add(connection: Connection, table: Table, rows: list[dict], counters: tuple[str, ...]) -> None:
    statement = insert(table)
    connection.execute(
        statement.on_duplicate_key_update(
            {name: table.c[name] + statement.inserted[name] for name in counters}
        ),
        rows,
    )
