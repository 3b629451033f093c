"""The job is killed over and over under load: the tables become those of a run that nobody disturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.config import PROJECT_DIR
from fraudstream.simulator import simulate
from tests.support.jobs import run_script, running_job
from tests.support.kills import Killer, Moment, die_and_come_back, watched_database
from tests.support.mail_servers import MailServer, Received, mail_server
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, metrics_total, whole_tables

pytestmark = pytest.mark.timeout(300)

ROWS = 3_500
RATE = 25


@contextmanager
def sending_at(rate: float, csv: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The producer at work during the block; what it has not sent by then follows at full speed."""
    command = [sys.executable, "producer_from_csv.py", "--file", str(csv)]
    producer = subprocess.Popen(
        [*command, "--rate", str(rate)],
        cwd=PROJECT_DIR,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert producer.poll() is None, "the load ended too early to show anything"
        producer.send_signal(signal.SIGTERM)
        producer.wait(timeout=60)
        rest = run_script(*command[1:], "--rate", "0", "--resume", environment=environment)
        assert rest.returncode == 0, rest.stderr
    finally:
        if producer.poll() is None:
            producer.kill()
        producer.wait()


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
    moments: list[Moment],
    *,
    rows: int,
    rate: float,
    environment: Mapping[str, str],
    new_database: Callable[[], str],
    folder: Path,
) -> None:
    """Kill the job at each of `moments` while the producer sends; then compare all with one calm run."""
    rng = random.Random(20)
    csv, log = folder / "load.csv", folder / "job.log"
    simulate(rows=rows, users=60, days=20, seed=5).transactions.to_csv(csv, index=False)
    database, killer = new_database(), Killer()
    engine = open_tables(database)
    with mail_server(MailServer()) as server, watched_database(make_url(database), killer) as watched:
        disturbed = {
            **environment,
            "MYSQL_URL": watched.render_as_string(hide_password=False),
            "MAX_RECORDS_PER_BATCH": "150",
            "SMTP_PORT": str(server.port),
            "RECEIVER_EMAIL": "analyst@example.org",
            "ALERT_COOLDOWN_SECONDS": "0",
        }
        with sending_at(rate, csv, disturbed):
            die_and_come_back(disturbed, log, moments, killer, server, rng)
        assert killer.kills == moments
        records = sum(1 for _ in csv.open()) - 1
        with running_job(disturbed, log):
            wait_for_all(engine, environment["KAFKA_TOPIC"], records, log)
            let_leases_run_out(engine)
            wait_until(lambda: everything_is_mailed(engine), timeout=100, describe="every alert is mailed")

    present = whole_tables(engine)
    expected = undisturbed_tables(environment, new_database(), records, folder / "calm.log")
    assert_same_tables(present, expected)
    (totals,) = present["pipeline_totals"]
    assert metrics_total(engine) == tuple(totals[1:])
    flagged = {row.TransactionID for row in present["clean_data"] if row.Is_Fraud == "YES"}
    assert_each_alert_has_one_mail(server.received, flagged, deaths=len(moments))


def test_five_deaths_under_load_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    kill_under_load(
        list(Moment),
        rows=ROWS,
        rate=RATE,
        environment=settings_env,
        new_database=new_database,
        folder=tmp_path,
    )
