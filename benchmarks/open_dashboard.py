"""The dashboard with a page open in it, as a part of what is measured, without a browser's own load."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from benchmarks.errors import BenchFailed
from benchmarks.watch import Repeatedly
from fraudstream.config import PROJECT_DIR
from fraudstream.stack.processes import end, spawn, tail

_START_S = 60.0
_STOP_S = 10.0
_LISTEN_S = 0.2


@contextmanager
def open_dashboard(
    environment: Mapping[str, str], port: int, log: Path, problems: list[str]
) -> Iterator[psutil.Process]:
    """`streamlit run dashboard.py` with its first page drawn, and drawn anew as often as in a browser.

    To `problems` is added what the page says later, each time that it cannot read the database. Raises
    BenchFailed where it says so at once.
    """
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT_DIR / "dashboard.py")]
    process = spawn([*command, "--server.port", str(port)], environment=environment, log=log)
    try:
        _await_answer(port, log)
        address = f"ws://127.0.0.1:{port}/_stcore/stream"
        # No pings: a browser sends none, and gives no page up that is slow to come.
        with connect(address, max_size=None, ping_interval=None) as session:
            page = OpenPage(session, log, problems)
            page.draw()
            with Repeatedly(page.keep_up_to_date, 0.0):
                yield process
    finally:
        end([process], grace_s=_STOP_S)


class OpenPage:
    """What a browser does for an open page: it asks for each fragment again when its interval is over."""

    def __init__(self, session: ClientConnection, log: Path, problems: list[str]) -> None:
        self._session, self._log, self._problems = session, log, problems
        self._intervals: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def draw(self) -> None:
        """Ask for the whole page, and wait until all of it has come. Raises BenchFailed when it does not."""
        known = len(self._problems)
        self._ask("")
        try:
            while self._receive(_START_S) != "script_finished":
                pass
        except TimeoutError:
            raise BenchFailed(tail(self._log)) from None
        if self._problems[known:]:
            raise BenchFailed(f"the dashboard says: {self._problems[-1]}")

    def keep_up_to_date(self) -> None:
        """Take what comes, and ask for the fragments that are due. Raises BenchFailed when one fails."""
        with suppress(TimeoutError):
            self._receive(_LISTEN_S)
        now = time.monotonic()
        for fragment in [fragment for fragment, at in self._due.items() if at <= now]:
            self._due[fragment] = now + self._intervals[fragment]
            self._ask(fragment)

    def _ask(self, fragment: str) -> None:
        message = BackMsg()
        message.rerun_script.query_string = ""
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = bool(fragment)
        self._session.send(message.SerializeToString())

    def _receive(self, timeout_s: float) -> str | None:
        """The kind of the next message. Raises TimeoutError; BenchFailed for an exception on the page."""
        received = self._session.recv(timeout=timeout_s)
        assert isinstance(received, bytes)
        message = ForwardMsg.FromString(received)
        element = message.delta.new_element
        if element.WhichOneof("type") == "exception":
            raise BenchFailed(f"{element.exception.message}\n{tail(self._log)}")
        if element.alert.format == Alert.ERROR:
            self._problems.append(element.alert.body)
        if message.WhichOneof("type") == "auto_rerun":
            fragment, interval = message.auto_rerun.fragment_id, message.auto_rerun.interval
            self._intervals[fragment] = interval
            self._due[fragment] = time.monotonic() + interval
        return message.WhichOneof("type")


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
