"""The overview: what is counted in a period, under a filter, and the newest rows.

What is counted by name, and the totals, which are added up from that, come from `rollup_monthly` and, for
the days and hours at the ends of the period, from `rollup_daily` and `rollup_hourly`. Where no name is
chosen, the whole days of timeline, heat map and feed come from `rollup_total`. Each batch writes these tables
in its own transaction: they are exact over all rows and do not grow with them. Single transactions come from
`clean_data`, of which only the hours are read that these name.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Table,
    and_,
    case,
    false,
    func,
    or_,
    select,
)

from fraudstream.periods import DAY, Period, Recent, hour_from, resolve
from fraudstream.store.reads.frames import Statement, moments, read_frame, sum_of_counts
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.store.tables import (
    HOURS_OF_DAY,
    alerts,
    clean_data,
    rollup_daily,
    rollup_hourly,
    rollup_monthly,
    rollup_total,
)

FEED_ROWS = 100
MOST_NAMES = 500

# A bound on what the feed costs: rows that a rare filter may have read in vain.
_MOST_ROWS_READ, _MOST_ROWS_LOOKED_UP = 4_000, 2_000
_USUALLY_ENOUGH_DAYS = 3
_SHOWN_BY_HOUR = 14 * DAY
_SHOWN_BY_DAY = 366 * DAY
_LEAST_TIMELINE = DAY

Step = Literal["hour", "day", "month"]
# Else a server groups by the index that holds the names alone, and looks up each row by itself.
_IN_ORDER_OF_THE_KEY = "FORCE INDEX (PRIMARY)"
_BY_NAME = ("Location", "Device", "Merchant")
_COUNTS = ("transactions", "flagged")


@dataclass(frozen=True)
class Filter:
    """Which transactions count. A name: None is all, "" those without one."""

    city: str | None = None
    device: str | None = None
    merchant: str | None = None
    fraud_only: bool = False

    def names(self) -> dict[str, str]:
        """Column -> the name that it must have."""
        asked = zip(_BY_NAME, (self.city, self.device, self.merchant), strict=True)
        return {column: name for column, name in asked if name is not None}


@dataclass(frozen=True)
class Names:
    """The names that there are, "" for a missing one, in order; of very many the busiest."""

    cities: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    merchants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Totals:
    """`amount_at_risk` is the sum of the flagged amounts; a missing Location is not one of `locations`.

    `judged` is what a share is of: the transactions of the chosen names, flagged or not, whatever
    `fraud_only` leaves of them.
    """

    transactions: int
    flagged: int
    amount_at_risk: Decimal
    locations: int
    judged: int


@dataclass(frozen=True)
class Timeline:
    """`frame` has a row for each `step` with transactions: start (local time), transactions, flagged.

    A period of less than a day is shown at the end of a whole one: `shown` is then longer than the period.
    """

    step: Step
    shown: Period
    frame: pd.DataFrame


@dataclass(frozen=True)
class Counted:
    """What is counted in one period. `before` is of the period before, None where there is none.

    `by_location`, `by_device`, `by_merchant`: name ("" is missing), transactions, flagged, amount_at_risk, a
    row for each name. `by_weekday_hour`: weekday (0 is Monday), hour, transactions, flagged, in no order.
    These and the timeline count all transactions, as a share needs them, even with `fraud_only`.
    """

    totals: Totals
    before: Totals | None
    timeline: Timeline
    by_location: pd.DataFrame
    by_device: pd.DataFrame
    by_merchant: pd.DataFrame
    by_weekday_hour: pd.DataFrame


@dataclass(frozen=True)
class Overview:
    """All that one refresh shows. `extent` is the first and last Time of all transactions, or None; then
    `period` and `counted` are None, too.

    `feed` has the columns TransactionID, UserID, Amount, Location, Time, Device, Merchant, Is_Fraud, score,
    reasons; newest Time first, of equal ones the greater TransactionID.
    """

    names: Names
    extent: tuple[datetime, datetime] | None
    period: Period | None
    counted: Counted | None
    feed: pd.DataFrame


def read_overview(engine: Engine, asked: Recent | Period, chosen: Filter) -> Overview:
    """Everything on the page as of one moment. Raises DatabaseProblem."""
    with snapshot(engine) as connection:
        covered = extent(connection)
        if covered is None:
            return Overview(Names(), None, None, None, _no_rows())
        period = resolve(asked, *covered)
        return Overview(
            names=all_names(connection),
            extent=covered,
            period=period,
            counted=counted(connection, period, chosen, compared=asked != "all"),
            feed=newest(connection, period, chosen, FEED_ROWS),
        )


def extent(connection: Connection) -> tuple[datetime, datetime] | None:
    """First and last Time of all transactions, or None when there are none."""
    first, last = connection.execute(select(func.min(clean_data.c.Time), func.max(clean_data.c.Time))).one()
    return None if first is None else (first, last)


def all_names(connection: Connection) -> Names:
    """All names of all time."""
    return Names(*(_busiest(connection, rollup_monthly.c[column]) for column in _BY_NAME))


def counted(connection: Connection, period: Period, chosen: Filter, *, compared: bool) -> Counted:
    """Everything that is counted in the period; `compared` with the period before or not."""
    by_location = by_name(connection, period, chosen, "Location")
    before = period.before() if compared else None
    return Counted(
        totals=_totals(by_location, chosen),
        before=None if before is None else totals(connection, before, chosen),
        timeline=timeline(connection, period, chosen),
        by_location=by_location,
        by_device=by_name(connection, period, chosen, "Device"),
        by_merchant=by_name(connection, period, chosen, "Merchant"),
        by_weekday_hour=by_weekday_hour(connection, period, chosen),
    )


def totals(connection: Connection, period: Period, chosen: Filter) -> Totals:
    return _totals(by_name(connection, period, chosen, "Location"), chosen)


def transactions_and_flagged(connection: Connection, period: Period) -> tuple[int, int]:
    """How many transactions the period has, and how many of them are flagged."""
    parts = _days_and_hours(period, Filter())
    found = [connection.execute(select(*_sums(table)).where(when)).one() for table, when in parts]
    return sum(int(row.transactions or 0) for row in found), sum(int(row.flagged or 0) for row in found)


def by_name(connection: Connection, period: Period, chosen: Filter, column: str) -> pd.DataFrame:
    """See Counted."""
    found = [
        read_frame(
            connection,
            _chosen_of(
                (table, when),
                chosen,
                table.c[column].label("name"),
                *_sums(table),
                func.sum(case((table.c.Is_Fraud == "YES", table.c.amount), else_=0)).label("amount_at_risk"),
            ).group_by(table.c[column]),
        )
        for table, when in _parts_by_name(period)
    ]
    return _added_up(found, ["name"], [*_COUNTS, "amount_at_risk"])


def timeline(connection: Connection, period: Period, chosen: Filter) -> Timeline:
    """Transactions over time, by the hour up to two weeks, by the day up to a year, else by month."""
    shown = period.at_least(_LEAST_TIMELINE)
    if shown.length <= _SHOWN_BY_HOUR:
        return Timeline("hour", shown, _by_hour(connection, shown, chosen))
    step: Step = "day" if shown.length <= _SHOWN_BY_DAY else "month"
    found = [
        read_frame(
            connection,
            _chosen_of((table, when), chosen, _start_of(step, table).label("start"), *_sums(table)).group_by(
                _start_of(step, table)
            ),
        )
        for table, when in (_parts(shown, chosen) if step == "month" else _days_and_hours(shown, chosen))
    ]
    frame = _added_up([each.assign(start=moments(each["start"])) for each in found], ["start"])
    return Timeline(step, shown, frame)


def by_weekday_hour(connection: Connection, period: Period, chosen: Filter) -> pd.DataFrame:
    """See Counted."""
    edges = _edge_hours(connection, period, chosen)
    found = [edges.assign(weekday=edges["start"].dt.weekday, hour=edges["start"].dt.hour)]
    for table, when in _parts(period, chosen):
        if table is not rollup_hourly:
            weekday = table.c.weekday if "weekday" in table.c else func.weekday(table.c.day)
            found.append(_hours_of_day(connection, table, when, chosen, weekday.label("weekday")))
    return _added_up(found, ["weekday", "hour"])


def newest(connection: Connection, period: Period, chosen: Filter, rows: int) -> pd.DataFrame:
    """The newest transactions of the period by Time, or as many of them as a bounded search finds; see
    Overview for the columns."""
    hours = _joined(_newest_hours(connection, period, chosen, rows))
    source, time, number, most = _where_rows_are(chosen)
    last = select(time).where(_within_any(time, hours)).order_by(time.desc()).offset(most).limit(1)
    bound = connection.scalar(last) if hours else None
    statement = (
        select(*(clean_data.c[name] for name in _FEED_COLUMNS))
        .select_from(source)
        .where(
            _within_any(time, hours),
            *([] if bound is None else [time >= bound]),
            *(_has_name(clean_data.c[column], name) for column, name in chosen.names().items()),
        )
        .order_by(time.desc(), number.desc())
        .limit(rows)
    )
    return read_frame(connection, statement) if hours else _no_rows()


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


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=list(_FEED_COLUMNS))


def _busiest(connection: Connection, name: ColumnElement[str]) -> tuple[str, ...]:
    """All names, or of very many the busiest."""
    names = connection.scalars(select(name).distinct().limit(MOST_NAMES + 1)).all()
    if len(names) > MOST_NAMES:
        transactions = sum_of_counts(rollup_monthly.c.transactions)
        by_number = select(name).with_hint(rollup_monthly, _IN_ORDER_OF_THE_KEY).group_by(name)
        busiest = by_number.order_by(transactions.desc(), name).limit(MOST_NAMES)
        names = connection.scalars(busiest).all()
    return tuple(sorted(names))


def _totals(by_location: pd.DataFrame, chosen: Filter) -> Totals:
    """A fraud is one of the chosen transactions in any case; with `fraud_only` the others are not."""
    counts = by_location["flagged" if chosen.fraud_only else "transactions"]
    return Totals(
        transactions=int(counts.sum()),
        flagged=int(by_location["flagged"].sum()),
        amount_at_risk=sum(by_location["amount_at_risk"], Decimal(0)),
        locations=int(((counts > 0) & (by_location["name"] != "")).sum()),
        judged=int(by_location["transactions"].sum()),
    )


Part = tuple[Table, ColumnElement[bool]]


def _parts(period: Period, chosen: Filter) -> list[Part]:
    """Where the chosen is counted in the period, in the fewest rows."""
    return _parts_by_name(period) if chosen.names() else _days_and_hours(period, chosen)


def _parts_by_name(period: Period) -> list[Part]:
    """Whole months, other whole days, other hours, each in its own table."""
    parts = period.parts()
    return [
        *_part(rollup_hourly, rollup_hourly.c.hour, [(each.start, each.end) for each in parts.hours]),
        *_part(rollup_daily, rollup_daily.c.day, parts.days),
        *_part(rollup_monthly, rollup_monthly.c.month, parts.months),
    ]


def _days_and_hours(period: Period, chosen: Filter) -> list[Part]:
    """Whole days, other hours."""
    hours = [(each.start, each.end) for each in period.parts().hours]
    days, by_day = period.whole_days(), _by_day(chosen)
    return [
        *_part(rollup_hourly, rollup_hourly.c.hour, hours),
        *_part(by_day, by_day.c.day, [] if days is None else [days]),
    ]


def _by_day(chosen: Filter) -> Table:
    return rollup_daily if chosen.names() else rollup_total


def _part(table: Table, when: ColumnElement[Any], ranges: Sequence[tuple[date, date]]) -> list[Part]:
    within = [and_(when >= start, when < end) for start, end in ranges]
    return [(table, or_(*within))] if within else []


def _within_any(column: ColumnElement[Any], periods: Iterable[Period]) -> ColumnElement[bool]:
    return or_(false(), *(and_(column >= each.start, column < each.end) for each in periods))


def _sums(table: Table) -> Sequence[ColumnElement[Any]]:
    transactions = table.c.transactions
    flagged = case((table.c.Is_Fraud == "YES", transactions), else_=0)
    return sum_of_counts(transactions).label("transactions"), sum_of_counts(flagged).label("flagged")


def _sums_by_hour(table: Table) -> Iterable[ColumnElement[Any]]:
    return (sum_of_counts(table.c[hour]).label(hour) for hour in HOURS_OF_DAY)


def _chosen_of(part: Part, chosen: Filter, *columns: ColumnElement[Any]) -> Statement:
    """The columns of the part's rows that have the chosen names."""
    table, when = part
    named = (table.c[column] == name for column, name in chosen.names().items())
    return select(*columns).with_hint(table, _IN_ORDER_OF_THE_KEY).where(when, *named)


def _flagged_only(table: Table, chosen: Filter) -> list[ColumnElement[bool]]:
    return [table.c.Is_Fraud == "YES"] if chosen.fraud_only else []


def _start_of(step: Step, table: Table) -> ColumnElement[Any]:
    if step in table.c:
        return table.c[step]  # in the order of the key, so that nothing has to be sorted or kept
    column = table.c["hour" if "hour" in table.c else "day"]
    return func.date(column) if step == "day" else func.date_format(column, "%Y-%m-01")


def _by_hour(connection: Connection, period: Period, chosen: Filter) -> pd.DataFrame:
    """start, transactions, flagged for each hour with transactions."""
    found = [_edge_hours(connection, period, chosen)]
    for table, when in _days_and_hours(period, chosen):
        if table is not rollup_hourly:
            days = _hours_of_day(connection, table, when, chosen, table.c.day)
            start = moments(days["day"]) + days["hour"].astype("timedelta64[s]") * 3600
            found.append(days.assign(start=start))
    return _added_up(found, ["start"])


def _edge_hours(connection: Connection, period: Period, chosen: Filter) -> pd.DataFrame:
    """start, transactions, flagged for each hour with transactions outside the whole days."""
    hour = rollup_hourly.c.hour
    edges = rollup_hourly, _within_any(hour, period.parts().hours)
    statement = _chosen_of(edges, chosen, hour.label("start"), *_sums(rollup_hourly))
    frame = read_frame(connection, statement.group_by(hour))
    return frame.assign(start=moments(frame["start"]))


def _hours_of_day(
    connection: Connection, table: Table, when: ColumnElement[bool], chosen: Filter, key: ColumnElement[Any]
) -> pd.DataFrame:
    """The key, hour (of the day), transactions, flagged for a part of a period, those with transactions."""
    statement = _chosen_of((table, when), chosen, key, table.c.Is_Fraud, *_sums_by_hour(table))
    wide = read_frame(connection, statement.group_by(key, table.c.Is_Fraud))
    long = wide.melt([key.name, "Is_Fraud"], list(HOURS_OF_DAY), "hour", "transactions")
    long = long.assign(
        hour=long["hour"].str[1:].astype("int64"),
        transactions=long["transactions"].astype("int64"),
        flagged=0,
    )
    long["flagged"] = long["transactions"].where(long["Is_Fraud"] == "YES", 0)
    return long[long["transactions"] > 0].drop(columns="Is_Fraud")


def _added_up(parts: Sequence[pd.DataFrame], key: list[str], sums: Sequence[str] = _COUNTS) -> pd.DataFrame:
    """One frame of all parts, a row for each key, in the order of the keys; counts are whole numbers."""
    together = pd.concat([part[[*key, *sums]] for part in parts if len(part)] or [parts[0][[*key, *sums]]])
    together = together.astype(dict.fromkeys(_COUNTS, "int64"))
    return together.groupby(key, as_index=False, sort=True)[list(sums)].sum()


def _newest_hours(connection: Connection, period: Period, chosen: Filter, rows: int) -> list[datetime]:
    """The newest hours of the period that hold `rows` of the chosen transactions together, or all of them."""
    hours: list[datetime] = []
    within = _days_that_reach(connection, period, chosen, rows)
    # One more than rows: the newest day's may all lie behind the period.
    for days in (_USUALLY_ENOUGH_DAYS, rows + 1):
        hours, found = [], 0
        for hour, transactions in _hours_of_last_days(connection, period, within, chosen, days):
            hours.append(hour)
            found += transactions
            if found >= rows:
                return hours
    return hours


def _months_that_reach(connection: Connection, period: Period, chosen: Filter, rows: int) -> list[date]:
    """The newest months with so many of the chosen transactions, or all; their first days, newest first."""
    month = rollup_monthly.c.month
    within = and_(month >= period.start.date().replace(day=1), month <= period.end.date())
    statement = (
        _chosen_of((rollup_monthly, within), chosen, month, sum_of_counts(rollup_monthly.c.transactions))
        .where(*_flagged_only(rollup_monthly, chosen))
        .group_by(month)
        .order_by(month.desc())
    )
    months: list[date] = []
    found = 0
    for each, transactions in connection.execute(statement).all():
        # Without the newest month: the period may end in it, before what is counted there.
        found += int(transactions) if months else 0
        months.append(each)
        if found >= rows:
            break
    return months


def _hours_of_last_days(
    connection: Connection, period: Period, within: ColumnElement[bool], chosen: Filter, days: int
) -> Iterator[tuple[datetime, int]]:
    """Hours of the period with chosen transactions and how many, newest first, of at most so many of the days
    within."""
    table = _by_day(chosen)
    statement = (
        _chosen_of((table, within), chosen, table.c.day, *_sums_by_hour(table))
        .where(*_flagged_only(table, chosen))
        .group_by(table.c.day)
        .order_by(table.c.day.desc())
        .limit(days)
    )
    for each, *by_hour in connection.execute(statement):
        for hour, transactions in reversed(list(enumerate(by_hour))):
            start = _hour_of(each, hour)
            if transactions and period.start <= start < period.end:
                yield start, int(transactions)


def _days_that_reach(
    connection: Connection, period: Period, chosen: Filter, rows: int
) -> ColumnElement[bool]:
    """Days of the period: all of them, or with names those of the months that hold so many rows."""
    day, first, last = _by_day(chosen).c.day, period.start.date(), period.end.date()
    if not chosen.names():
        return and_(day >= first, day <= last)
    months = _months_that_reach(connection, period, chosen, rows)
    # One by one, so that names behind the day in the key are looked up, not sought in years of rows.
    return day.in_([each for month in months for each in _days_of(month) if first <= each <= last])


def _days_of(month: date) -> list[date]:
    return [month.replace(day=1 + number) for number in range(monthrange(month.year, month.month)[1])]


def _hour_of(day: Any, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - local time, as stored


def _joined(hours: list[datetime]) -> list[Period]:
    """Hours, newest first, as few periods."""
    joined: list[Period] = []
    for each in map(hour_from, hours):
        if joined and joined[-1].start == each.end:
            joined[-1] = Period(each.start, joined[-1].end)
        else:
            joined.append(each)
    return joined


def _where_rows_are(
    chosen: Filter,
) -> tuple[FromClause, ColumnElement[Any], ColumnElement[Any], int]:
    """The rows, their Time and TransactionID, and how many may be read; flagged ones are found by their
    alerts, which are few, and each of them is then looked up."""
    if not chosen.fraud_only:
        return clean_data, clean_data.c.Time, clean_data.c.TransactionID, _MOST_ROWS_READ
    same = clean_data.c.TransactionID == alerts.c.TransactionID
    return alerts.join(clean_data, same), alerts.c.Time, alerts.c.TransactionID, _MOST_ROWS_LOOKED_UP


def _has_name(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    return column == name if name else column.is_(None)
