"""What a batch has the executors do, what the driver makes of it, and a rehearsal of it without a batch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from fraudstream.cleaning import clean
from fraudstream.features import FindHistories
from fraudstream.merchant_risk import Outcomes
from fraudstream.schema import JUDGED_ARROW, MAX_MESSAGE_BYTES, RECORD_ARROW, Outcome, Rejection
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
        cleaned = [table for batch in batches for table in _unpacked(batch["packed"])]
        if cleaned:
            yield _as_rows({0: self.judged(pa.concat_tables(cleaned))})
        del cleaned
        pa.default_memory_pool().release_unused()  # the worker lives on, and the driver is what works next

    def judged(self, cleaned: pa.Table) -> pa.Table:
        """Rows of CLEANED_ARROW, all that the batch has of their users -> rows of JUDGED_ARROW."""
        fresh = drop_earlier(cleaned, self.next_offsets)
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
PACKED = "share int, packed binary"


def _as_rows(tables: dict[int, pa.Table]) -> pa.RecordBatch:
    """Rows of PACKED: one a table, with the share that it is for."""
    packed = pa.array([_packed(table) for table in tables.values()], pa.binary())
    return pa.record_batch({"share": pa.array(tables, pa.int32()), "packed": packed})


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def _unpacked(packed: pa.Array | pa.ChunkedArray) -> list[pa.Table]:
    return [pa.ipc.open_stream(value.as_buffer()).read_all() for value in packed]


@dataclass(frozen=True)
class CleaningWork:
    """Rows of RECORD_ARROW -> cleaned ones as rows of PACKED, all of a user in the same share."""

    zone: ZoneInfo
    shares: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _as_rows(shares_by_user(clean(pa.Table.from_batches([batch]), self.zone), self.shares))


def shares_by_user(cleaned: pa.Table, shares: int) -> dict[int, pa.Table]:
    """Rows of CLEANED_ARROW by share: all of a user in the same one, whichever process asks.

    Rows without a user, which nothing has to meet, are in any. A share without rows is left out.
    """
    by_user = pd.util.hash_array(cleaned["UserID"].fill_null("").to_numpy()) % shares
    anywhere = cleaned["offset"].to_numpy() % shares
    numbers = np.where(pc.is_null(cleaned["UserID"]).to_numpy(), anywhere, by_user)
    return {int(share): cleaned.filter(pa.array(numbers == share)) for share in np.unique(numbers)}


def records_of(source: DataFrame) -> DataFrame:
    """Of Kafka's rows the columns of RECORD_ARROW, in at most as many tasks as share a batch.

    Key and value are cut where they are too long anyway: some KB in Kafka may be compressed megabytes.
    """
    cut = {name: F.substring(name, 1, MAX_MESSAGE_BYTES + 1) for name in ("key", "value")}
    lengths = {f"{name}_bytes": F.octet_length(name) for name in cut}
    records = source.withColumns(cut | lengths).select(*RECORD_ARROW.names)
    return records.coalesce(tasks_a_batch(source.sparkSession))


def tasks_a_batch(session: SparkSession) -> int:
    return int(session.conf.get("spark.sql.shuffle.partitions") or 1)


def shares_a_batch(session: SparkSession) -> int:
    """Each task judges two, one after the other: what a share holds at once makes up an executor's memory."""
    return 2 * tasks_a_batch(session)


def collected(records: DataFrame, zone: ZoneInfo) -> pa.Table:
    """All rows of a batch cleaned here, on the driver: rows of CLEANED_ARROW."""
    return clean(records.toArrow().cast(RECORD_ARROW), zone)


@contextmanager
def on_executors(session: SparkSession, value: Value) -> Iterator[Broadcast[Value]]:
    """The value, sent to each executor that needs it until the context ends."""
    sent = session.sparkContext.broadcast(value)
    try:
        yield sent
    finally:
        sent.destroy()


def run_on_executors(records: DataFrame, cleaning: CleaningWork, judging: PartitionWork) -> pa.Table:
    """Rows of RECORD_ARROW -> rows of JUDGED_ARROW: cleaned where they were read, judged by user."""
    judged = cleaned_by_user(records, cleaning).mapInArrow(judging, PACKED).toArrow()
    return pa.concat_tables([JUDGED_ARROW.empty_table(), *_unpacked(judged["packed"])])


def cleaned_by_user(records: DataFrame, cleaning: CleaningWork) -> DataFrame:
    """Rows of RECORD_ARROW, cleaned -> rows of PACKED, each share's in a task of its own."""
    return records.mapInArrow(cleaning, PACKED).repartitionById(cleaning.shares, "share")


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


def with_original_bytes(rows: pa.Table, records: DataFrame) -> pa.Table:
    """Key and value for conflicting duplicates: they were usable until then, so the bytes stayed behind."""
    conflicting = pc.fill_null(pc.equal(rows["rejection"], Rejection.CONFLICTING_DUPLICATE.value), False)
    missing = rows.filter(conflicting)
    if len(missing) == 0:
        return rows
    positions = missing.select(["partition_id", "offset"]).to_pylist()
    wanted = records.sparkSession.createDataFrame(
        [(row["partition_id"], row["offset"]) for row in positions], "partition int, offset long"
    )
    joined = records.join(F.broadcast(wanted), ["partition", "offset"])
    found = joined.select("partition", "offset", "key", "value").toArrow()
    originals = {(row["partition"], row["offset"]): (row["key"], row["value"]) for row in found.to_pylist()}
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
    records = session.createDataFrame(
        pa.Table.from_pylist([_made_up_record(number) for number in range(_MADE_UP_USERS)], RECORD_ARROW)
    )
    collected(records, ZoneInfo("UTC"))
    run_on_executors(records, CleaningWork(ZoneInfo("UTC"), shares_a_batch(session)), work)


_MADE_UP_TIME = datetime(2025, 1, 1, tzinfo=UTC)
_MADE_UP_MESSAGE = (
    '{"TransactionID":"T%d","UserID":"U%d","Amount":9999,"Location":"Cairo","Time":"2025-01-01 00:00:00",'
    '"Device":"Web","Merchant":"Noon"}'
)
_MADE_UP_USERS = 32  # enough for each share of a batch to get some


def _made_up_record(number: int) -> dict[str, object]:
    return {
        "value": (_MADE_UP_MESSAGE % (number, number)).encode(),
        "partition": 0,
        "offset": number,
        "timestamp": _MADE_UP_TIME,
    }


def _nothing_known(_keys: list[str]) -> dict[str, Any]:
    return {}
