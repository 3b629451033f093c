"""The server's clock: the only one that leases, holds and `*_at` columns go by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.dialects.mysql import DATETIME

# Naive UTC with microseconds; one instant throughout a statement.
SERVER_NOW: ColumnElement[datetime] = literal_column("UTC_TIMESTAMP(6)", DATETIME(fsp=6))
