"""All tables of the first release.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPTIONS = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def _index(name: str, *columns: str) -> tuple[str, list[str]]:
    return name, list(columns)


def _create(table: str, *parts: sa.schema.SchemaItem | tuple[str, list[str]]) -> None:
    """Table and indexes, each unless it is there: a run that died half-way is finished by the next."""
    items = [part for part in parts if not isinstance(part, tuple)]
    op.create_table(table, *items, if_not_exists=True, **_OPTIONS)
    present = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
    for part in parts:
        if isinstance(part, tuple) and part[0] not in present:
            op.create_index(part[0], table, part[1])


def upgrade() -> None:
    _create(
        "clean_data",
        sa.Column("TransactionID", sa.String(64), primary_key=True),
        sa.Column("UserID", sa.String(64), nullable=False),
        sa.Column("Amount", mysql.DECIMAL(18, 2), nullable=False),
        sa.Column("Location", sa.String(128), nullable=True),
        sa.Column("Time", mysql.DATETIME, nullable=False),
        sa.Column("Device", sa.String(128), nullable=True),
        sa.Column("Merchant", sa.String(128), nullable=True),
        sa.Column("Is_Fraud", sa.Enum("YES", "NO"), nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("reasons", sa.Text, nullable=True),
        sa.Column("model_version", sa.String(64), nullable=True),
        sa.Column("topic_id", sa.String(36), nullable=False),
        sa.Column("partition_id", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("kafka_time", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("processed_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.CheckConstraint("(`Is_Fraud` = 'YES') = (`reasons` IS NOT NULL)", name="flag_has_reason"),
        _index("clean_data_by_time", "Time"),
        _index("clean_data_by_user", "UserID", "Time"),
    )
    _create(
        "dead_letters",
        sa.Column("topic_id", sa.String(36), primary_key=True),
        sa.Column("partition_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("topic", sa.String(249), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("detail", sa.String(255), nullable=True),
        sa.Column("key", mysql.MEDIUMBLOB, nullable=True),
        sa.Column("value", mysql.MEDIUMBLOB, nullable=True),
        sa.Column("kafka_time", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("rejected_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("replayed_at", mysql.DATETIME(fsp=6), nullable=True),
        _index("dead_letters_by_reason", "reason", "rejected_at"),
    )
    _create(
        "kafka_offsets",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("topic_id", sa.String(36), nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    _create(
        "writer_lease",
        sa.Column("lock_name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("renewed_at", mysql.DATETIME(fsp=6), nullable=False),
    )
    _create(
        "user_history",
        sa.Column("UserID", sa.String(64), primary_key=True),
        sa.Column("history", mysql.MEDIUMBLOB, nullable=False),
    )
    _create(
        "rollup_hourly",
        sa.Column("hour", mysql.DATETIME, primary_key=True),
        sa.Column("Location", sa.String(128), primary_key=True),
        sa.Column("Device", sa.String(128), primary_key=True),
        sa.Column("Merchant", sa.String(128), primary_key=True),
        sa.Column("Is_Fraud", sa.Enum("YES", "NO"), primary_key=True),
        sa.Column("transactions", sa.BigInteger, nullable=False),
        sa.Column("amount", mysql.DECIMAL(30, 2), nullable=False),
    )
    _create(
        "pipeline_totals",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("stored", sa.BigInteger, nullable=False),
        sa.Column("flagged", sa.BigInteger, nullable=False),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
    )
    _create(
        "batch_metrics",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("topic", sa.String(249), nullable=False),
        sa.Column("started_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("committed_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("stored", sa.Integer, nullable=False),
        sa.Column("flagged", sa.Integer, nullable=False),
        sa.Column("duplicates", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Integer, nullable=False),
        sa.Column("lag", sa.BigInteger, nullable=True),
        sa.Column("lag_by_partition", sa.Text, nullable=True),
        sa.Column("stage_ms", sa.Text, nullable=False),
        sa.Column("latency_ms", sa.Text, nullable=True),
        sa.Column("model_version", sa.String(64), nullable=True),
        _index("batch_metrics_by_time", "committed_at"),
    )
    _create(
        "mails",
        sa.Column("mail_id", sa.BigInteger, primary_key=True),
        sa.Column("message_id", sa.String(255), nullable=False, unique=True),
        sa.Column("state", sa.Enum("sending", "sent", "failed"), nullable=False),
        sa.Column("recipients", sa.Text, nullable=False),
        sa.Column("remaining", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("next_attempt_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("sent_at", mysql.DATETIME(fsp=6), nullable=True),
        _index("mails_by_state", "state", "next_attempt_at"),
    )
    _create(
        "alerts",
        sa.Column("alert_id", sa.BigInteger, primary_key=True),
        sa.Column("TransactionID", sa.String(64), nullable=False, unique=True),
        sa.Column("UserID", sa.String(64), nullable=False),
        sa.Column("Time", mysql.DATETIME, nullable=False),
        sa.Column("state", sa.Enum("waiting", "mailed"), nullable=False),
        sa.Column("mail_id", sa.BigInteger, nullable=True),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        _index("alerts_by_state", "state", "UserID", "alert_id"),
        _index("alerts_by_mail", "mail_id"),
        _index("alerts_by_time", "Time"),
    )
    _create(
        "alert_holds",
        sa.Column("UserID", sa.String(64), primary_key=True),
        sa.Column("held_until", mysql.DATETIME(fsp=6), nullable=False),
    )
    _create(
        "labels",
        sa.Column("TransactionID", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("label", sa.Enum("fraud", "legitimate"), nullable=False),
        sa.Column("known_at", mysql.DATETIME, nullable=False),
        sa.Column("recorded_by", sa.String(255), nullable=True),
        sa.Column("note", sa.Text, nullable=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("recorded_at", mysql.DATETIME(fsp=6), nullable=False),
    )
    _create(
        "component_status",
        sa.Column("component", sa.String(64), primary_key=True),
        sa.Column("state", sa.Enum("ok", "warning", "error"), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
    )
