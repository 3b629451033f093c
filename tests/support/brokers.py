"""A real Kafka broker that a test kills, freezes and brings back: of the embedded stack, or of Compose."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Protocol

from fraudstream.stack import Stack
from tests.support.compose import Compose


class Broker(Protocol):
    """Who ends or freezes it must bring it back."""

    @property
    def servers(self) -> str: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


@dataclass(frozen=True)
class StackBroker:
    """One KRaft node."""

    stack: Stack

    @property
    def servers(self) -> str:
        return self.stack.addresses().kafka

    def kill(self) -> None:
        self.stack.kill("kafka")

    def start(self) -> None:
        self.stack.start("kafka")

    def freeze(self) -> None:
        os.kill(self.stack.pid("kafka"), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.stack.pid("kafka"), signal.SIGCONT)


@dataclass(frozen=True)
class ComposeBroker:
    """The broker of docker-compose.yml, with ZooKeeper."""

    compose: Compose
    servers: str

    def kill(self) -> None:
        self.compose("kill", "kafka")

    def start(self) -> None:
        self.compose.up("kafka")

    def freeze(self) -> None:
        self.compose("pause", "kafka")

    def thaw(self) -> None:
        self.compose("unpause", "kafka")
