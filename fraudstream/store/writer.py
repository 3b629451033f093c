"""The one writer: its lock, its lease, and the connection on which alone batches are committed."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from sqlalchemy import Connection, Engine, text, update
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DBAPIError

from fraudstream.store.errors import NO_SUCH_THREAD, errno
from fraudstream.store.locks import acquire, named_lock
from fraudstream.store.tables import writer_lease

log = logging.getLogger(__name__)

LEASE_S = 10.0
_RENEW_EVERY_S = 2.0
_POLL_S = 0.5


class WriterLost(Exception):
    """This process is the writer no longer: its connection ended, so another may have taken over."""


class Writer(AbstractContextManager["Writer"]):
    """Holds the lock on one connection for as long as it lives.

    That connection is opened once and never replaced: when it ends, the server frees the lock, and every
    later use raises WriterLost. A second connection renews the lease row by the server's clock, so that a
    standby can tell a frozen writer from a busy one.
    """

    def __init__(self, engine: Engine, connection: Connection, lock_name: str, holder: str) -> None:
        self._engine = engine
        self._connection = connection
        self._lock_name = lock_name
        self._holder = holder
        self._stop = threading.Event()
        self._lease = threading.Thread(target=self._keep_lease, name="writer-lease", daemon=True)
        _take_lease(connection, lock_name, holder)
        self._lease.start()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction on the lock's own connection: committed at the end, rolled back on any error.

        Raises WriterLost when the connection no longer holds the lock, before anything is written, and
        when it breaks: whether a commit that was under way took effect then shows in the stored offsets.
        """
        if self._connection.invalidated or self._connection.closed:
            raise WriterLost("the writer's database connection has ended")
        try:
            with self._connection.begin():
                self._require_lock()
                yield self._connection
        except DBAPIError as error:
            if error.connection_invalidated:
                raise WriterLost(f"the writer's database connection broke: {error.orig}") from error
            raise

    def _require_lock(self) -> None:
        mine = self._connection.scalar(
            text("SELECT IS_USED_LOCK(:name) = CONNECTION_ID()"), {"name": self._lock_name}
        )
        if mine != 1:
            raise WriterLost(f"the lock {self._lock_name!r} is held by another connection")

    def _keep_lease(self) -> None:
        """Renew until told to stop. Without the database there is nothing to renew, and no lock to keep."""
        while not self._stop.wait(_RENEW_EVERY_S):
            try:
                with self._engine.begin() as connection:
                    _renew_lease(connection, self._lock_name, self._holder)
            except DBAPIError as error:
                log.warning("could not renew the writer's lease: %s", error.orig)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._lease.join()
        self._connection.invalidate()  # ends the session, and with it the lock
        self._connection.close()


def become_writer(
    engine: Engine,
    lock_name: str,
    *,
    holder: str,
    stopped: Callable[[], bool],
    standby_notice_s: float = 10.0,
) -> Writer | None:
    """Wait until this process is the writer; None when `stopped` said so before.

    A standby looks twice a second. When the holder has not renewed its lease for LEASE_S seconds, its
    connection is killed, which rolls back its transaction and frees its locks: a writer that was frozen
    finds its connection gone when it wakes, and can write nothing. `engine` must not pool connections.
    """
    connection = engine.connect()
    waited_since: float | None = None
    suspect: int | None = None
    suspect_since = 0.0
    try:
        while not stopped():
            if acquire(connection, lock_name, timeout_s=_POLL_S):
                return Writer(engine, connection, lock_name, holder)
            now = time.monotonic()
            if waited_since is None or now - waited_since >= standby_notice_s:
                waited_since = now
                log.info("standing by: another process is the writer (%s)", _holder(connection, lock_name))
            owner = _lock_owner(connection, lock_name)
            if owner != suspect:
                suspect, suspect_since = owner, now
            elif (
                owner is not None and now - suspect_since > _RENEW_EVERY_S and _expired(connection, lock_name)
            ):
                log.warning("the writer's lease is older than %g s: ending its connection", LEASE_S)
                _kill(connection, owner)
        connection.close()
    except BaseException:
        connection.close()
        raise
    return None


@contextmanager
def in_the_writers_place(engine: Engine, lock_name: str) -> Iterator[Connection]:
    """One transaction of a process that is not the writer. Raises TimeoutError where another one is.

    `engine` must not pool connections.
    """
    with (
        engine.connect() as connection,
        named_lock(connection, lock_name, timeout_s=_POLL_S),
        connection.begin(),
    ):
        yield connection


def this_process(token: str) -> str:
    """What a writer is called: host:pid:token."""
    return f"{socket.gethostname()}:{os.getpid()}:{token}"


def live_writer(engine: Engine, lock_name: str) -> str | None:
    """The holder (see `this_process`) of a lease that is not older than LEASE_S seconds, or None."""
    with engine.connect() as connection:
        return None if _expired(connection, lock_name) else _holder(connection, lock_name)


def _take_lease(connection: Connection, lock_name: str, holder: str) -> None:
    statement = insert(writer_lease).values(
        lock_name=lock_name, holder=holder, renewed_at=text("UTC_TIMESTAMP(6)")
    )
    connection.execute(
        statement.on_duplicate_key_update(
            holder=statement.inserted.holder, renewed_at=statement.inserted.renewed_at
        )
    )
    connection.commit()


def _renew_lease(connection: Connection, lock_name: str, holder: str) -> None:
    """Renew a lease that is still this holder's; one that was taken over stays as it is."""
    connection.execute(
        update(writer_lease)
        .where(writer_lease.c.lock_name == lock_name, writer_lease.c.holder == holder)
        .values(renewed_at=text("UTC_TIMESTAMP(6)"))
    )


def _expired(connection: Connection, lock_name: str) -> bool:
    """Whether the lease is too old; a holder that never wrote one gets no longer either."""
    age_us = connection.scalar(
        text(
            "SELECT TIMESTAMPDIFF(MICROSECOND, renewed_at, UTC_TIMESTAMP(6)) "
            "FROM writer_lease WHERE lock_name = :name"
        ),
        {"name": lock_name},
    )
    connection.commit()
    return age_us is None or age_us > LEASE_S * 1e6


def _holder(connection: Connection, lock_name: str) -> str | None:
    query = text("SELECT holder FROM writer_lease WHERE lock_name = :name")
    name = connection.scalar(query, {"name": lock_name})
    connection.commit()
    return name


def _lock_owner(connection: Connection, lock_name: str) -> int | None:
    owner = connection.scalar(text("SELECT IS_USED_LOCK(:name)"), {"name": lock_name})
    connection.commit()
    return owner


def _kill(connection: Connection, owner: int) -> None:
    """End that connection. One that is gone already is what was wanted."""
    try:
        connection.exec_driver_sql(f"KILL {int(owner)}")
        connection.commit()
    except DBAPIError as error:
        if errno(error) != NO_SUCH_THREAD:
            raise
        connection.rollback()
