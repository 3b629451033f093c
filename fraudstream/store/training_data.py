"""What training reads of the database: all stored transactions in order of arrival, and the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, or_, select

from fraudstream.reviews import WITHDRAWN
from fraudstream.schema import FIELD_NAMES, TRANSACTION_ARROW
from fraudstream.store.migrate import refuse_newer
from fraudstream.store.tables import clean_data, labels

# Bounds the memory: so many rows are Python objects at the same time. The driver has no cursor on the
# server that SQLAlchemy would use, so each part is a query of its own, along the primary key.
_ROWS_AT_ONCE = 50_000

# A batch is stored as a whole at `processed_at`; in it a user's transactions are in one partition.
_ARRIVAL = pa.schema(
    [
        pa.field("processed_at", pa.timestamp("us")),
        pa.field("partition_id", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
_ARRIVED = pa.schema([*TRANSACTION_ARROW, *_ARRIVAL])
_LABELLED = pa.schema(
    [
        pa.field("TransactionID", pa.string()),
        pa.field("fraud", pa.bool_()),
        pa.field("known_at", pa.timestamp("s")),
    ]
)


def read_training_data(engine: Engine) -> tuple[pa.Table, pd.DataFrame]:
    """(transactions, labels), both as of one moment.

    The transactions have the columns of TRANSACTION_ARROW, in order of arrival: that of the batches'
    commits, and in a batch by partition and offset. The labels have a row for each
    transaction and source, also where the transaction is not stored: TransactionID, fraud (bool),
    known_at_s (seconds since 1970-01-01, local time).
    """
    with engine.connect() as opened:
        connection = opened.execution_options(isolation_level="REPEATABLE READ")
        refuse_newer(connection)
        return _transactions(connection), _labels(connection)


def _transactions(connection: Connection) -> pa.Table:
    columns = clean_data.c
    query = select(*(columns[name] for name in _ARRIVED.names)).order_by(columns.TransactionID)
    parts = _parts(connection, query, _ARRIVED, lambda last: columns.TransactionID > last.TransactionID)
    in_order = pa.concat_tables(parts).sort_by([(name, "ascending") for name in _ARRIVAL.names])
    return in_order.select(list(FIELD_NAMES))


def _labels(connection: Connection) -> pd.DataFrame:
    columns = labels.c
    query = (
        select(
            columns.TransactionID,
            (columns.label == "fraud").label("fraud"),
            columns.known_at,
            columns.source,
        )
        .where(columns.label != WITHDRAWN)
        .order_by(columns.TransactionID, columns.source)
    )

    # Spelled so that the server follows its index; it does not for a comparison of two pairs.
    def behind(last: Row[Any]) -> ColumnElement[bool]:
        return and_(
            columns.TransactionID >= last.TransactionID,
            or_(columns.TransactionID > last.TransactionID, columns.source > last.source),
        )

    found = pa.concat_tables(_parts(connection, query, _LABELLED, behind))
    return found.append_column("known_at_s", found["known_at"].cast(pa.int64())).drop("known_at").to_pandas()


def _parts(
    connection: Connection,
    query: Select[Any],
    schema: pa.Schema,
    behind: Callable[[Row[Any]], ColumnElement[bool]],
) -> Iterator[pa.Table]:
    """The rows of an ordered query as tables of `schema`, at least one. The next part is `behind` a row."""
    rows = connection.execute(query.limit(_ROWS_AT_ONCE)).all()
    yield _table(rows, schema)
    while len(rows) == _ROWS_AT_ONCE:
        rows = connection.execute(query.where(behind(rows[-1])).limit(_ROWS_AT_ONCE)).all()
        yield _table(rows, schema)


def _table(rows: Sequence[Row[Any]], schema: pa.Schema) -> pa.Table:
    """The first columns of `rows`, as many as the schema has."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(values, column.type) for values, column in zip(columns, schema, strict=False)],
        schema=schema,
    )
