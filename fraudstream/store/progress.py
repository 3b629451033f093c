"""How far a topic has come: the totals that every batch adds to in its own transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, func, select

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


_TOTALS = pipeline_totals.c


def read_progress(engine: Engine, topic: str) -> Progress:
    counts = select(_TOTALS.stored, _TOTALS.flagged, _TOTALS.duplicates, _TOTALS.rejected)
    with engine.connect() as connection:
        row = connection.execute(counts.where(_TOTALS.topic == topic)).one_or_none()
        waiting_or_mailed = connection.scalar(select(func.count()).select_from(alerts)) or 0
    return Progress(*row, alerts=waiting_or_mailed) if row else Progress(alerts=waiting_or_mailed)


def read_accounted_for(engine: Engine, topic: str) -> int:
    """As Progress says it, at the price of one row: for those who ask again and again."""
    accounted_for = _TOTALS.stored + _TOTALS.duplicates + _TOTALS.rejected
    with engine.connect() as connection:
        return connection.scalar(select(accounted_for).where(_TOTALS.topic == topic)) or 0
