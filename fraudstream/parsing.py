"""One record by the rules: a message -> a transaction's seven values, or the reason why there are none."""

from __future__ import annotations

import json
import re
from datetime import MAXYEAR, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from fraudstream.schema import (
    EARLIEST_TIME,
    FIELDS,
    KNOWN_NAMES,
    MAX_AHEAD_OF_KAFKA,
    MAX_AMOUNT,
    MAX_LENGTH,
    MAX_MESSAGE_BYTES,
    Rejection,
    canonical_names,
    fold,
)


class Refused(Exception):
    """The record cannot be used; `detail`, a short text, where the reason alone does not say enough."""

    def __init__(self, rejection: Rejection, detail: str | None = None) -> None:
        super().__init__(rejection, detail)
        self.rejection = rejection
        self.detail = detail


def parse(value: bytes | None, *, kafka_time: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """A message -> its seven values by name, None where an optional one is missing. Raises Refused.

    `value` has passed `require_length`; `kafka_time` is aware and within the schema's bounds. `Time` is local
    time in `zone`: a text with an offset is converted to it. Nothing else is raised, whatever the message.
    """
    texts = _texts(_flat_object(_decoded(value)))
    _require_presence_and_length(texts)
    return {
        **texts,
        "Amount": _amount(texts["Amount"] or ""),
        "Time": _time(texts["Time"] or "", kafka_time, zone),
    }


def require_length(*, key: int, value: int) -> None:
    """Raises Refused where one of them has more bytes than a message may."""
    too_long = [
        f"{part} of {length} bytes"
        for part, length in (("key", key), ("value", value))
        if length > MAX_MESSAGE_BYTES
    ]
    if too_long:
        detail = f"{' and '.join(too_long)}: only the first {MAX_MESSAGE_BYTES} are kept"
        raise Refused(Rejection.MESSAGE_TOO_LONG, detail)


# --- JSON text -----------------------------------------------------------------------------------
# RFC 8259, for an object whose values are scalars. Python's parser is more lenient than the RFC with
# NaN and with halves of surrogate pairs, which are no characters.


class _Number(str):
    """A JSON number as it was written: as a float, 0.10 would be 0.1, and a long id another."""


class _Object(list[tuple[str, Any]]):
    """The pairs of a JSON object; a key may have come twice."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)
_JSON_SPACE = " \t\n\r"
# How deep the parser goes depends on who calls it and on Python's version; the reason must not.
_DEEPEST = 500


def _decoded(value: bytes | None) -> str:
    if value is None:
        raise Refused(Rejection.NULL_MESSAGE)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused(Rejection.NOT_JSON) from None


def _flat_object(text: str) -> _Object:
    """The pairs of a text that is one JSON object without objects and arrays in it."""
    text = text.strip(_JSON_SPACE)
    try:
        document, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        raise Refused(Rejection.NOT_JSON) from None
    has_rest = end < len(text)
    if not _is_flat(document):
        if has_rest or _depth(document) > _DEEPEST:
            raise Refused(Rejection.NOT_JSON)
        raise Refused(Rejection.NESTED_VALUE if isinstance(document, _Object) else Rejection.NOT_AN_OBJECT)
    if not _is_text(document):
        raise Refused(Rejection.NOT_JSON)
    if has_rest:
        raise Refused(Rejection.TEXT_AFTER_OBJECT)
    return document


def _is_flat(document: Any) -> bool:
    return isinstance(document, _Object) and not any(isinstance(given, list) for _, given in document)


def _depth(document: Any) -> int:
    depth, level = 0, [document]
    while level := [
        pair[1] if isinstance(outer, _Object) else pair
        for outer in level
        if isinstance(outer, list)
        for pair in outer
    ]:
        depth += 1
    return depth


def _is_text(flat: _Object) -> bool:
    """Whether all of its texts consist of characters."""
    try:
        for key, given in flat:
            key.encode()
            if isinstance(given, str):
                given.encode()
    except UnicodeEncodeError:
        return False
    return True


_MAY_BE_NUMBERS = {"TransactionID", "UserID", "Amount"}


def _texts(pairs: _Object) -> dict[str, str | None]:
    """The seven fields as text: trimmed, names in their one spelling; None where missing or empty."""
    given = dict(pairs)
    if len(given) < len(pairs):
        raise Refused(Rejection.KEY_GIVEN_TWICE)
    values = {field.name: given.get(field.name) for field in FIELDS}
    for name, value in values.items():
        if isinstance(value, bool) or (isinstance(value, _Number) and name not in _MAY_BE_NUMBERS):
            raise Refused(Rejection.WRONG_TYPE)
    trimmed = {name: str(value).strip() or None if value else None for name, value in values.items()}
    return {
        name: spelling(name, text) if text and name in KNOWN_NAMES else text for name, text in trimmed.items()
    }


_SPELLINGS = canonical_names()


def spelling(field: str, name: str) -> str:
    """A trimmed name of a city, device or merchant as it is stored: a known one in its one spelling, another
    with one space for each inner run of white space."""
    return _SPELLINGS[field].get(fold(name)) or " ".join(name.split())


_MISSING = {
    "TransactionID": Rejection.MISSING_TRANSACTION_ID,
    "UserID": Rejection.MISSING_USER_ID,
    "Amount": Rejection.MISSING_AMOUNT,
    "Time": Rejection.MISSING_TIME,
}


def _require_presence_and_length(texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        if text is None:
            if name in _MISSING:
                raise Refused(_MISSING[name])
        elif len(text) > MAX_LENGTH[name]:
            raise Refused(Rejection.FIELD_TOO_LONG, f"{name} has more than {MAX_LENGTH[name]} characters")


# --- amounts -------------------------------------------------------------------------------------
# Plain digits, or groups of three behind one kind of separator; `1.234,56` and `1,23` stay ambiguous
# and are refused. An exponent has at most three digits: more would only be an expensive zero or infinity.
_SEPARATORS = ",'_ \u00a0\u202f"
_GROUPED = "|".join(rf"[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+" for mark in (",", "[ \u00a0\u202f]", "'", "_"))
_AMOUNT = re.compile(rf"[+-]?(?:{_GROUPED}|[0-9]+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{{1,3}})?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_WITHOUT_SEPARATORS = str.maketrans("", "", _SEPARATORS)
_CENTS = Decimal("0.01")
# Digits enough for each text that a field may hold, so that only the quantizing rounds.
_EXACT = Context(prec=2 * MAX_LENGTH["Amount"])


def _amount(text: str) -> Decimal:
    """In cents, rounded half up."""
    if _NOT_FINITE.fullmatch(text):
        raise Refused(Rejection.AMOUNT_NOT_FINITE, text)
    if not _AMOUNT.fullmatch(text):
        raise Refused(Rejection.AMOUNT_NOT_A_NUMBER, text)
    amount = Decimal(text.translate(_WITHOUT_SEPARATORS))
    if amount < 0:
        raise Refused(Rejection.AMOUNT_NEGATIVE, text)
    # The power first: Python would write 1e999 out.
    if amount and amount.adjusted() > MAX_AMOUNT.adjusted():
        raise Refused(Rejection.AMOUNT_TOO_LARGE, text)
    rounded = abs(amount or Decimal(0)).quantize(_CENTS, ROUND_HALF_UP, _EXACT)
    if rounded > MAX_AMOUNT:
        raise Refused(Rejection.AMOUNT_TOO_LARGE, text)
    return rounded


# --- times ---------------------------------------------------------------------------------------
# 2025-01-31 10:20:30, with `T` or `/`, seconds optional, a fraction that is cut, and an optional offset.
_TIME = re.compile(
    r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(?:[.,][0-9]{1,9})?"
    r"[ ]?(?:(Z)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
_LARGEST_OFFSET = timedelta(hours=18)  # as ISO 8601 is commonly read: java.time.ZoneOffset has it too
_LATEST_YEAR = MAXYEAR - 1  # an offset cannot lead out of Python's years


def _time(text: str, kafka_time: datetime, zone: ZoneInfo) -> datetime:
    """Local time in `zone`."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise Refused(Rejection.TIME_UNPARSABLE, text)
    try:
        written = _calendar_time(*(int(parts[group] or 0) for group in (1, 3, 4, 5, 6, 7)))
        offset = _offset(parts[8], parts[9], int(parts[10] or 0), int(parts[11] or 0))
    except ValueError:
        raise Refused(Rejection.TIME_UNPARSABLE, text) from None
    if written.year < EARLIEST_TIME.year - 1:
        raise Refused(Rejection.TIME_BEFORE_2000, text)
    if written.year > _LATEST_YEAR:
        raise Refused(Rejection.TIME_IN_FUTURE, text)
    time = written if offset is None else _local(written.replace(tzinfo=offset), zone)
    if time < EARLIEST_TIME:
        raise Refused(Rejection.TIME_BEFORE_2000, text)
    if time > _local(kafka_time, zone) + MAX_AHEAD_OF_KAFKA:
        raise Refused(Rejection.TIME_IN_FUTURE, text)
    return time


def _calendar_time(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime:
    """Raises ValueError for a time that no calendar has; the year 0, unknown to Python, is taken for 4."""
    return datetime(year or 4, month, day, hour, minute, second)  # noqa: DTZ001 - local in a zone kept apart


def _offset(utc: str | None, sign: str | None, hours: int, minutes: int) -> timezone | None:
    """Raises ValueError for more than a zone can have; None where nothing was written."""
    if not utc and not sign:
        return None
    ahead = timedelta(hours=hours, minutes=minutes)
    if minutes > 59 or ahead > _LARGEST_OFFSET:
        raise ValueError("no zone is that far from UTC")
    return timezone(-ahead if sign == "-" else ahead)


def _local(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)
