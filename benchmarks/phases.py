"""The questions that the bench answers, one function each. Rates are records a second, times are as named.

A rate or latency is what a reader of the database sees: a record counts when the transaction that stores it
has been committed.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import psutil
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from benchmarks.errors import BenchFailed
from benchmarks.load import Load
from benchmarks.past import forget_mails, store_histories, store_more_transactions
from benchmarks.pipeline import Pipeline, Site
from benchmarks.plain_consumer import plain_rate
from benchmarks.population import Population
from benchmarks.watch import Commits, ProcessorTime, Repeatedly, watch_commits
from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.kafka_access import kafka_access
from fraudstream.schema import FIELD_NAMES
from fraudstream.stack.processes import kill, spawn, tail
from fraudstream.store.outbox import pending
from fraudstream.store.reads.timing import read_times_ms
from fraudstream.topic import offset_range

# So many batches of a catch-up only warm the Java machine up.
WARM_UP_BATCHES = 2
# The part of a catch-up in which each commit has the judging of the batch after it beside it: not the end.
_SPENT_FROM, _SPENT_TO = 0.4, 0.8
# No alert is held back by a cool-down, so that each of them is a measurement.
SETTINGS = {"ALERT_COOLDOWN_SECONDS": "0"}
GIVE_UP_S = 900.0
_DRAIN_S = 120.0
# For the watcher to see the last commit, too.
_LAST_LOOK_S = 0.1
# In less time, batches that come and go look like a lag that grows or shrinks.
_TELLS_FROM_S = 60
_COSTS = 10
# Spark ends a Python worker that was idle for a minute: each is seen again after its last work.
_LOOK_AT_PROCESSES_S = 10

Percentiles = dict[str, float]


@dataclass(frozen=True)
class CatchUp:
    """A backlog worked off: the rate after the warm-up, and each batch's (records committed, rate).

    `read_ms` is what each of the dashboard's reads takes afterwards.
    """

    tx_per_s: float
    first_commit_s: float
    batches: list[tuple[int, float]]
    cpu_us_per_tx: dict[str, float]
    read_ms: dict[str, float]


@dataclass(frozen=True)
class Paced:
    """Records at a given rate: milliseconds from produced to committed and mailed; each second's lag, behind
    what was due by then, also where the sender was late.

    `committed_per_s` is what was committed while records came, `cost_us` the processor time of the whole
    system for each of them, in each part of that time, `cpu_us_per_tx` that of each process over all of it.
    """

    rate: float
    committed_per_s: float
    commit_ms: Percentiles
    mail_ms: Percentiles
    lag: list[int]
    cost_us: list[float]
    cpu_us_per_tx: dict[str, float]

    @property
    def lag_grew(self) -> bool | None:
        """Whether the last quarter's lag was above the second quarter's by more than a second's records.

        None where it was not looked at for long enough to say.
        """
        if len(self.lag) < _TELLS_FROM_S:
            return None
        quarter = len(self.lag) // 4
        second, last = self.lag[quarter : 2 * quarter], self.lag[-quarter:]
        return float(np.mean(last) - np.mean(second)) > self.rate


@contextmanager
def populated_site(pipeline: Pipeline, population: Population) -> Iterator[tuple[Site, Load]]:
    """A database that knows the population's past, and an empty topic for what comes next."""
    with pipeline.site() as site:
        store_histories(site.engine, population)
        yield site, Load(pipeline.addresses.kafka, site.topic, population)


def catch_up(
    pipeline: Pipeline, site: Site, load: Load, backlog: int, *, at_most: int, read_repeats: int
) -> CatchUp:
    """The job meets `backlog` records in Kafka and takes `at_most` a batch; the dashboard is open meanwhile.

    Raises BenchFailed when that is too few batches to tell a rate.
    """
    before = load.sent
    load.send_all(backlog)
    commits = Commits()
    settings = {**SETTINGS, "MAX_RECORDS_PER_BATCH": str(at_most)}
    with pipeline.dashboard(site), watch_commits(site.engine, site.topic, commits):
        started = time.time()
        with pipeline.job(site, **settings):
            spent = _cpu_us_per_tx(
                pipeline, site, before + round(_SPENT_FROM * backlog), before + round(_SPENT_TO * backlog)
            )
            pipeline.await_committed(site, load.sent, timeout_s=GIVE_UP_S)
            time.sleep(_LAST_LOOK_S)
    at, totals = commits.totals()
    at, totals = at[totals > before], totals[totals > before]
    if len(at) < WARM_UP_BATCHES + 2:
        raise BenchFailed(
            f"a backlog of {backlog:,} in batches of {at_most:,} is too few batches to tell a rate"
        )
    return CatchUp(
        tx_per_s=_rate(at[WARM_UP_BATCHES - 1 :], totals[WARM_UP_BATCHES - 1 :]),
        first_commit_s=float(at[0] - started),
        batches=_batch_rates(at, totals - before),
        cpu_us_per_tx=spent,
        read_ms=read_times_ms(site.engine, repeats=read_repeats),
    )


def store_more(pipeline: Pipeline, site: Site, load: Load, rows: int) -> None:
    """Copies of what is stored until there are `rows`; nobody is to be told of them."""
    forget_mails(site.engine)
    store_more_transactions(site.engine, rows, random_ids=load.population.random_ids)
    pipeline.restart_database(site)


def _rate(at: NDArray[np.float64], totals: NDArray[np.int64]) -> float:
    return float((totals[-1] - totals[0]) / (at[-1] - at[0]))


def _batch_rates(at: NDArray[np.float64], totals: NDArray[np.int64]) -> list[tuple[int, float]]:
    """(records committed, rate) of each batch behind the first, without small ones, whose says little."""
    records = np.diff(totals)
    large = records > records.max() / 10
    rates = (records / np.maximum(np.diff(at), 1e-6))[large]
    return list(zip(totals[1:][large].tolist(), rates.round(1).tolist(), strict=True))


def _cpu_us_per_tx(pipeline: Pipeline, site: Site, first: int, last: int) -> dict[str, float]:
    """Processor time a record, by part, from when `first` records are committed until `last` are."""
    processor_time = ProcessorTime(pipeline.processes)

    def spent_until(records: int) -> _Spent:
        # Batches come whole: by then some more are committed.
        committed = pipeline.await_committed(site, records, timeout_s=GIVE_UP_S)
        return _Spent(committed, processor_time.look())

    spent = _us_a_record(spent_until(first), spent_until(last))
    if not spent:
        raise BenchFailed("too few batches to tell the processor time of a record")
    return spent


@contextmanager
def started_job(pipeline: Pipeline, site: Site, load: Load) -> Iterator[float]:
    """A job that runs during the block; gives the seconds from its start, with a record waiting, to that
    record's commit."""
    before = load.sent
    load.send_all(1)
    commits, started = Commits(), time.time()
    with pipeline.job(site, **SETTINGS):
        with watch_commits(site.engine, site.topic, commits):
            pipeline.await_committed(site, load.sent, timeout_s=GIVE_UP_S)
            time.sleep(_LAST_LOOK_S)
        yield commits.first_behind(before) - started


def paced(pipeline: Pipeline, site: Site, load: Load, rate: float, seconds: float) -> Paced:
    """`rate` records a second for so long, into a job that runs and is warm."""
    forget_mails(site.engine)
    first = ends(pipeline, site)
    began, before, commits = time.time(), sum(first.values()), Commits()
    looks: list[_Look] = []
    spent: list[_Spent] = []
    processor_time = ProcessorTime(pipeline.processes)
    with watch_commits(site.engine, site.topic, commits):

        def note(over_s: float, due: int) -> None:
            committed = commits.newest_total(before)
            looks.append(_Look(over_s, due, committed))
            if len(looks) % _LOOK_AT_PROCESSES_S == 0:
                processor_time.look()
            if over_s + 1 > len(spent) * seconds / _COSTS:
                spent.append(_Spent(committed, processor_time.look()))

        load.send_paced(rate, seconds, note)
        pipeline.await_committed(site, load.sent, timeout_s=GIVE_UP_S)
        time.sleep(_LAST_LOOK_S)
    _await_mails(site.engine)
    return Paced(
        rate=rate,
        committed_per_s=_committed_per_s(looks, before),
        commit_ms=_commit_ms(site.engine, first, commits),
        mail_ms=_mail_ms(site.engine, began),
        lag=[look.lag for look in looks],
        cost_us=_costs(spent),
        cpu_us_per_tx=_us_a_record(spent[0], spent[-1]),
    )


class _Spent(NamedTuple):
    """So many records were committed, and so many processor seconds were spent by each part until then."""

    records: int
    by_part: dict[str, float]


class _Look(NamedTuple):
    """How many records were due after so many seconds, and how many committed; both in all."""

    over_s: float
    due: int
    committed: int

    @property
    def lag(self) -> int:
        return self.due - self.committed


def _committed_per_s(looks: Sequence[_Look], before: int) -> float:
    """While records came: `before` were committed when the first of them was due."""
    return (looks[-1].committed - before) / looks[-1].over_s


def _costs(spent: Sequence[_Spent]) -> list[float]:
    """Microseconds a record from each to the next."""
    return [round(sum(us.values()), 1) for us in starmap(_us_a_record, pairwise(spent)) if us]


def _us_a_record(before: _Spent, after: _Spent) -> dict[str, float]:
    """Microseconds of processor time a record, by part; empty where none was committed in between."""
    records = after.records - before.records
    if not records:
        return {}
    return {
        part: round((seconds - before.by_part.get(part, 0.0)) / records * 1e6, 1)
        for part, seconds in after.by_part.items()
    }


def lone_records_ms(pipeline: Pipeline, site: Site, load: Load, count: int) -> Percentiles:
    """`count` records, each alone in a quiet system at an unforeseeable moment."""
    _send_one(pipeline, site, load)  # connects
    chance, first, commits = random.Random(7), ends(pipeline, site), Commits()
    with watch_commits(site.engine, site.topic, commits):
        for _ in range(count):
            _send_one(pipeline, site, load)
            time.sleep(chance.uniform(0.3, 1.0))
    return _commit_ms(site.engine, first, commits)


def _send_one(pipeline: Pipeline, site: Site, load: Load) -> None:
    load.send_paced(1000, 0.001, lambda _over, _due: None)
    pipeline.await_committed(site, load.sent, timeout_s=60)


def ends(pipeline: Pipeline, site: Site) -> dict[int, int]:
    """Partition -> the offset that its next record will have."""
    ranges = offset_range(kafka_access(pipeline.addresses.kafka), site.topic, range(4))
    return {partition: latest for partition, (_, latest) in ranges.items()}


def _commit_ms(engine: Engine, first: dict[int, int], commits: Commits) -> Percentiles:
    ages = []
    for partition, offset in first.items():
        query = text(
            "SELECT `offset`, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', kafka_time) FROM clean_data "
            "WHERE partition_id = :partition AND `offset` >= :offset"
        )
        with engine.connect() as connection:
            rows = connection.execute(query, {"partition": partition, "offset": offset}).all()
        if rows:
            offsets, produced_us = np.array(rows, dtype=np.int64).T
            ages.append(commits.visible_at(partition, offsets) * 1e3 - produced_us / 1e3)
    return _percentiles(np.concatenate(ages))


def _await_mails(engine: Engine) -> None:
    deadline = time.monotonic() + _DRAIN_S
    while (left := pending(engine)).waiting or left.sending:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{left} after {_DRAIN_S:g} s")
        time.sleep(0.2)


def _mail_ms(engine: Engine, began: float) -> Percentiles:
    """Produced -> accepted by the mail server, of every alert since; empty without one."""
    query = text(
        "SELECT TIMESTAMPDIFF(MICROSECOND, clean_data.kafka_time, mails.sent_at) FROM alerts "
        "JOIN mails USING (mail_id) JOIN clean_data USING (TransactionID) "
        "WHERE alerts.created_at >= FROM_UNIXTIME(:began)"
    )
    with engine.connect() as connection:
        ages = connection.scalars(query, {"began": began}).all()
    return _percentiles(np.array(ages, dtype=np.float64) / 1e3) if ages else {}


def _percentiles(ms: NDArray[np.float64]) -> Percentiles:
    p50, p95, p99 = np.percentile(ms, [50, 95, 99]).round(1).tolist()
    return {"p50": p50, "p95": p95, "p99": p99}


def producer_rate(pipeline: Pipeline, population: Population, rows: int) -> float:
    """Messages a second of one `producer_from_csv.py --rate 0`, from its first record to its last."""
    with pipeline.site() as site:
        file = pipeline.folder / "rows.csv"
        _write_csv(file, population, rows)
        environment = child_environment(
            **{**pipeline.addresses.environment(), "KAFKA_TOPIC": site.topic},
            XDG_STATE_HOME=str(pipeline.folder),
            PYTHONPATH=str(PROJECT_DIR),
        )
        command = [sys.executable, "producer_from_csv.py", "--file", str(file), "--rate", "0"]
        samples: list[tuple[float, int]] = []
        with Repeatedly(lambda: samples.append((time.time(), sum(ends(pipeline, site).values()))), 0.1):
            subprocess.run(command, cwd=PROJECT_DIR, env=environment, check=True, capture_output=True)
        at, sent = (np.array(column) for column in zip(*samples, strict=True))
        moving = (sent > 0) & (sent < sent[-1])
        return _rate(at[moving], sent[moving])


def _write_csv(file: Path, population: Population, rows: int) -> None:
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(FIELD_NAMES)
        for value in population.messages(0, rows).values:
            cells = orjson.loads(value)
            writer.writerow("" if cells[name] is None else cells[name] for name in FIELD_NAMES)


def plain_consumer_rate(pipeline: Pipeline, population: Population, records: int) -> float:
    with pipeline.site() as site:
        Load(pipeline.addresses.kafka, site.topic, population).send_all(records)
        return plain_rate(site.engine, pipeline.addresses.kafka, site.topic, records)


def naive_rate(pipeline: Pipeline, population: Population, records: int) -> float:
    """Rows a second of benchmarks.naive over `records`, its first batch left out."""
    with pipeline.site() as site:
        Load(pipeline.addresses.kafka, site.topic, population).send_all(records)
        log = pipeline.folder / "logs" / "naive.log"
        environment = child_environment(
            **{**pipeline.addresses.environment(), "MYSQL_URL": site.database, "KAFKA_TOPIC": site.topic},
            PYTHONPATH=str(PROJECT_DIR),
        )
        naive = spawn([sys.executable, "-m", "benchmarks.naive"], environment=environment, log=log)
        try:
            return _rate(*_growth(site.engine, naive, log, records))
        finally:
            kill([*naive.children(recursive=True), naive])


def _growth(
    engine: Engine, naive: psutil.Process, log: Path, records: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(moments, rows stored) of the naive table, from its first batch until nearly all is there."""
    seen: list[tuple[float, int]] = []
    deadline = time.monotonic() + GIVE_UP_S
    enough = 0.95 * records  # some rows are dead letters
    while not seen or seen[-1][1] < enough:
        if not naive.is_running() or naive.status() == psutil.STATUS_ZOMBIE:
            raise BenchFailed(tail(log))
        if time.monotonic() > deadline:
            break
        rows = _rows_of_naive(engine)
        if rows and (not seen or rows > seen[-1][1]):
            seen.append((time.monotonic(), rows))
        time.sleep(0.05)
    moments, rows_seen = zip(*seen, strict=True)
    return np.array(moments), np.array(rows_seen)


def _rows_of_naive(engine: Engine) -> int:
    with engine.connect() as connection:
        there = connection.scalar(text("SHOW TABLES LIKE 'naive'"))
        return connection.scalar(text("SELECT COUNT(*) FROM naive")) or 0 if there else 0
