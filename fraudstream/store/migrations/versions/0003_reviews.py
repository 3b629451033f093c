"""Reviews that can be taken back and keep what they said before; each alert with the codes of its reasons;
scores and reasons counted by the day.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPTIONS = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_LABELS = sa.Enum("fraud", "legitimate")
_LABELS_AND_WITHDRAWN = sa.Enum("fraud", "legitimate", "withdrawn")
# The codes of ["A", "B"] with a blank between them.
_NAME_CODES = """
    UPDATE alerts JOIN clean_data ON clean_data.TransactionID = alerts.TransactionID
    SET codes = LEFT(REPLACE(REPLACE(REPLACE(
        COALESCE(JSON_EXTRACT(reasons, '$[*].code'), ''), '", "', ' '), '["', ''), '"]', ''), 512)
"""
# A day's reasons are those of its alerts: of all rows only these have any.
_COUNT_REASONS = """
    INSERT INTO rule_daily (day, code, flagged)
    SELECT day, code, COUNT(*) FROM (
        SELECT DATE(clean_data.Time) AS day, LEFT(reason.code, 64) AS code
        FROM alerts JOIN clean_data ON clean_data.TransactionID = alerts.TransactionID,
             JSON_TABLE(clean_data.reasons, '$[*]' COLUMNS (code VARCHAR(255) PATH '$.code')) AS reason
    ) AS found
    WHERE code IS NOT NULL
    GROUP BY day, code
"""
_COUNT_SCORES = """
    INSERT INTO score_daily (day, model_version, bin, transactions)
    SELECT DATE(Time), model_version, LEAST(FLOOR(score * 50), 49), COUNT(*)
    FROM clean_data WHERE model_version IS NOT NULL
    GROUP BY DATE(Time), model_version, LEAST(FLOOR(score * 50), 49)
"""


def upgrade() -> None:
    op.alter_column(
        "labels",
        "label",
        existing_type=_LABELS,
        type_=_LABELS_AND_WITHDRAWN,
        existing_nullable=False,
    )
    present = {each["name"] for each in sa.inspect(op.get_bind()).get_columns("labels")}
    if "earlier" not in present:
        op.add_column("labels", sa.Column("earlier", mysql.MEDIUMTEXT, nullable=True))
    present = {each["name"] for each in sa.inspect(op.get_bind()).get_columns("alerts")}
    if "codes" not in present:
        op.add_column("alerts", sa.Column("codes", sa.String(512), nullable=False, server_default=""))
    op.execute(_NAME_CODES)
    op.create_table(
        "rule_daily",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("code", sa.String(64), primary_key=True),
        sa.Column("flagged", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **_OPTIONS,
    )
    op.create_table(
        "score_daily",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("model_version", sa.String(64), primary_key=True),
        sa.Column("bin", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("transactions", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **_OPTIONS,
    )
    # Anew from the rows: a run that died half-way may have counted some of them.
    for statement in ("DELETE FROM rule_daily", _COUNT_REASONS, "DELETE FROM score_daily", _COUNT_SCORES):
        op.execute(statement)
