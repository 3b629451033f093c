"""Many rows in few statements: the values of an INSERT written column by column, from Arrow.

The driver's own way takes each value through Python twice. Here a column becomes SQL literals in a few
vectorised steps, which takes a seventh of the time (docs/performance.md has the figures).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, FromClause, Insert, Table
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DBAPIError

# Servers take statements of 16 MB and more.
STATEMENT_BYTES = 4_000_000
_ROWS_AT_ONCE = 4_000
_HEX = np.array([f"{byte:02x}" for byte in range(256)], "S2").view(np.uint16)


def insert_rows(connection: Connection, statement: Insert, rows: pa.Table) -> None:
    """Execute `statement`, an INSERT without values, for all rows; the table's columns name its columns.

    Strings are text, binaries are bytes, timestamps are as they are or, with a zone, UTC. Statements have
    STATEMENT_BYTES and one row more at the most, so they are not atomic together: the caller's transaction
    makes them so. Rows go in the order of the primary key, as far as they have it: where keys also ascend
    from one call to the next, InnoDB fills its pages; in any other order they stay half empty. Raises
    DBAPIError as `connection.execute` does, without the rows in its text.
    """
    if len(rows) == 0:
        return
    columns = [column.name for column in statement.table.columns if column.name in rows.column_names]
    head, tail = _around_values(connection, statement, columns)
    for values in _in_statements(_by_key(statement.table, rows.select(columns))):
        try:
            connection.exec_driver_sql(f"{head}{values}{tail}")
        except DBAPIError as error:
            error.statement = f"{head}(...){tail}"
            raise


def add_to_counters(connection: Connection, table: Table, counted: pa.Table) -> None:
    """Add to the rows of `table` that have the keys of `counted`, and make those that are missing.

    The columns of `counted` are the table's primary key and the counters to add to.
    """
    key = _key(table)
    statement = insert(table)
    insert_rows(
        connection,
        statement.on_duplicate_key_update(
            {
                name: table.c[name] + statement.inserted[name]
                for name in counted.column_names
                if name not in key
            }
        ),
        counted,
    )


def _key(table: FromClause) -> list[str]:
    return [column.name for column in table.primary_key]


def _by_key(table: FromClause, rows: pa.Table) -> pa.Table:
    key = [(name, "ascending") for name in _key(table) if name in rows.column_names]
    return rows.sort_by(key) if key else rows


def _around_values(connection: Connection, statement: Insert, columns: list[str]) -> tuple[str, str]:
    """What SQLAlchemy writes before and behind the values, spelled for this server."""
    compiled = str(statement.compile(dialect=connection.dialect, column_keys=columns))
    placeholders = f"({', '.join(f'%({name})s' for name in columns)})"
    head, found, tail = compiled.partition(placeholders)
    assert found, f"{placeholders} is not in {compiled}"
    return head, tail


def _tuples(rows: pa.Table) -> pa.Array:
    """Each row as `(1,'text',x'00')`."""
    literals = [_literals(rows[name].combine_chunks()) for name in rows.column_names]
    between = ["(", *[","] * (len(literals) - 1)]
    return pc.binary_join_element_wise(*itertools.chain(*zip(between, literals, strict=True)), ")", "")


def _literals(column: pa.Array) -> pa.Array:
    """Each value as SQL writes it, for a session whose backslashes escape (MySQL's default)."""
    return pc.fill_null(_quoted(column), "NULL")


def _quoted(column: pa.Array) -> pa.Array:
    kind: Any = column.type
    if pa.types.is_string(kind):
        escaped = pc.replace_substring(pc.replace_substring(column, "\\", "\\\\"), "'", "\\'")
        return pc.binary_join_element_wise("'", escaped, "'", "")
    if pa.types.is_binary(kind):
        return pc.binary_join_element_wise("x'", _hexadecimal(column), "'", "")
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_temporal(kind):
        return pc.binary_join_element_wise("'", column.cast(pa.string()), "'", "")
    return column.cast(pa.string())


def _hexadecimal(column: pa.Array) -> pa.Array:
    """Each byte as two digits; nulls stay."""
    compact = pa.concat_arrays([column])  # a slice would still have the buffers of the whole
    validity, offsets, data = compact.buffers()
    ends = np.frombuffer(offsets, np.int32, len(compact) + 1)
    raw = np.frombuffer(data, np.uint8, ends[-1]) if data else np.empty(0, np.uint8)
    buffers = [validity, pa.py_buffer(ends * 2), pa.py_buffer(_HEX[raw])]
    return pa.Array.from_buffers(pa.string(), len(compact), buffers, compact.null_count)


def _in_statements(rows: pa.Table) -> Iterator[str]:
    """The rows as tuples joined by commas, in parts that fit into a statement."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        tuples = _tuples(rows.slice(start, _ROWS_AT_ONCE))
        part = np.cumsum(pc.binary_length(tuples).to_numpy(), dtype=np.int64) // STATEMENT_BYTES
        starts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(tuples)]
        for first, end in itertools.pairwise(starts):
            ends = pa.array([0, end - first], pa.int32())
            joined = pc.binary_join(
                pa.ListArray.from_arrays(ends, pa.concat_arrays([tuples[first:end]])), ","
            )
            yield joined[0].as_py()
