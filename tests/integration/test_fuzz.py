"""Thousands of messages that nobody should send: the job stays up, and each is stored, counted or refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.fuzz import fuzzed_messages, good_messages, hostile_messages, huge_messages, utc_now
from tests.support.fuzz_run import pace, run_job_over

pytestmark = pytest.mark.timeout(300)

SEED = 20260101


def test_ten_thousand_fuzzed_messages_harm_nothing(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    now = utc_now()
    messages = [*good_messages(1_000, now), *hostile_messages(now), *fuzzed_messages(10_000, SEED, now)]
    random.Random(SEED).shuffle(messages)
    # A row of them in one batch has more bytes than a statement of the database may have.
    messages += huge_messages(40)
    run = run_job_over(messages, database, topic, settings_env, tmp_path / "job.log")
    print(pace(run.engine))
    run.assert_no_harm()
    run.engine.dispose()
