"""A user's recent events: what the features look back on, and its stored form.

The stored form of one user is a header (version, event count, `dropped_from`, `dropped_until`) and the
events as packed little-endian records, oldest first. It is written and read as a whole. In version 2 the
header has the first event's time and a checksum, too, and the events, narrower, are compressed: with many
users, histories are most of what a batch reads and writes. Version 1 has them as they are. It is written
where they do not fit the narrower records, or there are none, and read wherever it is found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Amounts in cents; names as `name_codes` gives them; times in seconds since 1970-01-01, local time.
EVENT = np.dtype(
    [("time_s", "<i8"), ("cents", "<i8"), ("location", "<u4"), ("device", "<u4"), ("merchant", "<u4")]
)
NO_NAME = 0
KEPT_S = 30 * 86_400
# At most so many events of a user are kept; 500 in 30 days is one every hour and a half. Sums are safe in
# int64: even at the largest amount it would take 92,000 events to exceed it.
KEPT_EVENTS = 500

Code = TypeVar("Code", np.uint32, np.uint64)

_PLAIN, _COMPACT = 1, 2
# Seconds after the history's first event. Equal names lie side by side in an order that compresses well.
_NARROW = np.dtype(
    [("location", "<u4"), ("device", "<u4"), ("merchant", "<u4"), ("cents", "<u4"), ("after_s", "<u4")]
)
_CODEC = pa.Codec("lz4_raw")
_LARGEST_BYTES = 2**24  # of the column, and so of a plain history; what claims more is damaged
_HEADER = struct.Struct("<BIqq")
_FIRST, _CHECKSUM = struct.Struct("<q"), struct.Struct("<I")
_CHECKSUM_AT = _HEADER.size + _FIRST.size
_RECORDS_AT = _CHECKSUM_AT + _CHECKSUM.size
_NOTHING_DROPPED = int(np.iinfo(np.int64).min)


class HistoryError(Exception):
    """A stored history cannot be read; the text names the user, and says why and what to do."""


@dataclass(frozen=True)
class Events:
    """The histories of m users: user u has `events[starts[u]:starts[u + 1]]`, in the order (event time,
    arrival). `dropped_from` and `dropped_until` are, for each user, the times of the oldest and newest
    event that were dropped because there were too many; an oldest one is forgotten when more than KEPT_S
    passed until the next. The smallest int64 says that none was.
    """

    events: NDArray[np.void]
    starts: NDArray[np.int64]
    dropped_from: NDArray[np.int64]
    dropped_until: NDArray[np.int64]


class _Opened(NamedTuple):
    """One user's history; `body` has as many records as `events` says, narrow ones where it was compact."""

    events: int
    dropped_from: int
    dropped_until: int
    first_s: int
    is_compact: bool
    body: bytes


_NEVER_SEEN = _Opened(0, _NOTHING_DROPPED, _NOTHING_DROPPED, 0, False, b"")


def name_codes(names: pa.ChunkedArray) -> NDArray[np.uint32]:
    """A stable 32-bit code of each name, NO_NAME for a missing one.

    Two names share a code once in four billion pairs; the effect is that one of them does not count as new.
    """
    return _codes(names, code_of, np.uint32)


def wide_name_codes(names: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The same in 64 bits, for names that are told apart among all users."""
    return _codes(names, wide_code_of, np.uint64)


def _codes(names: pa.ChunkedArray, code: Callable[[str], int], kind: type[Code]) -> NDArray[Code]:
    encoded = names.combine_chunks().dictionary_encode()
    of_distinct: list[int] = [code(name) for name in encoded.dictionary.to_pylist()]
    indices = encoded.indices.fill_null(len(of_distinct)).to_numpy(zero_copy_only=False)
    return np.array([*of_distinct, NO_NAME], dtype=kind)[indices]


def code_of(name: str) -> int:
    """The 32-bit code of one name, never NO_NAME."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "little") or 1


def wide_code_of(name: str) -> int:
    """The 64-bit code of one name, never NO_NAME."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def no_history(users: int) -> Events:
    """The histories of so many users of whom nothing is known."""
    nothing_dropped = np.full(users, _NOTHING_DROPPED, np.int64)
    return Events(np.empty(0, EVENT), np.zeros(users + 1, np.int64), nothing_dropped, nothing_dropped.copy())


def decode(users: Sequence[str], stored: Mapping[str, bytes]) -> Events:
    """The stored histories of `users`, in their order; nothing stored is an empty history. The events are
    read-only.

    Raises HistoryError when a history is of another version, or is no history.
    """
    opened = [_open(user, stored[user]) if user in stored else _NEVER_SEEN for user in users]
    counts, dropped_from, dropped_until, first_s = (
        np.array([each[part] for each in opened], dtype=np.int64) for part in range(4)
    )
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    is_compact = np.array([each.is_compact for each in opened], dtype=bool)
    events = np.empty(starts[-1], EVENT)
    in_compact = np.repeat(is_compact, counts)
    narrow = np.frombuffer(b"".join(each.body for each in opened if each.is_compact), _NARROW)
    events[in_compact] = _widened(narrow, np.repeat(first_s[is_compact], counts[is_compact]))
    plain = b"".join(each.body for each in opened if not each.is_compact)
    events[~in_compact] = np.frombuffer(plain, EVENT)
    _check(users, events, starts)
    events.flags.writeable = False
    return Events(events, starts, dropped_from, dropped_until)


def _open(user: str, stored: bytes) -> _Opened:
    if stored and stored[0] not in (_PLAIN, _COMPACT):
        raise HistoryError(
            f"the history of user {user!r} is of version {stored[0]}, and this fraudstream reads versions "
            f"{_PLAIN} and {_COMPACT}: run the fraudstream that wrote it"
        )
    if len(stored) < _HEADER.size:
        raise _damaged(user, f"it has {len(stored)} bytes, fewer than any history")
    version, count, dropped_from, dropped_until = _HEADER.unpack_from(stored)
    if version == _COMPACT:
        first_s, body = _decompressed(user, count, stored)
        return _Opened(count, dropped_from, dropped_until, first_s, True, body)
    size = _HEADER.size + count * EVENT.itemsize
    if len(stored) != size:
        raise _damaged(user, f"it has {len(stored)} bytes, and {count} events take {size}")
    return _Opened(count, dropped_from, dropped_until, 0, False, stored[_HEADER.size :])


def _decompressed(user: str, count: int, stored: bytes) -> tuple[int, bytes]:
    """(time of the first event, narrow records)"""
    problem = f"its {len(stored)} bytes do not hold {count} events"
    size = count * _NARROW.itemsize
    if len(stored) < _RECORDS_AT or not 0 < size <= _LARGEST_BYTES:
        raise _damaged(user, problem)
    try:
        records: bytes = _CODEC.decompress(stored[_RECORDS_AT:], size, asbytes=True)
    except OSError as error:
        raise _damaged(user, problem) from error
    # The codec is silent about what is missing.
    if _CHECKSUM.unpack_from(stored, _CHECKSUM_AT) != (_checksum(stored[:_CHECKSUM_AT], records),):
        raise _damaged(user, problem)
    return _FIRST.unpack_from(stored, _HEADER.size)[0], records


def _checksum(head: bytes, records: bytes | memoryview) -> int:
    return crc32(records, crc32(head))


def _widened(narrow: NDArray[np.void], first_s: NDArray[np.int64]) -> NDArray[np.void]:
    events = np.empty(len(narrow), EVENT)
    for name in ("cents", "location", "device", "merchant"):
        events[name] = narrow[name]
    events["time_s"] = first_s + narrow["after_s"]
    return events


def _check(users: Sequence[str], events: NDArray[np.void], starts: NDArray[np.int64]) -> None:
    """What the look-back relies on; anything else would give wrong features without a word."""
    times = events["time_s"]
    backwards = np.flatnonzero(times[1:] < times[:-1]) + 1
    within_user = backwards[~np.isin(backwards, starts)]
    negative = np.flatnonzero(events["cents"] < 0)
    for positions, problem in (
        (within_user, "its events are out of order"),
        (negative, "an amount is negative"),
    ):
        if len(positions):
            raise _damaged(users[np.searchsorted(starts, positions[0], side="right") - 1], problem)


def _damaged(user: str, problem: str) -> HistoryError:
    return HistoryError(
        f"the history of user {user!r} is damaged ({problem}): restore the table user_history, or delete "
        "this user's row there, which makes a new user of them"
    )


def encode(histories: Events) -> list[bytes]:
    """The stored form of each user's history; `decode` gives back the same."""
    narrow, first_s, is_compact = _narrowed(histories)
    wide_bytes, narrow_bytes = memoryview(histories.events.tobytes()), memoryview(narrow.tobytes())
    starts = histories.starts.tolist()
    dropped = zip(histories.dropped_from.tolist(), histories.dropped_until.tolist(), strict=True)
    return [
        _compact(end - start, span, first, narrow_bytes[start * _NARROW.itemsize : end * _NARROW.itemsize])
        if compact
        else _plain(end - start, span, wide_bytes[start * EVENT.itemsize : end * EVENT.itemsize])
        for start, end, span, first, compact in zip(
            starts[:-1], starts[1:], dropped, first_s.tolist(), is_compact.tolist(), strict=True
        )
    ]


def _plain(count: int, dropped: tuple[int, int], events: memoryview) -> bytes:
    return _HEADER.pack(_PLAIN, count, *dropped) + events


def _compact(count: int, dropped: tuple[int, int], first_s: int, narrow: memoryview) -> bytes:
    head = _HEADER.pack(_COMPACT, count, *dropped) + _FIRST.pack(first_s)
    return head + _CHECKSUM.pack(_checksum(head, narrow)) + _CODEC.compress(narrow, asbytes=True)


def _narrowed(histories: Events) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.bool_]]:
    """All events as narrow records; of each user, the time of the first event, and whether there is one and
    the records hold them all: where not, they are nonsense."""
    events, counts = histories.events, np.diff(histories.starts)
    begins = histories.starts[:-1][counts > 0]
    first_s, fits = np.zeros(len(counts), np.int64), counts > 0
    first_s[fits] = events["time_s"][begins]
    # Unsigned: what is below zero does not fit either.
    after_s = (events["time_s"] - np.repeat(first_s, counts)).astype(np.uint64)
    cents = events["cents"].astype(np.uint64)
    narrow = np.empty(len(events), _NARROW)
    for name in ("location", "device", "merchant"):
        narrow[name] = events[name]
    narrow["cents"], narrow["after_s"] = cents, after_s
    if len(begins):
        fits[fits] = np.maximum.reduceat(np.maximum(after_s, cents), begins) <= np.iinfo(np.uint32).max
    return narrow, first_s, fits


def events_of(transactions: pa.Table) -> NDArray[np.void]:
    """The events of n transactions, in their order: columns Amount, Time, Location, Device, Merchant.

    `Time` must be in whole seconds, as cleaning leaves it; pyarrow raises ArrowInvalid otherwise.
    """
    events = np.empty(len(transactions), EVENT)
    events["time_s"] = time_s(transactions["Time"])
    events["cents"] = amount_cents(transactions["Amount"])
    for field, column in (("location", "Location"), ("device", "Device"), ("merchant", "Merchant")):
        events[field] = name_codes(transactions[column])
    return events


def amount_cents(amounts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Decimal amounts as int64 cents, exact."""
    cents = pc.multiply(amounts.cast(pa.decimal128(20, 2)), pa.scalar(100, pa.decimal128(3, 0)))
    return pc.cast(cents, pa.int64()).to_numpy()


def time_s(times: pa.ChunkedArray) -> NDArray[np.int64]:
    """Local times as int64 seconds since 1970-01-01 00:00:00."""
    return times.cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
