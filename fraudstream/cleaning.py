"""Kafka records -> cleaned transactions, or the reason why a record cannot be used.

Pure Spark transformations. Every record comes out exactly once: either `rejection` is null and the
seven fields are set (optional ones may be null), or `rejection` and `detail` say why and `key` and
`value` hold the original bytes. One bad record never fails a batch: nothing here can throw on data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    Field,
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
# White space at the ends of a text is left to the long way too.
_SPACE = f"[{re.escape(WHITESPACE)}]"
_PLAIN = rf'(?:"(?:(?!{_SPACE})[^"\\\x00-\x1f]++(?<!{_SPACE}))?+"|null)'
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
        F.when(F.col("value").isNull(), F.lit(Rejection.NULL_MESSAGE.value))
        .when(F.octet_length("value") > MAX_MESSAGE_BYTES, F.lit(Rejection.MESSAGE_TOO_LONG.value))
        .when(text.isNull(), F.lit(Rejection.NOT_JSON.value))
        .when(~text.rlike(_FLAT_OBJECT), _reason_not_flat(text))
        .when(F.size(keys) != F.size(F.array_distinct(keys)), F.lit(Rejection.KEY_GIVEN_TWICE.value))
        .when(text.rlike(_WRONG_TYPE), F.lit(Rejection.WRONG_TYPE.value))
    )


def _reason_not_flat(text: Column) -> Column:
    """Why the text is not one flat JSON object; only evaluated for the few that are not."""
    whole = F.try_parse_json(text).isNotNull()
    return (
        F.when(text.rlike(_OBJECT_THEN_TEXT), F.lit(Rejection.TEXT_AFTER_OBJECT.value))
        .when(text.rlike(_NESTED) & whole, F.lit(Rejection.NESTED_VALUE.value))
        .when(text.rlike(_NOT_AN_OBJECT) & whole, F.lit(Rejection.NOT_AN_OBJECT.value))
        .otherwise(F.lit(Rejection.NOT_JSON.value))
    )


def _trim_fields(parsed: DataFrame) -> DataFrame:
    """One column a field: white space at both ends is gone, and an empty text is null."""
    return parsed.withColumns({name: _trimmed(F.col("message")[name]) for name in FIELD_NAMES})


def _trimmed(text: Column) -> Column:
    trimmed = F.when(F.col("plain"), text).otherwise(F.btrim(text, F.lit(WHITESPACE)))
    return F.when(trimmed != "", trimmed)


def _fold_names(trimmed: DataFrame) -> DataFrame:
    """Known cities, devices and merchants get their one spelling; others one space for each inner run."""
    spellings = canonical_names()
    return trimmed.withColumns({name: _spelling(F.col(name), spellings[name]) for name in KNOWN_NAMES})


def _spelling(name: Column, spellings: dict[str, str]) -> Column:
    # `str.casefold`, as far as it takes one letter to one: the sharp s and ligatures stay what they are.
    folded = F.translate(F.lower(F.regexp_replace(name, f"{_SPACE}+", "")), "\u017f", "s")
    known = F.create_map(*(F.lit(text) for pair in spellings.items() for text in pair))
    respelled = F.coalesce(F.element_at(known, folded), F.regexp_replace(name, f"{_SPACE}+", " "))
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
    """Adds `rejection` and `detail`, null for a usable row; `detail` also where the reason says it all.

    Two plain columns, not one of structs: each task generates this code anew, so less of it starts sooner.
    """
    checks = [*_shape_checks(), *_field_checks(), *_amount_checks(), *_time_checks()]
    return rows.withColumn("rejection", _first_of(checks)).withColumn("detail", F.left(_detail(), F.lit(200)))


Check = tuple[Column, Column | Rejection]  # what must not hold, and what is said of it


def _first_of(checks: Sequence[Check]) -> Column:
    """What the first check says that holds; null where none does."""
    (condition, said), *others = checks
    case = F.when(condition, _literal(said))
    for condition, said in others:
        case = case.when(condition, _literal(said))
    return case


def _literal(said: Column | Rejection) -> Column:
    return F.lit(said.value) if isinstance(said, Rejection) else said


def _shape_checks() -> Iterable[Check]:
    yield F.col("shape").isNotNull(), F.col("shape")
    yield F.col("message").isNull() | F.col("message")[_CORRUPT].isNotNull(), Rejection.NOT_JSON


_MISSING = {
    "TransactionID": Rejection.MISSING_TRANSACTION_ID,
    "UserID": Rejection.MISSING_USER_ID,
    "Amount": Rejection.MISSING_AMOUNT,
    "Time": Rejection.MISSING_TIME,
}


def _field_checks() -> Iterable[Check]:
    for field in FIELDS:
        if field.required:
            yield _text_of(field).isNull(), _MISSING[field.name]
        yield _is_too_long(field), Rejection.FIELD_TOO_LONG


def _is_too_long(field: Field) -> Column:
    return F.char_length(_text_of(field)) > field.max_length


def _text_of(field: Field) -> Column:
    """The field as it was written."""
    return F.col({"Amount": "amount_text", "Time": "time_text"}.get(field.name, field.name))


_AMOUNT_REASONS = (
    Rejection.AMOUNT_NOT_FINITE,
    Rejection.AMOUNT_NOT_A_NUMBER,
    Rejection.AMOUNT_NEGATIVE,
    Rejection.AMOUNT_TOO_LARGE,
)


def _amount_checks() -> Iterable[Check]:
    text, amount = F.col("amount_text"), F.col("Amount")
    yield text.rlike(_NOT_FINITE), Rejection.AMOUNT_NOT_FINITE
    yield ~text.rlike(_AMOUNT), Rejection.AMOUNT_NOT_A_NUMBER
    yield text.rlike(_NEGATIVE), Rejection.AMOUNT_NEGATIVE
    yield amount.isNull() | (amount > F.lit(MAX_AMOUNT)), Rejection.AMOUNT_TOO_LARGE


_TIME_REASONS = (Rejection.TIME_UNPARSABLE, Rejection.TIME_BEFORE_2000, Rejection.TIME_IN_FUTURE)


def _time_checks() -> Iterable[Check]:
    time = F.col("Time")
    yield time.isNull(), Rejection.TIME_UNPARSABLE
    # As text: a literal of a datetime is an instant in the zone of the machine.
    earliest = F.lit(EARLIEST_TIME.isoformat(" ")).cast("timestamp_ntz")
    yield time < earliest, Rejection.TIME_BEFORE_2000
    latest = F.col("timestamp").cast("timestamp_ntz") + F.lit(MAX_AHEAD_OF_KAFKA)
    yield time > latest, Rejection.TIME_IN_FUTURE


def _detail() -> Column:
    rejection = F.col("rejection")
    too_long = [(_is_too_long(field), _limit(field)) for field in FIELDS]
    return (
        F.when(rejection.isin(*(reason.value for reason in _AMOUNT_REASONS)), F.col("amount_text"))
        .when(rejection.isin(*(reason.value for reason in _TIME_REASONS)), F.col("time_text"))
        .when(rejection == Rejection.FIELD_TOO_LONG.value, _first_of(too_long))
    )


def _limit(field: Field) -> Column:
    return F.lit(f"{field.name} has more than {field.max_length} characters")


def _closing_columns() -> list[Column]:
    """The rows of CLEANED_ARROW: fields only where usable, original bytes only where not."""
    usable = F.col("rejection").isNull()
    sources = {
        "partition_id": F.col("partition"),
        "offset": F.col("offset"),
        "kafka_time": F.col("timestamp"),
        "key": F.when(~usable, F.col("key")),
        "value": F.when(~usable, F.col("value")),
        "rejection": F.col("rejection"),
        "detail": F.col("detail"),
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
