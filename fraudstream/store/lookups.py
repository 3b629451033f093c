"""What the executors look up while they judge a batch: stored transactions, and users' histories.

A look-up is sent to the executors with the task and connects there, once a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, Engine, Row, Select, func, select
from sqlalchemy.engine import URL

from fraudstream.schema import FIELD_NAMES
from fraudstream.store.engine import ANSWER_WITHIN_S, make_engine
from fraudstream.store.errors import telling_the_driver
from fraudstream.store.tables import clean_data, user_history

_KEYS_PER_QUERY = 2_000


@dataclass(frozen=True)
class StoredTransactions:
    """Finds stored transactions by id."""

    url: URL

    def __call__(self, ids: list[str]) -> dict[str, tuple[object, ...]]:
        """The seven stored values, in FIELD_NAMES' order, of those of `ids` that are stored."""
        query = select(*(clean_data.c[name] for name in FIELD_NAMES))
        key = clean_data.c.TransactionID
        with _connected(self.url) as connection:
            wanted = not_behind(ids, connection.scalar(select(func.max(key))))
            return {row.TransactionID: tuple(row) for row in _rows(connection, query, key, wanted)}


def not_behind(ids: Iterable[str], last: str | None) -> Iterator[str]:
    """Of `ids` those that may be stored where `last` is the last stored one: not those that come behind it.

    So ids that ascend need no look-up. The server compares code point by code point, as Python does, but
    fills the shorter text up with spaces. Control characters come before these: an id with any is looked up.
    """
    if last is None:
        return iter(())
    return (each for each in ids if each <= last or not each.isprintable())


@dataclass(frozen=True)
class StoredHistories:
    """Finds the stored histories of users."""

    url: URL

    def __call__(self, users: list[str]) -> dict[str, bytes]:
        """The stored form (see fraudstream.history) of those of `users` that have a history."""
        query = select(user_history.c.UserID, user_history.c.history)
        with _connected(self.url) as connection:
            return {row.UserID: row.history for row in _rows(connection, query, user_history.c.UserID, users)}


def _rows(
    connection: Connection, query: Select[Any], key: Column[Any], wanted: Iterable[str]
) -> Iterator[Row[Any]]:
    unique = sorted(set(wanted))
    for start in range(0, len(unique), _KEYS_PER_QUERY):
        yield from connection.execute(query.where(key.in_(unique[start : start + _KEYS_PER_QUERY])))


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    with telling_the_driver(), _engine(url).connect() as connection:
        yield connection


@lru_cache(maxsize=4)
def _engine(url: URL) -> Engine:
    return make_engine(url, answer_within_s=ANSWER_WITHIN_S)
