"""Docker Compose on a copy of the project, as a person uses it: real containers, a project of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fraudstream.config import PROJECT_DIR
from tests.support.waiting import wait_until

NEW, OLD = ("docker", "compose"), ("docker-compose",)
_BUILD_S, _UP_S, _DOWN_S = 1_200, 400, 180


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, timeout=30, check=False).returncode == 0


def old_compose_is_there() -> bool:
    """Whether docker-compose 1.29 is on the PATH; a later one is only another name of the new."""
    if shutil.which(OLD[0]) is None:
        return False
    version = subprocess.run([*OLD, "version", "--short"], capture_output=True, text=True, check=True)
    return version.stdout.startswith("1.")


def copy_project(target: Path) -> None:
    """What git tracks, and what it would: as in a clone of the present state."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT_DIR / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_DIR / name, target / name)


@dataclass(frozen=True)
class Compose:
    """`folder` is the project's, and its name the name of the Compose project."""

    folder: Path
    program: Sequence[str] = NEW

    def up(self, *options: str, profile: str | None = None) -> None:
        """Return when every container is healthy, but for those that have done their work."""
        profiles = ["--profile", profile] if profile else []
        if tuple(self.program) == NEW:
            self(*profiles, "up", "-d", "--wait", *options, timeout=_UP_S)
        else:
            self(*profiles, "up", "-d", *options, timeout=_UP_S)
            wait_until(lambda: set(self.states()) == {"healthy"}, timeout=_UP_S, describe="all is healthy")

    def build(self) -> None:
        self("--profile", "app", "build", timeout=_BUILD_S)

    def down(self, *options: str) -> None:
        self("--profile", "app", "down", *options, timeout=_DOWN_S)

    def states(self, service: str | None = None) -> list[str]:
        """The health of each running container of the project, or of one of its services."""
        of_service = ["--filter", f"label=com.docker.compose.service={service}"] if service else []
        running = _docker("ps", "-q", *self._filter, *of_service).split()
        inspected = json.loads(_docker("inspect", *running)) if running else []
        return [container["State"]["Health"]["Status"] for container in inspected]

    def volumes(self) -> list[str]:
        return _docker("volume", "ls", "-q", *self._filter).split()

    @property
    def _filter(self) -> tuple[str, str]:
        return "--filter", f"label=com.docker.compose.project={self.folder.name}"

    def sql_as_root(self, statements: str) -> None:
        root = 'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --protocol=socket --user=root'
        self("exec", "-T", "mysql", "bash", "-c", root, standard_input=statements)

    def __call__(self, *arguments: str, timeout: float = 120, standard_input: str = "") -> str:
        """Run the command to its end and return what it printed; a failure shows that."""
        run = self.attempt(*arguments, timeout=timeout, standard_input=standard_input)
        assert run.returncode == 0, f"{' '.join(arguments)}\n{run.stdout}\n{run.stderr}\n{self._logs()}"
        return run.stdout

    def attempt(
        self, *arguments: str, timeout: float = 120, standard_input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env=terminal(),
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _logs(self) -> str:
        logs = self.attempt("--profile", "app", "logs", "--no-color", "--tail", "15")
        return logs.stdout + logs.stderr


def terminal(**variables: str) -> dict[str, str]:
    """The environment of a new terminal: none of the variables that `.env` may set is set already."""
    example = (PROJECT_DIR / ".env.example").read_text().splitlines()
    ours = {line.removeprefix("# ").partition("=")[0] for line in example if "=" in line}
    machine = {"XDG_CACHE_HOME", "XDG_STATE_HOME", "JAVA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in ours - machine}
    kept.pop("FRAUDSTREAM_ENV_FILE", None)
    return {**kept, **variables}


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout
