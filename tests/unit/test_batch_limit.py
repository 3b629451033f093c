"""How large a batch may be after others have failed and succeeded."""

from __future__ import annotations

from fraudstream.batch_limit import BatchLimit


def test_it_is_halved_until_one_record_is_left_and_grows_back_to_what_was_set() -> None:
    limit = BatchLimit(10)
    assert (limit.records, limit.is_lowered) == (10, False)
    seen = []
    for _ in range(5):
        limit.halve(None)
        seen.append(limit.records)
    assert seen == [5, 2, 1, 1, 1] and limit.is_lowered
    for _ in range(5):
        limit.double()
        seen.append(limit.records)
    assert seen[5:] == [2, 4, 8, 10, 10] and not limit.is_lowered


def test_a_batch_had_no_more_records_than_were_waiting() -> None:
    limit = BatchLimit(50_000)
    limit.halve(600)
    assert limit.records == 300
    limit.halve(60_000)
    assert limit.records == 150
    limit.halve(0)
    assert limit.records == 75
