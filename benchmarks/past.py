"""What a database holds before a phase begins: the population's histories, and rows in millions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from sqlalchemy import Connection, Engine, Table, delete, insert, text, update

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


def store_more_transactions(engine: Engine, rows: int, *, random_ids: bool = False) -> None:
    """Copies of all stored transactions, each time from further back, until there are at least `rows` rows.

    Their identifiers come before all others, or with `random_ids` lie among them as any other's would. They
    are what the tables' indexes have to carry; their alerts and the counts that the dashboard reads are
    copied with them. Made inside the server.
    """
    with engine.connect() as connection:
        first, last, present = connection.execute(text(_STORED)).one()
        copies = Copies(-(-rows // present) - 1, (last - first).days + 1, _RANDOM if random_ids else _EARLIER)
        if copies.number < 1:
            return
        _copy_transactions(connection, copies)
        for table in (alerts, rollup_hourly, rollup_daily, rule_daily, score_daily):
            connection.execute(text(copies.of(table)))
        for table, count in COUNT_FROM_DAYS.items():
            connection.execute(delete(table))
            connection.execute(text(count))
        connection.commit()


_STORED = "SELECT DATE(MIN(`Time`)), DATE(MAX(`Time`)), COUNT(*) FROM clean_data"
# Identifiers of copy number n, in SQL; random ones have as many digits as the population's.
_EARLIER = "CONCAT('-', 9999 - n, '-', TransactionID)"
_RANDOM = "LEFT(SHA2(CONCAT(n, '-', TransactionID), 256), 24)"


@dataclass(frozen=True)
class Copies:
    """So many copies of each row, every one `days` earlier than the one before it."""

    number: int
    days: int
    own_id: str

    def of(self, table: Table, source: str = "") -> str:
        """SQL that adds the copies of all rows of the table, or of a source that has its columns."""
        columns = [column.name for column in table.columns if column.name != "alert_id"]
        named = ", ".join(f"`{name}`" for name in columns)
        values = ", ".join(self._value(name) for name in columns)
        numbers = " UNION ALL ".join(f"SELECT {number} AS n" for number in range(1, self.number + 1))
        return (
            f"INSERT INTO {table.name} ({named}) SELECT {values} "  # noqa: S608
            f"FROM {source or table.name} JOIN ({numbers}) AS copy"
        )

    def _value(self, column: str) -> str:
        if column in ("Time", "hour", "day"):
            return f"`{column}` - INTERVAL n * {self.days} DAY"
        return {"TransactionID": self.own_id, "state": "'mailed'", "mail_id": "NULL"}.get(
            column, f"`{column}`"
        )


def _copy_transactions(connection: Connection, copies: Copies) -> None:
    """In the order of the key, the other indexes made anew: else each row goes to another page of each."""
    connection.execute(text("SET SESSION sort_buffer_size = 33554432"))
    connection.execute(text("CREATE TEMPORARY TABLE original AS SELECT * FROM clean_data"))
    indexes = sorted(clean_data.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.drop(connection)
    connection.execute(text(f"{copies.of(clean_data, 'original')} ORDER BY 1"))
    for index in indexes:
        index.create(connection)
    connection.execute(text("DROP TEMPORARY TABLE original"))


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


def forget_mails(engine: Engine) -> None:
    """No alert waits, no user is held back by a cool-down: as if all mails had been sent long ago."""
    with engine.begin() as connection:
        connection.execute(update(alerts).values(state="mailed", mail_id=None))
        for table in (mails, alert_holds):
            connection.execute(delete(table))
