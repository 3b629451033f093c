"""What there is of one transaction, and of one user: bounded reads along an index, whatever is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Row, func, select

from fraudstream.reviews import REVIEW, Review
from fraudstream.store.reads.frames import read_frame
from fraudstream.store.reads.queue import Known, known_of
from fraudstream.store.reviews import history_of
from fraudstream.store.tables import alerts, clean_data, labels, mails
from fraudstream.stored import StoredAlert, StoredTransaction

LOOK_BACK = timedelta(days=30)
LOOK_AHEAD = timedelta(days=1)
HISTORY_ROWS = 1_000
ALERT_ROWS = 20
LATEST_ROWS = 50

HISTORY_COLUMNS = (
    "TransactionID",
    "Time",
    "Amount",
    "Location",
    "Device",
    "Merchant",
    "Is_Fraud",
    "score",
)


@dataclass(frozen=True)
class History:
    """A user's transactions in a span of event time, oldest first: columns HISTORY_COLUMNS and `state`.

    Where there are too many, the earliest are not here (`cut`), or the latest (`cut_after`), or both.
    """

    frame: pd.DataFrame
    cut: bool = False
    cut_after: bool = False


@dataclass(frozen=True)
class Alerts:
    """A user's last alerts, the newest Time first: columns HISTORY_COLUMNS, `reasons` and `state`.

    `cut` says that there are earlier ones.
    """

    frame: pd.DataFrame
    cut: bool = False


@dataclass(frozen=True)
class Case:
    """A transaction and what surrounds it; `reviews` is the newest first, each as it was stored.

    `history` has the transaction itself, the 30 days before it and the day after it, of either side those
    nearest to it. `alerts` are the user's others.
    """

    transaction: StoredTransaction
    alert: StoredAlert | None
    known: Known
    reviews: list[Review]
    history: History
    alerts: Alerts


@dataclass(frozen=True)
class User:
    """A user: how many transactions and alerts, from when to when, the last 30 days, the last alerts."""

    user_id: str
    transactions: int
    first: datetime
    last: datetime
    flagged: int
    history: History
    alerts: Alerts


def read_case(connection: Connection, transaction_id: str) -> Case | None:
    """Everything about one transaction; None where it is not stored."""
    columns = clean_data.c
    row = connection.execute(select(clean_data).where(columns.TransactionID == transaction_id)).one_or_none()
    if row is None:
        return None
    transaction = StoredTransaction(
        transaction_id=row.TransactionID,
        user_id=row.UserID,
        amount=row.Amount,
        location=row.Location,
        time=row.Time,
        device=row.Device,
        merchant=row.Merchant,
        flagged=row.Is_Fraud == "YES",
        score=row.score,
        reasons=row.reasons,
        model_version=row.model_version,
        features=row.features,
        topic_id=row.topic_id,
        partition_id=row.partition_id,
        offset=row.offset,
        kafka_time=row.kafka_time,
        processed_at=row.processed_at,
    )
    return Case(
        transaction=transaction,
        alert=_alert(connection, transaction_id),
        known=known_of(connection, [transaction_id]).get(transaction_id, Known()),
        reviews=_reviews(connection, transaction_id),
        history=_history_around(connection, row),
        alerts=_alerts(connection, row.UserID, but=transaction_id),
    )


def read_user(connection: Connection, user_id: str) -> User | None:
    """A user; None where there is no transaction of that user."""
    counted = connection.execute(
        select(
            func.count().label("transactions"),
            func.min(clean_data.c.Time).label("first"),
            func.max(clean_data.c.Time).label("last"),
        ).where(clean_data.c.UserID == user_id)
    ).one()
    if counted.transactions == 0:
        return None
    flagged = select(func.count()).select_from(alerts).where(*_of_user(user_id))
    return User(
        user_id=user_id,
        transactions=counted.transactions,
        first=counted.first,
        last=counted.last,
        flagged=connection.scalar(flagged) or 0,
        history=_history_until(connection, user_id, counted.last),
        alerts=_alerts(connection, user_id),
    )


def _alert(connection: Connection, transaction_id: str) -> StoredAlert | None:
    row = connection.execute(
        select(alerts.c.created_at, mails.c.state, mails.c.sent_at)
        .outerjoin_from(alerts, mails, alerts.c.mail_id == mails.c.mail_id)
        .where(alerts.c.TransactionID == transaction_id)
    ).one_or_none()
    return None if row is None else StoredAlert(row.created_at, row.state, row.sent_at)


def _reviews(connection: Connection, transaction_id: str) -> list[Review]:
    row = connection.execute(
        select(labels).where(labels.c.TransactionID == transaction_id, labels.c.source == REVIEW)
    ).one_or_none()
    return [] if row is None else history_of(row)


def _history_until(connection: Connection, user_id: str, end: datetime) -> History:
    columns = clean_data.c
    asked = (columns.UserID == user_id, columns.Time >= end - LOOK_BACK, columns.Time <= end)
    rows, cut = _nearest(connection, *asked, newest_first=True)
    return History(_history_frame(connection, rows[::-1]), cut)


def _history_around(connection: Connection, this: Row[Any]) -> History:
    """Before and after are bounded apart: however much follows, it takes nothing from what was before."""
    columns = clean_data.c
    own, time = columns.UserID == this.UserID, columns.Time
    before, cut = _nearest(
        connection, own, time >= this.Time - LOOK_BACK, time < this.Time, newest_first=True
    )
    others = columns.TransactionID != this.TransactionID
    after, cut_after = _nearest(
        connection, own, time >= this.Time, time <= this.Time + LOOK_AHEAD, others, newest_first=False
    )
    rows = sorted([*before, this, *after], key=lambda row: (row.Time, row.TransactionID))
    return History(_history_frame(connection, rows), cut, cut_after)


def _nearest(
    connection: Connection, *asked: ColumnElement[bool], newest_first: bool
) -> tuple[list[Row[Any]], bool]:
    """The first HISTORY_ROWS transactions in this order, and whether there are more."""
    order = (clean_data.c.Time, clean_data.c.TransactionID)
    statement = (
        select(*(clean_data.c[name] for name in HISTORY_COLUMNS))
        .where(*asked)
        .order_by(*(column.desc() if newest_first else column.asc() for column in order))
        .limit(HISTORY_ROWS + 1)
    )
    rows = list(connection.execute(statement))
    return rows[:HISTORY_ROWS], len(rows) > HISTORY_ROWS


def _history_frame(connection: Connection, rows: Sequence[Row[Any]]) -> pd.DataFrame:
    values = [[getattr(row, name) for name in HISTORY_COLUMNS] for row in rows]
    return _with_states(connection, pd.DataFrame(values, columns=list(HISTORY_COLUMNS)))


def _alerts(connection: Connection, user_id: str, *, but: str = "") -> Alerts:
    """The user's alerts that came last, the newest Time first."""
    newest = (
        select(alerts.c.TransactionID)
        .where(*_of_user(user_id), alerts.c.TransactionID != but)
        .order_by(alerts.c.alert_id.desc())
        .limit(ALERT_ROWS + 1)
    )
    ids = list(connection.scalars(newest))
    columns = [clean_data.c[name] for name in (*HISTORY_COLUMNS, "reasons")]
    statement = (
        select(*columns)
        .where(clean_data.c.TransactionID.in_(ids[:ALERT_ROWS]))
        .order_by(clean_data.c.Time.desc(), clean_data.c.TransactionID.desc())
    )
    return Alerts(_with_states(connection, read_frame(connection, statement)), len(ids) > ALERT_ROWS)


def _of_user(user_id: str) -> Sequence[ColumnElement[bool]]:
    """By its states, because the index on users begins with these."""
    return alerts.c.state.in_(("waiting", "mailed")), alerts.c.UserID == user_id


def _with_states(connection: Connection, frame: pd.DataFrame) -> pd.DataFrame:
    known = known_of(connection, frame["TransactionID"].tolist())
    return frame.assign(state=[known.get(each, Known()).state for each in frame["TransactionID"]])
