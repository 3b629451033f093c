"""What a batch costs Spark besides its rows, and what is left behind of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from fraudstream.executors import (
    CleaningWork,
    Here,
    PartitionWork,
    collected,
    drop_earlier,
    records_of,
    run_on_executors,
    shares_by_user,
)
from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.rules import load_rules
from fraudstream.schema import CLEANED_ARROW, MAX_MESSAGE_BYTES, RECORD_ARROW
from fraudstream.scoring import Claims, Judge
from fraudstream.uncommitted import Uncommitted

ZONE = ZoneInfo("UTC")
ORDER = [("UserID", "ascending"), ("offset", "ascending")]
JUDGED_ORDER = [("outcome", "ascending"), *ORDER]
MESSAGE = (
    '{"TransactionID":"T%d","UserID":"U%d","Amount":1,"Location":"Cairo","Time":"2025-01-01 00:00:00",'
    '"Device":"Web","Merchant":null}'
)


def records(spark: SparkSession, offsets: range) -> DataFrame:
    """Of seven users, the last one unusable."""
    rows = [
        {
            "value": (MESSAGE % (n, n % 7)).encode() if n != offsets[-1] else b"?",
            "partition": n % 2,
            "offset": n,
            "timestamp": datetime(2025, 1, 1, tzinfo=UTC),
        }
        for n in offsets
    ]
    return spark.createDataFrame(pa.Table.from_pylist(rows, RECORD_ARROW))


@pytest.fixture
def work(spark: SparkSession) -> PartitionWork:
    context = spark.sparkContext
    judge = context.broadcast(Judge(load_rules(), None))
    outcomes = context.broadcast(KnownOutcomes.none().outcomes())
    return PartitionWork(
        judge, outcomes, Here(Uncommitted.nothing()), lambda _ids: {}, lambda _users: {}, Claims(), {}
    )


def compilations(spark: SparkSession) -> int:
    metrics = spark._jvm.org.apache.spark.metrics.source.CodegenMetrics  # type: ignore[union-attr]
    return int(metrics.METRIC_COMPILATION_TIME().getCount())


def test_records_of_earlier_batches_are_dropped_by_partition() -> None:
    everything = [(partition, offset) for partition in (0, 1, 2) for offset in range(5)]
    rows = pa.Table.from_pylist(
        [{"partition_id": partition, "offset": offset} for partition, offset in everything], CLEANED_ARROW
    )

    def left(next_offsets: dict[int, int]) -> list[tuple[int, int]]:
        kept = drop_earlier(rows, next_offsets)
        return list(zip(kept["partition_id"].to_pylist(), kept["offset"].to_pylist(), strict=True))

    assert left({}) == everything
    assert left({0: 0}) == everything
    assert left({0: 3, 1: 5}) == [(0, 3), (0, 4), *((2, offset) for offset in range(5))]
    assert left({0: 9, 1: 9, 2: 9}) == []


def test_a_users_rows_are_in_one_share_whichever_process_asks() -> None:
    users = [*(f"U{number}" for number in range(1_000)), None]
    rows = pa.Table.from_pylist(
        [{"UserID": user, "offset": n} for n in (1, 2) for user in users], CLEANED_ARROW
    )
    shares = shares_by_user(rows, 3)
    assert pa.concat_tables(shares.values()).sort_by(ORDER).equals(rows.sort_by(ORDER))
    for one, other in itertools.permutations(shares.values(), 2):
        assert set(one["UserID"].to_pylist()) & set(other["UserID"].to_pylist()) <= {None}
    assert {share: len(rows) for share, rows in shares.items()} == {0: 682, 1: 639, 2: 681}


def test_shares_without_rows_are_left_out() -> None:
    rows = pa.Table.from_pylist([{"UserID": "U", "offset": 1}], CLEANED_ARROW)
    assert [len(share) for share in shares_by_user(rows, 5).values()] == [1]
    assert shares_by_user(rows, 1) == {0: rows}
    assert shares_by_user(rows[:0], 5) == {}


def test_of_what_is_too_long_only_enough_to_say_so_is_read(spark: SparkSession) -> None:
    columns = [RECORD_ARROW.field(name) for name in ("key", "value", "partition", "offset", "timestamp")]
    as_in_kafka = pa.schema([*columns, pa.field("topic", pa.string())])

    def read(key: bytes | None, value: bytes | None) -> dict[str, Any]:
        row = {"key": key, "value": value, "partition": 0, "offset": 1, "timestamp": datetime.now(UTC)}
        source = spark.createDataFrame(pa.Table.from_pylist([row], as_in_kafka))
        [found] = records_of(source).toArrow().cast(RECORD_ARROW).to_pylist()
        return {name: found[name] for name in ("key", "key_bytes", "value", "value_bytes")}

    longest = b"\xc3\xa9" * (MAX_MESSAGE_BYTES // 2)
    whole = {
        "key": longest,
        "key_bytes": MAX_MESSAGE_BYTES,
        "value": longest,
        "value_bytes": MAX_MESSAGE_BYTES,
    }
    assert read(longest, longest) == whole
    assert read(None, None) == dict.fromkeys(whole)
    cut, length = longest + b"\xff", MAX_MESSAGE_BYTES + 1_000_001
    assert read(b"", cut + b"x" * 1_000_000) == {
        "key": b"",
        "key_bytes": 0,
        "value": cut,
        "value_bytes": length,
    }
    assert read(cut + b"x" * 1_000_000, b"") == {
        "key": cut,
        "key_bytes": length,
        "value": b"",
        "value_bytes": 0,
    }


def test_a_later_batch_needs_no_code_of_its_own(spark: SparkSession, work: PartitionWork) -> None:
    """Code that is generated for each batch is compiled for each batch: by Spark, and by Java once more."""

    def judge(offsets: range) -> int:
        passed = PartitionWork(**{**vars(work), "next_offsets": {0: offsets.start, 1: offsets.start}})
        many = run_on_executors(records(spark, offsets), CleaningWork(ZONE, 2), passed)
        few = passed.judged(collected(records(spark, offsets), ZONE))
        assert len(many) == len(few)
        return len(many)

    assert judge(range(20)) == 27  # seven users' histories among them
    before = compilations(spark)
    assert judge(range(20, 60)) == 47
    assert compilations(spark) == before


def test_few_and_many_are_judged_alike(spark: SparkSession, work: PartitionWork) -> None:
    batch = records(spark, range(50))
    many = run_on_executors(batch, CleaningWork(ZONE, 2), work).sort_by(JUDGED_ORDER)
    assert many["outcome"].to_pylist().count("rejected") == 1
    assert work.judged(collected(batch, ZONE)).sort_by(JUDGED_ORDER).equals(many)


def test_what_a_worker_imported_is_not_searched_for_garbage_after_each_task(spark: SparkSession) -> None:
    def frozen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import gc

        for _ in batches:
            yield pa.record_batch({"frozen": [gc.get_freeze_count()], "searched": [len(gc.get_objects())]})

    [counts] = spark.range(1).mapInArrow(frozen, "frozen long, searched long").toArrow().to_pylist()
    assert counts["frozen"] > counts["searched"]
