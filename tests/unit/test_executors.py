"""What a batch costs Spark besides its rows, and what is left behind of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from fraudstream.cleaning import clean
from fraudstream.executors import (
    Here,
    PartitionWork,
    by_user,
    collected,
    drop_earlier,
    run_on_executors,
)
from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.rules import load_rules
from fraudstream.schema import CLEANED_ARROW
from fraudstream.scoring import Claims, Judge
from fraudstream.uncommitted import Uncommitted

COLUMNS = "key binary, value binary, partition int, offset long, timestamp timestamp"


def records(spark: SparkSession, offsets: range) -> DataFrame:
    rows = [
        (
            b"",
            b'{"TransactionID":"T%d","UserID":"U%d","Amount":1,"Time":"2025-01-01 00:00:00"}' % (n, n % 7),
            n % 2,
            n,
            datetime(2025, 1, 1, tzinfo=UTC),
        )
        for n in offsets
    ]
    return spark.createDataFrame(rows, COLUMNS)


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


def test_a_later_batch_needs_no_code_of_its_own(spark: SparkSession, work: PartitionWork) -> None:
    """Code that is generated for each batch is compiled for each batch: by Spark, and by Java once more."""

    def judge(offsets: range) -> int:
        passed = PartitionWork(**{**vars(work), "next_offsets": {0: offsets.start, 1: offsets.start}})
        many = run_on_executors(by_user(records(spark, offsets).transform(clean)), passed)
        few = passed.judged(collected(records(spark, offsets).transform(clean)))
        assert len(many) == len(few)
        return len(many)

    assert judge(range(20)) == 27  # seven users' histories among them
    before = compilations(spark)
    assert judge(range(20, 60)) == 47
    assert compilations(spark) == before


def test_few_and_many_are_judged_alike(spark: SparkSession, work: PartitionWork) -> None:
    cleaned = records(spark, range(50)).transform(clean)
    order = [("outcome", "ascending"), ("UserID", "ascending"), ("offset", "ascending")]
    many = run_on_executors(by_user(cleaned), work).sort_by(order)
    assert work.judged(collected(cleaned)).sort_by(order).equals(many)
