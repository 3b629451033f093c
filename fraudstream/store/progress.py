"""How far a topic has come: the totals that every batch adds to in its own transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, func, select

from fraudstream.store.tables import alerts, pipeline_totals


@dataclass(frozen=True)
class Progress:
    """What became of the topic's records so far; `alerts` counts the whole outbox, whatever its state."""

    stored: int = 0
    flagged: int = 0
    duplicates: int = 0
    rejected: int = 0
    alerts: int = 0

    @property
    def accounted_for(self) -> int:
        return self.stored + self.duplicates + self.rejected


def read_progress(engine: Engine, topic: str) -> Progress:
    with engine.connect() as connection:
        totals = _totals(connection, topic)
        waiting_or_mailed = connection.scalar(select(func.count()).select_from(alerts)) or 0
    return replace(totals, alerts=waiting_or_mailed)


def read_accounted_for(engine: Engine, topic: str) -> int:
    """As Progress says it, at the price of one row: for those who ask again and again."""
    with engine.connect() as connection:
        return _totals(connection, topic).accounted_for


def _totals(connection: Connection, topic: str) -> Progress:
    columns = pipeline_totals.c
    counts = select(columns.stored, columns.flagged, columns.duplicates, columns.rejected)
    row = connection.execute(counts.where(columns.topic == topic)).one_or_none()
    return Progress(*row) if row else Progress()
