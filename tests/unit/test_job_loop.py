"""What the job does after each end of a query; the queries are made up."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException
from sqlalchemy.engine import make_url

from fraudstream import streaming
from fraudstream.kafka_access import KafkaAccess
from fraudstream.store.offsets import StoredOffsets
from fraudstream.streaming import Job, JobConfig, JobStopped

MOST = 1_000


class Rehearsed(Job):
    """Each query is a function of the job that is told to it; after the last one it is stopped."""

    def __init__(self, *queries: Callable[[Rehearsed], None]) -> None:
        config = JobConfig(
            kafka=KafkaAccess("localhost:1"),
            topic="t",
            partitions=1,
            database=make_url("mysql+mysqlconnector://u@localhost:1/t"),
            model_dir=Path(),
            zone=ZoneInfo("UTC"),
            max_records_per_batch=MOST,
            trigger_interval_s=0,
        )
        super().__init__(None, config, stopped=lambda: not self._queries)  # type: ignore[arg-type]
        self._queries = list(queries)
        self.took: list[int] = []

    def _run_as_writer(self) -> None:
        self._failure = None
        self.took.append(self._limit.records)
        self._queries.pop(0)(self)

    def _pause(self, seconds: float) -> None:
        """Nothing to wait for."""


def fails(error: Exception) -> Callable[[Rehearsed], None]:
    """A query whose first batch fails."""

    def query(job: Rehearsed) -> None:
        job._failure = error
        raise error

    return query


def succeeds(job: Rehearsed) -> None:
    job._batch_succeeded = True


def fails_later(job: Rehearsed) -> None:
    succeeds(job)
    fails(PySparkException("no memory"))(job)


def fails_outside_of_a_batch(_job: Rehearsed) -> None:
    raise PySparkException("no broker")


TOO_LARGE = [PySparkException("no memory"), MemoryError(), pa.ArrowInvalid("offset overflow")]


@pytest.mark.parametrize("error", TOO_LARGE, ids=lambda error: type(error).__name__)
def test_batches_become_smaller_while_the_first_one_fails_and_larger_again_once_some_succeed(
    error: Exception,
) -> None:
    job = Rehearsed(fails(error), fails(error), succeeds, succeeds, succeeds, succeeds)
    job.run()
    assert job.took == [MOST, 500, 250, 500, MOST, MOST]


def test_a_failure_that_says_nothing_of_a_batchs_size_leaves_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    job = Rehearsed(fails_later, fails_outside_of_a_batch, fails(TimeoutError("slow")), succeeds)
    job.run()
    assert job.took == [MOST] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "the query failed: no memory", "the query failed: no broker", "slow"
    ]  # fmt: skip


def test_a_full_disk_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    def finds_the_disk_full(_job: Rehearsed) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/checkpoint")

    job = Rehearsed(finds_the_disk_full, finds_the_disk_full, succeeds)
    job.run()
    assert len(job.took) == 3
    assert "No space left on device: '/tmp/checkpoint'" in caplog.text


def test_a_mistake_in_the_program_ends_it() -> None:
    with pytest.raises(KeyError):
        Rehearsed(fails(KeyError("x")), succeeds).run()


def test_only_a_query_with_smaller_batches_ends_by_itself_after_some_that_succeeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Rehearsed()
    monkeypatch.setattr(streaming.time, "monotonic", lambda: 100.0)

    def may_take_more(started: float) -> bool:
        return job._may_take_more(started)

    succeeds(job)
    assert not may_take_more(started=0)
    job._limit.halve(None)
    assert may_take_more(started=0) and not may_take_more(started=95)
    job._batch_succeeded = False
    assert not may_take_more(started=0)


def test_while_kafka_has_not_said_how_many_wait_nobody_knows() -> None:
    reached = StoredOffsets("id", {0: 5})
    assert streaming._waiting(reached, {}) is None
    assert streaming._waiting(reached, {0: 5, 1: 3}) == 3


def test_a_java_process_that_has_ended_names_the_settings_that_may_help() -> None:
    with pytest.raises(JobStopped, match="MAX_RECORDS_PER_BATCH or a higher SPARK_DRIVER_MEMORY"):
        Rehearsed(fails(Py4JNetworkError("gone"))).run()
