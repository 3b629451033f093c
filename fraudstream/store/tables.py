"""The tables as the present code sees them; the migrations bring a database to this form.

A test compares the two. Column names that the outside knows (`clean_data`, `Is_Fraud`, …) are the
seed system's. Columns of type DATETIME(6) that end in `_at`, `_until` or `kafka_time` are UTC;
`Time` and `hour` are local time in the setting TZ. All text is utf8mb4_bin: `TXN1` and `txn1` are two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    VARBINARY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Double,
    Enum,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import DATETIME, DECIMAL, MEDIUMBLOB, MEDIUMTEXT

from fraudstream.schema import KNOWN_NAMES, MAX_LENGTH

REASON_CODE_LENGTH = 64
CODES_LENGTH = 512

metadata = MetaData()

_OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def _instant(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, DATETIME(fsp=6), nullable=nullable)


def _field(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[Any]:
    return Column(name, String(MAX_LENGTH[name]), nullable=nullable, primary_key=primary_key)


def _yes_no(name: str, *, primary_key: bool = False) -> Column[Any]:
    return Column(name, Enum("YES", "NO"), nullable=False, primary_key=primary_key)


clean_data = Table(
    "clean_data",
    metadata,
    _field("TransactionID", primary_key=True),
    _field("UserID"),
    Column("Amount", DECIMAL(18, 2), nullable=False),
    _field("Location", nullable=True),
    Column("Time", DATETIME(), nullable=False),
    _field("Device", nullable=True),
    _field("Merchant", nullable=True),
    _yes_no("Is_Fraud"),
    Column("score", Double, nullable=False),
    Column("reasons", Text, nullable=True),
    Column("model_version", String(64), nullable=True),
    Column("topic_id", String(36), nullable=False),
    Column("partition_id", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    _instant("kafka_time"),
    _instant("processed_at"),
    Column("features", VARBINARY(1024), nullable=True),  # see fraudstream.feature_record
    CheckConstraint("(`Is_Fraud` = 'YES') = (`reasons` IS NOT NULL)", name="flag_has_reason"),
    Index("clean_data_by_time", "Time"),
    Index("clean_data_by_user", "UserID", "Time"),
    **_OPTIONS,
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("topic_id", String(36), primary_key=True),
    Column("partition_id", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("topic", String(249), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(255), nullable=True),
    Column("key", MEDIUMBLOB, nullable=True),
    Column("value", MEDIUMBLOB, nullable=True),
    _instant("kafka_time"),
    _instant("rejected_at"),
    _instant("replayed_at", nullable=True),
    Index("dead_letters_by_reason", "reason", "rejected_at"),
    **_OPTIONS,
)

kafka_offsets = Table(
    "kafka_offsets",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition_id", Integer, primary_key=True, autoincrement=False),
    Column("topic_id", String(36), nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    **_OPTIONS,
)

writer_lease = Table(
    "writer_lease",
    metadata,
    Column("lock_name", String(64), primary_key=True),
    Column("holder", String(255), nullable=False),
    _instant("renewed_at"),
    **_OPTIONS,
)

user_history = Table(
    "user_history",
    metadata,
    _field("UserID", primary_key=True),
    Column("history", MEDIUMBLOB, nullable=False),
    **_OPTIONS,
)

HOURS_OF_DAY = tuple(f"h{hour:02}" for hour in range(24))


def _rollup(name: str, *parts: Column[Any] | Index, by_name: bool = True, by_hour: bool) -> Table:
    """What is counted at a time, which is among the parts; `by_name`: of each city, device and merchant;
    `by_hour`: also the transactions in each hour of the day, h00 to h23.

    Missing names are '' here (a primary key has no NULL; a cleaned name is never empty).
    """
    names = KNOWN_NAMES if by_name else ()
    hours = HOURS_OF_DAY if by_hour else ()
    return Table(
        name,
        metadata,
        *(part for part in parts if isinstance(part, Column)),
        *(_field(column, primary_key=True) for column in names),
        _yes_no("Is_Fraud", primary_key=True),
        Column("transactions", BigInteger, nullable=False),
        Column("amount", DECIMAL(30, 2), nullable=False),
        *(Column(hour, Integer, nullable=False, server_default="0") for hour in hours),
        *(part for part in parts if isinstance(part, Index)),
        **_OPTIONS,
    )


rollup_hourly = _rollup("rollup_hourly", Column("hour", DATETIME(), primary_key=True), by_hour=False)
rollup_daily = _rollup("rollup_daily", Column("day", Date, primary_key=True), by_hour=True)
rollup_monthly = _rollup(
    "rollup_monthly",
    Column("month", Date, primary_key=True),  # its first day
    Column("weekday", SmallInteger, primary_key=True, autoincrement=False),  # 0 is Monday
    # For the names alone: an index holds each of them, and a server jumps from one to the next.
    Index("rollup_monthly_by_city", "Location"),
    Index("rollup_monthly_by_device", "Device"),
    Index("rollup_monthly_by_merchant", "Merchant"),
    by_hour=True,
)
rollup_total = _rollup("rollup_total", Column("day", Date, primary_key=True), by_name=False, by_hour=True)

pipeline_totals = Table(
    "pipeline_totals",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("stored", BigInteger, nullable=False),
    Column("flagged", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    _instant("updated_at"),
    **_OPTIONS,
)

batch_metrics = Table(
    "batch_metrics",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("topic", String(249), nullable=False),
    _instant("started_at"),
    _instant("committed_at"),
    Column("stored", Integer, nullable=False),
    Column("flagged", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("lag", BigInteger, nullable=True),
    Column("lag_by_partition", Text, nullable=True),
    Column("stage_ms", Text, nullable=False),
    Column("latency_ms", Text, nullable=True),
    Column("model_version", String(64), nullable=True),
    Index("batch_metrics_by_time", "committed_at"),
    **_OPTIONS,
)

mails = Table(
    "mails",
    metadata,
    Column("mail_id", BigInteger, primary_key=True),
    Column("message_id", String(255), nullable=False, unique=True),
    Column("state", Enum("sending", "sent", "failed"), nullable=False),
    Column("recipients", Text, nullable=False),  # JSON list: whom the mail is addressed to
    Column("remaining", Text, nullable=False),  # JSON list: those of them who have not accepted it yet
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=True),
    _instant("created_at"),
    _instant("next_attempt_at"),
    _instant("sent_at", nullable=True),
    Index("mails_by_state", "state", "next_attempt_at"),
    **_OPTIONS,
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", BigInteger, primary_key=True),
    Column("TransactionID", String(MAX_LENGTH["TransactionID"]), nullable=False, unique=True),
    _field("UserID"),
    Column("Time", DATETIME(), nullable=False),
    # Of the reasons, with a blank between them: what is counted needs no look at the transaction.
    Column("codes", String(CODES_LENGTH), nullable=False, server_default=""),
    Column("state", Enum("waiting", "mailed"), nullable=False),
    Column("mail_id", BigInteger, nullable=True),
    _instant("created_at"),
    Index("alerts_by_state", "state", "UserID", "alert_id"),
    Index("alerts_by_mail", "mail_id"),
    Index("alerts_by_time", "Time"),
    **_OPTIONS,
)

alert_holds = Table(
    "alert_holds",
    metadata,
    _field("UserID", primary_key=True),
    _instant("held_until"),
    **_OPTIONS,
)

labels = Table(
    "labels",
    metadata,
    _field("TransactionID", primary_key=True),
    Column("source", String(64), primary_key=True),
    # withdrawn: the source says nothing any more; the row stays, so that those who follow changes see it.
    Column("label", Enum("fraud", "legitimate", "withdrawn"), nullable=False),
    Column("known_at", DATETIME(), nullable=False),
    Column("recorded_by", String(255), nullable=True),
    Column("note", Text, nullable=True),
    Column("version", Integer, nullable=False),
    _instant("recorded_at"),
    # Goes up with each transaction that changes labels, in the order of their commits.
    Column("change_id", BigInteger, nullable=False, server_default="0"),
    Column(
        "earlier", MEDIUMTEXT, nullable=True
    ),  # reviews only: JSON list of what the row said, oldest first
    Index("labels_by_change", "change_id"),
    **_OPTIONS,
)

# By day of event time: how many flagged rows name the reason.
rule_daily = Table(
    "rule_daily",
    metadata,
    Column("day", Date, primary_key=True),
    Column("code", String(REASON_CODE_LENGTH), primary_key=True),
    Column("flagged", BigInteger, nullable=False),
    **_OPTIONS,
)

# By day of event time: how many rows have a score in each of schema.SCORE_BINS bins of equal width.
score_daily = Table(
    "score_daily",
    metadata,
    Column("day", Date, primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("bin", SmallInteger, primary_key=True, autoincrement=False),
    Column("transactions", BigInteger, nullable=False),
    **_OPTIONS,
)

component_status = Table(
    "component_status",
    metadata,
    Column("component", String(64), primary_key=True),
    Column("state", Enum("ok", "warning", "error"), nullable=False),
    Column("message", Text, nullable=False),
    _instant("updated_at"),
    **_OPTIONS,
)
