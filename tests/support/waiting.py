"""Waiting for a condition, with a deadline, in place of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.05


def wait_until(
    condition: Callable[[], T], *, timeout: float, describe: str | Callable[[], str] = "the condition"
) -> T:
    """Call `condition` until it returns something true, which is returned.

    Raises AssertionError with `describe` (a text, or a function that makes one then) after `timeout` seconds.
    An exception in `condition` is not swallowed.
    """
    deadline = time.monotonic() + timeout
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            what = describe() if callable(describe) else describe
            raise AssertionError(f"not within {timeout:g} s: {what} (last seen: {outcome!r})")
        time.sleep(_POLL_S)
