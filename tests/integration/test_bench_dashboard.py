"""The page that the bench holds open reads the database again and again, as in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from benchmarks.errors import BenchFailed
from benchmarks.open_dashboard import open_dashboard
from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.dashboard.refresh import REFRESH_S
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from tests.support.ports import free_port
from tests.support.transactions import random_transactions, store
from tests.support.waiting import wait_until


def selects(engine: Engine) -> int:
    """How many queries the server has answered so far."""
    with engine.connect() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Com_select'")).one()[1])


def test_the_open_page_is_read_anew_in_its_interval(database: str, tmp_path: Path) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    store(engine, random_transactions(50, seed=1))
    environment = child_environment(MYSQL_URL=database, PYTHONPATH=str(PROJECT_DIR))
    problems: list[str] = []
    with open_dashboard(environment, free_port(), tmp_path / "dashboard.log", problems):
        drawn = selects(engine)
        wait_until(lambda: selects(engine) >= drawn + 20, timeout=4 * REFRESH_S, describe="reads again")
        assert problems == []
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE rollup_total"))
        wait_until(lambda: problems, timeout=4 * REFRESH_S, describe="the page says what is wrong")
    engine.dispose()


def test_a_page_that_cannot_read_the_database_at_first_is_no_page(database: str, tmp_path: Path) -> None:
    password = "not-the-password"
    account = {"DASHBOARD_MYSQL_USER": "nobody", "DASHBOARD_MYSQL_PASSWORD": password}
    environment = child_environment(MYSQL_URL=database, PYTHONPATH=str(PROJECT_DIR), **account)
    refused = pytest.raises(BenchFailed, match="the dashboard says: ")
    with refused, open_dashboard(environment, free_port(), tmp_path / "dashboard.log", []):
        pass
