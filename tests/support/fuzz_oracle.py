"""What must become of one record, by the documented rules in plain Python, without the cleaning's code.

Where the rules leave the reason open (a text that breaks two of them at once), a verdict has several.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal

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
_DEEPEST = 500


@dataclass(frozen=True)
class Verdict:
    """The row to store, or else the reasons of which one must be given."""

    row: Row | None
    reasons: frozenset[Rejection] = frozenset()


class _Refused(Exception):
    def __init__(self, *reasons: Rejection) -> None:
        super().__init__(*reasons)
        self.reasons = frozenset(reasons)


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
    pairs = _pairs(value)
    if len({key for key, _ in pairs}) < len(pairs):
        raise _Refused(Rejection.KEY_GIVEN_TWICE)
    known = {key: given for key, given in pairs if key in _LONGEST and given != "null"}
    for name, given in known.items():
        is_text, is_number = given.startswith('"'), given not in ("true", "false")
        if not (is_text or (is_number and name in _MAY_BE_NUMBERS)):
            raise _Refused(Rejection.WRONG_TYPE)
    trimmed = {name: _plain(given).strip() for name, given in known.items()}
    return {name: given for name, given in trimmed.items() if given}


# The grammar of RFC 8259 for one object of scalars, without half of a surrogate pair.
_WS = r"[ \t\n\r]*+"
_STRING = (
    r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r'|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"'
)
_SCALAR = rf"{_STRING}|-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|true|false|null"
_PAIR = rf"{_WS}{_STRING}{_WS}:{_WS}(?:{_SCALAR}){_WS}"
_KEY_AND_VALUE = rf"({_STRING}){_WS}:{_WS}({_SCALAR})"
_OBJECT = re.compile(rf"{_WS}\{{(?:{_WS}|{_PAIR}(?:,{_PAIR})*+)\}}{_WS}")
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _pairs(value: bytes) -> list[tuple[str, str]]:
    """Each key, and its value as it is written."""
    try:
        text = value.decode()
    except ValueError:
        raise _Refused(Rejection.NOT_JSON) from None
    if not _OBJECT.fullmatch(text):
        raise _Refused(Rejection.TEXT_AFTER_OBJECT if _OBJECT.match(text) else _reason_of_other_shape(text))
    return [(_plain(key), given) for key, given in re.findall(_KEY_AND_VALUE, text)]


def _plain(given: str) -> str:
    """A string without its quotation marks and escapes; a number as it is."""
    if not given.startswith('"'):
        return given
    units = re.sub(
        r"\\(?:u(.{4})|(.))",
        lambda escape: chr(int(escape[1], 16)) if escape[1] else _SHORT_ESCAPES.get(escape[2], escape[2]),
        given[1:-1],
    )
    return units.encode("utf-16", "surrogatepass").decode("utf-16")


def _reason_of_other_shape(text: str) -> Rejection:
    if _depth(text) > _DEEPEST:
        return Rejection.NOT_JSON
    try:
        document = json.loads(text, parse_int=str, parse_constant=_refuse_constant)
    except ValueError:
        return Rejection.NOT_JSON
    if not isinstance(document, dict):
        return Rejection.NOT_AN_OBJECT
    # A flat one that the grammar does not know has half of a surrogate pair.
    return (
        Rejection.NESTED_VALUE if re.search(r"[\[{]", re.sub(_STRING, "", text)[1:]) else Rejection.NOT_JSON
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _depth(text: str) -> int:
    brackets = re.sub(r"[^\[\]{}]", "", re.sub(_STRING, "", text))
    depths = itertools.accumulate(1 if bracket in "[{" else -1 for bracket in brackets)
    return max(depths, default=0)


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
