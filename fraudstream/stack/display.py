"""What the stack's commands show on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fraudstream.stack.artifacts import Progress as Report
from fraudstream.stack.stack import Status


@contextmanager
def download_bars() -> Iterator[Report]:
    """A function that shows a bar for each download on standard error, while the block lasts."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            bars.start()
            tasks[what] = bars.add_task(f"Downloading {what}", total=total)
        bars.update(tasks[what], completed=min(done, total))

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


def status_text(status: Status) -> str:
    """A line for each service, and where its pages are; passwords are not in it."""
    rows = [(service.name, service.state, service.address, service.version) for service in status.services]
    if status.addresses:
        rows.append(("smtp", "up", status.addresses.smtp, None))
        rows.append(("dashboard", "to be started", status.addresses.dashboard, None))
    return "\n".join(
        f"{name:<10} {state:<15} {address or '-':<24} {version or ''}".rstrip()
        for name, state, address, version in rows
    )


def status_json(status: Status) -> str:
    """One object: `running`, the addresses (null when not all is up), and `services` in detail."""
    addresses = asdict(status.addresses) if status.addresses else dict.fromkeys(_ADDRESS_NAMES)
    services = [asdict(service) for service in status.services]
    return json.dumps({"running": status.addresses is not None, **addresses, "services": services}, indent=2)


_ADDRESS_NAMES = ("kafka", "mysql", "smtp", "inbox", "dashboard")
