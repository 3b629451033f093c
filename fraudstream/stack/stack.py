"""The embedded stack: a Kafka broker, a MySQL-compatible server and a mail inbox, without root or Docker."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil

from fraudstream.stack import mysql
from fraudstream.stack.addresses import Addresses
from fraudstream.stack.artifacts import LOCK_FILE, Artifacts, Progress
from fraudstream.stack.errors import ServiceFailed, StackError, StackNotRunning
from fraudstream.stack.inbox_service import Inbox
from fraudstream.stack.java import find_java
from fraudstream.stack.kafka import Kafka
from fraudstream.stack.locks import exclusive
from fraudstream.stack.mysql import MySQL
from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import end, find, is_alive, kill, marks, spawn, tail
from fraudstream.stack.service import Service
from fraudstream.stack.state import PORT_NAMES, State, read_state, write_state

SERVICES = ("kafka", "mysql", "inbox")
PORTS_OF = {"kafka": ("kafka", "controller"), "mysql": ("mysql",), "inbox": ("smtp", "inbox")}

_PROJECT_DIR = Path(__file__).resolve().parents[2]
_FOLDERS = ("kafka", "mysql", "mails", "logs")
_SETUP = "setup"
_DOWNLOADED = "downloaded"
_LOCK_TIMEOUT_S = 600.0
_POLL_S = 0.1
_STOP_TIMEOUT_S = 60.0

Notice = Callable[[str], None]
"""Called with one line for people: what the stack is doing, and what it found and did about it."""


@dataclass(frozen=True)
class ServiceStatus:
    """`state` is "up", "not answering" or "down"; `version` is what the running server says of itself."""

    name: str
    state: str
    version: str | None
    address: str | None
    pid: int | None


@dataclass(frozen=True)
class Status:
    """`addresses` is set when every service is up."""

    services: Sequence[ServiceStatus]
    addresses: Addresses | None


class Stack:
    """One stack: its data below `state_dir`, its downloads below `cache_dir`, all on 127.0.0.1.

    `environment` is what its processes get (and where JAVA_HOME and PATH are looked up). Several
    programs may use the same `state_dir`: what changes it is done under a lock. The processes belong to
    nobody: they run until `down`, and are found again by a mark that they carry, also by a later program
    and after their starter was killed.
    """

    def __init__(
        self,
        state_dir: Path,
        cache_dir: Path,
        environment: Mapping[str, str],
        *,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._cache_dir = cache_dir.absolute()
        self._environment = dict(environment)
        self._notice = notice or (lambda line: None)
        self._artifacts = Artifacts(
            self._cache_dir, lambda: self._java, self._marked_environment(_SETUP), progress=progress
        )

    def fetch(self, *, connector_only: bool = False) -> None:
        """Download what is missing: Java, Spark's connector to Kafka, and the stack's broker and database."""
        with self._exclusive():
            self._artifacts.spark_connector_jars()
            if connector_only:
                return
            self._artifacts.kafka_jars()
            if mysql.find_on_path(self._path) is None:
                mysql.downloaded(self._artifacts)

    def lock_artifacts(self) -> None:
        """Write artifacts.lock for the versions that the code names now; for maintainers."""
        with self._exclusive():
            LOCK_FILE.write_text(self._artifacts.lock_text())

    def up(self, *, usual_ports: bool = True) -> Addresses:
        """Start what does not run or does not answer, and return when all answers; safe to repeat.

        A port once chosen is kept while it is free. At first it is the usual one (9092, 3306, 1025, 8025,
        8501) when that is free and `usual_ports`, else any free one. Raises StackError.
        """
        with self._exclusive():
            end(self._processes(_SETUP), grace_s=0)
            state = read_state(self._state_file) or State()
            idle = [name for name in SERVICES if not self._processes(name)]
            ports = [port for name in idle for port in PORTS_OF[name]]
            if len(idle) == len(SERVICES):
                ports = list(PORT_NAMES)
            state = state.with_free_ports(tuple(ports), usual=usual_ports)
            write_state(self._state_file, state)
            self._start(SERVICES)
            return self.addresses()

    def down(self) -> None:
        """End every process of the stack, also those of a run that was killed; its data stays."""
        with self._exclusive():
            self._end_all()

    def reset(self) -> None:
        """`down`, then remove the stack's data and settings: the next `up` starts on nothing."""
        with self._exclusive():
            self._end_all()
            mysql.socket_path(self._state_dir / "mysql").unlink(missing_ok=True)
            # Only what the stack made: the folder may have been given by mistake.
            for folder in _FOLDERS:
                shutil.rmtree(self._state_dir / folder, ignore_errors=True)
            self._state_file.unlink(missing_ok=True)

    def start(self, name: str) -> None:
        """Start one service on its old port and data, and return when it answers."""
        with self._exclusive():
            self._start((name,))

    def stop(self, name: str) -> None:
        """End one service in its own time (SIGTERM)."""
        with self._exclusive():
            end(self._processes(name), grace_s=_STOP_TIMEOUT_S)

    def kill(self, name: str) -> None:
        """End one service at once (SIGKILL), as a crash would."""
        kill(self._processes(name))

    def pid(self, name: str) -> int:
        """The process id of a running service. Raises StackNotRunning when it does not run."""
        for process in self._processes(name):
            return process.pid
        raise StackNotRunning(f"{name} does not run")

    def log(self, name: str) -> Path:
        """Where a service writes its log."""
        return self._service(name).log

    def status(self) -> Status:
        """What runs and answers right now; starts, downloads and waits for nothing."""
        services = [self._status(name) for name in SERVICES]
        all_up = all(service.state == "up" for service in services)
        return Status(services, self.addresses() if all_up else None)

    def addresses(self) -> Addresses:
        """The stack's addresses, whether it runs or not. Raises StackNotRunning before the first `up`."""
        port = self._state.ports
        return Addresses(
            kafka=f"{HOST}:{port['kafka']}",
            mysql=self._mysql.url(),
            dashboard_mysql=self._mysql.dashboard_url(),
            smtp=f"{HOST}:{port['smtp']}",
            inbox=f"http://{HOST}:{port['inbox']}",
            dashboard=f"http://{HOST}:{port['dashboard']}",
        )

    def running_addresses(self) -> Addresses:
        """The addresses of a stack that is up. Raises StackNotRunning naming what is not."""
        status = self.status()
        if status.addresses is None:
            missing = ", ".join(service.name for service in status.services if service.state != "up")
            raise StackNotRunning(f"the stack is not up ({missing}): python -m fraudstream stack up")
        return status.addresses

    def mysql_admin_url(self) -> str:
        """The SQLAlchemy URL of the account that may create and drop databases."""
        return self._mysql.admin_url()

    def _start(self, names: Sequence[str]) -> None:
        started = {name: self._running(name) or self._spawn(name) for name in names}
        for name, process in started.items():
            self._await(self._service(name), process)

    def _running(self, name: str) -> psutil.Process | None:
        """The service's process; one that was stopped (SIGSTOP) is ended, since it will never answer."""
        processes = self._processes(name)
        stopped = [process for process in processes if process.status() == psutil.STATUS_STOPPED]
        if stopped:
            self._notice(f"{name} was suspended: starting it anew")
            kill(processes)
            return None
        return processes[0] if processes else None

    def _spawn(self, name: str) -> psutil.Process:
        self._notice(f"starting {name}")
        if name == "mysql":
            self._settle_mysql_server()
        service = self._service(name)
        service.prepare()
        return spawn(service.command(), environment=self._marked_environment(name), log=service.log)

    def _await(self, service: Service, process: psutil.Process) -> None:
        deadline = time.monotonic() + service.start_timeout_s
        while service.version(process) is None:
            if not is_alive(process):
                raise ServiceFailed(f"{service.name} ended while it was starting\n{tail(service.log)}")
            if time.monotonic() > deadline:
                kill([process])
                raise ServiceFailed(
                    f"{service.name} did not answer on {service.address} within "
                    f"{service.start_timeout_s:.0f} s and was ended\n{tail(service.log)}"
                )
            time.sleep(_POLL_S)

    def _settle_mysql_server(self) -> None:
        """Choose the database server when its data is first made; from then on the data stays with it."""
        if self._state.mysql_server is not None:
            return
        on_path = mysql.find_on_path(self._path)
        self._remember_mysql_server(str(on_path.server) if on_path else _DOWNLOADED)
        if on_path is None:
            return
        try:
            self._mysql.prepare()
        except ServiceFailed as error:
            # Some systems confine their server to its own folders, whoever starts it.
            self._notice(
                f"{on_path.server} cannot be used here, taking the downloaded MariaDB instead: {error}"
            )
            self._remember_mysql_server(_DOWNLOADED)

    def _remember_mysql_server(self, server: str) -> None:
        write_state(self._state_file, replace(self._state, mysql_server=server))

    def _mysql_program(self) -> mysql.Program:
        server = self._state.mysql_server
        if server is None or server == _DOWNLOADED:
            return mysql.downloaded(self._artifacts)
        if not Path(server).exists():
            raise StackError(
                f"the database in {self._state_dir / 'mysql'} was made by {server}, which is gone: "
                "install it again, or give up the data with `python -m fraudstream stack reset`"
            )
        return mysql.Program(Path(server))

    def _status(self, name: str) -> ServiceStatus:
        if read_state(self._state_file) is None:
            return ServiceStatus(name, "down", None, None, None)
        service = self._service(name)
        for process in self._processes(name):
            version = service.version(process)
            state = "not answering" if version is None else "up"
            return ServiceStatus(name, state, version, service.address, process.pid)
        return ServiceStatus(name, "down", None, service.address, None)

    def _end_all(self) -> None:
        # Looked up again afterwards: a program that was just being started shows its mark a moment later.
        while processes := self._processes():
            end(processes, grace_s=_STOP_TIMEOUT_S)

    def _processes(self, name: str | None = None) -> list[psutil.Process]:
        return find(self._state_dir, name)

    def _service(self, name: str) -> Service:
        services: dict[str, Service] = {"kafka": self._kafka, "mysql": self._mysql, "inbox": self._inbox}
        return services[name]

    @property
    def _kafka(self) -> Kafka:
        state = self._state
        return Kafka(
            home=self._state_dir / "kafka",
            log=self._state_dir / "logs" / "kafka.log",
            port=state.ports["kafka"],
            controller_port=state.ports["controller"],
            cluster_id=state.kafka_cluster_id,
            artifacts=self._artifacts,
            find_java=lambda: self._java,
            environment=self._marked_environment(_SETUP),
        )

    @property
    def _mysql(self) -> MySQL:
        state = self._state
        return MySQL(
            home=self._state_dir / "mysql",
            log=self._state_dir / "logs" / "mysql.log",
            port=state.ports["mysql"],
            password=state.mysql_password,
            dashboard_password=state.mysql_dashboard_password,
            admin_password=state.mysql_admin_password,
            find_program=self._mysql_program,
            environment=self._marked_environment(_SETUP),
        )

    @property
    def _inbox(self) -> Inbox:
        state = self._state
        return Inbox(
            mails=self._state_dir / "mails",
            log=self._state_dir / "logs" / "inbox.log",
            smtp_port=state.ports["smtp"],
            http_port=state.ports["inbox"],
        )

    @property
    def _state(self) -> State:
        state = read_state(self._state_file)
        if state is None:
            raise StackNotRunning("the stack was never started: python -m fraudstream stack up")
        return state

    @property
    def _state_file(self) -> Path:
        return self._state_dir / "stack.json"

    @cached_property
    def _java(self) -> Path:
        return find_java(self._environment, self._cache_dir)

    @property
    def _path(self) -> str:
        return self._environment.get("PATH", os.defpath)

    def _marked_environment(self, service: str) -> dict[str, str]:
        import_path = filter(None, (str(_PROJECT_DIR), self._environment.get("PYTHONPATH")))
        return {
            **self._environment,
            **marks(self._state_dir, service),
            "PYTHONPATH": os.pathsep.join(import_path),
        }

    def _exclusive(self) -> AbstractContextManager[None]:
        lock = self._state_dir / "stack.lock"
        return exclusive(lock, timeout_s=_LOCK_TIMEOUT_S, doing="starting or stopping the stack")
