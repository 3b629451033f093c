"""Fuzzed messages through the real job: what was sent, what became of each, and what went out by mail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from kafka import KafkaProducer
from sqlalchemy import Engine, func, inspect, select, text

from fraudstream.alerts.compose import harmless
from fraudstream.schema import FIELD_NAMES, MAX_MESSAGE_BYTES, Rejection
from fraudstream.store.progress import read_progress
from fraudstream.store.tables import alerts, batch_metrics, clean_data, dead_letters, metadata
from fraudstream.topic import ensure_topic
from tests.support.fuzz import HOSTILE_TEXTS, Message
from tests.support.fuzz_oracle import Verdict, verdict
from tests.support.jobs import running_job
from tests.support.mail_servers import Received, mail_server
from tests.support.oracle import Row
from tests.support.undisturbed import open_tables
from tests.support.waiting import wait_until

Place = tuple[int, int]
PARTITIONS = 4
RECIPIENT = "analyst@example.org"
DASHBOARD = "http://dashboard.example.org"


@dataclass(frozen=True)
class Sent:
    """A message as Kafka took it; `kafka_time` in UTC."""

    message: Message
    place: Place
    kafka_time: datetime


@dataclass(frozen=True)
class FuzzRun:
    """The job's run over `sent`: the database it filled, the mails it sent, and its log."""

    engine: Engine
    topic: str
    sent: Sequence[Sent]
    mails: Sequence[Received]
    log: str

    def assert_no_harm(self) -> None:
        assert signs_of_trouble(self.log) == []
        assert_each_is_accounted_for(self.engine, self.topic, self.sent)
        assert_nothing_was_executed_in_the_database(self.engine)
        assert_mails_carry_nothing_but_text(self.mails)
        assert_mails_show_hostile_texts(self.mails)


def run_job_over(
    messages: Sequence[Message], database: str, topic: str, environment: Mapping[str, str], log: Path
) -> FuzzRun:
    """Send the messages to the running job, and end it once all are accounted for and all alerts mailed."""
    engine = open_tables(database)
    with mail_server() as inbox:
        mails = {
            "SMTP_PORT": str(inbox.port),
            "SENDER_EMAIL": "alerts@example.org",
            "RECEIVER_EMAIL": RECIPIENT,
            "ALERT_COOLDOWN_SECONDS": "0",
            "DASHBOARD_URL": DASHBOARD,
        }
        with running_job({**environment, **mails}, log) as job:
            sent = send_all(environment["KAFKA_BOOTSTRAP_SERVERS"], topic, messages)
            wait_until(
                lambda: job.poll() is not None or read_progress(engine, topic).accounted_for >= len(sent),
                timeout=400,
                describe=lambda: f"{read_progress(engine, topic)}\n{log.read_text()[-4000:]}",
            )
            assert job.poll() is None, log.read_text()[-8000:]
            wait_until(lambda: everything_is_mailed(engine), timeout=200, describe="every alert is mailed")
            assert job.poll() is None
    return FuzzRun(engine, topic, sent, inbox.received, log.read_text())


def send_all(servers: str, topic: str, messages: Sequence[Message]) -> list[Sent]:
    """Send them in this order and return when Kafka has acknowledged all."""
    ensure_topic(servers, topic, PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5, batch_size=131_072)
    try:
        futures = [producer.send(topic, key=each.key, value=each.value) for each in messages]
        places = [future.get(timeout=120) for future in futures]
    finally:
        producer.close()
    return [
        Sent(message, (place.partition, place.offset), datetime.fromtimestamp(place.timestamp / 1000, UTC))
        for message, place in zip(messages, places, strict=True)
    ]


def assert_each_is_accounted_for(engine: Engine, topic: str, sent: Sequence[Sent]) -> None:
    """Stored as the oracle says, or a dead letter with its reason and its bytes, or equal to a stored one."""
    stored, refused = _stored(engine), _refused(engine)
    by_id = {row[0]: row for row in stored.values()}
    duplicates, wrong = 0, []
    for each in sent:
        expected = verdict(each.message.value, each.kafka_time)
        letter, row = refused.get(each.place), stored.get(each.place)
        duplicates += letter is None and row is None
        if not _is_right(expected, each.message, letter, row, by_id):
            wrong.append(
                (each.message.value or b"")[:500],
            )
            print(f"sent {each.message!r:.700}\nexpected {expected}\nfound {letter!r:.400} {row}")
    assert wrong == []

    assert stored.keys() | refused.keys() <= {each.place for each in sent}
    progress = read_progress(engine, topic)
    assert (progress.stored, progress.duplicates, progress.rejected) == (
        len(stored),
        duplicates,
        len(refused),
    )
    assert len(stored) + duplicates + len(refused) == len(sent)


Letter = tuple[str, bytes | None, bytes | None]


def _is_right(
    expected: Verdict, message: Message, letter: Letter | None, row: Row | None, by_id: dict[str, Row]
) -> bool:
    if letter and letter[1:] != (message.key, message.value and message.value[:MAX_MESSAGE_BYTES]):
        return False
    if expected.row is None:
        return row is None and letter is not None and letter[0] in expected.reasons
    if row is not None:
        return letter is None and row == expected.row
    # Another one has the id: this one is the same once more, or contradicts it.
    first = by_id.get(expected.row[0])
    if first is None:
        return False
    if letter is None:
        return first == expected.row
    return letter[0] == Rejection.CONFLICTING_DUPLICATE and first != expected.row


def _stored(engine: Engine) -> dict[Place, Row]:
    columns = [clean_data.c[name] for name in ("partition_id", "offset", *FIELD_NAMES)]
    with engine.connect() as connection:
        return {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(select(*columns))}


def _refused(engine: Engine) -> dict[Place, Letter]:
    columns = [dead_letters.c[name] for name in ("partition_id", "offset", "reason", "key", "value")]
    with engine.connect() as connection:
        return {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(select(*columns))}


def assert_nothing_was_executed_in_the_database(engine: Engine) -> None:
    """All tables are there and no other, and each flag has its alert."""
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    with engine.connect() as connection:
        flagged = connection.scalars(select(clean_data.c.TransactionID).where(clean_data.c.Is_Fraud == "YES"))
        alerted = connection.scalars(select(alerts.c.TransactionID))
        assert Counter(alerted.all()) == Counter(flagged.all())
        sums = text("SELECT SUM(transactions), SUM(amount) FROM rollup_hourly")
        by_rollup = connection.execute(sums).one()
        by_rows = connection.execute(select(func.count(), func.sum(clean_data.c.Amount))).one()
        assert tuple(by_rollup) == tuple(by_rows)


def pace(engine: Engine) -> str:
    """The job's records and seconds a batch."""
    columns = batch_metrics.c
    query = select(columns.stored, columns.duplicates, columns.rejected, columns.stage_ms).order_by(
        columns.id
    )
    with engine.connect() as connection:
        return "\n".join(
            f"{row[0] + row[1] + row[2]} records: {row[3]} ms" for row in connection.execute(query)
        )


def everything_is_mailed(engine: Engine) -> bool:
    """No alert waits and no mail is on its way, or failed."""
    waiting = text(
        "SELECT (SELECT COUNT(*) FROM alerts WHERE state <> 'mailed') "
        "+ (SELECT COUNT(*) FROM mails WHERE state <> 'sent')"
    )
    with engine.connect() as connection:
        return connection.scalar(waiting) == 0


_HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
}  # fmt: skip
_TAGS = {"html", "head", "meta", "title", "body", "table", "tr", "td", "th", "h1", "bdi", "a"}
_ATTRIBUTES = {
    "lang", "charset", "name", "content", "style", "role", "width", "cellpadding", "cellspacing", "align",
    "valign",
    "scope", "href",
}  # fmt: skip


def assert_mails_carry_nothing_but_text(received: Sequence[Received]) -> None:
    """No mail has a header, a recipient, a part, a tag or a link that the data brought in."""
    for each in received:
        assert each.recipients == (RECIPIENT,)
        mail = each.message
        assert Counter(mail.keys()) == Counter(_HEADERS) and mail["To"] == RECIPIENT, mail.items()
        assert not any("injected" in name.casefold() for name, _ in mail.items())
        assert not mail.defects and mail.get_content_type() == "multipart/alternative"
        parts = list(mail.iter_parts())
        assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
        assert not any(line.startswith(_FORGED) for line in parts[0].get_content().splitlines())
        page = _Page(parts[1].get_content())
        assert page.tags <= _TAGS and page.attributes <= _ATTRIBUTES, (page.tags, page.attributes)
        assert all(link.startswith(DASHBOARD) for link in page.links), page.links


_FORGED = ("Bcc:", "Subject:", "Content-Type:", "MAIL FROM", "injected", "--\n")


def assert_mails_show_hostile_texts(received: Sequence[Received]) -> None:
    """Each hostile text is in the mails to be read, as it is, but for what acts on its surroundings."""
    plain, pages = [], defaultdict(int)
    for each in received:
        parts = list(each.message.iter_parts())
        plain.append(parts[0].get_content())
        for shown in _Page(parts[1].get_content()).texts:
            pages[shown] += 1
    everything = "\n".join(plain)
    for number, hostile in enumerate(HOSTILE_TEXTS):
        shown = harmless(" ".join(f"{hostile} {number}".split()))
        assert shown in everything, shown
        assert pages[shown], shown


class _Page(HTMLParser):
    """What a mail program would make of an HTML part."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links += [value or "" for name, value in attributes if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags.add("a comment")

    def unknown_decl(self, data: str) -> None:
        self.tags.add("a declaration")


def signs_of_trouble(log: str) -> list[str]:
    """The lines that tell of trouble, none when the query ran from start to end."""
    signs = ("the query failed", "starting again", "Traceback", "StackOverflow", "OutOfMemory", " ERROR ")
    starts = ["started more than once"] if log.count("Streaming started") != 1 else []
    return starts + [line for line in log.splitlines() if any(sign in line for sign in signs)]
