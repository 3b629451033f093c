"""Puts judged transactions into a database as a batch of the job would: rows, counts and alerts agree."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import orjson
import pyarrow as pa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects.mysql import insert

from fraudstream.schema import CITIES, DEVICES, MERCHANTS
from fraudstream.store.daily_counts import add_to_daily_counts
from fraudstream.store.tables import alerts, clean_data, pipeline_totals, rollup_hourly

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
            _add(connection, rollup_hourly, _rollup(rows), ("transactions", "amount"))
            _count_by_day(connection, rows)
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


def _count_by_day(connection: Connection, rows: list[Judged]) -> None:
    for version in {row.model_version for row in rows}:
        same = [row for row in rows if row.model_version == version]
        table = pa.table(
            {
                "Time": pa.array([row.time for row in same], pa.timestamp("s")),
                "score": pa.array([row.shown_score for row in same], pa.float64()),
                "reasons": pa.array([row.why for row in same], pa.string()),
            }
        )
        add_to_daily_counts(connection, table, version)


def _alerts(rows: list[Judged]) -> list[dict[str, object]]:
    return [
        {
            "TransactionID": row.transaction_id,
            "UserID": row.user_id,
            "Time": row.time,
            "state": "waiting",
            "created_at": _PROCESSED_AT,
        }
        for row in rows
        if row.is_fraud == "YES"
    ]


def _rollup(rows: list[Judged]) -> list[dict[str, object]]:
    counts: Counter[tuple] = Counter()
    amounts: defaultdict[tuple, Decimal] = defaultdict(Decimal)
    for row in rows:
        hour = row.time.replace(minute=0, second=0)
        group = (hour, row.location or "", row.device or "", row.merchant or "", row.is_fraud)
        counts[group] += 1
        amounts[group] += row.amount
    names = ("hour", "Location", "Device", "Merchant", "Is_Fraud")
    return [
        {**dict(zip(names, group, strict=True)), "transactions": count, "amount": amounts[group]}
        for group, count in counts.items()
    ]


def _add(connection: Connection, table: Table, rows: list[dict], counters: tuple[str, ...]) -> None:
    statement = insert(table)
    connection.execute(
        statement.on_duplicate_key_update(
            {name: table.c[name] + statement.inserted[name] for name in counters}
        ),
        rows,
    )
