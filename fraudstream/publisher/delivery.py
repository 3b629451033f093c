"""Rows to Kafka: the message of a row, its delivery, and the exact count of what was acknowledged."""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import orjson
from kafka import KafkaProducer
from kafka.cluster import ClusterMetadata
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.partitioner.default import DefaultPartitioner, murmur2
from kafka.producer.future import FutureRecordMetadata

from fraudstream.kafka_access import KafkaAccess
from fraudstream.publisher.csv_source import Cells
from fraudstream.publisher.replay import Position, Row
from fraudstream.schema import FIELD_NAMES, WHITESPACE

_USER_ID = FIELD_NAMES.index("UserID")
_AMOUNT = FIELD_NAMES.index("Amount")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

# Rows sent and not yet acknowledged: enough to keep the broker busy, few enough to hold in memory.
MAX_PENDING = 20_000
# How long a record may stay undelivered before it counts as failed; a broker can restart in that time.
DELIVERY_TIMEOUT_S = 120.0
# On a record that was sent again: where it was before.
REPLAY_HEADER = "fraudstream-replay-of"
_FLUSH_S = DELIVERY_TIMEOUT_S + 10
_CLOSE_S = 1.0
_REPORT_S = 0.25
_POLL_S = 0.005
_SETTLE_EVERY = 64
# Bytes of key and value from which on a topic might refuse a record for its size.
_LARGE = 65_536
# More than the database keeps of a record, so that the topic alone decides what is too large.
_LARGEST = 64 * 2**20

_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "batch_size": 131_072,
    "linger_ms": 5,
    "delivery_timeout_ms": DELIVERY_TIMEOUT_S * 1000,
    "request_timeout_ms": 30_000,
    "reconnect_backoff_max_ms": 1_000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class _ByUser(DefaultPartitioner):
    """The partition that every Kafka client gives a key; hashes are kept, as computing one is dear."""

    def partition(
        self,
        topic: str,
        key: bytes | None,
        serialized_key: bytes | None,
        value: bytes,
        serialized_value: bytes,
        cluster: ClusterMetadata,
    ) -> int:
        if serialized_key is None:
            return super().partition(topic, key, serialized_key, value, serialized_value, cluster)
        partitions = sorted(cluster.partitions_for_topic(topic))
        return partitions[_positive_hash(serialized_key) % len(partitions)]


@functools.lru_cache(maxsize=65_536)
def _positive_hash(key: bytes) -> int:
    return murmur2(key) & 0x7FFFFFFF


class _Producer(KafkaProducer):
    """Closed by its Publisher: the library would try once more in the end, and complain if that fails too."""

    def __del__(self) -> None:
        pass


class DeliveryFailed(Exception):
    """Kafka did not take a row; the text says why. What follows that row is not sent."""


@dataclass(frozen=True)
class Tally:
    """What became of the rows so far. At the end sent = acknowledged + failed.

    `position` ends the longest run of rows, from the first one sent, that are all acknowledged; it is
    None while there is none.
    """

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    position: Position | None = None


def message(cells: Cells) -> tuple[bytes | None, bytes]:
    """Key and value of a row: the trimmed UserID, and a JSON object of the seven cells.

    Text is sent as it is written; an Amount that is a JSON number is sent as that number, digit for
    digit (2000.00 stays 2000.00); an empty cell is null; a row without UserID has no key.
    """
    fields: dict[str, str | orjson.Fragment | None] = dict(zip(FIELD_NAMES, cells, strict=True))
    if "" in cells:
        fields = {name: cell or None for name, cell in fields.items()}
    if _JSON_NUMBER.fullmatch(cells[_AMOUNT]):
        fields["Amount"] = orjson.Fragment(cells[_AMOUNT])
    key = cells[_USER_ID].strip(WHITESPACE).encode()
    return key or None, orjson.dumps(fields)


class Publisher:
    """An idempotent producer for one topic; as a context manager it flushes at the end.

    Within one Publisher each row is in the topic once, and the rows of a user are in the order sent,
    whatever is retried. Each of `reports` gets the tally a few times a second and once more at the end.
    Leaving the context waits for the acknowledgement of each row and raises DeliveryFailed when one has
    failed. `asked_to_end` says how often the user did: once ends a wait for room, twice the wait for
    acknowledgements as well; what has none then counts as failed.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        topic: str,
        asked_to_end: Callable[[], int],
        reports: Sequence[Callable[[Tally], None]],
    ) -> None:
        self._topic = topic
        self._asked_to_end = asked_to_end
        self._reports = reports
        self._pending: collections.deque[tuple[FutureRecordMetadata, Position]] = collections.deque()
        self._tally = Tally()
        self._sent = 0
        self._next_report = time.monotonic()
        self._failure: BaseException | None = None
        self._producer = _producer(kafka, topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._await_acknowledgements()
        finally:
            self._give_up_on_pending()
            self._report()
            # What does not end in time has just been counted as failed.
            with contextlib.suppress(KafkaTimeoutError):
                self._producer.close(timeout=_CLOSE_S)
        if error is None:
            self._raise_if_failed()

    @property
    def tally(self) -> Tally:
        return self._tally

    def send(self, row: Row) -> None:
        """Hand the row to the producer; waits while MAX_PENDING rows are under way, unless stopped.

        Raises DeliveryFailed once a row sent earlier has failed.
        """
        key, value = message(row.cells)
        try:
            future = self._producer.send(self._topic, value, key)
        except KafkaError as error:
            raise DeliveryFailed(f"Kafka does not take rows for topic {self._topic}: {error}") from error
        self._pending.append((future, row.position))
        self._sent += 1
        if self._sent % _SETTLE_EVERY == 0:
            self.settle()
        while len(self._pending) >= MAX_PENDING and not self._asked_to_end():
            time.sleep(_POLL_S)
            self.settle()

    def settle(self) -> None:
        """Count what was acknowledged meanwhile and report it. Raises DeliveryFailed."""
        self._settle()
        if time.monotonic() >= self._next_report:
            self._report()
        self._raise_if_failed()

    def _report(self) -> None:
        for report in self._reports:
            report(self._tally)
        self._next_report = time.monotonic() + _REPORT_S

    def _settle(self) -> None:
        """Take off the front of `_pending` what is done: callbacks for each record would cost more."""
        acknowledged, failed, position = 0, 0, self._tally.position
        while self._pending and self._pending[0][0].is_done:
            future, reached = self._pending.popleft()
            if future.succeeded():
                acknowledged += 1
                position = reached if self._failure is None else position
            else:
                failed += 1
                self._failure = self._failure or future.exception
        self._tally = Tally(
            sent=self._sent,
            acknowledged=self._tally.acknowledged + acknowledged,
            failed=self._tally.failed + failed,
            position=position,
        )

    def _await_acknowledgements(self) -> None:
        """Not by the producer's flush: a second Ctrl-C has to find no lock of the library's half taken."""
        deadline = time.monotonic() + _FLUSH_S
        self._settle()
        while self._pending and time.monotonic() < deadline and self._asked_to_end() < 2:
            time.sleep(_POLL_S)
            self._settle()

    def _give_up_on_pending(self) -> None:
        """Whatever has no answer at the end counts as failed, though Kafka may have it."""
        acknowledged = sum(future.succeeded() for future, _ in self._pending)
        self._tally = replace(
            self._tally,
            acknowledged=self._tally.acknowledged + acknowledged,
            failed=self._tally.failed + len(self._pending) - acknowledged,
        )
        if acknowledged < len(self._pending):
            self._failure = self._failure or KafkaTimeoutError("it had not answered when the wait ended")
        self._pending.clear()

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise DeliveryFailed(f"Kafka did not acknowledge a row: {self._failure}") from self._failure


@dataclass(frozen=True)
class Original:
    """A record as it once was in Kafka, and where: `place` says topic id, partition and offset."""

    key: bytes | None
    value: bytes | None
    place: str

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Answer(enum.Enum):
    """What Kafka said of a record. FAILED: nothing that tells whether it has it."""

    ACKNOWLEDGED = "acknowledged"
    TOO_LARGE = "too large"
    FAILED = "failed"


def send_again(kafka: KafkaAccess, topic: str, originals: Iterable[Original]) -> Iterator[Answer]:
    """Send records byte for byte as they were; gives Kafka's answer to each, in their order.

    A header REPLAY_HEADER says where each one was before. Raises DeliveryFailed once all that was sent is
    answered, when one of the answers was FAILED; what follows may not have been sent.
    """
    for together in _sent_together(originals):
        failure = None
        with contextlib.closing(_producer(kafka, topic, max_request_size=_LARGEST)) as producer:
            for error in _errors(producer, topic, together):
                answer = _answer(error)
                failure = failure or (error if answer is Answer.FAILED else None)
                yield answer
        if failure is not None:
            raise DeliveryFailed(f"Kafka did not acknowledge a record: {failure}") from failure


def _sent_together(originals: Iterable[Original]) -> Iterator[list[Original]]:
    """Runs of small records; a large one by itself, since the library's idempotent producer loses what is
    under way, and may take nothing more, when one is refused for its size."""
    for is_large, run in itertools.groupby(originals, lambda each: each.size > _LARGE):
        if is_large:
            yield from ([each] for each in run)
        else:
            yield list(run)


def _errors(
    producer: KafkaProducer, topic: str, originals: Iterable[Original]
) -> Iterator[KafkaError | None]:
    """Of each record the error, or None when it is acknowledged; after one that is not taken at all none."""
    futures, refused = [], None
    for original in originals:
        headers = [(REPLAY_HEADER, original.place.encode())]
        try:
            futures.append(producer.send(topic, original.value, original.key, headers=headers))
        except KafkaError as error:
            refused = error
            break
    for future in futures:
        try:
            future.get(timeout=_FLUSH_S)
        except KafkaError as error:
            yield error
        else:
            yield None
    if refused is not None:
        yield refused


def _answer(error: KafkaError | None) -> Answer:
    if error is None:
        return Answer.ACKNOWLEDGED
    return Answer.TOO_LARGE if isinstance(error, MessageSizeTooLargeError) else Answer.FAILED


def _producer(kafka: KafkaAccess, topic: str, **options: object) -> KafkaProducer:
    try:
        producer = _Producer(**kafka.client_options(), partitioner=_ByUser(), **_PRODUCER, **options)
        # The first row would wait for this, and the rows after it would have to catch up.
        producer.partitions_for(topic)
        return producer
    except KafkaError as error:
        raise DeliveryFailed(f"No producer could be set up at {kafka.bootstrap_servers}: {error}") from error
