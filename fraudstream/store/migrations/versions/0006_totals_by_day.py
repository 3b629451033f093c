"""Sums by the day over all names, filled from those by the day; each name that there is, in an index.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OPTIONS = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_HOURS = [f"h{hour:02}" for hour in range(24)]
_NAMES = {
    "rollup_monthly_by_city": "Location",
    "rollup_monthly_by_device": "Device",
    "rollup_monthly_by_merchant": "Merchant",
}

_FILL = (
    f"INSERT INTO rollup_total (day, Is_Fraud, transactions, amount, {', '.join(_HOURS)}) "  # noqa: S608
    f"SELECT day, Is_Fraud, SUM(transactions), SUM(amount), {', '.join(f'SUM({hour})' for hour in _HOURS)} "
    "FROM rollup_daily GROUP BY 1, 2"
)


def upgrade() -> None:
    op.create_table(
        "rollup_total",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("Is_Fraud", sa.Enum("YES", "NO"), primary_key=True),
        sa.Column("transactions", sa.BigInteger, nullable=False),
        sa.Column("amount", mysql.DECIMAL(30, 2), nullable=False),
        *(sa.Column(hour, sa.Integer, nullable=False, server_default="0") for hour in _HOURS),
        if_not_exists=True,
        **_OPTIONS,
    )
    # Anew: a run that died half-way may have filled it.
    op.execute("DELETE FROM rollup_total")
    op.execute(_FILL)
    present = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("rollup_monthly")}
    for name, column in _NAMES.items():
        if name not in present:
            op.create_index(name, "rollup_monthly", [column])
