"""Ctrl-C, SIGTERM and a closed terminal as a question that a loop can ask, to end between two steps."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> Callable[[], bool]:
    """From now on the first SIGINT, SIGTERM or SIGHUP only makes the returned function say True.

    A second one raises KeyboardInterrupt wherever the main thread is. To be called in the main thread.
    The loop must poll: a lock or event may not be touched from a signal handler.
    """
    asked = count_stop_signals(1)
    return lambda: asked() > 0


def count_stop_signals(polled: int) -> Callable[[], int]:
    """How often the end was asked for; the call after `polled` of them raises KeyboardInterrupt.

    For a loop that counts, or waits inside a library: an exception between any two steps would leave the
    count wrong, or a lock half taken. Otherwise as `stop_on_signals`.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == polled:
            for each in ENDING:
                signal.signal(each, signal.default_int_handler)

    for each in ENDING:
        signal.signal(each, receive)
    return lambda: len(received)


def exit_on_signals() -> None:
    """From now on the first SIGINT, SIGTERM or SIGHUP raises SystemExit wherever the main thread is.

    Later ones do nothing: a terminal that is closed sends more than one, and clean-up must come to its end.
    What this process was started to ignore, as nohup does with SIGHUP, stays ignored.
    """
    received: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            sys.exit(128 + number)

    for each in ENDING:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, leave)
