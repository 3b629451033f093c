"""One writer at a time: a standby waits, takes over from the dead and the frozen, and nobody writes twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.store.engine import make_engine
from fraudstream.store.locks import lock_name
from fraudstream.store.migrate import migrate
from fraudstream.store.offsets import OffsetsMoved, StoredOffsets, lock_offsets, move_offsets, read_offsets
from fraudstream.store.writer import LEASE_S, Writer, WriterLost, become_writer, live_writer
from tests.support.jobs import run_script

LOCK = "fraudstream:test:"


@pytest.fixture
def engine(database: str) -> Engine:
    engine = make_engine(make_url(database), pooled=False)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE written (who VARCHAR(64))"))
    return engine


@contextmanager
def other_writer(database: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.frozen_writer", database, lock_of(database)],
        cwd=PROJECT_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "writer\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def lock_of(database: str) -> str:
    return LOCK + (make_url(database).database or "")[-20:]


def wait_as_standby(engine: Engine, database: str, patience_s: float) -> Writer | None:
    gives_up = time.monotonic() + patience_s
    return become_writer(
        engine, lock_of(database), holder="the standby", stopped=lambda: time.monotonic() > gives_up
    )


def test_a_standby_waits_for_a_writer_that_lives_and_follows_one_that_dies(
    engine: Engine, database: str
) -> None:
    with other_writer(database) as other:
        assert wait_as_standby(engine, database, patience_s=2) is None
        other.kill()
        other.wait()
        died = time.monotonic()
        writer = wait_as_standby(engine, database, patience_s=10)
        assert writer is not None
        assert time.monotonic() - died < 2
        with writer, writer.transaction() as connection:
            connection.execute(text("INSERT INTO written VALUES ('the standby')"))


def test_a_frozen_writer_is_replaced_and_can_write_nothing_when_it_wakes(
    engine: Engine, database: str
) -> None:
    with other_writer(database) as other:
        other.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        writer = wait_as_standby(engine, database, patience_s=30)
        assert writer is not None
        assert time.monotonic() - frozen < 15
        with writer:
            with writer.transaction() as connection:
                connection.execute(text("INSERT INTO written VALUES ('the standby')"))
            other.send_signal(signal.SIGCONT)
            assert other.stdin is not None and other.stdout is not None
            other.stdin.write("write\n")
            other.stdin.flush()
            assert other.stdout.readline() == "lost\n"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT who FROM written")).all() == [("the standby",)]


def test_a_writer_whose_connection_is_cut_writes_nothing_more(engine: Engine, database: str) -> None:
    writer = wait_as_standby(engine, database, patience_s=10)
    assert writer is not None
    with writer:
        with engine.connect() as other:
            owner = other.scalar(text("SELECT IS_USED_LOCK(:name)"), {"name": lock_of(database)})
            other.exec_driver_sql(f"KILL {owner}")
        for _ in range(2):
            with pytest.raises(WriterLost), writer.transaction() as connection:
                connection.execute(text("INSERT INTO written VALUES ('a ghost')"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM written")) == 0


def test_a_writer_whose_connection_is_ended_by_its_own_statement_is_lost_too(
    engine: Engine, database: str
) -> None:
    writer = wait_as_standby(engine, database, patience_s=10)
    assert writer is not None
    # The server says why, and then ends the connection: that it is gone only the rollback finds.
    with writer, pytest.raises(WriterLost, match=r"killed|interrupted"), writer.transaction() as connection:
        connection.execute(text("KILL CONNECTION_ID()"))


def test_a_batch_that_was_computed_before_the_offsets_moved_is_rolled_back(engine: Engine) -> None:
    with engine.begin() as connection:
        read = read_offsets(connection, "t")
        assert read == StoredOffsets(None, {})
    with engine.begin() as connection:
        move_offsets(connection, "t", "id", {0: 10, 1: 5})
    with pytest.raises(OffsetsMoved, match="moved meanwhile"), engine.begin() as connection:
        lock_offsets(connection, "t", read)
        move_offsets(connection, "t", "id", {0: 99})
    with engine.begin() as connection:
        present = read_offsets(connection, "t")
        assert present == StoredOffsets("id", {0: 10, 1: 5})
        lock_offsets(connection, "t", present)


def test_who_writes_is_known_while_the_lease_is_fresh(engine: Engine, database: str) -> None:
    assert live_writer(engine, lock_of(database)) is None
    with other_writer(database):
        assert live_writer(engine, lock_of(database)) == "the frozen one"
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE writer_lease SET renewed_at = renewed_at - INTERVAL :age SECOND"),
            {"age": LEASE_S + 1},
        )
    assert live_writer(engine, lock_of(database)) is None


def test_the_status_tells_a_job_at_work_from_none(engine: Engine, database: str) -> None:
    def status() -> subprocess.CompletedProcess[str]:
        environment = child_environment(MYSQL_URL=database, KAFKA_TOPIC="t")
        return run_script("-m", "fraudstream", "status", environment=environment)

    idle = status()
    assert (idle.returncode, idle.stdout.splitlines()[0]) == (1, "writer: none: start data_cleaning.py")
    lock = lock_name(make_url(database).database or "", "t")
    writer = become_writer(engine, lock, holder="me", stopped=lambda: False)
    assert writer is not None
    with writer:
        busy = status()
    assert (busy.returncode, busy.stdout) == (
        0, "writer: me\nstored=0 flagged=0 duplicates=0 rejected=0 alerts=0\n"
    )  # fmt: skip
