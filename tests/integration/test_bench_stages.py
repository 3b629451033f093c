"""To each table goes the time that writing it took."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, event, func, select
from sqlalchemy.engine import make_url

from benchmarks.past import shipped_judge
from benchmarks.pipeline import Site
from benchmarks.population import Population
from benchmarks.stages import Clock, each_statement_timed, time_writing
from fraudstream.merchant_risk import no_outcomes
from fraudstream.scoring import Known, judge_partition
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.offsets import move_offsets, read_offsets
from fraudstream.store.tables import metadata

SLOW_S = 0.2
TABLES = metadata.tables.items()


def test_the_time_of_a_statement_goes_to_its_table(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    clock = Clock()
    with engine.connect() as connection:

        def slow(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            time.sleep(SLOW_S if statement.startswith("INSERT") else 0)

        event.listen(connection, "before_cursor_execute", slow)
        with each_statement_timed(connection, clock):
            read_offsets(connection, "t")
            read = dict(clock.spent_s)
            move_offsets(connection, "t", "id", {0: 5})
        connection.commit()
    assert read.keys() == clock.spent_s.keys() == {"write_kafka_offsets"}
    assert read["write_kafka_offsets"] < SLOW_S < clock.spent_s["write_kafka_offsets"]
    engine.dispose()


def test_each_table_that_a_batch_fills_is_a_stage(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    before = filled(engine)
    judge, nothing = shipped_judge(), Known(lambda _ids: {}, lambda _users: {}, no_outcomes())
    judged = judge_partition(next(Population(50).past()), judge=judge, known=nothing)
    clock = Clock()
    time_writing(judged, judge, Site(database, "t", "id", engine), {0: 0}, clock)
    written = {f"write_{table}" for table in filled(engine) if table not in before}
    assert "write_score_daily" in written
    assert written <= clock.spent_s.keys()
    engine.dispose()


def filled(engine: Engine) -> list[str]:
    """The tables with rows."""
    with engine.connect() as connection:
        rows = {name: connection.scalar(select(func.count()).select_from(table)) for name, table in TABLES}
    return [name for name, number in rows.items() if number]
