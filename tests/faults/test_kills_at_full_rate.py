"""The job is killed while it works a backlog off at its full rate, with the bench's settings: in the largest
batches, which executors judge, and with a mail for each alert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.phases import SETTINGS
from fraudstream.config import Settings
from fraudstream.streaming import FEW
from tests.support.kills import Moment, kill_under_load

LARGE: int = Settings.model_fields["max_records_per_batch"].default
BACKLOG = 4 * LARGE
# The mail comes first, when no alert is left over: it is of a batch of the job that dies.
MOMENTS = (Moment.MAIL_ACCEPTED, Moment.BEFORE_COMMIT, Moment.AFTER_COMMIT, Moment.DURING_READ)
COMMITS = (True, False, True, False)


@pytest.mark.timeout(900)
def test_deaths_in_large_batches_change_nothing(
    new_database: Callable[[], str], settings_env: dict[str, str], tmp_path: Path
) -> None:
    deaths = kill_under_load(
        MOMENTS,
        rows=BACKLOG + LARGE // 5,
        rate=40,
        seed=9,
        environment=settings_env | SETTINGS,
        new_database=new_database,
        folder=tmp_path,
        backlog=BACKLOG,
        largest_batch=LARGE,
    )
    for death in deaths:
        # Enough was left for a batch that was being committed and for the one judged beside it: all that
        # this job was given were as large as they may be.
        assert BACKLOG - death.committed_after >= 2 * LARGE, death
    assert tuple(death.committed > FEW for death in deaths) == COMMITS, deaths
    assert (tmp_path / "killed.log").read_text(errors="replace").count("Streaming started") == len(deaths)
