"""Which Java is taken, told apart by fake executables that say they are one version or another."""

from __future__ import annotations

from pathlib import Path

import jdk
import pytest

from fraudstream.stack.errors import JavaNotFound
from fraudstream.stack.java import find_java, java_home, java_version


def fake_java(home: Path, told: str, exit_code: int = 0) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{told}' >&2\nexit {exit_code}\n")
    java.chmod(0o755)
    return java


def version(number: str) -> str:
    return f'openjdk version "{number}" 2025-01-01'


def refuse_to_fetch(folder: Path) -> None:
    raise jdk.JdkError("no route to host")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (version("17.0.15"), 17),
        (version("21"), 21),
        (version("21.0.1-ea"), 21),
        ('java version "1.8.0_402"', 8),
        (version("25.0.1"), 25),
        ("no java here", None),
    ],
)
def test_version_is_read_from_what_java_tells(tmp_path: Path, told: str, expected: int | None) -> None:
    assert java_version(fake_java(tmp_path, told)) == expected


def test_a_java_that_fails_has_no_version(tmp_path: Path) -> None:
    assert java_version(fake_java(tmp_path, version("17"), exit_code=1)) is None


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    by_home = fake_java(tmp_path / "home", version("17.0.1"))
    on_path = fake_java(tmp_path / "path", version("21.0.1"))
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)}
    assert find_java(environment, tmp_path / "cache", fetch=refuse_to_fetch) == by_home


@pytest.mark.parametrize("unsuitable", [version("25.0.1"), version("11.0.2"), "broken"])
def test_an_unsuitable_java_home_is_passed_over(tmp_path: Path, unsuitable: str) -> None:
    fake_java(tmp_path / "home", unsuitable)
    on_path = fake_java(tmp_path / "path", version("21.0.1"))
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)}
    assert find_java(environment, tmp_path / "cache", fetch=refuse_to_fetch) == on_path


def test_without_java_the_error_names_what_was_seen_and_what_to_install(tmp_path: Path) -> None:
    java = fake_java(tmp_path / "home", version("11.0.2"))
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "empty")}
    with pytest.raises(JavaNotFound) as error:
        find_java(environment, tmp_path / "cache", fetch=refuse_to_fetch)
    text = str(error.value)
    assert f"{java} is Java 11" in text
    assert "no route to host" in text
    for system, command in (
        ("Debian", "apt-get install"),
        ("Fedora", "dnf install"),
        ("macOS", "brew install"),
    ):
        assert any(system in line and command in line for line in text.splitlines())


def test_a_fetched_java_is_kept_and_fetched_once(tmp_path: Path) -> None:
    fetches: list[Path] = []

    def fetch(folder: Path) -> None:
        fetches.append(folder)
        fake_java(folder / "jdk-21.0.9+10-jre", version("21.0.9"))

    cache = tmp_path / "cache"
    first = find_java({"PATH": str(tmp_path)}, cache, fetch=fetch)
    second = find_java({"PATH": str(tmp_path)}, cache, fetch=fetch)
    assert first == second
    assert first.is_relative_to(cache)
    assert java_version(first) == 21
    assert java_home(first).name == "jdk-21.0.9+10-jre"
    assert len(fetches) == 1


def test_a_fetched_java_that_does_not_run_is_not_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(JavaNotFound, match="does not run here"):
        find_java({"PATH": str(tmp_path)}, cache, fetch=lambda folder: fake_java(folder, "broken") and None)
    assert list(cache.glob("**/java")) == []
