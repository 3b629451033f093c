"""What the dashboard reads: one consistent picture of the database for each refresh.

Everything that is counted comes from `rollup_hourly`, which each batch writes in its own transaction: it
is exact over all rows and does not grow with them. Single transactions come from `clean_data`, of which
only the hours that the rollup names are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Engine, and_, case, func, or_, select

from fraudstream.store.reads.frames import Statement, one, read_frame, whole_counts
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.store.tables import (
    alerts,
    clean_data,
    component_status,
    mails,
    pipeline_totals,
    rollup_hourly,
)

FEED_ROWS = 100
LAST_FLAGGED_ROWS = 10
LOCATION_ROWS = 10
DEVICE_ROWS = 10
MERCHANT_ROWS = 5
MERCHANT_MIN_TRANSACTIONS = 20
MOST_CITIES = 500

_HOURS_SHOWN_BY_HOUR = timedelta(days=14)
_DAYS_SHOWN_BY_DAY = timedelta(days=3 * 365)

Step = Literal["hour", "day", "month"]


@dataclass(frozen=True)
class Filter:
    """Which transactions count. `city`: None is all, "" those without a Location."""

    city: str | None = None
    fraud_only: bool = False


@dataclass(frozen=True)
class Totals:
    """`amount_at_risk` is the sum of the flagged amounts; a missing Location is not one of `locations`."""

    transactions: int
    flagged: int
    amount_at_risk: Decimal
    locations: int


@dataclass(frozen=True)
class Timeline:
    """`frame` has a row for each `step` with transactions: start (local time), transactions, flagged."""

    step: Step
    frame: pd.DataFrame


@dataclass(frozen=True)
class Ranking:
    """The first rows of an order: name ("" is missing), transactions, flagged. `groups` counts all."""

    frame: pd.DataFrame
    groups: int


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


@dataclass(frozen=True)
class Overview:
    """All that one refresh shows. `period` is the first and last Time of all transactions, or None.

    `feed` and `last_flagged` have the columns TransactionID, UserID, Amount, Location, Time, Device,
    Merchant, Is_Fraud, score, reasons; newest Time first, of equal ones the greater TransactionID.
    """

    cities: tuple[str, ...]
    period: tuple[datetime, datetime] | None
    totals: Totals
    timeline: Timeline
    by_location: Ranking
    by_device: Ranking
    by_merchant: Ranking
    feed: pd.DataFrame
    last_flagged: pd.DataFrame
    pipeline: Pipeline


def read_overview(engine: Engine, chosen: Filter) -> Overview:
    """Everything on the page as of one moment. Raises DatabaseProblem."""
    with snapshot(engine) as connection:
        return Overview(
            cities=cities(connection),
            period=period(connection),
            totals=totals(connection, chosen),
            timeline=timeline(connection, chosen),
            by_location=by_location(connection, chosen),
            by_device=by_device(connection, chosen),
            by_merchant=by_merchant(connection, chosen),
            feed=newest(connection, chosen, FEED_ROWS),
            last_flagged=newest(connection, Filter(chosen.city, fraud_only=True), LAST_FLAGGED_ROWS),
            pipeline=pipeline(connection),
        )


def cities(connection: Connection) -> tuple[str, ...]:
    """The locations that there are, "" for a missing one, in order; of very many the busiest."""
    name = rollup_hourly.c.Location
    busiest = select(name).group_by(name).order_by(_transactions().desc(), name).limit(MOST_CITIES)
    return tuple(sorted(connection.scalars(busiest)))


def period(connection: Connection) -> tuple[datetime, datetime] | None:
    """First and last Time of all transactions, or None when there are none."""
    first, last = connection.execute(select(func.min(clean_data.c.Time), func.max(clean_data.c.Time))).one()
    return None if first is None else (first, last)


def totals(connection: Connection, chosen: Filter) -> Totals:
    name = rollup_hourly.c.Location
    row = one(
        connection,
        select(
            func.coalesce(_transactions(), 0).label("transactions"),
            func.coalesce(_flagged(), 0).label("flagged"),
            func.coalesce(_sum_if_flagged(rollup_hourly.c.amount), 0).label("amount"),
            func.count(func.distinct(func.nullif(name, ""))).label("locations"),
        ).where(*_in_rollup(chosen)),
    )
    return Totals(int(row.transactions), int(row.flagged), Decimal(row.amount), int(row.locations))


def timeline(connection: Connection, chosen: Filter) -> Timeline:
    """Transactions over time, by the hour up to two weeks, by the day up to three years, else by month."""
    step = _step(connection, chosen)
    start = _START_OF[step].label("start")
    statement = (
        select(start, _transactions().label("transactions"), _flagged().label("flagged"))
        .where(*_in_rollup(chosen))
        .group_by(start)
        .order_by(start)
    )
    counted = whole_counts(read_frame(connection, statement))
    return Timeline(step, counted.assign(start=pd.to_datetime(counted["start"])))


def by_location(connection: Connection, chosen: Filter) -> Ranking:
    """The locations with the most flagged transactions. A share needs all transactions, so `fraud_only`
    does not count here, nor in the two below."""
    return _most_flagged(connection, rollup_hourly.c.Location, chosen.city, LOCATION_ROWS)


def by_device(connection: Connection, chosen: Filter) -> Ranking:
    """The devices with the most flagged transactions."""
    return _most_flagged(connection, rollup_hourly.c.Device, chosen.city, DEVICE_ROWS)


def by_merchant(connection: Connection, chosen: Filter) -> Ranking:
    """The merchants with the greatest flagged share, of those with enough transactions and any flagged."""
    name = rollup_hourly.c.Merchant
    statement = (
        _by_name(name, chosen.city)
        .where(name != "")
        .having(_transactions() >= MERCHANT_MIN_TRANSACTIONS, _flagged() > 0)
        .order_by((_flagged() / _transactions()).desc(), _flagged().desc(), name)
        .limit(MERCHANT_ROWS)
    )
    return _ranking(connection, statement)


def newest(connection: Connection, chosen: Filter, rows: int) -> pd.DataFrame:
    """The newest transactions by Time; see Overview for the columns."""
    columns = [clean_data.c[name] for name in _FEED_COLUMNS]
    hours = _newest_hours(connection, chosen, rows)
    if not hours:
        return pd.DataFrame(columns=list(_FEED_COLUMNS))
    statement = (
        select(*columns)
        .where(_within(hours), *_in_clean_data(chosen))
        .order_by(clean_data.c.Time.desc(), clean_data.c.TransactionID.desc())
        .limit(rows)
    )
    return read_frame(connection, statement)


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


_FEED_COLUMNS = (
    "TransactionID",
    "UserID",
    "Amount",
    "Location",
    "Time",
    "Device",
    "Merchant",
    "Is_Fraud",
    "score",
    "reasons",
)

_HOUR = rollup_hourly.c.hour
_START_OF: dict[Step, ColumnElement[Any]] = {
    "hour": _HOUR,
    "day": func.date(_HOUR),
    "month": func.date_format(_HOUR, "%Y-%m-01"),
}


def _transactions() -> ColumnElement[Any]:
    return func.sum(rollup_hourly.c.transactions)


def _flagged() -> ColumnElement[Any]:
    return _sum_if_flagged(rollup_hourly.c.transactions)


def _sum_if_flagged(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.sum(case((rollup_hourly.c.Is_Fraud == "YES", column), else_=0))


def _in_rollup(chosen: Filter) -> list[ColumnElement[bool]]:
    conditions = _in_city(chosen.city)
    if chosen.fraud_only:
        conditions.append(rollup_hourly.c.Is_Fraud == "YES")
    return conditions


def _in_city(city: str | None) -> list[ColumnElement[bool]]:
    return [] if city is None else [rollup_hourly.c.Location == city]


def _in_clean_data(chosen: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if chosen.city is not None:
        name = clean_data.c.Location
        conditions.append(name == chosen.city if chosen.city else name.is_(None))
    if chosen.fraud_only:
        conditions.append(clean_data.c.Is_Fraud == "YES")
    return conditions


def _step(connection: Connection, chosen: Filter) -> Step:
    first, last = connection.execute(
        select(func.min(_HOUR), func.max(_HOUR)).where(*_in_rollup(chosen))
    ).one()
    if first is None or last - first <= _HOURS_SHOWN_BY_HOUR:
        return "hour"
    return "day" if last - first <= _DAYS_SHOWN_BY_DAY else "month"


def _by_name(name: ColumnElement[Any], city: str | None) -> Statement:
    return (
        select(
            name.label("name"),
            _transactions().label("transactions"),
            _flagged().label("flagged"),
            func.count().over().label("groups"),
        )
        .where(*_in_city(city))
        .group_by(name)
    )


def _most_flagged(connection: Connection, name: ColumnElement[Any], city: str | None, rows: int) -> Ranking:
    statement = _by_name(name, city).order_by(_flagged().desc(), _transactions().desc(), name).limit(rows)
    return _ranking(connection, statement)


def _ranking(connection: Connection, statement: Statement) -> Ranking:
    counted = whole_counts(read_frame(connection, statement))
    groups = int(counted["groups"].iloc[0]) if len(counted) else 0
    return Ranking(counted.drop(columns="groups"), groups)


def _newest_hours(connection: Connection, chosen: Filter, rows: int) -> list[datetime]:
    """The newest hours that hold at least `rows` of the chosen transactions together (or all of them)."""
    statement = (
        select(_HOUR, _transactions())
        .where(*_in_rollup(chosen))
        .group_by(_HOUR)
        .order_by(_HOUR.desc())
        .limit(rows)
    )
    hours: list[datetime] = []
    found = 0
    for hour, transactions in connection.execute(statement):
        if found >= rows:
            break
        hours.append(hour)
        found += transactions
    return hours


def _within(hours: list[datetime]) -> ColumnElement[bool]:
    time = clean_data.c.Time
    return or_(*(and_(time >= hour, time < hour + timedelta(hours=1)) for hour in hours))
