"""Administration of the Kafka topic: make sure that it exists, say what it is and what it holds.

Every function waits for a broker that is still starting and raises BrokerUnavailable when none answers
in time; a broker that answers and refuses, or whose certificate does not hold, raises TopicError. Where
brokers are named by `host:port,...` alone, they are spoken to without encryption and login.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import tenacity
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
    for_code,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from fraudstream.kafka_access import KafkaAccess, kafka_access

log = logging.getLogger(__name__)

WAIT_S = 60.0
_LATEST_EVERY_S = 1.0
# Nanoseconds given for milliseconds are more than Spark's source can read: no query gets past such a record.
_REFUSE_FAR_FUTURE = {"message.timestamp.after.max.ms": str(24 * 60 * 60 * 1000)}
_PROBE_S = 2.0
_RETRY_S = 0.25
_REQUEST_TIMEOUT_MS = 10_000
# When the broker closes at once after it has refused a login, kafka-python 3.0 often drops the refusal
# unread; by its default it would then be half a minute until it asks again.
_RECONNECT_WITHIN_MS = 500
_REFUSED_LOGIN = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, IllegalSaslStateError)
_NO_ANSWER = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)


class BrokerUnavailable(Exception):
    """No broker answers, or none that is ready; the text names the address and what may help."""


class TopicError(Exception):
    """The broker answers, but refuses what is asked about the topic; the text says why."""


class TopicReplaced(Exception):
    """The topic is no longer the one that was being read."""


class _NotReady(Exception):
    """The broker answers, but has yet to finish its start."""


@dataclass(frozen=True)
class TopicInfo:
    """A topic as the broker has it. A topic that is deleted and created anew has another `topic_id`."""

    topic_id: str
    partitions: tuple[int, ...]


def ensure_topic(
    kafka: KafkaAccess | str,
    topic: str,
    partitions: int,
    *,
    replication_factor: int = 1,
    wait_s: float = WAIT_S,
    on_wait: Callable[[str], None] = lambda message: None,
) -> TopicInfo:
    """Create `topic` unless it exists, and describe it once each partition has a leader.

    Whoever comes first creates it; an existing topic keeps its number of partitions. `on_wait` gets one
    line for the user when the broker does not answer at once. Raises BrokerUnavailable, TopicError.
    """
    with _admin_client(kafka_access(kafka), wait_s, on_wait) as admin:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_NotReady),
            stop=tenacity.stop_after_delay(max(wait_s, _PROBE_S)),
            wait=tenacity.wait_fixed(_RETRY_S),
            reraise=True,
        )
        try:
            return attempts(_find_or_create, admin, topic, partitions, replication_factor)
        except _NotReady as error:
            raise TopicError(f"Topic {topic} is not ready after {wait_s:g} s: {error}") from error


def offset_range(
    kafka: KafkaAccess | str, topic: str, partitions: Iterable[int], *, wait_s: float = WAIT_S
) -> dict[int, tuple[int, int]]:
    """For each partition (the earliest offset that Kafka still holds, the offset of the next record).

    Raises BrokerUnavailable, and TopicError when the topic lacks one of the partitions.
    """
    wanted = [TopicPartition(topic, partition) for partition in partitions]
    with _admin_client(kafka_access(kafka), wait_s, lambda message: None) as admin:
        try:
            earliest = admin.list_partition_offsets(dict.fromkeys(wanted, OffsetSpec.EARLIEST))
            latest = admin.list_partition_offsets(dict.fromkeys(wanted, OffsetSpec.LATEST))
        except UnknownTopicOrPartitionError as error:
            numbers = ", ".join(str(tp.partition) for tp in wanted)
            raise TopicError(f"Kafka lacks topic {topic} or one of its partitions {numbers}.") from error
    return {tp.partition: (earliest[tp].offset, latest[tp].offset) for tp in wanted}


class LatestOffsets(AbstractContextManager["LatestOffsets"]):
    """How far each partition reaches in Kafka, asked once a second in the background, for the lag.

    Partitions that are added meanwhile are among them a second or two later.
    While Kafka does not answer, the last answer stands; the job itself finds out and says so.
    """

    def __init__(self, kafka: KafkaAccess | str, topic: str) -> None:
        self._kafka = kafka_access(kafka)
        self._topic = topic
        self._latest: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="latest-offsets", daemon=True)

    def current(self) -> dict[int, int]:
        """Partition -> offset of its next record; empty before the first answer."""
        return dict(self._latest)

    def __enter__(self) -> LatestOffsets:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join(timeout=1)  # a question that Kafka does not answer ends by itself, later

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                consumer = KafkaConsumer(
                    **self._kafka.client_options(),
                    metadata_max_age_ms=_LATEST_EVERY_S * 1000,
                    allow_auto_create_topics=False,  # asking for one that was deleted shall not make it anew
                )
                try:
                    self._ask_until_stopped(consumer)
                finally:
                    consumer.close()
            except KafkaError as error:
                log.debug("latest offsets: %s", error)
                self._stop.wait(_LATEST_EVERY_S)

    def _ask_until_stopped(self, consumer: KafkaConsumer) -> None:
        while not self._stop.is_set():
            partitions = consumer.partitions_for_topic(self._topic)
            ends = consumer.end_offsets([TopicPartition(self._topic, number) for number in partitions])
            self._latest = {partition.partition: offset for partition, offset in ends.items()}
            self._stop.wait(_LATEST_EVERY_S)


class SameTopic(AbstractContextManager["SameTopic"]):
    """Says, in the few milliseconds of one request, whether a topic is still the one that it was.

    Spark reads a topic that was deleted and created anew as if nothing had happened. What was read before
    `require()` returns came from the topic with the id that is given here.
    """

    def __init__(self, kafka: KafkaAccess | str, topic: str, topic_id: str) -> None:
        self.topic_id = topic_id
        self._kafka = kafka_access(kafka)
        self._topic = topic

    def __enter__(self) -> SameTopic:
        """Connect. Raises BrokerUnavailable, TopicError."""
        with _in_plain_words(self._kafka, WAIT_S):
            self._admin = _open_admin_client(self._kafka, WAIT_S, lambda message: None)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._admin.close()

    def require(self) -> None:
        """Raises TopicReplaced unless it is the same topic, and BrokerUnavailable when nobody can say so."""
        with _in_plain_words(self._kafka, _REQUEST_TIMEOUT_MS / 1000):
            [description] = self._admin.describe_topics([self._topic])
        error_type = for_code(description["error_code"])
        if error_type is UnknownTopicOrPartitionError:
            raise TopicReplaced(f"topic {self._topic} was deleted; nothing of the batch was written")
        if description["error_code"]:
            raise BrokerUnavailable(
                f"Kafka cannot say whether topic {self._topic} is still the same: {error_type.__name__}"
            )
        if str(description["topic_id"]) != self.topic_id:
            raise TopicReplaced(
                f"topic {self._topic} was deleted and created anew; nothing of the batch was written"
            )


@contextmanager
def _admin_client(
    kafka: KafkaAccess, wait_s: float, on_wait: Callable[[str], None]
) -> Iterator[KafkaAdminClient]:
    with _in_plain_words(kafka, wait_s):
        admin = _open_admin_client(kafka, wait_s, on_wait)
        try:
            yield admin
        finally:
            admin.close()


def _open_admin_client(kafka: KafkaAccess, wait_s: float, on_wait: Callable[[str], None]) -> KafkaAdminClient:
    deadline = time.monotonic() + wait_s
    # A client that fails to connect leaves its thread behind, so none is made before a port is open.
    _wait_for_listener(kafka, wait_s, on_wait)
    remaining_s = max(deadline - time.monotonic(), _PROBE_S)
    return KafkaAdminClient(
        **kafka.client_options(),
        kafka_client=_Client,
        bootstrap_timeout_ms=remaining_s * 1000,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        reconnect_backoff_max_ms=_RECONNECT_WITHIN_MS,
    )


@contextmanager
def _in_plain_words(kafka: KafkaAccess, wait_s: float) -> Iterator[None]:
    """What the client library raises in the block becomes BrokerUnavailable or TopicError."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise TopicError(
            f"The Kafka broker at {kafka.bootstrap_servers} has a certificate that does not hold "
            f"(KAFKA_SSL_CA, KAFKA_BOOTSTRAP_SERVERS): {error.verify_message}"
        ) from None
    except _REFUSED_LOGIN as error:
        raise TopicError(
            f"The Kafka broker at {kafka.bootstrap_servers} refused the login of {kafka.username} "
            f"(KAFKA_USERNAME, KAFKA_PASSWORD, KAFKA_SASL_MECHANISM): {error}"
        ) from None
    except AuthorizationError as error:
        raise TopicError(
            f"Kafka denies the account of KAFKA_USERNAME a right that it needs: {error}"
        ) from error
    except (*_NO_ANSWER, OSError) as error:
        raise BrokerUnavailable(
            f"No Kafka broker answered at {kafka.bootstrap_servers} within {wait_s:g} s. "
            "Start the broker, or set KAFKA_BOOTSTRAP_SERVERS to its host:port, and KAFKA_SECURITY_PROTOCOL "
            f"({kafka.security_protocol} was tried) to what it speaks there."
        ) from error
    except KafkaError as error:
        raise BrokerUnavailable(
            f"The Kafka broker at {kafka.bootstrap_servers} could not answer: {type(error).__name__} {error}"
        ) from error


class _Client(KafkaNetClient):
    """Gives up when a login is refused; the library's own would try on until its time is over."""

    def __init__(self, **options: Any) -> None:
        net = NetworkSelector(**options)
        super().__init__(net=net, manager=_Connections(net, **options))


class _Connections(KafkaConnectionManager):
    _refusal: BaseException | None = None

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        if self._refusal is not None:
            raise self._refusal
        connection = super().get_connection(*arguments, **options)
        connection.init_future.add_errback(self._remember_refusal)
        return connection

    def _remember_refusal(self, error: BaseException) -> None:
        if isinstance(error, _REFUSED_LOGIN):
            self._refusal = error


def _wait_for_listener(kafka: KafkaAccess, wait_s: float, on_wait: Callable[[str], None]) -> None:
    """Return when one of the servers accepts a connection; raises OSError when none does in time.

    A certificate that does not hold is no reason to wait: raises SSLCertVerificationError at once.
    """

    def tell(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1:
            on_wait(f"Waiting up to {wait_s:g} s for the Kafka broker at {kafka.bootstrap_servers} ...")

    tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_delay(wait_s),
        wait=tenacity.wait_fixed(_RETRY_S),
        before_sleep=tell,
        reraise=True,
    )(_knock, kafka)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, ssl.SSLCertVerificationError)


def _knock(kafka: KafkaAccess) -> None:
    refusals: list[OSError] = []
    for server in kafka.servers:
        host, _, port = server.rpartition(":")
        try:
            _connect(host.strip("[]"), int(port), kafka.ssl_context() if kafka.encrypted else None)
        except OSError as error:
            refusals.append(error)
        else:
            return
    raise next((error for error in refusals if not _may_pass(error)), refusals[-1])


def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> None:
    with socket.create_connection((host, port), timeout=_PROBE_S) as connection:
        if tls is not None:
            tls.wrap_socket(connection, server_hostname=host).close()


def _find_or_create(
    admin: KafkaAdminClient, topic: str, partitions: int, replication_factor: int
) -> TopicInfo:
    """Raises _NotReady while the broker or the topic is still coming up."""
    [description] = admin.describe_topics([topic])
    error_type = for_code(description["error_code"])
    if error_type is UnknownTopicOrPartitionError:
        _create(admin, topic, partitions, replication_factor)
        raise _NotReady("just created")
    if issubclass(error_type, RetriableError):
        raise _NotReady(error_type.__name__)
    if description["error_code"]:
        raise TopicError(f"Kafka refused to describe topic {topic}: {error_type.__name__}.")
    return _topic_info(description)


def _topic_info(description: dict[str, Any]) -> TopicInfo:
    found = description["partitions"]
    if not found or any(partition["leader_id"] < 0 for partition in found):
        raise _NotReady("a partition has no leader")
    return TopicInfo(
        topic_id=str(description["topic_id"]),
        partitions=tuple(sorted(partition["partition_index"] for partition in found)),
    )


def _create(admin: KafkaAdminClient, topic: str, partitions: int, replication_factor: int) -> None:
    wanted = {"num_partitions": partitions, "replication_factor": replication_factor}
    result = _asked_to_create(admin, topic, wanted | {"configs": _REFUSE_FAR_FUTURE})
    if for_code(result["error_code"]) is InvalidConfigurationError:  # Kafka before 3.6 does not know it
        result = _asked_to_create(admin, topic, wanted)
    error_type = for_code(result["error_code"])
    if result["error_code"] == 0 or error_type is TopicAlreadyExistsError:
        return
    # A broker that has just started does not count itself among those that can hold a replica.
    if error_type is InvalidReplicationFactorError or issubclass(error_type, RetriableError):
        raise _NotReady(result["error_message"] or error_type.__name__)
    raise TopicError(
        f"Kafka refused to create topic {topic}: {result['error_message'] or error_type.__name__}"
    )


def _asked_to_create(admin: KafkaAdminClient, topic: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The broker's answer."""
    result: dict[str, Any]
    [result] = admin.create_topics({topic: wanted}, raise_errors=False)["topics"]
    return result
