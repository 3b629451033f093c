"""Periods in whole hours: relative to the data, comparable with the one before, cut into parts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.periods import DAY, FIRST, HOUR, LAST, Period, between, covering, hour_from, latest, resolve

WHOLE_HOURS = st.datetimes(FIRST, LAST).map(lambda moment: moment.replace(minute=0, second=0, microsecond=0))
PERIODS = (
    st.tuples(WHOLE_HOURS, WHOLE_HOURS).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: Period(*ends))
)
SHORT = st.tuples(
    st.datetimes(datetime.fromisoformat("2026-03-01"), datetime.fromisoformat("2026-03-09")),
    st.integers(1, 100) | st.integers(1, 4_000),
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@given(SHORT)
def test_months_days_and_hours_together_are_the_period(drawn: tuple[datetime, int]) -> None:
    start = hour_from(drawn[0].replace(minute=0, second=0, microsecond=0)).start
    period = Period(start, start + drawn[1] * HOUR)
    parts = period.parts()
    found: list[datetime] = []
    for first, end in [*parts.months, *parts.days]:
        assert first < end
        midnight = datetime.combine(first, datetime.min.time())
        found += [midnight + n * HOUR for n in range(24 * (end - first).days)]
    for edge in parts.hours:
        assert timedelta(0) < edge.length < 2 * DAY
        found += [edge.start + n * HOUR for n in range(round(edge.length / HOUR))]
    assert sorted(found) == [start + n * HOUR for n in range(drawn[1])]
    for first, end in parts.months:
        assert first.day == end.day == 1
    for first, end in parts.days:
        assert (end - first).days < 62


@given(PERIODS)
def test_any_period_of_the_calendar_can_be_cut_and_compared(period: Period) -> None:
    for edge in period.parts().hours:
        assert edge.length > timedelta(0)
    before = period.before()
    assert before is None or (before.end == period.start and before.length == period.length)
    assert period.at_least(DAY).end == period.end


@given(st.datetimes(FIRST, LAST), st.sampled_from(["hour", "day", "week", "all"]))
def test_what_is_asked_for_holds_the_newest_transaction_or_ends_with_the_calendar(
    newest: datetime, asked
) -> None:
    period = resolve(asked, FIRST, newest)
    assert period.start <= newest
    assert newest < period.end or period.end == LAST


def test_recent_periods_end_with_the_hour_of_the_newest_transaction() -> None:
    newest = at("2026-03-01 12:34:56")
    assert resolve("hour", FIRST, newest) == Period(at("2026-03-01 12:00"), at("2026-03-01 13:00"))
    assert latest(DAY, newest) == Period(at("2026-02-28 13:00"), at("2026-03-01 13:00"))
    assert covering(at("2026-02-27 00:59"), newest) == Period(at("2026-02-27 00:00"), at("2026-03-01 13:00"))


def test_a_custom_period_is_cut_to_whole_hours_and_must_not_be_empty() -> None:
    assert between(at("2026-03-01 12:34"), at("2026-03-01 14:59")) == Period(
        at("2026-03-01 12:00"), at("2026-03-01 14:00")
    )
    assert between(at("2026-03-01 12:34"), at("2026-03-01 12:59")) is None
    assert between(at("2026-03-01 12:34"), at("2026-02-01 12:59")) is None


def test_a_custom_period_is_what_it_is_whatever_the_data_cover() -> None:
    period = Period(at("2026-03-01 12:00"), at("2026-03-01 14:00"))
    assert resolve(period, FIRST, LAST) is period


@pytest.mark.parametrize(("start", "first"), [("2026-03-01 00:00", 1), ("2026-03-01 01:00", 2)])
def test_a_day_that_has_begun_before_is_not_whole(start: str, first: int) -> None:
    days = Period(at(start), at("2026-03-05 23:00")).whole_days()
    assert days is not None
    assert (days[0].day, days[1].day) == (first, 5)
