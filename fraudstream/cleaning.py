"""Kafka records -> cleaned transactions, or the reason why a record cannot be used.

Pure. Every record comes out exactly once: either `rejection` is null and the seven fields are set (optional
ones may be null), or `rejection` and `detail` say why and `key` and `value` hold the original bytes, at most
the first MAX_MESSAGE_BYTES of each.

Whole columns at once accept what has the producer's form and is usable beyond doubt, nearly all of a stream.
What they leave is looked at one by one (`parsing.py`), which alone can refuse: so the rules are in one place,
and what the columns accept must only be the same there.
"""

from __future__ import annotations

import functools
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.parsing import Refused, parse, require_length, spelling
from fraudstream.schema import (
    CLEANED_ARROW,
    EARLIEST_KAFKA_TIME,
    EARLIEST_TIME,
    FIELD_NAMES,
    FIELDS,
    KNOWN_NAMES,
    LATEST_KAFKA_TIME,
    MAX_AHEAD_OF_KAFKA,
    MAX_AMOUNT,
    MAX_MESSAGE_BYTES,
    TRANSACTION_ARROW,
    WHITESPACE,
    Field,
)

# --- the producer's form -------------------------------------------------------------------------
# The seven fields in their order, texts without escapes. An amount has at most two places, a time seconds and
# no offset, and its day is not the 29th of February.
_SPACE = r"[ \t\n\r]*"
_TEXT = r'[^"\\\x00-\x1f]*'
_NUMBER = r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,2})?"
_DAY = "(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31"
_TIME = rf"[0-9]{{4}}-(?:{_DAY})[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"


def _usual_value(name: str) -> str:
    """A pattern with a group of the field's name."""
    if name == "Amount":
        return rf'(?P<{name}>"{_NUMBER}"|{_NUMBER})'
    if name == "Time":
        return rf'"(?P<{name}>{_TIME})"'
    return rf'(?:"(?P<{name}>{_TEXT})"|null)'


def _usual_form() -> str:
    pairs = (f'{_SPACE}"{name}"{_SPACE}:{_SPACE}{_usual_value(name)}{_SPACE}' for name in FIELD_NAMES)
    return rf"\A{_SPACE}\{{{','.join(pairs)}\}}{_SPACE}\z"


_USUAL_FORM = _usual_form()


def clean(records: pa.Table, zone: ZoneInfo) -> pa.Table:
    """Rows of RECORD_ARROW -> rows of CLEANED_ARROW, each once, in any order; `zone` is the zone of `Time`.

    Nothing that a record can hold makes it raise.
    """
    records = _with_times_that_fit(records)
    transactions, accepted = _accept(records, zone)
    usable = _cleaned(records.filter(accepted), transactions.filter(accepted))
    return pa.concat_tables([usable, _clean_each(records.filter(pc.invert(accepted)), zone)])


def _with_times_that_fit(records: pa.Table) -> pa.Table:
    times = records["timestamp"]
    earliest, latest = (pa.scalar(time, times.type) for time in (EARLIEST_KAFKA_TIME, LATEST_KAFKA_TIME))
    early_enough = pc.if_else(pc.less(times, latest), times, latest)
    fitting = pc.if_else(pc.greater(early_enough, earliest), early_enough, earliest)
    return records.set_column(records.column_names.index("timestamp"), "timestamp", fitting)


def _accept(records: pa.Table, zone: ZoneInfo) -> tuple[pa.Table, pa.Array]:
    """All rows as far as they have the usual form, and which of them are usable beyond doubt."""
    found = pc.extract_regex(_readable(records["value"]), _USUAL_FORM)
    texts = {name: _trimmed(pc.struct_field(found, name)) for name in FIELD_NAMES}
    texts |= {name: _spelled(name, texts[name]) for name in KNOWN_NAMES}
    amount = pc.utf8_trim(texts["Amount"], characters='"').cast(TRANSACTION_ARROW.field("Amount").type)
    time = texts["Time"].cast(TRANSACTION_ARROW.field("Time").type)
    columns = {**texts, "Amount": amount, "Time": time}
    transactions = pa.table([columns[name] for name in FIELD_NAMES], schema=TRANSACTION_ARROW)
    checks = (
        pc.is_valid(found),
        pc.fill_null(pc.less_equal(pc.binary_length(records["key"]), MAX_MESSAGE_BYTES), True),
        *(pc.is_valid(texts[field.name]) for field in FIELDS if field.required),
        *(_fits(texts[field.name], field) for field in FIELDS),
        pc.less_equal(amount, pa.scalar(MAX_AMOUNT, amount.type)),
        pc.greater_equal(time, pa.scalar(EARLIEST_TIME, time.type)),
        pc.less_equal(time, _latest(records["timestamp"], zone)),
    )
    return transactions, pc.fill_null(functools.reduce(pc.and_, checks), False)


def _readable(values: pa.ChunkedArray) -> pa.Array:
    """Messages as text, null where they are too long or not UTF-8."""
    short = pc.if_else(
        pc.less_equal(pc.binary_length(values), MAX_MESSAGE_BYTES), values, None
    ).combine_chunks()
    try:
        return short.cast(pa.string())
    except pa.ArrowInvalid:  # one or more of them, and Arrow does not say which
        return pa.array([_decoded(value) for value in short.to_pylist()], pa.string())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _trimmed(texts: pa.Array) -> pa.Array:
    """Texts without white space at their ends, null where nothing is left."""
    trimmed = pc.utf8_trim(texts, characters=WHITESPACE)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _spelled(name: str, texts: pa.Array) -> pa.Array:
    """Trimmed names in their one spelling; each distinct one is looked up once."""
    distinct = texts.dictionary_encode()
    spelled = [None if text is None else spelling(name, text) for text in distinct.dictionary.to_pylist()]
    return pa.array(spelled, pa.string()).take(distinct.indices)


def _fits(texts: pa.Array, field: Field) -> pa.Array:
    return pc.fill_null(pc.less_equal(pc.utf8_length(texts), field.max_length), True)


def _latest(kafka_times: pa.ChunkedArray, zone: ZoneInfo) -> pa.Array:
    """The latest local time that each record may have."""
    local = kafka_times.to_pandas().dt.tz_convert(zone).dt.tz_localize(None)
    return pa.array(local + MAX_AHEAD_OF_KAFKA, pa.timestamp("us"))


_ORIGIN = {"partition_id": "partition", "offset": "offset", "kafka_time": "timestamp"}


def _cleaned(records: pa.Table, transactions: pa.Table) -> pa.Table:
    """The rows of CLEANED_ARROW of records that are these transactions."""
    origin = {name: records[source] for name, source in _ORIGIN.items()}
    known = origin | {name: transactions[name] for name in FIELD_NAMES}
    arrays = [
        known[field.name].cast(field.type) if field.name in known else pa.nulls(len(records), field.type)
        for field in CLEANED_ARROW
    ]
    return pa.table(arrays, schema=CLEANED_ARROW)


def _clean_each(records: pa.Table, zone: ZoneInfo) -> pa.Table:
    rows = [_clean_one(record, zone) for record in records.to_pylist()]
    return pa.Table.from_pylist(rows, CLEANED_ARROW)


def _clean_one(record: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """A row of CLEANED_ARROW: the seven values, or the reason why not and the original bytes."""
    key, value = record["key"], record["value"]
    origin = {name: record[source] for name, source in _ORIGIN.items()}
    try:
        require_length(
            key=record["key_bytes"] or len(key or b""), value=record["value_bytes"] or len(value or b"")
        )
        return origin | parse(value, kafka_time=record["timestamp"], zone=zone)
    except Refused as refusal:
        said = {"rejection": refusal.rejection.value, "detail": refusal.detail}
        return origin | {"key": _kept(key), "value": _kept(value)} | said


def _kept(original: bytes | None) -> bytes | None:
    return None if original is None else original[:MAX_MESSAGE_BYTES]
