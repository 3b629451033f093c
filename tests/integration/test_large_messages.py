"""Messages whose size Kafka's limit does not bound, because it is one on compressed bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaProducer
from sqlalchemy import Engine, text

from fraudstream.schema import MAX_MESSAGE_BYTES
from fraudstream.store.progress import Progress, read_progress
from fraudstream.topic import ensure_topic
from tests.support.jobs import running_job
from tests.support.undisturbed import open_tables, wait_for_all

USABLE = b'{"TransactionID":"T","UserID":"U","Amount":1,"Time":"2025-01-01 00:00:00"}'


def send(environment: dict[str, str], values: list[bytes]) -> None:
    """To one partition, compressed."""
    servers, topic = environment["KAFKA_BOOTSTRAP_SERVERS"], environment["KAFKA_TOPIC"]
    ensure_topic(servers, topic, 2)
    producer = KafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        compression_type="gzip",
        max_request_size=64_000_000,
    )
    for each in [producer.send(topic, key=b"U", value=value, partition=0) for value in values]:
        each.get(timeout=30)
    producer.close()


def letters(engine: Engine) -> list[tuple[object, ...]]:
    query = "SELECT detail, LENGTH(`value`), COUNT(*) FROM dead_letters GROUP BY 1, 2 ORDER BY 3"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.mark.timeout(200)
def test_messages_of_megabytes_are_dead_letters_that_say_what_is_left_of_them(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    engine, log = open_tables(database), tmp_path / "job.log"
    send(settings_env, [b"x" * 17_000_000, *[b"y" * 1_000_000] * 20, USABLE])
    with running_job({**settings_env, "MODEL_DIR": str(tmp_path)}, log, "--no-alerts"):
        wait_for_all(engine, topic, 22, log)
    assert read_progress(engine, topic) == Progress(stored=1, duplicates=0, rejected=21)
    assert letters(engine) == [
        (f"value of {length} bytes: only the first {MAX_MESSAGE_BYTES} are kept", MAX_MESSAGE_BYTES, number)
        for length, number in ((17_000_000, 1), (1_000_000, 20))
    ]
    assert "starting again" not in log.read_text()
    engine.dispose()
