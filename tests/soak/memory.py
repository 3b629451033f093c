"""How much memory the job and the broker take over time, and whether that stays within bounds."""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

_EVERY_S = 1.0
_MIB = 1024 * 1024

# A JVM may fill its heap; beside it are its code, threads, buffers and libraries.
BESIDE_THE_HEAP_MIB = 700
# Python has no heap limit: what it takes must have settled after a quarter of its life.
SETTLED_SHARE, SETTLED_MIB = 1.15, 30


@dataclass(frozen=True)
class Part:
    """A kind of process of the system; `heap_mib` is the limit of its Java heap, None for Python."""

    name: str
    heap_mib: int | None


BROKER = Part("broker", heap_mib=512)
JOB_JVM = Part("job, JVM", heap_mib=1024)
JOB_DRIVER = Part("job, Python driver", heap_mib=None)
JOB_WORKERS = Part("job, Python workers", heap_mib=None)
PARTS = (JOB_DRIVER, JOB_JVM, JOB_WORKERS, BROKER)


@dataclass
class Life:
    """The memory of one part while it was at work, from its first batch to its end: MiB, once a second."""

    part: Part
    samples: list[float] = field(default_factory=list)

    @property
    def course(self) -> list[float]:
        """Its usual size in each tenth of its life (in fewer parts if it was short)."""
        tenths = min(10, len(self.samples))
        ends = [len(self.samples) * number // tenths for number in range(tenths + 1)]
        return [statistics.median(self.samples[start:end]) for start, end in itertools.pairwise(ends)]

    @property
    def settled(self) -> float:
        """The usual size in the second quarter of its life."""
        quarter = len(self.samples) // 4
        return statistics.median(self.samples[quarter : 2 * quarter + 1])

    @property
    def last(self) -> float:
        """The usual size in the last quarter of its life."""
        return statistics.median(self.samples[-(len(self.samples) // 4 + 1) :])

    @property
    def limit(self) -> float:
        """What it must not take more of: a JVM at any time, Python in the last quarter of its life."""
        if self.part.heap_mib is not None:
            return self.part.heap_mib + BESIDE_THE_HEAP_MIB
        return self.settled * SETTLED_SHARE + SETTLED_MIB

    @property
    def is_bounded(self) -> bool:
        return (self.last if self.part.heap_mib is None else max(self.samples)) <= self.limit


def longest_lives(lives: Sequence[Life]) -> list[Life]:
    """Of each part, the life with the most samples."""
    return [
        max((life for life in lives if life.part == part), key=lambda life: len(life.samples))
        for part in PARTS
        if any(life.part == part and life.samples for life in lives)
    ]


class MemoryWatch:
    """Samples, once a second in the background, the processes that `present` names at that moment.

    `present` gives the job's and the broker's process id, None for one that is not at work just now.
    """

    def __init__(self, present: Callable[[], tuple[int | None, int | None]]) -> None:
        self._present = present
        self._lives: dict[tuple[int, Part], Life] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @property
    def lives(self) -> list[Life]:
        return list(self._lives.values())

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            job, broker = self._present()
            with suppress(psutil.NoSuchProcess):
                if job is not None:
                    self._sample_job(psutil.Process(job))
            with suppress(psutil.NoSuchProcess):
                if broker is not None:
                    self._note(broker, BROKER, resident(psutil.Process(broker)))

    def _sample_job(self, driver: psutil.Process) -> None:
        below = driver.children(recursive=True)
        jvms = [process for process in below if process.name() == "java"]
        workers = [process for jvm in jvms for process in jvm.children(recursive=True)]
        self._note(driver.pid, JOB_DRIVER, resident(driver))
        self._note(driver.pid, JOB_JVM, sum(map(resident, jvms)))
        self._note(driver.pid, JOB_WORKERS, sum(map(proportional, workers)))

    def _note(self, pid: int, part: Part, used: int) -> None:
        self._lives.setdefault((pid, part), Life(part)).samples.append(used / _MIB)


def resident(process: psutil.Process) -> int:
    """Bytes, libraries included that others have mapped, too: they do not change when others end."""
    return int(process.memory_info().rss)


def proportional(process: psutil.Process) -> int:
    """Bytes; what forked workers share is counted once in the sum of all."""
    return int(process.memory_full_info().pss)
