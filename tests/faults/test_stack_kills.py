"""Services and starters of the embedded stack are killed, a port is taken: data stays, no process is lost."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil
import pytest

from fraudstream.stack import Stack
from fraudstream.stack.errors import StackNotRunning
from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import find, is_alive
from fraudstream.stack.stack import SERVICES
from tests.support.own_stack import (
    NO_INTERNET,
    command,
    finish,
    leave_a_trace,
    make_sure_of_the_downloads,
    pids,
    state_dir_of,
    traces,
)
from tests.support.waiting import wait_until


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
