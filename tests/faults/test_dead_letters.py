"""Refused records: listed and shown without harm, sent again once, byte for byte, as the job takes them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import Engine, insert, text, update

from fraudstream.config import PROJECT_DIR
from fraudstream.store.dead_letters import DeadLetter, Selection, newest_dead_letters
from fraudstream.store.progress import Progress, read_progress
from fraudstream.store.tables import dead_letters
from fraudstream.topic import ensure_topic
from tests.support.jobs import run_script, running_job
from tests.support.kafka_topics import read_topic
from tests.support.oracle import stored_rows
from tests.support.undisturbed import wait_for_all

NOON = datetime.fromisoformat("2026-01-01 12:00:00")
VALUE = b'{"TransactionID": "T1", \xff\x00\x1b[31m'


def refuse(engine: Engine, topic: str, *offsets: int, **changed: Any) -> None:
    """Enter dead letters as the job does."""
    usual = {
        "topic": topic, "topic_id": "first", "partition_id": 0, "reason": "not JSON", "detail": None,
        "key": b"U1", "value": VALUE, "kafka_time": NOON, "rejected_at": NOON,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(
            insert(dead_letters), [{**usual, "offset": number, **changed} for number in offsets]
        )


@pytest.fixture
def verb(settings_env: dict[str, str]) -> Any:
    """Run `dead-letters` with arguments: (exit code, lines of stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, list[str], str]:
        ended = run_script("-m", "fraudstream", "dead-letters", *arguments, environment=settings_env)
        return ended.returncode, ended.stdout.splitlines(), ended.stderr

    return run


def test_they_are_counted_by_reason_and_the_newest_come_first(engine: Engine, topic: str, verb: Any) -> None:
    refuse(engine, topic, 1, 2, detail="\x1b[31mred\u202e")
    refuse(engine, topic, 3, reason="amount negative", rejected_at=NOON.replace(hour=13))
    refuse(engine, "another topic", 4)
    code, lines, _ = verb("list")
    assert code == 0
    assert lines[:3] == ["2 not JSON", "1 amount negative",
                         "partition 0 offset 3, 2026-01-01 13:00:00: amount negative"]  # fmt: skip
    assert lines[3] == r"partition 0 offset 2, 2026-01-01 12:00:00: not JSON '\x1b[31mred\u202e'"
    assert len(lines) == 5
    assert verb("list", "--reason", "not JSON", "--limit", "1")[1] == [lines[0], lines[3]]


def test_one_is_shown_in_full_and_what_is_not_there_is_said(engine: Engine, topic: str, verb: Any) -> None:
    refuse(engine, topic, 7)
    code, lines, _ = verb("show", "0", "7")
    assert code == 0
    assert f"value: {VALUE!r}" in lines and "reason: not JSON" in lines and "replayed_at: None" in lines
    code, lines, complaint = verb("show", "0", "8")
    assert (code, lines) == (1, []) and "no dead letter of partition 0 offset 8" in complaint


def test_each_is_sent_again_once_as_it_was_and_keeps_its_entry(
    engine: Engine, topic: str, verb: Any, settings_env: dict[str, str]
) -> None:
    refuse(engine, topic, *range(1, 701))
    refuse(engine, topic, 900, reason="null message value", value=None)
    refuse(engine, topic, 902, reason="null message value", key=None, value=None)
    refuse(engine, topic, 903, 904, reason="message too long")
    refuse(engine, "another topic", 901)
    left_out = "not sent again: too long, only their beginnings are kept\n"
    assert verb("replay", "--partition", "0", "--offset", "5") == (0, ["replayed=1"], "")
    assert verb("replay", "--reason", "not JSON") == (0, ["replayed=699"], "")
    assert verb("replay", "--all") == (0, ["replayed=1"], f"2 {left_out}")
    assert verb("replay", "--all") == (0, ["replayed=0"], f"2 {left_out}")
    assert verb("replay", "--partition", "0", "--offset", "903") == (0, ["replayed=0"], f"1 {left_out}")

    records = read_topic(settings_env["KAFKA_BOOTSTRAP_SERVERS"], topic)
    sent = {dict(each.headers)["fraudstream-replay-of"].decode(): (each.key, each.value) for each in records}
    places = {f"first/0/{offset}": (b"U1", VALUE) for offset in range(1, 701)}
    assert len(records) == 701 and sent == {**places, "first/0/900": (b"U1", None)}
    kept = newest_dead_letters(engine, Selection(topic), limit=1_000)
    # With neither key nor value there is nothing to send.
    assert len(kept) == 704 and {each.offset for each in kept if not each.replayed_at} == {902, 903, 904}
    assert verb("list", "--limit", "0")[1][0] == "700 not JSON, 700 of them sent again"


def test_one_too_large_for_the_topic_is_named_and_the_others_are_sent_once(
    engine: Engine, topic: str, verb: Any, settings_env: dict[str, str]
) -> None:
    """The topic takes more than the producer's usual MiB, and less than one of the records."""
    servers = settings_env["KAFKA_BOOTSTRAP_SERVERS"]
    make_topic(servers, topic, {"max.message.bytes": "2000000"})
    small, fits, too_large = b"x" * 50_000, b"x" * 1_500_000, b"x" * 2_500_000
    for first in (1, 11, 21):
        refuse(engine, topic, *range(first, first + 8), value=small)
    refuse(engine, topic, 9, 20, value=fits)
    refuse(engine, topic, 10, 19, value=too_large)
    named = [
        f"Error: partition 0 offset {offset} was not sent: its 2,500,002 bytes are more than the topic takes "
        "(max.message.bytes)"
        for offset in (10, 19)
    ]
    code, lines, complaints = verb("replay", "--all")
    assert (code, lines, complaints.splitlines()) == (1, ["replayed=26"], named)
    code, lines, complaints = verb("replay", "--all")
    assert (code, lines, complaints.splitlines()) == (1, ["replayed=0"], named)

    places = [dict(each.headers)["fraudstream-replay-of"] for each in read_topic(servers, topic)]
    sent = {f"first/0/{offset}".encode() for offset in range(1, 29) if offset not in (10, 19)}
    assert len(places) == 26 and set(places) == sent
    waiting = {
        each.offset for each in newest_dead_letters(engine, Selection(topic), 100) if not each.replayed_at
    }
    assert waiting == {10, 19}


def test_what_kafka_has_taken_is_noted_when_another_record_fails(
    engine: Engine, topic: str, verb: Any, settings_env: dict[str, str]
) -> None:
    """A topic that keeps one record of each key takes none without, which is known only when it is sent."""
    servers = settings_env["KAFKA_BOOTSTRAP_SERVERS"]
    make_topic(servers, topic, {"cleanup.policy": "compact"})
    large = b"x" * 100_000  # so that each is sent by itself
    refuse(engine, topic, 1, 2, 3, 5, value=large)
    refuse(engine, topic, 4, value=large, key=None)
    for already in (3, 0):
        code, lines, complaint = verb("replay", "--all")
        assert (code, lines) == (1, [f"replayed={already}"])
        assert "Kafka did not acknowledge a record" in complaint and "Traceback" not in complaint
    places = [dict(each.headers)["fraudstream-replay-of"] for each in read_topic(servers, topic)]
    assert places == [b"first/0/1", b"first/0/2", b"first/0/3"]

    assert verb("replay", "--partition", "0", "--offset", "5") == (0, ["replayed=1"], "")
    waiting = [
        each.offset for each in newest_dead_letters(engine, Selection(topic), 100) if not each.replayed_at
    ]
    assert waiting == [4]


def make_topic(servers: str, topic: str, settings: dict[str, str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1, topic_configs=settings)])
    admin.close()


def test_it_must_be_said_which(engine: Engine, verb: Any) -> None:
    for arguments in ((), ("--all", "--reason", "not JSON"), ("--offset", "3")):
        code, _, complaint = verb("replay", *arguments)
        assert code == 2 and "--partition" in complaint


def test_without_a_broker_nothing_counts_as_sent(
    engine: Engine, topic: str, settings_env: dict[str, str]
) -> None:
    refuse(engine, topic, 1)
    environment = settings_env | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    ended = run_script("-m", "fraudstream", "dead-letters", "replay", "--all", environment=environment)
    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr and "Traceback" not in ended.stderr
    (letter,) = newest_dead_letters(engine, Selection(topic), limit=2)
    assert letter.replayed_at is None


def transaction(transaction_id: str, time: datetime | str, amount: float = 5) -> bytes:
    fields = {"TransactionID": transaction_id, "UserID": "U1", "Amount": amount, "Time": str(time)}
    return json.dumps(fields).encode()


def send(settings_env: dict[str, str], values: Sequence[bytes], *, produced: datetime | None = None) -> None:
    """Put records into the topic, with the clock of their producer where it is wrong."""
    servers, topic = settings_env["KAFKA_BOOTSTRAP_SERVERS"], settings_env["KAFKA_TOPIC"]
    ensure_topic(servers, topic, 2)
    when = None if produced is None else int(produced.timestamp() * 1000)
    producer = KafkaProducer(bootstrap_servers=servers, acks="all")
    sent = [producer.send(topic, key=b"U1", value=value, timestamp_ms=when) for value in values]
    for each in sent:
        each.get(timeout=30)
    producer.close()


def letters(engine: Engine, topic: str) -> dict[bytes | None, list[DeadLetter]]:
    """The dead letters by their value, the oldest first."""
    found: dict[bytes | None, list[DeadLetter]] = {}
    for letter in sorted(newest_dead_letters(engine, Selection(topic), 100), key=lambda each: each.offset):
        found.setdefault(letter.value, []).append(letter)
    return found


@pytest.mark.timeout(300)
def test_the_running_job_takes_what_is_sent_again_as_any_record(
    engine: Engine, topic: str, verb: Any, settings_env: dict[str, str], tmp_path: Path
) -> None:
    now, log = datetime.now(UTC).replace(tzinfo=None, microsecond=0), tmp_path / "job.log"
    # Its producer's clock was three days slow: for Kafka it came before its own time.
    early, spoilt = transaction("early", now), b'{"TransactionID": "spoilt", \xff'
    first, other = transaction("one", now), transaction("one", now, amount=6)
    send(settings_env, [early], produced=datetime.now(UTC) - timedelta(days=3))
    send(settings_env, [spoilt, first, other])
    with running_job({**settings_env, "MODEL_DIR": str(tmp_path)}, log, "--no-alerts"):
        wait_for_all(engine, topic, 4, log)
        assert {
            value: [each.reason for each in found] for value, found in letters(engine, topic).items()
        } == {
            early: ["time more than a day after its Kafka timestamp"],
            spoilt: ["not JSON"],
            other: ["conflicting duplicate"],
        }

        assert verb("replay", "--all") == (0, ["replayed=3"], "")
        wait_for_all(engine, topic, 7, log)
        assert read_progress(engine, topic) == Progress(stored=2, duplicates=0, rejected=5)
        assert stored_rows(engine) == {
            name: (name, "U1", Decimal(5), None, now, None, None) for name in ("early", "one")
        }
        found = letters(engine, topic)
        # What was mended keeps its entry; what is as bad as before has a second one, and stays where it is.
        assert {value: [bool(each.replayed_at) for each in found[value]] for value in found} == {
            early: [True],
            spoilt: [True, False],
            other: [True, False],
        }
        assert [each.reason for each in found[spoilt] + found[other]] == [
            *["not JSON"] * 2,
            *["conflicting duplicate"] * 2,
        ]
        records = {
            (each.partition, each.offset): each
            for each in read_topic(settings_env["KAFKA_BOOTSTRAP_SERVERS"], topic)
        }
        for before, after in (found[spoilt], found[other]):
            (header,) = records[after.partition_id, after.offset].headers
            place = f"{before.topic_id}/{before.partition_id}/{before.offset}"
            assert header == ("fraudstream-replay-of", place.encode())

        # As if the command had ended between Kafka's word and its own note of it: the record comes twice.
        with engine.begin() as connection:
            connection.execute(
                update(dead_letters).where(dead_letters.c.value == early).values(replayed_at=None)
            )
        where = found[early][0]
        only = ("--partition", str(where.partition_id), "--offset", str(where.offset))
        assert verb("replay", *only) == (0, ["replayed=1"], "")
        assert verb("replay", *only) == (0, ["replayed=0"], "")
        wait_for_all(engine, topic, 8, log)
    assert read_progress(engine, topic) == Progress(stored=2, duplicates=1, rejected=5)
    assert len(stored_rows(engine)) == 2 and len(letters(engine, topic)[early]) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT SUM(transactions) FROM rollup_hourly")) == 2


def older_version(folder: Path) -> Path:
    """The program as it was before a mistake in it was mended: it took nothing from before 2010."""
    folder.mkdir()
    shutil.copy(PROJECT_DIR / "data_cleaning.py", folder)
    package = shutil.copytree(
        PROJECT_DIR / "fraudstream", folder / "fraudstream", ignore=shutil.ignore_patterns("__pycache__")
    )
    schema = package / "schema.py"
    mistaken = schema.read_text().replace('fromisoformat("2000-01-01")', 'fromisoformat("2010-01-01")')
    assert mistaken != schema.read_text()
    schema.write_text(mistaken)
    return folder


@pytest.mark.timeout(300)
def test_what_is_sent_again_outlives_the_job_and_is_taken_by_the_mended_one(
    engine: Engine, topic: str, verb: Any, settings_env: dict[str, str], tmp_path: Path
) -> None:
    values = {
        f"T{number}": transaction(f"T{number}", f"{2000 + number}-05-05 10:20:30") for number in range(20)
    }
    environment, log = {**settings_env, "MODEL_DIR": str(tmp_path)}, tmp_path / "job.log"
    send(settings_env, list(values.values()))
    with running_job(environment, log, "--no-alerts", folder=older_version(tmp_path / "older")) as job:
        wait_for_all(engine, topic, 20, log)
        assert read_progress(engine, topic) == Progress(stored=10, duplicates=0, rejected=10)
        os.killpg(job.pid, signal.SIGSTOP)  # so that it dies before it has seen what is sent again
        assert verb("replay", "--reason", "time before 2000-01-01") == (0, ["replayed=10"], "")
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert len(stored_rows(engine)) == 10

    with running_job(environment, log, "--no-alerts"):
        wait_for_all(engine, topic, 30, log)
    assert read_progress(engine, topic) == Progress(stored=20, duplicates=0, rejected=10)
    assert {name: row[4].year for name, row in stored_rows(engine).items()} == {
        name: 2000 + number for number, name in enumerate(values)
    }
    assert [each.replayed_at is not None for found in letters(engine, topic).values() for each in found] == [
        True
    ] * 10
