"""Downloads are used only when they are what the lock names. Ivy's part is played by a shell script."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import threading
from pathlib import Path

import pytest

from fraudstream.stack.artifacts import SETS, SPARK_VERSION, Artifacts, check, lock_lines, read_lock
from fraudstream.stack.errors import ArtifactError

JARS = {"kafka_2.13-3.9.2.jar": b"the broker", "kafka-clients-3.9.2.jar": b"its clients"}


class Repository:
    """A folder of jars, and a `java` that copies them to where Ivy was asked to put them."""

    def __init__(self, folder: Path, jars: dict[str, bytes]) -> None:
        self.jars = folder / "jars"
        self.jars.mkdir(parents=True)
        for name, content in jars.items():
            (self.jars / name).write_bytes(content)
        self.calls = folder / "calls"
        self.java = folder / "java"
        self.says(f'for last; do :; done\ncp {self.jars}/* "$(dirname "$last")"')

    def says(self, script: str) -> None:
        self.java.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\n{script}\n')
        self.java.chmod(0o755)

    @property
    def times_called(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository", JARS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def artifacts(tmp_path: Path, repository: Repository, cache: Path) -> Artifacts:
    lock = tmp_path / "artifacts.lock"
    lock.write_text("\n".join(lock_lines(repository.jars, "kafka")))
    return Artifacts(cache, lambda: repository.java, {"PATH": "/usr/bin:/bin"}, lock_file=lock)


def jars_in(cache: Path) -> list[Path]:
    return list(cache.glob("**/*.jar"))


def test_downloads_are_taken_once(artifacts: Artifacts, repository: Repository) -> None:
    first = artifacts.kafka_jars()
    assert {jar.name: jar.read_bytes() for jar in first} == JARS
    repository.java.unlink()
    assert artifacts.kafka_jars() == first
    assert repository.times_called == 1


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("kafka-clients-3.9.2.jar", b"something else", r"kafka-clients-3\.9\.2\.jar has SHA-256"),
        ("extra-1.0.jar", b"stowaway", r"extra-1\.0\.jar is not in the lock"),
        ("kafka-clients-3.9.2.jar", None, r"kafka-clients-3\.9\.2\.jar is missing"),
    ],
)
def test_a_download_that_is_not_the_locked_one_is_refused_whole(
    artifacts: Artifacts,
    repository: Repository,
    cache: Path,
    name: str,
    content: bytes | None,
    complaint: str,
) -> None:
    target = repository.jars / name
    target.unlink() if content is None else target.write_bytes(content)
    with pytest.raises(ArtifactError, match=complaint):
        artifacts.kafka_jars()
    assert jars_in(cache) == []


def test_a_download_that_breaks_off_leaves_nothing_and_tells_why(
    artifacts: Artifacts, repository: Repository, cache: Path
) -> None:
    whole = repository.java.read_text()
    repository.says(
        f'for last; do :; done\ncp {repository.jars}/kafka_* "$(dirname "$last")"\necho unreachable; exit 1'
    )
    with pytest.raises(ArtifactError, match="connected to the internet") as error:
        artifacts.kafka_jars()
    assert "unreachable" in str(error.value)
    assert jars_in(cache) == []
    repository.java.write_text(whole)
    assert len(artifacts.kafka_jars()) == len(JARS)


def test_what_a_killed_download_left_is_cleared_away(artifacts: Artifacts, cache: Path) -> None:
    abandoned = cache / "unfinished-abc" / "half.jar"
    abandoned.parent.mkdir(parents=True)
    abandoned.write_bytes(b"half")
    artifacts.kafka_jars()
    assert list(cache.glob("unfinished-*")) == []


def test_a_file_changed_later_is_named_and_not_used(artifacts: Artifacts) -> None:
    jar = artifacts.kafka_jars()[0]
    jar.write_bytes(b"tampered with")
    with pytest.raises(ArtifactError, match=re.escape(str(jar))):
        artifacts.kafka_jars()


def test_a_file_lost_later_is_named(artifacts: Artifacts) -> None:
    jar = artifacts.kafka_jars()[1]
    jar.unlink()
    with pytest.raises(ArtifactError, match=re.escape(str(jar))):
        artifacts.kafka_jars()


def test_a_copied_cache_with_other_times_but_the_same_content_is_used(artifacts: Artifacts) -> None:
    jars = artifacts.kafka_jars()
    jars[0].touch()
    assert artifacts.kafka_jars() == jars


def test_two_at_once_download_once(artifacts: Artifacts, repository: Repository) -> None:
    found: list[list[Path]] = []
    threads = [threading.Thread(target=lambda: found.append(artifacts.kafka_jars())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert repository.times_called == 1


def test_progress_ends_at_the_size_that_the_lock_names(
    tmp_path: Path, repository: Repository, cache: Path
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("\n".join(lock_lines(repository.jars, "kafka")))
    seen: list[tuple[str, int, int]] = []
    Artifacts(
        cache,
        lambda: repository.java,
        {"PATH": "/bin"},
        progress=lambda *step: seen.append(step),
        lock_file=lock,
    ).kafka_jars()
    size = sum(len(content) for content in JARS.values())
    assert seen[-1] == ("kafka", size, size)


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_the_proxy_of_the_environment_is_told_to_java(
    tmp_path: Path, repository: Repository, cache: Path, variable: str
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("\n".join(lock_lines(repository.jars, "kafka")))
    environment = {"PATH": "/usr/bin:/bin", variable: "http://proxy.example:3128"}
    Artifacts(cache, lambda: repository.java, environment, lock_file=lock).kafka_jars()
    assert "-Dhttps.proxyHost=proxy.example -Dhttps.proxyPort=3128" in repository.calls.read_text()


def test_check_names_every_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    locked = dict(read_lock()["spark-connector"])
    with pytest.raises(ArtifactError) as error:
        check(tmp_path, locked)
    assert all(name in str(error.value) for name in [*locked, "a.jar is not in the lock"])


def test_the_committed_lock_covers_every_set_with_whole_hashes() -> None:
    locked = read_lock()
    assert locked.keys() == SETS.keys()
    for files in locked.values():
        assert files
        for file in files.values():
            assert len(bytes.fromhex(file.sha256)) == hashlib.sha256().digest_size
            assert file.size > 0


def test_each_locked_set_has_the_pinned_versions() -> None:
    for name, dependencies in SETS.items():
        for dependency in dependencies:
            assert f"{dependency.name}-{dependency.version}.jar" in read_lock()[name]


def test_the_connector_is_that_of_the_installed_spark() -> None:
    assert importlib.metadata.version("pyspark") == SPARK_VERSION


def test_the_connector_brings_nothing_that_pyspark_has() -> None:
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.submodule_search_locations
    present = Path(spec.submodule_search_locations[0], "jars").glob("*.jar")
    ours = {re.sub(r"-\d[\w.]*\.jar$", "", name) for name in read_lock()["spark-connector"]}
    theirs = {re.sub(r"-\d[\w.]*\.jar$", "", jar.name) for jar in present}
    assert theirs
    assert ours & theirs == set()
