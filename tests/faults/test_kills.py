"""The job is killed twenty times in a row under load: the tables are those of a run nobody disturbed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kills import Moment, kill_under_load

SEED = 20
CHOSEN = (Moment.BEFORE_COMMIT, Moment.AFTER_COMMIT, Moment.DURING_READ, Moment.MAIL_ACCEPTED)


@pytest.mark.timeout(2_400)
def test_twenty_deaths_under_load_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    moments = [*CHOSEN] * 3 + [Moment.ANY] * 8
    random.Random(SEED).shuffle(moments)
    kill_under_load(
        moments,
        rows=12_000,
        rate=6,
        seed=SEED,
        environment=settings_env,
        new_database=new_database,
        folder=tmp_path,
    )
