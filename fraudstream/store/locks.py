"""Named locks of the database server: one holder at a time, freed when its connection ends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

_MYSQL_LONGEST_NAME = 64
_KEPT_OF_LONG_NAMES = _MYSQL_LONGEST_NAME - 17


def lock_name(database: str, purpose: str) -> str:
    """`fraudstream:<database>:<purpose>`, its end replaced by a hash where that exceeds 64 characters."""
    name = f"fraudstream:{database}:{purpose}"
    if len(name) <= _MYSQL_LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[:_KEPT_OF_LONG_NAMES]}:{digest}"


def may_be_of(name: str, database: str) -> bool:
    """Whether the lock is one of this database, or of another one with a long name that begins the same."""
    return name.startswith(f"fraudstream:{database}:"[:_KEPT_OF_LONG_NAMES])


def acquire(connection: Connection, name: str, *, timeout_s: float) -> bool:
    """Take the lock on this connection; False when another connection held it all the while."""
    got = connection.scalar(text("SELECT GET_LOCK(:name, :timeout)"), {"name": name, "timeout": timeout_s})
    connection.commit()
    return got == 1


@contextmanager
def database_lock(connection: Connection, purpose: str, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock for `purpose` in the connection's database for the block. Raises as `named_lock`."""
    database = connection.scalar(text("SELECT DATABASE()"))
    connection.commit()
    with named_lock(connection, lock_name(database or "", purpose), timeout_s=timeout_s):
        yield


@contextmanager
def named_lock(connection: Connection, name: str, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock for the block. Raises TimeoutError naming it when it is not free in time."""
    if not acquire(connection, name, timeout_s=timeout_s):
        raise TimeoutError(f"the lock {name!r} was not free within {timeout_s:g} s: another process holds it")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
            connection.commit()
