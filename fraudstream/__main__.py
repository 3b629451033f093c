"""`python -m fraudstream VERB`: everything that is not one of the four scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.config import (
    LABELS_CSV,
    TRANSACTIONS_CSV,
    SettingsError,
    child_environment,
    load_settings,
)

if TYPE_CHECKING:
    from fraudstream.stack import Stack

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Tools around the fraudstream pipeline.",
)


stack_app = typer.Typer(
    no_args_is_help=True, help="The embedded stack: Kafka, a MySQL-compatible server and a mail inbox."
)
app.add_typer(stack_app, name="stack")


@app.callback()
def _verbs() -> None:
    """Keeps the verb in the command line however many there are."""


@app.command()
def generate(
    rows: Annotated[int, typer.Option(min=1, help="Distinct transactions.")] = 10_000,
    users: Annotated[int, typer.Option(min=1, help="Users that make them.")] = 100,
    days: Annotated[int, typer.Option(min=1, help="Days before 2025-01-31 that they spread over.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 42,
    out: Annotated[Path, typer.Option(dir_okay=False, help="The transactions.")] = TRANSACTIONS_CSV,
    labels: Annotated[Path, typer.Option(dir_okay=False, help="Which of them are fraud.")] = LABELS_CSV,
) -> None:
    """Write labelled synthetic transactions; 0.5 % of them twice, as exact duplicates."""
    from fraudstream.simulator import simulate

    simulation = simulate(rows=rows, users=users, days=days, seed=seed)
    for frame, path in ((simulation.transactions, out), (simulation.labels, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
        typer.echo(f"{path}: {len(frame):,} rows")


@stack_app.command("up")
def stack_up() -> None:
    """Start what does not run yet, and return when all of it answers. It runs until `stack down`."""
    from fraudstream.stack.display import status_text

    with _stack() as stack:
        stack.up()
        typer.echo(status_text(stack.status()))
    typer.echo('\nPoint a terminal at it:  eval "$(python -m fraudstream stack env)"')


@stack_app.command("down")
def stack_down() -> None:
    """Stop all of it. Its data stays."""
    with _stack() as stack:
        stack.down()


@stack_app.command("reset")
def stack_reset() -> None:
    """Stop all of it and remove its data: topics, tables and mails."""
    with _stack() as stack:
        stack.reset()


@stack_app.command("fetch")
def stack_fetch() -> None:
    """Only download what the stack and the stream need; afterwards both work offline."""
    with _stack() as stack:
        stack.fetch()


@stack_app.command("status")
def stack_status(
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs; the mysql URL has its password.")
    ] = False,
) -> None:
    """Show what runs, which versions, and where. Exit code 1 when not all of it is up."""
    from fraudstream.stack.display import status_json, status_text

    with _stack() as stack:
        status = stack.status()
    typer.echo(status_json(status) if as_json else status_text(status))
    raise typer.Exit(0 if status.addresses else 1)


@stack_app.command("env")
def stack_env() -> None:
    """Print `export` lines that point the four scripts at the running stack."""
    from fraudstream.stack.addresses import export_lines

    with _stack() as stack:
        typer.echo(export_lines(stack.running_addresses().environment()))


@contextmanager
def _stack() -> Iterator[Stack]:
    from fraudstream.stack import Stack, StackError
    from fraudstream.stack.display import download_bars

    try:
        settings = load_settings()
        java_home = {"JAVA_HOME": str(settings.java_home)} if settings.java_home else {}
        with download_bars() as progress:
            yield Stack(
                settings.state_dir / "stack",
                settings.cache_dir,
                child_environment(**java_home),
                progress=progress,
                notice=lambda line: typer.echo(line, err=True),
            )
    except (SettingsError, StackError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app(prog_name="python -m fraudstream")
