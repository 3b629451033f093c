"""To each table goes the time that writing it took."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url

from benchmarks.stages import Clock, each_statement_timed
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.offsets import move_offsets, read_offsets

SLOW_S = 0.2


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
