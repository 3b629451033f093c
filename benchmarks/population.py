"""The simulator's population, played on month after month: its past, and the messages that come after it.

One month of the simulator is drawn once. Month number m of the population is that month, shifted by m times
30 days, with identifiers of its own; so any number of messages can be had quickly, and a user's history has
at each moment about as many events as at any other. A large population is several copies of a small one,
whose transactions interleave.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.schema import CLEANED_ARROW, FIELD_NAMES, TIME_FORMAT
from fraudstream.simulator import END, simulate

EVENTS_PER_USER = 57
_DAYS = 30
_MONTH_S = _DAYS * 86_400
# Early enough for years of months to follow before the present.
_FIRST_MONTH = np.datetime64("2010-01-01T00:00:00", "s")
_USERS_DRAWN = 5_000
_NAMES = ("Location", "Device", "Merchant")


@dataclass(frozen=True)
class Messages:
    """Kafka messages in order of sending: key and value of each, as Publisher sends a CSV's row."""

    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Population:
    """`users` users, a multiple of 5,000 or fewer; with `random_ids` identifiers do not ascend."""

    users: int = _USERS_DRAWN
    seed: int = 42
    random_ids: bool = False
    _month: pd.DataFrame = field(init=False, repr=False, compare=False)
    _seconds: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.users > _USERS_DRAWN and self.users % _USERS_DRAWN:
            raise ValueError(f"more than {_USERS_DRAWN} users come in multiples of it")
        drawn = min(self.users, _USERS_DRAWN)
        month = simulate(rows=drawn * EVENTS_PER_USER, users=drawn, days=_DAYS, seed=self.seed).transactions
        # `Time` is put in anew for each month; where it is missing, the row stays a dead letter.
        times = pd.to_datetime(month["Time"], errors="coerce")
        start = END - np.timedelta64(_DAYS, "D")
        seconds = (times.to_numpy().astype("datetime64[s]") - start).astype(np.int64)
        object.__setattr__(self, "_month", month)
        object.__setattr__(self, "_seconds", np.where(times.isna(), -1, seconds))

    @property
    def month_rows(self) -> int:
        """How many messages a month of the whole population has."""
        return len(self._month) * self._copies

    @property
    def _copies(self) -> int:
        return max(1, self.users // _USERS_DRAWN)

    def past(self) -> Iterator[pa.Table]:
        """Month 0 as usable rows of CLEANED_ARROW, in order of arrival, a table for each copy."""
        for copy in range(self._copies):
            table = self._table(0, np.arange(len(self._month)), np.full(len(self._month), copy))
            usable = table.filter(pc.and_(pc.is_valid(table["Amount"]), pc.is_valid(table["Time"])))
            yield _cleaned(usable, partition=copy)

    def messages(self, first: int, count: int) -> Messages:
        """The messages number `first` to `first + count` after the past; the same numbers give the same."""
        parts = [
            self._messages(1 + start // self.month_rows, start % self.month_rows, size)
            for start, size in _within_months(first, count, self.month_rows)
        ]
        return Messages(
            [key for part in parts for key in part.keys], [value for part in parts for value in part.values]
        )

    def _messages(self, month: int, first: int, count: int) -> Messages:
        numbers = np.arange(first, first + count)
        table = self._table(month, numbers // self._copies, numbers % self._copies)
        return Messages(table["UserID"].cast(pa.binary()).to_pylist(), _as_json(table).to_pylist())

    def _table(self, month: int, rows: NDArray[np.int64], copies: NDArray[np.int64]) -> pa.Table:
        """Texts of the seven fields, null where missing."""
        text = self._month.iloc[rows]
        columns: dict[str, pa.Array] = {
            name: pa.array(text[name].replace("", None), pa.string()) for name in FIELD_NAMES
        }
        copy = pa.array(copies).cast(pa.string())
        columns["UserID"] = pc.binary_join_element_wise(copy, columns["UserID"], "-")
        ids = pc.binary_join_element_wise(f"{month:04d}", columns["TransactionID"], copy, "-")
        columns["TransactionID"] = _shuffled(ids) if self.random_ids else ids
        columns["Time"] = self._times(month, rows)
        return pa.table(columns)

    def _times(self, month: int, rows: NDArray[np.int64]) -> pa.Array:
        seconds = self._seconds[rows]
        instants = _FIRST_MONTH + (seconds + month * _MONTH_S).astype("timedelta64[s]")
        return pc.strftime(pa.array(instants, mask=seconds < 0), format=TIME_FORMAT)


def _within_months(first: int, count: int, month_rows: int) -> Iterator[tuple[int, int]]:
    """(start, size) of the parts of first..first+count that do not cross into another month."""
    end = first + count
    while first < end:
        size = min(end, (first // month_rows + 1) * month_rows) - first
        yield first, size
        first += size


def _shuffled(ids: pa.Array) -> pa.Array:
    return pa.array([hashlib.blake2b(each.encode(), digest_size=12).hexdigest() for each in ids.to_pylist()])


def _as_json(table: pa.Table) -> pa.ChunkedArray:
    """Each row as the compact JSON object that the publisher makes of it; no value needs an escape."""
    parts: list[pa.Array | str] = []
    for number, name in enumerate(FIELD_NAMES):
        shown = table[name].combine_chunks()
        if name != "Amount":
            shown = pc.binary_join_element_wise('"', shown, '"', "")
        parts += [f'{"{" if number == 0 else ","}"{name}":', pc.fill_null(shown, "null")]
    return pc.binary_join_element_wise(*parts, "}", "").cast(pa.binary())


def _cleaned(text: pa.Table, *, partition: int) -> pa.Table:
    """Usable texts as cleaning would leave them; each names itself by partition and offset."""
    times = pc.strptime(text["Time"], format=TIME_FORMAT, unit="us")
    columns: dict[str, pa.Array] = {
        **{name: text[name] for name in FIELD_NAMES},
        "Time": times,
        "Amount": text["Amount"].cast(pa.decimal128(18, 2)),
        "partition_id": pa.repeat(pa.scalar(partition, pa.int32()), len(text)),
        "offset": pa.array(np.arange(len(text))),
        "kafka_time": times.cast(pa.timestamp("us", tz="UTC")),
    }
    arrays = [columns.get(each.name, pa.nulls(len(text), each.type)) for each in CLEANED_ARROW]
    return pa.table(arrays, schema=CLEANED_ARROW)
