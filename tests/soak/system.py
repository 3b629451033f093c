"""The system under test: stack, mail server and a job that is there again after each of its deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from fraudstream.stack import Stack, StackError
from fraudstream.store.progress import read_progress
from tests.support.brokers import StackBroker
from tests.support.jobs import running_job
from tests.support.relay import Relay
from tests.support.waiting import wait_until

_RECOVERY_S = 200

Job = subprocess.Popen[bytes]


@dataclass
class System:
    """`mail_door` is what the job takes for its SMTP server; `environment` is the job's."""

    stack: Stack
    engine: Engine
    mail_door: Relay
    environment: Mapping[str, str]
    folder: Path
    longest_pause_s: float = 0.0
    _jobs: list[tuple[Job, ExitStack]] = field(default_factory=list)
    _started: int = 0

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing stays behind when the soak fails."""
        for job, _ in self._jobs:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()

    @property
    def broker(self) -> StackBroker:
        return StackBroker(self.stack)

    @property
    def job(self) -> Job:
        """The copy that was started last."""
        return self._jobs[-1][0]

    @property
    def log(self) -> Path:
        return self.folder / f"job-{self._started}.log"

    def start_job(self) -> None:
        """Start a copy of the job, beside those that run."""
        self._started += 1
        ending = ExitStack()
        job = ending.enter_context(running_job(self.environment, self.log))
        self._jobs.append((job, ending))

    def kill_first_job(self) -> None:
        job, ending = self._jobs.pop(0)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        ending.close()

    def freeze_job(self) -> None:
        os.killpg(self.job.pid, signal.SIGSTOP)

    def thaw_job(self) -> None:
        os.killpg(self.job.pid, signal.SIGCONT)

    def stop_jobs(self) -> None:
        """Ask them to end, as a user does; each must, with exit code 0."""
        while self._jobs:
            _, ending = self._jobs.pop()
            ending.close()

    def process_ids(self) -> tuple[int | None, int | None]:
        """Of the job, once it has committed a batch, and of the broker."""
        try:
            broker: int | None = self.stack.pid("kafka")
        except StackError:
            broker = None
        at_work = self._jobs and self.log.exists() and "INFO batch" in self.log.read_text(errors="replace")
        return (self._jobs[-1][0].pid if at_work else None), broker

    def committed(self) -> int | None:
        """How many records are accounted for; None while the database is away."""
        try:
            return read_progress(self.engine, self.environment["KAFKA_TOPIC"]).accounted_for
        except DBAPIError:
            return None

    def wait_until_it_works(self) -> None:
        """Return when a batch has been committed from now on; the job's copies must be alive."""
        began = time.monotonic()
        wait_until(lambda: self.committed() is not None, timeout=_RECOVERY_S, describe="the database answers")
        before = self.committed() or 0
        wait_until(lambda: (self.committed() or 0) > before, timeout=_RECOVERY_S, describe=self.last_words)
        self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - began)
        for job, _ in self._jobs:
            assert job.poll() is None, self.last_words()

    def last_words(self) -> str:
        """What the copy that was started last has said."""
        return f"{self.log.name}\n{self.log.read_text(errors='replace')[-4000:]}"
