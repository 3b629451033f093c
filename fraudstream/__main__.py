"""`python -m fraudstream VERB`: everything that is not one of the four scripts."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fraudstream.cli import alerts, bench, dead_letters, labels, offsets, stack
from fraudstream.cli.database import opened_database
from fraudstream.cli.figures import JsonFile, say, write_json
from fraudstream.config import (
    LABELS_CSV,
    TRANSACTIONS_CSV,
    SettingsError,
    load_settings,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from fraudstream.evaluation import Comparison, Report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Tools around the fraudstream pipeline.",
)

app.add_typer(offsets.app, name="offsets")
app.add_typer(stack.app, name="stack")
app.add_typer(alerts.app, name="alerts")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(labels.app, name="labels")
app.add_typer(bench.app)


@app.callback()
def _verbs() -> None:
    """Keeps the verb in the command line however many there are."""


@app.command()
def demo(
    csv: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Replayed.")] = TRANSACTIONS_CSV,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0, help="Transactions a second; 0 = as fast as it goes. [default: 50; with --once 0]"
        ),
    ] = None,
    once: Annotated[bool, typer.Option(help="End when every record is accounted for.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave stack and dashboard up at the end.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Only end and remove demos that were kept.")] = False,
) -> None:
    """Run everything at once: embedded stack, stream, producer, dashboard. Ctrl-C ends all of it."""
    from rich.console import Console

    from fraudstream.demo import DemoFailed, DemoOptions, clean_up, run_demo
    from fraudstream.stack import StackError
    from fraudstream.stop_signals import stop_on_signals

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        settings = load_settings()
        if clean:
            return clean_up(settings.state_dir / "demo", settings, console, kept_too=True)
        pace = rate if rate is not None else (0.0 if once else 50.0)
        options = DemoOptions(csv, pace, once, keep)
        if not run_demo(options, settings, stop_on_signals(), console):
            typer.echo("Error: not every record is accounted for", err=True)
            raise typer.Exit(1)
    except (SettingsError, StackError, DemoFailed) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


class Population(enum.StrEnum):
    """Who makes the synthetic transactions."""

    SHOP = "shop"
    CARDS = "cards"


@app.command()
def generate(
    population: Annotated[
        Population, typer.Option(help="shop: users with habits; cards: customers and terminals on a plane.")
    ] = Population.SHOP,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Distinct transactions; of shop only. [default: 10000]")
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users that make them. [default: 100; of cards 5000]")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, help="Days: of shop before 2025-01-31, of cards from 2018-04-01 on.")
    ] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 42,
    out: Annotated[Path, typer.Option(dir_okay=False, help="The transactions.")] = TRANSACTIONS_CSV,
    labels: Annotated[Path, typer.Option(dir_okay=False, help="Which of them are fraud.")] = LABELS_CSV,
) -> None:
    """Write labelled synthetic transactions; of shop 0.5 % of them twice, as exact duplicates."""
    from fraudstream.simulator import simulate, simulate_cards

    if population is Population.CARDS:
        if rows is not None:
            raise typer.BadParameter("of cards, users and days say how many rows there are: leave out --rows")
        try:
            simulation = simulate_cards(customers=users or 5_000, days=days, seed=seed)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    else:
        simulation = simulate(rows=rows or 10_000, users=users or 100, days=days, seed=seed)
    for frame, path in ((simulation.transactions, out), (simulation.labels, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
        typer.echo(f"{path}: {len(frame):,} rows")


_Data = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="Transactions, in the order of their arrival.")
]
_Labels = Annotated[Path, typer.Option(exists=True, dir_okay=False, help="TransactionID,is_fraud[,scenario]")]
_Budget = Annotated[
    float, typer.Option(min=0.0001, max=0.5, help="Share of transactions an analyst can look at.")
]
_Trees = Annotated[int, typer.Option(min=100, help="Trees in a forest.")]
_Seed = Annotated[int, typer.Option(min=0, help="The same data and seed give the same figures.")]


@app.command()
def evaluate(
    data: _Data,
    labels: _Labels,
    train_start: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day that trains the model.")
    ],
    train_days: Annotated[int, typer.Option(min=1, help="Days that train the model.")] = 7,
    delay_days: Annotated[int, typer.Option(min=0, help="Days that a label takes to come in.")] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Days that test the model, after the delay.")] = 7,
    mode: Annotated[
        Literal["unsupervised", "feedback", "supervised"],
        typer.Option(help="Labels that the model knows: none, merchants' past ones, its own rows', too."),
    ] = "unsupervised",
    budget: _Budget = 0.01,
    trees: _Trees = 100,
    seed: _Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure a model that is trained on some days and tested on later ones.

    Ranking, and precision, recall and alerts a day at its threshold; also for each scenario of fraud.

    The protocol is the Fraud Detection Handbook's: days that train, days until labels are known, days that
    test, without the cards that were known for fraud by then.
    """
    from fraudstream.evaluation import Mode, Plan
    from fraudstream.evaluation import evaluate as evaluated

    periods = (train_start.date(), train_days, delay_days, test_days)
    plan = Plan(*periods, Mode(mode), budget, trees, seed)
    started = time.perf_counter()
    with _labelled(data, labels) as (transactions, truth):
        report = evaluated(transactions, truth, plan, say=say)
    _show(report, started, json_file)


@app.command()
def compare(
    data: _Data = TRANSACTIONS_CSV,
    labels: _Labels = LABELS_CSV,
    budget: _Budget = 0.01,
    trees: _Trees = 100,
    seed: _Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Compare what rules, a model without labels, and both together flag in the newest fifth of the data."""
    from fraudstream.evaluation import compare_verdicts
    from fraudstream.rules import load_rules

    started = time.perf_counter()
    with _labelled(data, labels) as (transactions, truth):
        report = compare_verdicts(
            transactions, truth, load_rules(), budget=budget, trees=trees, seed=seed, say=say
        )
    _show(report, started, json_file)


@contextmanager
def _labelled(data: Path, labels: Path) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
    """The usable transactions of one file and the truth of the other, as evaluation takes them."""
    from fraudstream.evaluation import EvaluationError
    from fraudstream.labels import LabelFileError, read_truth
    from fraudstream.model import TrainingError
    from fraudstream.offline import usable_transactions
    from fraudstream.publisher.csv_source import CsvError
    from fraudstream.rules import RulesError

    try:
        settings = load_settings()
        with labels.open(encoding="utf-8-sig", newline="") as lines:
            truth = read_truth(lines)
        say(f"{labels}: {len(truth):,} labels")
        transactions = usable_transactions(data, settings.zone)
        say(f"{data}: {len(transactions):,} usable transactions")
        yield transactions, truth
    except (LabelFileError, UnicodeDecodeError) as error:
        typer.echo(f"Error: {labels}, {error}", err=True)
        raise typer.Exit(1) from None
    except (SettingsError, CsvError, RulesError, EvaluationError, TrainingError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _show(report: Report | Comparison, started: float, json_file: Path | None) -> None:
    """Warnings to the screen's stderr, the figures to its stdout and, as JSON, to the file."""
    for warning in report.warnings:
        say(f"Warning: {warning}")
    figures = {**report.as_json(), "seconds": round(time.perf_counter() - started, 1)}
    if write_json(figures, json_file):
        typer.echo(report.in_words())


@app.command()
def status() -> None:
    """Say who writes, and what has become of the topic's records. Exit code 1 when no job is at work."""
    from fraudstream.store.locks import lock_name
    from fraudstream.store.progress import read_progress
    from fraudstream.store.writer import live_writer

    with opened_database() as (settings, engine):
        writer = live_writer(engine, lock_name(engine.url.database or "", settings.kafka_topic))
        progress = read_progress(engine, settings.kafka_topic)
    typer.echo(f"writer: {writer or 'none: start data_cleaning.py'}")
    typer.echo(" ".join(f"{name}={number}" for name, number in asdict(progress).items()))
    raise typer.Exit(0 if writer else 1)


if __name__ == "__main__":
    app(prog_name="python -m fraudstream")
