"""What the job says of itself to the dashboard: what stopped or interrupted it, and that it runs again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fraudstream.store.status import put_status, read_status

log = logging.getLogger(__name__)

JOB = "job"
_STARTED, _RUNS = "started again, no batch yet; ", "runs again; "


class JobStatus:
    """An error is told, and after the first batch that follows, that it is over: nothing for each batch.

    The last error stays to be read. Only the writer may speak, so every word is written in a transaction
    that it alone can have.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._last_error: str | None = None

    def failed(self, text: str, transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Best effort: the error itself goes its way, whatever becomes of this."""
        self._last_error = self._of(text, datetime.now(UTC))
        try:
            with transaction() as connection:
                put_status(connection, JOB, "error", text)
        except Exception as error:  # noqa: BLE001 - it must not take the place of the one to be told
            reason = error.orig if isinstance(error, DBAPIError) else error
            log.warning("the dashboard could not be told of the error: %s", reason)

    def started(self, connection: Connection) -> None:
        """Whatever there was, of this process or another one, is not over before a batch is committed."""
        self._last_error = self._last_error or self._stored_error(connection)
        if self._last_error is not None:
            put_status(connection, JOB, "warning", _STARTED + self._last_error)

    def committed(self, connection: Connection) -> None:
        if self._last_error is not None:
            put_status(connection, JOB, "ok", _RUNS + self._last_error)
            self._last_error = None

    def _stored_error(self, connection: Connection) -> str | None:
        said = read_status(connection, JOB)
        if said is None or said.state == "ok":
            return None
        if said.state == "warning":
            return said.message.removeprefix(_STARTED)
        return self._of(said.message, said.updated_at.replace(tzinfo=UTC))

    def _of(self, error: str, at: datetime) -> str:
        return f"last error at {at.astimezone(self._zone):%Y-%m-%d %H:%M:%S} ({self._zone.key}): {error}"
