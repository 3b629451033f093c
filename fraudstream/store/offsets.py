"""Where each Kafka partition goes on: `kafka_offsets`, the truth that Spark's checkpoint is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.mysql import insert

from fraudstream.store.tables import kafka_offsets


class OffsetsMoved(Exception):
    """What is stored is not what this writer committed last: another one has been at work, or the database
    was restored from a dump. Nothing of the batch was written; a new start goes on from what is stored."""


@dataclass(frozen=True)
class StoredOffsets:
    """What is committed of a topic: each partition's next offset, and the Kafka id of the topic that this
    means (None before the first batch)."""

    topic_id: str | None
    next_offsets: Mapping[int, int]

    def behind(self, latest: Mapping[int, int]) -> dict[int, int]:
        """Partition -> how many of its records, up to the `latest` offsets, are not committed yet."""
        return {
            partition: max(0, offset - self.next_offsets.get(partition, 0))
            for partition, offset in sorted(latest.items())
        }


def read_offsets(connection: Connection, topic: str) -> StoredOffsets:
    return _offsets(connection, topic, lock=False)


def lock_offsets(connection: Connection, topic: str, expected: StoredOffsets) -> None:
    """Lock the topic's rows until the transaction ends. Raises OffsetsMoved unless they equal `expected`."""
    present = _offsets(connection, topic, lock=True)
    if present != expected:
        raise OffsetsMoved(
            f"the offsets of topic {topic!r} moved meanwhile: {dict(present.next_offsets)} instead of "
            f"{dict(expected.next_offsets)}; nothing of the batch was written"
        )


def move_offsets(connection: Connection, topic: str, topic_id: str, next_offsets: Mapping[int, int]) -> None:
    """Set the next offset of the given partitions; the others stay."""
    if not next_offsets:
        return
    statement = insert(kafka_offsets)
    connection.execute(
        statement.on_duplicate_key_update(
            topic_id=statement.inserted.topic_id, next_offset=statement.inserted.next_offset
        ),
        [
            {"topic": topic, "partition_id": partition, "topic_id": topic_id, "next_offset": offset}
            for partition, offset in sorted(next_offsets.items())
        ],
    )


def replace_offsets(
    connection: Connection, topic: str, topic_id: str, next_offsets: Mapping[int, int]
) -> None:
    """Forget what is stored of the topic and set the given offsets instead (a gap that was accepted)."""
    connection.execute(delete(kafka_offsets).where(kafka_offsets.c.topic == topic))
    move_offsets(connection, topic, topic_id, next_offsets)


def _offsets(connection: Connection, topic: str, *, lock: bool) -> StoredOffsets:
    columns = kafka_offsets.c
    query = (
        select(columns.partition_id, columns.topic_id, columns.next_offset)
        .where(columns.topic == topic)
        .order_by(columns.partition_id)
    )
    rows = connection.execute(query.with_for_update() if lock else query).all()
    return StoredOffsets(
        topic_id=rows[0].topic_id if rows else None,
        next_offsets={row.partition_id: row.next_offset for row in rows},
    )
