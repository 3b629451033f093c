"""Fresh databases on a real server, for one test each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

NAME_PREFIX = "fraudstream_test_"


@contextmanager
def fresh_databases(maker_url: str, user_url: str) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and returns its SQLAlchemy URL; all are dropped at the end.

    `maker_url` is an account that may create databases, `user_url` the one that the test shall use.
    """
    # Without a database: the account may have rights on those that it makes alone.
    maker = create_engine(
        make_url(maker_url)._replace(database=None), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    made: list[str] = []

    def make() -> str:
        name = NAME_PREFIX + secrets.token_hex(6)
        _execute(maker, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        made.append(name)
        return make_url(user_url).set(database=name).render_as_string(hide_password=False)

    try:
        yield make
    finally:
        for name in made:
            # A test that left a transaction open shall be named, not waited for.
            _execute(maker, "SET lock_wait_timeout = 30", f"DROP DATABASE `{name}`")


def _execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
