"""What a batch has the executors do, what the driver makes of it, and a rehearsal of it without a batch."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from fraudstream.cleaning import RAW_KEY, RAW_VALUE, clean_with_bytes
from fraudstream.features import FindHistories
from fraudstream.merchant_risk import Outcomes
from fraudstream.schema import CLEANED_ARROW, JUDGED_ARROW, Outcome, Rejection
from fraudstream.scoring import Claims, FindStored, Judge, Known, judge_partition, with_outcome
from fraudstream.uncommitted import Uncommitted

Value = TypeVar("Value")
Shown = TypeVar("Shown", covariant=True)


class Shared(Protocol[Shown]):
    """A value that a task can reach: a Broadcast, or `Here`."""

    @property
    def value(self) -> Shown: ...


@dataclass(frozen=True)
class Here(Generic[Value]):
    """Shared by being pickled with the task, or used in this very process."""

    value: Value


@dataclass(frozen=True)
class PartitionWork:
    """What an executor does with its share of a batch; pickled with the task.

    `before` is what `find_stored` and `find_histories` may not see yet of the batch before.
    """

    judge: Shared[Judge]
    outcomes: Shared[Outcomes]
    before: Shared[Uncommitted]
    find_stored: FindStored
    find_histories: FindHistories
    claims: Claims
    next_offsets: Mapping[int, int]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        present = [batch for batch in batches if batch.num_rows]
        if present:
            yield _packed(self.judged(pa.Table.from_batches(present)))

    def judged(self, cleaned: pa.Table) -> pa.Table:
        """Rows of CLEANED_ARROW, all that the batch has of their users -> rows of JUDGED_ARROW."""
        fresh = drop_earlier(cleaned.cast(CLEANED_ARROW), self.next_offsets)
        before = self.before.value
        known = Known(
            partial(before.find_stored, otherwise=self.find_stored),
            partial(before.find_histories, otherwise=self.find_histories),
            self.outcomes.value,
        )
        return judge_partition(fresh, judge=self.judge.value, known=known, claims=self.claims)


def drop_earlier(cleaned: pa.Table, next_offsets: Mapping[int, int]) -> pa.Table:
    """Without the rows that an earlier batch has: those below their partition's next offset.

    Not in Spark's plan, where other numbers in each batch would be other code to generate and compile.
    """
    if not next_offsets:
        return cleaned
    committed = [
        pc.and_(pc.equal(cleaned["partition_id"], partition), pc.less(cleaned["offset"], next_offset))
        for partition, next_offset in next_offsets.items()
    ]
    return cleaned.filter(pc.invert(functools.reduce(pc.or_, committed)))


# A whole table as one value: of rows, Spark would take each apart and put it together, twice.
_PACKED = "packed binary"


def _packed(table: pa.Table) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    content = sink.getvalue()
    ends = pa.py_buffer(struct.pack("=ii", 0, content.size))
    return pa.record_batch([pa.Array.from_buffers(pa.binary(), 1, [None, ends, content])], names=["packed"])


def _unpacked(packed: pa.ChunkedArray) -> pa.Table:
    tables = [pa.ipc.open_stream(value.as_buffer()).read_all() for value in packed]
    return pa.concat_tables([JUDGED_ARROW.empty_table(), *tables])


def by_user(cleaned: DataFrame) -> DataFrame:
    """All of a user's rows in one partition, as the features need them."""
    return cleaned.select(*CLEANED_ARROW.names).repartition(F.col("UserID"))


@contextmanager
def on_executors(session: SparkSession, value: Value) -> Iterator[Broadcast[Value]]:
    """The value, sent to each executor that needs it until the context ends."""
    sent = session.sparkContext.broadcast(value)
    try:
        yield sent
    finally:
        sent.destroy()


def run_on_executors(rows: DataFrame, work: PartitionWork) -> pa.Table:
    """Rows that lie `by_user` -> rows of JUDGED_ARROW."""
    return _unpacked(rows.mapInArrow(work, _PACKED).toArrow()["packed"])


def collected(cleaned: DataFrame) -> pa.Table:
    """All rows at once, here on the driver."""
    return cleaned.select(*CLEANED_ARROW.names).toArrow()


def find_clashes(rows: pa.Table) -> Claims | None:
    """The ids that several users' rows took in one batch, each with its earliest row; None without any."""
    stored = with_outcome(rows, Outcome.STORED)
    counts = pc.value_counts(stored["TransactionID"].combine_chunks())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated) == 0:
        return None
    candidates = stored.filter(pc.is_in(stored["TransactionID"], value_set=repeated))
    winners: dict[str, tuple[int, int]] = {}
    in_order = candidates.sort_by(
        [("kafka_time", "ascending"), ("partition_id", "ascending"), ("offset", "ascending")]
    )
    for row in in_order.select(["TransactionID", "partition_id", "offset"]).to_pylist():
        winners.setdefault(row["TransactionID"], (row["partition_id"], row["offset"]))
    return Claims(winners)


def with_original_bytes(rows: pa.Table, cleaned: DataFrame) -> pa.Table:
    """Key and value for conflicting duplicates: they were usable until then, so the bytes stayed behind."""
    conflicting = pc.fill_null(pc.equal(rows["rejection"], Rejection.CONFLICTING_DUPLICATE.value), False)
    missing = rows.filter(conflicting)
    if len(missing) == 0:
        return rows
    positions = missing.select(["partition_id", "offset"]).to_pylist()
    wanted = cleaned.sparkSession.createDataFrame(
        [(row["partition_id"], row["offset"]) for row in positions], "partition_id int, offset long"
    )
    found = cleaned.join(F.broadcast(wanted), ["partition_id", "offset"]).select(
        "partition_id", "offset", RAW_KEY, RAW_VALUE
    )
    originals = {
        (row["partition_id"], row["offset"]): (row[RAW_KEY], row[RAW_VALUE])
        for row in found.toArrow().to_pylist()
    }
    bytes_of = [originals[row["partition_id"], row["offset"]] for row in positions]
    for position, name in enumerate(("key", "value")):
        column = pa.array([pair[position] for pair in bytes_of], pa.binary())
        missing = missing.set_column(missing.column_names.index(name), JUDGED_ARROW.field(name), column)
    return pa.concat_tables([rows.filter(pc.invert(conflicting)), missing])


def warm_up(session: SparkSession, judge: Broadcast[Judge], outcomes: Broadcast[Outcomes]) -> None:
    """Have Spark start its Python workers and compile its plans now, on made-up rows that go nowhere."""
    work = PartitionWork(
        judge, outcomes, Here(Uncommitted.nothing()), _nothing_known, _nothing_known, Claims(), {}
    )
    usable = session.createDataFrame(pa.Table.from_pylist(_made_up_rows(), schema=CLEANED_ARROW))
    records = session.createDataFrame([_MADE_UP_RECORD], _RECORD_COLUMNS)
    with ThreadPoolExecutor(max_workers=1) as beside:
        compiled = beside.submit(records.transform(clean_with_bytes).toArrow)
        run_on_executors(by_user(usable), work)
        compiled.result()


_RECORD_COLUMNS = "key binary, value binary, partition int, offset long, timestamp timestamp"
_MADE_UP_TIME = datetime(2025, 1, 1, tzinfo=UTC)
_MADE_UP_MESSAGE = b'{"TransactionID":"T","UserID":"U","Amount":1,"Time":"2025-01-01 00:00:00"}'
_MADE_UP_RECORD = (b"", _MADE_UP_MESSAGE, 0, 0, _MADE_UP_TIME)
_MADE_UP_USERS = 32  # enough for each partition of a batch to get some


def _made_up_rows() -> list[dict[str, object]]:
    return [
        {
            "partition_id": 0,
            "offset": number,
            "kafka_time": _MADE_UP_TIME,
            "TransactionID": f"T{number}",
            "UserID": f"U{number}",
            "Amount": Decimal("9999.00"),
            "Time": _MADE_UP_TIME.replace(tzinfo=None),
        }
        for number in range(_MADE_UP_USERS)
    ]


def _nothing_known(_keys: list[str]) -> dict[str, Any]:
    return {}
