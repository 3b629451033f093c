"""The database that a verb works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from fraudstream.config import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine


@contextmanager
def opened_database() -> Iterator[tuple[Settings, Engine]]:
    """The settings and their database; what keeps it from being used ends the verb with exit code 1."""
    from sqlalchemy.exc import DBAPIError

    from fraudstream.store.engine import make_engine
    from fraudstream.store.errors import permanent_cause
    from fraudstream.store.migrate import NewerDatabase, refuse_newer

    try:
        settings = load_settings()
        engine = make_engine(settings.database_url)
        with engine.connect() as connection:
            refuse_newer(connection)
        yield settings, engine
    except (SettingsError, NewerDatabase, TimeoutError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except DBAPIError as error:
        cause = permanent_cause(error) or f"the database of MYSQL_URL cannot be used: {error.orig}"
        typer.echo(f"Error: {cause}", err=True)
        raise typer.Exit(1) from None
