"""A user's recent events: what the features look back on, and its stored form.

The stored form of one user is a header (version, event count, `dropped_from`, `dropped_until`) and the
events as packed little-endian records, oldest first. It is written and read as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

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

_VERSION = 1
_HEADER = struct.Struct("<BIqq")
_NOTHING_DROPPED = int(np.iinfo(np.int64).min)
_NEVER_SEEN = ((0, _NOTHING_DROPPED, _NOTHING_DROPPED), b"")


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
    opened = [_opened(user, stored[user]) if user in stored else _NEVER_SEEN for user in users]
    counts, dropped_from, dropped_until = (
        np.array([header[part] for header, _ in opened], dtype=np.int64) for part in range(3)
    )
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    events = np.frombuffer(b"".join(body for _, body in opened), EVENT)
    _check(users, events, starts)
    return Events(events, starts, dropped_from, dropped_until)


def _opened(user: str, stored: bytes) -> tuple[tuple[int, int, int], bytes]:
    """(event count, `dropped_from`, `dropped_until`) and the packed events."""
    if stored and stored[0] != _VERSION:
        raise HistoryError(
            f"the history of user {user!r} is of version {stored[0]}, and this fraudstream reads version "
            f"{_VERSION}: run the fraudstream that wrote it"
        )
    if len(stored) < _HEADER.size:
        raise _damaged(user, f"it has {len(stored)} bytes, fewer than any history")
    _, count, dropped_from, dropped_until = _HEADER.unpack_from(stored)
    size = _HEADER.size + count * EVENT.itemsize
    if len(stored) != size:
        raise _damaged(user, f"it has {len(stored)} bytes, and {count} events take {size}")
    return (count, dropped_from, dropped_until), stored[_HEADER.size :]


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
    body, size = memoryview(histories.events.tobytes()), EVENT.itemsize
    starts = histories.starts.tolist()
    dropped = zip(histories.dropped_from.tolist(), histories.dropped_until.tolist(), strict=True)
    return [
        _HEADER.pack(_VERSION, end - start, *span) + body[start * size : end * size]
        for start, end, span in zip(starts[:-1], starts[1:], dropped, strict=True)
    ]


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
