"""The MySQL-compatible server: the one on the PATH, else a MariaDB from Maven Central."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import string
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mysql.connector
import psutil
from sqlalchemy.engine import URL

from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.errors import ServiceFailed
from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import run_to_end

DATABASE = "transactions"
USER = "fraudstream"
DASHBOARD_USER = "fraudstream_dashboard"
ADMIN = "fraudstream_admin"

_ACCOUNTS = Path(__file__).with_name("templates") / "accounts.sql"
_LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True)
class Program:
    """A server's executable, and its base folder when it is not where it was built for."""

    server: Path
    base: Path | None = None

    @property
    def is_mariadb(self) -> bool:
        return self.server.resolve().name == "mariadbd" or self._install_script() is not None

    def initialise_command(self, data: Path) -> list[str | Path]:
        """The command that creates the system tables in the folder `data`."""
        if not self.is_mariadb:
            return [self.server, "--no-defaults", "--initialize-insecure", f"--datadir={data}", *_as_root()]
        script = self._install_script()
        if script is None:
            raise ServiceFailed(f"mariadb-install-db is missing: it belongs to {self.server}")
        base = [f"--basedir={self.base}"] if self.base else []
        return [
            "/bin/sh",
            script,
            "--no-defaults",
            *base,
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]

    def _install_script(self) -> Path | None:
        folder = self.server.resolve().parent
        places = (folder, folder.parent / "scripts", folder.parent / "bin")
        scripts = (place / "mariadb-install-db" for place in places)
        return next((script for script in scripts if script.exists()), None)


def _as_root() -> list[str]:
    # The servers refuse to run as root unless told so.
    return ["--user=root"] if os.geteuid() == 0 else []


@dataclass(frozen=True)
class MySQL:
    """A server below `home`, with the accounts `USER`, `DASHBOARD_USER` and `ADMIN` and the database
    `DATABASE`."""

    home: Path
    log: Path
    port: int
    password: str
    dashboard_password: str
    admin_password: str
    find_program: Callable[[], Program]
    environment: Mapping[str, str]

    name = "mysql"
    start_timeout_s = 120.0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def url(self) -> str:
        """The pipeline's SQLAlchemy URL, password included."""
        return _url(USER, self.password, self.port, DATABASE)

    def dashboard_url(self) -> str:
        """The dashboard's SQLAlchemy URL, password included."""
        return _url(DASHBOARD_USER, self.dashboard_password, self.port, DATABASE)

    def admin_url(self) -> str:
        """The SQLAlchemy URL of an account that may do everything, for tests that make databases."""
        return _url(ADMIN, self.admin_password, self.port, None)

    def prepare(self) -> None:
        if not self._data.exists():
            self._initialise(self.find_program())
        accounts = string.Template(_ACCOUNTS.read_text()).substitute(
            database=DATABASE,
            user=USER,
            password=self.password,
            dashboard_user=DASHBOARD_USER,
            dashboard_password=self.dashboard_password,
            admin=ADMIN,
            admin_password=self.admin_password,
        )
        self._accounts.touch(mode=0o600)
        self._accounts.write_text(accounts)

    def command(self) -> Sequence[str | Path]:
        program = self.find_program()
        base = [f"--basedir={program.base}"] if program.base else []
        return [
            program.server,
            "--no-defaults",
            *base,
            f"--datadir={self._data}",
            f"--tmpdir={self.home}",
            f"--init-file={self._accounts}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            f"--socket={socket_path(self.home)}",
            f"--pid-file={self.home / 'mysql.pid'}",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            # MariaDB takes files from clients by default, and nothing here sends any.
            "--local-infile=OFF",
            "--max-allowed-packet=64M",
            "--max-connections=200",
            # The histories of 400,000 users, and the newest rows: what each batch reads and writes.
            "--innodb-buffer-pool-size=512M",
            # At 10,000 rows a second one of 100 MB is full in three seconds, and commits wait for pages.
            "--innodb-log-file-size=512M" if program.is_mariadb else "--loose-innodb-redo-log-capacity=512M",
            # A commit that was answered survives the machine: the pipeline's promises stand on it.
            "--innodb-flush-log-at-trx-commit=1",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--loose-mysqlx=OFF",
            # Over the loopback, encryption would only take processor time from Spark.
            *(["--skip-ssl"] if program.is_mariadb else []),
            *_as_root(),
        ]

    def version(self, process: psutil.Process) -> str | None:
        try:
            connection = mysql.connector.connect(
                host=HOST, port=self.port, user=USER, password=self.password, connection_timeout=5
            )
        except mysql.connector.Error:
            return None
        with connection:
            return product(str(connection.server_info))

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _accounts(self) -> Path:
        return self.home / "accounts.sql"

    def _initialise(self, program: Program) -> None:
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        if program.is_mariadb:
            unfinished.mkdir()
        run_to_end(program.initialise_command(unfinished), environment=self.environment, log=self.log)
        unfinished.rename(self._data)


def find_on_path(path: str) -> Program | None:
    """The MySQL or MariaDB server on a PATH."""
    found = shutil.which("mysqld", path=path) or shutil.which("mariadbd", path=path)
    return Program(Path(found)) if found else None


def downloaded(artifacts: Artifacts) -> Program:
    """The MariaDB from Maven Central, downloaded now where it is not there yet."""
    base = artifacts.mariadb()
    return Program(base / "bin" / "mariadbd", base)


def product(handshake: str) -> str:
    """Product and version from what a server says of itself, such as 8.4.3 or 5.5.5-10.11.19-MariaDB-log."""
    mariadb = re.search(r"(\d+\.\d+\.\d+)-MariaDB", handshake)
    return f"MariaDB {mariadb[1]}" if mariadb else f"MySQL {handshake}"


def _url(user: str, password: str, port: int, database: str | None) -> str:
    url = URL.create("mysql+mysqlconnector", user, password, HOST, port, database)
    return url.render_as_string(hide_password=False)


def socket_path(home: Path) -> Path:
    """Where the server below `home` has its Unix socket."""
    # Unix sockets have names of about a hundred bytes at most; a deep state folder exceeds that.
    path = home / "mysql.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fraudstream-{digest}.sock"
