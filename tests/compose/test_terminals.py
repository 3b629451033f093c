"""The README's way: infrastructure in containers, then three terminals, by nothing but `.env.example`."""

from __future__ import annotations

import itertools
import shutil
import smtplib
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from fraudstream import topic
from fraudstream.config import TRANSACTIONS_CSV, Settings
from fraudstream.schema import FIELD_NAMES
from fraudstream.store.engine import make_engine
from fraudstream.store.progress import Progress, read_progress
from tests.support.browsing import Dashboard, running_dashboard
from tests.support.compose import OLD, Compose, old_compose_is_there, terminal
from tests.support.jobs import run_script, running_job
from tests.support.mailpit import Mail, mails
from tests.support.oracle import Expected, expected_of_csv, stored_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(1_800)

ROWS, RATE = 3_000, 150
NOT_HELD_BACK = "alerts WHERE state = 'waiting' AND UserID NOT IN (SELECT UserID FROM alert_holds)"
WITHOUT_AMOUNT = 'BAD-1,U001,,Cairo,2025-01-02 00:00:00,iOS,Amazon\n"BAD,2",U002,,,2025-01-02 00:00:00,,\n'


@dataclass(frozen=True)
class Run:
    """What one use of the three terminals left behind."""

    sent: int
    expected: Expected
    progress: Progress
    mails: list[Mail]
    log: str


@pytest.fixture(scope="module")
def infrastructure(compose: Compose) -> Compose:
    compose.up()
    return compose


@pytest.fixture(scope="module")
def run(
    infrastructure: Compose, engine: Engine, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A slice of the CSV through everything; Kafka restarts and MySQL is killed while it is under way."""
    folder, scratch = infrastructure.folder, tmp_path_factory.mktemp("terminals")
    csv, log = slice_of_csv(scratch), scratch / "job.log"
    expected = expected_of_csv(csv)
    environment = terminal(XDG_STATE_HOME=str(scratch))
    with running_job(environment, log, folder=folder):
        producer = subprocess.Popen(
            [sys.executable, "producer_from_csv.py", "--file", str(csv), "--rate", str(RATE)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for(engine, settings, 300, log)
        infrastructure("restart", "kafka")
        wait_for(engine, settings, 1_000, log)
        infrastructure("kill", "mysql")
        infrastructure.up()
        said, _ = producer.communicate(timeout=200)
        sent = ROWS + WITHOUT_AMOUNT.count("\n")
        assert f"sent={sent} acknowledged={sent} failed=0" in said
        progress = wait_for(engine, settings, sent, log)
        wait_until(
            lambda: count(engine, NOT_HELD_BACK) == count(engine, "mails WHERE state <> 'sent'") == 0,
            timeout=150,  # a mail whose mark died with MySQL is handed out again when its lease has run out
            describe="every alert that no cool-down holds back is mailed",
        )  # fmt: skip
    return Run(sent, expected, progress, mails(), log.read_text())


def slice_of_csv(folder: Path) -> Path:
    csv = folder / "slice.csv"
    with TRANSACTIONS_CSV.open() as shipped:
        csv.write_text("".join(itertools.islice(shipped, ROWS + 1)) + WITHOUT_AMOUNT)
    return csv


def count(engine: Engine, rows_of: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT COUNT(*) FROM {rows_of}"))


def wait_for(engine: Engine, settings: Settings, records: int, log: Path) -> Progress:
    def done() -> Progress | None:
        try:
            progress = read_progress(engine, settings.kafka_topic)
        except DBAPIError:  # the tables are not there yet, or MySQL is on its way back
            return None
        return progress if progress.accounted_for >= records else None

    return wait_until(done, timeout=200, describe=lambda: log.read_text(errors="replace")[-4000:])


def everything_stored(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables that last; of the lease and the parts' latest words, none."""
    with engine.connect() as connection:
        names = set(connection.scalars(text("SHOW TABLES"))) - {"writer_lease", "component_status"}
        return {
            name: sorted(map(tuple, connection.execute(text(f"SELECT * FROM `{name}`"))), key=repr)
            for name in sorted(names)
        }


def test_all_services_are_healthy(infrastructure: Compose) -> None:
    assert infrastructure.states() == ["healthy"] * 6


def test_the_tables_hold_what_the_oracle_says(run: Run, engine: Engine) -> None:
    assert stored_rows(engine) == run.expected.rows
    assert run.progress.accounted_for == run.sent
    assert run.progress.duplicates == run.expected.duplicates


def test_records_that_cannot_be_used_are_dead_letters(run: Run, engine: Engine) -> None:
    with engine.connect() as connection:
        dead = connection.execute(text("SELECT reason, `value` FROM dead_letters")).all()
    assert sorted(reason for reason, _ in dead) == run.expected.rejected
    assert {b"BAD-1", b"BAD,2"} <= {
        each for _, value in dead for each in (b"BAD-1", b"BAD,2") if each in value
    }


def test_every_flagged_user_is_in_the_inbox_and_no_alert_twice(run: Run, engine: Engine) -> None:
    with engine.connect() as connection:
        flagged = connection.execute(
            text("SELECT TransactionID, UserID FROM clean_data WHERE Is_Fraud = 'YES'")
        ).all()
        mailed = connection.scalars(text("SELECT TransactionID FROM alerts WHERE state = 'mailed'")).all()
        users_mailed = connection.scalars(text("SELECT UserID FROM alerts WHERE state = 'mailed'")).all()
    assert flagged
    assert set(users_mailed) == {user for _, user in flagged}
    # A mail that was accepted in the moment of MySQL's death may have come again, recognisably the same.
    letters = {mail.message_id: mail for mail in run.mails}.values()
    for body in ("text", "html"):
        found = Counter(each for each, _ in flagged for mail in letters if each in getattr(mail, body))
        assert found == Counter(mailed)
    assert {mail.recipients for mail in run.mails} == {("analyst@fraudstream.example",)}


def test_the_dashboard_shows_the_totals(
    run: Run, compose: Compose, dashboard: Dashboard, tmp_path: Path
) -> None:
    with running_dashboard(tmp_path / "log", folder=compose.folder, FRAUDSTREAM_ENV_FILE="") as address:
        dashboard.page.goto(address)
        dashboard.expect_kpis(total_transactions=f"{run.progress.stored:,}", within_ms=60_000)
        dashboard.page.close()


def test_no_password_is_in_the_jobs_log(run: Run) -> None:
    assert "Streaming started" in run.log and "Waiting for data..." in run.log
    assert "development-" not in run.log


def allowed(connection: Connection, statement: str) -> bool:
    try:
        with connection.begin():
            connection.execute(text(statement))
    except DBAPIError as error:
        assert error.orig.errno in {1044, 1142, 1227, 1410}, error.orig  # denied, and nothing else
        return False
    return True


LABEL = """INSERT INTO labels (TransactionID, source, label, known_at, version, recorded_at)
           VALUES ('x', 'test', 'fraud', NOW(), 1, NOW(6)) ON DUPLICATE KEY UPDATE version = version + 1"""


@pytest.mark.parametrize(
    ("statement", "pipeline", "dashboard"),
    [
        ("SELECT COUNT(*) FROM clean_data", True, True),
        ("DELETE FROM clean_data WHERE TransactionID = 'nobody'", True, False),
        ("UPDATE alerts SET state = 'mailed' WHERE alert_id = -1", True, False),
        ("INSERT INTO writer_lease VALUES ('x', 'x', NOW(6))", True, False),
        (LABEL, True, True),
        ("DELETE FROM labels WHERE source = 'test'", True, True),
        ("CREATE TABLE mine (a INT)", True, False),
        ("DROP TABLE clean_data", False, False),
        ("DROP TABLE labels", False, False),
        ("CREATE TABLE labels (a INT)", None, False),
        ("SELECT User FROM mysql.user", False, False),
        ("CREATE DATABASE mine", False, False),
        ("CREATE USER mine", False, False),
        ("GRANT SELECT ON transactions.* TO fraudstream_dashboard WITH GRANT OPTION", False, False),
        ("SET GLOBAL max_connections = 10", False, False),
    ],
)
def test_the_accounts_have_the_rights_that_they_need(
    run: Run,
    infrastructure: Compose,
    settings: Settings,
    statement: str,
    pipeline: bool | None,
    dashboard: bool,
) -> None:
    accounts = {settings.database_url: pipeline, settings.dashboard_database_url: dashboard}
    for url, expected in accounts.items():
        if expected is None:
            continue
        account = make_engine(url, pooled=False)
        with account.connect() as connection:
            assert allowed(connection, statement) is expected, url.username
            if "mine (" in statement and expected:
                infrastructure.sql_as_root(f"DROP TABLE {url.database}.mine")


def test_a_login_does_not_keep_a_mail_out(infrastructure: Compose) -> None:
    with smtplib.SMTP("127.0.0.1", 1025, timeout=10) as inbox:
        code, _ = inbox.login("somebody@fraudstream.example", "any password")
    assert code == 235


def test_root_gets_in_from_within_its_container_only(infrastructure: Compose, settings: Settings) -> None:
    url = settings.database_url.set(username="root", password="development-root")
    with pytest.raises(DBAPIError, match="1045"):
        make_engine(url, pooled=False).connect()
    infrastructure.sql_as_root("DO 1")


@pytest.mark.parametrize(
    ("command", "wrong", "named"),
    [
        (("producer_from_csv.py", "--wait", "3"), {"KAFKA_BOOTSTRAP_SERVERS": "kafka:29092"},
         "KAFKA_BOOTSTRAP_SERVERS"),
        (("data_cleaning.py",), {"MYSQL_PASSWORD": "wrong"}, "MYSQL_PASSWORD"),
        (("data_cleaning.py",), {"MYSQL_USER": "nobody"}, "MYSQL_USER"),
        (("-m", "fraudstream", "status"), {"MYSQL_URL": "mysql:3306"}, "MYSQL_URL"),
        (("-m", "fraudstream", "status"), {"MYSQL_URL": "localhost:1"}, "MYSQL_URL"),
    ],
)  # fmt: skip
def test_a_wrong_address_or_password_is_named_by_its_variable(
    infrastructure: Compose, command: tuple[str, ...], wrong: dict[str, str], named: str
) -> None:
    script, *options = command
    ended = run_script(script, *options, environment=terminal(**wrong), folder=infrastructure.folder)
    assert ended.returncode == 1
    assert named in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not any(value in ended.stdout + ended.stderr for value in ("development-", "wrong"))


def test_the_dashboard_names_the_variable_of_its_wrong_password(
    compose: Compose, dashboard: Dashboard, tmp_path: Path
) -> None:
    wrong = {"FRAUDSTREAM_ENV_FILE": "", "DASHBOARD_MYSQL_PASSWORD": "wrong"}
    with running_dashboard(tmp_path / "log", folder=compose.folder, **wrong) as address:
        dashboard.page.goto(address)
        expect(dashboard.page.get_by_text("DASHBOARD_MYSQL_PASSWORD")).to_be_visible(timeout=60_000)
        dashboard.page.close()


@pytest.fixture
def other_compose(compose: Compose) -> Compose:
    """docker-compose 1.29 where it is installed, which says so; else the new one."""
    if old_compose_is_there():
        return Compose(compose.folder, OLD)
    print("docker-compose 1.29 is not installed: the new one stands in for it")
    return compose


def test_down_and_up_again_loses_nothing(
    run: Run, compose: Compose, other_compose: Compose, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    tables, letters = everything_stored(engine), len(mails())
    held = topic.offset_range(settings.kafka_bootstrap_servers, settings.kafka_topic, range(4))
    compose.down()
    other_compose.up()
    assert everything_stored(engine) == tables
    assert len(mails()) == letters
    assert topic.offset_range(settings.kafka_bootstrap_servers, settings.kafka_topic, range(4)) == held

    one_more = tmp_path / "more.csv"
    one_more.write_text(
        f"{','.join(FIELD_NAMES)}\nMORE-1,U001,2500.00,Cairo,2025-01-03 10:00:00,iOS,Amazon\n"
    )
    with running_job(terminal(), tmp_path / "log", folder=compose.folder):
        sent = run_script(
            "producer_from_csv.py", "--file", str(one_more),
            environment=terminal(XDG_STATE_HOME=str(tmp_path)), folder=compose.folder,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        progress = wait_for(engine, settings, run.sent + 1, tmp_path / "log")
    other_compose.down()
    assert (progress.stored, progress.accounted_for) == (run.progress.stored + 1, run.sent + 1)


def test_compose_does_not_start_without_passwords(checkout: Path, tmp_path: Path) -> None:
    for program in ("docker", "compose"), ("docker-compose",):
        if shutil.which(program[0]) is None:
            continue
        folder = tmp_path / program[-1]
        folder.mkdir()
        shutil.copy(checkout / "docker-compose.yml", folder)
        refused = Compose(folder, program).attempt("up", "-d")
        assert refused.returncode != 0
        assert "copy .env.example to .env" in refused.stderr
