"""TCP ports of 127.0.0.1."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"

# Below every system's range for outgoing connections: there a client that retries against a stopped
# service can be given that very port, connect to itself, and keep the service from coming back.
_FREE_PORTS = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(*preferred: int | None, taken: frozenset[int] = frozenset()) -> int:
    """The first of `preferred` that is free and not in `taken`, else any free port."""
    for port in preferred:
        if port is not None and port not in taken and is_free(port):
            return port
    candidates = [port for port in _FREE_PORTS if port not in taken]
    random.shuffle(candidates)
    return next(port for port in candidates if is_free(port))
