"""How every connection to the database is made, and what is said when one cannot be."""

from __future__ import annotations

from typing import Any

from mysql.connector import HAVE_CEXT
from mysql.connector.errors import ReadTimeoutError, WriteTimeoutError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from fraudstream.store.driver import send_statements_whole

# One behaviour on MySQL and MariaDB, whatever the server's own defaults are.
_SESSION = (
    "SET time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION'"
)
# For who must not wait for ever: far longer than the server lets a statement wait for a row's lock.
ANSWER_WITHIN_S = 120
# Without these the driver would encrypt, and take any certificate for anybody's.
_CHECKED_TLS = {"ssl_verify_cert": True, "ssl_verify_identity": True}


class DriverIncomplete(Exception):
    """The driver's C extension, which the pipeline's speed rests on, could not be loaded."""


def make_engine(
    url: URL,
    *,
    pooled: bool = True,
    pure_python: bool = False,
    connect_timeout_s: int = 5,
    answer_within_s: int | None = None,
) -> Engine:
    """An engine for `url`; nothing is connected yet.

    Transactions run READ COMMITTED: every read sees what has been committed, and no gap is locked.
    `pooled=False` opens one connection for each use (the writer, which must not be handed another).
    `pure_python=True` does without the driver's C extension: for processes that load pyarrow before
    this package (the dashboard) and read little. Raises DriverIncomplete where it is needed and missing.
    With `answer_within_s` a connection is given up as lost when the server owes an answer for so long, which
    a network that swallows packets would not show otherwise; without, a statement may take any time.
    With `ssl_ca` (a PEM file) in the URL's query the connection is encrypted, and the server's certificate
    and host name are checked, or there is none; without it, the server decides about encryption.
    """
    if not (pure_python or HAVE_CEXT):
        raise DriverIncomplete(
            "mysql-connector-python's C extension could not be loaded: reinstall requirements.txt, and "
            "import fraudstream before pyarrow or pandas"
        )
    send_statements_whole()
    pool: dict[str, Any] = (
        {"pool_pre_ping": True, "pool_recycle": 1800} if pooled else {"poolclass": NullPool}
    )
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        connect_args={
            "charset": "utf8mb4",
            "collation": "utf8mb4_bin",
            "use_pure": pure_python,
            "connection_timeout": connect_timeout_s,
            "read_timeout": answer_within_s,
            "write_timeout": answer_within_s,
            **(_CHECKED_TLS if "ssl_ca" in url.query else {}),
        },
        **pool,
    )

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        with dbapi_connection.cursor() as cursor:
            cursor.execute(_SESSION)

    if pure_python:
        _use_no_connection_that_was_given_up(engine)
    else:
        _make_known_what_commit_and_rollback_raise(engine)
    return engine


def _use_no_connection_that_was_given_up(engine: Engine) -> None:
    """The answer may still come, and the driver in Python would take it for that to the next statement."""

    @event.listens_for(engine, "handle_error")
    def _given_up(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, (ReadTimeoutError, WriteTimeoutError)):
            context.is_disconnect = True


def _make_known_what_commit_and_rollback_raise(engine: Engine) -> None:
    """Where they find the connection ended, the C extension raises an error that SQLAlchemy does not know.

    It becomes a DBAPIError like any other of a connection that has ended, with what the server said before it
    hung up, where it said something.
    """
    from _mysql_connector import MySQLInterfaceError

    @event.listens_for(engine, "handle_error")
    def _ended(context: ExceptionContext) -> OperationalError | None:
        error = context.original_exception
        if not isinstance(error, MySQLInterfaceError):
            return None
        context.is_disconnect = True
        said = error.__context__.orig if isinstance(error.__context__, DBAPIError) else None
        return OperationalError(None, None, said or error, connection_invalidated=True)
