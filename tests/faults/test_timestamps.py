"""A record whose timestamp Spark cannot read, in a topic that did not refuse it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from fraudstream.store.progress import Progress, read_progress
from tests.support.jobs import run_script, running_job
from tests.support.undisturbed import open_tables, wait_for_all

USABLE = b'{"TransactionID":"T%d","UserID":"U","Amount":1,"Time":"2025-01-01 00:00:00"}'


def send_with_nanoseconds(servers: str, topic: str) -> None:
    """Three usable records to a topic as Kafka before 4.0 creates it, the second of which has nanoseconds."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    no_bound = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": no_bound}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=servers, acks="all")
    now = time.time()
    for number, stamp in enumerate((now * 1e3, now * 1e9, now * 1e3)):
        producer.send(topic, USABLE % number, timestamp_ms=int(stamp)).get(timeout=10)
    producer.close()


@pytest.mark.timeout(200)
def test_it_stops_the_job_with_a_way_past_it_that_loses_nothing_else(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    engine, log = open_tables(database), tmp_path / "job.log"
    servers = settings_env["KAFKA_BOOTSTRAP_SERVERS"]
    environment = {**settings_env, "MODEL_DIR": str(tmp_path), "MAX_RECORDS_PER_BATCH": "1"}
    send_with_nanoseconds(servers, topic)

    with running_job(environment, log, "--no-alerts") as job:
        assert job.wait(timeout=90) == 1
    assert re.search(
        rf"Spark cannot read the record at topic \W*{topic}\W* partition 0 offset 1: its timestamp "
        r"\d{19} .*MAX_RECORDS_PER_BATCH=1 .*kafka-delete-records.*offsets accept",
        log.read_text(),
    )
    assert read_progress(engine, topic) == Progress(stored=1, duplicates=0, rejected=0)

    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_records({TopicPartition(topic, 0): 2})
    admin.close()
    accepted = run_script("-m", "fraudstream", "offsets", "accept", environment=environment)
    assert "partition 0: committed 1 -> 2" in accepted.stdout
    with running_job(environment, log, "--no-alerts"):
        wait_for_all(engine, topic, 2, log, timeout=90)
    assert read_progress(engine, topic) == Progress(stored=2, duplicates=0, rejected=0)
    engine.dispose()
