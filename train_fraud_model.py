"""History -> model_output/: trains the model that the stream judges by, next to the rules.

The history comes from a CSV or from the database, cleaned and turned into features by the stream's own
code. Only a model that does not do worse than the present one becomes the current one; a running job takes
it up between two batches. Exit code: 0 trained and saved, 1 refused or the data do not allow it, 2 bad
settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from fraudstream.config import (
    TRANSACTIONS_CSV,
    Settings,
    SettingsError,
    load_settings,
)
from fraudstream.labels import LabelFileError
from fraudstream.model import TrainingError
from fraudstream.model_store import ModelError
from fraudstream.publisher.csv_source import CsvError
from fraudstream.store.engine import DriverIncomplete, make_engine
from fraudstream.store.errors import permanent_cause
from fraudstream.store.migrate import NewerDatabase
from fraudstream.training import Recipe, in_one_line
from fraudstream.training_history import FoundHistory, from_csv, from_database
from fraudstream.training_run import Refused, run_training

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@app.command()
def main(
    data: Annotated[
        Path | None, typer.Option(help="CSV of transactions to learn from. [default: the shipped one]")
    ] = None,
    from_mysql: Annotated[
        bool, typer.Option("--from-mysql", help="Learn from the database's own transactions and labels.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="TransactionID,is_fraud or TransactionID,label,known_at."
        ),
    ] = None,
    without_labels: Annotated[
        bool, typer.Option("--without-labels", help="With --from-mysql: leave the labels aside.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where the model goes. [default: MODEL_DIR]")] = None,
    budget: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of transactions an analyst can look at.")
    ] = 0.01,
    trees: Annotated[int, typer.Option(min=100, help="Trees in each forest.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same data and seed give the same model.")
    ] = 0,
    delay_days: Annotated[int, typer.Option(min=0, help="Days until outcomes are usually known.")] = 7,
    force: Annotated[bool, typer.Option("--force", help="Replace the present model by a worse one.")] = False,
) -> None:
    """Train a model and, unless it does worse than the present one, make it the current one."""
    if from_mysql and (data or labels):
        raise typer.BadParameter(
            "--from-mysql takes transactions and labels from the database: leave out --data and --labels "
            "(python -m fraudstream labels import FILE stores labels there)"
        )
    if without_labels and not from_mysql:
        raise typer.BadParameter("--without-labels goes with --from-mysql; for a CSV leave out --labels")
    recipe = Recipe(budget, trees, seed, label_delay_s=delay_days * 86_400)
    with explained_errors():
        settings = load_settings()
        read = (
            partial(read_database, settings, recipe, use_labels=not without_labels)
            if from_mysql
            else partial(read_csv, settings, recipe, data or TRANSACTIONS_CSV, labels)
        )
        trained, folder = run_training(read, recipe, out or settings.model_dir, force=force, console=console)
    typer.echo(f"{in_one_line(trained.model.metadata)} folder={folder}")


def read_csv(settings: Settings, recipe: Recipe, data: Path, labels: Path | None) -> FoundHistory:
    return from_csv(
        data,
        labels,
        label_delay_s=recipe.label_delay_s,
        zone=settings.zone,
        now=datetime.now(settings.zone).replace(tzinfo=None),
    )


def read_database(settings: Settings, recipe: Recipe, *, use_labels: bool) -> FoundHistory:
    engine = make_engine(settings.database_url)
    return from_database(engine, label_delay_s=recipe.label_delay_s, use_labels=use_labels)


@contextmanager
def explained_errors() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        fail(str(error), 2)
    except DBAPIError as error:
        fail(permanent_cause(error) or f"the database of MYSQL_URL cannot be used: {error.orig}", 1)
    except (
        CsvError,
        LabelFileError,
        DriverIncomplete,
        TrainingError,
        ModelError,
        NewerDatabase,
        Refused,
    ) as error:
        fail(str(error), 1)


def fail(why: str, code: int) -> NoReturn:
    console.print(why, style="red")
    raise typer.Exit(code) from None


if __name__ == "__main__":
    app()
