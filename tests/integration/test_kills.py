"""The job dies once at each kind of moment: the short form of tests/faults/test_kills.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kills import Moment, kill_under_load


@pytest.mark.timeout(400)
def test_five_deaths_under_load_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    kill_under_load(
        list(Moment),
        rows=2_400,
        rate=8,
        seed=5,
        environment=settings_env,
        new_database=new_database,
        folder=tmp_path,
    )
