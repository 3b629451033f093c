"""Finds the Java that Kafka and Spark run on, and fetches one where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jdk

from fraudstream.stack.errors import JavaNotFound
from fraudstream.stack.locks import exclusive

SUITABLE_VERSIONS = (17, 21)
_FETCHED_VERSION = "21"
_UNFINISHED = "java-unfinished-"
_INSTALL = (
    "  Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless\n"
    "  Fedora:         sudo dnf install java-21-openjdk-headless\n"
    '  macOS:          brew install openjdk@21, then export JAVA_HOME="$(brew --prefix openjdk@21)"'
)


def find_java(
    environment: Mapping[str, str], cache_dir: Path, *, fetch: Callable[[Path], None] | None = None
) -> Path:
    """The `java` executable of a Java 17 or 21: JAVA_HOME's, the PATH's, or one kept in `cache_dir`.

    Where there is none, `fetch` installs one below the folder that it is given (by default a Java 21
    runtime by install-jdk). Raises JavaNotFound with what was looked at and what to install.
    """
    looked_at = []
    for origin, java in _candidates(environment):
        version = java_version(java)
        if version in SUITABLE_VERSIONS:
            return java
        looked_at.append(f"  {origin}: {java} is {f'Java {version}' if version else 'no working Java'}")
    private_dir = cache_dir / "java"
    return _private_java(private_dir) or _fetch_private(private_dir, fetch or _install_jdk, looked_at)


def java_home(java: Path) -> Path:
    """The JAVA_HOME to which a `java` executable belongs."""
    return java.resolve().parent.parent


def java_version(java: Path) -> int | None:
    """The feature version that `java -version` tells (8 for 1.8), or None when it does not run."""
    try:
        told = subprocess.run([java, "-version"], check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    return int(match[1]) if match and told.returncode == 0 else None


def _candidates(environment: Mapping[str, str]) -> list[tuple[str, Path]]:
    found = []
    if home := environment.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java", path=environment.get("PATH", os.defpath)):
        found.append(("PATH", Path(on_path)))
    return found


def _private_java(private_dir: Path) -> Path | None:
    return next(iter(sorted(private_dir.glob("**/bin/java"))), None)


def _fetch_private(private_dir: Path, fetch: Callable[[Path], None], looked_at: list[str]) -> Path:
    with exclusive(private_dir.with_suffix(".lock"), timeout_s=600, doing="fetching Java"):
        if java := _private_java(private_dir):
            return java
        for abandoned in private_dir.parent.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=private_dir.parent) as scratch:
            unfinished = Path(scratch) / private_dir.name
            unfinished.mkdir()
            try:
                fetch(unfinished)
            except (OSError, jdk.JdkError) as error:
                raise JavaNotFound(_explain(looked_at, f"fetching one failed: {error}")) from error
            fetched = _private_java(unfinished)
            if fetched is None or java_version(fetched) not in SUITABLE_VERSIONS:
                raise JavaNotFound(_explain(looked_at, "the one that was fetched does not run here"))
            unfinished.rename(private_dir)
    return private_dir / fetched.relative_to(unfinished)


def _install_jdk(folder: Path) -> None:
    jdk.install(_FETCHED_VERSION, jre=True, path=str(folder))


def _explain(looked_at: list[str], failure: str) -> str:
    seen = "\n".join(looked_at) or "  JAVA_HOME is not set and no java is on the PATH"
    return f"Java 17 or 21 is needed; {failure}.\nLooked at:\n{seen}\nInstall one:\n{_INSTALL}"
