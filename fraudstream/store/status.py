"""What each component says of itself, for the dashboard: one row a component, the latest word."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Engine
from sqlalchemy.dialects.mysql import insert

from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.tables import component_status

State = Literal["ok", "warning", "error"]


def set_status(engine: Engine, component: str, state: State, message: str) -> None:
    """Replace what `component` last said; the time is the server's."""
    row = {"state": state, "message": message, "updated_at": SERVER_NOW}
    statement = insert(component_status).values(component=component, **row)
    with engine.begin() as connection:
        connection.execute(statement.on_duplicate_key_update(**row))
