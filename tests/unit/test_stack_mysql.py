"""Which database server is found, and what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.stack.mysql import find_on_path, product


@pytest.mark.parametrize(
    ("handshake", "expected"),
    [
        ("8.4.3", "MySQL 8.4.3"),
        ("9.1.0-commercial", "MySQL 9.1.0-commercial"),
        ("11.4.5-MariaDB", "MariaDB 11.4.5"),
        ("5.5.5-10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19"),
    ],
)
def test_product_and_version(handshake: str, expected: str) -> None:
    assert product(handshake) == expected


@pytest.mark.parametrize("name", ["mysqld", "mariadbd"])
def test_a_server_on_the_path_is_found(tmp_path: Path, name: str) -> None:
    server = tmp_path / name
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    found = find_on_path(f"/nowhere:{tmp_path}")
    assert found is not None
    assert found.server == server


def test_no_server_on_the_path(tmp_path: Path) -> None:
    assert find_on_path(str(tmp_path)) is None


def test_mysql_and_mariadb_are_initialised_in_their_own_ways(tmp_path: Path) -> None:
    for program in ("bin/mariadbd", "sbin/mysqld", "scripts/mariadb-install-db"):
        path = tmp_path / "maria" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    mysqld = tmp_path / "oracle" / "mysqld"
    mysqld.parent.mkdir()
    mysqld.touch(mode=0o755)

    mariadb = find_on_path(str(tmp_path / "maria" / "bin"))
    assert mariadb is not None
    assert mariadb.is_mariadb
    assert tmp_path / "maria" / "scripts" / "mariadb-install-db" in mariadb.initialise_command(
        tmp_path / "data"
    )

    mysql = find_on_path(str(tmp_path / "oracle"))
    assert mysql is not None
    assert not mysql.is_mariadb
    assert "--initialize-insecure" in mysql.initialise_command(tmp_path / "data")
