"""Which rows of the CSV are sent, and when: rounds over the file, and schedules for its rows."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple

from fraudstream.publisher.csv_source import Cells, CsvError, count_rows, read_rows
from fraudstream.schema import EARLIEST_TIME, FIELD_NAMES, MAX_AHEAD_OF_KAFKA, WHITESPACE

_TRANSACTION_ID = FIELD_NAMES.index("TransactionID")
_TIME = FIELD_NAMES.index("Time")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY = timedelta(days=1)

# A row this little ahead of its time is sent at once: sleeping for less costs more than it gives.
_EARLY_S = 0.002
_IDLE_S = 0.2


class Position(NamedTuple):
    """A place in a replay: so many rows of a round (the first is 1) are done."""

    round: int
    rows: int


START = Position(1, 0)


class Row(NamedTuple):
    """One row to send, and the position once it is sent."""

    position: Position
    cells: Cells


# The second after the start of the replay at which a row is due.
Schedule = Callable[[Row], float]


class Clock(NamedTuple):
    """How event times are read: their zone, and what the time there is now."""

    zone: tzinfo
    now: Callable[[], datetime]


def rounds(path: Path, start: Position, clock: Clock, announce: Callable[[str], None]) -> Iterator[Row]:
    """Rows of the file from `start` on, round after round, until a round would lie in the future.

    Each round after the first has TransactionIDs of its own (`-r2`, `-r3`, …) and its times moved on by
    the file's span in whole days. `announce` gets a line for the user when the end is reached. Raises
    CsvError.
    """
    if start.round == 1:
        yield from one_round(path, start)
        start = Position(2, 0)
    earliest, latest = _time_span(path, clock)
    days_a_round = max(-((earliest - latest) // _DAY), 1)
    for number in itertools.count(start.round):
        days = days_a_round * (number - 1)
        if latest + timedelta(days=days) > clock.now():
            announce(f"Stopped before round {number}: its times would lie in the future.")
            return
        for rows, cells in _numbered_rows(path, start.rows):
            yield Row(Position(number, rows), _moved_on(cells, number, days))
        start = Position(number + 1, 0)


def one_round(path: Path, start: Position) -> Iterator[Row]:
    """The rows of the file as they are, from `start` on; none if `start` is in a later round."""
    if start.round == 1:
        for rows, cells in _numbered_rows(path, start.rows):
            yield Row(Position(1, rows), cells)


def rows_ahead(path: Path, start: Position, limit: int | None) -> int:
    """About how many rows of the round are left to send."""
    left = max(count_rows(path) - start.rows, 0)
    return left if limit is None else min(limit, left)


def schedule(rate: float, speed: float | None, clock: Clock) -> Schedule:
    """By the events' own pace if `speed` is given, else `rate` rows a second, where 0 means at once."""
    if speed is not None:
        return at_speed(speed, clock)
    return at_rate(rate) if rate else at_once


def at_once(row: Row) -> float:
    """The schedule of a replay that goes as fast as it can."""
    return 0.0


def at_rate(rows_per_second: float) -> Schedule:
    """Every row its share of a second after the one before."""
    numbers = itertools.count()
    return lambda row: next(numbers) / rows_per_second


def at_speed(multiple: float, clock: Clock) -> Schedule:
    """As the events happened, `multiple` times as fast; a late or timeless row follows the one before."""
    first: datetime | None = None
    newest: datetime | None = None

    def due(row: Row) -> float:
        nonlocal first, newest
        happened = _event_time(row.cells, clock)
        if happened is not None:
            first = happened if first is None else first
            newest = happened if newest is None else max(newest, happened)
        return 0.0 if newest is None or first is None else (newest - first).total_seconds() / multiple

    return due


def paced(
    rows: Iterable[Row], schedule: Schedule, stopped: Callable[[], int], idle: Callable[[], None]
) -> Iterator[Row]:
    """Each row when it is due, until `stopped`; `idle` is called again and again in longer waits.

    Due times count from the first row on the monotonic clock, so small delays do not add up.
    """
    start = time.monotonic()
    for row in rows:
        due = start + schedule(row)
        while not stopped() and (wait := due - time.monotonic()) > _EARLY_S:
            time.sleep(min(wait, _IDLE_S))
            idle()
        if stopped():
            return
        yield row


def _numbered_rows(path: Path, skip: int) -> Iterator[tuple[int, Cells]]:
    return itertools.islice(enumerate(read_rows(path), start=1), skip, None)


def _time_span(path: Path, clock: Clock) -> tuple[datetime, datetime]:
    times = (_event_time(cells, clock) for cells in read_rows(path))
    known = (time for time in times if time is not None)
    earliest = latest = next(known, None)
    if earliest is None or latest is None:
        raise CsvError(path, "no time that could be moved on to a next round", column="Time")
    for happened in known:
        earliest, latest = min(earliest, happened), max(latest, happened)
    return earliest, latest


def _event_time(cells: Cells, clock: Clock) -> datetime | None:
    """When the row happened, local time without zone; None when no usable time is given."""
    try:
        happened = datetime.fromisoformat(cells[_TIME].strip(WHITESPACE))
        if happened.tzinfo is not None:
            happened = happened.astimezone(clock.zone).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return happened if EARLIEST_TIME <= happened <= clock.now() + MAX_AHEAD_OF_KAFKA else None


def _moved_on(cells: Cells, round_number: int, days: int) -> Cells:
    moved = list(cells)
    moved[_TRANSACTION_ID] = _renamed(cells[_TRANSACTION_ID], round_number)
    moved[_TIME] = _DATE.sub(lambda match: _days_later(match[0], days), cells[_TIME], count=1)
    return moved


def _renamed(transaction_id: str, round_number: int) -> str:
    name = transaction_id.rstrip(WHITESPACE)
    return (
        f"{name}-r{round_number}{transaction_id[len(name) :]}" if name.strip(WHITESPACE) else transaction_id
    )


@functools.lru_cache(maxsize=4096)
def _days_later(day: str, days: int) -> str:
    """The date `days` later; what is no date stays as it is."""
    try:
        return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        return day
