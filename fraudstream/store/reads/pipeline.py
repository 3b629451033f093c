"""How the pipeline is, from what its batches, its mails and its parts wrote: also while none of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import pandas as pd
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, func, literal, select, text

from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.job_status import JOB
from fraudstream.store.reads.frames import one, read_frame
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.store.status import Status, read_status
from fraudstream.store.tables import (
    alerts,
    batch_metrics,
    component_status,
    dead_letters,
    mails,
    pipeline_totals,
    writer_lease,
)
from fraudstream.store.writer import LEASE_S

STEPS = 60
LAST_ERRORS = 10
MOST_REASONS, EXAMPLES_OF_A_REASON = 20, 3
SHOWN_BYTES = 300
# Of one batch a second as of ten: the JSON of so many is read for any period.
MOST_BATCHES = 2_000


@dataclass(frozen=True)
class Pipeline:
    """How the parts of the pipeline are. `components`: component, state, message, updated_at (UTC)."""

    stored: int
    duplicates: int
    rejected: int
    alerts_waiting: int
    mails_failed: int
    components: pd.DataFrame

    def counts(self) -> dict[str, int]:
        """What is counted, in words, and its number."""
        return {
            "stored": self.stored,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "alerts waiting": self.alerts_waiting,
            "mails failed": self.mails_failed,
        }


def pipeline(connection: Connection) -> Pipeline:
    """Counts over all topics, what waits in the outbox, and what each component last said."""
    counted = one(
        connection,
        select(
            func.coalesce(func.sum(pipeline_totals.c.stored), 0).label("stored"),
            func.coalesce(func.sum(pipeline_totals.c.duplicates), 0).label("duplicates"),
            func.coalesce(func.sum(pipeline_totals.c.rejected), 0).label("rejected"),
        ),
    )
    waiting = select(func.count()).select_from(alerts).where(alerts.c.state == "waiting")
    failed = select(func.count()).select_from(mails).where(mails.c.state == "failed")
    said = select(component_status).order_by(component_status.c.component)
    return Pipeline(
        stored=int(counted.stored),
        duplicates=int(counted.duplicates),
        rejected=int(counted.rejected),
        alerts_waiting=connection.scalar(waiting) or 0,
        mails_failed=connection.scalar(failed) or 0,
        components=read_frame(connection, said),
    )


@dataclass(frozen=True)
class Job:
    """Whether a writer holds a fresh lease; `seen_at` (UTC) is when the last one renewed it, None: never.

    `trouble` is what it last said, unless all is well since.
    """

    running: bool
    holder: str | None
    seen_at: datetime | None
    trouble: Status | None = None


@dataclass(frozen=True)
class Batches:
    """What the batches of the last `window` before `until` (UTC, the newest commit) did, in steps of `step`.

    `frame` has a row for each step with batches: start (UTC), batches, rows, stored, flagged, lag (at its
    end).
    `lag`: start, partition, lag at the end of the step. `stages`: start, stage, mean ms of a batch.
    `latency`, produced to committed: start, p50 and p95 (means over the batches, weighted by their rows),
    p99 (of the worst batch), in ms. Stages and latency are of every `sampled`-th batch.
    """

    until: datetime
    window: timedelta
    step: timedelta
    sampled: int
    frame: pd.DataFrame
    lag: pd.DataFrame
    stages: pd.DataFrame
    latency: pd.DataFrame


@dataclass(frozen=True)
class Outbox:
    """`states`: what (alerts, mails), state, number. `errors`: the newest mails that are not through, with
    message_id, state, attempts, last_error, next_attempt_at (UTC). `oldest_waiting` (UTC): of the alerts."""

    states: pd.DataFrame
    errors: pd.DataFrame
    oldest_waiting: datetime | None


@dataclass(frozen=True)
class Operation:
    """All that the pipeline's page shows. `batches` is None before the first one, or when all are older than
    they are kept. `rejected`: reason, number, newest (UTC). `examples`: the newest of each reason, with
    reason, detail, topic, partition_id, offset, rejected_at (UTC), value (bytes, the first of them)."""

    now: datetime
    state: Pipeline
    job: Job
    batches: Batches | None
    rejected: pd.DataFrame
    examples: pd.DataFrame
    outbox: Outbox


def read_operation(engine: Engine, window: timedelta) -> Operation:
    """Everything on the page as of one moment. Raises DatabaseProblem."""
    with snapshot(engine) as connection:
        rejected = rejected_by_reason(connection)
        return Operation(
            now=connection.execute(select(SERVER_NOW)).scalar_one(),
            state=pipeline(connection),
            job=job(connection),
            batches=batches(connection, window),
            rejected=rejected,
            examples=examples_of(connection, rejected["reason"].tolist()),
            outbox=outbox(connection),
        )


def job(connection: Connection) -> Job:
    """Of several jobs on one database, the one that was seen last."""
    age_us = func.timestampdiff(text("MICROSECOND"), writer_lease.c.renewed_at, SERVER_NOW)
    last = connection.execute(
        select(writer_lease.c.holder, writer_lease.c.renewed_at, age_us.label("age_us"))
        .order_by(writer_lease.c.renewed_at.desc())
        .limit(1)
    ).first()
    said = read_status(connection, JOB)
    trouble = None if said is None or said.state == "ok" else said
    if last is None:
        return Job(False, None, None, trouble)
    return Job(last.age_us <= LEASE_S * 1e6, last.holder, last.renewed_at, trouble)


def batches(connection: Connection, window: timedelta) -> Batches | None:
    """See Batches."""
    until = connection.scalar(select(func.max(batch_metrics.c.committed_at)))
    if until is None:
        return None
    step = window / STEPS
    since = until - window
    within = batch_metrics.c.committed_at > since
    # The newest commit belongs to the last step, not to one that begins with it.
    passed_us = func.timestampdiff(text("MICROSECOND"), since, batch_metrics.c.committed_at) - 1
    # In whole numbers: MySQL keeps four decimals of a division, which makes the last step's end a new step.
    number = passed_us.op("DIV", precedence=8)(step // timedelta(microseconds=1)).label("number")
    counted = read_frame(
        connection,
        select(
            number,
            func.count().label("batches"),
            func.sum(_RECORDS).label("rows"),
            func.sum(batch_metrics.c.stored).label("stored"),
            func.sum(batch_metrics.c.flagged).label("flagged"),
            func.min(batch_metrics.c.id).label("first_id"),
            func.max(batch_metrics.c.id).label("last_id"),
        )
        .where(within)
        .group_by(number)
        .order_by(number),
    ).astype("int64")
    starts = counted["number"].map(lambda each: since + each * step)
    sampled = -(-int(counted["batches"].sum()) // MOST_BATCHES)
    ids = range(int(counted["first_id"].min()), int(counted["last_id"].max()) + 1, sampled)
    few = and_(within, batch_metrics.c.id.in_(ids)) if sampled > 1 else within
    last = _last_of_each(connection, counted["last_id"].tolist())
    return Batches(
        until=until,
        window=window,
        step=step,
        sampled=sampled,
        frame=counted.assign(start=starts, lag=[each.lag for each in last]).drop(
            columns=["number", "first_id", "last_id"]
        ),
        lag=_lag_by_partition(starts.tolist(), [each.lag_by_partition for each in last]),
        stages=_stages(connection, number, few, list(orjson.loads(last[-1].stage_ms)), since, step),
        latency=_latency(connection, number, few, since, step),
    )


def rejected_by_reason(connection: Connection) -> pd.DataFrame:
    """See Operation; the most frequent reason first."""
    return read_frame(
        connection,
        select(
            dead_letters.c.reason,
            func.count().label("number"),
            func.max(dead_letters.c.rejected_at).label("newest"),
        )
        .group_by(dead_letters.c.reason)
        .order_by(func.count().desc(), dead_letters.c.reason),
    )


def examples_of(connection: Connection, reasons: list[str]) -> pd.DataFrame:
    """See Operation; a few of each reason, by the index that has them in order."""
    columns = [
        *(
            dead_letters.c[name]
            for name in ("reason", "detail", "topic", "partition_id", "offset", "rejected_at")
        ),
        func.left(dead_letters.c.value, SHOWN_BYTES).label("value"),
    ]
    found = [
        read_frame(
            connection,
            select(*columns)
            .where(dead_letters.c.reason == reason)
            .order_by(dead_letters.c.rejected_at.desc())
            .limit(EXAMPLES_OF_A_REASON),
        )
        for reason in reasons[:MOST_REASONS]
    ]
    return (
        pd.concat(found, ignore_index=True)
        if found
        else pd.DataFrame(columns=[each.name for each in columns])
    )


def outbox(connection: Connection) -> Outbox:
    """See Outbox."""
    found = [
        read_frame(
            connection,
            select(literal(what).label("what"), table.c.state, func.count().label("number"))
            .group_by(table.c.state)
            .order_by(table.c.state),
        )
        for what, table in (("alerts", alerts), ("mails", mails))
    ]
    open_ones = mails.c.state.in_(("sending", "failed"))
    errors = (
        select(
            mails.c.message_id, mails.c.state, mails.c.attempts, mails.c.last_error, mails.c.next_attempt_at
        )
        .where(open_ones, mails.c.last_error.is_not(None))
        .order_by(mails.c.mail_id.desc())
        .limit(LAST_ERRORS)
    )
    oldest = (
        select(alerts.c.created_at).where(alerts.c.state == "waiting").order_by(alerts.c.alert_id).limit(1)
    )
    return Outbox(
        pd.concat(found, ignore_index=True), read_frame(connection, errors), connection.scalar(oldest)
    )


_RECORDS = batch_metrics.c.stored + batch_metrics.c.duplicates + batch_metrics.c.rejected


def _last_of_each(connection: Connection, ids: list[int]) -> Sequence[Row[Any, Any, Any]]:
    columns = (batch_metrics.c.lag, batch_metrics.c.lag_by_partition, batch_metrics.c.stage_ms)
    statement = select(*columns).where(batch_metrics.c.id.in_(ids)).order_by(batch_metrics.c.id)
    return connection.execute(statement).all()


def _lag_by_partition(starts: list[datetime], texts: list[str | None]) -> pd.DataFrame:
    rows = [
        (start, int(partition), lag)
        for start, text_of_lag in zip(starts, texts, strict=True)
        for partition, lag in orjson.loads(text_of_lag or "{}").items()
    ]
    return pd.DataFrame(rows, columns=["start", "partition", "lag"])


def _stages(
    connection: Connection,
    number: ColumnElement[Any],
    which: ColumnElement[bool],
    names: list[str],
    since: datetime,
    step: timedelta,
) -> pd.DataFrame:
    means = [
        func.avg(_in_json(batch_metrics.c.stage_ms, name)).label(f"stage_{n}") for n, name in enumerate(names)
    ]
    wide = read_frame(connection, select(number, *means).where(which).group_by(number).order_by(number))
    rows = [
        (since + int(each[0]) * step, name, float(ms or 0))
        for each in wide.itertuples(index=False, name=None)
        for name, ms in zip(names, each[1:], strict=True)
    ]
    return pd.DataFrame(rows, columns=["start", "stage", "ms"])


def _latency(
    connection: Connection,
    number: ColumnElement[Any],
    which: ColumnElement[bool],
    since: datetime,
    step: timedelta,
) -> pd.DataFrame:
    p50, p95, p99 = (_in_json(batch_metrics.c.latency_ms, name) for name in ("p50", "p95", "p99"))
    known = func.sum(case((p50.is_not(None), _RECORDS), else_=0))
    statement = (
        select(
            number,
            (func.sum(p50 * _RECORDS) / known).label("p50"),
            (func.sum(p95 * _RECORDS) / known).label("p95"),
            func.max(p99).label("p99"),
        )
        .where(which, batch_metrics.c.latency_ms.is_not(None))
        .group_by(number)
        .order_by(number)
    )
    frame = read_frame(connection, statement).dropna().astype("float64")
    return frame.assign(start=[since + int(each) * step for each in frame["number"]]).drop(columns="number")


def _in_json(column: ColumnElement[str], name: str) -> ColumnElement[Any]:
    """A number in a JSON object."""
    return func.json_value(column, f'$."{name}"') + 0.0
