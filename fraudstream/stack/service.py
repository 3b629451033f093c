"""What the stack asks of each of its services."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil


class Service(Protocol):
    """One server process: how to make it ready, start it, and see that it answers."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def log(self) -> Path: ...

    @property
    def start_timeout_s(self) -> float: ...

    def prepare(self) -> None:
        """Download what is needed and create the data folder where it is missing; safe to repeat."""

    def command(self) -> Sequence[str | Path]:
        """The command line that serves in the foreground."""

    def version(self, process: psutil.Process) -> str | None:
        """Product and version when `process` itself, not a stranger on its port, answers; else None."""
