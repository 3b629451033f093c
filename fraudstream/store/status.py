"""What each component says of itself, for the dashboard: one row a component, the latest word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.mysql import insert

from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.tables import component_status

State = Literal["ok", "warning", "error"]

_MOST_BYTES = 65_535


@dataclass(frozen=True)
class Status:
    """`updated_at` is UTC."""

    state: State
    message: str
    updated_at: datetime


def set_status(engine: Engine, component: str, state: State, message: str) -> None:
    """Replace what `component` last said; the time is the server's."""
    with engine.begin() as connection:
        put_status(connection, component, state, message)


def put_status(connection: Connection, component: str, state: State, message: str) -> None:
    """As `set_status`, in the connection's transaction. A message that is too long loses its end."""
    row = {"state": state, "message": _fitting(message), "updated_at": SERVER_NOW}
    statement = insert(component_status).values(component=component, **row)
    connection.execute(statement.on_duplicate_key_update(**row))


def read_status(connection: Connection, component: str) -> Status | None:
    columns = component_status.c
    row = connection.execute(
        select(columns.state, columns.message, columns.updated_at).where(columns.component == component)
    ).one_or_none()
    return None if row is None else Status(row.state, row.message, row.updated_at)


def _fitting(message: str) -> str:
    return message.encode(errors="replace")[:_MOST_BYTES].decode(errors="ignore")
