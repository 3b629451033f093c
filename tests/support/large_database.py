"""A database with millions of transactions, made inside the server, for what must not grow with them.

`python -m tests.support.large_database URL [ROWS] [DAYS]` fills the database that the URL names, and prints
how long each of the dashboard's reads takes on it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url

import fraudstream  # noqa: F401 - before pyarrow, which `benchmarks` imports: see there
from benchmarks.past import COUNT_FROM_DAYS
from fraudstream.schema import CITIES, DEVICES, MERCHANTS
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.reads.timing import read_times_ms
from fraudstream.store.tables import HOURS_OF_DAY, batch_metrics, dead_letters

USERS = 5_000
FLAGGED = 0.02
NAMELESS = 0.02
_ROWS_AT_ONCE = 100_000
_FIRST_DAY = "2025-01-01"
# Of the alerts. By their ids: of the same digits a CRC32 that begins otherwise differs by a constant alone.
_LABEL, _LABELLED, _FRAUD = "CRC32(alert_id) / 4294967296", 0.9, 0.18
_LABELS_AN_IMPORT = 10_000
_BATCHES, _DEAD_LETTERS = 50_000, 20_000
# Numbers from 0 to 99,999.
_NUMBERS = "WITH digit AS ({}), number AS (SELECT {} AS n FROM {})".format(
    " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10)),
    " + ".join(f"d{place}.d * {10**place}" for place in range(5)),
    ", ".join(f"digit AS d{place}" for place in range(5)),
)
_REASON = '[{"code":"AMOUNT_OVER_2000","amount":2410.0,"limit":2000.0}]'
_INDEXES = {"clean_data_by_time": "`Time`", "clean_data_by_user": "UserID, `Time`"}


def fill(engine: Engine, rows: int, days: int) -> None:
    """Make the tables and store `rows` transactions of `days` days, with all that is counted of them."""
    migrate(engine)
    with engine.connect() as connection:
        for index in _INDEXES:
            _run(connection, f"DROP INDEX {index} ON clean_data")
        for start in range(0, rows, _ROWS_AT_ONCE):
            _run(connection, _transactions(start, min(_ROWS_AT_ONCE, rows - start), rows, days))
        for index, columns in _INDEXES.items():
            _run(connection, f"CREATE INDEX {index} ON clean_data ({columns})")
        for statement in _COUNTED:
            _run(connection, statement)
        _run(connection, f"INSERT INTO pipeline_totals VALUES ('t', {rows}, 0, 0, 0, UTC_TIMESTAMP(6))")
        connection.execute(batch_metrics.insert(), [_batch(number) for number in range(_BATCHES)])
        connection.execute(dead_letters.insert(), [_dead_letter(number) for number in range(_DEAD_LETTERS)])
        connection.commit()


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
    connection.commit()


def _transactions(start: int, count: int, rows: int, days: int) -> str:
    """An INSERT of `count` transactions in the order of their times; the same for the same arguments."""

    def chance(of: str) -> str:
        return f"CRC32(CONCAT('{of}', {start} + n)) / 4294967296"

    def name(names: tuple[str, ...], column: str) -> str:
        quoted = ", ".join(f"'{each}'" for each in names)
        return (
            f"IF({chance(f'no {column}')} < {NAMELESS}, NULL, "
            f"ELT(1 + FLOOR({chance(column)} * {len(names)}), {quoted}))"
        )

    flagged = f"{chance('flagged')} < {FLAGGED}"
    second = f"FLOOR(({start} + n) * {days * 86_400} / {rows})"
    columns = {
        "TransactionID": f"CONCAT('T', LPAD({start} + n, 10, '0'))",
        "UserID": f"CONCAT('U', LPAD(FLOOR({chance('user')} * {USERS}), 5, '0'))",
        "Amount": f"ROUND(IF({flagged}, 2001, 1) + {chance('amount')} * 1500, 2)",
        "Location": name(CITIES, "city"),
        "`Time`": f"'{_FIRST_DAY}' + INTERVAL {second} SECOND",
        "Device": name(DEVICES, "device"),
        "Merchant": name(MERCHANTS, "merchant"),
        "Is_Fraud": f"IF({flagged}, 'YES', 'NO')",
        "score": chance("score"),
        "reasons": f"IF({flagged}, '{_REASON}', NULL)",
        "model_version": "'model'",
        "topic_id": "'t'",
        "partition_id": "n % 4",
        "`offset`": f"{start} + n",
        "kafka_time": f"'{_FIRST_DAY}'",
        "processed_at": f"'{_FIRST_DAY}'",
    }
    values = ", ".join(columns.values())
    into = f"INSERT INTO clean_data ({', '.join(columns)})"
    return f"{into} {_NUMBERS} SELECT {values} FROM number WHERE n < {count}"


_COUNTED = (
    "INSERT INTO rollup_hourly SELECT DATE_FORMAT(`Time`, '%Y-%m-%d %H:00:00'), IFNULL(Location, ''), "
    "IFNULL(Device, ''), IFNULL(Merchant, ''), Is_Fraud, COUNT(*), SUM(Amount) "
    "FROM clean_data GROUP BY 1, 2, 3, 4, 5",
    f"INSERT INTO rollup_daily (day, Location, Device, Merchant, Is_Fraud, transactions, amount, "
    f"{', '.join(HOURS_OF_DAY)}) SELECT DATE(hour), Location, Device, Merchant, Is_Fraud, SUM(transactions), "
    f"SUM(amount), {', '.join(f'SUM(IF(HOUR(hour) = {hour}, transactions, 0))' for hour in range(24))} "
    "FROM rollup_hourly GROUP BY 1, 2, 3, 4, 5",
    *COUNT_FROM_DAYS.values(),
    "INSERT INTO alerts (TransactionID, UserID, `Time`, codes, state, created_at) "
    "SELECT TransactionID, UserID, `Time`, 'AMOUNT_OVER_2000', IF(`offset` % 10 = 0, 'waiting', 'mailed'), "
    "processed_at FROM clean_data WHERE Is_Fraud = 'YES'",
    "INSERT INTO labels (TransactionID, source, label, known_at, version, recorded_at, change_id) "
    f"SELECT TransactionID, 'import', IF({_LABEL} < {_FRAUD}, 'fraud', 'legitimate'), "
    f"`Time` + INTERVAL 1 DAY, 1, created_at, 1 + FLOOR(alert_id / {_LABELS_AN_IMPORT}) "
    f"FROM alerts WHERE {_LABEL} < {_LABELLED}",
    "INSERT INTO score_daily SELECT DATE(`Time`), model_version, LEAST(FLOOR(score * 50), 49), COUNT(*) "
    "FROM clean_data GROUP BY 1, 2, 3",
    "INSERT INTO rule_daily SELECT DATE(`Time`), 'AMOUNT_OVER_2000', COUNT(*) FROM clean_data "
    "WHERE Is_Fraud = 'YES' GROUP BY 1",
)


def _batch(number: int) -> dict[str, Any]:
    """One a second, the last one now."""
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=_BATCHES - number)
    return {
        "topic": "t",
        "started_at": at,
        "committed_at": at,
        "stored": 500,
        "flagged": 10,
        "duplicates": 0,
        "rejected": 1,
        "lag": 40,
        "lag_by_partition": orjson.dumps({str(partition): 10 for partition in range(4)}).decode(),
        "stage_ms": orjson.dumps({"labels": 2.0, "judge": 200.0, "commit": 90.0}).decode(),
        "latency_ms": orjson.dumps({"p50": 200.0, "p95": 400.0, "p99": 700.0}).decode(),
    }


def _dead_letter(number: int) -> dict[str, Any]:
    at = datetime.fromisoformat(_FIRST_DAY) + timedelta(seconds=number)
    key = {"topic_id": "t", "topic": "t", "partition_id": 0, "offset": number}
    reason = ("not JSON", "no Amount", "conflicting duplicate")[number % 3]
    return {**key, "reason": reason, "value": b"{" * 200, "kafka_time": at, "rejected_at": at}


def main(url: str, rows: str = "10000000", days: str = "30") -> None:
    fill(make_engine(make_url(url)), int(rows), int(days))
    times = read_times_ms(open_engine(make_url(url)))
    for name, ms in sorted(times.items(), key=lambda each: -each[1]):
        print(f"{ms:7.0f} ms  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
