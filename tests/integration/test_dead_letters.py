"""Refused records: listed and shown without harm, and sent again once, byte for byte."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from fraudstream.store.dead_letters import Selection, newest_dead_letters
from fraudstream.store.tables import dead_letters
from tests.support.jobs import run_script
from tests.support.kafka_topics import read_topic

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
    refuse(engine, "another topic", 901)
    assert verb("replay", "--partition", "0", "--offset", "5") == (0, ["replayed=1"], "")
    assert verb("replay", "--reason", "not JSON") == (0, ["replayed=699"], "")
    assert verb("replay", "--all") == (0, ["replayed=1"], "")
    assert verb("replay", "--all") == (0, ["replayed=0"], "")

    records = read_topic(settings_env["KAFKA_BOOTSTRAP_SERVERS"], topic)
    sent = {dict(each.headers)["fraudstream-replay-of"].decode(): (each.key, each.value) for each in records}
    places = {f"first/0/{offset}": (b"U1", VALUE) for offset in range(1, 701)}
    assert len(records) == 701 and sent == {**places, "first/0/900": (b"U1", None)}
    kept = newest_dead_letters(engine, Selection(topic), limit=1_000)
    # With neither key nor value there is nothing to send.
    assert len(kept) == 702 and [each.offset for each in kept if not each.replayed_at] == [902]
    assert verb("list", "--limit", "0")[1][0] == "700 not JSON, 700 of them sent again"


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
