"""Brings a database's tables to the form that this code knows, under a lock, at every start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from fraudstream.store.engine import make_engine
from fraudstream.store.locks import database_lock, may_be_of
from fraudstream.store.writer import Writer, become_writer, this_process

_SCRIPTS = Path(__file__).with_name("migrations")
_WRITER_TIMEOUT_S = 5.0


class NewerDatabase(Exception):
    """The database was migrated by a newer version of fraudstream than this one."""


class OlderDatabase(Exception):
    """The database was not brought to the form that this version knows, or not to the end."""


def migrate(engine: Engine, *, lock_timeout_s: int = 60) -> None:
    """Apply all missing migrations; a second call, or one at the same time, changes nothing.

    Nobody writes batches meanwhile: this process takes every writer's place, so that no batch of an older
    version misses what a migration fills. A migration that was killed half-way is simply run again (MySQL
    cannot roll back table changes, so each step first looks whether it is already done). Raises NewerDatabase
    when the database has a revision that this code does not know, and TimeoutError when another process
    migrates for too long, or is a writer and stays it.
    """
    with engine.connect() as connection, database_lock(connection, "migrate", timeout_s=lock_timeout_s):
        if _known_present(connection) == _heads():
            return
        with _in_every_writers_place(engine, connection):
            command.upgrade(_config(connection), "head")
            connection.commit()


@contextmanager
def _in_every_writers_place(engine: Engine, connection: Connection) -> Iterator[None]:
    with ExitStack() as places:
        for name in _writers_locks(connection):
            places.enter_context(_writer(engine, name))
        yield


def _writers_locks(connection: Connection) -> list[str]:
    """The locks of all who have ever been writers in this database; a restored dump names others', too."""
    if not inspect(connection).has_table("writer_lease"):
        return []
    database = connection.scalar(text("SELECT DATABASE()"))
    names = connection.scalars(text("SELECT lock_name FROM writer_lease")).all()
    connection.commit()
    return [name for name in names if may_be_of(name, database or "")]


def _writer(engine: Engine, name: str) -> Writer:
    gives_up = time.monotonic() + _WRITER_TIMEOUT_S
    writer = become_writer(
        make_engine(engine.url, pooled=False),
        name,
        holder=this_process("upgrade"),
        stopped=lambda: time.monotonic() > gives_up,
    )
    if writer is None:
        raise TimeoutError(
            "the database's tables are of an older version, and a job of it still writes to them: stop all "
            f"of its jobs, so that the tables can be brought up to date (the lock {name!r} is held)"
        )
    return writer


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def refuse_newer(connection: Connection) -> None:
    """For those who only use the tables: raises NewerDatabase where a newer version may have changed them."""
    _known_present(connection)


def require_current(connection: Connection) -> None:
    """For those who read what a migration fills: raises NewerDatabase, or OlderDatabase."""
    if _known_present(connection) != _heads():
        raise OlderDatabase("the database's tables are not there yet, or are of an older version")


def _known_present(connection: Connection) -> frozenset[str]:
    """The revision that the database is at, none before its first one. Raises NewerDatabase."""
    present = frozenset(MigrationContext.configure(connection).get_current_heads())
    if unknown := present - _known_revisions():
        raise NewerDatabase(
            f"the database is at revision {', '.join(sorted(unknown))}, which this version of fraudstream "
            "does not know: install the newer version, or restore a dump from before the upgrade"
        )
    return present


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory(str(_SCRIPTS)).get_heads())


@cache
def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions())
