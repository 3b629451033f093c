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
# Whatever sends statements of its own to the database.
SUITES = (
    "tests/integration",
    "tests/faults/test_migrate.py",
    "tests/faults/test_dead_letters.py",
    "tests/detection/test_training.py::test_the_database_is_read_in_order_of_arrival_whatever_the_size_of_the_parts",
)
# These use another server or none, or send what others send, too, such as those beside this file.
LEFT_OUT = (
    "tests/faults/test_dead_letters.py::test_what_is_sent_again_outlives_the_job_and_is_taken_by_the_mended_one",
    "tests/integration/test_demo.py",
    "tests/integration/test_inbox.py",
    "tests/integration/test_large_messages.py",
    "tests/integration/test_pipeline.py",
    "tests/integration/test_producer.py",
    "tests/integration/test_rehearsal.py",
    "tests/integration/test_stack.py",
    "tests/integration/test_topic.py",
    "tests/integration/test_fuzz.py",
    "tests/integration/test_kills.py",
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
            [sys.executable, "-m", "pytest", "-q", *SUITES, *(f"--deselect={each}" for each in LEFT_OUT)],
            cwd=PROJECT_DIR,
            env=child_environment(MYSQL_URL=f"mysql+mysqlconnector://tester:{password}@127.0.0.1:3306"),
            timeout=SUITE_S,
            check=False,
        )
    assert suite.returncode == 0
    left = compose("exec", "-T", "mysql", "ls", "/var/lib/mysql")
    assert NAME_PREFIX not in left
