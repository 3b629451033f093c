"""A transaction as it is stored, with its verdict, and what became of its alert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True)
class StoredTransaction:
    """One row of `clean_data`. `kafka_time` and `processed_at` are UTC, `time` is local time in TZ."""

    transaction_id: str
    user_id: str
    amount: Decimal
    location: str | None
    time: datetime
    device: str | None
    merchant: str | None
    flagged: bool
    score: float
    reasons: str | None
    model_version: str | None
    features: bytes | None
    topic_id: str
    partition_id: int
    offset: int
    kafka_time: datetime
    processed_at: datetime


@dataclass(frozen=True)
class StoredAlert:
    """An alert. `mail` None: it waits for one; else sending, sent or failed. Times are UTC."""

    created_at: datetime
    mail: str | None = None
    sent_at: datetime | None = None
