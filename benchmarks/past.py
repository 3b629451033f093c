"""What a database holds before a phase begins: the population's histories, and rows in millions."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
from sqlalchemy import Engine, Table, delete, insert, text, update

from benchmarks.population import Population
from fraudstream.config import PROJECT_DIR
from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.model_store import load
from fraudstream.rules import load_rules
from fraudstream.schema import Outcome
from fraudstream.scoring import Judge, Known, judge_partition, with_outcome
from fraudstream.store.bulk import insert_rows
from fraudstream.store.tables import (
    HOURS_OF_DAY,
    alert_holds,
    alerts,
    clean_data,
    mails,
    rollup_daily,
    rollup_hourly,
    rollup_monthly,
    rollup_total,
    rule_daily,
    score_daily,
    user_history,
)


def shipped_judge() -> Judge:
    """The project's own rules and model."""
    return Judge(load_rules(), load(PROJECT_DIR / "model_output"))


def store_histories(engine: Engine, population: Population) -> None:
    """Each user's history after the population's past, computed as the job would have."""
    for histories in _histories(population):
        with engine.begin() as connection:
            insert_rows(connection, insert(user_history), histories)


@lru_cache(maxsize=1)  # several phases in a row begin with those of one population
def _histories(population: Population) -> tuple[pa.Table, ...]:
    """UserID, history: a table for each part of the past."""
    judge = shipped_judge()
    nothing = Known(lambda _ids: {}, lambda _users: {}, KnownOutcomes.none().outcomes())
    judged = (judge_partition(arrivals, judge=judge, known=nothing) for arrivals in population.past())
    return tuple(with_outcome(each, Outcome.HISTORY).select(["UserID", "history"]) for each in judged)


def store_more_transactions(engine: Engine, rows: int) -> None:
    """Copies of stored transactions under older identifiers and times, until there are `rows` of them.

    They are what the tables' indexes have to carry; their alerts and the counts that the dashboard reads are
    copied with them. Made inside the server, a month at a time.
    """
    with engine.connect() as connection:
        present = connection.scalar(text("SELECT COUNT(*) FROM clean_data")) or 0
        months = 0
        while present < rows:
            months += 1
            month = f"{months:04d}"
            copied = connection.execute(text(_COPY), {"month": month, "rows": rows - present})
            connection.execute(text(_COPY_ALERTS), {"month": month})
            for counted in _COUNTED:
                connection.execute(text(_copied_by_month(counted)), {"days": months * _MONTH_DAYS})
            connection.commit()
            present += copied.rowcount
        for table, count in COUNT_FROM_DAYS.items():
            connection.execute(delete(table))
            connection.execute(text(count))
        connection.commit()


_SUMS = ("transactions", "amount", *HOURS_OF_DAY)
_SUMMED = ", ".join(f"SUM({name})" for name in _SUMS)
# SQL that fills the table, when it is empty, from rollup_daily.
COUNT_FROM_DAYS = {
    rollup_monthly: "INSERT INTO rollup_monthly "  # noqa: S608
    f"(month, weekday, Location, Device, Merchant, Is_Fraud, {', '.join(_SUMS)}) "
    f"SELECT DATE_FORMAT(day, '%Y-%m-01'), WEEKDAY(day), Location, Device, Merchant, Is_Fraud, {_SUMMED} "
    "FROM rollup_daily GROUP BY 1, 2, 3, 4, 5, 6",
    rollup_total: f"INSERT INTO rollup_total (day, Is_Fraud, {', '.join(_SUMS)}) "  # noqa: S608
    f"SELECT day, Is_Fraud, {_SUMMED} FROM rollup_daily GROUP BY 1, 2",
}
_MONTH_DAYS = 30
_COUNTED = (rollup_hourly, rollup_daily, rule_daily, score_daily)


def _copied_by_month(table: Table) -> str:
    """SQL: the newest month's counts once more, `:days` earlier."""
    moment = "hour" if "hour" in table.c else "day"
    columns = [column.name for column in table.columns]
    shifted = [f"`{name}` - INTERVAL :days DAY" if name == moment else f"`{name}`" for name in columns]
    return (
        f"INSERT IGNORE INTO {table.name} ({', '.join(f'`{name}`' for name in columns)}) "  # noqa: S608
        f"SELECT {', '.join(shifted)} FROM {table.name} WHERE `{moment}` > "
        f"(SELECT MAX(`{moment}`) FROM {table.name}) - INTERVAL {_MONTH_DAYS} DAY"
    )


_COLUMNS = [column.name for column in clean_data.columns]
_COPIED = {
    "TransactionID": "CONCAT(:month, '~', TransactionID)",
    "Time": f"`Time` - INTERVAL CAST(:month AS UNSIGNED) * {_MONTH_DAYS} DAY",
}
# The copies of copies are left out: their identifiers have the mark.
_COPY = (
    f"INSERT INTO clean_data ({', '.join(f'`{name}`' for name in _COLUMNS)}) "  # noqa: S608
    f"SELECT {', '.join(_COPIED.get(name, f'`{name}`') for name in _COLUMNS)} "
    "FROM clean_data WHERE TransactionID NOT LIKE '%~%' LIMIT :rows"
)
# The last month of transactions may have been copied in part only.
_COPY_ALERTS = (
    "INSERT INTO alerts (TransactionID, UserID, `Time`, codes, state, created_at) "
    "SELECT copy.TransactionID, copy.UserID, copy.`Time`, alerts.codes, 'mailed', alerts.created_at "
    "FROM alerts JOIN clean_data copy ON copy.TransactionID = CONCAT(:month, '~', alerts.TransactionID) "
    "WHERE alerts.TransactionID NOT LIKE '%~%'"
)


def forget_mails(engine: Engine) -> None:
    """No alert waits, no user is held back by a cool-down: as if all mails had been sent long ago."""
    with engine.begin() as connection:
        connection.execute(update(alerts).values(state="mailed", mail_id=None))
        for table in (mails, alert_holds):
            connection.execute(delete(table))
