"""The broker of docker-compose.yml, which has ZooKeeper, frozen, killed and away, and its topic made anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fraudstream.config import Settings
from tests.support import kafka_faults
from tests.support.brokers import ComposeBroker
from tests.support.compose import Compose
from tests.support.jobs import SHORT_LIVED
from tests.support.kafka_faults import Scene

pytestmark = pytest.mark.timeout(1_800)


@pytest.fixture
def scene(
    compose: Compose,
    settings: Settings,
    new_database: Callable[[], str],
    settings_env: dict[str, str],
    tmp_path: Path,
) -> Scene:
    """The job on the host, with the containers' broker and a database of the test's own."""
    compose.up("kafka")
    servers = settings.kafka.bootstrap_servers
    environment = {**settings_env, **SHORT_LIVED, "KAFKA_BOOTSTRAP_SERVERS": servers}
    return Scene(ComposeBroker(compose, servers), environment, new_database, tmp_path)


def test_a_broker_frozen_killed_and_away_for_a_minute_costs_no_record(scene: Scene) -> None:
    kafka_faults.frozen_killed_and_away(scene)


def test_what_is_lost_while_the_job_is_stopped_must_be_accepted(scene: Scene) -> None:
    kafka_faults.lost_while_stopped(scene)


def test_what_is_lost_while_the_job_runs_stops_it_before_it_stores_anything_else(scene: Scene) -> None:
    kafka_faults.lost_while_running(scene)
