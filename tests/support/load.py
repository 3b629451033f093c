"""The producer as a steady load: `sending_at`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fraudstream.config import PROJECT_DIR
from tests.support.jobs import run_script


def count_rows(csv: Path) -> int:
    with csv.open() as lines:
        return sum(1 for _ in lines) - 1


@contextmanager
def sending_at(
    rate: float, csv: Path, environment: Mapping[str, str], *, backlog: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """The producer at work during the block; what it has not sent by then follows at full speed.

    The first `backlog` rows have been sent when the block begins. Every row must be acknowledged: at the end
    the topic holds each of them once.
    """
    command = ["producer_from_csv.py", "--file", str(csv)]
    saved = {**environment, "XDG_STATE_HOME": str(csv.parent)}
    said = csv.with_suffix(".sent")
    if backlog:
        assert _sent_at_once(command, saved, "--limit", str(backlog)) == backlog
    with said.open("wb") as output:
        producer = subprocess.Popen(
            [sys.executable, *command, "--rate", str(rate), *(["--resume"] if backlog else [])],
            cwd=PROJECT_DIR,
            env=saved,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield producer
        assert producer.poll() is None, f"the load ended too early: {said.read_text()}"
        producer.send_signal(signal.SIGTERM)
        assert producer.wait(timeout=150) == 0, said.read_text()
        rest = _sent_at_once(command, saved, "--resume")
        assert backlog + _acknowledged(said.read_text()) + rest == count_rows(csv)
    finally:
        if producer.poll() is None:
            producer.kill()
        producer.wait()


def _sent_at_once(command: Sequence[str], environment: Mapping[str, str], *options: str) -> int:
    """How many rows Kafka has taken of those that the producer sends with these options."""
    sent = run_script(*command, "--rate", "0", *options, environment=environment)
    assert sent.returncode == 0, sent.stderr
    return _acknowledged(sent.stdout)


def _acknowledged(said: str) -> int:
    """The rows of a producer that says at the end that Kafka has taken all that it sent."""
    counts = re.findall(r"^sent=(\d+) acknowledged=(\d+) failed=0$", said, re.M)
    assert counts and counts[-1][0] == counts[-1][1], said
    return int(counts[-1][1])
