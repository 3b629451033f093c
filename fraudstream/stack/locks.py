"""A lock between processes that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraudstream.stack.errors import StackError

_POLL_S = 0.1


@contextmanager
def exclusive(path: Path, *, timeout_s: float, doing: str) -> Iterator[None]:
    """Hold the lock file `path` for the block; it is created where missing.

    Raises StackError that names `doing` when another process holds it for all of `timeout_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise StackError(
                    f"another process is still {doing} ({path} is locked): wait for it or end it"
                )
            time.sleep(_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
