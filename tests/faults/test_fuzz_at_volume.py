"""A hundred thousand messages that nobody should send, into tables, mails and the dashboard."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fraudstream.config import child_environment
from tests.support.browsing import WITHIN_A_REFRESH_MS, Dashboard, running_dashboard
from tests.support.fuzz import (
    HOSTILE_TEXTS,
    MARKER,
    fuzzed_messages,
    good_messages,
    hostile_messages,
    huge_messages,
    utc_now,
)
from tests.support.fuzz_run import pace, run_job_over

pytestmark = pytest.mark.timeout(900)

# Another one finds other damage: FUZZ_SEED=7 make test-faults
SEED = int(child_environment().get("FUZZ_SEED", "20260102"))


def test_a_hundred_thousand_fuzzed_messages_harm_nothing(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path, dashboard: Dashboard
) -> None:
    print(f"seed {SEED}")
    now = utc_now()
    messages = [*good_messages(10_000, now), *hostile_messages(now), *fuzzed_messages(100_000, SEED, now)]
    random.Random(SEED).shuffle(messages)
    # A row of them in one batch has more bytes than a statement of the database may have.
    messages += huge_messages(100)
    run = run_job_over(messages, database, topic, settings_env, tmp_path / "job.log")
    print(pace(run.engine))
    run.assert_no_harm()
    run.engine.dispose()
    with running_dashboard(tmp_path / "dashboard.log", MYSQL_URL=database) as address:
        assert_shown_as_text(dashboard, address)
        dashboard.page.close()


def assert_shown_as_text(dashboard: Dashboard, address: str) -> None:
    """The newest transactions are hostile: the page shows what they say, and does none of it."""
    page = dashboard.page
    page.goto(address)
    newest = f"{HOSTILE_TEXTS[-1]} {len(HOSTILE_TEXTS) - 1}"
    expect(page.get_by_text(newest, exact=True).first).to_be_attached(timeout=WITHIN_A_REFRESH_MS)
    shown = dashboard.column("feed", "Transaction")
    # Reading bytes as text, a browser leaves out a byte order mark at the beginning.
    hostile = {f"{text[:50]} {number}".removeprefix("\ufeff") for number, text in enumerate(HOSTILE_TEXTS)}
    assert shown and set(shown) <= hostile
    assert page.evaluate(f"window.{MARKER}") is None
