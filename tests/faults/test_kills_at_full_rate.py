"""The job is killed with the settings of the bench, in batches of tens of thousands that executors judge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.phases import SETTINGS
from fraudstream.streaming import FEW
from tests.support.kills import Moment, kill_under_load


@pytest.mark.timeout(900)
def test_deaths_in_large_batches_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    kill_under_load(
        list(Moment),
        rows=150_000,
        rate=600,
        seed=9,
        environment=settings_env,
        new_database=new_database,
        folder=tmp_path,
        settings=SETTINGS,
    )
    sizes = re.findall(r"batch rows=(\d+)", (tmp_path / "job.log").read_text())
    assert max(map(int, sizes)) > FEW
