"""The stream: Spark session, Kafka source, the batch handler, and the loop that keeps it going."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import Broadcast
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from fraudstream import model_store, resume, topic
from fraudstream.batch_limit import BatchLimit
from fraudstream.executors import (
    CleaningWork,
    Here,
    PartitionWork,
    Shared,
    collected,
    find_clashes,
    on_executors,
    records_of,
    run_on_executors,
    shares_a_batch,
    warm_up,
    with_original_bytes,
)
from fraudstream.features import compile_features
from fraudstream.history import HistoryError
from fraudstream.kafka_access import KafkaAccess
from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.merchant_risk import Outcomes
from fraudstream.model_store import ModelError
from fraudstream.pending_commit import PendingCommit
from fraudstream.rules import load_rules
from fraudstream.scoring import Claims, Judge, by_outcome
from fraudstream.store.commit import Batch, BatchCounts, commit_batch
from fraudstream.store.engine import ANSWER_WITHIN_S, make_engine
from fraudstream.store.errors import Permanent, permanent_cause, permanent_cause_on_executors
from fraudstream.store.job_status import JobStatus
from fraudstream.store.labels import read_label_changes
from fraudstream.store.locks import lock_name
from fraudstream.store.lookups import StoredHistories, StoredTransactions
from fraudstream.store.migrate import NewerDatabase, migrate, refuse_newer
from fraudstream.store.offsets import OffsetsMoved, StoredOffsets, move_offsets, read_offsets
from fraudstream.store.status import State, set_status
from fraudstream.store.writer import Writer, WriterLost, become_writer, in_the_writers_place, this_process
from fraudstream.uncommitted import Uncommitted

log = logging.getLogger(__name__)

PROJECT_DIR = Path(__file__).resolve().parent.parent
_LOG4J = Path(__file__).with_name("log4j2.properties")
_RENAME_BASED = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
# Hadoop runs chmod for each file it makes, and for its checksum's file again; the checkpoint needs neither.
_NO_CHECKSUMS = "org.apache.hadoop.fs.RawLocalFileSystem"
_WORKERS_FORK_FROM = "fraudstream.executor_daemon"
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_LOWERED_FOR_S = 10.0
_POLL_S = 0.2
# So many records are judged sooner in one process than spread over the executors. A batch may be larger, by
# what has come since Kafka was last asked.
FEW = 10_000

_ONLY_A_PERSON_CAN_HELP = (
    ModelError,
    resume.TopicGap,
    topic.TopicError,
    NewerDatabase,
    Permanent,
    HistoryError,
)
# Of a topic that was replaced, the next start says what is lost.
# An OSError may be a full disk, or a server that was too slow.
_PASSING = (WriterLost, OffsetsMoved, topic.BrokerUnavailable, topic.TopicReplaced, OSError)
_OF_THE_QUERY = (PySparkException, Py4JError, MemoryError, pa.ArrowException)
_FORESEEN = (*_ONLY_A_PERSON_CAN_HELP, *_PASSING, DBAPIError, *_OF_THE_QUERY)

_JVM_ENDED = (
    "Spark's JVM has ended: start the job again; if that is how it ends again, with a lower "
    "MAX_RECORDS_PER_BATCH or a higher SPARK_DRIVER_MEMORY"
)


class JobStopped(Exception):
    """The job cannot go on until somebody mends what the text names."""


@dataclass(frozen=True)
class JobConfig:
    """What the job needs to know; `zone` is the zone of the times in the data, `checkpoint_root` may be any
    scratch folder on the driver."""

    kafka: KafkaAccess
    topic: str
    partitions: int
    database: URL
    model_dir: Path
    zone: ZoneInfo
    max_records_per_batch: int
    trigger_interval_s: float
    checkpoint_root: Path | None = None


def build_session(
    *,
    master: str,
    driver_memory: str,
    partitions: int = 1,
    jars: Sequence[Path] = (),
    java_options: Sequence[str] = (),
) -> SparkSession:
    """A session tuned for short micro-batches.

    A batch is judged in as many tasks as this machine has cores, or on a cluster, whose cores are not
    known before its workers have come, in as many as the topic has `partitions`.
    """
    local = master.startswith("local")
    java = [f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}", "-XX:+UseParallelGC", *java_options]
    options = {
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.driver.memory": driver_memory,
        "spark.driver.bindAddress": "127.0.0.1" if local else "0.0.0.0",
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.host": "127.0.0.1" if local else socket.gethostname(),
        "spark.executorEnv.PYTHONPATH": str(PROJECT_DIR),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str((os.cpu_count() or 2) if local else partitions),
        "spark.sql.adaptive.enabled": "false",
        "spark.hadoop.fs.file.impl": _NO_CHECKSUMS,
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000000",
        "spark.sql.streaming.checkpointFileManagerClass": _RENAME_BASED,
        "spark.ui.showConsoleProgress": "false",
    }
    if local:  # here the imports would compete with all other work for the same cores
        options["spark.python.daemon.module"] = _WORKERS_FORK_FROM
    builder = SparkSession.builder.master(master).appName("fraudstream")
    for name, value in options.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def kafka_fetches(records: int) -> dict[str, int]:
    """Options of Spark's Kafka source: how it fetches a batch of so many records."""
    return {
        "kafka.max.poll.records": min(10_000, records),
        "kafka.fetch.max.wait.ms": 20,  # the default of half a second is most of a lone record's latency
    }


def end_session(session: SparkSession) -> None:
    """Stop Spark and its Java process, whose memory is then free for what comes next.

    pyspark itself keeps the process for a session that may follow; so that one can, it is made to forget it.
    """
    context: Any = type(session.sparkContext)
    gateway = context._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    context._gateway = context._jvm = None


class Job:
    """Kafka -> cleaned -> judged -> MySQL, exactly once, for as long as it is not told to stop."""

    def __init__(self, session: SparkSession, config: JobConfig, *, stopped: Callable[[], bool]) -> None:
        # Arrow's own allocator keeps a heap for each thread, and Spark calls from new threads in each query.
        pa.set_memory_pool(pa.system_memory_pool())
        self._session = session
        self._config = config
        self._stopped = stopped
        self._engine = make_engine(config.database, pooled=False, answer_within_s=ANSWER_WITHIN_S)
        self._reading = make_engine(config.database, answer_within_s=ANSWER_WITHIN_S)
        self._failure: BaseException | None = None
        self._reached = StoredOffsets(None, {})
        self._warm = False
        self._batch_succeeded = False
        self._limit = BatchLimit(config.max_records_per_batch)
        self._waiting: int | None = None
        self.tables_ready = threading.Event()
        self._batch_running = threading.Lock()
        self._commit = PendingCommit()
        self._last_batch = Uncommitted.nothing()
        self._model = _ModelInUse(session, config.model_dir)
        self._status = JobStatus(config.zone)
        self._outcomes = _OutcomesInUse(session)

    def run(self) -> None:
        """Run until `stopped` says so. Raises JobStopped when only a person can help.

        Any other failure of the database, Kafka, Spark or the system ends the query, frees the lock, and is
        followed by a new start from the stored offsets, after a pause that grows from one to thirty seconds
        while no batch succeeds, and with smaller batches where the first one failed. What else is raised is a
        mistake in the program, and ends it.
        """
        pause_s = _FIRST_RETRY_S
        while not self._stopped():
            started, self._batch_succeeded = time.monotonic(), False
            try:
                self._run_as_writer()
            except _FORESEEN as error:
                trouble = _trouble(error)
                if trouble.only_a_person_can_help:
                    raise JobStopped(trouble.text) from error
                log.error("%s", trouble.text)
                if isinstance(error, _OF_THE_QUERY) and error is self._failure and not self._batch_succeeded:
                    self._limit.halve(self._waiting)
                    log.warning("a batch has at most %d records from now on", self._limit.records)
            else:
                if self._batch_succeeded:
                    self._limit.double()
                    pause_s = _FIRST_RETRY_S
                continue
            if self._batch_succeeded or time.monotonic() - started > _LONGEST_RETRY_S:
                pause_s = _FIRST_RETRY_S
            log.info("starting again in %g s", pause_s)
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._stopped() and time.monotonic() < ends:
            time.sleep(_POLL_S)

    def _run_as_writer(self) -> None:
        lock = lock_name(self._config.database.database or "", self._config.topic)
        with self._telling_of_errors(partial(in_the_writers_place, self._engine, lock)):
            migrate(make_engine(self._config.database, pooled=False))  # a change of tables may take any time
            self.tables_ready.set()
            self._prepare()
            holder = this_process(uuid.uuid4().hex[:8])
            writer = become_writer(self._engine, lock, holder=holder, stopped=self._stopped)
        if writer is None:
            return
        with writer, self._telling_of_errors(writer.transaction):
            self._run_query(writer)

    @contextmanager
    def _telling_of_errors(
        self, transaction: Callable[[], AbstractContextManager[Connection]]
    ) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._status.failed(_trouble(error).text, transaction)
            raise

    def _prepare(self) -> None:
        """All that can be done before it is this process's turn, so that its first batch comes at once."""
        self._model.refresh(self._engine)
        if not self._warm:
            compile_features()  # once here, not in each executor
            warm_up(self._session, self._model.judge, self._outcomes.shared)
            self._warm = True

    def _run_query(self, writer: Writer) -> None:
        self._outcomes.forget()  # another writer may have stored transactions in between
        self._last_batch = Uncommitted.nothing()
        info, starting = self._where_to_start(writer)
        self._failure = None
        with (
            _scratch_checkpoint(self._config.checkpoint_root) as checkpoint,
            topic.LatestOffsets(self._config.kafka, self._config.topic) as latest,
            topic.SameTopic(self._config.kafka, self._config.topic, info.topic_id) as same_topic,
        ):
            handler = _BatchHandler(partial(self._handle, writer, same_topic, latest))
            query = (
                self._source(starting)
                .transform(records_of)
                .writeStream.foreachBatch(handler)
                .option("checkpointLocation", str(checkpoint))
                .trigger(processingTime=f"{self._config.trigger_interval_s} seconds")
                .start()
            )
            print("Streaming started", flush=True)  # noqa: T201
            print(f"Spark UI: {self._session.sparkContext.uiWebUrl}", flush=True)  # noqa: T201
            print("Waiting for data...", flush=True)  # noqa: T201
            try:
                self._await_end(query)
            finally:
                handler.let_go()

    def _await_end(self, query: StreamingQuery) -> None:
        """Return when told to stop or when the next query may take more; raises what ended it before that."""
        started = time.monotonic()
        try:
            while not (
                self._stopped()
                or self._commit.has_failed
                or self._may_take_more(started)
                or query.awaitTermination(_POLL_S)  # type: ignore[arg-type]
            ):
                pass
        except PySparkException:
            # What the handler raised says more than Spark's account of it.
            if self._failure is None:
                raise
        finally:
            try:
                with self._batch_running:
                    pass  # a running batch is finished first; one that begins later sees that it is over
                query.stop()
            finally:
                self._commit.settle()
        if self._failure is not None:
            raise self._failure

    def _may_take_more(self, started: float) -> bool:
        tried = self._batch_succeeded and time.monotonic() - started > _LOWERED_FOR_S
        return tried and self._limit.is_lowered

    def _where_to_start(self, writer: Writer) -> tuple[topic.TopicInfo, dict[int, int]]:
        kafka, name = self._config.kafka, self._config.topic
        info = topic.ensure_topic(kafka, name, self._config.partitions, on_wait=log.info)
        ranges = topic.offset_range(kafka, name, info.partitions)
        with writer.transaction() as connection:
            refuse_newer(connection)  # from here on nobody changes the tables, but before it one may have
            stored = read_offsets(connection, name)
            starting = resume.starting_offsets(
                name,
                stored_topic_id=stored.topic_id,
                stored=stored.next_offsets,
                topic_id=info.topic_id,
                ranges=ranges,
            )
            # Noted before anything is read: what is lost from here on is a gap, also before the first batch.
            move_offsets(connection, name, info.topic_id, starting)
            self._status.started(connection)
        self._reached = StoredOffsets(info.topic_id, starting)
        return info, starting

    def _source(self, starting: dict[int, int]) -> DataFrame:
        by_partition = {str(partition): offset for partition, offset in starting.items()}
        return (
            self._session.readStream.format("kafka")
            .options(**self._config.kafka.spark_options(), **kafka_fetches(self._limit.records))
            .option("subscribe", self._config.topic)
            .option("startingOffsets", json.dumps({self._config.topic: by_partition}))
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", self._limit.records)
            .load()
        )

    def _handle(
        self,
        writer: Writer,
        same_topic: topic.SameTopic,
        latest: topic.LatestOffsets,
        records: DataFrame,
    ) -> bool:
        """One micro-batch; whether the query goes on. Of a failure `run` decides what comes next."""
        with self._batch_running:
            if not self._stopped():
                try:
                    self._model.refresh(self._engine)
                    self._process(writer, same_topic, latest, records)
                except BaseException as error:  # noqa: BLE001 - `_await_end` raises it
                    self._failure = error
        return self._failure is None

    def _process(
        self, writer: Writer, same_topic: topic.SameTopic, latest: topic.LatestOffsets, records: DataFrame
    ) -> None:
        """Judge the batch and begin its commit, beside which the next batch is read and judged."""
        clock = _Stopwatch()
        started_at = datetime.now(UTC)
        before = self._take_uncommitted()
        with self._reading.connect() as connection:
            changes = read_label_changes(connection, self._outcomes.last_change)
        self._outcomes.follow(changes, self._last_batch.transactions)
        clock.lap("labels")
        self._waiting = _waiting(self._reached, latest.current())
        few = self._waiting is not None and self._waiting <= FEW
        judge = self._judge_here if few else self._judge_on_executors
        judged = with_original_bytes(judge(records, before), records)
        clock.lap("judge")
        self._commit.settle()
        clock.lap("wait")
        if len(judged) == 0:
            return
        same_topic.require()
        clock.lap("topic")
        rows = by_outcome(judged)
        batch = Batch(
            topic=self._config.topic,
            topic_id=same_topic.topic_id,
            expected_offsets=self._reached,
            rows=rows,
            model_version=self._model.version,
            started_at=started_at,
            latest_offsets=latest.current(),
            stage_ms=clock.laps_ms,
        )
        self._reached = batch.reached
        self._last_batch = Uncommitted.of(rows)
        self._commit.begin(partial(self._write, writer, batch, clock))

    def _take_uncommitted(self) -> Uncommitted:
        """What the database may not show yet. Raises what the commit did, where it has failed already."""
        if self._commit.is_running:
            return self._last_batch
        self._commit.settle()
        self._last_batch = self._last_batch.without_histories()
        return Uncommitted.nothing()

    def _write(self, writer: Writer, batch: Batch, clock: _Stopwatch) -> None:
        with writer.transaction() as connection:
            counts = commit_batch(connection, batch)
            self._status.committed(connection)
        self._batch_succeeded = True
        clock.lap("commit")
        _log_batch(counts, clock)

    def _judge_here(self, records: DataFrame, before: Uncommitted) -> pa.Table:
        """The records that are not committed yet, judged on the driver: rows of JUDGED_ARROW."""
        return self._work(Here(before)).judged(collected(records, self._config.zone))

    def _judge_on_executors(self, records: DataFrame, before: Uncommitted) -> pa.Table:
        """The same, where there are many."""
        pa.default_memory_pool().release_unused()  # the batch before was as large
        cleaning = CleaningWork(self._config.zone, shares_a_batch(self._session))
        with on_executors(self._session, before) as sent:
            judging = self._work(sent)
            judged = run_on_executors(records, cleaning, judging)
            if clashes := find_clashes(judged):
                judged = run_on_executors(records, cleaning, replace(judging, claims=clashes))
        return judged

    def _work(self, before: Shared[Uncommitted]) -> PartitionWork:
        return PartitionWork(
            self._model.judge,
            self._outcomes.shared,
            before,
            StoredTransactions(self._config.database),
            StoredHistories(self._config.database),
            Claims(),
            self._reached.next_offsets,
        )


@dataclass(frozen=True)
class _Trouble:
    text: str
    only_a_person_can_help: bool = False


def _trouble(error: Exception) -> _Trouble:
    """What an error that ended the query means."""
    cause: str | None
    if isinstance(error, _ONLY_A_PERSON_CAN_HELP):
        return _Trouble(str(error), only_a_person_can_help=True)
    if isinstance(error, Py4JNetworkError):
        return _Trouble(_JVM_ENDED, only_a_person_can_help=True)
    if isinstance(error, DBAPIError):
        cause = permanent_cause(error)
        return _Trouble(cause or f"the database of MYSQL_URL cannot be used: {error.orig}", cause is not None)
    if isinstance(error, _OF_THE_QUERY):
        cause = permanent_cause_on_executors(error)
        return _Trouble(cause or f"the query failed: {error}", cause is not None)
    if isinstance(error, _PASSING):
        return _Trouble(str(error))
    return _Trouble(f"{type(error).__name__}: {error}")


class _BatchHandler:
    """What Spark calls for each batch, and keeps, with what it last raised, long after the query's end.

    So it must not hold on to anything then: neither directly nor by the frames of an exception.
    """

    def __init__(self, handle: Callable[[DataFrame], bool]) -> None:
        self._handle: Callable[[DataFrame], bool] | None = handle

    def __call__(self, batch: DataFrame, _number: int) -> None:
        goes_on = self._handle is None or self._handle(batch)
        del batch
        if not goes_on:
            raise RuntimeError("the batch failed, and with it the query")

    def let_go(self) -> None:
        self._handle = None


class _ModelInUse:
    """The rules and the model that the executors judge by; a new model is taken up between batches."""

    def __init__(self, session: SparkSession, directory: Path) -> None:
        self._session = session
        self._directory = directory
        self._rules = load_rules()
        self._broadcast: Broadcast[Judge] | None = None
        self._refused: str | None = None
        self._complaint: str | None = None
        self._reported: tuple[State, str] | None = None
        self.version: str | None = None

    @property
    def judge(self) -> Broadcast[Judge]:
        assert self._broadcast is not None, "refresh() comes first"
        return self._broadcast

    def refresh(self, engine: Engine) -> None:
        """Take up the current model when it is another than the one in use.

        The first must be usable: raises ModelError. Later, one that cannot be used is reported in the log
        and to the dashboard, and the present one stays.
        """
        current: str | None = None
        try:
            current = model_store.current_version(self._directory)
            if self._broadcast is None or current not in (self.version, self._refused):
                self._load()
            elif current == self.version:
                self._refused = self._complaint = None
        except ModelError as error:
            if self._broadcast is None:
                raise
            if str(error) != self._complaint:
                log.error("%s; the present model %s stays", error, self.version)
            self._refused, self._complaint = current, str(error)
        self._report(engine)

    def _load(self) -> None:
        model = model_store.load(self._directory)
        old = self._broadcast
        self._broadcast = self._session.sparkContext.broadcast(Judge(self._rules, model))
        self.version = model.metadata.version if model else None
        self._refused = self._complaint = None
        if old is not None:
            old.destroy()
        log.info("model: %s", self.version or "none, the rules alone decide")

    def _report(self, engine: Engine) -> None:
        """Tell the dashboard which model decides, or what is wrong with the next one; each word once."""
        status = self._status
        if status != self._reported:
            set_status(engine, "model", *status)
            self._reported = status  # not before: the database may have refused it

    @property
    def _status(self) -> tuple[State, str]:
        if self._complaint:
            return "error", self._complaint
        if self.version:
            return "ok", f"model {self.version}"
        return "warning", "no model: the rules alone decide"


class _OutcomesInUse:
    """The confirmed outcomes that merchant risk looks at; the executors get them anew when they change.

    A label that comes before its transaction counts from the batch after the one that stores it.
    """

    def __init__(self, session: SparkSession) -> None:
        self._session = session
        self._known = KnownOutcomes.none()
        self._broadcast: Broadcast[Outcomes] | None = None

    @property
    def shared(self) -> Broadcast[Outcomes]:
        if self._broadcast is None:
            self._broadcast = self._session.sparkContext.broadcast(self._known.outcomes())
        return self._broadcast

    def forget(self) -> None:
        self._take(KnownOutcomes.none())

    @property
    def last_change(self) -> int:
        return self._known.last_change

    def follow(self, changes: pd.DataFrame, last_batch: pa.Table) -> None:
        """Take in the labels that changed after `last_change`, and the transactions of the last batch."""
        self._take(self._known.followed(changes, last_batch))

    def _take(self, known: KnownOutcomes) -> None:
        if known is self._known:
            return
        self._known = known
        if self._broadcast is not None:
            self._broadcast.destroy()
            self._broadcast = None


def _waiting(reached: StoredOffsets, latest: Mapping[int, int]) -> int | None:
    """How many records are not committed yet; None where Kafka has not said it."""
    return sum(reached.behind(latest).values()) if latest else None


class _Stopwatch:
    def __init__(self) -> None:
        self.laps_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps_ms[stage] = (now - self._last) * 1000
        self._last = now


def _log_batch(counts: BatchCounts, clock: _Stopwatch) -> None:
    stages = " ".join(f"{stage}={ms:.0f}ms" for stage, ms in clock.laps_ms.items())
    lag = "?" if counts.lag is None else counts.lag
    log.info(
        "batch rows=%d flagged=%d rejected=%d duplicates=%d lag=%s %s",
        counts.records,
        counts.flagged,
        counts.rejected,
        counts.duplicates,
        lag,
        stages,
    )


@contextmanager
def _scratch_checkpoint(root: Path | None) -> Iterator[Path]:
    """A fresh folder for Spark's own bookkeeping, which nothing is ever read from again."""
    folder = Path(tempfile.mkdtemp(prefix="fraudstream-checkpoint-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
