"""`python -m fraudstream labels VERB`: confirmed outcomes of transactions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fraudstream.cli.database import opened_database

app = typer.Typer(no_args_is_help=True, help="Confirmed outcomes of transactions.")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TransactionID,label,known_at")],
    source: Annotated[str, typer.Option(help="Who says so; each source has its own word.")] = "import",
) -> None:
    """Store what a CSV says of transactions: fraud or legitimate, and when that became known.

    Rows that cannot be used are named by their line and left out (exit code 1); the others are stored.
    The same file a second time changes nothing.
    """
    from fraudstream.labels import LabelFileError, read_labels
    from fraudstream.reviews import REVIEW
    from fraudstream.store.labels import SOURCE_LENGTH, import_labels
    from fraudstream.store.migrate import migrate

    if not 0 < len(source.strip()) <= SOURCE_LENGTH:
        raise typer.BadParameter(f"--source must have 1 to {SOURCE_LENGTH} characters")
    if source.strip() == REVIEW:
        raise typer.BadParameter(f"--source {REVIEW} is that of the reviews in the dashboard: choose another")
    with opened_database() as (settings, engine):
        now = datetime.now(settings.zone).replace(tzinfo=None)
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                read = read_labels(lines, settings.zone, now)
        except (LabelFileError, UnicodeDecodeError) as error:
            typer.echo(f"Error: {file}, {error}", err=True)
            raise typer.Exit(1) from None
        migrate(engine)
        imported = import_labels(engine, read.labels, source=source.strip())
    for row in read.bad_rows:
        typer.echo(f"{file}, line {row.line}: {row.problem}", err=True)
    if imported.unknown:
        number, first = len(imported.unknown), imported.unknown[0]
        typer.echo(f"Not stored (yet): {number} of the transactions, such as {first!r}", err=True)
    typer.echo(
        f"new={imported.new} changed={imported.changed} unchanged={imported.unchanged} "
        f"outdated={imported.outdated} unknown={len(imported.unknown)} bad={len(read.bad_rows)}"
    )
    raise typer.Exit(1 if read.bad_rows else 0)
