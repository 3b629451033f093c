"""The progress of a replay on the terminal, or as plain lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fraudstream.publisher.delivery import Tally

_PLAIN_LINE_S = 5.0


def summary(tally: Tally) -> str:
    """The line that ends a replay; made to be read by programs as well."""
    return f"sent={tally.sent} acknowledged={tally.acknowledged} failed={tally.failed}"


@contextmanager
def replay_display(console: Console, total: int | None) -> Iterator[Callable[[Tally], None]]:
    """What shows a tally; at the end the last one is printed as a `summary` on standard output.

    `total` is the number of rows, None if there is no end.
    """
    latest = Tally()

    def show(tally: Tally) -> None:
        nonlocal latest
        latest = tally
        draw(tally)

    try:
        with _bar(console, total) if console.is_terminal else nullcontext(_plain_lines(console)) as draw:
            yield show
    finally:
        typer.echo(summary(latest))


@contextmanager
def _bar(console: Console, total: int | None) -> Iterator[Callable[[Tally], None]]:
    columns = (
        TextColumn("acknowledged"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("acknowledged", total=total, pace="")
        started = time.monotonic()

        def draw(tally: Tally) -> None:
            pace = tally.acknowledged / max(time.monotonic() - started, 0.001)
            progress.update(task, completed=tally.acknowledged, pace=f"{pace:,.0f}/s")

        yield draw


def _plain_lines(console: Console) -> Callable[[Tally], None]:
    next_line = time.monotonic() + _PLAIN_LINE_S

    def draw(tally: Tally) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line:
            console.print(summary(tally))
            next_line = time.monotonic() + _PLAIN_LINE_S

    return draw
