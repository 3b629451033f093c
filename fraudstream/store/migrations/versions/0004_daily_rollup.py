"""Sums by the day, with the hours of each day, filled from those by the hour.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OPTIONS = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_HOURS = [f"h{hour:02}" for hour in range(24)]
_IN_HOUR = [f"SUM(IF(HOUR(hour) = {hour}, transactions, 0))" for hour in range(24)]

_FILL = (
    "INSERT INTO rollup_daily "  # noqa: S608 - what is joined here is made here
    f"(day, Location, Device, Merchant, Is_Fraud, transactions, amount, {', '.join(_HOURS)}) "
    "SELECT DATE(hour), Location, Device, Merchant, Is_Fraud, SUM(transactions), SUM(amount), "
    f"{', '.join(_IN_HOUR)} FROM rollup_hourly GROUP BY 1, 2, 3, 4, 5"
)


def upgrade() -> None:
    op.create_table(
        "rollup_daily",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("Location", sa.String(128), primary_key=True),
        sa.Column("Device", sa.String(128), primary_key=True),
        sa.Column("Merchant", sa.String(128), primary_key=True),
        sa.Column("Is_Fraud", sa.Enum("YES", "NO"), primary_key=True),
        sa.Column("transactions", sa.BigInteger, nullable=False),
        sa.Column("amount", mysql.DECIMAL(30, 2), nullable=False),
        *(sa.Column(hour, sa.Integer, nullable=False, server_default="0") for hour in _HOURS),
        if_not_exists=True,
        **_OPTIONS,
    )
    # Anew: a run that died half-way may have filled it.
    op.execute("DELETE FROM rollup_daily")
    op.execute(_FILL)
