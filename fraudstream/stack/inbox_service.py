"""The inbox as a service of the stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from fraudstream.stack.ports import HOST
from fraudstream.stack.processes import python_command

# A proxy that the environment names is not for this machine's own addresses.
_DIRECT = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class Inbox:
    """`python -m fraudstream.stack.inbox` with its mails in `mails`."""

    mails: Path
    log: Path
    smtp_port: int
    http_port: int

    name = "inbox"
    start_timeout_s = 60.0

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def prepare(self) -> None:
        self.mails.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str | Path]:
        ports = ("--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port))
        return [*python_command("fraudstream.stack.inbox"), self.mails, *ports]

    def version(self, process: psutil.Process) -> str | None:
        try:
            with _DIRECT.open(f"{self.address}/api/health", timeout=5) as answer:
                pid = json.load(answer).get("pid")
        except (URLError, OSError, ValueError):
            return None
        return "fraudstream inbox" if pid == process.pid else None
