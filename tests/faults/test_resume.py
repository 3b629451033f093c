"""Whatever is lost, put back or changed between two runs of the job: the tables are those of one calm run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fraudstream.simulator import simulate
from fraudstream.store.progress import read_progress
from tests.support.dumps import Dump
from tests.support.jobs import run_script, running_job
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, whole_tables

pytestmark = pytest.mark.timeout(400)

ROWS = 4_000


@pytest.fixture
def records(settings_env: Mapping[str, str], tmp_path: Path) -> int:
    """How many records the topic holds: a backlog, some of them late, twice, or not usable."""
    csv = tmp_path / "backlog.csv"
    arrivals = simulate(rows=ROWS, users=50, days=20, seed=8).transactions
    arrivals.to_csv(csv, index=False)
    sent = run_script("producer_from_csv.py", "--file", str(csv), "--rate", "0", environment=settings_env)
    assert sent.returncode == 0, sent.stderr
    return len(arrivals)


def work_until(
    accounted_for: int, environment: Mapping[str, str], engine: Engine, log: Path, *options: str
) -> None:
    """Run the job until so many records are accounted for, and kill it there."""
    topic = environment["KAFKA_TOPIC"]
    with running_job(environment, log, "--no-alerts", *options) as job:
        wait_for_all(engine, topic, accounted_for, log)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert read_progress(engine, topic).accounted_for < ROWS, "it died too late to show anything"


def test_a_lost_checkpoint_an_older_dump_and_other_batches_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], records: int, tmp_path: Path
) -> None:
    database, scratch, log = new_database(), tmp_path / "scratch", tmp_path / "job.log"
    scratch.mkdir()
    engine = open_tables(database)
    environment = {**settings_env, "MYSQL_URL": database, "TMPDIR": str(scratch)}

    work_until(500, environment, engine, log, "--max-records", "100", "--master", "local[1]")
    checkpoints = list(scratch.glob("fraudstream-checkpoint-*"))
    assert checkpoints, "there is a checkpoint to lose"
    for checkpoint in checkpoints:
        shutil.rmtree(checkpoint)
    dump = Dump(engine, new_database())
    dumped = read_progress(engine, environment["KAFKA_TOPIC"])

    work_until(1_500, environment, engine, log, "--max-records", "333", "--master", "local[3]")
    dump.restore()
    assert read_progress(engine, environment["KAFKA_TOPIC"]) == dumped

    with running_job(environment, log, "--no-alerts", "--max-records", "2000"):
        wait_for_all(engine, environment["KAFKA_TOPIC"], records, log)
    expected = undisturbed_tables(settings_env, new_database(), records, tmp_path / "calm.log")
    assert_same_tables(whole_tables(engine), expected)


def test_a_dump_restored_under_a_running_job_is_noticed_and_the_rest_done_again(
    new_database: Callable[[], str], settings_env: dict[str, str], records: int, tmp_path: Path
) -> None:
    database, log = new_database(), tmp_path / "job.log"
    engine, topic = open_tables(database), settings_env["KAFKA_TOPIC"]
    environment = {**settings_env, "MYSQL_URL": database, "MAX_RECORDS_PER_BATCH": "100"}
    with running_job(environment, log, "--no-alerts") as job:
        wait_for_all(engine, topic, 300, log)
        dump = Dump(engine, new_database())
        wait_for_all(engine, topic, 1_000, log)
        dump.restore()
        wait_until(
            lambda: "moved meanwhile" in log.read_text(),
            timeout=60,
            describe=lambda: log.read_text(errors="replace")[-4000:],
        )
        wait_for_all(engine, topic, records, log)
        assert job.poll() is None
    expected = undisturbed_tables(settings_env, new_database(), records, tmp_path / "calm.log")
    assert_same_tables(whole_tables(engine), expected)
