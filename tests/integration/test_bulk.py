"""Rows written as SQL text come back from a real server as they were, whatever they hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Insert, delete, event, insert, select
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.exc import DataError

from fraudstream.schema import MAX_AMOUNT
from fraudstream.store import bulk
from fraudstream.store.tables import clean_data, dead_letters, user_history

SCHEMA = pa.schema(
    [
        ("TransactionID", pa.string()),
        ("UserID", pa.string()),
        ("Amount", pa.decimal128(18, 2)),
        ("Merchant", pa.string()),
        ("Time", pa.timestamp("us")),
        ("Is_Fraud", pa.string()),
        ("score", pa.float64()),
        ("features", pa.binary()),
        ("topic_id", pa.string()),
        ("partition_id", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_time", pa.timestamp("us", tz="UTC")),
        ("processed_at", pa.timestamp("us")),
    ]
)
# No white space at the ends: the collation ignores it there, and cleaning has taken it off.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).map(lambda text: f"<{text}>")
NOW = datetime.fromisoformat("2026-01-01T01:02:03.456789")
TIME = st.datetimes(NOW.replace(year=2000), NOW.replace(year=9999))
NASTY = ("'", "\\", "\\'", "%s", "%(x)s", ":x", "\0\x1a\n", "--", "delimiter x\n")
ROW = st.fixed_dictionaries(
    {
        "UserID": TEXT,
        "Amount": st.decimals(Decimal(0), MAX_AMOUNT, places=2),
        "Merchant": TEXT | st.none() | st.sampled_from(NASTY),
        "Time": TIME.map(lambda time: time.replace(microsecond=0)),
        "score": st.floats(0, 1),
        "features": st.none() | st.binary(max_size=64),
        "offset": st.integers(0, 2**63 - 1),
        "kafka_time": TIME.map(lambda time: time.replace(tzinfo=UTC)),
    }
)  # fmt: skip
SAME = {
    "Is_Fraud": "NO",
    "topic_id": "t",
    "partition_id": 0,
    "processed_at": NOW,
}


def write(engine: Engine, statement: Insert, rows: pa.Table) -> None:
    with engine.begin() as connection:
        bulk.insert_rows(connection, statement, rows)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=20))
def test_what_is_written_is_read(engine: Engine, rows: list[dict[str, Any]]) -> None:
    whole = [{"TransactionID": str(number), **row, **SAME} for number, row in enumerate(rows)]
    with engine.begin() as connection:
        connection.execute(delete(clean_data))
        bulk.insert_rows(connection, insert(clean_data), pa.Table.from_pylist(whole, SCHEMA))
        columns = (clean_data.c[name] for name in SCHEMA.names)
        stored = (
            connection.execute(select(*columns).order_by(clean_data.c.TransactionID + 0)).mappings().all()
        )
    expected = [{**row, "kafka_time": row["kafka_time"].replace(tzinfo=None)} for row in whole]
    assert [dict(row) for row in stored] == expected


def letters(values: list[bytes | None]) -> pa.Table:
    rows = [
        {
            "topic_id": "t", "partition_id": 0, "offset": number, "topic": "t", "reason": "not JSON",
            "value": value, "kafka_time": NOW, "rejected_at": NOW,
        }
        for number, value in enumerate(values)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows).cast(
        pa.schema(
            [
                pa.field(name, pa.binary() if name == "value" else kind)
                for name, kind in zip(rows[0], pa.Table.from_pylist(rows).schema.types, strict=True)
            ]
        )
    )


def test_every_byte_survives_and_a_slice_is_only_itself(engine: Engine) -> None:
    values = [bytes([byte]) * 3 for byte in range(256)]
    write(engine, insert(dead_letters), letters([b"before", *values, None, b"", b"behind"]).slice(1, 258))
    with engine.connect() as connection:
        stored = connection.scalars(select(dead_letters.c.value).order_by(dead_letters.c.offset)).all()
    assert stored == [*values, None, b""]


def test_more_than_a_statement_takes_goes_into_several(engine: Engine) -> None:
    statements: list[int] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(len(given[2])))
    values: list[bytes | None] = [bytes([number]) * 900_000 for number in range(9)]
    write(engine, insert(dead_letters), letters(values))
    with engine.connect() as connection:
        stored = connection.scalars(select(dead_letters.c.value).order_by(dead_letters.c.offset)).all()
    assert stored == values
    assert len([size for size in statements if size > 900_000]) > 2
    assert max(statements) < bulk.STATEMENT_BYTES + 2 * 1_000_000


def test_a_row_that_is_there_is_replaced_where_the_statement_says_so(engine: Engine) -> None:
    statement = upsert(user_history)
    statement = statement.on_duplicate_key_update(history=statement.inserted.history)
    for history in (b"old", b"\\new'"):
        write(engine, statement, pa.table({"history": [history], "UserID": ["it's \\ me"]}))
    with engine.connect() as connection:
        assert connection.execute(select(user_history)).all() == [("it's \\ me", b"\\new'")]


def test_rows_go_to_the_server_in_the_order_of_the_key_whose_pages_they_fill(engine: Engine) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    users = [f"U{number * 7 % 10_000:04}" for number in range(10_000)]
    write(engine, insert(user_history), pa.table({"UserID": users, "history": [b"h"] * len(users)}))
    assert re.findall(r"U\d{4}", "".join(statements)) == sorted(users)


def test_an_error_has_no_rows_in_its_text(engine: Engine) -> None:
    too_long = pa.table({"UserID": ["x" * 65], "history": [b"secret"]})
    with pytest.raises(DataError, match=r"Data too long.*'UserID'") as raised:
        write(engine, insert(user_history), too_long)
    assert "xxx" not in str(raised.value) and b"secret".hex() not in str(raised.value)


def test_no_rows_are_no_statement(engine: Engine) -> None:
    write(engine, insert(user_history), pa.table({"UserID": pa.array([], pa.string())}))
