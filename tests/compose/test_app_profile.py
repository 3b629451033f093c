"""The whole system in containers, the job on a Spark cluster of two workers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from fraudstream.config import TRANSACTIONS_CSV, Settings
from fraudstream.store.progress import read_progress
from fraudstream.streaming import FEW
from tests.support.browsing import Dashboard
from tests.support.compose import Compose, terminal
from tests.support.jobs import run_script
from tests.support.mailpit import wait_for_mails
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(1_800)

SERVICES = 11  # with two workers; each of them in one container
SPARK = "http://127.0.0.1:4040/api/v1/applications"


@pytest.fixture(scope="module")
def system(compose: Compose) -> Compose:
    compose.up("--scale", "spark-worker=2", profile="app")
    return compose


def spark(path: str = "") -> Any:
    with urllib.request.urlopen(f"{SPARK}{path}", timeout=10) as answer:
        return json.load(answer)


def executors() -> list[dict[str, Any]]:
    application = spark()[0]["id"]
    return [executor for executor in spark(f"/{application}/executors") if executor["id"] != "driver"]


def test_it_begins_clean_and_every_service_is_healthy(system: Compose) -> None:
    assert system.states() == ["healthy"] * SERVICES


def test_what_the_producer_sends_is_stored_and_shown(
    system: Compose, engine: Engine, settings: Settings, dashboard: Dashboard
) -> None:
    progress = wait_until(
        lambda: (seen := read_progress(engine, settings.kafka_topic)).stored > 500 and seen,
        timeout=120,
        describe="rows of the producer are stored",
    )
    assert progress.flagged == progress.alerts > 0
    dashboard.page.goto("http://127.0.0.1:8501")
    shown = dashboard.kpi("Total transactions")
    wait_until(
        lambda: shown.count() and int(shown.inner_text().replace(",", "")) > progress.stored,
        timeout=60,
        describe="the dashboard goes on with the rows",
    )


def test_a_backlog_is_read_and_judged_on_both_workers(system: Compose, tmp_path: Path) -> None:
    """What an executor writes to a shuffle it has read from Kafka; what it reads from one it judges.

    Few records are judged on the driver: so the whole file is sent while the job is down.
    """
    system("--profile", "app", "stop", "job")
    sent = run_script(
        "producer_from_csv.py",
        "--rate",
        "0",
        environment=terminal(XDG_STATE_HOME=str(tmp_path)),
        folder=system.folder,
    )
    assert sent.returncode == 0, sent.stderr
    assert len(TRANSACTIONS_CSV.read_text().splitlines()) > FEW
    system("--profile", "app", "start", "job")
    wait_until(lambda: system.states("job") == ["healthy"], timeout=180, describe="the job is back")
    wait_until(
        lambda: all(each["totalShuffleWrite"] and each["totalShuffleRead"] for each in executors()),
        timeout=120,
        describe=lambda: f"both workers do both: {executors()}",
    )
    hosts = {executor["hostPort"].partition(":")[0] for executor in executors()}
    assert len(executors()) == len(hosts) == 2


def test_alerts_are_mailed_by_the_sender_of_its_own(system: Compose) -> None:
    mails = wait_for_mails(timeout=120)
    assert all("http://localhost:8501" in mail.html for mail in mails)


def test_no_password_is_in_logs_or_on_sparks_pages(system: Compose) -> None:
    logs = system("--profile", "app", "logs", "--no-color")
    assert "Waiting for data..." in logs
    assert "development-" not in logs
    application = spark()[0]["id"]
    assert "development-" not in json.dumps(spark(f"/{application}/environment"))


def test_down_with_its_volumes_leaves_nothing(system: Compose) -> None:
    assert system.volumes()
    system.down("-v")
    assert system.volumes() == []
