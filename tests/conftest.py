"""The real parts that tests run on: a shared stack and browser; databases, topics and pages for each."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream.config import child_environment, export, load_settings
from fraudstream.stack import Stack
from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from tests.support.browsing import Dashboard, Watch, browser_executable
from tests.support.databases import fresh_databases
from tests.support.jobs import SHORT_LIVED
from tests.support.own_stack import NO_INTERNET, make_sure_of_the_downloads
from tests.support.producing import Producer

_QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_configure() -> None:
    # By default SIGTERM ends pytest without its fixtures' clean-up, and the stack's processes would stay.
    signal.signal(signal.SIGTERM, _interrupt)
    # Whoever works on the project may have a `.env`, for a server that is none of the tests' business.
    export(FRAUDSTREAM_ENV_FILE=os.devnull)
    # An example that waits for a busy machine is not wrong; pytest-timeout ends what hangs.
    settings.register_profile("fraudstream", deadline=None)
    settings.load_profile("fraudstream")


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt(f"signal {signal_number}")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running embedded stack on free ports, with data of its own; downloads come from the user's cache.

    A test that ends one of its services must start it again.
    """
    state_dir = tmp_path_factory.mktemp("stack")
    stack = Stack(state_dir, load_settings().cache_dir, child_environment(), notice=print)
    try:
        stack.up(usual_ports=False)
        yield stack
    finally:
        stack.reset()


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that a test may harm; each test starts what it needs. Nothing can be downloaded for it."""
    make_sure_of_the_downloads()
    stack = Stack(
        tmp_path_factory.mktemp("own-stack"), load_settings().cache_dir, child_environment(**NO_INTERNET)
    )
    try:
        yield stack
    finally:
        stack.reset()


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and returns its SQLAlchemy URL, password included.

    The databases are made on the server that MYSQL_URL names where it is set, else on the embedded stack.
    """
    if "MYSQL_URL" in child_environment():
        url = load_settings().database_url.render_as_string(hide_password=False)
        maker_url = user_url = url
    else:
        stack: Stack = request.getfixturevalue("stack")
        maker_url, user_url = stack.mysql_admin_url(), stack.addresses().mysql
    with fresh_databases(maker_url, user_url) as make:
        yield make


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """The SQLAlchemy URL of an empty database of the test's own, password included."""
    return new_database()


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """A database with tables and no rows, as the dashboard reads it."""
    engine = open_engine(make_url(database))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def topic() -> str:
    """The name of a topic that does not exist yet."""
    return f"transactions-{secrets.token_hex(6)}"


@pytest.fixture
def producer(stack: Stack, topic: str, tmp_path: Path) -> Iterator[Producer]:
    """Starts the producer for a topic of the test's own; what still runs at the end is killed."""
    producer = Producer(stack.addresses().kafka, topic, tmp_path)
    yield producer
    for process in producer.started:
        process.kill()
        process.communicate()


@pytest.fixture
def settings_env(stack: Stack, database: str, topic: str) -> dict[str, str]:
    """The environment for a subprocess: the embedded stack's addresses, the test's own database and topic."""
    variables = {**stack.addresses().environment(), "MYSQL_URL": database, "KAFKA_TOPIC": topic}
    return child_environment(**variables, **SHORT_LIVED)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    arguments = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    expect.set_options(timeout=45_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_executable(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a fresh profile. The test fails when the page logs an error or turns to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1900})
    watch = Watch(context)
    yield context.new_page()
    context.close()
    assert watch.complaints == []


@pytest.fixture
def dashboard(page: Page) -> Dashboard:
    return Dashboard(page)
