"""What must become of one record, by the documented rules in plain Python, without the cleaning's code.

Where the rules leave the reason open (a text that breaks two of them at once), a verdict has several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from fraudstream.schema import Rejection
from tests.support.oracle import Row

_LONGEST_MESSAGE = 65_536
_NAMES = {
    "Location": ("Cairo", "Giza", "Alex", "Luxor", "Aswan", "Sharm", "Hurghada"),
    "Device": ("Android", "iOS", "Web", "Windows"),
    "Merchant": ("Amazon", "Jumia", "Noon", "Souq", "AliExpress", "eBay", "LocalStore"),
}
_LONGEST = {
    "TransactionID": 64, "UserID": 64, "Amount": 64, "Location": 128, "Time": 64, "Device": 128,
    "Merchant": 128,
}  # fmt: skip
_MISSING = {
    "TransactionID": Rejection.MISSING_TRANSACTION_ID,
    "UserID": Rejection.MISSING_USER_ID,
    "Amount": Rejection.MISSING_AMOUNT,
    "Time": Rejection.MISSING_TIME,
}
_MAY_BE_NUMBERS = {"TransactionID", "UserID", "Amount"}
_NOT_FLAT = frozenset({Rejection.NOT_JSON, Rejection.NESTED_VALUE, Rejection.NOT_AN_OBJECT})


@dataclass(frozen=True)
class Verdict:
    """The row to store, or else the reasons of which one must be given."""

    row: Row | None
    reasons: frozenset[Rejection] = frozenset()


class _Refused(Exception):
    def __init__(self, *reasons: Rejection) -> None:
        super().__init__(*reasons)
        self.reasons = frozenset(reasons)


class _Number(str):
    """A JSON number, as it was written."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, with keys that came twice."""


def verdict(value: bytes | None, kafka_time: datetime) -> Verdict:
    """The verdict on a record's value; `kafka_time` in UTC, which is also the zone of the data."""
    try:
        return Verdict(_row(_fields(value), kafka_time))
    except _Refused as refused:
        return Verdict(None, refused.reasons)


def _fields(value: bytes | None) -> dict[str, str]:
    """The texts of the known fields, trimmed; those that are missing or empty are left out."""
    if value is None:
        raise _Refused(Rejection.NULL_MESSAGE)
    if len(value) > _LONGEST_MESSAGE:
        raise _Refused(Rejection.MESSAGE_TOO_LONG)
    pairs = _flat_object(value)
    if len({key for key, _ in pairs}) < len(pairs):
        raise _Refused(Rejection.KEY_GIVEN_TWICE)
    known = {key: given for key, given in pairs if key in _LONGEST and given is not None}
    for name, given in known.items():
        if isinstance(given, bool) or (isinstance(given, _Number) and name not in _MAY_BE_NUMBERS):
            raise _Refused(Rejection.WRONG_TYPE)
    trimmed = {name: str(given).strip() for name, given in known.items()}
    return {name: given for name, given in trimmed.items() if given}


def _flat_object(value: bytes) -> _Pairs:
    try:
        text = value.decode()
        body = text.lstrip(" \t\r\n")
        document, end = _DECODER.raw_decode(body)
    except RecursionError:
        raise _Refused(*_NOT_FLAT) from None
    except ValueError:
        raise _Refused(Rejection.NOT_JSON) from None
    rest = body[end:].strip(" \t\r\n")
    if any(_is_lone_surrogate(each) for each in _texts(document)):
        raise _Refused(Rejection.NOT_JSON, *(() if _is_flat(document) else _NOT_FLAT))
    if not _is_flat(document):
        raise _Refused(*_reasons_of_other_shape(document, rest))
    if rest:
        raise _Refused(Rejection.TEXT_AFTER_OBJECT)
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)


def _is_flat(document: Any) -> bool:
    return isinstance(document, _Pairs) and not any(isinstance(given, list) for _, given in document)


def _reasons_of_other_shape(document: Any, rest: str) -> Iterable[Rejection]:
    if rest:
        return {Rejection.NOT_JSON}
    plain = Rejection.NESTED_VALUE if isinstance(document, _Pairs) else Rejection.NOT_AN_OBJECT
    # Beyond some depth or length of a number, or with a key twice inside, a parser may call it no JSON.
    return {plain} if _is_modest(document) else {plain, Rejection.NOT_JSON}


def _is_modest(document: Any, depth: int = 0) -> bool:
    if isinstance(document, _Pairs):
        keys = [key for key, _ in document]
        inside = [given for _, given in document]
        return len(set(keys)) == len(keys) and all(_is_modest(each, depth + 1) for each in inside)
    if isinstance(document, list):
        return depth < 100 and all(_is_modest(each, depth + 1) for each in document)
    return not isinstance(document, _Number) or len(document) < 20


def _texts(document: Any) -> Iterable[str]:
    waiting = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)


def _is_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _row(fields: dict[str, str], kafka_time: datetime) -> Row:
    named = {name: _spelling(name, text) if name in _NAMES else text for name, text in fields.items()}
    for name, longest in _LONGEST.items():
        if name in _MISSING and name not in named:
            raise _Refused(_MISSING[name])
        if len(named.get(name, "")) > longest:
            raise _Refused(Rejection.FIELD_TOO_LONG)
    return (
        named["TransactionID"],
        named["UserID"],
        _amount(named["Amount"]),
        named.get("Location"),
        _time(named["Time"], kafka_time),
        named.get("Device"),
        named.get("Merchant"),
    )


def _spelling(field: str, text: str) -> str:
    folded = "".join(text.casefold().split())
    return next((name for name in _NAMES[field] if name.casefold() == folded), " ".join(text.split()))


_PLAIN_AMOUNT = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+"
    r"|[0-9]{1,3}(?:'[0-9]{3})+|[0-9]{1,3}(?:_[0-9]{3})+)(?:\.(?P<cents>[0-9]*))?(?:[eE](?P<power>[+-]?[0-9]{1,3}))?"
)
_EXACT = Context(prec=2_000)


def _amount(text: str) -> Decimal:
    if text.lstrip("+-").lower() in ("nan", "inf", "infinity") and text[1:2] not in ("+", "-"):
        raise _Refused(Rejection.AMOUNT_NOT_FINITE)
    parts = _PLAIN_AMOUNT.fullmatch(text)
    if parts is None:
        raise _Refused(Rejection.AMOUNT_NOT_A_NUMBER)
    digits = "".join(filter(str.isdigit, parts["whole"])) + "." + (parts["cents"] or "0")
    unsigned = _EXACT.create_decimal(f"{digits}e{parts['power'] or 0}")
    if parts["sign"] == "-" and unsigned:
        raise _Refused(Rejection.AMOUNT_NEGATIVE)
    rounded = unsigned.quantize(Decimal("0.01"), ROUND_HALF_UP, _EXACT)
    if rounded > Decimal("999999999999.99"):
        raise _Refused(Rejection.AMOUNT_TOO_LARGE)
    return rounded


_WRITTEN_TIME = re.compile(
    r"(\d{4})([-/])(\d\d)\2(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?(?:[.,]\d{1,9})?"
    r" ?(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)


def _time(text: str, kafka_time: datetime) -> datetime:
    parts = _WRITTEN_TIME.fullmatch(text)
    if parts is None:
        raise _Refused(Rejection.TIME_UNPARSABLE)
    year, _, month, day, hour, minute, second, _, sign, off_hours, off_minutes = parts.groups()
    ahead = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
    if int(off_minutes or 0) > 59 or ahead > timedelta(hours=18):
        raise _Refused(Rejection.TIME_UNPARSABLE)
    try:
        # The year 2000 or 2001 in place of another of the same kind: Python knows neither 0 nor 10000.
        leap = int(year) % 4 == 0 and (int(year) % 100 != 0 or int(year) % 400 == 0)
        datetime(2000 if leap else 2001, int(month), int(day), int(hour), int(minute), int(second or 0))  # noqa: DTZ001
    except ValueError:
        raise _Refused(Rejection.TIME_UNPARSABLE) from None
    if int(year) < 1999:
        raise _Refused(Rejection.TIME_BEFORE_2000)
    if int(year) > kafka_time.year + 1:
        raise _Refused(Rejection.TIME_IN_FUTURE)
    written = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)
    time = written + ahead if sign == "-" else written - ahead
    if time.year < 2000:
        raise _Refused(Rejection.TIME_BEFORE_2000)
    if time > kafka_time + timedelta(days=1):
        raise _Refused(Rejection.TIME_IN_FUTURE)
    return time.replace(tzinfo=None)
