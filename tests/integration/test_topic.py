"""Topic administration against a real broker."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import InvalidTimestampError

from fraudstream.kafka_access import KafkaAccess
from fraudstream.topic import (
    BrokerUnavailable,
    LatestOffsets,
    SameTopic,
    TopicError,
    TopicReplaced,
    ensure_topic,
    offset_range,
)
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture
def servers(stack):
    return stack.addresses().kafka


def test_a_topic_is_created_once_and_keeps_its_partitions(servers, topic):
    created = ensure_topic(servers, topic, 3)
    assert created.partitions == (0, 1, 2)
    assert ensure_topic(servers, topic, 5) == created


def test_many_may_create_it_at_the_same_time(servers, topic):
    together = threading.Barrier(6)

    def create(_: int):
        together.wait()
        return ensure_topic(servers, topic, 4)

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(create, range(6)))
    assert len(found) == 1


def test_a_topic_created_anew_has_another_id(servers, topic):
    first = ensure_topic(servers, topic, 2)
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_topics([topic])
    admin.close()
    again = ensure_topic(servers, topic, 2)
    assert again.topic_id != first.topic_id
    assert again.partitions == first.partitions


def test_a_topic_that_is_deleted_or_created_anew_is_no_longer_the_same(servers, topic):
    with SameTopic(servers, topic, ensure_topic(servers, topic, 2).topic_id) as same:
        same.require()
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.delete_topics([topic])
        admin.close()
        with pytest.raises(TopicReplaced, match=f"topic {topic} was deleted;"):
            same.require()
        ensure_topic(servers, topic, 2)
        with pytest.raises(TopicReplaced, match=f"topic {topic} was deleted and created anew;"):
            same.require()


def test_a_timestamp_that_is_not_in_milliseconds_is_refused(servers, topic):
    ensure_topic(servers, topic, 1)
    producer = KafkaProducer(bootstrap_servers=servers)
    now_ms = int(time.time() * 1000)
    for milliseconds in (now_ms, now_ms + 3_600_000, 0):
        producer.send(topic, b"x", timestamp_ms=milliseconds).get(timeout=10)
    for other_unit in (now_ms * 1_000, now_ms * 1_000_000):
        with pytest.raises(InvalidTimestampError):
            producer.send(topic, b"x", timestamp_ms=other_unit).get(timeout=10)
    producer.close()


def test_a_topic_brings_its_bound_of_timestamps_to_any_broker(servers, topic):
    ensure_topic(servers, topic, 1)
    admin = KafkaAdminClient(bootstrap_servers=servers)
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])["topic"][topic]
    admin.close()
    setting = found["message.timestamp.after.max.ms"]
    assert (setting["value"], setting["config_source"]) == ("86400000", "DYNAMIC_TOPIC_CONFIG")


def test_a_broker_that_does_not_know_a_setting_creates_the_topic_without(servers, topic, monkeypatch):
    monkeypatch.setattr("fraudstream.topic._REFUSE_FAR_FUTURE", {"no.such.setting": "1"})
    assert ensure_topic(servers, topic, 2).partitions == (0, 1)


def test_the_range_of_offsets_follows_what_was_sent_and_deleted(servers, topic):
    ensure_topic(servers, topic, 2)
    producer = KafkaProducer(bootstrap_servers=servers)
    for number in range(5):
        producer.send(topic, b"x", partition=1, key=str(number).encode())
    producer.close()
    assert offset_range(servers, topic, [0, 1]) == {0: (0, 0), 1: (0, 5)}
    assert offset_range(servers, topic, []) == {}


def test_the_latest_offsets_are_those_of_all_partitions_also_of_new_ones(servers, topic):
    ensure_topic(servers, topic, 2)
    producer = KafkaProducer(bootstrap_servers=servers)
    producer.send(topic, b"x", partition=1).get(timeout=10)
    with LatestOffsets(servers, topic) as latest:
        wait_until(lambda: latest.current() == {0: 0, 1: 1}, timeout=10, describe=latest.current)
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_partitions({topic: 3})
        admin.close()
        wait_until(lambda: latest.current() == {0: 0, 1: 1, 2: 0}, timeout=10, describe=latest.current)
        producer.send(topic, b"x", partition=0).get(timeout=10)
        wait_until(lambda: latest.current() == {0: 1, 1: 1, 2: 0}, timeout=10, describe=latest.current)
    producer.close()


def test_what_kafka_lacks_or_refuses_is_said(servers, topic):
    ensure_topic(servers, topic, 2)
    with pytest.raises(TopicError, match=f"lacks topic {topic} or one of its partitions 0, 2"):
        offset_range(servers, topic, [0, 2])
    with pytest.raises(TopicError, match="replication factor of 3 cannot be reached"):
        ensure_topic(servers, f"more-{secrets.token_hex(4)}", 2, replication_factor=3, wait_s=1)
    with pytest.raises(TopicError, match="InvalidTopicError"):
        ensure_topic(servers, "not a name", 2)


def test_no_broker_is_named_with_the_setting_and_the_user_is_told_once():
    said: list[str] = []
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=rf"{address} within 1 s\..*KAFKA_BOOTSTRAP_SERVERS"):
        ensure_topic(address, "t", 1, wait_s=1, on_wait=said.append)
    assert said == [f"Waiting up to 1 s for the Kafka broker at {address} ..."]


def test_a_port_that_does_not_speak_kafka_is_no_broker():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=address):
            ensure_topic(address, "t", 1, wait_s=1)


def test_one_living_server_of_several_is_enough(servers, topic):
    several = f"127.0.0.1:{free_port()}, {servers}"
    assert KafkaAccess(several).servers[1] == servers
    assert ensure_topic(several, topic, 1).partitions == (0,)
