"""The job, killed again and again at chosen instants while it works: `die_and_come_back`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sqlalchemy.engine import URL

from tests.support.jobs import running_job
from tests.support.mail_servers import MailServer
from tests.support.mysql_relay import MySQLRelay

_LONGEST_WAIT_S = 100
_LONGEST_LIFE_S = 20


class Moment(StrEnum):
    """When the job dies."""

    BEFORE_COMMIT = "everything of a batch is written, and not committed"
    AFTER_COMMIT = "a batch is committed, and neither the job nor Spark knows"
    DURING_READ = "the executors look up what is stored"
    MAIL_ACCEPTED = "the mail server has taken a mail, and the outbox does not know"
    ANY = "any time from its start on"


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

    def now(self, moment: Moment) -> None:
        """This moment is now: kill, if it is the one that was waited for."""
        with self._lock:
            if self._job is None or self._moment is not moment:
                return
            self.kills.append(moment)
            os.killpg(self._job.pid, signal.SIGKILL)
            self._job = None


@contextmanager
def watched_database(database: URL, killer: Killer) -> Iterator[URL]:
    """The same database behind a relay that tells the killer what goes by."""

    def on_commit(stage: str) -> None:
        killer.now(Moment.BEFORE_COMMIT if stage == "before" else Moment.AFTER_COMMIT)

    def on_statement(statement: bytes) -> None:
        if b"clean_data" in statement and b" IN (" in statement and statement.startswith(b"SELECT"):
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
    mail_server: MailServer,
    rng: random.Random,
) -> None:
    """Start the job once for each of `moments`, and wait until it has been killed there."""
    mail_server.before_data_reply = lambda: killer.now(Moment.MAIL_ACCEPTED)
    for moment in moments:
        with running_job(environment, log) as job:
            killer.aim(job, moment)
            if moment is Moment.ANY:
                with suppress(subprocess.TimeoutExpired):
                    job.wait(timeout=rng.uniform(0, _LONGEST_LIFE_S))
                killer.now(moment)
            said = job.wait(timeout=_LONGEST_WAIT_S)
            assert said == -signal.SIGKILL, log.read_text(errors="replace")[-4000:]
