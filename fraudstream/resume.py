"""Where a start goes on in Kafka, and when it must not: what is stored, compared with what Kafka holds."""

from __future__ import annotations

from collections.abc import Mapping

Range = tuple[int, int]  # (oldest offset that Kafka holds, offset of its next record)


class TopicGap(Exception):
    """Records that were not yet committed are gone from Kafka, or the topic is not the same one."""


def starting_offsets(
    topic: str,
    *,
    stored_topic_id: str | None,
    stored: Mapping[int, int],
    topic_id: str,
    ranges: Mapping[int, Range],
) -> dict[int, int]:
    """The offset to read from for each of Kafka's partitions: the stored one, else the oldest held.

    `stored` has the next offset of each committed partition, `ranges` what Kafka holds of each. Raises
    TopicGap, saying what was lost and how to accept it, rather than ever skip a record silently.
    """
    problems = find_gaps(
        topic, stored_topic_id=stored_topic_id, stored=stored, topic_id=topic_id, ranges=ranges
    )
    if problems:
        raise TopicGap(
            "; ".join(problems)
            + ". Nothing was skipped. To go on without these records: python -m fraudstream offsets accept"
        )
    return {partition: stored.get(partition, earliest) for partition, (earliest, _) in sorted(ranges.items())}


def find_gaps(
    topic: str,
    *,
    stored_topic_id: str | None,
    stored: Mapping[int, int],
    topic_id: str,
    ranges: Mapping[int, Range],
) -> list[str]:
    """One sentence for each thing that is lost; empty when every uncommitted record is still there."""
    if stored_topic_id not in (None, topic_id):
        reached = ", ".join(f"partition {number} at {offset}" for number, offset in sorted(stored.items()))
        return [
            f"topic {topic} was deleted and created anew (id {topic_id} instead of {stored_topic_id}): "
            f"what it held beyond the committed offsets ({reached}) is lost"
        ]
    return [
        problem
        for partition, offset in sorted(stored.items())
        if (problem := _gap(topic, partition, offset, ranges.get(partition)))
    ]


def accepted_offsets(
    *, stored_topic_id: str | None, stored: Mapping[int, int], topic_id: str, ranges: Mapping[int, Range]
) -> dict[int, int]:
    """The stored offsets once a gap is accepted: each moved to the nearest record that Kafka holds."""
    if stored_topic_id not in (None, topic_id):
        return {partition: earliest for partition, (earliest, _) in sorted(ranges.items())}
    return {
        partition: min(max(offset, ranges[partition][0]), ranges[partition][1])
        for partition, offset in sorted(stored.items())
        if partition in ranges
    }


def _gap(topic: str, partition: int, offset: int, held: Range | None) -> str | None:
    where = f"topic {topic}, partition {partition}"
    if held is None:
        return f"{where} is gone; its records from offset {offset} on are lost"
    earliest, following = held
    if offset < earliest:
        return f"{where}: offsets {offset} to {earliest - 1} expired before they were read"
    if offset > following:
        return f"{where} ends at offset {following}, before the committed offset {offset}: it was cut"
    return None
