"""Watching from outside: when a record's batch became visible to readers, and what memory and processor time
all take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from fraudstream.store.tables import kafka_offsets

_OFFSETS_EVERY_S = 0.005
_MEMORY_EVERY_S = 2.0
# Younger ones may just be forked: until it runs its own program, such a process shows its parent's memory.
_FORKED_S = 1.0


class Repeatedly(AbstractContextManager["Repeatedly"]):
    """A thread that looks again and again until the context ends; what it meets is raised there."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                self._look()
        except BaseException as error:  # noqa: BLE001
            self._error = error


@dataclass
class Commits:
    """When each commit became visible: Unix seconds, and partition -> next offset from then on."""

    seen: list[tuple[float, dict[int, int]]] = field(default_factory=list)

    def totals(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(Unix seconds, committed records in all) of each commit, in order."""
        at = np.array([moment for moment, _ in self.seen])
        return at, np.array([sum(offsets.values()) for _, offsets in self.seen], dtype=np.int64)

    def newest_total(self, otherwise: int) -> int:
        """Committed records in all by now; `otherwise` while none was seen."""
        return sum(self.seen[-1][1].values()) if self.seen else otherwise

    def first_behind(self, total: int) -> float:
        """Unix seconds of the first commit of more records than `total`, which a job notes as it starts."""
        at, totals = self.totals()
        return float(at[totals > total][0])

    def visible_at(self, partition: int, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Unix seconds at which the records of these offsets were visible first; all must be committed."""
        behind = np.array([at.get(partition, 0) for _, at in self.seen])
        moments = np.array([moment for moment, _ in self.seen])
        return moments[np.searchsorted(behind, offsets, side="right")]


@contextmanager
def watch_commits(engine: Engine, topic: str, commits: Commits) -> Iterator[None]:
    """Look at the stored offsets every few milliseconds, on a connection of its own."""
    query = select(kafka_offsets.c.partition_id, kafka_offsets.c.next_offset).where(
        kafka_offsets.c.topic == topic
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def look() -> None:
            offsets = {row.partition_id: row.next_offset for row in connection.execute(query)}
            if offsets and (not commits.seen or commits.seen[-1][1] != offsets):
                commits.seen.append((time.time(), offsets))

        with Repeatedly(look, _OFFSETS_EVERY_S):
            yield


@dataclass
class ProcessorTime:
    """Seconds by part since each process began, also of processes that have ended, as they were last seen."""

    roots: Callable[[], dict[str, Sequence[psutil.Process]]]
    _last: dict[psutil.Process, tuple[str, float]] = field(default_factory=dict)

    def look(self) -> dict[str, float]:
        for name, roots in self.roots().items():
            for root in roots:
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        part = name if name != "job" else _part_of_job(root, process)
                        times = process.cpu_times()
                        self._last[process] = part, times.user + times.system
        spent: dict[str, float] = {}
        for part, seconds in self._last.values():
            spent[part] = spent.get(part, 0.0) + seconds
        return spent


def _part_of_job(root: psutil.Process, process: psutil.Process) -> str:
    if process.pid == root.pid:
        return "driver"
    return "jvm" if "java" in process.name() else "workers"


@dataclass
class Memory:
    """MiB of all watched processes together, shared pages counted once; and of each at the highest."""

    peak_mib: float = 0.0
    at_peak: dict[str, float] = field(default_factory=dict)


def watch_memory(
    roots: Callable[[], dict[str, Sequence[psutil.Process]]], memory: Memory
) -> AbstractContextManager[object]:
    """Add up every other second what the named processes and their children use."""

    def look() -> None:
        parts = {name: sum(map(_tree_mib, processes)) for name, processes in roots().items()}
        if sum(parts.values()) > memory.peak_mib:
            memory.peak_mib, memory.at_peak = sum(parts.values()), parts

    return Repeatedly(look, _MEMORY_EVERY_S)


def _tree_mib(root: psutil.Process) -> float:
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if time.time() - process.create_time() > _FORKED_S:
                    total += process.memory_full_info().pss
    return total / 2**20
