"""The transaction, defined once: field names, limits, known names, and its Arrow forms.

Everything that must agree on what a transaction is (producer, cleaning, tables, simulator, dashboard)
takes it from here. Nothing in this module touches the network, the disk or the clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa


@dataclass(frozen=True)
class Field:
    """One field of the JSON message; `max_length` is in characters after trimming."""

    name: str
    required: bool
    max_length: int


FIELDS: tuple[Field, ...] = (
    Field("TransactionID", required=True, max_length=64),
    Field("UserID", required=True, max_length=64),
    Field("Amount", required=True, max_length=64),
    Field("Location", required=False, max_length=128),
    Field("Time", required=True, max_length=64),
    Field("Device", required=False, max_length=128),
    Field("Merchant", required=False, max_length=128),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
MAX_LENGTH: dict[str, int] = {field.name: field.max_length for field in FIELDS}

# A message with a longer value cannot be a transaction: the seven fields at their longest, escaped, fit many
# times over; and a longer key is no user's. No more of either is kept: Kafka's own limit is on compressed
# bytes, and what it lets through may be larger than memory and database can take.
MAX_MESSAGE_BYTES = 65_536

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
EARLIEST_TIME = datetime.fromisoformat("2000-01-01")
MAX_AHEAD_OF_KAFKA = timedelta(days=1)
# Microseconds given to Kafka for milliseconds are the year 57,000, which neither Python nor the database can
# hold, nor a year before Christ: an earlier or later timestamp is taken for one of these. Kafka's -1 is none.
EARLIEST_KAFKA_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_KAFKA_TIME = datetime(9000, 1, 1, tzinfo=UTC)
MAX_AMOUNT = Decimal("999999999999.99")

# Scores are counted in so many bins of equal width from 0 to 1, in training and as they are stored.
SCORE_BINS = 50

CITIES = ("Cairo", "Giza", "Alex", "Luxor", "Aswan", "Sharm", "Hurghada")
DEVICES = ("Android", "iOS", "Web", "Windows")
MERCHANTS = ("Amazon", "Jumia", "Noon", "Souq", "AliExpress", "eBay", "LocalStore")
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "Location": CITIES,
    "Device": DEVICES,
    "Merchant": MERCHANTS,
}

# What `str.strip()` takes off, spelled out for those that must be told.
WHITESPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


class Rejection(enum.StrEnum):
    """Why a record cannot be used; the value is what `dead_letters.reason` says."""

    NULL_MESSAGE = "null message value"
    MESSAGE_TOO_LONG = "message too long"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not an object"
    TEXT_AFTER_OBJECT = "text after the object"
    KEY_GIVEN_TWICE = "a key given twice"
    NESTED_VALUE = "an object or array in a field"
    WRONG_TYPE = "wrong type"
    MISSING_TRANSACTION_ID = "missing TransactionID"
    MISSING_USER_ID = "missing UserID"
    MISSING_AMOUNT = "missing Amount"
    MISSING_TIME = "missing Time"
    FIELD_TOO_LONG = "over-long field"
    AMOUNT_NOT_A_NUMBER = "amount not a number"
    AMOUNT_NOT_FINITE = "amount not finite"
    AMOUNT_NEGATIVE = "amount negative"
    AMOUNT_TOO_LARGE = "amount too large"
    TIME_UNPARSABLE = "time unparsable"
    TIME_BEFORE_2000 = "time before 2000-01-01"
    TIME_IN_FUTURE = "time more than a day after its Kafka timestamp"
    CONFLICTING_DUPLICATE = "conflicting duplicate"


class Outcome(enum.StrEnum):
    """What became of one record, or that the row carries a user's new history instead."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    HISTORY = "history"


_AMOUNT = pa.decimal128(18, 2)

# The seven cleaned fields, in the order of the message. `Time` is local time in the setting TZ.
TRANSACTION_ARROW = pa.schema(
    [
        pa.field("TransactionID", pa.string()),
        pa.field("UserID", pa.string()),
        pa.field("Amount", _AMOUNT),
        pa.field("Location", pa.string()),
        pa.field("Time", pa.timestamp("us")),
        pa.field("Device", pa.string()),
        pa.field("Merchant", pa.string()),
    ]
)

# One record as Kafka has it. Key and value may be cut, to more than MAX_MESSAGE_BYTES; where `key_bytes` and
# `value_bytes` are null, they are as long as they are here.
RECORD_ARROW = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("key_bytes", pa.int32()),
        pa.field("value_bytes", pa.int32()),
    ]
)

# One record after cleaning: where it came from, its fields, and the reason when it cannot be used
# (its fields are then null, its original key and value present, of each at most the first MAX_MESSAGE_BYTES;
# they are null for a usable record).
CLEANED_ARROW = pa.schema(
    [
        pa.field("partition_id", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("kafka_time", pa.timestamp("us", tz="UTC")),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("rejection", pa.string()),
        pa.field("detail", pa.string()),
        *TRANSACTION_ARROW,
    ]
)

# One row of what the executors hand back. `outcome` is an Outcome. For HISTORY only UserID and
# `history` are set; for DUPLICATE and REJECTED neither verdict nor features are.
JUDGED_ARROW = pa.schema(
    [
        pa.field("outcome", pa.string()),
        *CLEANED_ARROW,
        pa.field("Is_Fraud", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("reasons", pa.string()),
        pa.field("features", pa.binary()),
        pa.field("history", pa.binary()),
    ]
)


def fold(text: str) -> str:
    """The key under which a city, device or merchant is looked up: casefolded, without white space."""
    return "".join(text.casefold().split())


def canonical_names() -> dict[str, dict[str, str]]:
    """For each of Location, Device, Merchant: folded name -> the spelling that is stored."""
    return {field: {fold(name): name for name in names} for field, names in KNOWN_NAMES.items()}
