"""The queue of alerts: flagged transactions, the newest first, with what became known of each.

A read looks at a bounded number of alerts and says where it stopped, so it takes as long with many rows
as with few; the next read goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd
from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select

from fraudstream.reviews import REVIEW, WITHDRAWN, Review, Word, last_word
from fraudstream.store.reads.frames import read_frame
from fraudstream.store.reviews import NOT_REVIEWED, review_of
from fraudstream.store.tables import alerts, clean_data, labels, rule_daily

State = Literal["new", "fraud", "legitimate"]

PAGE_ROWS = 50
# A search looks into the transactions themselves, a state or a reason only at alerts and labels.
LOOKED_AT, SEARCHED = 10_000, 3_000
EXPORTED_ROWS, EXPORT_LOOKED_AT = 5_000, 300_000
MOST_CODES = 100
MOST_COUNTED = 1_000


@dataclass(frozen=True)
class Place:
    """A place in the queue: an alert's Time, and its id among those of that time."""

    time: datetime
    alert_id: int


@dataclass(frozen=True)
class Wanted:
    """Which alerts: in a state, with a reason, with a text in them; "" and None are any."""

    state: State | None = None
    code: str | None = None
    search: str = ""


@dataclass(frozen=True)
class Queue:
    """`rows` has the columns of QUEUE_COLUMNS; newest Time first, of equal ones the later alert.

    `next` is where the next read goes on: the place of the last alert that was looked at, or None where
    there is none behind it.
    """

    rows: pd.DataFrame
    next: Place | None


@dataclass(frozen=True)
class Known:
    """What is said of one transaction: all sources, the word that counts, and the review's own row."""

    words: tuple[Word, ...] = ()
    review: Review | None = None

    @property
    def word(self) -> Word | None:
        return last_word(self.words)

    @property
    def state(self) -> State:
        return self.word.outcome if self.word else "new"


_SHOWN = (
    "TransactionID",
    "UserID",
    "Amount",
    "Location",
    "Time",
    "Device",
    "Merchant",
    "score",
    "reasons",
)
# `state`, `source` and `by` are of the word that counts; `version` is the review's, 0 where there is none.
QUEUE_COLUMNS = (*_SHOWN, "alert_id", "state", "source", "by", "note", "version")


def read_queue(
    connection: Connection,
    wanted: Wanted,
    *,
    up_to: int | None = None,
    behind: Place | None = None,
    rows: int = PAGE_ROWS,
) -> Queue:
    """At most `rows` alerts, from the newest on, or from the first one behind a place.

    Those that came after the alert with the id `up_to` are left out.
    """
    start = [*_behind(behind), *([] if up_to is None else [alerts.c.alert_id <= up_to])]
    found = _exactly(connection, wanted, start, rows)
    if found is None:
        found = _within_a_window(connection, wanted, start, rows)
    frame, following = found
    known = known_of(connection, frame["TransactionID"].tolist())
    return Queue(_with_words(frame, known), following)


def read_export(connection: Connection, wanted: Wanted, *, up_to: int | None = None) -> pd.DataFrame:
    """Rows as in Queue: the newest EXPORTED_ROWS that are wanted, of the newest EXPORT_LOOKED_AT alerts."""
    found: list[pd.DataFrame] = []
    missing, place = EXPORTED_ROWS, None
    for _ in range(EXPORT_LOOKED_AT // _window(wanted)):
        queue = read_queue(connection, wanted, up_to=up_to, behind=place, rows=missing)
        found.append(queue.rows)
        missing, place = missing - len(queue.rows), queue.next
        if missing == 0 or place is None:
            break
    return pd.concat([each for each in found if len(each)] or found[:1], ignore_index=True)


def read_alert(connection: Connection, transaction_id: str) -> pd.DataFrame:
    """The alert of one transaction: one row as in Queue, or none."""
    frame, _ = _page(connection, [alerts.c.TransactionID == transaction_id], [], 1)
    return _with_words(frame, known_of(connection, [transaction_id]))


def alerts_since(connection: Connection, alert_id: int, *, most: int = MOST_COUNTED) -> int:
    """How many alerts came after that one, `most` for so many and more."""
    later = select(alerts.c.alert_id).where(alerts.c.alert_id > alert_id).limit(most).subquery()
    return connection.scalar(select(func.count()).select_from(later)) or 0


def last_alert_id(connection: Connection) -> int:
    """The id of the alert that came last, 0 where there is none."""
    return connection.scalar(select(func.max(alerts.c.alert_id))) or 0


def reason_codes(connection: Connection) -> tuple[str, ...]:
    """The codes of all reasons that there are, in order."""
    return tuple(
        connection.scalars(select(rule_daily.c.code).distinct().order_by(rule_daily.c.code).limit(MOST_CODES))
    )


def known_of(connection: Connection, transaction_ids: Sequence[str]) -> dict[str, Known]:
    """What is said of each of them; those of which nothing is said are left out."""
    if not transaction_ids:
        return {}
    rows = connection.execute(select(labels).where(labels.c.TransactionID.in_(transaction_ids))).all()
    known: dict[str, Known] = {}
    for row in rows:
        before = known.get(row.TransactionID, Known())
        said = () if row.label == WITHDRAWN else (Word(row.source, row.label, row.known_at, row.recorded_by),)
        review = review_of(row) if row.source == REVIEW else before.review
        known[row.TransactionID] = Known((*before.words, *said), review)
    return known


_NEWEST_FIRST = (alerts.c.Time.desc(), alerts.c.alert_id.desc())

# The word that counts, as `reviews.last_word` finds it.
_OUTCOME: ColumnElement[Any] = (
    select(labels.c.label)
    .where(labels.c.TransactionID == alerts.c.TransactionID, labels.c.label != WITHDRAWN)
    .order_by(labels.c.known_at.desc(), case((labels.c.label == "fraud", 0), else_=1))
    .limit(1)
    .correlate(alerts)
    .scalar_subquery()
)


def _exactly(
    connection: Connection, wanted: Wanted, start: list[ColumnElement[bool]], rows: int
) -> tuple[pd.DataFrame, Place | None] | None:
    """The alerts of the transaction or user that is called like the search; None where nobody is."""
    if not wanted.search:
        return None
    of_transaction = alerts.c.TransactionID == wanted.search
    # By its states, because the index on users begins with these.
    of_user = and_(alerts.c.state.in_(("waiting", "mailed")), alerts.c.UserID == wanted.search)
    for named in (of_transaction, of_user):
        if connection.scalar(select(alerts.c.alert_id).where(named).limit(1)) is not None:
            return _page(connection, [named, *start], _conditions(wanted, text=False), rows)
    return None


def _within_a_window(
    connection: Connection, wanted: Wanted, start: list[ColumnElement[bool]], rows: int
) -> tuple[pd.DataFrame, Place | None]:
    conditions = _conditions(wanted, text=True)
    if not conditions:
        return _page(connection, start, [], rows)
    last = connection.execute(
        select(alerts.c.Time, alerts.c.alert_id)
        .where(*start)
        .order_by(*_NEWEST_FIRST)
        .offset(_window(wanted) - 1)
        .limit(1)
    ).one_or_none()
    end = None if last is None else Place(last.Time, last.alert_id)
    frame, following = _page(connection, [*start, *_not_behind(end)], conditions, rows)
    return frame, following or end


def _window(wanted: Wanted) -> int:
    """How many alerts one read looks at."""
    return SEARCHED if wanted.search else LOOKED_AT


def _page(
    connection: Connection,
    place: list[ColumnElement[bool]],
    conditions: list[ColumnElement[bool]],
    rows: int,
) -> tuple[pd.DataFrame, Place | None]:
    """The first rows, and the place of the last of them if there are more."""
    statement = (
        select(*(clean_data.c[name] for name in _SHOWN), alerts.c.alert_id)
        .select_from(alerts)
        .join(clean_data, clean_data.c.TransactionID == alerts.c.TransactionID)
        .where(*place, *conditions)
        .order_by(*_NEWEST_FIRST)
        .limit(rows + 1)
    )
    frame = read_frame(connection, statement)
    if len(frame) <= rows:
        return frame, None
    frame = frame.iloc[:rows]
    last = frame.iloc[-1]
    return frame, Place(pd.Timestamp(last["Time"]).to_pydatetime(), int(last["alert_id"]))


def _behind(place: Place | None) -> list[ColumnElement[bool]]:
    """Spelled so that the server follows its index; it does not for a comparison of two pairs."""
    if place is None:
        return []
    time, alert_id = alerts.c.Time, alerts.c.alert_id
    return [time <= place.time, or_(time < place.time, alert_id < place.alert_id)]


def _not_behind(place: Place | None) -> list[ColumnElement[bool]]:
    if place is None:
        return []
    time, alert_id = alerts.c.Time, alerts.c.alert_id
    return [time >= place.time, or_(time > place.time, alert_id >= place.alert_id)]


def _conditions(wanted: Wanted, *, text: bool) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state == "new":
        conditions.append(_OUTCOME.is_(None))
    elif wanted.state is not None:
        conditions.append(_OUTCOME.in_([wanted.state]))
    if wanted.code is not None:
        between_blanks = literal(" ").concat(alerts.c.codes).concat(" ")
        conditions.append(between_blanks.contains(f" {wanted.code} ", autoescape=True))
    if text and wanted.search:
        words = (clean_data.c.TransactionID, clean_data.c.UserID, *(clean_data.c[name] for name in _NAMES))
        looked_for = wanted.search.lower()
        conditions.append(
            or_(
                *(func.lower(column).contains(looked_for, autoescape=True) for column in words),
                func.lower(clean_data.c.reasons).contains(looked_for.replace(" ", "_"), autoescape=True),
            )
        )
    return conditions


_NAMES = ("Location", "Device", "Merchant")


def _with_words(frame: pd.DataFrame, known: dict[str, Known]) -> pd.DataFrame:
    of_rows = [known.get(each, Known()) for each in frame["TransactionID"]]
    words = [each.word for each in of_rows]
    reviews = [each.review for each in of_rows]
    said: dict[str, list[object]] = {
        "state": [each.state for each in of_rows],
        "source": [word.source if word else None for word in words],
        "by": [word.by if word else None for word in words],
        "note": [review.note if review else None for review in reviews],
        "version": [review.version if review else NOT_REVIEWED for review in reviews],
    }
    return frame.assign(**{name: pd.Series(values, frame.index, object) for name, values in said.items()})
