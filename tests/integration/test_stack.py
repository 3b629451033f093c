"""The embedded stack as its user sees it: addresses that answer, data that stays, processes that go."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from fraudstream.config import PROJECT_DIR, child_environment, load_settings
from fraudstream.stack import Stack
from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.errors import ArtifactError, StackNotRunning
from fraudstream.stack.java import find_java
from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import find, is_alive
from fraudstream.stack.stack import SERVICES
from tests.support.waiting import wait_until

# Whatever is to be downloaded with this, fails at once.
NO_INTERNET = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), f"http://{HOST}:9")


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that a test may harm; each test starts what it needs. Nothing can be downloaded for it."""
    make_sure_of_the_downloads()
    stack = Stack(
        tmp_path_factory.mktemp("own-stack"), load_settings().cache_dir, child_environment(**NO_INTERNET)
    )
    try:
        yield stack
    finally:
        stack.reset()


def make_sure_of_the_downloads() -> None:
    environment = child_environment()
    cache_dir = load_settings().cache_dir
    artifacts = Artifacts(cache_dir, lambda: find_java(environment, cache_dir), environment)
    artifacts.kafka_jars()
    artifacts.mariadb()


def state_dir_of(stack: Stack) -> Path:
    return stack.log("kafka").parents[1]


def command(*arguments: str, state_home: Path, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fraudstream", "stack", *arguments],
        cwd=PROJECT_DIR,
        env=child_environment(XDG_STATE_HOME=str(state_home), **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def leave_a_trace(stack: Stack, mark: str) -> None:
    """A row, a message and a mail that say `mark`."""
    addresses = stack.addresses()
    execute(addresses.mysql, "CREATE TABLE IF NOT EXISTS traces (mark VARCHAR(64))")
    execute(addresses.mysql, f"INSERT INTO traces VALUES ('{mark}')")
    admin = KafkaAdminClient(bootstrap_servers=addresses.kafka)
    if "traces" not in admin.list_topics():
        admin.create_topics([NewTopic(name="traces", num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=addresses.kafka, acks="all")
    producer.send("traces", mark.encode()).get(timeout=30)
    producer.close()
    mail = EmailMessage()
    mail["Subject"] = mark
    with smtplib.SMTP(*addresses.smtp.split(":")) as client:
        client.send_message(mail, from_addr="a@example.com", to_addrs=["b@example.com"])


def traces(stack: Stack) -> dict[str, list[str]]:
    """What `leave_a_trace` left, by service."""
    addresses = stack.addresses()
    consumer = KafkaConsumer(
        "traces", bootstrap_servers=addresses.kafka, auto_offset_reset="earliest", consumer_timeout_ms=3000
    )
    messages = [record.value.decode() for record in consumer]
    consumer.close()
    return {
        "mysql": [row.mark for row in execute(addresses.mysql, "SELECT mark FROM traces")],
        "kafka": messages,
        "inbox": [mail["subject"] for mail in reversed(json.load(urlopen(f"{addresses.inbox}/api/mails")))],
    }


def execute(url: str, statement: str) -> list:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return list(result) if result.returns_rows else []


def pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid(name) for name in SERVICES}


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
        "@@bind_address, DATABASE()",
    )
    assert tuple(row) == ("+00:00", "utf8mb4", 1, 1, HOST, "transactions")
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
def test_a_killed_service_comes_back_on_its_port_with_its_data(own_stack: Stack, name: str) -> None:
    addresses = own_stack.up(usual_ports=False)
    mark = f"before the death of {name}"
    leave_a_trace(own_stack, mark)
    before = pids(own_stack)
    own_stack.kill(name)
    assert not psutil.pid_exists(before[name])
    assert own_stack.status().addresses is None
    with pytest.raises(StackNotRunning, match=name):
        own_stack.running_addresses()

    assert own_stack.up() == addresses
    after = pids(own_stack)
    assert {other for other in SERVICES if before[other] != after[other]} == {name}
    assert all(marks[-1] == mark for marks in traces(own_stack).values())


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


def test_a_port_taken_meanwhile_is_replaced_and_the_data_stays(own_stack: Stack) -> None:
    before = own_stack.up(usual_ports=False)
    leave_a_trace(own_stack, "on the old port")
    own_stack.down()
    assert find(state_dir_of(own_stack)) == []
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((HOST, int(before.kafka.split(":")[1])))
        stranger.listen()
        after = own_stack.up()
        assert after.kafka != before.kafka
        assert after.mysql == before.mysql
        assert traces(own_stack)["kafka"][-1] == "on the old port"


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


def kill_a_start_when_it_has_started(service: str, state_home: Path) -> psutil.Process:
    """SIGKILL `stack up` as soon as `service` is seen, and suspend that, as if it took long; returns it."""
    starter = command("up", state_home=state_home, **NO_INTERNET)
    (started, *_) = wait_until(lambda: processes_below(state_home, service), timeout=60, describe=service)
    started.suspend()
    starter.kill()
    starter.communicate()
    return started


@pytest.mark.parametrize("moment", ["setup", *SERVICES])
def test_a_starter_killed_at_any_moment_leaves_nothing_that_down_does_not_end(
    tmp_path: Path, moment: str
) -> None:
    make_sure_of_the_downloads()
    orphan = kill_a_start_when_it_has_started(moment, tmp_path)
    assert is_alive(orphan)
    finish(command("down", state_home=tmp_path))
    assert processes_below(tmp_path) == []


def test_a_killed_start_is_taken_up_by_the_next(tmp_path: Path) -> None:
    make_sure_of_the_downloads()
    try:
        for moment in ("setup", "mysql"):
            kill_a_start_when_it_has_started(moment, tmp_path)
        finish(command("up", state_home=tmp_path, **NO_INTERNET))
        assert json.loads(finish(command("status", "--json", state_home=tmp_path)))["running"]
        services = [process.environ()["FRAUDSTREAM_STACK_SERVICE"] for process in processes_below(tmp_path)]
        assert sorted(services) == sorted(SERVICES)
    finally:
        finish(command("reset", state_home=tmp_path))
    assert processes_below(tmp_path) == []


def processes_below(state_home: Path, service: str | None = None) -> list[psutil.Process]:
    return find(state_home / "fraudstream" / "stack", service)


def test_two_starts_at_once_make_one_stack(tmp_path: Path) -> None:
    make_sure_of_the_downloads()
    try:
        starters = [command("up", state_home=tmp_path, **NO_INTERNET) for _ in range(2)]
        assert len({finish(starter) for starter in starters}) == 1
        assert len(processes_below(tmp_path)) == len(SERVICES)
    finally:
        finish(command("reset", state_home=tmp_path))


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
