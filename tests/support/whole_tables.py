"""What two runs over the same topic must have in common: all tables, but for what the clock wrote."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Engine, func, select
from sqlalchemy.engine import Row

from fraudstream.store.tables import batch_metrics, metadata

# How a run was cut into batches and mails, and who ran it, may differ.
_OF_THE_RUN = {"alert_holds", "batch_metrics", "component_status", "mails", "writer_lease"}
_OF_THE_CLOCK = {"processed_at", "rejected_at", "replayed_at", "updated_at", "created_at", "recorded_at"}
_OF_THE_SENDER = {"alert_id", "mail_id", "state"}
_LEFT_OUT = _OF_THE_CLOCK | _OF_THE_SENDER
_OF_KAFKA = {"topic", "topic_id", "partition_id", "offset", "next_offset", "kafka_time"}

Tables = dict[str, list[Row]]


def whole_tables(engine: Engine) -> Tables:
    """The rows of every table that the input alone decides, features and histories included, in order."""
    return _tables(engine, left_out=_LEFT_OUT)


def without_places(engine: Engine) -> Tables:
    """The same, but for where in Kafka each record was: what runs over two topics have in common."""
    return _tables(engine, left_out=_LEFT_OUT | _OF_KAFKA)


def _tables(engine: Engine, left_out: set[str]) -> Tables:
    with engine.connect() as connection:
        return {
            table.name: sorted(connection.execute(select(*columns)), key=repr)
            for table in metadata.sorted_tables
            if table.name not in _OF_THE_RUN
            and (columns := [column for column in table.c if column.name not in left_out])
        }


def assert_same_tables(present: Tables, expected: Tables) -> None:
    """Equal, table by table; a failure names the first rows that differ."""
    assert present.keys() == expected.keys()
    for name, rows in expected.items():
        if present[name] != rows:
            missing, surplus = Counter(rows), Counter(present[name])
            raise AssertionError(
                f"{name}: missing {_first(missing - surplus)}, surplus {_first(surplus - missing)}"
            )


def _first(rows: Counter[Row]) -> list[Row]:
    return list(rows.elements())[:3]


def metrics_total(engine: Engine) -> tuple[int, ...]:
    """stored, flagged, duplicates and rejected, added up over all batches: each batch counted once."""
    sums = [func.sum(batch_metrics.c[name]) for name in ("stored", "flagged", "duplicates", "rejected")]
    with engine.connect() as connection:
        return tuple(int(value or 0) for value in connection.execute(select(*sums)).one())
