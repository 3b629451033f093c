"""TLS and logins on real servers: rows come through, impostors are refused, no secret is seen anywhere."""

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fraudstream.config import TRANSACTIONS_CSV, child_environment
from fraudstream.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from fraudstream.stack import mysql
from fraudstream.store.engine import make_engine
from fraudstream.store.progress import read_progress
from fraudstream.topic import BrokerUnavailable, TopicError, ensure_topic
from tests.support.accounts import create_accounts
from tests.support.browsing import Dashboard, running_dashboard
from tests.support.jobs import run_script, running_job
from tests.support.mail_servers import MailServer, mail_server
from tests.support.oracle import expected_of_csv, stored_rows
from tests.support.secure_services import (
    Authority,
    SecureBroker,
    SecureDatabase,
    secure_broker,
    secure_database,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

USER = "fraudstream"
ROWS = 600


@dataclass(frozen=True)
class Secrets:
    """Passwords that occur nowhere else, so that they can be looked for."""

    kafka: str
    mysql: str
    dashboard: str
    smtp: str

    @classmethod
    def new(cls) -> Secrets:
        return cls(*(f"Marker{secrets.token_hex(12)}" for _ in range(4)))

    def seen_in(self, content: bytes) -> list[str]:
        """The names of those that `content` shows, as they are or in base64."""
        return [
            name
            for name, secret in vars(self).items()
            if secret.encode() in content or _base64_core(secret.encode()) & _windows(content)
        ]


def _base64_core(secret: bytes) -> set[bytes]:
    """What base64 makes of the secret's inside, wherever in a text it begins."""
    return {base64.b64encode(secret[start : start + 18]) for start in range(3)}


def _windows(content: bytes) -> set[bytes]:
    return {
        word[start : start + 24]
        for word in re.findall(rb"[A-Za-z0-9+/]{24,}", content)
        for start in range(len(word) - 23)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secure")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority.in_folder(folder / "authority")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    """An authority that vouches for none of the servers."""
    return Authority.in_folder(folder / "stranger")


@pytest.fixture(scope="module")
def passwords() -> Secrets:
    return Secrets.new()


@pytest.fixture(scope="module")
def broker(folder: Path, authority: Authority, passwords: Secrets) -> Iterator[SecureBroker]:
    issued = authority.issue("localhost", folder / "broker")
    with secure_broker(folder, issued, user=USER, password=passwords.kafka) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[SecureDatabase]:
    with secure_database(folder, authority.issue("localhost", folder / "database")) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: SecureDatabase, passwords: Secrets) -> Engine:
    """The server's owner; the two accounts of the README exist, and those of the embedded stack do not."""
    engine = make_engine(make_url(server.admin_url), pooled=False)
    with engine.begin() as connection:
        for user in (mysql.USER, mysql.DASHBOARD_USER):
            connection.execute(text(f"DROP USER '{user}'@'127.0.0.1'"))
    create_accounts(engine, "transactions", pipeline=passwords.mysql, dashboard=passwords.dashboard)
    return engine


@pytest.fixture(scope="module")
def mails(folder: Path, authority: Authority, passwords: Secrets) -> Iterator[MailServer]:
    issued = authority.issue("localhost", folder / "mails")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    with mail_server(MailServer(password=passwords.smtp), starttls=context, login=True) as mails:
        yield mails


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the processes write, their scratch files included."""
    for name in ("state", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def environment(
    broker: SecureBroker,
    server: SecureDatabase,
    admin: Engine,
    mails: MailServer,
    authority: Authority,
    passwords: Secrets,
    topic: str,
    state: Path,
) -> dict[str, str]:
    """All that is encrypted, all that logs in, and as talkative as it gets."""
    return child_environment(
        KAFKA_BOOTSTRAP_SERVERS=broker.sasl_ssl,
        KAFKA_TOPIC=topic,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_USERNAME=USER,
        KAFKA_PASSWORD=passwords.kafka,
        KAFKA_SSL_CA=str(authority.file),
        MYSQL_URL=f"localhost:{server.port}",
        MYSQL_USER="fraudstream",
        MYSQL_PASSWORD=passwords.mysql,
        MYSQL_SSL_CA=str(authority.file),
        DASHBOARD_MYSQL_USER="fraudstream_dashboard",
        DASHBOARD_MYSQL_PASSWORD=passwords.dashboard,
        SENDER_EMAIL="alerts@example.org",
        SENDER_PASSWORD=passwords.smtp,
        RECEIVER_EMAIL="analyst@example.org",
        SMTP_HOST="localhost",
        SMTP_PORT=str(mails.port),
        SMTP_SECURITY="starttls",
        SMTP_SSL_CA=str(authority.file),
        ALERT_COOLDOWN_SECONDS="0",
        LOG_LEVEL="DEBUG",
        XDG_STATE_HOME=str(state / "state"),
        TMPDIR=str(state / "tmp"),
        SPARK_LOCAL_DIRS=str(state / "tmp"),
    )


class CommandLines:
    """Every command line of this process's descendants, looked at again and again during the block."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.05):
            for process in me.children(recursive=True):
                try:
                    self.seen.add("\0".join(process.cmdline()))
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue

    def text(self) -> bytes:
        return "\n".join(sorted(self.seen)).encode()


def pages_of_spark(log: str) -> bytes:
    """All that Spark's own pages tell of the job, options and plans included."""
    (address,) = set(re.findall(r"Spark UI: (\S+)", log))
    paths = ["/environment/", "/jobs/", "/stages/", "/SQL/", "/StreamingQuery/", "/executors/"]
    pages = [_page(f"{address}{path}") for path in paths]
    api = f"{address}/api/v1/applications"
    (application,) = re.findall(rb'"id" : "([^"]+)"', _page(api))
    for kind in ("environment", "sql?details=true&planDescription=true", "jobs"):
        pages.append(_page(f"{api}/{application.decode()}/{kind}"))
    plans = [plan["id"] for plan in json.loads(pages[-2])]
    assert plans
    pages += [_page(f"{address}/SQL/execution/?id={plan}") for plan in plans[:5]]
    assert b"MicroBatchScan" in b"".join(pages)
    return b"".join(pages)


def _page(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return bytes(answer.read())


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                yield path, path.read_bytes()
        except FileNotFoundError:  # Spark cleans up as it goes
            continue


def test_rows_and_mails_come_through_encrypted_connections_and_no_secret_is_seen(
    environment: dict[str, str],
    state: Path,
    topic: str,
    passwords: Secrets,
    admin: Engine,
    mails: MailServer,
    page: Page,
) -> None:
    csv, log, dashboard_log = state / "transactions.csv", state / "job.log", state / "dashboard.log"
    with TRANSACTIONS_CSV.open() as rows:
        csv.write_text("".join(next(rows) for _ in range(ROWS + 1)))
    expected = expected_of_csv(csv)
    engine = make_engine(admin.url.set(database="transactions"))

    with CommandLines() as command_lines, running_job(environment, log):
        sent = run_script("producer_from_csv.py", "--file", str(csv), "--rate", "0", environment=environment)
        assert f"acknowledged={ROWS} failed=0" in sent.stdout, sent.stderr
        wait_until(lambda: "Waiting for data" in log.read_text(), timeout=120, describe=log.read_text)
        wait_until(
            lambda: read_progress(engine, topic).accounted_for == ROWS,
            timeout=120,
            describe=lambda: log.read_text()[-4000:],
        )
        wait_until(lambda: mails.received, timeout=60, describe=lambda: log.read_text()[-4000:])
        with running_dashboard(dashboard_log, STREAMLIT_LOGGER_LEVEL="debug", **environment) as address:
            page.goto(address)
            Dashboard(page).expect_kpis(total_transactions=f"{len(expected.rows):,}")
            shown_page = page.content().encode()
            page.close()
        spark = pages_of_spark(log.read_text())
        status = run_script("-m", "fraudstream", "status", environment=environment)
        offsets = run_script("-m", "fraudstream", "offsets", "show", environment=environment)
        written = list(files_below(state))

    assert stored_rows(engine) == expected.rows
    assert (status.returncode, offsets.returncode) == (0, 0), status.stderr + offsets.stderr
    assert all(password == passwords.smtp for _, password in mails.logins)
    assert sum("java" in line for line in command_lines.seen) > 0
    said = "".join(done.stdout + done.stderr for done in (sent, status, offsets))
    shown = {
        "command lines": command_lines.text(),
        "Spark's pages": spark,
        "output": said.encode(),
        "the page": shown_page,
        **{str(path.relative_to(state)): content for path, content in written},
        "job.log at the end": log.read_bytes(),
    }
    assert {name: found for name, content in shown.items() if (found := passwords.seen_in(content))} == {}


def test_neither_server_takes_anybody_without_tls(
    broker: SecureBroker, server: SecureDatabase, topic: str
) -> None:
    url = make_url(server.admin_url).update_query_dict({"ssl_disabled": "true"})
    with pytest.raises(DBAPIError, match="secure transport"):
        make_engine(url, pooled=False).connect()
    with pytest.raises(BrokerUnavailable, match=r"KAFKA_SECURITY_PROTOCOL \(PLAINTEXT was tried\)"):
        ensure_topic(broker.sasl_ssl, topic, 1, wait_s=3)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_every_way_to_log_in_works(
    broker: SecureBroker,
    authority: Authority,
    passwords: Secrets,
    topic: str,
    protocol: SecurityProtocol,
    mechanism: SaslMechanism,
) -> None:
    address = {"SASL_SSL": broker.sasl_ssl, "SASL_PLAINTEXT": broker.sasl_plaintext}[protocol]
    ca = authority.file if protocol == "SASL_SSL" else None
    kafka = KafkaAccess(address, protocol, mechanism, USER, passwords.kafka, ca)
    assert ensure_topic(kafka, topic, 2).partitions == (0, 1)


def test_encryption_without_a_login_works(broker: SecureBroker, authority: Authority, topic: str) -> None:
    assert ensure_topic(KafkaAccess(broker.ssl, "SSL", ssl_ca=authority.file), topic, 1).partitions == (0,)


def test_a_right_that_the_account_lacks_is_said(
    broker: SecureBroker, authority: Authority, passwords: Secrets
) -> None:
    kafka = KafkaAccess(broker.sasl_ssl, "SASL_SSL", "PLAIN", USER, passwords.kafka, authority.file)
    with pytest.raises(TopicError, match="TopicAuthorizationFailed"):
        ensure_topic(kafka, "somebody-elses", 1)


# A wrong setting, which message it leads to, and which command shows it.
IMPOSTORS = {
    "KAFKA_SSL_CA": r"certificate that does not hold \(KAFKA_SSL_CA",
    "KAFKA_BOOTSTRAP_SERVERS": r"certificate that does not hold .*KAFKA_BOOTSTRAP_SERVERS.*127\.0\.0\.1",
    "KAFKA_PASSWORD": r"refused the login of fraudstream \(KAFKA_USERNAME, KAFKA_PASSWORD",
    "MYSQL_SSL_CA": r"not safe: check MYSQL_SSL_CA",
    "MYSQL_URL": r"not safe: check MYSQL_SSL_CA, and that MYSQL_URL has the name",
    "MYSQL_PASSWORD": r"denies access: check MYSQL_USER, MYSQL_PASSWORD",
}


@pytest.fixture
def wrong(
    request: pytest.FixtureRequest, environment: dict[str, str], stranger: Authority
) -> tuple[dict[str, str], str, Secrets]:
    """The environment with one setting wrong, what is to be said of it, and a wrong password to look for."""
    variable, others = request.param, Secrets.new()
    values = {
        "KAFKA_SSL_CA": str(stranger.file),
        "KAFKA_BOOTSTRAP_SERVERS": environment["KAFKA_BOOTSTRAP_SERVERS"].replace("localhost", "127.0.0.1"),
        "KAFKA_PASSWORD": others.kafka,
        "MYSQL_SSL_CA": str(stranger.file),
        "MYSQL_URL": environment["MYSQL_URL"].replace("localhost", "127.0.0.1"),
        "MYSQL_PASSWORD": others.mysql,
    }
    return {**environment, variable: values[variable]}, IMPOSTORS[variable], others


@pytest.mark.parametrize("wrong", IMPOSTORS, indirect=True)
def test_an_impostor_or_a_wrong_password_is_refused_in_words_that_name_the_setting(
    wrong: tuple[dict[str, str], str, Secrets], passwords: Secrets
) -> None:
    environment, said, others = wrong
    with CommandLines() as command_lines:
        done = run_script("-m", "fraudstream", "offsets", "show", environment=environment)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert re.search(said, output), output
    assert "Traceback" not in output
    for markers in (passwords, others):
        assert markers.seen_in(output.encode() + command_lines.text()) == []


@pytest.mark.parametrize("wrong", ["KAFKA_PASSWORD", "MYSQL_PASSWORD"], indirect=True)
def test_the_job_and_the_producer_stop_at_a_wrong_password_without_showing_it(
    wrong: tuple[dict[str, str], str, Secrets], passwords: Secrets, state: Path
) -> None:
    environment, said, others = wrong
    with CommandLines() as command_lines:
        done = [run_script("data_cleaning.py", environment=environment)]
        if "login" in said:
            done.append(run_script("producer_from_csv.py", "--limit", "1", environment=environment))
    for each in done:
        assert each.returncode == 1
        assert re.search(said, each.stdout + each.stderr), each.stderr
    assert any("java" in line for line in command_lines.seen)
    output = "".join(each.stdout + each.stderr for each in done).encode()
    for markers in (passwords, others):
        shown = {"output": output, "command lines": command_lines.text(), **dict(files_below(state))}
        assert {name for name, content in shown.items() if markers.seen_in(content)} == set()


def test_the_dashboard_says_that_its_connection_is_not_safe(
    environment: dict[str, str], stranger: Authority, passwords: Secrets, state: Path, page: Page
) -> None:
    log = state / "dashboard.log"
    with running_dashboard(log, **{**environment, "MYSQL_SSL_CA": str(stranger.file)}) as address:
        page.goto(address)
        expect(page.get_by_text("The connection to the database is not safe").first).to_be_visible()
        expect(page.get_by_text("Correct MYSQL_SSL_CA")).to_be_visible()
        assert passwords.seen_in(page.content().encode() + log.read_bytes()) == []
        page.close()
