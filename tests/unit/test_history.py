"""A user's recent events: what is kept, and its stored form."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features import transaction_features
from fraudstream.history import (
    EVENT,
    KEPT_EVENTS,
    NO_NAME,
    Events,
    HistoryError,
    amount_cents,
    code_of,
    decode,
    encode,
    events_of,
    name_codes,
    no_history,
    time_s,
    wide_code_of,
    wide_name_codes,
)
from fraudstream.merchant_risk import no_outcomes
from tests.support.reference_features import MAX_CENTS, START, Transaction, arrivals, as_table

HEADER_BYTES = 1 + 4 + 8 + 8


def histories_of(rows: Sequence[Transaction], *, kept_events: int = KEPT_EVENTS) -> tuple[list[str], Events]:
    computed = transaction_features(as_table(rows), no_outcomes(), kept_events=kept_events)
    return computed.users, computed.histories


def kept_seconds(rows: Sequence[Transaction], *, kept_events: int = KEPT_EVENTS) -> list[int]:
    """Seconds since START of what is kept of the one user."""
    _, histories = histories_of(rows, kept_events=kept_events)
    return (histories.events["time_s"] - events_of(as_table([Transaction()]))["time_s"][0]).tolist()


def at(**passed: float) -> Transaction:
    return Transaction(time=START + timedelta(**passed))


def stored(*rows: Transaction) -> bytes:
    (history,) = encode(histories_of(rows)[1])
    return history


def assert_equal(one: Events, other: Events) -> None:
    for part in ("events", "starts", "dropped_from", "dropped_until"):
        assert getattr(one, part).tolist() == getattr(other, part).tolist(), part


@settings(deadline=None)
@given(arrivals(users=("U1", "U2", "Zoë")), st.sampled_from([1, 3, KEPT_EVENTS]))
def test_what_is_encoded_is_decoded_again(rows: list[Transaction], kept_events: int) -> None:
    users, histories = histories_of(rows, kept_events=kept_events)
    encoded = encode(histories)
    decoded = decode(users, dict(zip(users, encoded, strict=True)))
    assert_equal(decoded, histories)
    assert encode(decoded) == encoded


@settings(deadline=None)
@given(arrivals(users=("U1", "U2", "Zoë")), st.lists(st.booleans(), min_size=3, max_size=3))
def test_histories_of_before_are_read_beside_those_of_now(
    rows: list[Transaction], is_of_before: list[bool]
) -> None:
    users, histories = histories_of(rows)
    encoded = [
        plain(histories, user) if before else now
        for user, (before, now) in enumerate(zip(is_of_before, encode(histories), strict=False))
    ]
    assert_equal(decode(users, dict(zip(users, encoded, strict=True))), histories)


def plain(histories: Events, user: int) -> bytes:
    """The stored form of version 1."""
    events = histories.events[histories.starts[user] : histories.starts[user + 1]]
    header = (len(events), histories.dropped_from[user], histories.dropped_until[user])
    return struct.pack("<BIqq", 1, *header) + events.tobytes()


def test_users_come_back_in_the_order_asked_for_and_new_ones_empty() -> None:
    one, two = stored(at(hours=1)), stored(at(hours=2), at(hours=3))
    decoded = decode(["new", "two", "newer", "one"], {"one": one, "two": two, "unasked": b"?"})
    assert decoded.starts.tolist() == [0, 0, 2, 2, 3]
    assert encode(decoded)[1::2] == [two, one]
    assert_equal(decode(["A", "B"], {}), no_history(2))
    assert_equal(decode([], {}), no_history(0))


def test_the_stored_forms_are_those_in_the_databases() -> None:
    row = Transaction(123_456, datetime.fromisoformat("2026-01-01"), "U1", "Cairo", None, "Amazon")
    names = (code_of("Cairo"), 0, code_of("Amazon"))
    header = struct.pack("<BIqqq", 2, 2, -(2**63), -(2**63), 1_767_225_600)
    records = struct.pack("<5I5I", *names, 2**32 - 1, 0, *names, 99, 7200)
    header += struct.pack("<I", crc32(header + records))
    two = stored(replace(row, cents=2**32 - 1), replace(row, cents=99, time=row.time + timedelta(hours=2)))
    assert two[: len(header)] == header
    assert pa.decompress(two[len(header) :], 40, "lz4_raw", asbytes=True) == records

    assert stored(replace(row, cents=2**32)) == struct.pack(
        "<BIqqqqIII", 1, 1, -(2**63), -(2**63), 1_767_225_600, 2**32, *names
    )
    assert encode(no_history(1)) == [struct.pack("<BIqq", 1, 0, -(2**63), -(2**63))]


def test_a_full_history_is_stored_in_less_than_half() -> None:
    rows = [
        Transaction(100 + 7 * n, START + timedelta(hours=n), "U1", "Cairo", "iOS") for n in range(KEPT_EVENTS)
    ]
    users, histories = histories_of(rows)
    (full,) = encode(histories)
    assert_equal(decode(users, {"U1": full}), histories)
    assert len(full) < len(plain(histories, 0)) / 2


@settings(deadline=None)
@given(st.data())
def test_a_changed_bit_is_noticed_or_changes_nothing(data: st.DataObject) -> None:
    """LZ4 can say the same in two ways."""
    changed = bytearray(FORMS[0])
    changed[data.draw(st.integers(1, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode(["U1"], {"U1": bytes(changed)})
    except HistoryError as error:
        assert "user 'U1' is damaged" in str(error)
    else:
        assert_equal(decoded, decode(["U1"], {"U1": FORMS[0]}))


def test_another_version_is_refused_with_the_users_name() -> None:
    newer = b"\x03" + stored(at())[1:]
    with pytest.raises(HistoryError, match=r"user 'Zoë' is of version 3, and .* reads versions 1 and 2"):
        decode(["U1", "Zoë"], {"U1": stored(at()), "Zoë": newer})


ROWS = [at(hours=1), at(hours=2)]
FORMS = [stored(*ROWS), plain(histories_of(ROWS)[1], 0)]


@pytest.mark.parametrize("form", FORMS)
def test_a_history_that_ends_early_is_refused(form: bytes) -> None:
    for length in range(len(form)):
        with pytest.raises(HistoryError, match=r"user 'U1' is damaged .*: restore the table user_history"):
            decode(["U1"], {"U1": form[:length]})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1, 3, 2**31, 2**32 - 1])
def test_a_wrong_number_of_events_is_refused(form: bytes, count: int) -> None:
    with pytest.raises(HistoryError, match=f"user 'U1' is damaged .* {count} events"):
        decode(["U1"], {"U1": form[:1] + struct.pack("<I", count) + form[5:]})


@pytest.mark.parametrize("form", FORMS)
def test_bytes_too_many_are_refused(form: bytes) -> None:
    with pytest.raises(HistoryError, match="user 'U1' is damaged"):
        decode(["U1"], {"U1": form + b"\0"})


def test_events_that_no_history_has_are_refused_with_the_right_user() -> None:
    good = FORMS[1]
    first, second = good[HEADER_BYTES:][: EVENT.itemsize], good[HEADER_BYTES:][EVENT.itemsize :]
    backwards = good[:HEADER_BYTES] + second + first
    negative = good[: HEADER_BYTES + 8] + struct.pack("<q", -1) + good[HEADER_BYTES + 16 :]
    for bad, problem in ((backwards, "its events are out of order"), (negative, "an amount is negative")):
        users = ["later", "new", "bad", "newer", "earlier"]
        histories = {"later": stored(at(days=9)), "bad": bad, "earlier": stored(at())}
        with pytest.raises(HistoryError, match=f"user 'bad' is damaged \\({problem}"):
            decode(users, histories)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=120), st.sampled_from([0, 1, 2]), st.integers(0, 2**32 - 1))
def test_garbage_is_refused_or_read_as_what_it_says(garbage: bytes, version: int, count: int) -> None:
    if version:
        events_in_it = max(len(garbage) - 16, 0) // EVENT.itemsize
        garbage = struct.pack("<BI", version, events_in_it if count % 2 else count) + garbage
    try:
        decoded = decode(["U1"], {"U1": garbage})
    except HistoryError as error:
        assert "'U1'" in str(error)
    else:
        assert garbage == plain(decoded, 0)


def test_events_are_kept_in_the_order_of_time_then_arrival() -> None:
    rows = [
        replace(at(hours=hour), cents=cents)
        for hour, cents in [(2, 1), (1, 2), (2, 3), (1, 4), (0, 5), (2, 6)]
    ]
    _, histories = histories_of(rows)
    assert histories.events["cents"].tolist() == [5, 2, 4, 1, 3, 6]


def test_events_are_kept_for_exactly_30_days_before_the_newest() -> None:
    month = 30 * 86_400
    assert kept_seconds([at(), at(seconds=month)]) == [0, month]
    assert kept_seconds([at(), at(seconds=month + 1)]) == [month + 1]
    assert kept_seconds([at(seconds=month), at()]) == [0, month]
    assert kept_seconds([at(seconds=month + 1), at()]) == [month + 1]


def test_the_newest_events_are_kept() -> None:
    assert kept_seconds([at(seconds=second) for second in (5, 1, 9, 3, 7)], kept_events=3) == [5, 7, 9]
    assert len(kept_seconds([at(seconds=second) for second in range(KEPT_EVENTS + 3)])) == KEPT_EVENTS


def test_what_was_dropped_for_number_is_remembered_from_its_first_to_its_last() -> None:
    start = int(events_of(as_table([at()]))["time_s"][0])

    def dropped(*seconds: int) -> tuple[int, int]:
        _, histories = histories_of([at(seconds=second) for second in seconds], kept_events=2)
        return int(histories.dropped_from[0]) - start, int(histories.dropped_until[0]) - start

    month = 30 * 86_400
    assert dropped(10, 20, 30) == (10, 10)
    assert dropped(10, 20, 30, 40, 50) == (10, 30)
    assert dropped(10, 20, 30, 5) == (5, 10)
    assert dropped(10, 20, 30, month + 31, month + 10, month + 32) == (10, month + 10)
    assert dropped(10, 20, 30, month + 31, month + 11, month + 32) == (month + 11, month + 11)
    _, untouched = histories_of([at(), at(seconds=2 * month), at(seconds=4 * month)], kept_events=2)
    assert_equal(replace(untouched, events=np.empty(0, EVENT), starts=np.zeros(2, np.int64)), no_history(1))


PINNED = {
    "Cairo": (549386576, 12459252191552332915),
    "iOS": (3746566861, 5408991581894631750),
    "Amazon": (2793566762, 14712343154489255949),
    "الأقصر": (3735632139, 13119694259889272154),
    "": (634351890, 13020603013274838756),
}


def test_codes_of_names_never_change_because_they_are_stored() -> None:
    assert [code_of(name) for name in PINNED] == [narrow for narrow, _ in PINNED.values()]
    assert [wide_code_of(name) for name in PINNED] == [wide for _, wide in PINNED.values()]


@given(st.lists(st.lists(st.sampled_from([None, "", "Cairo", "cairo", "الأقصر"]), max_size=5), max_size=4))
def test_a_column_has_the_code_of_each_of_its_names(chunks: list[list[str | None]]) -> None:
    names = pa.chunked_array(chunks, pa.string())
    rows = [name for chunk in chunks for name in chunk]
    assert name_codes(names).tolist() == [NO_NAME if name is None else code_of(name) for name in rows]
    assert wide_name_codes(names).tolist() == [
        NO_NAME if name is None else wide_code_of(name) for name in rows
    ]


def test_an_event_has_what_the_row_says() -> None:
    time = datetime.fromisoformat("2025-01-02 03:04:05")
    (event,) = events_of(as_table([Transaction(MAX_CENTS, time, "U1", None, "iOS", "Amazon")]))
    assert event.tolist() == (1_735_787_045, MAX_CENTS, NO_NAME, code_of("iOS"), code_of("Amazon"))


def test_cents_are_exact_up_to_the_largest_amount() -> None:
    amounts = pa.chunked_array([[Decimal("0.01"), Decimal("999999999999.99")]], pa.decimal128(18, 2))
    assert amount_cents(amounts).tolist() == [1, 99_999_999_999_999]


def test_seconds_count_from_1970_in_local_time_and_no_fraction_is_dropped_in_silence() -> None:
    def seconds(text: str) -> list[int]:
        return time_s(pa.chunked_array([[datetime.fromisoformat(text)]], pa.timestamp("us"))).tolist()

    assert seconds("1970-01-01 00:00:01") == [1]
    with pytest.raises(pa.ArrowInvalid):
        seconds("1970-01-01 00:00:01.5")
