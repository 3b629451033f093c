"""The dashboard with a page open in it, as a part of what is measured, without a browser's own load."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from benchmarks.errors import BenchFailed
from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.stack.processes import end, spawn, tail

_START_S = 60.0
_STOP_S = 10.0


@contextmanager
def open_dashboard(database: str, port: int, log: Path) -> Iterator[psutil.Process]:
    """`streamlit run dashboard.py` over `database`, its first page drawn once. Raises BenchFailed."""
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT_DIR / "dashboard.py")]
    environment = child_environment(MYSQL_URL=database, PYTHONPATH=str(PROJECT_DIR))
    process = spawn([*command, "--server.port", str(port)], environment=environment, log=log)
    try:
        _await_answer(port, log)
        with connect(f"ws://127.0.0.1:{port}/_stcore/stream", max_size=None) as session:
            _draw(session, log)
            yield process
    finally:
        end([process], grace_s=_STOP_S)


def _await_answer(port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise BenchFailed(tail(log)) from None
            time.sleep(0.2)


def _draw(session: ClientConnection, log: Path) -> None:
    """Ask for the page as a browser does, and wait until all of it has come."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    session.send(message.SerializeToString())
    answer = ForwardMsg()
    while answer.WhichOneof("type") != "script_finished":
        try:
            received = session.recv(timeout=_START_S)
        except TimeoutError:
            raise BenchFailed(tail(log)) from None
        assert isinstance(received, bytes)
        answer.ParseFromString(received)
