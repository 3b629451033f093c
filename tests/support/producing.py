"""The producer as a user runs it, what it says and leaves, and the rows that it must send."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from kafka.consumer.fetcher import ConsumerRecord

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV, child_environment
from fraudstream.schema import FIELD_NAMES
from fraudstream.topic import TopicError
from tests.support.kafka_topics import count_records, fields, read_topic
from tests.support.waiting import wait_until

PARTITIONS = 4
ENOUGH_S = 90


class Producer:
    """Starts producer_from_csv.py for one topic, with a state folder of its own."""

    def __init__(self, servers: str, topic: str, scratch: Path) -> None:
        self.servers = servers
        self.topic = topic
        self.scratch = scratch
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str | Path, stderr: int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        variables = {
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_PARTITIONS": str(PARTITIONS),
            "XDG_STATE_HOME": str(self.scratch / "state"),
        }
        process = subprocess.Popen(
            [sys.executable, PROJECT_DIR / "producer_from_csv.py", *map(str, arguments)],
            cwd=self.scratch,
            env=child_environment(**(variables | environment)),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str | Path, **environment: str) -> Run:
        return finish(self.start(*arguments, **environment))

    def records(self) -> list[ConsumerRecord]:
        return read_topic(self.servers, self.topic)

    def count(self) -> int:
        try:
            return count_records(self.servers, self.topic, PARTITIONS)
        except TopicError:
            return 0

    def wait_for_records(self, at_least: int) -> None:
        wait_until(
            lambda: self.count() >= at_least, timeout=ENOUGH_S, describe=f"{at_least} records in the topic"
        )


class Run:
    """What a finished producer left: exit code, the counts of its last line, and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def counts(self) -> tuple[int, int, int]:
        """(sent, acknowledged, failed)"""
        found = re.fullmatch(r"sent=(\d+) acknowledged=(\d+) failed=(\d+)", self.out.splitlines()[-1])
        assert found, self.out + self.err
        sent, acknowledged, failed = map(int, found.groups())
        return sent, acknowledged, failed


def finish(process: subprocess.Popen[str]) -> Run:
    out, err = process.communicate(timeout=ENOUGH_S)
    return Run(process.returncode, out, err)


def read_line(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    """The next line of this kind that the producer says to its user."""
    assert process.stderr is not None
    for line in process.stderr:
        if wanted(line):
            return line
    raise AssertionError(f"the producer ended with {process.wait()} and never said that")


def csv_rows(path: Path = TRANSACTIONS_CSV) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([",".join(FIELD_NAMES), *rows]) + "\n")
    return path


def as_message(row: dict[str, str]) -> tuple[str | None, ...]:
    return tuple(row[name] or None for name in FIELD_NAMES)


def sent_rows(records: Iterable[ConsumerRecord]) -> list[tuple[str | None, ...]]:
    return [tuple(fields(record)[name] for name in FIELD_NAMES) for record in records]
