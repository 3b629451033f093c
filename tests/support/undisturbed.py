"""A run that nobody disturbs, which all others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.progress import read_progress
from tests.support.jobs import running_job
from tests.support.waiting import wait_until
from tests.support.whole_tables import Tables, whole_tables


def open_tables(database: str) -> Engine:
    """An engine for a database that has its tables."""
    engine = make_engine(make_url(database))
    migrate(engine)
    return engine


def wait_for_all(engine: Engine, topic: str, records: int, log: Path, *, timeout: float = 400) -> None:
    """Wait until `records` records of the topic are accounted for."""
    wait_until(
        lambda: read_progress(engine, topic).accounted_for >= records,
        timeout=timeout,
        describe=lambda: f"{read_progress(engine, topic)}\n{log.read_text(errors='replace')[-4000:]}",
    )


def undisturbed_tables(
    environment: Mapping[str, str],
    database: str,
    records: int,
    log: Path,
    *,
    read: Callable[[Engine], Tables] = whole_tables,
) -> Tables:
    """All tables after one run of the job, into an empty `database`, over the topic's `records` records."""
    engine = open_tables(database)
    with running_job({**environment, "MYSQL_URL": database}, log, "--no-alerts"):
        wait_for_all(engine, environment["KAFKA_TOPIC"], records, log)
    tables = read(engine)
    engine.dispose()
    return tables
