"""Processes are found by their mark and ended; nobody else's are touched."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fraudstream.config import child_environment
from fraudstream.stack.errors import ServiceFailed, StackError
from fraudstream.stack.locks import exclusive
from fraudstream.stack.processes import end, find, is_alive, kill, marks, run_to_end, spawn
from tests.support.waiting import wait_until

SLEEP = ("/bin/sh", "-c", "echo ready; exec sleep 600")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    started: list[psutil.Process] = []

    def start(command: tuple[str, ...], state_dir: Path, service: str = "kafka") -> psutil.Process:
        log = tmp_path / f"{len(started)}.log"
        process = spawn(command, environment=child_environment(**marks(state_dir, service)), log=log)
        started.append(process)
        wait_until(lambda: "ready" in log.read_text(), timeout=10, describe="the process is up")
        return process

    yield start
    kill(started)


def test_a_process_is_found_by_stack_and_service(start, tmp_path: Path) -> None:
    process = start(SLEEP, tmp_path, "kafka")
    assert find(tmp_path) == [process]
    assert find(tmp_path, "kafka") == [process]
    assert find(tmp_path, "mysql") == []
    assert find(tmp_path / "other") == []


def test_what_a_process_starts_is_found_too(start, tmp_path: Path) -> None:
    start(("/bin/sh", "-c", "sleep 600 & echo ready; wait"), tmp_path)
    assert len(wait_until(lambda: find(tmp_path)[1:] and find(tmp_path), timeout=10)) == 2
    end(find(tmp_path), grace_s=5)
    assert find(tmp_path) == []


def test_end_takes_by_force_what_does_not_heed_sigterm(start, tmp_path: Path) -> None:
    process = start(STUBBORN, tmp_path)
    end([process], grace_s=0.3)
    assert not is_alive(process)
    assert process.wait() == -signal.SIGKILL


def test_end_leaves_other_stacks_alone(start, tmp_path: Path) -> None:
    ours, theirs = start(SLEEP, tmp_path / "ours"), start(SLEEP, tmp_path / "theirs")
    end(find(tmp_path / "ours"), grace_s=5)
    assert not is_alive(ours)
    assert is_alive(theirs)


def test_a_process_outlives_its_starter(tmp_path: Path) -> None:
    script = f"""
        import os
        from pathlib import Path
        from fraudstream.config import child_environment
        from fraudstream.stack.processes import marks, spawn
        state = Path({str(tmp_path)!r})
        environment = child_environment(**marks(state, "kafka"))
        spawn(["/bin/sleep", "600"], environment=environment, log=state / "log")
        os.kill(os.getpid(), 9)
    """
    starter = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert starter.returncode == -signal.SIGKILL
    (process,) = find(tmp_path)
    end([process], grace_s=5)
    assert find(tmp_path) == []


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="/nowhere/mysqld cannot be started: No such file"):
        spawn(["/nowhere/mysqld"], environment={}, log=tmp_path / "log")


def test_a_step_that_fails_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="exit code 3") as error:
        run_to_end(["/bin/sh", "-c", "echo disk full; exit 3"], environment={}, log=tmp_path / "log")
    assert "disk full" in str(error.value)


def test_a_lock_that_is_held_is_told_and_freed_by_its_holders_death(tmp_path: Path) -> None:
    lock = tmp_path / "stack.lock"
    holding = f"""
        import time
        from pathlib import Path
        from fraudstream.stack.locks import exclusive
        with exclusive(Path({str(lock)!r}), timeout_s=0, doing="x"):
            print("held", flush=True)
            time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(holding)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StackError, match="still starting the stack"),
            exclusive(lock, timeout_s=0.2, doing="starting the stack"),
        ):
            pass
        holder.kill()
        began = time.monotonic()
        with exclusive(lock, timeout_s=10, doing="starting the stack"):
            assert time.monotonic() - began < 10
