"""History -> model_output/: trains the isolation forest that the stream judges by, next to the rules.

The data are cleaned by the stream's own code and every transaction counts once. A running job takes the
new model up between two batches. Exit code: 0 trained and saved, 1 the data do not allow it, 2 bad settings.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import typer
from numpy.typing import NDArray
from rich.console import Console

from fraudstream import model
from fraudstream.cleaning import clean, csv_records
from fraudstream.config import (
    TRANSACTIONS_CSV,
    Settings,
    SettingsError,
    child_environment,
    export,
    load_settings,
)
from fraudstream.features import row_features
from fraudstream.publisher.csv_source import CsvError, check_head
from fraudstream.scoring import amount_cents, time_s
from fraudstream.stack import StackError
from fraudstream.stack.spark import spark_variables
from fraudstream.streaming import build_session

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Transactions to learn from.")] = TRANSACTIONS_CSV,
    out: Annotated[Path | None, typer.Option(help="Where the model goes. [default: MODEL_DIR]")] = None,
    budget: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of transactions an analyst can look at.")
    ] = 0.01,
    trees: Annotated[int, typer.Option(min=100, help="Trees in the forest.")] = 100,
    seed: Annotated[int, typer.Option(help="The same data and seed give the same model.")] = 0,
) -> None:
    """Train a model on a CSV of transactions and make it the current one."""
    try:
        settings = load_settings()
        check_head(data)
        transactions = cleaned_transactions(settings, data)
        console.print(f"{data}: {len(transactions):,} usable transactions")
        trained = model.train(
            features_of(transactions),
            time_s(transactions["Time"]),
            data_sha256=hashlib.sha256(data.read_bytes()).hexdigest(),
            alert_budget=budget,
            trees=trees,
            seed=seed,
        )
        folder = model.save(trained, out or settings.model_dir)
    except (SettingsError, CsvError, StackError, model.TrainingError) as error:
        console.print(str(error), style="red")
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None
    said = trained.metadata
    typer.echo(
        f"model={said.version} threshold={said.threshold:.4f} training_rows={said.training_rows} "
        f"held_back_rows={said.held_back_rows} held_back_alert_rate={said.held_back_alert_rate:.4f} "
        f"folder={folder}"
    )


def cleaned_transactions(settings: Settings, data: Path) -> pa.Table:
    """The usable rows of the file, each TransactionID once (its first row), in the file's order."""
    rows = pd.read_csv(data, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    export(**spark_variables(child_environment(), settings.cache_dir, local=True))
    session = build_session(master="local[*]", zone=settings.tz, driver_memory=settings.spark_driver_memory)
    cleaned = csv_records(session, rows).transform(clean).toArrow()
    session.stop()
    usable = cleaned.filter(pc.is_null(cleaned["rejection"])).sort_by("offset")
    first = usable.group_by("TransactionID", use_threads=False).aggregate([("offset", "min")])
    return usable.filter(pc.is_in(usable["offset"], value_set=first["offset_min"].combine_chunks()))


def features_of(transactions: pa.Table) -> NDArray[np.float64]:
    """Shape (n, len(FEATURE_NAMES)); see features.row_features."""
    return row_features(
        amount_cents(transactions["Amount"]),
        time_s(transactions["Time"]),
        transactions["Location"].is_null().to_numpy(),
    )


if __name__ == "__main__":
    app()
