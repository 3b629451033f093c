"""A database server of a test's own, which it may kill, lock and spoil without harm to the others."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from fraudstream.config import child_environment
from fraudstream.stack.mysql import MySQL
from fraudstream.stack.ports import choose
from fraudstream.stack.processes import end, is_alive, kill, spawn, tail
from tests.support.secure_services import database_program

_START_S = 120.0
_STOP_S = 60.0


class OwnDatabase:
    """A server that is started, killed and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self._service = MySQL(
            home=folder / "mysql",
            log=folder / "mysql.log",
            port=choose(),
            password=secrets.token_hex(16),
            dashboard_password=secrets.token_hex(16),
            admin_password=secrets.token_hex(16),
            find_program=database_program,
            environment=child_environment(),
        )
        self._process: psutil.Process | None = None
        self.admin = create_engine(self._service.admin_url(), poolclass=NullPool)

    @property
    def url(self) -> URL:
        """The pipeline's account and its database, where only its own rights count."""
        return make_url(self._service.url())

    def execute(self, *statements: str) -> None:
        """Each takes effect at once; as `admin`, an account that may do everything."""
        with self.admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(text(statement))

    def start(self) -> None:
        self._service.prepare()
        self._process = spawn(self._service.command(), environment=child_environment(), log=self._service.log)
        deadline = time.monotonic() + _START_S
        while self._service.version(self._process) is None:
            assert is_alive(self._process) and time.monotonic() < deadline, tail(self._service.log)
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as a power cut does it."""
        assert self._process is not None
        kill([self._process])

    def stop(self) -> None:
        """As an administrator stops it: the server says goodbye to its clients."""
        assert self._process is not None
        end([self._process], grace_s=_STOP_S)


@contextmanager
def own_database(folder: Path) -> Iterator[OwnDatabase]:
    """A running server with the pipeline's accounts; killed at the end."""
    database = OwnDatabase(folder)
    database.start()
    try:
        yield database
    finally:
        database.kill()
