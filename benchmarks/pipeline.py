"""The system under measurement: an embedded stack of its own, databases, and the job as a user starts it."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from benchmarks.errors import BenchFailed
from benchmarks.open_dashboard import open_dashboard
from fraudstream.config import PROJECT_DIR, Settings, child_environment
from fraudstream.kafka_access import kafka_access
from fraudstream.stack import Addresses, Stack
from fraudstream.stack.errors import StackNotRunning
from fraudstream.stack.processes import end, is_alive, marks, spawn, tail
from fraudstream.stack.stack import SERVICES
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.progress import read_accounted_for
from fraudstream.topic import ensure_topic

PARTITIONS = 4
_STOP_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Site:
    """One database and one topic, for one question."""

    database: str
    topic: str
    topic_id: str
    engine: Engine


class Pipeline:
    """A running stack, in a folder of its own that is removed in the end."""

    def __init__(self, stack: Stack, addresses: Addresses, folder: Path) -> None:
        self.stack = stack
        self.addresses = addresses
        self.folder = folder
        # Of no database: for what makes one, or asks the server itself.
        self.server = make_engine(make_url(addresses.mysql).set(database=None), pooled=False)
        self._jobs: list[psutil.Process] = []
        self._dashboards: list[psutil.Process] = []
        # What the open page said, each time that it could not read the database.
        self.page_problems: list[str] = []

    @contextmanager
    def site(self) -> Iterator[Site]:
        """An empty database with tables, and an empty topic; the database is dropped afterwards."""
        name = f"fraudstream_bench_{secrets.token_hex(4)}"
        with self.server.begin() as connection:
            connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
        database = make_url(self.addresses.mysql).set(database=name).render_as_string(hide_password=False)
        engine = make_engine(make_url(database))
        try:
            migrate(engine)
            topic = ensure_topic(kafka_access(self.addresses.kafka), name, PARTITIONS)
            yield Site(database, name, topic.topic_id, engine)
        finally:
            engine.dispose()
            with self.server.begin() as connection:
                connection.execute(text(f"DROP DATABASE {name}"))

    @contextmanager
    def job(self, site: Site, **settings: str) -> Iterator[psutil.Process]:
        """`python data_cleaning.py` over the site; ended by SIGTERM, as a user would."""
        log = self.folder / "logs" / f"{site.topic}-{time.time():.0f}.log"
        environment = child_environment(
            **{**self.addresses.environment(), "MYSQL_URL": site.database, "KAFKA_TOPIC": site.topic},
            **marks(self.folder, "job"),
            KAFKA_PARTITIONS=str(PARTITIONS),
            PYTHONPATH=str(PROJECT_DIR),
            TMPDIR=str(self.folder),
            SPARK_LOCAL_DIRS=str(self.folder),
            **settings,
        )
        job = spawn([sys.executable, str(PROJECT_DIR / "data_cleaning.py")], environment=environment, log=log)
        self._jobs.append(job)
        self.log = log
        try:
            yield job
        finally:
            self._jobs.remove(job)
            end([job], grace_s=_STOP_S)

    @contextmanager
    def dashboard(self, site: Site) -> Iterator[None]:
        """The dashboard over the site, a page open in it."""
        log = self.folder / "logs" / f"{site.topic}-dashboard.log"
        environment = child_environment(
            **{**self.addresses.environment(), "MYSQL_URL": site.database},
            **marks(self.folder, "dashboard"),
            PYTHONPATH=str(PROJECT_DIR),
        )
        port = self.addresses.dashboard_port
        with open_dashboard(environment, port, log, self.page_problems) as process:
            self._dashboards.append(process)
            try:
                yield
            finally:
                self._dashboards.remove(process)

    def await_committed(self, site: Site, records: int, *, timeout_s: float) -> int:
        """Wait until so many records of the site's topic are accounted for, and say how many are. Raises
        BenchFailed."""
        deadline = time.monotonic() + timeout_s
        while (committed := read_accounted_for(site.engine, site.topic)) < records:
            if not all(map(is_alive, self._jobs)):
                raise BenchFailed(tail(self.log))
            if time.monotonic() > deadline:
                raise BenchFailed(
                    f"{records} records were not committed in {timeout_s:g} s\n{tail(self.log)}"
                )
            time.sleep(_POLL_S)
        return committed

    def restart_database(self, site: Site) -> None:
        """So that it holds no memory that a phase's preparations took."""
        site.engine.dispose()
        self.stack.stop("mysql")
        self.stack.start("mysql")

    def processes(self) -> dict[str, Sequence[psutil.Process]]:
        """The roots of what is running: each service of the stack, the job, and the dashboard."""
        services = {name: self._service(name) for name in SERVICES}
        return {**services, "job": list(self._jobs), "dashboard": list(self._dashboards)}

    def _service(self, name: str) -> list[psutil.Process]:
        try:
            return [psutil.Process(self.stack.pid(name))]
        except (StackNotRunning, psutil.NoSuchProcess):  # while it is started anew
            return []


@contextmanager
def running_pipeline(settings: Settings) -> Iterator[Pipeline]:
    """Start a stack on free ports in a temporary folder; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fraudstream-bench-"))
    java_home = {"JAVA_HOME": str(settings.java_home)} if settings.java_home else {}
    stack = Stack(folder, settings.cache_dir, child_environment(**java_home))
    try:
        yield Pipeline(stack, stack.up(usual_ports=False), folder)
    finally:
        stack.reset()
        shutil.rmtree(folder, ignore_errors=True)
