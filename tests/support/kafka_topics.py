"""Reads back what a topic holds."""

from __future__ import annotations

import json
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from fraudstream.topic import offset_range


def count_records(servers: str, topic: str, partitions: int) -> int:
    """How many records the topic holds; 0 while it does not exist."""
    return sum(end - begin for begin, end in offset_range(servers, topic, range(partitions)).values())


def read_topic(servers: str, topic: str) -> list[ConsumerRecord]:
    """All records that the topic holds now, each partition in the order of its offsets."""
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None)
    try:
        wanted = [
            TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        ends = consumer.end_offsets(wanted)
        consumer.assign(wanted)
        records: list[ConsumerRecord] = []
        while any(consumer.position(partition) < ends[partition] for partition in wanted):
            for batch in consumer.poll(timeout_ms=1000).values():
                records += batch
    finally:
        consumer.close()
    return sorted(records, key=lambda record: (record.partition, record.offset))


def fields(record: ConsumerRecord) -> dict[str, Any]:
    """The JSON object of a record; numbers as the text they are written in."""
    return json.loads(record.value, parse_float=str, parse_int=str)
