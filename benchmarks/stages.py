"""Where a batch's time goes: each stage of it alone on the machine, one after the other, on one core.

The job does several of them at once, on two cores; so they add up to more than a batch takes there. What
Spark does is told apart by leaving stages out: moving the records to Python, say, is a job that reads them
and moves them, less one that only reads them.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from sqlalchemy import Connection, event

from benchmarks.errors import BenchFailed
from benchmarks.load import Load
from benchmarks.past import shipped_judge, store_histories
from benchmarks.phases import ends
from benchmarks.pipeline import Pipeline, Site
from benchmarks.population import Population
from fraudstream.alerting import mail_sender
from fraudstream.cleaning import clean
from fraudstream.config import Settings, child_environment, export, load_settings
from fraudstream.executors import PACKED, CleaningWork, cleaned_by_user, records_of, shares_a_batch
from fraudstream.features import transaction_features
from fraudstream.kafka_access import kafka_access
from fraudstream.merchant_risk import no_outcomes
from fraudstream.schema import RECORD_ARROW, Outcome
from fraudstream.scoring import Judge, Known, by_outcome, judge_partition
from fraudstream.stack.spark import class_archive, connector_jars, map_classes, spark_variables
from fraudstream.store.commit import Batch, commit_batch
from fraudstream.store.lookups import StoredHistories, StoredTransactions
from fraudstream.store.offsets import move_offsets, read_offsets
from fraudstream.streaming import build_session, end_session, kafka_fetches

_ZONE = ZoneInfo("UTC")
_MAILED_WITHIN_S = 120.0
_TABLE = re.compile(r"(?:INTO|FROM|UPDATE) `?(\w+)`?")

Found = TypeVar("Found")


@dataclass
class Clock:
    """Seconds by stage."""

    spent_s: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        self.spent_s[stage] = self.spent_s.get(stage, 0.0) + seconds

    def time(self, stage: str, work: Callable[[], Found]) -> Found:
        started = time.perf_counter()
        found = work()
        self.add(stage, time.perf_counter() - started)
        return found


def ms_per_1000_records(
    pipeline: Pipeline, settings: Settings, population: Population, records: int, rounds: int
) -> dict[str, float]:
    """Milliseconds for 1,000 records by stage: of `rounds` batches of `records` the median, after one more
    that warms all of it up."""
    with pipeline.site() as site, _spark_on_one_core(settings) as session:
        store_histories(site.engine, population)
        sent = Load(pipeline.addresses.kafka, site.topic, population)
        batches = []
        for _ in range(1 + rounds):
            first = ends(pipeline, site)
            sent.send_all(records)
            part = _records(session, pipeline, site, first, ends(pipeline, site))
            batches.append(_time_stages(part, pipeline, site, first))
    return {
        stage: round(statistics.median(batch.get(stage, 0.0) for batch in batches[1:]) * 1e6 / records, 2)
        for stage in batches[-1]
    }


@contextmanager
def _spark_on_one_core(settings: Settings) -> Iterator[SparkSession]:
    environment = child_environment()
    export(**spark_variables(environment, settings.cache_dir, local=True))
    session = build_session(
        master="local[1]",
        driver_memory=settings.spark_driver_memory,
        jars=connector_jars(environment, settings.cache_dir),
        java_options=map_classes(class_archive(environment, settings.cache_dir)),
    )
    try:
        yield session
    finally:
        end_session(session)


def _records(
    session: SparkSession, pipeline: Pipeline, site: Site, first: dict[int, int], last: dict[int, int]
) -> DataFrame:
    kafka = kafka_access(pipeline.addresses.kafka)
    bounds = {"startingOffsets": first, "endingOffsets": last}
    return (
        session.read.format("kafka")
        .options(**kafka.spark_options(), **kafka_fetches(_count(first, last)), subscribe=site.topic)
        .options(**{name: json.dumps({site.topic: offsets}) for name, offsets in bounds.items()})
        .load()
        .transform(records_of)
    )


def _count(first: dict[int, int], last: dict[int, int]) -> int:
    return sum(last.values()) - sum(first.values())


def _time_stages(
    records: DataFrame, pipeline: Pipeline, site: Site, first: dict[int, int]
) -> dict[str, float]:
    clock = Clock()
    cleaned = _time_reading(records, clock)
    judge = shipped_judge()
    judged = _time_judging(cleaned, judge, site, clock)
    _time_collecting(judged, records.sparkSession, clock)
    time_writing(judged, judge, site, first, clock)
    clock.time("mail", lambda: _send_mails(pipeline, site))
    return clock.spent_s


def _time_reading(records: DataFrame, clock: Clock) -> pa.Table:
    """Kafka read, hand-over to Python, parse, shuffle: rows of CLEANED_ARROW."""
    cleaning = CleaningWork(_ZONE, shares_a_batch(records.sparkSession))
    clock.time("kafka_read", lambda: _run(records))
    moved = Clock()
    moved.time("hand_over", lambda: _run(records.mapInArrow(_drop, PACKED)))
    moved.time("shuffle", lambda: _run(cleaned_by_user(records, cleaning).mapInArrow(_drop, PACKED)))
    table = records.toArrow().cast(RECORD_ARROW)
    cleaned = clock.time("parse", lambda: clean(table, _ZONE))
    clock.add("hand_over", moved.spent_s["hand_over"] - clock.spent_s["kafka_read"])
    clock.add("shuffle", moved.spent_s["shuffle"] - moved.spent_s["hand_over"] - clock.spent_s["parse"])
    return cleaned


def _run(rows: DataFrame) -> None:
    rows.write.format("noop").mode("overwrite").save()


def _drop(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        pass
    yield from ()


def _time_judging(cleaned: pa.Table, judge: Judge, site: Site, clock: Clock) -> pa.Table:
    """Look-ups, features, model, and all else that makes rows of JUDGED_ARROW of rows of CLEANED_ARROW."""
    find_ids, find_histories = StoredTransactions(site.engine.url), StoredHistories(site.engine.url)
    whole, histories = Clock(), dict[str, bytes]()

    def timed_histories(users: list[str]) -> dict[str, bytes]:
        histories.update(clock.time("history_read", lambda: find_histories(users)))
        return histories

    known = Known(lambda ids: clock.time("id_look_up", lambda: find_ids(ids)), timed_histories, no_outcomes())
    judged = whole.time("judge", lambda: judge_partition(cleaned, judge=judge, known=known))
    stored = by_outcome(judged)[Outcome.STORED]
    computed = clock.time(
        "features", lambda: transaction_features(stored, known.outcomes, find_histories=lambda _: histories)
    )
    if judge.model is None:
        raise BenchFailed("there is no model in model_output: `git checkout model_output` brings it back")
    clock.time("model", lambda: judge.model.score(computed.features))  # type: ignore[union-attr]
    clock.add("duplicates_rules_reasons", whole.spent_s["judge"] - sum(_judging_alone(clock)))
    return judged


def _judging_alone(clock: Clock) -> Iterator[float]:
    return (clock.spent_s[stage] for stage in ("id_look_up", "history_read", "features", "model"))


def _time_collecting(judged: pa.Table, session: SparkSession, clock: Clock) -> None:
    """As many bytes as the judged rows have, from tasks in Python to the driver."""
    shares = shares_a_batch(session)
    give = _Give(judged.nbytes // shares)
    rows = session.range(0, shares, 1, shares).mapInArrow(give, PACKED)
    clock.time("collect", rows.toArrow)


@dataclass(frozen=True)
class _Give:
    size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            packed = pa.array([bytes(self.size)])
            yield pa.record_batch({"share": pa.array([0], pa.int32()), "packed": packed})


def time_writing(judged: pa.Table, judge: Judge, site: Site, first: dict[int, int], clock: Clock) -> None:
    """All that a batch writes, as the job writes it, behind the offsets `first`."""
    with site.engine.begin() as connection:
        move_offsets(connection, site.topic, site.topic_id, first)
        before = read_offsets(connection, site.topic)
    version = judge.model.metadata.version if judge.model else None
    batch = Batch(site.topic, site.topic_id, before, by_outcome(judged), version, datetime.now(UTC))
    with site.engine.connect() as connection:
        with each_statement_timed(connection, clock):
            commit_batch(connection, batch)
        clock.time("commit", connection.commit)


@contextmanager
def each_statement_timed(connection: Connection, clock: Clock) -> Iterator[None]:
    """To each statement's table goes the time since the one before: making its text is part of it."""
    last = time.perf_counter()

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        table = _TABLE.search(statement[:1_000])
        clock.add(f"write_{table[1]}" if table else "write_rest", now - last)
        last = now

    event.listen(connection, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(connection, "after_cursor_execute", note)


def _send_mails(pipeline: Pipeline, site: Site) -> None:
    there = {name.lower(): value for name, value in pipeline.addresses.environment().items()}
    settings = load_settings(**there, alert_cooldown_seconds=0)
    if left := mail_sender(site.engine, **settings.mail_options).drain(_MAILED_WITHIN_S):
        raise BenchFailed(f"{left} alerts were not mailed within {_MAILED_WITHIN_S:g} s")
