"""Periods that the dashboard counts: whole hours of local time, relative to the data and not to the clock.

A replayed file may be of last year: "the last day" is the one that ends with the newest transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# The calendar's own ends: data may well have a transaction there.
FIRST = datetime.fromisoformat("0001-01-01")
LAST = datetime.fromisoformat("9999-12-31 23:59:59.999999")

Recent = Literal["hour", "day", "week", "all"]
_LENGTHS: dict[Recent, timedelta] = {"hour": HOUR, "day": DAY, "week": 7 * DAY}


@dataclass(frozen=True)
class Period:
    """From `start` to before `end`, both whole hours of local time in the setting TZ."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def before(self) -> Period | None:
        """The period of the same length that ends where this one starts; None before the calendar's start."""
        if self.start - FIRST < self.length:
            return None
        return Period(self.start - self.length, self.start)

    def at_least(self, length: timedelta) -> Period:
        """The period, begun earlier where it is shorter than `length`."""
        return Period(self.end - max(self.length, min(length, self.end - FIRST)), self.end)

    def whole_days(self) -> tuple[date, date] | None:
        """The days that lie wholly in the period, as first and end (which is outside), if there are any."""
        first = self.start.date() if self.start == _midnight(self.start) else _next_day(self.start)
        end = self.end.date()
        return (first, end) if first is not None and first < end else None

    def parts(self) -> Parts:
        days = self.whole_days()
        if days is None:
            return Parts([self], [], [])
        first, end = (datetime.combine(day, time.min) for day in days)
        hours = [edge for edge in (Period(self.start, first), Period(end, self.end)) if edge.length]
        months = _whole_months(*days)
        if months is None:
            return Parts(hours, [days], [])
        around = [(days[0], months[0]), (months[1], days[1])]
        return Parts(hours, [each for each in around if each[0] < each[1]], [months])


@dataclass(frozen=True)
class Parts:
    """A period taken apart: its whole months, the other whole days, the other hours. Ends are outside."""

    hours: list[Period]
    days: list[tuple[date, date]]
    months: list[tuple[date, date]]


def resolve(asked: Recent | Period, oldest: datetime, newest: datetime) -> Period:
    """What is asked for, in data from `oldest` to `newest`."""
    if isinstance(asked, Period):
        return asked
    return covering(oldest, newest) if asked == "all" else latest(_LENGTHS[asked], newest)


def latest(length: timedelta, newest: datetime) -> Period:
    """The period of this length whose last hour has the newest transaction."""
    end = _end_of_hour(newest)
    return Period(end - min(length, end - FIRST), end)


def covering(oldest: datetime, newest: datetime) -> Period:
    """All hours from the oldest transaction's to the newest one's."""
    return Period(_start_of_hour(oldest), _end_of_hour(newest))


def between(start: datetime, end: datetime) -> Period | None:
    """The hours from that of `start` to before that of `end`; None where that is no hour."""
    period = Period(_start_of_hour(start), _start_of_hour(end))
    return period if period.length > timedelta(0) else None


def _start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def hour_from(start: datetime) -> Period:
    return Period(start, _end_of_hour(start))


def _end_of_hour(moment: datetime) -> datetime:
    start = _start_of_hour(moment)
    return start + HOUR if LAST - start >= HOUR else LAST


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _next_day(moment: datetime) -> date | None:
    return moment.date() + DAY if moment.date() < date.max else None


def _whole_months(first: date, end: date) -> tuple[date, date] | None:
    """The months that lie wholly in these days, from the first one to before the one behind the last."""
    start = first if first.day == 1 else _next_month(first)
    stop = end.replace(day=1)
    return (start, stop) if start is not None and start < stop else None


def _next_month(day: date) -> date | None:
    start = day.replace(day=1)
    return (start + 31 * DAY).replace(day=1) if date.max - start >= 31 * DAY else None
