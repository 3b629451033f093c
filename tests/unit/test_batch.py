"""Where a judged batch leaves the offsets of its topic."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fraudstream.schema import JUDGED_ARROW, Outcome
from fraudstream.scoring import by_outcome
from fraudstream.store.commit import Batch
from fraudstream.store.offsets import StoredOffsets


@pytest.mark.parametrize("last", [Outcome.STORED, Outcome.DUPLICATE, Outcome.REJECTED])
def test_each_record_moves_its_partition_whatever_became_of_it(last: Outcome) -> None:
    position = {"partition_id": 1, "kafka_time": datetime(2026, 1, 2, tzinfo=UTC)}
    rows = [
        {"outcome": Outcome.STORED, **position, "offset": 3},
        {"outcome": last, **position, "offset": 8},
        {"outcome": Outcome.HISTORY, "UserID": "U1", "history": b"no record"},
    ]
    batch = Batch(
        topic="payments",
        topic_id="id",
        expected_offsets=StoredOffsets("id", {0: 5, 1: 2}),
        rows=by_outcome(pa.Table.from_pylist(rows, JUDGED_ARROW)),
        model_version=None,
        started_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert batch.moved == {1: 9}
    assert batch.reached == StoredOffsets("id", {0: 5, 1: 9})
