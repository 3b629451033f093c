"""Every rule of the cleaning, by table. All records of all tables are cleaned together: that none of the
bad ones changes what becomes of another is part of what each case shows."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.cleaning import clean
from fraudstream.parsing import Refused, parse, require_length
from fraudstream.schema import (
    CLEANED_ARROW,
    FIELD_NAMES,
    KNOWN_NAMES,
    LATEST_KAFKA_TIME,
    MAX_MESSAGE_BYTES,
    RECORD_ARROW,
    WHITESPACE,
    Rejection,
    fold,
)

KAFKA_TIME = datetime(2026, 1, 1, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
KEY = b"\x00key\xff"

USUAL = {
    "TransactionID": '"T1"',
    "UserID": '"U1"',
    "Amount": "12.5",
    "Location": '"Cairo"',
    "Time": '"2025-01-02 03:04:05"',
    "Device": '"iOS"',
    "Merchant": '"Amazon"',
}
USUAL_CLEANED = {
    "TransactionID": "T1",
    "UserID": "U1",
    "Amount": Decimal("12.50"),
    "Location": "Cairo",
    "Time": datetime.fromisoformat("2025-01-02 03:04:05"),
    "Device": "iOS",
    "Merchant": "Amazon",
}

Row = dict[str, Any]


def message(without: str = "", **json_texts: str) -> bytes:
    """The usual transaction with some values replaced by other JSON texts, or one key left out."""
    pairs = {name: text for name, text in {**USUAL, **json_texts}.items() if name != without}
    return ("{" + ",".join(f'"{name}":{text}' for name, text in pairs.items()) + "}").encode()


@dataclass(frozen=True)
class Case:
    name: str
    value: bytes | None
    rejection: Rejection | None = None
    fields: Row = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def rejected(name: str, value: bytes | None, rejection: Rejection) -> Case:
    return Case(name, value, rejection)


def usable(name: str, value: bytes, **fields: Any) -> Case:
    return Case(name, value, None, {**USUAL_CLEANED, **fields})


def in_field(field_name: str, written: str, expected: Any) -> Case:
    """`written` is a JSON text; `expected` the cleaned value, or the Rejection."""
    name, value = f"{field_name}={written[:60]}", message(**{field_name: written})
    if isinstance(expected, Rejection):
        return rejected(name, value, expected)
    return usable(name, value, **{field_name: expected})


SHAPES = [
    rejected("null message", None, Rejection.NULL_MESSAGE),
    rejected("empty message", b"", Rejection.NOT_JSON),
    rejected("blank message", b"  \n", Rejection.NOT_JSON),
    rejected("plain text", b"hello", Rejection.NOT_JSON),
    rejected("cut off", message()[:-3], Rejection.NOT_JSON),
    rejected("single quotes", message().replace(b'"', b"'"), Rejection.NOT_JSON),
    rejected("comma at the end", message()[:-1] + b",}", Rejection.NOT_JSON),
    rejected("comment", message() + b"/* */", Rejection.TEXT_AFTER_OBJECT),
    rejected(
        "not UTF-8",
        message(UserID='"?"').replace(b"?", b"\xff"),
        Rejection.NOT_JSON,
    ),
    rejected("byte order mark", b"\xef\xbb\xbf" + message(), Rejection.NOT_JSON),
    rejected("NUL byte", message(UserID='"a\x00b"'), Rejection.NOT_JSON),
    rejected("line break in a text", message(UserID='"a\nb"'), Rejection.NOT_JSON),
    rejected("NaN as a number", message(Amount="NaN"), Rejection.NOT_JSON),
    rejected("leading zero", message(Amount="012"), Rejection.NOT_JSON),
    rejected("lone high surrogate", message(UserID=r'"\ud800"'), Rejection.NOT_JSON),
    rejected("lone low surrogate", message(UserID=r'"x\udc00y"'), Rejection.NOT_JSON),
    rejected("surrogates swapped", message(UserID=r'"\udc00\ud800"'), Rejection.NOT_JSON),
    rejected("array", b"[" + message() + b"]", Rejection.NOT_AN_OBJECT),
    rejected("empty array", b"[]", Rejection.NOT_AN_OBJECT),
    rejected("number", b"1", Rejection.NOT_AN_OBJECT),
    rejected("text", b'"x"', Rejection.NOT_AN_OBJECT),
    rejected("null", b"null", Rejection.NOT_AN_OBJECT),
    rejected("text after the object", message() + b" x", Rejection.TEXT_AFTER_OBJECT),
    rejected("two objects", message() + message(), Rejection.TEXT_AFTER_OBJECT),
    rejected("key twice", message()[:-1] + b',"Amount":1}', Rejection.KEY_GIVEN_TWICE),
    rejected("key twice, equal", message()[:-1] + b',"Amount":12.5}', Rejection.KEY_GIVEN_TWICE),
    rejected("unknown key twice", message()[:-1] + b',"x":1,"x":2}', Rejection.KEY_GIVEN_TWICE),
    rejected("key twice, once escaped", message()[:-1] + rb',"\u0041mount":1}', Rejection.KEY_GIVEN_TWICE),
    rejected("1 MB of text", message(UserID=f'"{"x" * 1_000_000}"'), Rejection.MESSAGE_TOO_LONG),
    rejected("1 MB of brackets", b"[" * 1_000_000, Rejection.MESSAGE_TOO_LONG),
    rejected(
        "a byte too long",
        message() + b" " * (MAX_MESSAGE_BYTES + 1 - len(message())),
        Rejection.MESSAGE_TOO_LONG,
    ),
    usable("as long as may be", message() + b" " * (MAX_MESSAGE_BYTES - len(message()))),
    rejected("deep nesting", b'{"a":' * 100 + b"1" + b"}" * 100, Rejection.NESTED_VALUE),
    rejected("as deep as may be", b'{"a":' * 500 + b"1" + b"}" * 500, Rejection.NESTED_VALUE),
    rejected("a level too deep", b'{"a":' * 501 + b"1" + b"}" * 501, Rejection.NOT_JSON),
    rejected("deepest nesting", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, Rejection.NOT_JSON),
    rejected("nesting left open", b'{"a":' * 10_000, Rejection.NOT_JSON),
    rejected("thousands of escapes", message(UserID='"' + r"\n" * 30_000), Rejection.NOT_JSON),
    rejected("object in an unknown field", message()[:-1] + b',"x":{}}', Rejection.NESTED_VALUE),
    usable(
        "white space around",
        b" \t\r\n" + message().replace(b":", b" : ").replace(b"03 : 04 : 05", b"03:04:05") + b"\n",
    ),
    usable("unknown keys", message()[:-1] + b',"x":1,"amount":true}'),
    usable("keys in another order", b"{" + b",".join(reversed(message()[1:-1].split(b","))) + b"}"),
    usable("surrogate pair", message(UserID=r'"\ud83d\ude00"'), UserID="\U0001f600"),
    usable("escapes", message(UserID=r'"a\"b\\\/\u0041\u00e9"'), UserID='a"b\\/Aé'),
    usable("escaped NUL", message(UserID=r'"a\u0000b"'), UserID="a\0b"),
    usable("keys with escapes", message().replace(b'"Amount":12.5', rb'"\u0041mo\u0075\u006Et":12.50')),
    usable("a long number under another key", message()[:-1] + b',"x":' + b"9" * 2_000 + b"}"),
    rejected(
        "key twice beside a long number",
        message()[:-1] + b',"Amount":1,"x":' + b"9" * 2_000 + b"}",
        Rejection.KEY_GIVEN_TWICE,
    ),
    usable("keys inside a text", message(Merchant=r'"x, \"Amount\": true"'), Merchant='x, "Amount": true'),
]

TYPES = (
    [
        in_field(name, written, Rejection.WRONG_TYPE)
        for name, texts in {
            "TransactionID": ("true", "false"),
            "UserID": ("true",),
            "Amount": ("true", "false"),
            "Location": ("true", "5", "-1"),
            "Time": ("1735787045", "false"),
            "Device": ("0",),
            "Merchant": ("12.5", "true"),
        }.items()
        for written in texts
    ]
    + [
        rejected(
            f"{name}={written}, its key with escapes",
            message(without=name)[:-1] + f',"\\u{ord(name[0]):04x}{name[1:]}":{written}}}'.encode(),
            Rejection.WRONG_TYPE,
        )
        for name, written in (
            ("TransactionID", "true"),
            ("UserID", "false"),
            ("Location", "5"),
            ("Time", "1e400"),
        )
    ]
    + [
        in_field(name, written, Rejection.NESTED_VALUE)
        for name in FIELD_NAMES
        for written in ("{}", "[1]", '{"a":"b"}')
    ]
)

MISSING = [
    case
    for name, rejection in {
        "TransactionID": Rejection.MISSING_TRANSACTION_ID,
        "UserID": Rejection.MISSING_USER_ID,
        "Amount": Rejection.MISSING_AMOUNT,
        "Time": Rejection.MISSING_TIME,
    }.items()
    for case in (
        rejected(f"without {name}", message(without=name), rejection),
        *(in_field(name, written, rejection) for written in ("null", '""', '"  \\t"', '"\\u3000"')),
    )
] + [
    case
    for name in ("Location", "Device", "Merchant")
    for case in (
        usable(f"without {name}", message(without=name), **{name: None}),
        *(in_field(name, written, None) for written in ("null", '""', '" \\n "')),
    )
]

LENGTHS = [
    case
    for name, limit in {
        "TransactionID": 64,
        "UserID": 64,
        "Location": 128,
        "Device": 128,
        "Merchant": 128,
    }.items()
    for case in (
        in_field(name, json.dumps("é" * limit), "é" * limit),
        in_field(name, json.dumps(f"  {'x' * limit}  "), "x" * limit),
        in_field(name, json.dumps("x" * (limit + 1)), Rejection.FIELD_TOO_LONG),
    )
] + [
    in_field("Amount", "1" * 65, Rejection.FIELD_TOO_LONG),
    in_field("Time", json.dumps("2" * 65), Rejection.FIELD_TOO_LONG),
]

IDS = [
    in_field("TransactionID", "7", "7"),
    in_field("TransactionID", "0.10", "0.10"),
    in_field("TransactionID", "-0", "-0"),
    in_field("TransactionID", "1e5", "1e5"),
    usable(
        "an id as a number, its key with an escape",
        message().replace(b'"TransactionID":"T1"', rb'"\u0054ransactionID":0.10'),
        TransactionID="0.10",
    ),
    in_field("TransactionID", "1234567890" * 5, "1234567890" * 5),
    in_field("UserID", "12345678901234567890.10", "12345678901234567890.10"),
    in_field("UserID", '"007"', "007"),
    in_field("TransactionID", '"txn1"', "txn1"),
    in_field("TransactionID", '"TXN1"', "TXN1"),
    in_field("TransactionID", '"txné"', "txné"),
    in_field("TransactionID", '"txn\u0065\u0301"', "txne\u0301"),
    in_field("TransactionID", '"TXN1 "', "TXN1"),
    in_field("TransactionID", '"TXN 1"', "TXN 1"),
    in_field("TransactionID", '"TXN  1"', "TXN  1"),
]

AMOUNTS = [
    in_field("Amount", written, Decimal(expected))
    for written, expected in {
        "2000": "2000.00",
        "2000.00": "2000.00",
        "2000.004": "2000.00",
        "2000.0049999999999999999": "2000.00",
        "2000.005": "2000.01",
        "0": "0.00",
        "-0": "0.00",
        "-0.0": "0.00",
        "0.005": "0.01",
        "1.115": "1.12",
        "1e3": "1000.00",
        "1.5E+2": "150.00",
        "1e-999": "0.00",
        "0e999": "0.00",
        '"-0.00E+99"': "0.00",
        "999999999999.99": "999999999999.99",
        "999999999999.994": "999999999999.99",
        '"12.5"': "12.50",
        '"  5 "': "5.00",
        '"+5"': "5.00",
        '"5."': "5.00",
        '"007"': "7.00",
        '"1 234.5"': "1234.50",
        '"1,234.565"': "1234.57",
        '"1,234,567"': "1234567.00",
        '"12 345 678.9"': "12345678.90",
        '"1\u00a0234"': "1234.00",
        '"1\u202f234"': "1234.00",
        '"1\'234.50"': "1234.50",
        '"1_234"': "1234.00",
    }.items()
] + [
    in_field("Amount", written, rejection)
    for rejection, texts in {
        Rejection.AMOUNT_NOT_A_NUMBER: (
            '"abc"',
            '"$5"',
            '"5 EGP"',
            '".5"',
            '"1,23"',
            '"1,2345"',
            '"12,34,567"',
            '"1234,567"',
            '",123"',
            '"1,234 567"',
            '"1,234_567"',
            '"1.234,56"',
            '"1.234.567"',
            '"1  234"',
            '"1e"',
            '"1e1000"',
            '"0x1F"',
            '"5d"',
            '"--5"',
            '"- 5"',
            '"\u0661\u0662"',
            '"\uff15"',
            '"1\\n2"',
        ),
        Rejection.AMOUNT_NOT_FINITE: ('"NaN"', '"nan"', '"inf"', '"-Infinity"', '"+INF"'),
        Rejection.AMOUNT_NEGATIVE: ("-1", "-0.001", '"-1,234.50"', "-1e-999", "-1e999"),
        Rejection.AMOUNT_TOO_LARGE: (
            "999999999999.995",
            "1000000000000",
            "1e12",
            "1e40",
            "1e999",
            "9" * 60,
        ),
    }.items()
    for written in texts
]

TIMES = [
    in_field("Time", json.dumps(written), datetime.fromisoformat(expected))
    for written, expected in {
        "2025-01-31 10:20:30": "2025-01-31 10:20:30",
        "2025-01-31T10:20:30": "2025-01-31 10:20:30",
        "2025/01/31 10:20:30": "2025-01-31 10:20:30",
        "2025/01/31T10:20": "2025-01-31 10:20:00",
        "2025-01-31 10:20": "2025-01-31 10:20:00",
        " 2025-01-31 10:20:30\t": "2025-01-31 10:20:30",
        "2025-01-31 10:20:30.999999999": "2025-01-31 10:20:30",
        "2025-01-31 10:20:30,5": "2025-01-31 10:20:30",
        "2025-01-31T10:20:30Z": "2025-01-31 10:20:30",
        "2025-01-31T10:20:30.999Z": "2025-01-31 10:20:30",
        "2025-01-31T10:20:30+02:00": "2025-01-31 08:20:30",
        "2025-01-31 10:20:30 +0230": "2025-01-31 07:50:30",
        "2025-01-31T10:20:30-03": "2025-01-31 13:20:30",
        "2025-01-31T23:59:59-00:30": "2025-02-01 00:29:59",
        **{f"2024-{month:02}-30 00:00:00": f"2024-{month:02}-30 00:00:00" for month in (1, *range(3, 13))},
        **{
            f"2025-{month:02}-31 00:00:00": f"2025-{month:02}-31 00:00:00"
            for month in (1, 3, 5, 7, 8, 10, 12)
        },
        "2024-02-29 00:00:00": "2024-02-29 00:00:00",
        "2000-01-01 00:00:00": "2000-01-01 00:00:00",
        "2000-01-01T02:00:00+02:00": "2000-01-01 00:00:00",
        "2026-01-02 00:00:00": "2026-01-02 00:00:00",
        "2026-01-02T02:00:00+02:00": "2026-01-02 00:00:00",
    }.items()
] + [
    in_field("Time", json.dumps(written), rejection)
    for rejection, texts in {
        Rejection.TIME_UNPARSABLE: (
            "yesterday",
            "2025-02-30 00:00:00",
            "2025-02-29 00:00:00",
            *(f"2025-{month:02}-31 00:00:00" for month in (2, 4, 6, 9, 11)),
            "2025-13-01 00:00:00",
            "2025-00-10 00:00:00",
            "2025-01-02 24:00:00",
            "2025-01-02 23:60:00",
            "2025-01-02 23:59:60",
            "2025-01-02",
            "10:20:30",
            "T10:20:30",
            "2025-1-2 3:04:05",
            "02/01/2025 03:04:05",
            "01-02-2025 03:04:05",
            "2025-01/02 03:04:05",
            "2025.01.02 03:04:05",
            "2025-01-02  03:04:05",
            "2025-01-02 03:04:05 PM",
            "2025-01-02 03:04:05z",
            "2025-01-02 03:04:05 UTC",
            "2025-01-02 03:04:05+25:00",
            "2025-01-02 03:04:05.",
            "20250102T030405",
            "1735787045",
            "+2025-01-02 03:04:05",
            "12025-01-02 03:04:05",
            "\u0662\u0660\u0662\u0665-01-02 03:04:05",
        ),
        Rejection.TIME_BEFORE_2000: (
            "1999-12-31 23:59:59",
            "2000-01-01T01:59:59+02:00",
            "0001-01-01 00:00:00",
        ),
        Rejection.TIME_IN_FUTURE: (
            "2026-01-02 00:00:01",
            "2026-01-01T23:00:01-01:00",
            "9999-12-31 23:59:59",
        ),
    }.items()
    for written in texts
]

NAMES = (
    [
        in_field(name, json.dumps(written(spelling)), spelling)
        for name, spellings in KNOWN_NAMES.items()
        for spelling in spellings
        for written in (str.upper, str.lower, str.swapcase, " ".join, lambda text: f"\t{text.title()} \u3000")
    ]
    + [
        in_field("Device", '" IOS"', "iOS"),
        in_field("Merchant", '"EBAY"', "eBay"),
        in_field("Merchant", '"Local Store"', "LocalStore"),
        in_field("Merchant", '"local\\u00a0 \\tSTORE"', "LocalStore"),
        in_field("Location", '"Port  \\t Said"', "Port Said"),
        in_field("Location", '"port said"', "port said"),
        in_field("Merchant", '"  Corner\\u2003\\u2003Shop "', "Corner Shop"),
        in_field("Location", '"Cair\\u00f3"', "Cair\u00f3"),
        in_field("Location", '"Cairo-East"', "Cairo-East"),
        in_field("Device", '"Amazon"', "Amazon"),
    ]
    + [
        in_field("Location", json.dumps(text), "Giza" if fold(text) == fold("Giza") else text)
        for text in ("G\u0131za", "G\u0130ZA", "gIzA")
    ]
    + [
        in_field("Location", json.dumps(text), "Aswan" if fold(text) == fold("Aswan") else text)
        for text in ("a\u017fwan", "A\u1e9ewan", "A\u00dfwan")
    ]
)

SPACES = [
    case
    for character in WHITESPACE
    for case in (
        in_field("UserID", json.dumps(f"{character}U{character}1{character}"), f"U{character}1"),
        in_field("Location", json.dumps(f"{character}A{character}{character}b{character}"), "A b"),
    )
] + [
    in_field("UserID", json.dumps(f"{character}U{character}"), f"{character}U{character}")
    for character in ("\u200b", "\u180e", "\ufeff", "\0", "\x7f")
]

CASES = [*SHAPES, *TYPES, *MISSING, *LENGTHS, *IDS, *AMOUNTS, *TIMES, *NAMES, *SPACES]


def records(values: list[bytes | None]) -> pa.Table:
    """Rows as Kafka has them; the offset is the position in the list."""
    rows = [
        {"key": KEY, "value": value, "partition": 3, "offset": offset, "timestamp": KAFKA_TIME}
        for offset, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, RECORD_ARROW)


def cleaned(values: list[bytes | None], zone: ZoneInfo = UTC_ZONE) -> list[Row]:
    """One row a value, in their order."""
    table = clean(records(values), zone)
    assert table.schema == CLEANED_ARROW
    rows: list[Row] = table.sort_by("offset").to_pylist()
    assert [row["offset"] for row in rows] == list(range(len(values)))
    return rows


@pytest.fixture(scope="module")
def rows() -> dict[int, Row]:
    """What became of each case, by its place in CASES."""
    return dict(enumerate(cleaned([case.value for case in CASES])))


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=lambda part: str(part)[:60])
def test_each_record_is_cleaned_or_refused_by_rule(number: int, case: Case, rows: dict[int, Row]) -> None:
    row = rows[number]
    assert row["rejection"] == (case.rejection.value if case.rejection else None), row
    assert (row["partition_id"], row["offset"], row["kafka_time"]) == (3, number, KAFKA_TIME)
    if case.rejection:
        assert (row["key"], row["value"]) == (KEY, case.value and case.value[:MAX_MESSAGE_BYTES])
        assert {name: row[name] for name in FIELD_NAMES} == dict.fromkeys(FIELD_NAMES)
    else:
        assert {name: row[name] for name in FIELD_NAMES} == case.fields
        assert (row["key"], row["value"], row["detail"]) == (None, None, None)


def test_every_reason_is_in_the_tables() -> None:
    # A conflict shows only beside other rows: the tests of the scoring have it.
    assert {case.rejection for case in CASES} - {None} == set(Rejection) - {Rejection.CONFLICTING_DUPLICATE}


def test_white_space_is_what_python_strips() -> None:
    assert set(WHITESPACE) == {chr(point) for point in range(0x110000) if not chr(point).strip()}


def test_detail_names_the_field_or_shows_the_text(rows: dict[int, Row]) -> None:
    details = {str(case): rows[number]["detail"] for number, case in enumerate(CASES)}
    assert details["Time=" + json.dumps("2" * 65)[:60]] == "Time has more than 64 characters"
    assert details['Amount="1,23"'] == "1,23"
    assert details['Time="2025-02-30 00:00:00"'] == "2025-02-30 00:00:00"
    assert details["a byte too long"] == "value of 65537 bytes: only the first 65536 are kept"


def test_of_what_was_cut_before_the_whole_length_is_told() -> None:
    read = {"key": b"k" * (MAX_MESSAGE_BYTES + 1), "value": b"v" * (MAX_MESSAGE_BYTES + 1)}
    lengths = {"key_bytes": 100_000, "value_bytes": 17_000_000}
    origin = {"partition": 3, "offset": 0, "timestamp": KAFKA_TIME}
    table = pa.Table.from_pylist([{**read, **lengths, **origin}], RECORD_ARROW)
    [row] = clean(table, UTC_ZONE).to_pylist()
    assert row["rejection"] == Rejection.MESSAGE_TOO_LONG
    assert row["detail"] == "key of 100000 bytes and value of 17000000 bytes: only the first 65536 are kept"
    assert (row["key"], row["value"]) == (b"k" * MAX_MESSAGE_BYTES, b"v" * MAX_MESSAGE_BYTES)


@pytest.mark.parametrize("value", [message(), message(Amount="1e1"), None], ids=["usual", "odd", "none"])
def test_a_key_that_is_no_users_makes_a_message_too_long(value: bytes | None) -> None:
    def rejection(key: bytes) -> str | None:
        whole = records([value])
        keyed = whole.set_column(0, RECORD_ARROW.field("key"), [pa.array([key], pa.binary())])
        found: str | None = clean(keyed, UTC_ZONE)["rejection"][0].as_py()
        return found

    assert rejection(b"k" * (MAX_MESSAGE_BYTES + 1)) == Rejection.MESSAGE_TOO_LONG
    assert rejection(b"k" * MAX_MESSAGE_BYTES) == (None if value else Rejection.NULL_MESSAGE)


def test_times_are_in_the_zone_of_the_setting() -> None:
    expected: dict[str, datetime | Rejection] = {
        "2025-01-02 03:04:05": datetime.fromisoformat("2025-01-02 03:04:05"),
        "2025-01-02T03:04:05Z": datetime.fromisoformat("2025-01-02 05:04:05"),
        "2025-07-02T03:04:05Z": datetime.fromisoformat("2025-07-02 06:04:05"),
        "2025-07-02T03:04:05+03:00": datetime.fromisoformat("2025-07-02 03:04:05"),
        # The clocks skip this half hour; it is stored as written.
        "2025-04-25 00:30:00": datetime.fromisoformat("2025-04-25 00:30:00"),
        "1999-12-31T22:00:00Z": datetime.fromisoformat("2000-01-01 00:00:00"),
        "1999-12-31T21:59:59Z": Rejection.TIME_BEFORE_2000,
        "2026-01-02 02:00:00": datetime.fromisoformat("2026-01-02 02:00:00"),
        "2026-01-02 02:00:01": Rejection.TIME_IN_FUTURE,
        "2026-01-02T00:00:01Z": Rejection.TIME_IN_FUTURE,
    }
    found = cleaned([message(Time=json.dumps(text)) for text in expected], ZoneInfo("Africa/Cairo"))
    outcomes = {
        text: Rejection(row["rejection"]) if row["rejection"] else row["Time"]
        for text, row in zip(expected, found, strict=True)
    }
    assert outcomes == expected
    assert {row["kafka_time"] for row in found} == {KAFKA_TIME}


TEXTS = (
    "null",
    '""',
    '"  "',
    '"a"',
    '" a  b "',
    '"CAIRO"',
    '"ios "',
    '"\u00e9\u3000\u00e9"',
    '"x\\ty"',
    "7",
    "{}",
)
EDGES_OF_TIME = (
    "0000-02-29 00:00:00",
    "2024-02-29 00:00:00",
    "2025-04-26 00:00:00",
    "2025-04-26 00:59:59",
    "9999-12-31 23:59:59",
)
MOMENTS = st.datetimes(datetime(1999, 12, 31), datetime(2025, 4, 27)).map("{:%Y-%m-%d %H:%M:%S}".format)  # noqa: DTZ001
AMOUNTS_WRITTEN = st.decimals(-1, 10**13, places=3) | st.decimals(0, 10**12, places=2)
MESSAGES = st.one_of(
    st.sampled_from([case.value for case in CASES if len(case.value or b"") < 1_000]),
    st.builds(message, **{name: st.sampled_from([*TEXTS, USUAL[name]]) for name in FIELD_NAMES}),
    st.builds(
        message,
        Amount=AMOUNTS_WRITTEN.map(str),
        Time=(st.sampled_from(EDGES_OF_TIME) | MOMENTS).map(json.dumps),
    ),
)
# Microseconds since 1970: years that are none of Python's, where none is given, around the hour that Cairo's
# clocks skip, and again years that are none of Python's.
KAFKA_TIMES = st.sampled_from(
    [
        -1_800_000_000_000_000_000,
        -62_200_000_000_000_000,
        -1_000,
        0,
        1_745_531_999_999_000,
        1_745_532_000_000_000,
        253_402_300_799_000_000,
        1_800_000_000_000_000_000,
    ]
)


@given(
    batch=st.lists(st.tuples(MESSAGES, KAFKA_TIMES), max_size=12),
    cut=st.integers(0, 12),
    zone=st.sampled_from(["UTC", "Africa/Cairo", "America/New_York"]),
)
def test_a_batch_is_cleaned_as_a_look_at_each_record_does(
    batch: list[tuple[bytes | None, int]], cut: int, zone: str
) -> None:
    values, times = [value for value, _ in batch], [time for _, time in batch]
    whole = records(values).set_column(
        4, RECORD_ARROW.field(4), [pa.array(times, RECORD_ARROW.field(4).type)]
    )
    cleaned = (
        clean(pa.concat_tables([whole[:cut], whole[cut:]]), ZoneInfo(zone)).sort_by("offset").to_pylist()
    )
    latest = pa.scalar(LATEST_KAFKA_TIME, RECORD_ARROW.field(4).type).value
    earliest = 0
    for (value, time), row in zip(batch, cleaned, strict=True):
        kafka_time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=max(earliest, min(time, latest)))
        assert row["kafka_time"] == kafka_time
        found = {name: row[name] for name in FIELD_NAMES} if row["rejection"] is None else row["rejection"]
        try:
            require_length(key=len(KEY), value=len(value or b""))
            expected: object = parse(value, kafka_time=kafka_time, zone=ZoneInfo(zone))
        except Refused as refusal:
            expected = refusal.rejection.value
        assert found == expected


def test_damaged_messages_are_usable_only_where_python_reads_the_same() -> None:
    chance = random.Random(7)
    damaged: list[bytes | None] = [_damaged(message(), chance) for _ in range(3_000)]
    for value, row in zip(damaged, cleaned(damaged), strict=True):
        assert value is not None
        if row["rejection"]:
            assert row["value"] == value
        else:
            document = json.loads(value.decode())
            assert row["TransactionID"] == str(document["TransactionID"]).strip(), value
            assert row["UserID"] == str(document["UserID"]).strip(), value
        if row["rejection"] in {Rejection.NOT_JSON.value, Rejection.TEXT_AFTER_OBJECT.value}:
            assert not _is_json(value), value


def _damaged(value: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(value)
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(damaged))
        match chance.choice(("replace", "delete", "insert")):
            case "replace":
                damaged[place] = chance.choice(b'"{}[],:\\ 0e-.tn\x00\xc3')
            case "delete":
                del damaged[place]
            case "insert":
                damaged.insert(place, chance.choice(b'"{}[],:\\ 0e-.tn\x00\xc3'))
    return bytes(damaged)


def _is_json(value: bytes) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(value.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def spaced(value: bytes) -> bytes:
    return b" " + re.sub(rf'"({"|".join(FIELD_NAMES)})":'.encode(), rb'\n"\1" :\t', value)


def with_an_escape(value: bytes) -> bytes:
    """One that only a look at the single message understands."""
    return value.replace(b'"UserID"', rb'"\u0055serID"')


@pytest.mark.parametrize("form", [spaced, with_an_escape], ids=lambda form: form.__name__)
def test_a_message_in_another_form_than_the_producers_is_cleaned_alike(
    form: Callable[[bytes], bytes], rows: dict[int, Row]
) -> None:
    """Whole columns accept the producer's form, white space between its parts included."""
    others = {
        number: form(case.value)
        for number, case in enumerate(CASES)
        if case.value and len(case.value) < MAX_MESSAGE_BYTES // 2
    }
    for number, row in zip(others, cleaned(list(others.values())), strict=True):
        expected = {**rows[number], "offset": row["offset"]}
        if expected["rejection"]:
            expected["value"] = others[number]
        assert row == expected


@pytest.mark.parametrize("form", [bytes, spaced], ids=lambda form: form.__name__)
def test_what_producers_send_is_not_looked_at_one_by_one(
    form: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at one costs ten times as much as its part of the columns."""
    monkeypatch.setattr("fraudstream.cleaning.parse", None)
    fields = dict.fromkeys(("Location", "Device", "Merchant"), "null")
    usual = [message(), message(Amount='"2000.00"'), message(**fields), message(Merchant='"caf\u00e9 2"')]
    assert [row["rejection"] for row in cleaned([form(value) for value in usual])] == [None] * 4
