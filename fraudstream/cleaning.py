"""Kafka records -> cleaned transactions, or the reason why a record cannot be used.

Pure Spark transformations. Every record comes out exactly once: either `rejection` is null and the
seven fields are set (optional ones may be null), or `rejection` and `detail` say why and `key` and
`value` hold the original bytes. One bad record never fails a batch: nothing here can throw on data.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, StringType, StructField, StructType

from fraudstream.schema import (
    CLEANED_ARROW,
    EARLIEST_TIME,
    FIELD_NAMES,
    FIELDS,
    KNOWN_NAMES,
    MAX_AHEAD_OF_KAFKA,
    MAX_AMOUNT,
    MAX_MESSAGE_BYTES,
    WHITESPACE,
    Rejection,
    canonical_names,
    spark_schema,
)

# --- JSON text -----------------------------------------------------------------------------------
# RFC 8259, for an object whose values are scalars. Spark's own parser is more lenient than the RFC
# (single quotes, NaN, text after the object), so the grammar decides and the parser only extracts.
# All repetition is possessive: no backtracking, and no recursion that a long message could exhaust.
# A lone surrogate is refused: it is no character, and would be stored as `?`.
_WS = r"[ \t\n\r]*+"
_HEX = "[0-9a-fA-F]"
_STRING = (
    r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]'
    rf"|\\u(?![dD][89a-fA-F]){_HEX}{{4}}"
    rf"|\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
    r')*+"'
)
_NUMBER = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_SCALAR = rf"(?:{_STRING}|{_NUMBER}|true|false|null)"
_PAIR = rf"{_STRING}{_WS}:{_WS}{_SCALAR}"
_OBJECT = rf"{_WS}\{{{_WS}(?:{_PAIR}{_WS}(?:,{_WS}{_PAIR}{_WS})*+)?+\}}{_WS}"
_FLAT_OBJECT = rf"\A{_OBJECT}\z"
_OBJECT_THEN_TEXT = rf"\A{_OBJECT}"
_NESTED = rf"\A{_WS}\{{{_WS}(?:{_PAIR}{_WS},{_WS})*+{_STRING}{_WS}:{_WS}[\[{{]"
_NOT_AN_OBJECT = rf"\A{_WS}(?:{_SCALAR}{_WS}\z|\[)"


def _written(*names: str) -> str:
    """A pattern for each way to write one of the names in JSON: any letter may be an escape."""
    return "|".join("".join(rf"(?:{letter}|{_escape_of(letter)})" for letter in name) for name in names)


def _escape_of(letter: str) -> str:
    digits = (f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(letter):04x}")
    return rf"\\u{''.join(digits)}"


# A key stands behind `{`, `,` or white space: inside a string its first quote would be escaped.
_KEY = r'[{{, \t\n\r]"(?:{names})"[ \t\n\r]*+:[ \t\n\r]*+'
_IDS_OR_AMOUNT = _written("TransactionID", "UserID", "Amount")
_TEXT_ONLY = _written("Location", "Time", "Device", "Merchant")
_WRONG_TYPE = (
    rf"{_KEY.format(names=_IDS_OR_AMOUNT)}(?:true|false)|{_KEY.format(names=_TEXT_ONLY)}(?:true|false|[-0-9])"
)
# Spark's parser would turn 0.10 into 0.1 and a long id into 1.2E49: numbers are quoted before it sees them.
_NUMBER_VALUE = rf"({_KEY.format(names=_IDS_OR_AMOUNT)})({_NUMBER})"
_ANY_NUMBER_VALUE = rf"(:{_WS}){_NUMBER}"

# The form that the producer sends: the seven fields in their order, without white space and escapes. What has
# it needs no other look, so nearly all messages are spared the dear ones.
_PLAIN = r'(?:"[^"\\\x00-\x1f]*+"|null)'
_PLAIN_FIELDS = ",".join(
    f'"{name}":{f"(?:{_PLAIN}|{_NUMBER})" if name == "Amount" else _PLAIN}' for name in FIELD_NAMES
)
_PLAIN_OBJECT = rf"\A\{{{_PLAIN_FIELDS}\}}\z"
_PLAIN_NUMBER = rf'("Amount":)({_NUMBER})'

_CORRUPT = "_corrupt"
# A long number under an unknown key does no harm.
_PARSER_OPTIONS = {"columnNameOfCorruptRecord": _CORRUPT, "maxNumLen": str(MAX_MESSAGE_BYTES)}
_MESSAGE_TYPE = StructType(
    [*(StructField(name, StringType()) for name in FIELD_NAMES), StructField(_CORRUPT, StringType())]
)

# --- amounts and times ---------------------------------------------------------------------------
# Plain digits, or groups of three behind one kind of separator; `1.234,56` and `1,23` stay ambiguous
# and are refused. An exponent has at most three digits: more would only be an expensive zero or infinity.
_GROUPED = "|".join(rf"[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+" for mark in (",", "[ \u00a0\u202f]", "'", "_"))
_AMOUNT = rf"\A[+-]?(?:{_GROUPED}|[0-9]+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{{1,3}})?\z"
_SEPARATORS = ", \u00a0\u202f'_"
_CENTS = DecimalType(38, 2)
_NOT_FINITE = r"(?i)\A[+-]?(?:nan|inf|infinity)\z"
_NEGATIVE = r"\A-[^eE]*[1-9]"
_ZERO = r"\A[+-]?[^1-9eE]*(?:[eE]|\z)"

# 2025-01-31 10:20:30, with `T` or `/`, seconds optional, a fraction that is cut, and an optional offset.
_TIME = (
    r"\A([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})[ T]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:[.,][0-9]{1,9})?"
    r"[ ]?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?\z"
)
# The one that is sent and stored.
_STORED_FORM = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\z"

RAW_KEY, RAW_VALUE = "raw_key", "raw_value"


def clean(records: DataFrame) -> DataFrame:
    """Kafka source rows (`key`, `value`, `partition`, `offset`, `timestamp`) -> rows of CLEANED_ARROW.

    The session's `spark.sql.session.timeZone` is the zone of `Time`: a text with an offset is converted
    to it, and it places `Time` against the record's Kafka timestamp.
    """
    return records.transform(_judge_shape_and_fields).select(*_closing_columns())


def clean_with_bytes(records: DataFrame) -> DataFrame:
    """The same, with two more columns: the bytes of every record, usable or not (RAW_KEY, RAW_VALUE)."""
    raw = (F.col("key").alias(RAW_KEY), F.col("value").alias(RAW_VALUE))
    return records.transform(_judge_shape_and_fields).select(*_closing_columns(), *raw)


def _judge_shape_and_fields(records: DataFrame) -> DataFrame:
    return (
        records.transform(_parse_json)
        .transform(_trim_fields)
        .transform(_fold_names)
        .transform(_parse_amount)
        .transform(_parse_time)
        .transform(_reject)
    )


def _parse_json(records: DataFrame) -> DataFrame:
    """Adds `text` (null when too long or not UTF-8), `plain`, `message` and `shape` (why it is none)."""
    readable = (F.octet_length("value") <= MAX_MESSAGE_BYTES) & F.is_valid_utf8("value")
    text = F.when(readable, F.col("value").cast("string"))
    quoted = F.when(F.col("plain"), F.regexp_replace("text", _PLAIN_NUMBER, '$1"$2"')).otherwise(
        F.regexp_replace("text", _NUMBER_VALUE, '$1"$2"')
    )
    parsed = F.from_json(quoted, _MESSAGE_TYPE, _PARSER_OPTIONS)
    return (
        records.withColumn("text", text)
        .withColumn("plain", F.coalesce(F.col("text").rlike(_PLAIN_OBJECT), F.lit(False)))
        .withColumn("shape", F.when(~F.col("plain"), _shape_rejection()))
        .withColumn("message", F.when(F.col("shape").isNull(), parsed))
    )


def _shape_rejection() -> Column:
    text = F.col("text")
    # Null where a number is longer than Spark's parser takes; which number it is does not matter to the keys.
    keys = F.coalesce(
        F.json_object_keys(text), F.json_object_keys(F.regexp_replace(text, _ANY_NUMBER_VALUE, "$10"))
    )
    return (
        F.when(F.col("value").isNull(), _reason(Rejection.NULL_MESSAGE))
        .when(F.octet_length("value") > MAX_MESSAGE_BYTES, _reason(Rejection.MESSAGE_TOO_LONG))
        .when(text.isNull(), _reason(Rejection.NOT_JSON))
        .when(~text.rlike(_FLAT_OBJECT), _reason_not_flat(text))
        .when(F.size(keys) != F.size(F.array_distinct(keys)), _reason(Rejection.KEY_GIVEN_TWICE))
        .when(text.rlike(_WRONG_TYPE), _reason(Rejection.WRONG_TYPE))
    )


def _reason_not_flat(text: Column) -> Column:
    """Why the text is not one flat JSON object; only evaluated for the few that are not."""
    whole = F.try_parse_json(text).isNotNull()
    return (
        F.when(text.rlike(_OBJECT_THEN_TEXT), _reason(Rejection.TEXT_AFTER_OBJECT))
        .when(text.rlike(_NESTED) & whole, _reason(Rejection.NESTED_VALUE))
        .when(text.rlike(_NOT_AN_OBJECT) & whole, _reason(Rejection.NOT_AN_OBJECT))
        .otherwise(_reason(Rejection.NOT_JSON))
    )


def _trim_fields(parsed: DataFrame) -> DataFrame:
    """One column a field: white space at both ends is gone, and an empty text is null."""
    trimmed = {name: F.btrim(F.col("message")[name], F.lit(WHITESPACE)) for name in FIELD_NAMES}
    return parsed.withColumns({name: F.when(text != "", text) for name, text in trimmed.items()})


def _fold_names(trimmed: DataFrame) -> DataFrame:
    """Known cities, devices and merchants get their one spelling; others one space for each inner run."""
    spellings = canonical_names()
    return trimmed.withColumns({name: _spelling(F.col(name), spellings[name]) for name in KNOWN_NAMES})


def _spelling(name: Column, spellings: dict[str, str]) -> Column:
    space = f"[{re.escape(WHITESPACE)}]"
    # `str.casefold`, as far as it takes one letter to one: the sharp s and ligatures stay what they are.
    folded = F.translate(F.lower(F.regexp_replace(name, f"{space}+", "")), "\u017f", "s")
    known = F.create_map(*(F.lit(text) for pair in spellings.items() for text in pair))
    respelled = F.coalesce(F.element_at(known, folded), F.regexp_replace(name, f"{space}+", " "))
    return F.when(name.isin(*spellings.values()), name).otherwise(respelled)


def _parse_amount(rows: DataFrame) -> DataFrame:
    """`amount_text` as written; `Amount` in cents, rounded half up, null where it is no usable number."""
    text = F.col("Amount")
    in_cents = F.translate(text, _SEPARATORS, "").try_cast(_CENTS)
    # To the cast, 0e99 is too large.
    amount = F.coalesce(in_cents, F.when(text.rlike(_ZERO), F.lit(0).cast(_CENTS)))
    return rows.withColumns({"amount_text": text, "Amount": F.when(text.rlike(_AMOUNT), amount)})


def _parse_time(rows: DataFrame) -> DataFrame:
    """`time_text` as written; `Time` as local time, null where it is no listed format or no such day."""
    text = F.col("Time")
    parts = {name: F.regexp_extract(text, _TIME, group) for name, group in _TIME_PARTS.items()}
    seconds = F.when(parts["seconds"] == "", ":00").otherwise(parts["seconds"])
    date = F.concat_ws("-", parts["year"], parts["month"], parts["day"])
    written = F.concat(date, F.lit(" "), parts["minute"], seconds)
    offset = F.when(parts["offset"] == "Z", "+00").otherwise(parts["offset"])
    local = (
        F.when(text.rlike(_STORED_FORM), text.try_cast("timestamp_ntz"))
        .when(~text.rlike(_TIME), None)
        .when(parts["offset"] == "", written.try_cast("timestamp_ntz"))
        .otherwise(F.concat(written, offset).try_cast("timestamp").cast("timestamp_ntz"))
    )
    return rows.withColumns({"time_text": text, "Time": local})


_TIME_PARTS = {"year": 1, "month": 3, "day": 4, "minute": 5, "seconds": 6, "offset": 7}


def _reject(rows: DataFrame) -> DataFrame:
    """`problem` is null for a usable row, else a struct of `rejection` and `detail`."""
    checks = F.coalesce(F.col("shape"), *_field_rejections(), *_amount_rejections(), *_time_rejections())
    return rows.withColumn("problem", checks)


def _field_rejections() -> Iterable[Column]:
    broken = F.col("message").isNull() | F.col("message")[_CORRUPT].isNotNull()
    yield F.when(broken, _reason(Rejection.NOT_JSON))
    missing = {
        "TransactionID": Rejection.MISSING_TRANSACTION_ID,
        "UserID": Rejection.MISSING_USER_ID,
        "Amount": Rejection.MISSING_AMOUNT,
        "Time": Rejection.MISSING_TIME,
    }
    written = {"Amount": "amount_text", "Time": "time_text"}
    for field in FIELDS:
        text = F.col(written.get(field.name, field.name))
        if field.required:
            yield F.when(text.isNull(), _reason(missing[field.name]))
        limit = F.lit(f"{field.name} has more than {field.max_length} characters")
        yield F.when(F.char_length(text) > field.max_length, _reason(Rejection.FIELD_TOO_LONG, limit))


def _amount_rejections() -> Iterable[Column]:
    text, amount = F.col("amount_text"), F.col("Amount")
    yield F.when(text.rlike(_NOT_FINITE), _reason(Rejection.AMOUNT_NOT_FINITE, text))
    yield F.when(~text.rlike(_AMOUNT), _reason(Rejection.AMOUNT_NOT_A_NUMBER, text))
    yield F.when(text.rlike(_NEGATIVE), _reason(Rejection.AMOUNT_NEGATIVE, text))
    too_large = amount.isNull() | (amount > F.lit(MAX_AMOUNT))
    yield F.when(too_large, _reason(Rejection.AMOUNT_TOO_LARGE, text))


def _time_rejections() -> Iterable[Column]:
    text, time = F.col("time_text"), F.col("Time")
    yield F.when(time.isNull(), _reason(Rejection.TIME_UNPARSABLE, text))
    # As text: a literal of a datetime is an instant in the zone of the machine.
    earliest = F.lit(EARLIEST_TIME.isoformat(" ")).cast("timestamp_ntz")
    yield F.when(time < earliest, _reason(Rejection.TIME_BEFORE_2000, text))
    latest = F.col("timestamp").cast("timestamp_ntz") + F.lit(MAX_AHEAD_OF_KAFKA)
    yield F.when(time > latest, _reason(Rejection.TIME_IN_FUTURE, text))


def _reason(rejection: Rejection, detail: Column | None = None) -> Column:
    shown = F.lit(None).cast("string") if detail is None else F.left(detail, F.lit(200))
    return F.struct(F.lit(rejection.value).alias("rejection"), shown.alias("detail"))


def _closing_columns() -> list[Column]:
    """The rows of CLEANED_ARROW: fields only where usable, original bytes only where not."""
    usable = F.col("problem").isNull()
    sources = {
        "partition_id": F.col("partition"),
        "offset": F.col("offset"),
        "kafka_time": F.col("timestamp"),
        "key": F.when(~usable, F.col("key")),
        "value": F.when(~usable, F.col("value")),
        "rejection": F.col("problem.rejection"),
        "detail": F.col("problem.detail"),
        **{name: F.when(usable, F.col(name)) for name in FIELD_NAMES},
    }
    return [
        sources[field.name].cast(field.dataType).alias(field.name)
        for field in spark_schema(CLEANED_ARROW).fields
    ]


def csv_records(session: SparkSession, rows: pd.DataFrame) -> DataFrame:
    """Rows of a CSV (texts, empty where missing) in the Kafka source's form, `offset` = line in the file.

    For training and evaluation, so that they clean by the same code as the stream. The Kafka timestamp is
    now: a file holds no time that lies in the future.
    """
    numbered = rows[list(FIELD_NAMES)].reset_index(drop=True)
    numbered.insert(0, "offset", numbered.index + 2)
    message = F.to_json(
        F.struct(*(F.when(F.col(name) != "", F.col(name)).alias(name) for name in FIELD_NAMES))
    )
    return session.createDataFrame(pa.Table.from_pandas(numbered, preserve_index=False)).select(
        F.lit(None).cast("binary").alias("key"),
        message.cast("binary").alias("value"),
        F.lit(0).alias("partition"),
        F.col("offset").cast("long"),
        F.current_timestamp().alias("timestamp"),
    )


def drop_committed(cleaned: DataFrame, next_offsets: dict[int, int]) -> DataFrame:
    """Without the rows that an earlier batch has committed: those below their partition's next offset."""
    if not next_offsets:
        return cleaned
    committed = [
        (F.col("partition_id") == partition) & (F.col("offset") < offset)
        for partition, offset in next_offsets.items()
    ]
    return cleaned.where(~functools.reduce(operator.or_, committed))
