"""Transactions of a CSV for training and evaluation, cleaned by the stream's own code."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.cleaning import clean
from fraudstream.publisher.csv_source import Cells, read_rows
from fraudstream.publisher.delivery import message
from fraudstream.schema import RECORD_ARROW, TRANSACTION_ARROW

# Bounds the memory: so many rows are text, messages and columns at the same time, a long one 128 KiB in each.
ROWS_AT_ONCE = 10_000


def usable_transactions(path: Path, zone: ZoneInfo, *, rows_at_once: int = ROWS_AT_ONCE) -> pa.Table:
    """The usable rows of a CSV in the file's order, each TransactionID once (its first usable row).

    Columns of TRANSACTION_ARROW; `zone` is the zone of their Time. Rows are judged usable as of now: a file
    holds no time that lies in the future. The result does not depend on `rows_at_once`. Raises CsvError when
    the file is no CSV of transactions, from some line on or at all.
    """
    now = datetime.now(UTC)
    records = (_records(rows, now) for rows in _parts(read_rows(path), rows_at_once))
    return _first_of_each(pa.concat_tables([_usable(clean(part, zone)) for part in records]))


def _parts(rows: Iterable[Cells], at_once: int) -> Iterator[list[Cells]]:
    remaining = iter(rows)
    while part := list(itertools.islice(remaining, at_once)):
        yield part


def _records(rows: list[Cells], now: datetime) -> pa.Table:
    """The rows as the producer would have sent them now, `offset` as they came."""
    columns = {
        "key": pa.nulls(len(rows), pa.binary()),
        "value": pa.array([message(cells)[1] for cells in rows], pa.binary()),
        "partition": pa.repeat(pa.scalar(0, pa.int32()), len(rows)),
        "offset": pa.array(range(len(rows)), pa.int64()),
        "timestamp": pa.repeat(pa.scalar(now, RECORD_ARROW.field("timestamp").type), len(rows)),
        "key_bytes": pa.nulls(len(rows), pa.int32()),
        "value_bytes": pa.nulls(len(rows), pa.int32()),
    }
    return pa.table(columns, schema=RECORD_ARROW)


def _usable(cleaned: pa.Table) -> pa.Table:
    usable = cleaned.filter(pc.is_null(cleaned["rejection"])).sort_by("offset")
    return usable.select(TRANSACTION_ARROW.names)


def _first_of_each(transactions: pa.Table) -> pa.Table:
    """Of several rows of one TransactionID the first; the order stays."""
    numbered = pa.table({"TransactionID": transactions["TransactionID"], "row": np.arange(len(transactions))})
    first = numbered.group_by("TransactionID").aggregate([("row", "min")])["row_min"]
    if len(first) == len(transactions):
        return transactions
    return transactions.take(np.sort(first.to_numpy()))
