"""What a database holds before a phase begins: the population's histories, and rows in millions."""

from __future__ import annotations

import pyarrow.compute as pc
from sqlalchemy import Engine, delete, insert, text

from benchmarks.population import Population
from fraudstream.config import PROJECT_DIR
from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.model_store import load
from fraudstream.rules import load_rules
from fraudstream.schema import Outcome
from fraudstream.scoring import Judge, Known, judge_partition
from fraudstream.store.bulk import insert_rows
from fraudstream.store.tables import alert_holds, alerts, clean_data, mails, user_history


def store_histories(engine: Engine, population: Population) -> None:
    """Each user's history after the population's past, computed as the job would have."""
    judge = Judge(load_rules(), load(PROJECT_DIR / "model_output"))
    nothing = Known(lambda _ids: {}, lambda _users: {}, KnownOutcomes.none().outcomes())
    for arrivals in population.past():
        judged = judge_partition(arrivals, judge=judge, known=nothing)
        histories = judged.filter(pc.equal(judged["outcome"], Outcome.HISTORY.value))
        with engine.begin() as connection:
            insert_rows(connection, insert(user_history), histories.select(["UserID", "history"]))


def store_more_transactions(engine: Engine, rows: int) -> None:
    """Copies of stored transactions under older identifiers and times, until there are `rows` of them.

    They are what the tables' indexes have to carry. Made inside the server, each time as many as there are.
    """
    with engine.connect() as connection:
        present = connection.scalar(text("SELECT COUNT(*) FROM clean_data")) or 0
        months = 0
        while present < rows:
            months += 1
            copied = connection.execute(text(_COPY), {"month": f"{months:04d}", "rows": rows - present})
            connection.commit()
            present += copied.rowcount


_COLUMNS = [column.name for column in clean_data.columns]
_COPIED = {
    "TransactionID": "CONCAT(:month, '~', TransactionID)",
    "Time": "`Time` - INTERVAL CAST(:month AS UNSIGNED) * 30 DAY",
}
# The copies of copies are left out: their identifiers have the mark.
_COPY = (
    f"INSERT INTO clean_data ({', '.join(f'`{name}`' for name in _COLUMNS)}) "  # noqa: S608
    f"SELECT {', '.join(_COPIED.get(name, f'`{name}`') for name in _COLUMNS)} "
    "FROM clean_data WHERE TransactionID NOT LIKE '%~%' LIMIT :rows"
)


def forget_mails(engine: Engine) -> None:
    """No alert waits, no user is held back by a cool-down: as if no mail had ever been due."""
    with engine.begin() as connection:
        for table in (alerts, mails, alert_holds):
            connection.execute(delete(table))
