"""The broker is frozen, killed and away, the topic loses records or is made anew, or grows."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from fraudstream.config import child_environment
from fraudstream.schema import FIELD_NAMES
from fraudstream.simulator import simulate
from fraudstream.stack import Stack
from fraudstream.topic import ensure_topic
from tests.support import kafka_faults
from tests.support.brokers import StackBroker
from tests.support.jobs import SHORT_LIVED, run_script
from tests.support.kafka_faults import Scene, suspended
from tests.support.kafka_topics import read_topic
from tests.support.undisturbed import undisturbed_tables
from tests.support.whole_tables import Tables, assert_same_tables, without_places

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def scene(
    stack: Stack, new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> Scene:
    return Scene(StackBroker(stack), {**settings_env, **SHORT_LIVED}, new_database, tmp_path)


def test_a_broker_frozen_killed_and_away_for_a_minute_costs_no_record(scene: Scene) -> None:
    kafka_faults.frozen_killed_and_away(scene)


def test_what_is_lost_while_the_job_is_stopped_must_be_accepted(scene: Scene) -> None:
    kafka_faults.lost_while_stopped(scene)


def test_what_is_lost_while_the_job_runs_stops_it_before_it_stores_anything_else(scene: Scene) -> None:
    kafka_faults.lost_while_running(scene)


@dataclass(frozen=True)
class Growth:
    """Arrivals in three parts, and what a calm run over a topic with all its partitions makes of them."""

    parts: Sequence[Path]
    counts: Sequence[int]
    calm: Tables


@pytest.fixture(scope="module")
def growth(stack: Stack, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Growth:
    folder = tmp_path_factory.mktemp("growth")
    arrivals = simulate(rows=1_500, users=40, days=20, seed=4).transactions
    starts = [0, 400, 800, len(arrivals)]
    frames = [arrivals[start:end] for start, end in itertools.pairwise(starts)]
    parts = [folder / f"part-{number}.csv" for number in range(3)]
    for part, frame in zip(parts, frames, strict=True):
        frame.to_csv(part, index=False)
    topic = f"grown-{secrets.token_hex(6)}"
    environment = child_environment(**stack.addresses().environment(), **SHORT_LIVED, KAFKA_TOPIC=topic)
    ensure_topic(stack.addresses().kafka, topic, 5)
    for part in parts:
        produce(part, environment)
    calm = undisturbed_tables(
        environment, new_database(), len(arrivals), folder / "calm.log", read=without_places
    )
    return Growth(parts, [len(frame) for frame in frames], calm)


def produce(csv: Path, environment: Mapping[str, str]) -> None:
    sent = run_script("producer_from_csv.py", "--file", str(csv), "--rate", "0", environment=environment)
    assert sent.returncode == 0, sent.stderr


def add_partitions(servers: str, topic: str, total: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.create_partitions({topic: total})


def test_partitions_added_to_a_drained_topic_change_nothing(scene: Scene, growth: Growth) -> None:
    servers = scene.broker.servers
    ensure_topic(servers, scene.topic, 2)
    with scene.job() as job:
        produce(growth.parts[0], scene.environment)
        produce(growth.parts[1], scene.environment)
        scene.wait_for(sum(growth.counts[:2]))
        add_partitions(servers, scene.topic, 5)
        produce(growth.parts[2], scene.environment)
        scene.wait_for(sum(growth.counts))
        assert job.poll() is None
    assert {record.partition for record in read_topic(servers, scene.topic)} == set(range(5))
    assert_same_tables(without_places(scene.engine), growth.calm)


def test_partitions_added_to_a_backlog_lose_and_double_nothing(scene: Scene, growth: Growth) -> None:
    scene = replace(scene, environment={**scene.environment, "MAX_RECORDS_PER_BATCH": "200"})
    servers = scene.broker.servers
    ensure_topic(servers, scene.topic, 2)
    with scene.job() as job:
        produce(growth.parts[0], scene.environment)
        scene.wait_for(growth.counts[0])
        with suspended(job):
            produce(growth.parts[1], scene.environment)
            add_partitions(servers, scene.topic, 5)
            produce(growth.parts[2], scene.environment)
        scene.wait_for(sum(growth.counts))
        assert job.poll() is None
    assert scene.committed() == sum(growth.counts)
    # Verdicts and features may differ: a user's records may now be in two partitions, without an order.
    assert as_sent(without_places(scene.engine)) == as_sent(growth.calm)


def as_sent(tables: Tables) -> tuple[list[tuple], list[tuple]]:
    """What of the tables does not depend on the order in which records are read."""
    stored = sorted(tuple(getattr(row, name) for name in FIELD_NAMES) for row in tables["clean_data"])
    rejected = sorted((row.reason, row.value) for row in tables["dead_letters"])
    return stored, rejected
