"""A commit that goes on while the next batch is already read and judged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class PendingCommit:
    """At most one commit at a time, in a thread of its own.

    Who begins one settles it before the next one begins, and at the end. What the commit raised is raised
    there, once.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._running: Future[None] | None = None

    def begin(self, commit: Callable[[], None]) -> None:
        assert self._running is None, "settle() comes first"
        self._running = self._thread.submit(commit)

    def settle(self) -> None:
        """Wait for the commit that was begun; nothing happens without one."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    @property
    def is_running(self) -> bool:
        """Whether `settle` would have to wait."""
        return self._running is not None and not self._running.done()

    @property
    def has_failed(self) -> bool:
        """Whether `settle` would raise at once."""
        running = self._running
        return running is not None and running.done() and running.exception() is not None
