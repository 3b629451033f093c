"""Processes of the stack: started detached, found again by a mark in their environment, ended by pid.

The mark is what a pid file would be, but it is there from the first instruction of the process, it
cannot be stale, and a stranger that got a recycled pid does not carry it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from fraudstream.stack.errors import ServiceFailed

STACK_MARK = "FRAUDSTREAM_STACK"
SERVICE_MARK = "FRAUDSTREAM_STACK_SERVICE"

_LOG_LINES_SHOWN = 15


def marks(state_dir: Path, service: str) -> dict[str, str]:
    """The environment variables that mark a process as `service` of the stack in `state_dir`."""
    return {STACK_MARK: str(state_dir.resolve()), SERVICE_MARK: service}


def spawn(command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path) -> psutil.Process:
    """Start `command` in a session of its own, its output appended to `log`; it outlives its starter.

    Raises ServiceFailed when the program cannot be executed.
    """
    arguments = [str(part) for part in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as error:
        raise ServiceFailed(f"{arguments[0]} cannot be started: {error.strerror}") from error
    return psutil.Process(pid)


def run_to_end(command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path) -> None:
    """Run `command` and wait for it. Raises ServiceFailed with the end of `log` when it fails."""
    process = spawn(command, environment=environment, log=log)
    try:
        exit_code = process.wait()
    finally:
        kill([process])
    if exit_code != 0:
        raise ServiceFailed(f"{command[0]} ended with exit code {exit_code}\n{tail(log)}")


def find(state_dir: Path, service: str | None = None) -> list[psutil.Process]:
    """The living processes that carry the stack's mark, of one service or of all."""
    wanted = marks(state_dir, service or "")
    if service is None:
        del wanted[SERVICE_MARK]
    return [process for process in psutil.process_iter() if wanted.items() <= _environment(process).items()]


def _environment(process: psutil.Process) -> dict[str, str]:
    # Another user's process, a zombie, or one that ended meanwhile cannot be read: none is ours.
    try:
        return process.environ()
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return {}


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a child of ours that has ended is reaped on the way."""
    with suppress(psutil.NoSuchProcess):
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if process.ppid() == os.getpid():
            process.wait()
    return False


def end(processes: Iterable[psutil.Process], *, grace_s: float) -> None:
    """SIGTERM to each, after `grace_s` SIGKILL to those that are still there; waits until all are gone."""
    remaining = list(processes)
    for process in remaining:
        _signal(process, psutil.Process.terminate)
        # A suspended process heeds it only once it goes on.
        _signal(process, psutil.Process.resume)
    _, stubborn = psutil.wait_procs(remaining, timeout=grace_s)
    kill(stubborn)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each; waits until all are gone."""
    remaining = list(processes)
    for process in remaining:
        _signal(process, psutil.Process.kill)
    psutil.wait_procs(remaining)


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        send(process)


def tail(log: Path) -> str:
    """The last lines of a log, under its name."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"--- the end of {log}:", *lines[-_LOG_LINES_SHOWN:]])


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of this package's modules in this interpreter."""
    return [sys.executable, "-m", module, *arguments]
