"""One micro-batch, one transaction: everything that the batch means, and where Kafka goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table, delete, text
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.mysql import Insert, insert

from fraudstream.schema import FIELD_NAMES, Outcome
from fraudstream.store.bulk import insert_rows
from fraudstream.store.daily_counts import add_to_daily_counts, joined_codes
from fraudstream.store.offsets import StoredOffsets, lock_offsets, move_offsets
from fraudstream.store.rollups import add_to_rollups
from fraudstream.store.tables import (
    alerts,
    batch_metrics,
    clean_data,
    dead_letters,
    pipeline_totals,
    user_history,
)

METRICS_KEPT = timedelta(days=7)
_VERDICT = ("Is_Fraud", "score", "reasons", "features")
_POSITION = ["partition_id", "offset", "kafka_time"]


@dataclass(frozen=True)
class Batch:
    """A judged micro-batch: rows of JUDGED_ARROW, apart, and where the batch before it left the offsets."""

    topic: str
    topic_id: str
    expected_offsets: StoredOffsets
    rows: Mapping[Outcome, pa.Table]
    model_version: str | None
    started_at: datetime
    latest_offsets: Mapping[int, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def records(self) -> pa.Table:
        """Of each of the batch's records: partition, offset, time."""
        of_records = (self.rows[outcome] for outcome in Outcome if outcome is not Outcome.HISTORY)
        return pa.concat_tables(rows.select(_POSITION) for rows in of_records)

    @cached_property
    def moved(self) -> dict[int, int]:
        """Partition -> the offset behind the last record that the batch holds of it."""
        last = self.records.group_by("partition_id").aggregate([("offset", "max")])
        return {row["partition_id"]: row["offset_max"] + 1 for row in last.to_pylist()}

    @property
    def reached(self) -> StoredOffsets:
        """What is committed of the topic once the batch is."""
        return StoredOffsets(self.topic_id, {**self.expected_offsets.next_offsets, **self.moved})


@dataclass(frozen=True)
class BatchCounts:
    """What became of the batch's records; `lag` is how many records Kafka still holds for the job."""

    stored: int
    flagged: int
    duplicates: int
    rejected: int
    lag: int | None

    @property
    def records(self) -> int:
        return self.stored + self.duplicates + self.rejected


def commit_batch(connection: Connection, batch: Batch) -> BatchCounts:
    """Write the whole batch. The caller's transaction makes it one: all of it, or none.

    Raises OffsetsMoved, before anything is written, when another writer has committed in between.
    A batch that is computed again after its commit finds its offsets passed and holds no row.
    """
    started = time.perf_counter()
    lock_offsets(connection, batch.topic, batch.expected_offsets)
    now: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    rows = batch.rows
    lag = batch.reached.behind(batch.latest_offsets)
    counts = _count(rows, lag)
    _insert_transactions(connection, rows[Outcome.STORED], batch, now)
    _insert_dead_letters(connection, rows[Outcome.REJECTED], batch, now)
    _write_histories(connection, rows[Outcome.HISTORY])
    add_to_rollups(connection, rows[Outcome.STORED])
    add_to_daily_counts(connection, rows[Outcome.STORED], batch.model_version)
    _insert_alerts(connection, rows[Outcome.STORED], now)
    _add_to_totals(connection, batch.topic, counts, now)
    written_ms = (time.perf_counter() - started) * 1000
    _insert_metrics(connection, batch, counts, lag, now, written_ms)
    move_offsets(connection, batch.topic, batch.topic_id, batch.moved)
    return counts


def _count(rows: Mapping[Outcome, pa.Table], lag: Mapping[int, int]) -> BatchCounts:
    stored = rows[Outcome.STORED]
    return BatchCounts(
        stored=len(stored),
        flagged=pc.sum(pc.equal(stored["Is_Fraud"], "YES")).as_py() or 0,
        duplicates=len(rows[Outcome.DUPLICATE]),
        rejected=len(rows[Outcome.REJECTED]),
        lag=sum(lag.values()) if lag else None,
    )


def _insert_transactions(connection: Connection, stored: pa.Table, batch: Batch, now: datetime) -> None:
    columns = stored.select([*FIELD_NAMES, *_VERDICT, *_POSITION])
    same = {"model_version": batch.model_version, "topic_id": batch.topic_id, "processed_at": now}
    _insert(connection, clean_data, columns, **same)


def _insert_dead_letters(connection: Connection, rejected: pa.Table, batch: Batch, now: datetime) -> None:
    columns = rejected.select([*_POSITION, "key", "value", "detail"]).append_column(
        "reason", rejected["rejection"]
    )
    same = {"topic": batch.topic, "topic_id": batch.topic_id, "rejected_at": now}
    _insert(connection, dead_letters, columns, **same)


def _write_histories(connection: Connection, histories: pa.Table) -> None:
    statement = insert(user_history)
    _insert(
        connection,
        statement.on_duplicate_key_update(history=statement.inserted.history),
        histories.select(["UserID", "history"]),
    )


def _insert_alerts(connection: Connection, stored: pa.Table, now: datetime) -> None:
    flagged = stored.filter(pc.equal(stored["Is_Fraud"], "YES"))
    columns = flagged.select(["TransactionID", "UserID", "Time"]).append_column(
        "codes", pa.array(map(joined_codes, flagged["reasons"].to_pylist()), pa.string())
    )
    _insert(connection, alerts, columns, state="waiting", created_at=now)


def _add_to_totals(connection: Connection, topic: str, counts: BatchCounts, now: datetime) -> None:
    added = {
        "stored": counts.stored,
        "flagged": counts.flagged,
        "duplicates": counts.duplicates,
        "rejected": counts.rejected,
    }
    statement = insert(pipeline_totals).values(topic=topic, updated_at=now, **added)
    connection.execute(
        statement.on_duplicate_key_update(
            updated_at=statement.inserted.updated_at,
            **{name: pipeline_totals.c[name] + statement.inserted[name] for name in added},
        )
    )


def _insert_metrics(
    connection: Connection,
    batch: Batch,
    counts: BatchCounts,
    lag: Mapping[int, int],
    now: datetime,
    written_ms: float,
) -> None:
    # How long the commit itself takes is known only when this is written.
    stages = {**batch.stage_ms, "write": written_ms}
    connection.execute(
        plain_insert(batch_metrics).values(
            topic=batch.topic,
            started_at=batch.started_at,
            committed_at=now,
            stored=counts.stored,
            flagged=counts.flagged,
            duplicates=counts.duplicates,
            rejected=counts.rejected,
            lag=counts.lag,
            lag_by_partition=_json({str(partition): behind for partition, behind in lag.items()}),
            stage_ms=_json({stage: round(ms, 1) for stage, ms in stages.items()}),
            latency_ms=_json(_latency_ms(batch.records["kafka_time"], now)),
            model_version=batch.model_version,
        )
    )
    connection.execute(delete(batch_metrics).where(batch_metrics.c.committed_at < now - METRICS_KEPT))


def _latency_ms(times: pa.ChunkedArray, now: datetime) -> dict[str, float]:
    """Produced -> committed, by the records' Kafka timestamps: milliseconds, percentiles over the batch."""
    if len(times) == 0:
        return {}
    produced_us = times.cast(pa.timestamp("us")).cast(pa.int64())
    now_us = pa.scalar(now, pa.timestamp("us")).cast(pa.int64())
    ages = pc.quantile(pc.subtract(now_us, produced_us), q=[0.5, 0.95, 0.99])
    return {
        name: round(age / 1000, 1) for name, age in zip(("p50", "p95", "p99"), ages.to_pylist(), strict=True)
    }


def _insert(connection: Connection, into: Table | Insert, rows: pa.Table, **same: object) -> None:
    """Insert all rows, with `same` in every row; nothing happens where there are none."""
    for name, value in same.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value), len(rows)))
    insert_rows(connection, plain_insert(into) if isinstance(into, Table) else into, rows)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
