"""What can happen to the broker and to the topic while the job is at work, or stopped: scenarios to run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from sqlalchemy import Engine, select

from fraudstream.simulator import simulate
from fraudstream.store.job_status import JOB
from fraudstream.store.progress import read_progress
from fraudstream.store.status import read_status
from fraudstream.store.tables import clean_data
from fraudstream.topic import ensure_topic, offset_range
from tests.support.brokers import Broker
from tests.support.jobs import run_script, running_job
from tests.support.kafka_topics import count_records
from tests.support.load import count_rows, sending_at
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, whole_tables

_ROWS, _RATE = 6_000, 15
_FROZEN_S, _AWAY_S = 15, 60
_RECOVERY_S = 200
_STOPS_S = 200

Job = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Scene:
    """A job with an empty database and a topic of its own on `broker`; its files are in `folder`."""

    broker: Broker
    environment: Mapping[str, str]
    new_database: Callable[[], str]
    folder: Path

    @property
    def topic(self) -> str:
        return self.environment["KAFKA_TOPIC"]

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    @cached_property
    def engine(self) -> Engine:
        return open_tables(self.environment["MYSQL_URL"])

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def job(self) -> AbstractContextManager[Job]:
        return running_job(self.environment, self.log, "--no-alerts")

    def committed(self) -> int:
        return read_progress(self.engine, self.topic).accounted_for

    def wait_for(self, records: int) -> None:
        wait_for_all(self.engine, self.topic, records, self.log)

    def told(self) -> tuple[str, str]:
        """What the job last said to the dashboard: its state and the text."""
        with self.engine.connect() as connection:
            found = read_status(connection, JOB)
        assert found is not None
        return found.state, found.message

    def stored_ids(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.scalars(select(clean_data.c.TransactionID)))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_script("-m", "fraudstream", *words, environment=self.environment)


def frozen_killed_and_away(scene: Scene) -> None:
    """Under load the broker is frozen, killed and away: job and producer recover by themselves."""
    csv = scene.folder / "load.csv"
    simulate(rows=_ROWS, users=60, days=20, seed=6).transactions.to_csv(csv, index=False)
    broker = scene.broker
    with scene.job() as job:
        with sending_at(_RATE, csv, scene.environment):
            _works_on(scene, job)
            broker.freeze()
            try:
                _stays_up(job, _FROZEN_S)
            finally:
                broker.thaw()
            _works_on(scene, job)
            broker.kill()
            broker.start()
            _works_on(scene, job)
            broker.kill()
            try:
                _stays_up(job, _AWAY_S)
            finally:
                broker.start()
            _works_on(scene, job)
        records = count_rows(csv)
        scene.wait_for(records)
        assert job.poll() is None
    partitions = len(ensure_topic(broker.servers, scene.topic, 1).partitions)
    assert count_records(broker.servers, scene.topic, partitions) == records
    calm = undisturbed_tables(scene.environment, scene.new_database(), records, scene.folder / "calm.log")
    assert_same_tables(whole_tables(scene.engine), calm)


def _works_on(scene: Scene, job: Job) -> None:
    """It commits something that is produced from now on."""
    reached = scene.committed()
    wait_until(lambda: scene.committed() > reached + 2 * _RATE, timeout=_RECOVERY_S, describe=scene.said)
    assert job.poll() is None


def _stays_up(job: Job, seconds: float) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(timeout=seconds)


def lost_while_stopped(scene: Scene) -> None:
    """Records expire, and the topic is made anew, while the job is stopped."""
    servers, topic = scene.broker.servers, scene.topic
    ensure_topic(servers, topic, 2)
    with scene.job():  # nothing is there yet; from here on the job answers for what comes
        wait_until(lambda: "Waiting for data..." in scene.said(), timeout=_RECOVERY_S, describe=scene.said)

    send(servers, topic, range(200))
    gone = expire(servers, topic, 30)
    with scene.job() as job:
        assert_stops(scene, job, "; ".join(f"topic {topic}, partition {number}: offsets 0 to 29 expired "
                                           "before they were read" for number in range(2)))  # fmt: skip
    assert scene.committed() == 0
    shown = scene.command("offsets", "show")
    assert (shown.returncode, shown.stdout.count("lost: ")) == (1, 2), shown.stdout + shown.stderr
    accept(scene, "partition 1: committed 0 -> 30")
    remaining = ids(range(200)) - gone
    with scene.job():
        scene.wait_for(len(remaining))
    assert scene.stored_ids() == remaining

    make_anew(servers, topic)
    send(servers, topic, range(200, 600))
    with scene.job() as job:
        assert_stops(scene, job, f"topic {topic} was deleted and created anew")
    assert scene.stored_ids() == remaining
    accept(scene, "-> 0")
    with scene.job():
        scene.wait_for(len(remaining) + 400)
    assert scene.stored_ids() == remaining | ids(range(200, 600))
    assert scene.committed() == len(remaining) + 400
    state, told = scene.told()
    assert state == "ok"
    assert "last error at 20" in told and f"topic {topic} was deleted and created anew" in told


def lost_while_running(scene: Scene) -> None:
    """The same while the job runs: too fast for it to see anything but the outcome."""
    servers, topic = scene.broker.servers, scene.topic
    ensure_topic(servers, topic, 2)
    with scene.job() as job:
        send(servers, topic, range(200))
        scene.wait_for(200)
        with suspended(job):
            send(servers, topic, range(200, 400))
            ends = [end for _, end in sorted(offset_range(servers, topic, [0, 1]).values())]
            gone = expire(servers, topic, min(ends) - 20)
        assert_stops(scene, job, f"topic {topic}, partition ", "expired before they were read")
    assert scene.stored_ids() == ids(range(200))
    accept(scene, f"-> {min(ends) - 20}")
    remaining = ids(range(400)) - (gone - ids(range(200)))
    with scene.job() as job:
        scene.wait_for(len(remaining))
        assert scene.stored_ids() == remaining
        with suspended(job):
            make_anew(servers, topic)
            send(servers, topic, range(400, 1_400))  # beyond the old offsets, where Spark goes on reading
        assert_stops(scene, job, f"topic {topic} was deleted and created anew")
    assert scene.stored_ids() == remaining
    accept(scene, "-> 0")
    with scene.job():
        scene.wait_for(len(remaining) + 1_000)
    assert scene.stored_ids() == remaining | ids(range(400, 1_400))
    assert scene.committed() == len(remaining) + 1_000


def assert_stops(scene: Scene, job: Job, *words: str) -> None:
    """The job ends by itself, says this last, and names the command."""
    try:
        code = job.wait(timeout=_STOPS_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the job goes on\n{scene.said()[-4000:]}") from None
    last = scene.said().rpartition("Stopped: ")[2]
    # Lines may be broken for the terminal.
    said = re.sub(r"\s+", " ", last)
    assert code == 1, scene.said()[-4000:]
    state, told = scene.told()
    assert state == "error"
    for each in (*words, "Nothing was skipped.", "python -m fraudstream offsets accept"):
        assert each in said
        assert each in told


def accept(scene: Scene, expected: str) -> None:
    accepted = scene.command("offsets", "accept")
    assert accepted.returncode == 0, accepted.stderr
    assert expected in accepted.stdout


@contextmanager
def suspended(job: Job) -> Iterator[None]:
    """All processes of the job see the block as one moment."""
    os.killpg(job.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(job.pid, signal.SIGCONT)


def ids(numbers: range) -> set[str]:
    return {f"T{number}" for number in numbers}


def send(servers: str, topic: str, numbers: range) -> None:
    """One good transaction for each number, spread evenly over the topic's partitions."""
    partitions = len(ensure_topic(servers, topic, 1).partitions)
    with closing(KafkaProducer(bootstrap_servers=servers, acks="all")) as producer:
        sent = [
            producer.send(topic, _transaction(number), f"U{number}".encode(), partition=number % partitions)
            for number in numbers
        ]
        for future in sent:
            future.get(30)


def _transaction(number: int) -> bytes:
    when = f"2025-01-01 10:{number // 60 % 60:02}:{number % 60:02}"
    fields = {"Amount": 10, "Location": "Cairo", "Time": when, "Device": "iOS", "Merchant": "Amazon"}
    return orjson.dumps({"TransactionID": f"T{number}", "UserID": f"U{number}", **fields})


def expire(servers: str, topic: str, before: int) -> set[str]:
    """Delete the records below this offset from both partitions; returns their ids, as `send` gave them."""
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.delete_records({TopicPartition(topic, number): before for number in range(2)})
    return ids(range(2 * before))


def make_anew(servers: str, topic: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.delete_topics([topic])
    ensure_topic(servers, topic, 2)
