"""Brings a database's tables to the form that this code knows, under a lock, at every start."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from fraudstream.store.locks import database_lock

_SCRIPTS = Path(__file__).with_name("migrations")


class NewerDatabase(Exception):
    """The database was migrated by a newer version of fraudstream than this one."""


def migrate(engine: Engine, *, lock_timeout_s: int = 60) -> None:
    """Apply all missing migrations; a second call, or one at the same time, changes nothing.

    A migration that was killed half-way is simply run again (MySQL cannot roll back table changes, so
    each step first looks whether it is already done). Raises NewerDatabase when the database has a
    revision that this code does not know, and TimeoutError when another process migrates for too long.
    """
    with engine.connect() as connection, database_lock(connection, "migrate", timeout_s=lock_timeout_s):
        refuse_newer(connection)
        command.upgrade(_config(connection), "head")
        connection.commit()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def refuse_newer(connection: Connection) -> None:
    """For those who only use the tables: raises NewerDatabase where a newer version may have changed them."""
    present = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := present - _known_revisions():
        raise NewerDatabase(
            f"the database is at revision {', '.join(sorted(unknown))}, which this version of fraudstream "
            "does not know: install the newer version, or restore a dump from before the upgrade"
        )


@cache
def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions())
