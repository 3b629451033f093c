"""Messages into Kafka: all at once, or each at its own moment whether or not the one before is through.

By librdkafka, which takes so little of the two cores that the pipeline is measured and not the load. The
project's own producer has a phase to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from confluent_kafka import Producer

from benchmarks.errors import BenchFailed
from benchmarks.population import Messages, Population

_SLICE_S = 0.01
_PART = 20_000


@dataclass
class Load:
    """A population's messages into one topic; `sent` counts on from phase to phase."""

    bootstrap_servers: str
    topic: str
    population: Population
    sent: int = 0

    def send_all(self, count: int) -> None:
        """The next `count` messages as fast as they go; returns when all are acknowledged."""
        producer = self._producer(linger_ms=50)
        for start in range(0, count, _PART):
            part = self.population.messages(self.sent, min(_PART, count - start))
            self._send(producer, part, range(len(part)), timestamp_ms=0)
            self.sent += len(part)
        self._flush(producer)

    def send_paced(self, rate: float, seconds: float, each_second: Callable[[float, int], None]) -> None:
        """`rate` messages a second, each with the moment when it was due as its timestamp.

        So what is measured from the timestamp on includes what a message had to wait because the sender was
        late: no coordinated omission. `each_second` is told, each second and in the end, how many seconds
        are over and how many messages were due by then, in all, whether or not they are sent.
        """
        messages = self.population.messages(self.sent, round(rate * seconds))
        producer, first, done = self._steady, self.sent, 0
        started, reported = time.time(), 0

        def due_after(seconds: float) -> int:
            return min(len(messages), int(seconds * rate) + 1)

        def report() -> None:
            over = time.time() - started
            each_second(over, first + due_after(over))

        while done < len(messages):
            elapsed = time.time() - started
            due = due_after(elapsed)
            for number in range(done, due):
                self._send(
                    producer, messages, range(number, number + 1), int((started + number / rate) * 1000)
                )
            done, self.sent = due, first + due
            if int(elapsed) > reported:
                reported = int(elapsed)
                report()
            time.sleep(max(0.0, _SLICE_S - (time.time() - started - elapsed)))
        report()
        self._flush(producer)

    @cached_property
    def _steady(self) -> Producer:
        """One for all records that are timed: how long it takes to connect is not the pipeline's time."""
        return self._producer(linger_ms=2)

    def _producer(self, *, linger_ms: int) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",  # the one of every other Kafka client
                "linger.ms": linger_ms,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def _send(self, producer: Producer, messages: Messages, numbers: range, timestamp_ms: int) -> None:
        for number in numbers:
            while True:
                try:
                    producer.produce(
                        self.topic, messages.values[number], messages.keys[number], timestamp=timestamp_ms
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)

    def _flush(self, producer: Producer) -> None:
        if left := producer.flush(120):
            raise BenchFailed(f"{left} messages were not acknowledged within two minutes")
