"""What a stack remembers, and which ports it takes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fraudstream.stack.errors import StackError
from fraudstream.stack.ports import HOST, choose, is_free
from fraudstream.stack.state import PORT_NAMES, USUAL_PORTS, State, read_state, write_state


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_state_survives_a_round_trip_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "stack.json"
    state = State(ports={"kafka": 9092}, mysql_server="/usr/sbin/mysqld")
    write_state(path, state)
    assert read_state(path) == state
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_state_yet(tmp_path: Path) -> None:
    assert read_state(tmp_path / "stack.json") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"unknown": 1}'])
def test_an_unreadable_state_is_named_with_its_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stack.json"
    path.write_text(content)
    with pytest.raises(StackError, match="stack reset") as error:
        read_state(path)
    assert str(path) in str(error.value)


def test_passwords_and_cluster_ids_are_never_the_same_twice() -> None:
    one, other = State(), State()
    assert one.mysql_password != other.mysql_password
    assert one.mysql_admin_password != one.mysql_password
    assert one.kafka_cluster_id != other.kafka_cluster_id
    assert len(one.kafka_cluster_id) == 22


def test_a_taken_port_is_not_chosen(taken_port: int) -> None:
    assert not is_free(taken_port)
    assert choose(taken_port) != taken_port
    free = choose()
    assert choose(taken_port, free) == free


def test_a_remembered_port_is_kept_while_it_is_free_and_replaced_when_not(taken_port: int) -> None:
    free = choose()
    state = State(ports={"kafka": free, "mysql": taken_port}).with_free_ports(("kafka", "mysql"), usual=True)
    assert state.ports["kafka"] == free
    assert state.ports["mysql"] not in {taken_port, free}


def test_no_port_is_given_out_twice() -> None:
    chosen = State().with_free_ports(PORT_NAMES, usual=False).ports
    assert len(set(chosen.values())) == len(PORT_NAMES)
    assert not set(chosen.values()) & set(USUAL_PORTS.values())
