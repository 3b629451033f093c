"""What is counted beforehand equals what SQL counts over all rows, batch by batch and after an upgrade."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from fraudstream.schema import CITIES, JUDGED_ARROW, Outcome
from fraudstream.scoring import by_outcome
from fraudstream.store.commit import Batch, commit_batch
from fraudstream.store.migrate import migrate
from fraudstream.store.offsets import read_offsets
from fraudstream.store.tables import HOURS_OF_DAY

TOPIC, TOPIC_ID = "transactions", "topic-id"
NOW = datetime.fromisoformat("2026-03-02 10:00:00+00:00")
MIDNIGHT = datetime.fromisoformat("2026-03-01")
CODES = ("AMOUNT_OVER_2000", "VELOCITY_5M", "MODEL")

# Over `clean_data` alone, and in words of their own.
EXPECTED = {
    "rollup_hourly": "SELECT DATE_FORMAT(`Time`, '%Y-%m-%d %H:00:00'), IFNULL(Location, ''), "
    "IFNULL(Device, ''), IFNULL(Merchant, ''), Is_Fraud, COUNT(*), SUM(Amount) "
    "FROM clean_data GROUP BY 1, 2, 3, 4, 5",
    "rollup_daily": "SELECT DATE_FORMAT(`Time`, '%Y-%m-%d'), IFNULL(Location, ''), IFNULL(Device, ''), "
    "IFNULL(Merchant, ''), Is_Fraud, COUNT(*), SUM(Amount), "
    + ", ".join(f"COUNT(CASE WHEN HOUR(`Time`) = {hour} THEN 1 END)" for hour in range(24))
    + " FROM clean_data GROUP BY 1, 2, 3, 4, 5",
    "rollup_monthly": "SELECT DATE_FORMAT(`Time`, '%Y-%m-01'), (DAYOFWEEK(`Time`) + 5) % 7, "
    "IFNULL(Location, ''), IFNULL(Device, ''), IFNULL(Merchant, ''), Is_Fraud, COUNT(*), SUM(Amount), "
    + ", ".join(f"COUNT(CASE WHEN HOUR(`Time`) = {hour} THEN 1 END)" for hour in range(24))
    + " FROM clean_data GROUP BY 1, 2, 3, 4, 5, 6",
    "rollup_total": "SELECT DATE_FORMAT(`Time`, '%Y-%m-%d'), Is_Fraud, COUNT(*), SUM(Amount), "
    + ", ".join(f"COUNT(CASE WHEN HOUR(`Time`) = {hour} THEN 1 END)" for hour in range(24))
    + " FROM clean_data GROUP BY 1, 2",
}
COLUMNS = {
    "rollup_hourly": "DATE_FORMAT(hour, '%Y-%m-%d %H:%i:%s'), Location, Device, Merchant, Is_Fraud, "
    "transactions, amount",
    "rollup_daily": "DATE_FORMAT(day, '%Y-%m-%d'), Location, Device, Merchant, Is_Fraud, "
    f"transactions, amount, {', '.join(HOURS_OF_DAY)}",
    "rollup_monthly": "DATE_FORMAT(month, '%Y-%m-%d'), weekday, Location, Device, Merchant, Is_Fraud, "
    f"transactions, amount, {', '.join(HOURS_OF_DAY)}",
    "rollup_total": "DATE_FORMAT(day, '%Y-%m-%d'), Is_Fraud, "
    f"transactions, amount, {', '.join(HOURS_OF_DAY)}",
}


def judged(rng: random.Random, offset: int) -> dict[str, object]:
    """A stored row, a duplicate or a rejected record: late, at midnight, nameless."""
    row = {"partition_id": 0, "offset": offset, "kafka_time": NOW}
    outcome = rng.choices([Outcome.STORED, Outcome.DUPLICATE, Outcome.REJECTED], [8, 1, 1])[0]
    if outcome is Outcome.REJECTED:
        return {**row, "outcome": outcome, "rejection": "not JSON", "value": b"{"}
    time = MIDNIGHT + timedelta(seconds=rng.choice([-1, 0, 3599, 3600, rng.randrange(-400_000, 400_000)]))
    fields = {
        "TransactionID": f"T{offset}",
        "UserID": f"U{offset % 7}",
        "Amount": Decimal(rng.randint(1, 300_000)) / 100,
        "Location": rng.choice([*CITIES[:3], None, "cairo"]),
        "Time": rng.choice([time, time, time, datetime.fromisoformat("9999-12-31 23:59:59")]),
        "Device": rng.choice(["iOS", None]),
        "Merchant": rng.choice(["Amazon", "'; --", None]),
    }
    if outcome is Outcome.DUPLICATE:
        return {**row, **fields, "outcome": outcome}
    codes = rng.sample(CODES, rng.choice([0, 0, 1, 3]))
    verdict = {
        "Is_Fraud": "YES" if codes else "NO",
        "score": rng.random(),
        "reasons": orjson.dumps([{"code": code} for code in codes]).decode() if codes else None,
    }
    return {**row, **fields, **verdict, "outcome": outcome}


def commit(engine: Engine, rows: list[dict[str, object]], model_version: str | None) -> None:
    with engine.begin() as connection:
        batch = Batch(
            TOPIC,
            TOPIC_ID,
            read_offsets(connection, TOPIC),
            by_outcome(pa.Table.from_pylist(rows, JUDGED_ARROW)),
            model_version,
            datetime.now(UTC),
        )
        commit_batch(connection, batch)


def kept(engine: Engine, table: str) -> list[tuple]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text(f"SELECT {COLUMNS[table]} FROM {table}")))


def counted(engine: Engine, table: str) -> list[tuple]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text(EXPECTED[table])))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    rng = random.Random(7)
    for batch, model_version in enumerate(["model-a", None, "model-b", "model-a"]):
        commit(engine, [judged(rng, 300 * batch + number) for number in range(300)], model_version)
    return engine


@pytest.mark.parametrize("table", EXPECTED)
def test_every_sum_equals_the_one_over_all_rows(filled: Engine, table: str) -> None:
    assert len(kept(filled, table)) > 10
    assert kept(filled, table) == counted(filled, table)


@pytest.mark.parametrize("died_half_way", [False, True])
def test_an_older_database_gets_the_sums_of_what_it_has(filled: Engine, died_half_way: bool) -> None:
    with filled.begin() as connection:
        if not died_half_way:
            connection.execute(text("DROP TABLE rollup_daily, rollup_monthly, rollup_total"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    migrate(filled)
    for table in EXPECTED:
        assert kept(filled, table) == counted(filled, table)
    commit(filled, [judged(random.Random(8), 5_000 + number) for number in range(50)], "model-a")
    for table in EXPECTED:
        assert kept(filled, table) == counted(filled, table)


def test_a_batch_that_stores_nothing_counts_nothing(engine: Engine) -> None:
    rejected = {"outcome": Outcome.REJECTED, "partition_id": 0, "offset": 0, "kafka_time": NOW}
    commit(engine, [{**rejected, "rejection": "not JSON", "value": b"{"}], None)
    assert {table: kept(engine, table) for table in EXPECTED} == {table: [] for table in EXPECTED}


def test_a_batch_says_how_long_its_writing_took(engine: Engine) -> None:
    commit(engine, [judged(random.Random(9), number) for number in range(20)], None)
    with engine.connect() as connection:
        (stages,) = connection.scalars(text("SELECT stage_ms FROM batch_metrics"))
    assert orjson.loads(stages)["write"] > 0
