"""Copies of the job: one writes, another stands by, takes over from the dead and the frozen, and back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream.simulator import simulate
from fraudstream.store.engine import make_engine
from fraudstream.store.locks import lock_name
from fraudstream.store.progress import read_progress
from fraudstream.store.writer import live_writer
from tests.support.jobs import running_job
from tests.support.load import sending_at
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, whole_tables

pytestmark = pytest.mark.timeout(400)

Job = subprocess.Popen[bytes]


def stands_by(log: Path, times: int) -> Callable[[], bool]:
    return lambda: log.read_text(errors="replace").count("standing by: another process") >= times


def seconds_until_writer(engine: Engine, lock: str, job: Job, since: float) -> float:
    """How long after `since` this job is the writer."""
    wait_until(lambda: f":{job.pid}:" in (live_writer(engine, lock) or ""), timeout=60, describe="takes over")
    return time.monotonic() - since


def test_the_standby_takes_over_and_the_frozen_one_becomes_the_standby(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    database, topic, csv = new_database(), settings_env["KAFKA_TOPIC"], tmp_path / "load.csv"
    engine = open_tables(database)
    unpooled = make_engine(make_url(database), pooled=False)
    lock = lock_name(make_url(database).database or "", topic)
    environment = {**settings_env, "MYSQL_URL": database}
    arrivals = simulate(rows=20_000, users=50, days=20, seed=9).transactions
    arrivals.to_csv(csv, index=False)
    first_log, second_log, third_log = (tmp_path / f"{name}.log" for name in ("first", "second", "third"))

    def wait_until_written(by: str) -> None:
        reached = read_progress(engine, topic).accounted_for
        wait_until(
            lambda: read_progress(engine, topic).accounted_for > reached,
            timeout=30,
            describe=f"the {by} writes",
        )

    with ExitStack() as load, running_job(environment, first_log, "--no-alerts") as first:
        load.enter_context(sending_at(100, csv, settings_env))
        wait_for_all(engine, topic, 1, first_log)
        with running_job(environment, second_log, "--no-alerts") as second:
            wait_until(stands_by(second_log, 1), timeout=90, describe="the second stands by")
            os.killpg(first.pid, signal.SIGKILL)
            died = time.monotonic()
            first.wait()
            assert seconds_until_writer(unpooled, lock, second, died) < 2
            wait_until_written("second")

            with running_job(environment, third_log, "--no-alerts") as third:
                wait_until(stands_by(third_log, 1), timeout=90, describe="the third stands by")
                os.killpg(second.pid, signal.SIGSTOP)
                try:
                    frozen = time.monotonic()
                    assert seconds_until_writer(unpooled, lock, third, frozen) < 15
                    wait_until_written("third")
                finally:
                    os.killpg(second.pid, signal.SIGCONT)
                wait_until(stands_by(second_log, 2), timeout=90, describe="the thawed one stands by")
                os.killpg(third.pid, signal.SIGKILL)
                third.wait()
            wait_until_written("thawed one")
            load.close()
            wait_for_all(engine, topic, len(arrivals), second_log)
            assert second.poll() is None
    expected = undisturbed_tables(settings_env, new_database(), len(arrivals), tmp_path / "calm.log")
    assert_same_tables(whole_tables(engine), expected)
