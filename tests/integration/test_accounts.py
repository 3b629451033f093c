"""Least privilege, on a real server: what each of the documented accounts may do, and what it may not."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from fraudstream.reviews import Reviewer
from fraudstream.stack import Stack
from fraudstream.store.engine import make_engine
from fraudstream.store.locks import lock_name
from fraudstream.store.migrate import migrate
from fraudstream.store.reviews import Seen, review, undo
from fraudstream.store.tables import metadata
from fraudstream.store.writer import become_writer
from tests.support.accounts import create_accounts, execute, statements_of_compose
from tests.support.databases import NAME_PREFIX
from tests.support.transactions import Judged, store

DENIED = {1044, 1142, 1143, 1227, 1370, 1410}
LABEL = """INSERT INTO labels (TransactionID, source, label, known_at, version, recorded_at)
           VALUES ('x', 'test', 'fraud', NOW(), 1, NOW(6)) ON DUPLICATE KEY UPDATE version = version + 1"""
MADE_BY_THE_TEST = "mine"


@dataclass(frozen=True)
class Accounts:
    """A migrated database and its two accounts."""

    pipeline: Engine
    dashboard: Engine


def by_the_readme(admin: Engine, database: str, users: tuple[str, str], password: str, _folder: Path) -> None:
    create_accounts(admin, database, pipeline=password, dashboard=password, users=users)


def by_compose(admin: Engine, database: str, users: tuple[str, str], password: str, folder: Path) -> None:
    execute(admin, f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
    pipeline, dashboard = ((user, password) for user in users)
    execute(admin, *statements_of_compose(folder, database, pipeline=pipeline, dashboard=dashboard))


@pytest.fixture(scope="module")
def admin(stack: Stack) -> Iterator[Engine]:
    engine = make_engine(make_url(stack.mysql_admin_url()), pooled=False)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module", params=[by_the_readme, by_compose], ids=lambda made: made.__name__)
def accounts(
    request: pytest.FixtureRequest, admin: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Accounts]:
    """The accounts as each document makes them, on a database that the pipeline's own has migrated."""
    name, password = secrets.token_hex(4), secrets.token_hex(12)
    database, users = f"{NAME_PREFIX}{name}", (f"pipeline_{name}", f"dashboard_{name}")
    make: Callable[[Engine, str, tuple[str, str], str, Path], None] = request.param
    make(admin, database, users, password, tmp_path_factory.mktemp("compose"))
    urls = [admin.url.set(username=user, password=password, database=database) for user in users]
    pipeline, dashboard = (make_engine(url, pooled=False) for url in urls)
    migrate(pipeline)
    try:
        yield Accounts(pipeline, dashboard)
    finally:
        execute(admin, f"DROP DATABASE `{database}`", *(f"DROP USER '{user}'@'%'" for user in users))


def allowed(account: Engine, statement: str) -> bool:
    try:
        with account.begin() as connection:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        assert error.orig is not None
        assert error.orig.errno in DENIED, error.orig  # denied, and nothing else
        return False
    return True


TABLES = sorted(metadata.tables)
FORBIDDEN_TO_BOTH = [
    "DROP TABLE labels",
    "DROP TABLE clean_data",
    "TRUNCATE TABLE kafka_offsets",
    "DROP DATABASE `{database}`",
    "CREATE VIEW seen AS SELECT 1",
    "CREATE TRIGGER watching BEFORE INSERT ON labels FOR EACH ROW SET @a = 1",
    "CREATE PROCEDURE doing() SELECT 1",
    "SELECT * FROM mysql.user",
    "CREATE DATABASE somebody_elses",
    "CREATE USER somebody",
    "SELECT * FROM `{other}`.kept",
    "INSERT INTO `{other}`.kept VALUES (1)",
    "GRANT SELECT ON `{database}`.* TO '{user}'@'%'",
    "SET GLOBAL max_connections = 10",
    "SHUTDOWN",
]


@pytest.fixture(scope="module")
def other(admin: Engine) -> Iterator[str]:
    """A database of somebody else on the same server, whose name begins as the pipeline's might."""
    name = f"somebody_{secrets.token_hex(4)}"
    execute(admin, f"CREATE DATABASE `{name}`", f"CREATE TABLE `{name}`.kept (a INT)")
    yield name
    execute(admin, f"DROP DATABASE `{name}`")


@pytest.mark.parametrize("statement", FORBIDDEN_TO_BOTH)
def test_what_neither_account_may_do(accounts: Accounts, other: str, statement: str) -> None:
    for account in (accounts.pipeline, accounts.dashboard):
        url = account.url
        filled = statement.format(database=url.database, other=other, user=url.username)
        assert not allowed(account, filled), url.username


@pytest.mark.parametrize("table", TABLES)
def test_the_dashboard_reads_every_table_and_writes_only_labels(accounts: Accounts, table: str) -> None:
    column = next(iter(metadata.tables[table].columns)).name
    assert allowed(accounts.dashboard, f"SELECT COUNT(*) FROM `{table}`")
    for change in (
        f"DELETE FROM `{table}` WHERE 1 = 0",
        f"UPDATE `{table}` SET `{column}` = `{column}` WHERE 1 = 0",
        f"INSERT INTO `{table}` SELECT * FROM `{table}` WHERE 1 = 0",
    ):
        assert allowed(accounts.dashboard, change) is (table == "labels"), change
        assert allowed(accounts.pipeline, change), change
    assert not allowed(accounts.dashboard, f"ALTER TABLE `{table}` ADD COLUMN {MADE_BY_THE_TEST} INT")
    assert not allowed(accounts.dashboard, f"CREATE INDEX {MADE_BY_THE_TEST} ON `{table}` (`{column}`)")


def test_the_dashboard_stores_a_word_on_a_transaction_and_takes_it_back(accounts: Accounts) -> None:
    assert allowed(accounts.dashboard, LABEL)
    assert allowed(accounts.dashboard, "DELETE FROM labels WHERE source = 'test'")
    assert not allowed(accounts.dashboard, f"CREATE TABLE {MADE_BY_THE_TEST} (a INT)")


def test_the_dashboards_account_can_review_and_undo(accounts: Accounts) -> None:
    store(
        accounts.pipeline, [Judged("T1", "U1", Decimal(2500), datetime.fromisoformat("2026-03-01 12:00:00"))]
    )
    zone, by = ZoneInfo("UTC"), Reviewer("ann")
    first = review(accounts.dashboard, Seen("T1", 0), "fraud", "", by=by, zone=zone)
    second = undo(accounts.dashboard, Seen("T1", first.version), by=by)
    assert (first.outcome, second.outcome) == ("fraud", None)


def test_the_pipelines_account_can_end_the_connection_of_a_writer_that_hangs(accounts: Accounts) -> None:
    """As a standby does it: with the rights of the account alone, which both copies share."""
    engine = accounts.pipeline
    lock = lock_name(engine.url.database or "", "a-topic")
    with engine.connect() as hung:
        assert hung.scalar(text("SELECT GET_LOCK(:lock, 0)"), {"lock": lock}) == 1
        hung.commit()
        gave_up = threading.Event()
        timer = threading.Timer(60, gave_up.set)
        timer.start()
        writer = become_writer(engine, lock, holder="standby", stopped=gave_up.is_set)
        timer.cancel()
        assert writer is not None
        with writer, pytest.raises(DBAPIError, match=r"Connection not available|Lost connection"):
            hung.scalar(text("SELECT 1"))


def test_the_embedded_stacks_account_has_no_more_rights_on_its_database_than_the_documented_one(
    stack: Stack, admin: Engine
) -> None:
    url = make_url(stack.addresses().mysql)
    with admin.connect() as connection:
        grants = connection.exec_driver_sql(f"SHOW GRANTS FOR '{url.username}'@'127.0.0.1'").scalars().all()
    (own,) = [grant for grant in grants if f"ON `{url.database}`.*" in grant]
    rights = own.removeprefix("GRANT ").partition(" ON ")[0].split(", ")
    assert sorted(rights) == sorted(["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "INDEX"])


def test_the_embedded_stack_has_an_account_for_the_dashboard_too(stack: Stack) -> None:
    pipeline = make_engine(_url(stack, "MYSQL_USER", "MYSQL_PASSWORD"), pooled=False)
    migrate(pipeline)
    dashboard = make_engine(_url(stack, "DASHBOARD_MYSQL_USER", "DASHBOARD_MYSQL_PASSWORD"), pooled=False)
    assert dashboard.url.username != pipeline.url.username
    assert allowed(dashboard, "SELECT COUNT(*) FROM clean_data")
    assert allowed(dashboard, "DELETE FROM labels WHERE 1 = 0")
    assert not allowed(dashboard, "DELETE FROM clean_data WHERE 1 = 0")


def _url(stack: Stack, user: str, password: str) -> URL:
    environment = stack.addresses().environment()
    url = make_url(stack.addresses().mysql)
    return url.set(
        username=environment.get(user, url.username), password=environment.get(password, url.password)
    )
