"""A batch that is judged while the commit of the one before it still hangs, on a real server's row lock."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from fraudstream.feature_record import pack
from fraudstream.features import transaction_features
from fraudstream.kafka_access import kafka_access
from fraudstream.merchant_risk import no_outcomes
from fraudstream.publisher.delivery import Answer, Original, send_again
from fraudstream.schema import TRANSACTION_ARROW
from fraudstream.store.progress import read_progress
from tests.support.jobs import running_job
from tests.support.undisturbed import open_tables, wait_for_all
from tests.support.waiting import wait_until


def record(number: int, user: str, amount: float = 10.0) -> tuple[str, bytes]:
    fields = {
        "TransactionID": f"T{number}",
        "UserID": user,
        "Amount": f"{amount:.2f}",
        "Location": "Cairo",
        "Time": f"2025-01-01 {number // 60:02}:{number % 60:02}:00",
        "Device": "iOS",
        "Merchant": "Amazon",
    }
    return user, orjson.dumps(fields)


@contextmanager
def commits_hang(engine: Engine) -> Iterator[None]:
    """Meanwhile no batch can be committed; at the end all goes on."""
    with engine.connect() as in_the_way:
        in_the_way.execute(text("SELECT * FROM pipeline_totals FOR UPDATE"))
        yield
        in_the_way.rollback()


def commit_that_hangs(engine: Engine) -> int | None:
    """The connection on which one has come to the lock."""
    with engine.connect() as connection:
        for row in connection.execute(text("SHOW FULL PROCESSLIST")):
            if "INTO pipeline_totals" in str(row.Info):
                return int(row.Id)
    return None


def spark_jobs(log: Path) -> int:
    """How many jobs Spark has done so far."""
    found = re.search(r"Spark UI: (http\S+)", log.read_text())
    assert found
    applications = f"{found[1]}/api/v1/applications"
    (application,) = json.load(urllib.request.urlopen(applications))
    return len(json.load(urllib.request.urlopen(f"{applications}/{application['id']}/jobs?status=succeeded")))


def stored_features(engine: Engine) -> dict[str, bytes]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT TransactionID, features FROM clean_data"))
        return {row.TransactionID: row.features for row in rows}


def features_of_all_at_once(engine: Engine) -> dict[str, bytes]:
    names = ", ".join(f"`{name}`" for name in TRANSACTION_ARROW.names)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {names} FROM clean_data ORDER BY partition_id, `offset`"))
        stored = pa.Table.from_pylist([dict(row) for row in rows.mappings()], TRANSACTION_ARROW)
    computed = transaction_features(stored, no_outcomes()).features
    return dict(zip(stored["TransactionID"].to_pylist(), pack(computed).to_pylist(), strict=True))


@pytest.mark.timeout(250)
def test_it_knows_what_that_commit_is_about_to_store(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    engine, log = open_tables(database), tmp_path / "job.log"
    kafka = kafka_access(settings_env["KAFKA_BOOTSTRAP_SERVERS"])

    def send(*records: tuple[str, bytes]) -> None:
        originals = [Original(key.encode(), value, "-") for key, value in records]
        assert set(send_again(kafka, topic, originals)) == {Answer.ACKNOWLEDGED}

    def wait_for(what: Callable[[], object]) -> None:
        wait_until(what, timeout=100, describe=lambda: log.read_text(errors="replace")[-4000:])

    def have_a_batch_judged_while_one_hangs(first: int) -> None:
        """Records `first` to `first` + 4, and of those that hang one again, and one again with a change."""
        send(record(first, "U1"))
        wait_for(lambda: commit_that_hangs(engine))
        before = spark_jobs(log)
        again, changed = record(first, "U1"), record(first, "U1", 11)
        send(*(record(number, "U1") for number in range(first + 1, first + 5)), again, changed)
        wait_for(lambda: spark_jobs(log) > before)
        # It is read; nothing outside tells that it is judged, which takes some hundredths of a second.
        time.sleep(1)

    with running_job(settings_env, log, "--no-alerts"):
        send(*(record(number, user) for number, user in enumerate(("U1", "U2", "U3"))))
        wait_for_all(engine, topic, 3, log)
        with commits_hang(engine):
            have_a_batch_judged_while_one_hangs(3)
            assert read_progress(engine, topic).accounted_for == 3
        wait_for_all(engine, topic, 10, log)
        assert "starting again" not in log.read_text()
        with commits_hang(engine):
            have_a_batch_judged_while_one_hangs(8)
            with engine.connect() as connection:
                connection.execute(text(f"KILL {commit_that_hangs(engine)}"))
            wait_for(lambda: "starting again" in log.read_text())
        wait_for_all(engine, topic, 17, log)

    progress = read_progress(engine, topic)
    assert (progress.stored, progress.duplicates, progress.rejected) == (13, 2, 2)
    assert stored_features(engine) == features_of_all_at_once(engine)
    engine.dispose()
