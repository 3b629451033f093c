"""`python -m fraudstream stack VERB`: the embedded stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.config import SettingsError, child_environment, load_settings

if TYPE_CHECKING:
    from fraudstream.stack import Stack

app = typer.Typer(
    no_args_is_help=True, help="The embedded stack: Kafka, a MySQL-compatible server and a mail inbox."
)


@app.command()
def up() -> None:
    """Start what does not run yet, and return when all of it answers. It runs until `stack down`."""
    from fraudstream.stack.display import status_text

    with _stack() as stack:
        stack.up()
        typer.echo(status_text(stack.status()))
    typer.echo('\nPoint a terminal at it:  eval "$(python -m fraudstream stack env)"')


@app.command()
def down() -> None:
    """Stop all of it. Its data stays."""
    with _stack() as stack:
        stack.down()


@app.command()
def reset() -> None:
    """Stop all of it and remove its data: topics, tables and mails."""
    with _stack() as stack:
        stack.reset()


@app.command()
def fetch(
    connector: Annotated[bool, typer.Option("--connector", help="Only Spark's connector to Kafka.")] = False,
) -> None:
    """Only download what the stack and the stream need; afterwards both work offline."""
    with _stack() as stack:
        stack.fetch(connector_only=connector)


@app.command(hidden=True)
def lock() -> None:
    """Write artifacts.lock anew, after a version in artifacts.py was changed."""
    with _stack() as stack:
        stack.lock_artifacts()


@app.command()
def status(
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


@app.command()
def env() -> None:
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
