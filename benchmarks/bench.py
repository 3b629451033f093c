"""All phases in their order, and what came out of them."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks import phases, stages
from benchmarks.errors import told_in_a_line
from benchmarks.load import Load
from benchmarks.phases import CatchUp, Paced, Percentiles
from benchmarks.pipeline import PARTITIONS, Pipeline, Site, running_pipeline
from benchmarks.population import Population
from benchmarks.watch import Memory, watch_memory
from fraudstream.config import Settings, child_environment
from fraudstream.stack.artifacts import KAFKA_VERSION
from fraudstream.stack.java import find_java, java_version

_PACKAGES = ("pyspark", "pyarrow", "numpy", "numba", "scikit-learn", "mysql-connector-python", "sqlalchemy")
_RANDOM_IDS = ", random ids"
Say = Callable[[str], None]

# Of a backlog: enough to tell a rate after those that warm up.
_LEAST_BATCHES = 6


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `full` is what the figures of docs/performance.md stand on."""

    backlog: int
    users: tuple[int, ...]
    sustained_rate: float
    sustained_s: float
    seconds_a_population: float  # at that rate, for each population; 0 leaves it out
    rates: tuple[int, ...]
    seconds_a_rate: float
    lone_records: int
    producer_rows: int
    plain_records: int
    naive_records: int
    stage_records: int
    stage_rounds: int
    read_repeats: int
    stored: int  # transactions in the database, for a catch-up beside many; 0 leaves it out
    random_ids: bool

    @classmethod
    def full(cls) -> Sizes:
        rates = (100, 1_000, 5_000, 10_000)
        return cls(
            backlog=500_000,
            users=(5_000, 25_000, 100_000, 400_000),
            sustained_rate=7_500,
            sustained_s=600,
            seconds_a_population=60,
            rates=rates,
            seconds_a_rate=30,
            lone_records=30,
            producer_rows=300_000,
            plain_records=200_000,
            naive_records=20_000,
            stage_records=50_000,
            stage_rounds=5,
            read_repeats=3,
            stored=10_000_000,
            random_ids=True,
        )

    @classmethod
    def quick(cls) -> Sizes:
        return cls(
            backlog=90_000,
            users=(5_000,),
            sustained_rate=5_000,
            sustained_s=10,
            seconds_a_population=0,
            rates=(100, 1_000, 5_000, 10_000),
            seconds_a_rate=4,
            lone_records=6,
            producer_rows=40_000,
            plain_records=30_000,
            naive_records=2_000,
            stage_records=10_000,
            stage_rounds=1,
            read_repeats=1,
            stored=400_000,
            random_ids=False,
        )

    def sustained_for(self, rate: float | None, seconds: float | None) -> Sizes:
        """The same with another sustained phase, as far as it is given."""
        return replace(
            self, sustained_rate=rate or self.sustained_rate, sustained_s=seconds or self.sustained_s
        )


@dataclass
class Findings:
    """What the phases found; None or empty where a phase was left out or did not come to its end."""

    complete: bool = False
    load_before: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    start_s: float | None = None
    lone_ms: Percentiles = field(default_factory=dict)
    latency: dict[int, Paced] = field(default_factory=dict)
    sustained: Paced | None = None
    catch_up: dict[str, CatchUp] = field(default_factory=dict)
    steady: dict[str, Paced] = field(default_factory=dict)
    producer_msg_per_s: float | None = None
    plain_tx_per_s: float | None = None
    naive_tx_per_s: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    page_problems: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured: the start of a job is what is measured first."""
        return self.start_s is None


def run(sizes: Sizes, settings: Settings, say: Say, found: Findings) -> None:
    """Measure everything. Nothing else should run on the machine meanwhile.

    Each phase adds to `found` what it measured, so that the caller has it after an error in a later one.
    Raises BenchFailed and StackError.
    """
    found.load_before = psutil.getloadavg()[0]
    populations = [Population(users) for users in sorted(sizes.users)]
    small = populations[0]
    if sizes.random_ids:
        populations.append(Population(small.users, random_ids=True))
    with (
        told_in_a_line(),
        running_pipeline(settings) as pipeline,
        watch_memory(pipeline.processes, found.memory),
    ):
        found.versions, found.page_problems = _versions(pipeline, settings), pipeline.page_problems
        _measure_paced(pipeline, sizes, small, found, say)
        at_most = min(settings.max_records_per_batch, sizes.backlog // _LEAST_BATCHES)
        for population in populations:
            _measure_catch_up(pipeline, population, sizes, at_most, found, say)
        say("the producer, a plain consumer and the naive way")
        found.producer_msg_per_s = phases.producer_rate(pipeline, small, sizes.producer_rows)
        found.plain_tx_per_s = phases.plain_consumer_rate(pipeline, small, sizes.plain_records)
        found.naive_tx_per_s = phases.naive_rate(pipeline, small, sizes.naive_records)
        say("each stage of a batch alone")
        found.stages_ms = stages.ms_per_1000_records(
            pipeline, settings, small, sizes.stage_records, sizes.stage_rounds
        )
        found.complete = True


def _versions(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """Those that differ from machine to machine with the same requirements."""
    with pipeline.server.connect() as connection:
        database = str(connection.scalar(text("SELECT VERSION()")))
    java = java_version(find_java(child_environment(), settings.cache_dir))
    return {"database": database, "java": str(java)}


def _measure_paced(
    pipeline: Pipeline, sizes: Sizes, population: Population, found: Findings, say: Say
) -> None:
    with phases.populated_site(pipeline, population) as (site, load):
        say("start, with one record waiting")
        with phases.started_job(pipeline, site, load) as found.start_s, pipeline.dashboard(site):
            say("warm-up")
            load.send_all(sizes.backlog // 2)
            pipeline.await_committed(site, load.sent, timeout_s=phases.GIVE_UP_S)
            say("lone records")
            found.lone_ms = phases.lone_records_ms(pipeline, site, load, sizes.lone_records)
            for rate in sizes.rates:
                say(f"latency at {rate:,} records a second")
                found.latency[rate] = phases.paced(pipeline, site, load, rate, sizes.seconds_a_rate)
            say(f"{sizes.sustained_rate:,.0f} records a second for {sizes.sustained_s:g} s")
            found.sustained = phases.paced(pipeline, site, load, sizes.sustained_rate, sizes.sustained_s)


def _measure_catch_up(
    pipeline: Pipeline, population: Population, sizes: Sizes, at_most: int, found: Findings, say: Say
) -> None:
    """Of an empty database, and for the smallest population again beside many rows, with the reads then.

    Between them, for each number of users, the sustained rate for a while: what a record costs then.
    """
    kind = _RANDOM_IDS if population.random_ids else ""
    with phases.populated_site(pipeline, population) as (site, load):

        def measure(name: str) -> None:
            say(f"catch-up, {name}")
            found.catch_up[name] = phases.catch_up(
                pipeline, site, load, sizes.backlog, at_most=at_most, read_repeats=sizes.read_repeats
            )

        name = _empty(population.users, kind)
        measure(name)
        if sizes.seconds_a_population and not population.random_ids:
            say(f"{sizes.sustained_rate:,.0f} records a second, {name}")
            found.steady[name] = _steady(pipeline, site, load, sizes)
        if sizes.stored and population.users == min(sizes.users):
            say(f"filling up to {sizes.stored:,} rows{kind}")
            phases.store_more(pipeline, site, load, sizes.stored)
            measure(_beside(sizes.stored, kind))


def _steady(pipeline: Pipeline, site: Site, load: Load, sizes: Sizes) -> Paced:
    """The sustained rate for a while, into a new job that is warm."""
    with phases.started_job(pipeline, site, load), pipeline.dashboard(site):
        load.send_all(sizes.backlog // 5)
        pipeline.await_committed(site, load.sent, timeout_s=phases.GIVE_UP_S)
        return phases.paced(pipeline, site, load, sizes.sustained_rate, sizes.seconds_a_population)


def _empty(users: int, kind: str = "") -> str:
    """What a catch-up into an empty database is called."""
    return f"{users} users{kind}"


def _beside(stored: int, kind: str = "") -> str:
    return f"{stored} stored{kind}"


def as_document(found: Findings, sizes: Sizes, settings: Settings) -> dict[str, Any]:
    """The findings under stable keys, with what they were measured on."""
    first = next(iter(found.catch_up.values()), None)
    read_beside = found.catch_up.get(_beside(sizes.stored), first)
    return {
        "complete": found.complete,
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "processor": _processor(Path("/proc/cpuinfo")),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": None if found.load_before is None else round(found.load_before, 2),
        },
        "versions": {"python": platform.python_version(), "kafka": KAFKA_VERSION}
        | found.versions
        | {package: version(package) for package in _PACKAGES},
        "settings": {
            "max_records_per_batch": settings.max_records_per_batch,
            "trigger_interval_seconds": settings.trigger_interval_seconds,
            "spark_driver_memory": settings.spark_driver_memory,
            "spark_master": settings.spark_master,
            "partitions": PARTITIONS,
            "alert_cooldown_seconds": float(phases.SETTINGS["ALERT_COOLDOWN_SECONDS"]),
        },
        "sizes": _as_json(sizes),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "start_s": _rounded(found.start_s),
        "catch_up": {"tx_per_s": _rounded(first.tx_per_s if first else None)}
        | {
            name: {
                "tx_per_s": _rounded(each.tx_per_s),
                "first_commit_s": _rounded(each.first_commit_s),
                "cpu_us_per_tx": each.cpu_us_per_tx,
                "batches": each.batches,
                "read_ms": _slowest(each.read_ms),
            }
            for name, each in found.catch_up.items()
        },
        "steady": {name: _paced(each) for name, each in found.steady.items()},
        "sustained": _paced(found.sustained),
        "latency": {
            str(rate): {"commit_ms": each.commit_ms, "mail_ms": each.mail_ms}
            for rate, each in found.latency.items()
        }
        | {"lone": {"commit_ms": found.lone_ms}},
        "producer": {"msg_per_s": _rounded(found.producer_msg_per_s)},
        "plain_consumer": {"tx_per_s": _rounded(found.plain_tx_per_s)},
        "naive": {"tx_per_s": _rounded(found.naive_tx_per_s)},
        "ratio": {
            "catch_up_to_plain_consumer": _ratio(first, found.plain_tx_per_s),
            "catch_up_to_naive": _ratio(first, found.naive_tx_per_s),
            "stored_to_empty": _stored_to_empty(found, sizes),
            "stored_to_empty_random_ids": _stored_to_empty(found, sizes, _RANDOM_IDS),
        },
        "stages": {"ms_per_1000": found.stages_ms} if found.stages_ms else {},
        # Beside as many rows as were stored, under ascending identifiers.
        "dashboard": {
            "read_ms": _slowest(read_beside.read_ms if read_beside else {}),
            "page_problems": None if found.is_empty else len(found.page_problems),
        },
        "memory_mib": {
            "peak": _rounded(found.memory.peak_mib or None),
            "at_peak": {part: round(mib) for part, mib in found.memory.at_peak.items()},
        },
    }


def _stored_to_empty(found: Findings, sizes: Sizes, kind: str = "") -> float | None:
    empty = found.catch_up.get(_empty(min(sizes.users), kind))
    return _ratio(found.catch_up.get(_beside(sizes.stored, kind)), empty.tx_per_s if empty else None)


def _processor(cpuinfo: Path) -> str:
    """The model's name; where the kernel does not tell it, the architecture."""
    told = cpuinfo.read_text() if cpuinfo.exists() else ""
    named = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _as_json(sizes: Sizes) -> dict[str, Any]:
    """As they are read again from a file, where there are no tuples."""
    return {name: list(size) if isinstance(size, tuple) else size for name, size in asdict(sizes).items()}


def _ratio(catch_up: CatchUp | None, other: float | None) -> float | None:
    return round(catch_up.tx_per_s / other, 2) if catch_up and other else None


def _paced(paced: Paced | None) -> dict[str, Any]:
    if paced is None:
        return {}
    return {
        "rate": paced.rate,
        "tx_per_s": round(paced.committed_per_s, 1),
        "cost_us_per_tx": paced.cost_us,
        "cpu_us_per_tx": paced.cpu_us_per_tx,
        "lag_grew": paced.lag_grew,
        "lag": {"median": statistics.median(paced.lag), "largest": max(paced.lag), "each_second": paced.lag},
        "commit_ms": paced.commit_ms,
        "mail_ms": paced.mail_ms,
    }


def _slowest(read_ms: dict[str, float]) -> dict[str, Any]:
    """The longest time, and the ten reads that take longest."""
    if not read_ms:
        return {}
    longest = sorted(read_ms.items(), key=lambda read: -read[1])[:10]
    return {"max": round(longest[0][1], 1), "longest": {name: round(ms, 1) for name, ms in longest}}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
