"""The job, killed again and again at chosen instants under load, and all compared: `kill_under_load`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL, make_url

from fraudstream.simulator import simulate
from fraudstream.store.locks import lock_name
from fraudstream.store.progress import read_progress
from tests.support.jobs import SHORT_LIVED, running_job
from tests.support.load import count_rows, sending_at
from tests.support.mail_servers import MailServer, Received, mail_server
from tests.support.mysql_relay import MySQLRelay
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, metrics_total, whole_tables

_SMALL = 100
_LONGEST_WAIT_S = 200
_LONGEST_LIFE_S = 16


class Moment(StrEnum):
    """When the job dies."""

    BEFORE_COMMIT = "everything of a batch is written, and not committed"
    AFTER_COMMIT = "a batch is committed, and neither the job nor Spark knows"
    DURING_READ = "what is stored is looked up"
    MAIL_ACCEPTED = "the mail server has taken a mail, and the outbox does not know"
    ANY = "any time from its start on"


@dataclass(frozen=True)
class Death:
    """When a job died, and how many records were committed at its start and at its end."""

    moment: Moment
    committed_before: int
    committed_after: int

    @property
    def committed(self) -> int:
        return self.committed_after - self.committed_before


@dataclass
class Killer:
    """Ends the job that it aims at with SIGKILL, all its processes at once, when the moment has come."""

    _job: subprocess.Popen[bytes] | None = None
    _moment: Moment | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    kills: list[Moment] = field(default_factory=list)

    def aim(self, job: subprocess.Popen[bytes], moment: Moment) -> None:
        with self._lock:
            self._job, self._moment = job, moment

    def now(self, moment: Moment) -> bool:
        """This moment is now: kill, if it is the one that was waited for; whether it was."""
        with self._lock:
            if self._job is None or self._moment is not moment:
                return False
            self.kills.append(moment)
            kill_all_processes(self._job)
            self._job = None
            return True


def kill_all_processes(job: subprocess.Popen[bytes]) -> None:
    """At once, and then Spark's Python workers, who are in a process group of their own."""
    children = psutil.Process(job.pid).children(recursive=True)
    os.killpg(job.pid, signal.SIGKILL)
    for child in children:
        with suppress(psutil.NoSuchProcess):  # it was in the job's group
            child.kill()


@contextmanager
def watched_database(database: URL, killer: Killer) -> Iterator[URL]:
    """The same database behind a relay that tells the killer what goes by."""

    def on_commit(stage: str) -> None:
        if stage == "after":
            killer.now(Moment.AFTER_COMMIT)
        elif killer.now(Moment.BEFORE_COMMIT):
            raise ConnectionAbortedError  # so that the server never hears the COMMIT

    def on_statement(statement: bytes) -> None:
        if statement.startswith(b"SELECT max(clean_data.`TransactionID`)"):  # so begins the look-up of ids
            killer.now(Moment.DURING_READ)

    assert database.host is not None and database.port is not None
    relay = MySQLRelay(database.host, database.port, on_commit=on_commit, on_statement=on_statement)
    relay.open()
    try:
        yield database.set(host="127.0.0.1", port=relay.port)
    finally:
        relay.shut()


def die_and_come_back(
    environment: Mapping[str, str],
    log: Path,
    moments: Sequence[Moment],
    killer: Killer,
    rng: random.Random,
    engine: Engine,
) -> list[Death]:
    """Start the job once for each of `moments`, and wait until it has been killed there."""
    deaths: list[Death] = []
    committed = 0
    for moment in moments:
        with running_job(environment, log) as job:
            killer.aim(job, moment)
            if moment is Moment.ANY:
                with suppress(subprocess.TimeoutExpired):
                    job.wait(timeout=rng.uniform(0, _LONGEST_LIFE_S))
                killer.now(moment)
            said = job.wait(timeout=_LONGEST_WAIT_S)
            assert said == -signal.SIGKILL, log.read_text(errors="replace")[-4000:]
        before, committed = committed, committed_by_the_dead(engine, environment["KAFKA_TOPIC"])
        deaths.append(Death(moment, before, committed))
    return deaths


def committed_by_the_dead(engine: Engine, topic: str) -> int:
    """How many records are committed, when a commit that a job sent before it died has ended, too."""
    lock = lock_name(engine.url.database or "", topic)
    with engine.connect() as connection:
        wait_until(
            lambda: connection.scalar(text("SELECT IS_FREE_LOCK(:name)"), {"name": lock}),
            timeout=60,
            describe="the dead job's connection ends",
        )
    return read_progress(engine, topic).accounted_for


def assert_died_beside_the_commit(deaths: Sequence[Death]) -> None:
    """Before it: the job has committed nothing. After it: something."""
    committed = {moment: [each.committed for each in deaths if each.moment is moment] for moment in Moment}
    assert not any(committed[Moment.BEFORE_COMMIT]), deaths
    assert all(committed[Moment.AFTER_COMMIT]), deaths


def let_leases_run_out(engine: Engine) -> None:
    """The minute after which the mail of a sender that died is taken up by another is over."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE mails SET next_attempt_at = UTC_TIMESTAMP(6) WHERE state = 'sending' AND attempts > 0"
            )
        )


def everything_is_mailed(engine: Engine) -> bool:
    with engine.connect() as connection:
        return not connection.scalar(
            text(
                "SELECT (SELECT COUNT(*) FROM alerts WHERE state <> 'mailed') + "
                "(SELECT COUNT(*) FROM mails WHERE state <> 'sent')"
            )
        )


def plain(mail: Received) -> str:
    body = mail.message.get_body(("plain",))
    assert body is not None
    return body.get_content()


def assert_each_alert_has_one_mail(received: list[Received], flagged: set[str], deaths: int) -> None:
    """Every flagged transaction is in exactly one mail; a mail comes twice at most where its sender died."""
    copies: dict[str, list[Received]] = defaultdict(list)
    for mail in received:
        copies[str(mail.message["Message-ID"])].append(mail)
    found = Counter(word for mails in copies.values() for word in set(plain(mails[0]).split()) & flagged)
    assert found == Counter(dict.fromkeys(flagged, 1))
    for mails in copies.values():
        assert len({(mail.message["Date"], mail.message["To"], plain(mail)) for mail in mails}) == 1
    assert len(received) - len(copies) <= deaths


def kill_under_load(
    moments: Sequence[Moment],
    *,
    rows: int,
    rate: float,
    seed: int,
    environment: Mapping[str, str],
    new_database: Callable[[], str],
    folder: Path,
    backlog: int = 0,
    largest_batch: int = _SMALL,
) -> list[Death]:
    """Kill the job at each of `moments` while the producer sends; then compare all with one calm run.

    The first `backlog` rows are in Kafka before the first job starts. No job that dies has more than
    `largest_batch` records in a batch; what they all say is in killed.log of `folder`.
    """
    rng = random.Random(seed)
    csv, log = folder / "load.csv", folder / "last.log"
    simulate(rows=rows, users=rows // 40, days=20, seed=5).transactions.to_csv(csv, index=False)
    database, killer = new_database(), Killer()
    engine = open_tables(database)
    with mail_server(MailServer()) as server, watched_database(make_url(database), killer) as watched:
        disturbed = {
            **environment,
            **SHORT_LIVED,
            "MYSQL_URL": watched.render_as_string(hide_password=False),
            "SMTP_PORT": str(server.port),
            "RECEIVER_EMAIL": "analyst@example.org",
            "ALERT_COOLDOWN_SECONDS": "0",
        }
        server.before_data_reply = lambda: killer.now(Moment.MAIL_ACCEPTED)
        limited = {**disturbed, "MAX_RECORDS_PER_BATCH": str(largest_batch)}
        with sending_at(rate, csv, disturbed, backlog=backlog):
            deaths = die_and_come_back(limited, folder / "killed.log", moments, killer, rng, engine)
        assert killer.kills == list(moments)
        assert_died_beside_the_commit(deaths)
        records = count_rows(csv)
        let_leases_run_out(engine)
        with running_job(disturbed, log):
            wait_for_all(engine, environment["KAFKA_TOPIC"], records, log)
            wait_until(lambda: everything_is_mailed(engine), timeout=100, describe="every alert is mailed")

    present = whole_tables(engine)
    calm = {**environment, **SHORT_LIVED}
    expected = undisturbed_tables(calm, new_database(), records, folder / "calm.log")
    assert_same_tables(present, expected)
    (totals,) = present["pipeline_totals"]
    assert metrics_total(engine) == tuple(totals[1:])
    flagged = {row.TransactionID for row in present["clean_data"] if row.Is_Fraud == "YES"}
    assert_each_alert_has_one_mail(server.received, flagged, deaths=len(moments))
    return deaths
