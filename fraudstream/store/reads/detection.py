"""How good the flags are: reasons and scores from the counts by day, outcomes from the labels of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from fraudstream.periods import Period, covering
from fraudstream.reviews import WITHDRAWN
from fraudstream.schema import SCORE_BINS
from fraudstream.store.reads.frames import read_frame, sum_of_counts
from fraudstream.store.reads.overview import transactions_and_flagged
from fraudstream.store.tables import alerts, batch_metrics, labels, rollup_daily, rule_daily, score_daily

# Each alert is met with its labels: so many at the most, of longer spans the newest.
MOST_WITH_LABELS = 50_000


@dataclass(frozen=True)
class Span:
    """Days of event time, both included, in the setting TZ."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def period(self) -> Period:
        """All hours of these days."""
        return covering(datetime.combine(self.first, time.min), datetime.combine(self.last, time.max))


@dataclass(frozen=True)
class Detection:
    """`rules`: code, flagged, fraud, legitimate, a row for each reason, most flags first.

    `outcomes`: day, fraud, legitimate: the alerts of each day of whose transaction the outcome is known.
    `scores`: model_version, and the count in each bin as a list. `alerts` counts flagged transactions; where
    these are too many, the outcomes are only of the `looked_at` newest, those `since` a time.
    """

    span: Span
    transactions: int
    alerts: int
    looked_at: int
    since: datetime | None
    rules: pd.DataFrame
    outcomes: pd.DataFrame
    scores: dict[str, list[int]]


def days_covered(connection: Connection) -> Span | None:
    """The days from the first to the last transaction, or None where there is none."""
    day = rollup_daily.c.day
    first, last = connection.execute(select(func.min(day), func.max(day))).one()
    return None if first is None else Span(first, last)


def newest_days(covered: Span, days: int | None) -> Span:
    """The last `days` of what is covered; None is all of it."""
    if days is None:
        return covered
    return Span(max(covered.first, covered.last - timedelta(days=days - 1)), covered.last)


def read_detection(connection: Connection, span: Span) -> Detection:
    transactions, flagged = transactions_and_flagged(connection, span.period)
    since = _time_of_last(connection, span, MOST_WITH_LABELS)
    within = [*_between(alerts.c.Time, span), *([] if since is None else [alerts.c.Time >= since])]
    known = _known_outcomes(connection, within)
    return Detection(
        span=span,
        transactions=transactions,
        alerts=flagged,
        looked_at=flagged if since is None else _number_of(connection, within),
        since=since,
        rules=_rules(connection, span, known),
        outcomes=_by_day(known),
        scores=_scores(connection, span),
    )


def version_at_work(connection: Connection) -> str | None:
    """The version of the model in the newest batch, "" where that had none, None where there is no batch."""
    newest = select(batch_metrics.c.model_version).order_by(batch_metrics.c.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return None if row is None else row.model_version or ""


def _rules(connection: Connection, span: Span, known: pd.DataFrame) -> pd.DataFrame:
    columns = rule_daily.c
    flagged = sum_of_counts(columns.flagged)
    counted = read_frame(
        connection,
        select(columns.code, flagged.label("flagged"))
        .where(*_on_days(rule_daily, span))
        .group_by(columns.code)
        .order_by(flagged.desc(), columns.code),
    ).astype({"flagged": "int64"})
    by_code = known.explode("codes").groupby("codes")[["fraud", "legitimate"]].sum()
    by_code.index = by_code.index.astype(object)  # of no rows it would be of numbers
    return (
        counted.join(by_code, on="code")
        .fillna({"fraud": 0, "legitimate": 0})
        .astype({"fraud": "int64", "legitimate": "int64"})
    )


def _by_day(known: pd.DataFrame) -> pd.DataFrame:
    return known.groupby("day", as_index=False)[["fraud", "legitimate"]].sum()


def _time_of_last(connection: Connection, span: Span, most: int) -> datetime | None:
    """The Time of the last of the `most` newest alerts of the span; None where there are no more of them."""
    newest = select(alerts.c.Time).where(*_between(alerts.c.Time, span)).order_by(alerts.c.Time.desc())
    last_and_next = connection.scalars(newest.offset(most - 1).limit(2)).all()
    return last_and_next[0] if len(last_and_next) == 2 else None


def _number_of(connection: Connection, within: Sequence[ColumnElement[bool]]) -> int:
    return connection.scalar(select(func.count()).select_from(alerts).where(*within)) or 0


def _known_outcomes(connection: Connection, within: Sequence[ColumnElement[bool]]) -> pd.DataFrame:
    """The alerts whose outcome is known, counted: day, codes (a list), fraud, legitimate.

    Of several sources the word that became known last counts; of two at the same time, fraud.
    """
    # Of the words on an alert the greatest counts: the later one, and of the same time that of fraud, odd.
    word = func.max(func.to_seconds(labels.c.known_at) * 2 + case((labels.c.label == "fraud", 1), else_=0))
    labelled = (
        select(func.date(alerts.c.Time).label("day"), alerts.c.codes, word.label("word"))
        .join_from(alerts, labels, labels.c.TransactionID == alerts.c.TransactionID)
        .where(*within, labels.c.label != WITHDRAWN)
        .group_by(alerts.c.alert_id)
        .subquery()
    )
    fraud = func.mod(labelled.c.word, 2)
    counted = read_frame(
        connection,
        select(
            labelled.c.day, labelled.c.codes, fraud.label("is_fraud"), func.count().label("number")
        ).group_by(labelled.c.day, labelled.c.codes, fraud),
    )
    return pd.DataFrame(
        {
            "day": counted["day"],
            "codes": [sorted(set(each.split())) for each in counted["codes"]],
            "fraud": counted["number"].where(counted["is_fraud"] == 1, 0).astype("int64"),
            "legitimate": counted["number"].where(counted["is_fraud"] == 0, 0).astype("int64"),
        }
    )


def _scores(connection: Connection, span: Span) -> dict[str, list[int]]:
    columns = score_daily.c
    rows = connection.execute(
        select(columns.model_version, columns.bin, sum_of_counts(columns.transactions))
        .where(*_on_days(score_daily, span))
        .group_by(columns.model_version, columns.bin)
    )
    scores: dict[str, list[int]] = {}
    for version, which, number in rows:
        scores.setdefault(version, [0] * SCORE_BINS)[which] = int(number)
    return scores


def _on_days(table: Table, span: Span) -> tuple[ColumnElement[bool], ...]:
    return table.c.day >= span.first, table.c.day <= span.last


def _between(column: ColumnElement[datetime], span: Span) -> tuple[ColumnElement[bool], ...]:
    return column >= span.period.start, column < span.period.end
