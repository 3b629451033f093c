"""Records that could not be used: counted, shown, and marked once they were sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, or_, select, true, tuple_, update

from fraudstream.schema import Rejection
from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.locks import database_lock
from fraudstream.store.tables import dead_letters

_LOCK_TIMEOUT_S = 5


@dataclass(frozen=True)
class DeadLetter:
    """One refused record, and why it was refused. Of one that is too long there is only the beginning; any
    other is as it came. Times are UTC."""

    topic: str
    topic_id: str
    partition_id: int
    offset: int
    reason: str
    detail: str | None
    key: bytes | None
    value: bytes | None
    kafka_time: datetime
    rejected_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True)
class Selection:
    """Which dead letters: of a topic, and where they are given, of a reason or at a place in Kafka."""

    topic: str
    reason: str | None = None
    partition_id: int | None = None
    offset: int | None = None

    @property
    def condition(self) -> ColumnElement[bool]:
        columns = dead_letters.c
        wanted = {
            columns.topic: self.topic,
            columns.reason: self.reason,
            columns.partition_id: self.partition_id,
            columns.offset: self.offset,
        }
        condition: ColumnElement[bool] = true()
        for column, value in wanted.items():
            if value is not None:
                condition &= column == value
        return condition


def count_dead_letters(engine: Engine, selection: Selection) -> list[tuple[str, int, int]]:
    """(reason, number, how many of them were sent again), the most frequent reason first."""
    columns = dead_letters.c
    query = (
        select(columns.reason, func.count(), func.count(columns.replayed_at))
        .where(selection.condition)
        .group_by(columns.reason)
        .order_by(func.count().desc(), columns.reason)
    )
    with engine.connect() as connection:
        return [(reason, number, replayed) for reason, number, replayed in connection.execute(query)]


def newest_dead_letters(engine: Engine, selection: Selection, limit: int) -> list[DeadLetter]:
    """At most `limit` of them, the newest first."""
    columns = dead_letters.c
    newest = (columns.rejected_at.desc(), columns.partition_id, columns.offset.desc())
    with engine.connect() as connection:
        return _read(connection, _letters(selection).order_by(*newest).limit(limit))


@contextmanager
def only_replay(engine: Engine) -> Iterator[datetime]:
    """Held while dead letters are sent again, so that two at the same time do not send them twice.

    Gives the time (UTC) at which it begins. Raises TimeoutError when another replay is at work.
    """
    with engine.connect() as connection, database_lock(connection, "replay", timeout_s=_LOCK_TIMEOUT_S):
        begins: datetime = connection.execute(select(SERVER_NOW)).scalar_one()
        connection.commit()
        yield begins


def next_to_replay(
    engine: Engine, selection: Selection, refused_until: datetime, after: DeadLetter | None, limit: int
) -> list[DeadLetter]:
    """At most `limit` of those behind `after` that were not sent again yet, in the order in which they came.

    `refused_until` (UTC) leaves out what comes back while they are sent. A record with neither key nor value
    is none of them: there is nothing to send. Nor is one that is too long: not all of it is here.
    """
    columns = dead_letters.c
    order = (columns.kafka_time, columns.partition_id, columns.offset, columns.topic_id)
    waiting = _letters(selection).where(
        columns.replayed_at.is_(None),
        columns.rejected_at <= refused_until,
        columns.reason != Rejection.MESSAGE_TOO_LONG.value,
        or_(columns.key.is_not(None), columns.value.is_not(None)),
    )
    if after is not None:
        reached = (after.kafka_time, after.partition_id, after.offset, after.topic_id)
        waiting = waiting.where(tuple_(*order) > reached)
    with engine.connect() as connection:
        return _read(connection, waiting.order_by(*order).limit(limit))


def mark_replayed(engine: Engine, letters: Sequence[DeadLetter]) -> None:
    """Say of these that they were sent again now, by the server's clock."""
    columns = dead_letters.c
    places = [(letter.topic_id, letter.partition_id, letter.offset) for letter in letters]
    place = tuple_(columns.topic_id, columns.partition_id, columns.offset)
    with engine.begin() as connection:
        connection.execute(update(dead_letters).where(place.in_(places)).values(replayed_at=SERVER_NOW))


def _letters(selection: Selection) -> Select[Any]:
    columns = (dead_letters.c[name] for name in DeadLetter.__dataclass_fields__)
    return select(*columns).where(selection.condition)


def _read(connection: Connection, query: Select[Any]) -> list[DeadLetter]:
    return [DeadLetter(*row) for row in connection.execute(query)]
