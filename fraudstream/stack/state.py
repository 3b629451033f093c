"""What a stack remembers in its state folder: ports, passwords, and which database server made its data."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fraudstream.stack import ports
from fraudstream.stack.addresses import USUAL_DASHBOARD_PORT
from fraudstream.stack.errors import StackError
from fraudstream.stack.kafka import new_cluster_id

USUAL_PORTS = {"kafka": 9092, "mysql": 3306, "smtp": 1025, "inbox": 8025, "dashboard": USUAL_DASHBOARD_PORT}
PORT_NAMES = (*USUAL_PORTS, "controller")


def _password() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True)
class State:
    """`mysql_server` is its path, or "downloaded"; set when the data is made, which stays with its server."""

    ports: dict[str, int] = field(default_factory=dict)
    kafka_cluster_id: str = field(default_factory=new_cluster_id)
    mysql_password: str = field(default_factory=_password)
    mysql_dashboard_password: str = field(default_factory=_password)
    mysql_admin_password: str = field(default_factory=_password)
    mysql_server: str | None = None

    def with_free_ports(self, names: tuple[str, ...], *, usual: bool) -> State:
        """A free port for each of `names`: the remembered one, else the usual one if wanted, else any."""
        chosen = dict(self.ports)
        for name in names:
            others = frozenset(port for other, port in chosen.items() if other != name)
            preferred = USUAL_PORTS.get(name) if usual else None
            chosen[name] = ports.choose(self.ports.get(name), preferred, taken=others)
        return replace(self, ports=chosen)


def read_state(path: Path) -> State | None:
    """The state that was written there, or None where none was. Raises StackError when it is unreadable."""
    if not path.exists():
        return None
    try:
        return State(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{path} cannot be read ({error}): `python -m fraudstream stack reset` starts afresh"
        ) from error


def write_state(path: Path, state: State) -> None:
    """Replace the file in one step; only its owner may read it, for it has the passwords."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_suffix(".unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(asdict(state), indent=1))
    unfinished.replace(path)
