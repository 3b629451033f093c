"""The job's own word for the dashboard: its last error, by the writer alone, whatever else is broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from fraudstream.config import PROJECT_DIR
from fraudstream.kafka_access import kafka_access
from fraudstream.resume import TopicGap
from fraudstream.store.engine import make_engine
from fraudstream.store.job_status import JOB, JobStatus
from fraudstream.store.locks import lock_name
from fraudstream.store.migrate import migrate
from fraudstream.store.status import Status, put_status, read_status, set_status
from fraudstream.store.writer import Writer, become_writer, in_the_writers_place
from fraudstream.streaming import Job, JobConfig, JobStopped

CAIRO = ZoneInfo("Africa/Cairo")
TOPIC = "t"
GAP = "topic t was deleted and created anew. To go on without these records: offsets accept"


@pytest.fixture
def engine(database: str) -> Engine:
    engine = make_engine(make_url(database), pooled=False)
    migrate(engine)
    return engine


@pytest.fixture
def lock(database: str) -> str:
    return lock_name(make_url(database).database or "", TOPIC)


@pytest.fixture
def status() -> JobStatus:
    return JobStatus(CAIRO)


def said(engine: Engine) -> Status | None:
    with engine.connect() as connection:
        return read_status(connection, JOB)


def word(engine: Engine) -> tuple[str, str]:
    found = said(engine)
    assert found is not None
    return found.state, found.message


@contextmanager
def other_writer(engine: Engine, lock: str) -> Iterator[Writer]:
    writer = become_writer(engine, lock, holder="another", stopped=lambda: False)
    assert writer is not None
    with writer:
        yield writer


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_an_error_is_told_until_a_batch_is_committed_and_stays_to_be_read(
    engine: Engine, status: JobStatus
) -> None:
    status.failed(GAP, engine.begin)
    assert word(engine) == ("error", GAP)
    for _ in range(2):  # a crash before any batch, of which nobody told
        status = JobStatus(CAIRO)
        with engine.begin() as connection:
            status.started(connection)
        state, message = word(engine)
        assert (state, message.count("started again"), message.count("last error at")) == ("warning", 1, 1)
        assert message.startswith("started again, no batch yet; last error at 20")
        assert message.endswith(f" (Africa/Cairo): {GAP}")
    with engine.begin() as connection:
        status.committed(connection)
    state, message = word(engine)
    assert (state, message[:27], message[-len(GAP) :]) == ("ok", "runs again; last error at 2", GAP)
    with engine.begin() as connection:
        JobStatus(CAIRO).started(connection)
    assert word(engine) == (state, message)


def test_a_job_without_an_error_says_nothing_and_a_batch_costs_nothing(
    engine: Engine, status: JobStatus
) -> None:
    with engine.begin() as connection:
        status.started(connection)
        with statements(engine) as seen:
            status.committed(connection)
    assert (said(engine), seen) == (None, [])


def test_what_a_batch_says_is_undone_with_it(engine: Engine, status: JobStatus) -> None:
    status.failed("first", engine.begin)
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        status.committed(connection)
        raise ZeroDivisionError
    assert word(engine) == ("error", "first")


def test_a_process_beside_the_writer_does_not_speak(
    engine: Engine, lock: str, status: JobStatus, caplog: pytest.LogCaptureFixture
) -> None:
    set_status(engine, JOB, "ok", "the writer's word")
    alone = partial(in_the_writers_place, engine, lock)
    with other_writer(engine, lock):
        status.failed("no model", alone)
        assert word(engine) == ("ok", "the writer's word")
        assert "another process holds it" in caplog.text
    status.failed("no model", alone)
    assert word(engine) == ("error", "no model")


def test_a_writer_that_was_replaced_does_not_speak(engine: Engine, lock: str, status: JobStatus) -> None:
    with other_writer(engine, lock) as replaced:
        with engine.connect() as connection:
            owner = connection.exec_driver_sql(f"SELECT IS_USED_LOCK('{lock}')").scalar_one()
            connection.exec_driver_sql(f"KILL {owner}")
        with other_writer(engine, lock) as present:
            with present.transaction() as connection:
                put_status(connection, JOB, "ok", "the new writer's word")
            status.failed("its connection ended", replaced.transaction)
            assert word(engine) == ("ok", "the new writer's word")


def test_a_database_that_is_away_is_logged_and_the_error_is_told_at_the_next_start(
    engine: Engine, status: JobStatus, caplog: pytest.LogCaptureFixture
) -> None:
    away = make_engine(make_url("mysql+mysqlconnector://u:hidden@127.0.0.1:9/d"), pooled=False)
    status.failed("the broker is away", away.begin)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "could not be told" in caplog.text and "hidden" not in caplog.text
    with engine.begin() as connection:
        status.started(connection)
    state, message = word(engine)
    assert (state, message.rpartition(": ")[2]) == ("warning", "the broker is away")


@pytest.mark.parametrize("letter", ["x", "é", "\N{GRINNING FACE}", "\udc80"])
def test_of_a_text_that_is_too_long_the_beginning_is_kept(
    engine: Engine, status: JobStatus, letter: str
) -> None:
    status.failed("begins " + letter * 70_000, engine.begin)
    _, message = word(engine)
    assert message.startswith("begins ")
    assert 65_530 < len(message.encode()) <= 65_535


Behaviour = Callable[[], None]


class JobOf(Job):
    """A job whose query does, at each start, the next of what it is told; at the end it is asked to stop."""

    def __init__(self, database: str, behaviours: Sequence[Behaviour], *, prepare: Behaviour) -> None:
        config = JobConfig(
            kafka=kafka_access("127.0.0.1:9"),
            topic=TOPIC,
            partitions=1,
            database=make_url(database),
            model_dir=PROJECT_DIR,
            zone=CAIRO,
            max_records_per_batch=1,
            trigger_interval_s=0,
        )
        left = list(behaviours)
        super().__init__(None, config, stopped=lambda: not left)  # type: ignore[arg-type]
        self._left, self._ready = left, prepare

    def _prepare(self) -> None:
        self._ready()

    def _run_query(self, writer: Writer) -> None:
        self._left.pop(0)()


def fail(error: Exception) -> Behaviour:
    def do() -> None:
        raise error

    return do


def nothing() -> None: ...


@pytest.mark.parametrize("before_its_turn", [False, True])
def test_the_job_tells_what_stopped_it_for_good(engine: Engine, database: str, before_its_turn: bool) -> None:
    gap = fail(TopicGap(GAP))
    with pytest.raises(JobStopped, match="offsets accept"):
        JobOf(database, [gap], prepare=gap if before_its_turn else nothing).run()
    assert word(engine) == ("error", GAP)


def test_the_job_tells_what_interrupted_it(
    engine: Engine, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    JobOf(database, [fail(TimeoutError("no answer"))], prepare=nothing).run()
    assert word(engine) == ("error", "no answer")
    assert "no answer" in [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_an_error_that_nobody_foresaw_is_told_and_raised(engine: Engine, database: str) -> None:
    with pytest.raises(ZeroDivisionError):
        JobOf(database, [fail(ZeroDivisionError("division by zero"))], prepare=nothing).run()
    assert word(engine) == ("error", "ZeroDivisionError: division by zero")


def test_a_table_that_cannot_be_written_hides_no_error(engine: Engine, database: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("RENAME TABLE component_status TO elsewhere")
    with pytest.raises(JobStopped, match="offsets accept"):
        JobOf(database, [fail(TopicGap(GAP))], prepare=nothing).run()
