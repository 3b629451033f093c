"""Sums by the month and weekday, with the hours of the day, filled from those by the day.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPTIONS = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_HOURS = [f"h{hour:02}" for hour in range(24)]

_FILL = (
    "INSERT INTO rollup_monthly "  # noqa: S608 - what is joined here is made here
    f"(month, weekday, Location, Device, Merchant, Is_Fraud, transactions, amount, {', '.join(_HOURS)}) "
    "SELECT DATE_FORMAT(day, '%Y-%m-01'), WEEKDAY(day), Location, Device, Merchant, Is_Fraud, "
    f"SUM(transactions), SUM(amount), {', '.join(f'SUM({hour})' for hour in _HOURS)} "
    "FROM rollup_daily GROUP BY 1, 2, 3, 4, 5, 6"
)


def upgrade() -> None:
    op.create_table(
        "rollup_monthly",
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("weekday", sa.SmallInteger, primary_key=True, autoincrement=False),
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
    op.execute("DELETE FROM rollup_monthly")
    op.execute(_FILL)
