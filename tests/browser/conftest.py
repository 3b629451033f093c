"""Dashboards as processes of their own, and a database for them to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy.engine import make_url

from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.status import set_status
from tests.support.browsing import running_dashboard
from tests.support.filled_dashboard import NOON, Filled
from tests.support.transactions import random_transactions, store


@pytest.fixture(scope="module")
def start_dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """A function that starts a dashboard with these environment variables and returns its address."""
    with ExitStack() as running:
        yield lambda **environment: running.enter_context(
            running_dashboard(tmp_path_factory.mktemp("dashboard") / "log", TZ="Africa/Cairo", **environment)
        )


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], str], start_dashboard: Callable[..., str]) -> Iterator[Filled]:
    """A dashboard on a database of three thousand transactions, for all tests of a file."""
    url = new_database()
    engine = open_engine(make_url(url))
    migrate(engine)
    store(engine, random_transactions(3000, seed=11, start=NOON), duplicates=12, rejected=34)
    set_status(engine, "alerts", "warning", "Alerts wait: no sender or recipient set")
    yield Filled(engine, start_dashboard(MYSQL_URL=url))
    engine.dispose()
