"""A real browser for the session, and a watched page for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream.store import reads
from fraudstream.store.migrate import migrate
from tests.support.browsing import Dashboard, Watch, browser_executable, running_dashboard

_QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    arguments = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    expect.set_options(timeout=15_000)
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


@pytest.fixture(scope="module")
def start_dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """A function that starts a dashboard with these environment variables and returns its address."""
    with ExitStack() as running:
        yield lambda **environment: running.enter_context(
            running_dashboard(tmp_path_factory.mktemp("dashboard") / "log", TZ="Africa/Cairo", **environment)
        )


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """A database with tables and no rows."""
    engine = reads.open_engine(make_url(database))
    migrate(engine)
    yield engine
    engine.dispose()
