"""How the dashboard looks at the database: one consistent picture for each refresh, or what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mysql.connector.errors import ReadTimeoutError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from fraudstream.store.engine import make_engine
from fraudstream.store.errors import ACCESS_DENIED, MISSING, errno, tls_refused
from fraudstream.store.migrate import NewerDatabase, OlderDatabase, require_current

_ANSWER_TIMEOUT_S = 10


class DatabaseProblem(Exception):
    """The dashboard cannot be filled; the text says what is wrong and what to do. It holds no password."""

    title = "The database cannot be read"


class DatabaseAway(DatabaseProblem):
    """The server does not answer."""

    title = "The database is away"


class DatabaseSlow(DatabaseProblem):
    """The server has taken a question and owes the answer for too long."""

    title = "The database takes too long"


class AccessRefused(DatabaseProblem):
    """The server answers and does not let this account in, or not at these tables."""

    title = "The database refuses the account"


class UnsafeConnection(DatabaseProblem):
    """The connection is not encrypted, or the server is not shown to be the right one."""

    title = "The connection to the database is not safe"


class TablesMissing(DatabaseProblem):
    """The database or a table is not there, or not in this version's form: its job has not run."""

    title = "The tables are not there yet"


class NewerTables(DatabaseProblem):
    """A newer version has brought the database to a form that this one does not know."""

    title = "The database is of a newer version"


def open_engine(url: URL) -> Engine:
    """An engine for a process that loads pyarrow first and reads little; a silent server is given up."""
    engine = make_engine(url, pure_python=True)

    @event.listens_for(engine, "do_connect")
    def _limit_waiting(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["read_timeout"] = parameters["write_timeout"] = _ANSWER_TIMEOUT_S

    return engine


def server_of(url: URL) -> str:
    """Host and port, without account or password."""
    return f"{url.host}:{url.port or 3306}"


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as of its first read. Raises DatabaseProblem."""
    with problems_in_words(engine), engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        require_current(connection)
        yield connection


@contextmanager
def problems_in_words(engine: Engine) -> Iterator[None]:
    """For the block: what the database refuses is raised as a DatabaseProblem."""
    try:
        yield
    except NewerDatabase as error:
        raise NewerTables(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    except OlderDatabase as error:
        raise TablesMissing(_missing(engine.url)) from error
    except DBAPIError as error:
        raise _problem(error, engine.url) from error


_NO_SERVER = frozenset(
    {
        1040,
        1053,
        1152,
        1158,
        1159,
        1160,
        1161,
        1203,
        1226,
        1927,
        2002,
        2003,
        2005,
        2006,
        2013,
        2055,
        3024,
        4031,
    }
)


def _problem(error: DBAPIError, url: URL) -> Exception:
    """What a failed read means to the one who looks at the page; an error of the code's own stays one."""
    number = errno(error)
    server = server_of(url)
    if tls_refused(error):
        return UnsafeConnection(
            f"The database at {server} has no certificate that MYSQL_SSL_CA vouches for. Correct "
            "MYSQL_SSL_CA, or MYSQL_URL to the name for which the certificate was made."
        )
    if number in ACCESS_DENIED:
        return AccessRefused(
            f"The database at {server} refuses the account {url.username} (database {url.database}). "
            "Check MYSQL_USER and MYSQL_PASSWORD, or DASHBOARD_MYSQL_USER and DASHBOARD_MYSQL_PASSWORD "
            "where these are set."
        )
    if number in MISSING:
        return TablesMissing(_missing(url))
    if isinstance(error.orig, ReadTimeoutError):
        return DatabaseSlow(
            f"The database at {server} owes an answer for {_ANSWER_TIMEOUT_S} seconds. It is overloaded, or "
            "has stopped: look at its load and its log."
        )
    if number in _NO_SERVER or error.connection_invalidated:
        return DatabaseAway(
            f"The database at {server} does not answer. Start it, or correct MYSQL_URL if it is elsewhere."
        )
    return error


def _missing(url: URL) -> str:
    return (
        f"The database {url.database} at {server_of(url)} does not hold the tables that this page reads. "
        "Start data_cleaning.py: it creates them, and brings those of an older version up to date."
    )
