"""How long the dashboard's reads take: each one that a page makes, as often as asked, the median of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from statistics import median
from typing import get_args

from sqlalchemy import Connection, Engine, select

from fraudstream.periods import HOUR, Period, Recent, resolve
from fraudstream.store.reads import cases, detection, overview, pipeline, queue
from fraudstream.store.reads.overview import Filter
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.store.tables import alerts

Read = Callable[[Connection], object]

_RECENT: tuple[Recent, ...] = ("hour", "day", "week", "all")
_WINDOWS = (timedelta(minutes=15), timedelta(days=1))


def read_times_ms(engine: Engine, *, repeats: int = 3) -> dict[str, float]:
    """What is read -> milliseconds, over several periods and filters, in a database with transactions.

    Each read is made once unmeasured, and then `repeats` times. Raises DatabaseProblem, and
    ValueError without rows.
    """
    with snapshot(engine) as connection:
        return {name: _median_ms(read, connection, repeats) for name, read in _reads(connection)}


def _median_ms(read: Read, connection: Connection, repeats: int) -> float:
    read(connection)
    return median(_once_ms(read, connection) for _ in range(repeats))


def _once_ms(read: Read, connection: Connection) -> float:
    started = time.perf_counter()
    read(connection)
    return (time.perf_counter() - started) * 1000


def _reads(connection: Connection) -> Iterator[tuple[str, Read]]:
    covered = overview.extent(connection)
    if covered is None:
        raise ValueError("there are no transactions to read")
    yield "extent", overview.extent
    yield "names", overview.all_names
    custom = Period(resolve("all", *covered).start + 5 * HOUR, resolve("all", *covered).end - 7 * HOUR)
    for asked in (*_RECENT, custom):
        period = resolve(asked, *covered)
        for chosen in _filters(connection):
            called = f"{asked if isinstance(asked, str) else 'custom'} {_named(chosen)}"
            yield from _overview(called, period, chosen)
    yield from _pipeline()
    yield from _analysis(connection)


def _filters(connection: Connection) -> tuple[Filter, ...]:
    """None, one name, three names that are rare together, and frauds only."""
    known = overview.all_names(connection)
    city, device, merchant = known.cities[-1], known.devices[-1], known.merchants[0]
    rare = Filter(city, device, merchant)
    return (
        Filter(),
        Filter(city),
        rare,
        Filter(fraud_only=True),
        Filter(city, device, merchant, fraud_only=True),
    )


def _named(chosen: Filter) -> str:
    return " ".join(["/".join(chosen.names()) or "all", *(["frauds"] if chosen.fraud_only else [])])


def _overview(called: str, period: Period, chosen: Filter) -> Iterator[tuple[str, Read]]:
    yield f"totals and locations, {called}", lambda on: overview.by_name(on, period, chosen, "Location")
    yield f"devices, {called}", lambda on: overview.by_name(on, period, chosen, "Device")
    yield f"merchants, {called}", lambda on: overview.by_name(on, period, chosen, "Merchant")
    yield f"timeline, {called}", lambda on: overview.timeline(on, period, chosen)
    yield f"weekday and hour, {called}", lambda on: overview.by_weekday_hour(on, period, chosen)
    yield f"feed, {called}", lambda on: overview.newest(on, period, chosen, overview.FEED_ROWS)


def _pipeline() -> Iterator[tuple[str, Read]]:
    yield "pipeline", pipeline.pipeline
    yield "job", pipeline.job
    yield "dead letters", pipeline.rejected_by_reason
    yield "outbox", pipeline.outbox
    for window in _WINDOWS:
        yield f"batches, {window}", partial(pipeline.batches, window=window)


def _queue(connection: Connection) -> Iterator[tuple[str, Read]]:
    """Each state alone, with a reason, and with a search that finds nothing and so looks as far as any."""
    code = next(iter(queue.reason_codes(connection)), None)
    for state in (None, *get_args(queue.State)):
        for wanted in (
            queue.Wanted(state),
            queue.Wanted(state, code),
            queue.Wanted(state, search="nowhere to be found"),
        ):
            said = (state, wanted.code, "search" if wanted.search else None)
            yield ", ".join(["queue", *filter(None, said)]), partial(queue.read_queue, wanted=wanted)


def _analysis(connection: Connection) -> Iterator[tuple[str, Read]]:
    yield from _queue(connection)
    newest = connection.execute(
        select(alerts.c.TransactionID, alerts.c.UserID).order_by(alerts.c.alert_id.desc()).limit(1)
    ).first()
    if newest is not None:
        yield "transaction", lambda on: cases.read_case(on, newest.TransactionID)
        yield "user", lambda on: cases.read_user(on, newest.UserID)
    span = detection.days_covered(connection)
    if span is not None:
        for days in (7, None):
            part = detection.newest_days(span, days)
            yield f"rules and model, {days or 'all'} days", partial(detection.read_detection, span=part)
