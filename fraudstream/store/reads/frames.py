"""Results of statements as rows and pandas frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, Connection, Row, Select, func, literal_column

Statement = Select[*tuple[Any, ...]]


def one(connection: Connection, statement: Statement) -> Row[*tuple[Any, ...]]:
    return connection.execute(statement).one()


def sum_of_counts(counts: ColumnElement[Any]) -> ColumnElement[Any]:
    """The sum of whole numbers as a float, which is exact up to 2**53.

    A sum of integers is a decimal in MySQL and MariaDB, and takes up to three times as long.
    """
    return func.sum(counts * literal_column("1e0"))


def read_frame(connection: Connection, statement: Statement) -> pd.DataFrame:
    result = connection.execute(statement)
    return pd.DataFrame([tuple(row) for row in result], columns=list(result.keys()))


def moments(values: pd.Series) -> pd.Series:
    """Dates, datetimes or their texts as seconds: nanoseconds would end in the year 2262."""
    return pd.Series(np.array(values.tolist(), dtype="datetime64[s]"), index=values.index)
