"""Whatever the mail server does: the stream keeps its pace and each alert arrives, once where that is known.

One job runs throughout; each test flags users of its own.
"""

from __future__ import annotations

import itertools
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text

from fraudstream.config import child_environment
from fraudstream.kafka_access import KafkaAccess
from fraudstream.stack import Stack
from fraudstream.store import outbox
from fraudstream.topic import ensure_topic
from tests.support.browsing import running_dashboard
from tests.support.jobs import run_script, running_job
from tests.support.mail_servers import MailDoor, MailServer, Received, mail_server
from tests.support.undisturbed import open_tables
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

ANALYST, DESK = "analyst@example.org", "desk@example.org"
BOTH = (ANALYST, DESK)
TOPIC = "transactions-of-the-mail-tests"
HARMLESS_IN_A_WAVE = 10
CALM_WAVES = 6


def listed(mail: Received) -> list[str]:
    """The transactions that a received mail tells of."""
    body = mail.message.get_body(("plain",))
    assert body is not None
    return re.findall(r"^  Transaction: (.*)$", body.get_content().replace("\r", ""), flags=re.MULTILINE)


@dataclass
class Stream:
    """A job at work, with a mail server behind a door, and its producer."""

    engine: Engine
    producer: KafkaProducer
    server: MailServer
    door: MailDoor
    environment: dict[str, str]
    log: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def flag(self, *users: str) -> list[str]:
        """Send a transaction of each user that is flagged, and wait until all are stored; their ids."""
        return self._send([(user, 5_000) for user in users])

    def wave_s(self) -> float:
        """How many seconds some transactions, one of them flagged, take from produced to stored."""
        users = [f"user {next(self._numbers)}" for _ in range(HARMLESS_IN_A_WAVE)]
        began = time.monotonic()
        self._send([("flagged " + users[0], 5_000), *((user, 10) for user in users)])
        return time.monotonic() - began

    def _send(self, amounts: Sequence[tuple[str, int]]) -> list[str]:
        identities = [f"T{next(self._numbers)}" for _ in amounts]
        for identity, (user, amount) in zip(identities, amounts, strict=True):
            transaction = {"TransactionID": identity, "UserID": user, "Amount": amount}
            value = orjson.dumps({**transaction, "Time": "2025-01-01 10:00:00"})
            self.producer.send(TOPIC, key=user.encode(), value=value)
        self.producer.flush()
        wait_until(lambda: self._stored(identities[-1]), timeout=60, describe=self._end_of_log)
        wait_until(lambda: all(map(self._stored, identities)), timeout=60, describe=self._end_of_log)
        return identities

    def _stored(self, identity: str) -> bool:
        query = text("SELECT COUNT(*) FROM clean_data WHERE TransactionID = :identity")
        with self.engine.connect() as connection:
            return connection.scalar(query, {"identity": identity}) == 1

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def said(self, words: str) -> int:
        """How often the job's log has these words."""
        return self.log.read_text(errors="replace").count(words)

    @contextmanager
    def server_does(self, **behaviour: object) -> Iterator[None]:
        """The mail server's fields have these values during the block."""
        usual = {name: getattr(self.server, name) for name in behaviour}
        vars(self.server).update(behaviour)
        try:
            yield
        finally:
            vars(self.server).update(usual)

    def wait_until_all_is_sent(self) -> None:
        wait_until(lambda: outbox.pending(self.engine).unsent == 0, timeout=60, describe=self._end_of_log)

    def mails_about(self, *identities: str) -> list[Received]:
        return [mail for mail in self.server.received if set(listed(mail)) & set(identities)]

    def attempts(self, identity: str) -> int:
        """How often the mail about this transaction was taken up; 0 while there is none."""
        query = text(
            "SELECT attempts FROM mails JOIN alerts USING (mail_id) WHERE alerts.TransactionID = :identity"
        )
        with self.engine.connect() as connection:
            return connection.scalar(query, {"identity": identity}) or 0


@pytest.fixture(scope="module")
def stream(
    stack: Stack, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stream]:
    folder = tmp_path_factory.mktemp("mail")
    database, addresses = new_database(), stack.addresses().environment()
    engine, log = open_tables(database), folder / "job.log"
    producer = KafkaProducer(bootstrap_servers=addresses["KAFKA_BOOTSTRAP_SERVERS"], acks="all")
    with mail_server() as server:
        door = MailDoor(server.port)
        door.open()
        settings = {
            **addresses,
            "MYSQL_URL": database,
            "KAFKA_TOPIC": TOPIC,
            "MODEL_DIR": str(folder),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(door.port),
            "RECEIVER_EMAIL": ",".join(BOTH),
            "ALERT_COOLDOWN_SECONDS": "600",
        }
        environment = child_environment(**settings)
        ensure_topic(KafkaAccess(addresses["KAFKA_BOOTSTRAP_SERVERS"]), TOPIC, 4)
        with running_job(environment, log):
            stream = Stream(engine, producer, server, door, environment, log)
            stream.wave_s()
            yield stream
        door.shut()
    producer.close()
    engine.dispose()


def assert_arrived_once(stream: Stream, identities: Sequence[str], recipients: Sequence[str] = BOTH) -> None:
    """Each recipient has been told of each transaction exactly once."""
    told = sorted(
        (identity, recipient)
        for mail in stream.mails_about(*identities)
        for identity in listed(mail)
        for recipient in mail.recipients
    )
    assert told == sorted(itertools.product(identities, recipients))


def assert_same_mail_twice(mails: Sequence[Received]) -> None:
    first, second = mails
    assert first.content == second.content
    assert first.message["Message-ID"]
    assert first.recipients == second.recipients == BOTH


@pytest.fixture(scope="module")
def calm(stream: Stream) -> list[float]:
    """Seconds to commit a wave while the mail server is as it should be."""
    seconds = [stream.wave_s() for _ in range(CALM_WAVES)]
    stream.wait_until_all_is_sent()
    return seconds


def assert_same_pace(during: Sequence[float], calm: Sequence[float]) -> None:
    print(f"seconds to commit, calm {sorted(calm)}, in trouble {sorted(during)}")
    assert len(during) >= 4, "the trouble was over too soon to show anything"
    assert statistics.median(during) < 2 * statistics.median(calm) + 0.5


def test_a_server_that_takes_a_mail_and_falls_silent_does_not_slow_the_stream(
    stream: Stream, calm: list[float]
) -> None:
    gave_up, speak = stream.said("not sent, again in"), threading.Event()
    hanging = []
    with stream.server_does(before_data_reply=speak.wait):
        unknown = stream.flag("of the unknown outcome")
        wait_until(lambda: stream.mails_about(*unknown), timeout=20, describe="the server has the mail")
        while stream.said("not sent, again in") == gave_up:
            hanging.append(stream.wave_s())
    speak.set()
    stream.wait_until_all_is_sent()
    assert_same_pace(hanging, calm)
    assert_same_mail_twice(stream.mails_about(*unknown))


def test_a_server_as_slow_as_a_tortoise_gets_each_mail_once_and_does_not_slow_the_stream(
    stream: Stream, calm: list[float]
) -> None:
    during = []
    with stream.server_does(command_delay_s=1.5):
        slow = stream.flag("slow 1", "slow 2")
        while len(stream.mails_about(*slow)) < 2:
            during.append(stream.wave_s())
    stream.wait_until_all_is_sent()
    assert_same_pace(during, calm)
    assert_arrived_once(stream, slow)


def let_pass(engine: Engine, minutes: int) -> None:
    """As if so much time had passed: what the outbox compares with the server's clock lies further back."""
    back = f"INTERVAL {minutes} MINUTE"
    instants = {
        "mails": ("created_at", "next_attempt_at", "sent_at"),
        "alerts": ("created_at",),
        "alert_holds": ("held_until",),
    }
    with engine.begin() as connection:
        for table, columns in instants.items():
            moved = ", ".join(f"{column} = {column} - {back}" for column in columns)
            connection.execute(text(f"UPDATE {table} SET {moved}"))


def test_the_alerts_of_an_hour_without_a_mail_server_all_arrive_when_it_is_back(stream: Stream) -> None:
    stream.door.shut()
    first = stream.flag("away")
    missed = list(first)
    for tries in (1, 2, 3):
        wait_until(lambda tries=tries: stream.attempts(*first) >= tries, timeout=40)
        missed += stream.flag("away", f"away {tries}")
        let_pass(stream.engine, 20)
    wait_until(lambda: stream.attempts(*first) >= 4, timeout=40)
    assert stream.mails_about(*missed) == []
    with stream.engine.connect() as connection:
        query = "SELECT state FROM component_status WHERE component = 'alerts'"
        assert connection.scalar(text(query)) == "error"
    stream.door.open()
    let_pass(stream.engine, 20)  # the cool-down of the alerts that were mailed last is over, too
    stream.wait_until_all_is_sent()
    assert_arrived_once(stream, missed)


@pytest.mark.parametrize(
    "trouble",
    [
        {"on_mail": "421 closing"},
        {"on_mail": "451 busy"},
        {"on_data": "452 disk full"},
        {"drop_at": "RCPT"},
        {"greylist": set()},
    ],
    ids=["closing", "busy", "full", "hanging up", "greylisting"],
)
def test_a_mail_that_was_not_taken_is_offered_again_and_arrives_once(
    stream: Stream, trouble: dict[str, object], request: pytest.FixtureRequest
) -> None:
    with stream.server_does(**trouble):
        waiting = stream.flag(f"waits for {request.node.callspec.id}")
        wait_until(lambda: stream.attempts(*waiting) >= 2, timeout=30, describe="it is tried again")
        if "greylist" in trouble:
            stream.wait_until_all_is_sent()
        else:
            assert stream.mails_about(*waiting) == []
    stream.wait_until_all_is_sent()
    assert_arrived_once(stream, waiting)


def test_a_connection_that_breaks_in_the_middle_of_a_mail_makes_no_second_one(stream: Stream) -> None:
    broken = stream.said("the connection was lost before")
    stream.door.cut_after = 1_000
    halved = stream.flag("half a mail")
    wait_until(lambda: stream.said("the connection was lost before") > broken, timeout=30)
    assert stream.mails_about(*halved) == []
    stream.door.cut_after = None
    stream.wait_until_all_is_sent()
    assert_arrived_once(stream, halved)


def test_a_connection_that_breaks_before_the_answer_brings_the_same_mail_again(stream: Stream) -> None:
    with stream.server_does(drop_at="DATA"):
        taken = stream.flag("taken without a word")
        wait_until(lambda: stream.mails_about(*taken), timeout=30)
    stream.wait_until_all_is_sent()
    assert_same_mail_twice(stream.mails_about(*taken))


def test_only_the_recipient_who_refused_is_tried_again(stream: Stream) -> None:
    before = stream.server.offered.count(ANALYST)
    with stream.server_does(on_rcpt={DESK: "450 mailbox busy"}):
        partly = stream.flag("for one only")
        wait_until(lambda: stream.attempts(*partly) >= 3, timeout=30, describe="it is tried again")
        assert [mail.recipients for mail in stream.mails_about(*partly)] == [(ANALYST,)]
    stream.wait_until_all_is_sent()
    assert stream.server.offered.count(ANALYST) == before + 1
    to_analyst, to_desk = stream.mails_about(*partly)
    assert to_desk.recipients == (DESK,)
    assert to_analyst.content == to_desk.content


def test_a_mail_refused_for_good_is_seen_in_status_and_dashboard_and_can_be_sent_again(
    stream: Stream, page: Page, tmp_path: Path
) -> None:
    def alerts(verb: str) -> list[str]:
        ended = run_script("-m", "fraudstream", "alerts", verb, environment=stream.environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    with stream.server_does(on_data="554 looks like spam"):
        refused = stream.flag("spam")
        wait_until(lambda: outbox.pending(stream.engine).failed == 1, timeout=30)
    counts, trouble = alerts("status")
    assert counts.endswith(" failed=1")
    assert trouble.endswith("failed after 1 attempts: 554 looks like spam")
    with running_dashboard(tmp_path / "log", MYSQL_URL=stream.environment["MYSQL_URL"]) as address:
        page.goto(address)
        expect(page.get_by_text("1 mails failed")).to_be_visible()
        page.goto("about:blank")

    assert stream.mails_about(*refused) == []
    assert alerts("retry") == ["retried=1"]
    wait_until(lambda: outbox.pending(stream.engine).failed == 0, timeout=30)
    stream.wait_until_all_is_sent()
    assert_arrived_once(stream, refused)
    assert alerts("status") == [f"waiting=0 held=0 sending=0 sent={sent(stream.engine)} failed=0"]


def sent(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT COUNT(*) FROM mails WHERE state = 'sent'")) or 0
