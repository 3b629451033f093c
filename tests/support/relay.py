"""A door between a client and a real server, which a test can shut and open: the server seems to go away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.support.ports import free_port


class Relay:
    """Forwards connections to 127.0.0.1:`port` of the relay to the target, while it is open."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.port = free_port()
        self._target = (target_host, target_port)
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse new connections and cut those that there are."""
        if self._listener is not None:
            # close() alone leaves a thread waiting in accept(), and the port listening with it.
            _cut(self._listener)
        for connection in self._connections:
            _cut(connection)
        self._listener, self._connections = None, []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the door was shut
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:  # the server is away, the door is not
                    _cut(client)
                    continue
                self._connections += [client, server]
                self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        self._pump_in_background(client, server)
        self._pump_in_background(server, client)

    @staticmethod
    def _pump_in_background(
        source: socket.socket, sink: socket.socket, listen: Callable[[bytes], None] = lambda data: None
    ) -> None:
        """Forward in a thread until either end is cut; `listen` hears all of it before it is forwarded."""
        threading.Thread(target=_pump, args=(source, sink, listen), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, listen: Callable[[bytes], None]) -> None:
    with suppress(OSError):  # either end was cut
        while data := source.recv(65_536):
            listen(data)
            sink.sendall(data)
    _cut(sink)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # already cut by the other end
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
