"""A relay that reads along between a client and a real MySQL-compatible server: what is asked, and commits.

The packets are those of MySQL's client/server protocol (MySQL Source Code Documentation, "Protocol
Basics"): three bytes of length, one of sequence, the payload. A command begins at sequence 0; its first
byte 3 means a query. Without TLS only.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from tests.support.relay import Relay

Stage = Literal["before", "after"]

_QUERY = 3
_WRITES_A_BATCH = re.compile(rb"INSERT\b.{0,200}\b(clean_data|pipeline_totals)\b", re.S)


class MySQLRelay(Relay):
    """Forwards as Relay does, and tells of each statement before it is forwarded.

    `on_commit` is called for the transactions that write a batch: "before" the COMMIT is forwarded, and
    "after" the server has answered it, when the client has not heard yet. What it raises ends the connection.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        on_commit: Callable[[Stage], None] = lambda stage: None,
        on_statement: Callable[[bytes], None] = lambda statement: None,
    ) -> None:
        super().__init__(target_host, target_port)
        self._on_commit = on_commit
        self._on_statement = on_statement

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        answer_is_of_a_batch = threading.Event()
        watch = _Watch(self._on_commit, self._on_statement, answer_is_of_a_batch)

        def hear(data: bytes) -> None:
            if answer_is_of_a_batch.is_set():
                answer_is_of_a_batch.clear()
                self._on_commit("after")

        self._pump_in_background(client, server, watch.client_sends)
        self._pump_in_background(server, client, hear)


class _Watch:
    """What one client says."""

    def __init__(
        self,
        on_commit: Callable[[Stage], None],
        on_statement: Callable[[bytes], None],
        answer_is_of_a_batch: threading.Event,
    ) -> None:
        self._on_commit = on_commit
        self._on_statement = on_statement
        self._answer_is_of_a_batch = answer_is_of_a_batch
        self._unread = b""
        self._batch_written = False

    def client_sends(self, data: bytes) -> None:
        self._unread += data
        for sequence, payload in self._packets():
            if sequence == 0 and payload[:1] == bytes([_QUERY]):
                self._query(payload[1:])

    def _packets(self) -> Iterator[tuple[int, bytes]]:
        while len(self._unread) >= 4:
            end = 4 + int.from_bytes(self._unread[:3], "little")
            if len(self._unread) < end:
                return
            packet, self._unread = self._unread[:end], self._unread[end:]
            yield packet[3], packet[4:]

    def _query(self, statement: bytes) -> None:
        self._on_statement(statement)
        word = statement.strip().upper()
        if word == b"COMMIT" and self._batch_written:
            self._batch_written = False
            self._on_commit("before")
            self._answer_is_of_a_batch.set()
        elif word == b"ROLLBACK":
            self._batch_written = False
        elif _WRITES_A_BATCH.match(statement):
            self._batch_written = True
