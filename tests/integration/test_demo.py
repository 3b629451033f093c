"""`python -m fraudstream demo`: the books balance at the end, and nothing stays behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV, child_environment
from fraudstream.stack.processes import STACK_MARK
from tests.support.jobs import run_script
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(280)


def demo_options(*options: str) -> list[str]:
    return ["-m", "fraudstream", "demo", *options]


def environment(state: Path) -> dict[str, str]:
    return child_environment(XDG_STATE_HOME=str(state))


def clean(state: Path) -> None:
    cleaned = run_script(*demo_options("--clean"), environment=environment(state))
    assert cleaned.returncode == 0, cleaned.stderr


@contextmanager
def running_demo(state: Path, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A demo in the foreground of nobody's terminal; whatever the test did, all of it is ended."""
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, *demo_options(*options)],
            cwd=PROJECT_DIR,
            env=environment(state),
            stdout=output,
            stderr=output,
        )
    try:
        yield demo
    finally:
        if demo.poll() is None:
            demo.kill()
        demo.wait()
        clean(state)


def processes_of(state: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(STACK_MARK, "")
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if mark.startswith(str(state)):
            found.append(process)
    return found


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    lines = TRANSACTIONS_CSV.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:301], lines[300], "TXNX,U001,,Cairo,2025-01-01 00:00:00,iOS,Amazon\n"]))
    return path


def test_once_ends_with_the_books_balanced_and_nothing_left(tmp_path: Path, small_csv: Path) -> None:
    state = tmp_path / "state"
    once = demo_options("--once", "--csv", str(small_csv))
    demo = run_script(*once, environment=environment(state))
    assert demo.returncode == 0, demo.stderr
    last = demo.stdout.splitlines()[-1]
    assert re.fullmatch(r"demo:( [a-z]+=[\d.]+){8}", last)
    said = dict(re.findall(r"([a-z]+)=([\d.]+)", last))
    rows = small_csv.read_text().splitlines()[1:]
    without_amount = sum(row.split(",")[2] == "" or row.split(",")[4] == "" for row in rows)
    assert int(said["read"]) == len(rows) == 302
    assert int(said["rejected"]) == without_amount
    assert int(said["duplicates"]) == len(rows) - len(set(rows))
    assert int(said["stored"]) == 302 - int(said["duplicates"]) - int(said["rejected"])
    assert int(said["alerts"]) == int(said["flagged"]) > 0
    assert int(said["mails"]) > 0
    assert "Dashboard:" in demo.stderr and "Mail inbox:" in demo.stderr
    assert processes_of(state) == []
    assert list((state / "fraudstream" / "demo").iterdir()) == []


def test_a_closed_terminal_ends_all_of_it(tmp_path: Path, small_csv: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "demo.log"
    with running_demo(state, log, "--csv", str(small_csv), "--rate", "5") as demo:
        wait_until(lambda: "Logs:" in log.read_text(), timeout=120, describe=log.read_text)
        assert len(processes_of(state)) >= 6
        demo.send_signal(signal.SIGHUP)
        assert demo.wait(timeout=90) == 0, log.read_text()
        assert processes_of(state) == []
        assert list((state / "fraudstream" / "demo").iterdir()) == []


def test_what_is_kept_runs_on_until_it_is_cleaned(tmp_path: Path, small_csv: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "demo.log"
    with running_demo(state, log, "--keep", "--csv", str(small_csv), "--rate", "5") as demo:
        wait_until(lambda: "Logs:" in log.read_text(), timeout=120, describe=log.read_text)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=90) == 0, log.read_text()
        assert log.read_text().endswith("Kept. End it with: python -m fraudstream demo --clean\n")
        assert len(processes_of(state)) >= 6
        clean(state)
        assert processes_of(state) == []
        assert list((state / "fraudstream" / "demo").iterdir()) == []


def test_what_a_killed_demo_left_is_removed_by_the_next_look(tmp_path: Path, small_csv: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "demo.log"
    with running_demo(state, log, "--csv", str(small_csv), "--rate", "5") as demo:
        wait_until(lambda: "starting inbox" in log.read_text(), timeout=120, describe=log.read_text)
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait()
        assert processes_of(state)
        clean(state)
        assert processes_of(state) == []
