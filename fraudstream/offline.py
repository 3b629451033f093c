"""Transactions of a CSV for training and evaluation, cleaned by the stream's own code in a local Spark."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.cleaning import clean, csv_records
from fraudstream.publisher.csv_source import Cells, check_head, read_rows
from fraudstream.schema import FIELD_NAMES, TRANSACTION_ARROW
from fraudstream.streaming import build_session, end_session

# Bounds the memory: so many rows are text, Spark's and Arrow's at the same time.
ROWS_AT_ONCE = 200_000
# Of them each of Spark's tasks gets so many, so that all cores have some.
_ROWS_A_TASK = "25000"

# Rows of a CSV as text, missing cells empty -> rows of CLEANED_ARROW in any order, `offset` as the rows came.
CleanRows = Callable[[pd.DataFrame], pa.Table]


def usable_transactions(path: Path, *, zone: str, driver_memory: str) -> pa.Table:
    """The usable rows of a CSV in the file's order, each TransactionID once (its first usable row).

    Columns of TRANSACTION_ARROW; `zone` is the zone of their Time. The environment must already hold what
    Spark needs to start (JAVA_HOME). Raises CsvError when the file is no CSV of transactions, from some line
    on or at all.
    """
    check_head(path)
    session = build_session(master="local[*]", zone=zone, driver_memory=driver_memory)
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", _ROWS_A_TASK)
    try:
        return usable_rows(path, lambda rows: csv_records(session, rows).transform(clean).toArrow())
    finally:
        end_session(session)


def usable_rows(path: Path, clean_rows: CleanRows, *, rows_at_once: int = ROWS_AT_ONCE) -> pa.Table:
    """The same with a Spark that the caller has started; the result does not depend on `rows_at_once`."""
    parts = [_usable(clean_rows(rows)) for rows in _frames(read_rows(path), rows_at_once)]
    return _first_of_each(pa.concat_tables(parts))


def _frames(rows: Iterable[Cells], at_once: int) -> Iterator[pd.DataFrame]:
    remaining = iter(rows)
    while part := list(itertools.islice(remaining, at_once)):
        yield pd.DataFrame(part, columns=list(FIELD_NAMES))


def _usable(cleaned: pa.Table) -> pa.Table:
    usable = cleaned.filter(pc.is_null(cleaned["rejection"])).sort_by("offset")
    return usable.select(TRANSACTION_ARROW.names).cast(TRANSACTION_ARROW)


def _first_of_each(transactions: pa.Table) -> pa.Table:
    """Of several rows of one TransactionID the first; the order stays."""
    numbered = pa.table({"TransactionID": transactions["TransactionID"], "row": np.arange(len(transactions))})
    first = numbered.group_by("TransactionID").aggregate([("row", "min")])["row_min"]
    if len(first) == len(transactions):
        return transactions
    return transactions.take(np.sort(first.to_numpy()))
