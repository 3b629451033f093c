"""Results of statements as rows and pandas frames."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, Select

Statement = Select[*tuple[Any, ...]]


def one(connection: Connection, statement: Statement) -> Row[*tuple[Any, ...]]:
    return connection.execute(statement).one()


def read_frame(connection: Connection, statement: Statement) -> pd.DataFrame:
    result = connection.execute(statement)
    return pd.DataFrame([tuple(row) for row in result], columns=list(result.keys()))


def whole_counts(counted: pd.DataFrame) -> pd.DataFrame:
    """MySQL's sums are decimals; counts are whole numbers."""
    sums = [name for name in ("transactions", "flagged") if name in counted]
    return counted.astype(dict.fromkeys(sums, "int64"))
