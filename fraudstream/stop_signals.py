"""Ctrl-C and SIGTERM as a question that a loop can ask, so that it ends between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def stop_on_signals() -> Callable[[], bool]:
    """From now on the first SIGINT or SIGTERM only makes the returned function say True.

    A second one raises KeyboardInterrupt wherever the main thread is. To be called in the main thread.
    The loop must poll: a lock or event may not be touched from a signal handler.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, receive)
    return lambda: bool(received)
