"""The suites that use a database, on the MySQL of docker-compose.yml: `make test MYSQL_URL=...`."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from fraudstream.config import PROJECT_DIR, child_environment
from tests.support.compose import Compose
from tests.support.databases import NAME_PREFIX

SUITE_S = 1_500
SUITES = (
    "tests/integration",
    "tests/browser",
    "tests/detection",
    "tests/faults/test_migrate.py",
    "tests/faults/test_dead_letters.py",
)


@pytest.mark.timeout(SUITE_S + 1_500)
def test_what_passes_on_mariadb_passes_on_mysql(compose: Compose, capfd: pytest.CaptureFixture[str]) -> None:
    password = secrets.token_hex(16)  # no word of any page: tests look whether a page shows it
    compose("up", "-d", "--wait", "mysql", timeout=200)
    compose.sql_as_root(
        f"CREATE USER tester IDENTIFIED BY '{password}'; GRANT ALL ON `{NAME_PREFIX}%`.* TO tester;"
    )
    with capfd.disabled():
        suite = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *SUITES],
            cwd=PROJECT_DIR,
            env=child_environment(MYSQL_URL=f"mysql+mysqlconnector://tester:{password}@127.0.0.1:3306"),
            timeout=SUITE_S,
            check=False,
        )
    assert suite.returncode == 0
    left = compose("exec", "-T", "mysql", "ls", "/var/lib/mysql")
    assert NAME_PREFIX not in left
