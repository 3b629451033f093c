"""The whole system in one terminal: embedded stack, stream, producer and dashboard, on a state of its own."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from sqlalchemy import Engine

from fraudstream import topic
from fraudstream.alerting import mail_sender
from fraudstream.config import PROJECT_DIR, Settings, child_environment, load_settings
from fraudstream.stack import Addresses, Stack, StackError
from fraudstream.stack.artifacts import Progress as Report
from fraudstream.stack.display import download_bars
from fraudstream.stack.locks import exclusive
from fraudstream.stack.processes import end, is_alive, marks, spawn, tail
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.outbox import pending
from fraudstream.store.progress import Progress, read_progress

TOPIC = "transactions"
_KEPT = "kept"
_POLL_S = 0.5
_STALLED_S = 180.0
_DASHBOARD_START_S = 60.0
_DRAIN_S = 300.0


class DemoFailed(Exception):
    """A part of the demo ended or stalled; the text says which, with the end of its log."""


@dataclass(frozen=True)
class DemoOptions:
    """`rate` is in transactions a second, 0 = as fast as it goes; `once` ends when all are accounted for."""

    csv: Path
    rate: float
    once: bool
    keep: bool


def run_demo(options: DemoOptions, settings: Settings, stopped: Callable[[], bool], console: Console) -> bool:
    """Run until `stopped`, or with `once` to the end; False when a record is not accounted for.

    Whatever happens, no process of it stays behind, unless `keep`; what a killed demo left is removed by
    the next. Raises DemoFailed, StackError.
    """
    root = settings.state_dir / "demo"
    clean_up(root, settings, console, kept_too=False)
    with _own_stack(root, settings, options, console) as (stack, state_dir):
        addresses = stack.up()
        demo = _Demo(addresses, state_dir, options, console, stopped)
        demo.start()
        complete = demo.watch()
        if options.keep:
            _say(console, "Kept. End it with: python -m fraudstream demo --clean")
        return complete


def clean_up(root: Path, settings: Settings, console: Console, *, kept_too: bool) -> None:
    """End and remove what earlier demos left: killed ones, and with `kept_too` those that were kept."""
    for state_dir in sorted(root.glob("run-*")):
        if (state_dir / _KEPT).exists() and not kept_too:
            continue
        with suppress(StackError), exclusive(state_dir / "lock", timeout_s=0, doing="running"):
            console.print(f"removing an earlier demo in {state_dir}")
            _stack(state_dir, settings, console).reset()
            shutil.rmtree(state_dir)


@contextmanager
def _own_stack(
    root: Path, settings: Settings, options: DemoOptions, console: Console
) -> Iterator[tuple[Stack, Path]]:
    root.mkdir(parents=True, exist_ok=True)
    state_dir = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    with exclusive(state_dir / "lock", timeout_s=0, doing="running"), download_bars() as progress:
        stack = _stack(state_dir, settings, console, progress)
        try:
            yield stack, state_dir
            if options.keep:
                (state_dir / _KEPT).touch()
        finally:
            if not (state_dir / _KEPT).exists():
                stack.reset()
                shutil.rmtree(state_dir)


def _stack(state_dir: Path, settings: Settings, console: Console, progress: Report | None = None) -> Stack:
    java_home = {"JAVA_HOME": str(settings.java_home)} if settings.java_home else {}
    return Stack(
        state_dir,
        settings.cache_dir,
        child_environment(**java_home),
        progress=progress,
        notice=lambda line: _say(console, line),
    )


def _say(console: Console, line: str) -> None:
    # The terminal may have been closed; that must not keep the processes from being ended.
    with suppress(OSError):
        console.print(line)


class _Demo:
    def __init__(
        self,
        addresses: Addresses,
        state_dir: Path,
        options: DemoOptions,
        console: Console,
        stopped: Callable[[], bool],
    ) -> None:
        self._addresses = addresses
        self._state_dir = state_dir
        self._options = options
        self._console = console
        self._stopped = stopped
        self._processes: dict[str, psutil.Process] = {}
        self._settings = load_settings(
            **{name.lower(): value for name, value in addresses.environment().items()}, kafka_topic=TOPIC
        )
        self._engine: Engine = make_engine(self._settings.database_url)
        self._started = time.monotonic()

    def start(self) -> None:
        migrate(self._engine)
        scratch = self._state_dir / "tmp"
        scratch.mkdir()
        self._spawn("job", "data_cleaning.py")
        port = str(self._addresses.dashboard_port)
        self._spawn("dashboard", "-m", "streamlit", "run", "dashboard.py", "--server.port", port)
        file, rate = str(self._options.csv.absolute()), f"{self._options.rate:g}"
        self._spawn("producer", "producer_from_csv.py", "--file", file, "--rate", rate)
        self._await_dashboard()
        self._console.print(f"Dashboard:  {self._addresses.dashboard}")
        self._console.print(f"Mail inbox: {self._addresses.inbox}")
        self._console.print(f"Logs:       {self._state_dir / 'logs'}")

    def watch(self) -> bool:
        """Show progress until the end; see `run_demo`."""
        with ExitStack() as display:
            live = self._console.is_terminal
            status = display.enter_context(self._console.status("")) if live else None
            shown = ""
            for progress in self._progress():
                line = _progress_line(progress)
                if status is not None:
                    status.update(line)
                elif line != shown:
                    self._console.print(line)
                shown = line
        return self._finish() if self._options.once and not self._stopped() else True

    def _progress(self) -> Iterator[Progress]:
        """What is accounted for, again and again, until told to stop or, with `once`, all of it is."""
        progress, moved_at = Progress(), time.monotonic()
        while not self._stopped():
            done = self._producer_done()
            latest = read_progress(self._engine, TOPIC)
            if latest != progress or not done:
                progress, moved_at = latest, time.monotonic()
            yield progress
            if done and self._options.once and progress.accounted_for >= self._read():
                return
            if done and self._options.once and time.monotonic() - moved_at > _STALLED_S:
                raise DemoFailed(f"no progress for {_STALLED_S:g} s\n{tail(self._log('job'))}")
            self._require_alive("job", "dashboard")
            time.sleep(_POLL_S)

    def _finish(self) -> bool:
        """End the job, send what the cool-down held back, and print the closing line."""
        end([self._processes["job"]], grace_s=60)
        left = mail_sender(self._engine, **self._settings.mail_options).drain(_DRAIN_S)
        if left:
            raise DemoFailed(f"{left} alerts or mails could not be sent within {_DRAIN_S:g} s")
        read, progress, mails = self._read(), read_progress(self._engine, TOPIC), pending(self._engine)
        seconds = time.monotonic() - self._started
        print(  # noqa: T201
            f"demo: read={read} stored={progress.stored} flagged={progress.flagged} "
            f"duplicates={progress.duplicates} rejected={progress.rejected} alerts={progress.alerts} "
            f"mails={mails.sent} seconds={seconds:.1f}",
            flush=True,
        )
        return read == progress.accounted_for

    def _read(self) -> int:
        """How many records Kafka has taken."""
        found = topic.ensure_topic(self._addresses.kafka, TOPIC, 1)
        ranges = topic.offset_range(self._addresses.kafka, TOPIC, found.partitions)
        return sum(latest - earliest for earliest, latest in ranges.values())

    def _producer_done(self) -> bool:
        producer = self._processes["producer"]
        if is_alive(producer):
            return False
        # `sent=… acknowledged=… failed=…` is the last thing that a producer says when all went well.
        said = self._log("producer").read_text(errors="replace")
        if " failed=0" not in said:
            raise DemoFailed(f"the producer did not send the whole file\n{tail(self._log('producer'))}")
        return True

    def _await_dashboard(self) -> None:
        deadline = time.monotonic() + _DASHBOARD_START_S
        while not self._stopped():
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self._addresses.dashboard}/_stcore/health", timeout=2).close()
                return
            self._require_alive("dashboard")
            if time.monotonic() > deadline:
                raise DemoFailed(f"the dashboard does not answer\n{tail(self._log('dashboard'))}")
            time.sleep(_POLL_S)

    def _require_alive(self, *names: str) -> None:
        for name in names:
            if not is_alive(self._processes[name]):
                raise DemoFailed(f"the {name} ended\n{tail(self._log(name))}")

    def _spawn(self, name: str, *arguments: str) -> None:
        scratch = str(self._state_dir / "tmp")
        environment = child_environment(
            **self._addresses.environment(),
            **marks(self._state_dir, name),
            KAFKA_TOPIC=TOPIC,
            XDG_STATE_HOME=str(self._state_dir),
            TMPDIR=scratch,
            SPARK_LOCAL_DIRS=scratch,
            PYTHONPATH=str(PROJECT_DIR),
        )
        command = [sys.executable, *(_in_project(argument) for argument in arguments)]
        self._processes[name] = spawn(command, environment=environment, log=self._log(name))

    def _log(self, name: str) -> Path:
        return self._state_dir / "logs" / f"{name}.log"


def _in_project(argument: str) -> str:
    return str(PROJECT_DIR / argument) if argument.endswith(".py") else argument


def _progress_line(progress: Progress) -> str:
    return (
        f"stored={progress.stored} flagged={progress.flagged} duplicates={progress.duplicates} "
        f"rejected={progress.rejected} alerts={progress.alerts}"
    )
