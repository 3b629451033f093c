"""Where a start goes on in Kafka, and that nothing is ever skipped silently."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fraudstream.resume import Range, TopicGap, accepted_offsets, find_gaps, starting_offsets

HELD = {0: (0, 100), 1: (40, 90)}


def start(
    stored: Mapping[int, int], ranges: Mapping[int, Range] = HELD, *, stored_topic_id: str | None = "id"
) -> dict[int, int]:
    return starting_offsets("t", stored_topic_id=stored_topic_id, stored=stored, topic_id="id", ranges=ranges)


def accept(
    stored: Mapping[int, int], ranges: Mapping[int, Range] = HELD, *, stored_topic_id: str | None = "id"
) -> dict[int, int]:
    return accepted_offsets(stored_topic_id=stored_topic_id, stored=stored, topic_id="id", ranges=ranges)


def test_the_first_start_reads_every_partition_from_its_oldest_record() -> None:
    assert start({}, stored_topic_id=None) == {0: 0, 1: 40}


def test_a_later_start_goes_on_where_it_was_and_reads_new_partitions_from_their_start() -> None:
    assert start({0: 7}) == {0: 7, 1: 40}
    assert start({0: 100, 1: 40}) == {0: 100, 1: 40}


@pytest.mark.parametrize(
    ("stored", "ranges", "lost"),
    [
        ({1: 39}, HELD, "topic t, partition 1: offsets 39 to 39 expired before they were read"),
        ({1: 0}, HELD, "topic t, partition 1: offsets 0 to 39 expired before they were read"),
        (
            {0: 101},
            HELD,
            "topic t, partition 0 ends at offset 100, before the committed offset 101: it was cut",
        ),
        ({0: 1, 2: 5}, HELD, "topic t, partition 2 is gone; its records from offset 5 on are lost"),
    ],
    ids=["just expired", "long expired", "cut", "gone"],
)
def test_a_gap_stops_the_start_and_says_what_is_lost(
    stored: dict[int, int], ranges: dict[int, Range], lost: str
) -> None:
    with pytest.raises(TopicGap) as caught:
        start(stored, ranges)
    assert str(caught.value) == (
        f"{lost}. Nothing was skipped. To go on without these records: python -m fraudstream offsets accept"
    )


def test_every_gap_is_named() -> None:
    gaps = find_gaps("t", stored_topic_id="id", stored={0: 101, 1: 3, 2: 5}, topic_id="id", ranges=HELD)
    assert [gap.split()[3].rstrip(":") for gap in gaps] == ["0", "1", "2"]


def test_a_topic_made_anew_is_never_taken_for_the_old_one() -> None:
    with pytest.raises(
        TopicGap, match=r"deleted and created anew \(id id instead of old\).*partition 0 at 7"
    ):
        start({0: 7}, stored_topic_id="old")


def test_accepting_moves_each_offset_to_the_nearest_record_that_is_left() -> None:
    assert accept({0: 7, 1: 3, 2: 5}) == {0: 7, 1: 40}
    assert accept({0: 101, 1: 90}) == {0: 100, 1: 90}


def test_accepting_a_topic_made_anew_begins_at_its_start() -> None:
    assert accept({0: 7, 2: 9}, stored_topic_id="old") == {0: 0, 1: 40}


@pytest.mark.parametrize("stored", [{0: 7}, {0: 101, 1: 3, 2: 5}, {}])
@pytest.mark.parametrize("stored_topic_id", ["id", "old", None])
def test_after_accepting_a_start_finds_no_gap(stored: dict[int, int], stored_topic_id: str | None) -> None:
    accepted = accept(stored, stored_topic_id=stored_topic_id)
    assert set(start(accepted)) == set(HELD)
