"""The four scripts as a user starts them: real processes, ended by their pid."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fraudstream.config import PROJECT_DIR

# For a job that lives a minute: the second compiler would take more processor time than it saves.
SHORT_LIVED = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
_STOP_S = 60


@contextmanager
def running_job(
    environment: Mapping[str, str], log: Path, *options: str, folder: Path = PROJECT_DIR
) -> Iterator[subprocess.Popen[bytes]]:
    """`python data_cleaning.py` in `folder`; at the end it is asked to stop, and must do so with exit code 0.

    A job that the test has killed itself is only reaped.
    """
    with log.open("ab") as output:
        job = subprocess.Popen(
            [sys.executable, "data_cleaning.py", *options],
            cwd=folder,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield job
        if job.poll() is None:
            job.send_signal(signal.SIGTERM)
            assert job.wait(timeout=_STOP_S) == 0, log.read_text(errors="replace")
    finally:
        if job.poll() is None:
            job.kill()
        job.wait()


def run_script(
    script: str, *options: str, environment: Mapping[str, str], folder: Path = PROJECT_DIR
) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts (or `-m` a module) to its end."""
    return subprocess.run(
        [sys.executable, script, *options],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
