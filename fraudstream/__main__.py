"""`python -m fraudstream VERB`: everything that is not one of the four scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudstream.config import LABELS_CSV, TRANSACTIONS_CSV

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Tools around the fraudstream pipeline.",
)


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


if __name__ == "__main__":
    app(prog_name="python -m fraudstream")
