"""The embedded stack as its user sees it: addresses that answer, data that stays, processes that go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from fraudstream.config import child_environment, load_settings
from fraudstream.stack import Stack
from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.errors import ArtifactError
from fraudstream.stack.java import find_java
from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import find
from fraudstream.stack.stack import SERVICES
from tests.support.own_stack import (
    NO_INTERNET,
    command,
    execute,
    finish,
    leave_a_trace,
    make_sure_of_the_downloads,
    pids,
    state_dir_of,
)


def test_up_twice_changes_nothing(own_stack: Stack) -> None:
    first = own_stack.up(usual_ports=False)
    before = pids(own_stack)
    assert own_stack.up() == first
    assert pids(own_stack) == before


def test_status_says_which_versions_run_and_where(own_stack: Stack) -> None:
    addresses = own_stack.up(usual_ports=False)
    status = own_stack.status()
    assert status.addresses == addresses
    versions = {service.name: service.version for service in status.services}
    assert versions["kafka"] == "Kafka 3.9.2"
    (row,) = execute(addresses.mysql, "SELECT VERSION() AS version")
    assert versions["mysql"].split()[1] in row.version


def test_the_database_server_is_set_up_as_promised(own_stack: Stack) -> None:
    addresses = own_stack.up(usual_ports=False)
    (row,) = execute(
        addresses.mysql,
        "SELECT @@time_zone, @@character_set_server, @@local_infile, @@innodb_flush_log_at_trx_commit, "
        "@@bind_address, DATABASE(), @@innodb_buffer_pool_size",
    )
    assert tuple(row) == ("+00:00", "utf8mb4", 0, 1, HOST, "transactions", 512 * 2**20)
    sizes = execute(
        addresses.mysql,
        "SHOW VARIABLES WHERE Variable_name IN ('innodb_log_file_size', 'innodb_redo_log_capacity')",
    )
    assert max(int(size) for _, size in sizes) == 512 * 2**20
    name = "fraudstream_test_of_the_account"
    execute(addresses.mysql, f"CREATE DATABASE {name}")
    execute(addresses.mysql, f"DROP DATABASE {name}")
    with pytest.raises(Exception, match="Access denied"):
        execute(addresses.mysql, "CREATE DATABASE somebody_elses")
    with pytest.raises(Exception, match="Access denied"):
        execute(addresses.mysql.replace("fraudstream:", "root:").replace("/transactions", ""), "SELECT 1")


def test_the_passwords_are_readable_by_their_owner_only(own_stack: Stack) -> None:
    own_stack.up(usual_ports=False)
    password = own_stack.addresses().mysql.split(":")[2].split("@")[0]
    with_password = [
        path
        for path in state_dir_of(own_stack).rglob("*")
        if path.is_file() and path.stat().st_size < 1_000_000 and password.encode() in path.read_bytes()
    ]
    assert with_password
    assert {path.stat().st_mode & 0o077 for path in with_password} == {0}


@pytest.mark.parametrize("name", SERVICES)
def test_one_service_stops_and_starts_by_itself(own_stack: Stack, name: str) -> None:
    addresses = own_stack.up(usual_ports=False)
    own_stack.stop(name)
    assert {service.name for service in own_stack.status().services if service.state == "down"} == {name}
    own_stack.start(name)
    assert own_stack.running_addresses() == addresses


def test_a_suspended_service_is_replaced(own_stack: Stack) -> None:
    own_stack.up(usual_ports=False)
    suspended = own_stack.pid("inbox")
    os.kill(suspended, signal.SIGSTOP)
    own_stack.up()
    assert own_stack.pid("inbox") != suspended
    assert own_stack.status().addresses


def test_reset_leaves_no_process_and_no_data(own_stack: Stack) -> None:
    own_stack.up(usual_ports=False)
    leave_a_trace(own_stack, "to be forgotten")
    state_dir = state_dir_of(own_stack)
    own_stack.reset()
    assert find(state_dir) == []
    assert [path.name for path in state_dir.iterdir()] == ["stack.lock"]
    addresses = own_stack.up(usual_ports=False)
    assert execute(addresses.mysql, "SHOW TABLES") == []
    assert json.load(urlopen(f"{addresses.inbox}/api/mails")) == []


def test_reset_removes_only_what_the_stack_made(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    Stack(tmp_path, load_settings().cache_dir, child_environment()).reset()
    assert (tmp_path / "thesis.txt").exists()


def test_a_deep_state_folder_with_blanks_does_no_harm(tmp_path: Path) -> None:
    deep = tmp_path / ("a folder " + "d" * 60) / ("e" * 60)
    stack = Stack(deep, load_settings().cache_dir, child_environment(**NO_INTERNET))
    try:
        stack.up(usual_ports=False)
        assert stack.status().addresses
    finally:
        stack.reset()


def test_a_server_on_the_path_that_cannot_run_here_is_told_and_replaced(tmp_path: Path) -> None:
    confined = tmp_path / "bin" / "mysqld"
    confined.parent.mkdir()
    confined.write_text("#!/bin/sh\necho 'Permission denied' >&2\nexit 1\n")
    confined.chmod(0o755)
    environment = child_environment(**NO_INTERNET)
    environment["PATH"] = f"{confined.parent}{os.pathsep}{environment['PATH']}"
    notices: list[str] = []
    stack = Stack(tmp_path / "state", load_settings().cache_dir, environment, notice=notices.append)
    try:
        stack.up(usual_ports=False)
        (notice,) = (line for line in notices if "cannot be used here" in line)
        assert str(confined) in notice
        assert "Permission denied" in notice
        # It stays with the server that made its data.
        stack.kill("mysql")
        stack.up(usual_ports=False)
        (database,) = (service for service in stack.status().services if service.name == "mysql")
        assert database.version is not None
        assert database.version.startswith("MariaDB")
    finally:
        stack.reset()


def test_without_internet_a_download_fails_with_a_hint(tmp_path: Path) -> None:
    environment = child_environment(**NO_INTERNET)
    java = find_java(child_environment(), load_settings().cache_dir)
    with pytest.raises(ArtifactError, match="connected to the internet"):
        Artifacts(tmp_path / "cache", lambda: java, environment).spark_connector_jars()
    assert list((tmp_path / "cache").glob("**/*.jar")) == []


def test_the_commands_tell_addresses_to_programs_and_shells(tmp_path: Path) -> None:
    make_sure_of_the_downloads()
    before = command("env", state_home=tmp_path)
    output, errors = before.communicate(timeout=60)
    assert (before.returncode, output) == (1, "")
    assert "python -m fraudstream stack up" in errors
    try:
        finish(command("up", state_home=tmp_path, **NO_INTERNET))
        addresses = json.loads(finish(command("status", "--json", state_home=tmp_path)))
        exports = finish(command("env", state_home=tmp_path))
        script = f'{exports}\nprintf "%s\\n" "$KAFKA_BOOTSTRAP_SERVERS" "$MYSQL_URL" "$SMTP_HOST:$SMTP_PORT"'
        shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
        assert shell.stdout.split() == [addresses["kafka"], addresses["mysql"], addresses["smtp"]]
        assert execute(addresses["mysql"], "SELECT DATABASE()") == [("transactions",)]
        assert addresses["dashboard"].startswith("http://127.0.0.1:")
    finally:
        finish(command("reset", state_home=tmp_path))
    status = command("status", "--json", state_home=tmp_path)
    output, _ = status.communicate(timeout=60)
    assert status.returncode == 1
    assert json.loads(output)["running"] is False


def test_the_shared_stack_gives_each_test_a_database_and_a_topic_of_its_own(
    settings_env: dict[str, str], database: str, topic: str
) -> None:
    assert execute(database, "SHOW TABLES") == []
    assert settings_env["MYSQL_URL"] == database
    assert settings_env["KAFKA_TOPIC"] == topic
    assert "/fraudstream_test_" in database
