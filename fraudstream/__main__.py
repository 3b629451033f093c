"""`python -m fraudstream VERB`: everything that is not one of the four scripts."""

from __future__ import annotations

import enum
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fraudstream.config import (
    LABELS_CSV,
    TRANSACTIONS_CSV,
    Settings,
    SettingsError,
    child_environment,
    export,
    load_settings,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from sqlalchemy import Engine

    from fraudstream.evaluation import Comparison, Report
    from fraudstream.stack import Stack
    from fraudstream.store.dead_letters import Selection
    from fraudstream.topic import TopicInfo

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Tools around the fraudstream pipeline.",
)


offsets_app = typer.Typer(no_args_is_help=True, help="Where the job goes on in Kafka.")
app.add_typer(offsets_app, name="offsets")
stack_app = typer.Typer(
    no_args_is_help=True, help="The embedded stack: Kafka, a MySQL-compatible server and a mail inbox."
)
app.add_typer(stack_app, name="stack")


alerts_app = typer.Typer(help="The alert outbox and its mails.")
app.add_typer(alerts_app, name="alerts")


dead_letters_app = typer.Typer(no_args_is_help=True, help="Records that could not be used.")
app.add_typer(dead_letters_app, name="dead-letters")


labels_app = typer.Typer(no_args_is_help=True, help="Confirmed outcomes of transactions.")
app.add_typer(labels_app, name="labels")


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
_Json = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, allow_dash=True, help="Also write JSON here; to - only that."),
]


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
    json_file: _Json = None,
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
        report = evaluated(transactions, truth, plan, say=_say)
    _show(report, started, json_file)


@app.command()
def compare(
    data: _Data = TRANSACTIONS_CSV,
    labels: _Labels = LABELS_CSV,
    budget: _Budget = 0.01,
    trees: _Trees = 100,
    seed: _Seed = 0,
    json_file: _Json = None,
) -> None:
    """Compare what rules, a model without labels, and both together flag in the newest fifth of the data."""
    from fraudstream.evaluation import compare_verdicts
    from fraudstream.rules import load_rules

    started = time.perf_counter()
    with _labelled(data, labels) as (transactions, truth):
        report = compare_verdicts(
            transactions, truth, load_rules(), budget=budget, trees=trees, seed=seed, say=_say
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
    from fraudstream.stack import StackError
    from fraudstream.stack.spark import spark_variables

    try:
        settings = load_settings()
        with labels.open(encoding="utf-8-sig", newline="") as lines:
            truth = read_truth(lines)
        _say(f"{labels}: {len(truth):,} labels")
        export(**spark_variables(child_environment(), settings.cache_dir, local=True))
        transactions = usable_transactions(data, zone=settings.tz, driver_memory=settings.spark_driver_memory)
        _say(f"{data}: {len(transactions):,} usable transactions")
        yield transactions, truth
    except (LabelFileError, UnicodeDecodeError) as error:
        typer.echo(f"Error: {labels}, {error}", err=True)
        raise typer.Exit(1) from None
    except (SettingsError, CsvError, StackError, RulesError, EvaluationError, TrainingError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _show(report: Report | Comparison, started: float, json_file: Path | None) -> None:
    """Warnings to the screen's stderr, the figures to its stdout and, as JSON, to the file."""
    for warning in report.warnings:
        _say(f"Warning: {warning}")
    figures = {**report.as_json(), "seconds": round(time.perf_counter() - started, 1)}
    if _write_json(figures, json_file):
        typer.echo(report.in_words())


def _write_json(figures: dict[str, Any], json_file: Path | None) -> bool:
    """Write them where the option says; False when the screen shall have nothing but them."""
    import orjson

    document = orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode()
    if json_file == Path("-"):
        typer.echo(document)
        return False
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(document + "\n", encoding="utf-8")
    return True


def _say(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option(help="All phases, small: under five minutes.")] = False,
    rate: Annotated[float | None, typer.Option(min=1, help="Of the sustained phase. [default: 7500]")] = None,
    seconds: Annotated[float | None, typer.Option(min=4, help="Of that phase. [default: 600]")] = None,
    json_file: _Json = None,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Also draw a PNG here.")] = None,
    compare_with: Annotated[
        Path | None, typer.Option("--compare", exists=True, dir_okay=False, help="The JSON of an older run.")
    ] = None,
) -> None:
    """Measure how fast all of it is, on a stack of its own. Nothing else should run meanwhile."""
    import orjson
    from rich.console import Console

    from benchmarks import report
    from benchmarks.bench import Sizes, as_document, run
    from benchmarks.errors import BenchFailed
    from fraudstream.stack import StackError

    # SIGTERM shall end the bench as Ctrl-C does: with its stack.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sizes = (Sizes.quick() if quick else Sizes.full()).sustained_for(rate, seconds)
    old = orjson.loads(compare_with.read_bytes()) if compare_with else None
    try:
        settings = load_settings()
        document = as_document(run(sizes, settings, _say), sizes, settings)
    except (SettingsError, StackError, BenchFailed) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    if picture:
        report.draw(document, picture)
    if _write_json(document, json_file):
        report.show(document, old, Console(highlight=False))


@app.command()
def status() -> None:
    """Say who writes, and what has become of the topic's records. Exit code 1 when no job is at work."""
    from fraudstream.store.locks import lock_name
    from fraudstream.store.progress import read_progress
    from fraudstream.store.writer import live_writer

    with _database() as (settings, engine):
        writer = live_writer(engine, lock_name(engine.url.database or "", settings.kafka_topic))
        progress = read_progress(engine, settings.kafka_topic)
    typer.echo(f"writer: {writer or 'none: start data_cleaning.py'}")
    typer.echo(" ".join(f"{name}={number}" for name, number in asdict(progress).items()))
    raise typer.Exit(0 if writer else 1)


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
def stack_fetch(
    connector: Annotated[bool, typer.Option("--connector", help="Only Spark's connector to Kafka.")] = False,
) -> None:
    """Only download what the stack and the stream need; afterwards both work offline."""
    with _stack() as stack:
        stack.fetch(connector_only=connector)


@stack_app.command("lock", hidden=True)
def stack_lock() -> None:
    """Write artifacts.lock anew, after a version in artifacts.py was changed."""
    with _stack() as stack:
        stack.lock_artifacts()


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


@alerts_app.callback(invoke_without_command=True)
def alerts(context: typer.Context) -> None:
    """Send alert mails in a process apart from the job (as `alerts run`), or look after the outbox."""
    if context.invoked_subcommand is None:
        alerts_run()


@alerts_app.command("run")
def alerts_run() -> None:
    """Send alert mails until Ctrl-C or SIGTERM. Any number of senders may run, the job's own included."""
    from fraudstream.alerting import mail_sender
    from fraudstream.alerts.outbox import sending
    from fraudstream.stop_signals import stop_on_signals

    with _database() as (settings, engine):
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
        stopped = stop_on_signals()
        with sending(mail_sender(engine, **settings.mail_options)) as thread:
            while thread.is_alive() and not stopped():
                thread.join(0.2)
    if not stopped():
        raise typer.Exit(1)  # the thread has told why it ended


@alerts_app.command("retry")
def alerts_retry() -> None:
    """Send mails again that were refused for good, to those in RECEIVER_EMAIL who have not got them."""
    from fraudstream.store.outbox import retry_failed

    with _database() as (settings, engine):
        if not settings.receiver_email:
            typer.echo("Error: RECEIVER_EMAIL is not set: there is nobody to send to", err=True)
            raise typer.Exit(1)
        typer.echo(f"retried={retry_failed(engine, settings.receiver_email)}")


@alerts_app.command("status")
def alerts_status() -> None:
    """Count alerts that wait or are held back, and mails on their way, sent and failed, with errors."""
    from fraudstream.store.outbox import pending, troubled_mails

    with _database() as (_settings, engine):
        counts, troubled = pending(engine), troubled_mails(engine, limit=10)
    typer.echo(" ".join(f"{name}={number}" for name, number in asdict(counts).items()))
    for mail in troubled:
        typer.echo(f"mail {mail.mail_id} {mail.state} after {mail.attempts} attempts: {mail.last_error}")


# Whoever replays has a broker; a wrong address shall be said soon.
_BROKER_WAIT_S = 5.0

_Reason = Annotated[str | None, typer.Option(help="Only those of this reason, as `list` names it.")]


@dead_letters_app.command("list")
def dead_letters_list(
    reason: _Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many, the newest first.")] = 20,
) -> None:
    """Count the refused records by reason, and show the newest. Times are UTC."""
    from fraudstream.store.dead_letters import Selection, count_dead_letters, newest_dead_letters

    with _database() as (settings, engine):
        selection = Selection(settings.kafka_topic, reason)
        counts = count_dead_letters(engine, selection)
        newest = newest_dead_letters(engine, selection, limit)
    for each, number, replayed in counts:
        typer.echo(f"{number} {each}" + (f", {replayed} of them sent again" if replayed else ""))
    for letter in newest:
        again = f", sent again {letter.replayed_at:%Y-%m-%d %H:%M:%S}" if letter.replayed_at else ""
        detail = "" if letter.detail is None else f" {letter.detail!r}"
        place = f"partition {letter.partition_id} offset {letter.offset}"
        typer.echo(f"{place}, {letter.rejected_at:%Y-%m-%d %H:%M:%S}: {letter.reason}{detail}{again}")


@dead_letters_app.command("show")
def dead_letters_show(
    partition: Annotated[int, typer.Argument(min=0)], offset: Annotated[int, typer.Argument(min=0)]
) -> None:
    """Show one refused record in full, its bytes as Python writes them. Exit code 1 when there is none."""
    from fraudstream.store.dead_letters import Selection, newest_dead_letters

    with _database() as (settings, engine):
        selection = Selection(settings.kafka_topic, partition_id=partition, offset=offset)
        # One for each topic of that name: the place is the same in a topic that was created anew.
        found = newest_dead_letters(engine, selection, limit=10)
    for letter in found:
        for name, value in asdict(letter).items():
            shown = value if isinstance(value, datetime | int) or name in ("topic", "reason") else repr(value)
            typer.echo(f"{name}: {shown}")
    if not found:
        typer.echo(f"Error: no dead letter of partition {partition} offset {offset}", err=True)
        raise typer.Exit(1)


@dead_letters_app.command("replay")
def dead_letters_replay(
    reason: _Reason = None,
    partition: Annotated[int | None, typer.Option(min=0, help="With --offset: only that one.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="With --partition: only that one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Send refused records to the topic once more, byte for byte, after what was wrong has been mended.

    Each is sent again once: it keeps its entry, with the time of that. What is still wrong with it makes a
    new entry. Ended halfway, the command may be run again: what then comes twice counts once.
    """
    from fraudstream import topic
    from fraudstream.publisher.delivery import DeliveryFailed
    from fraudstream.store.dead_letters import Selection

    if (partition is None) != (offset is None):
        raise typer.BadParameter("--partition and --offset belong together")
    if [reason is not None, offset is not None, everything].count(True) != 1:
        raise typer.BadParameter("say which: --reason, --partition with --offset, or --all")
    with _database() as (settings, engine):
        selection = Selection(settings.kafka_topic, reason, partition, offset)
        try:
            typer.echo(f"replayed={_replay(settings, engine, selection)}")
        except (DeliveryFailed, topic.BrokerUnavailable, topic.TopicError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


def _replay(settings: Settings, engine: Engine, selection: Selection) -> int:
    from fraudstream import topic
    from fraudstream.publisher.delivery import Original, send_again
    from fraudstream.store.dead_letters import mark_replayed, next_to_replay, only_replay

    kafka, name = settings.kafka, settings.kafka_topic
    topic.ensure_topic(kafka, name, settings.kafka_partitions, wait_s=_BROKER_WAIT_S)
    replayed = 0
    with only_replay(engine) as begins:
        while letters := next_to_replay(engine, selection, begins, limit=500):
            originals = [
                Original(each.key, each.value, f"{each.topic_id}/{each.partition_id}/{each.offset}")
                for each in letters
            ]
            send_again(kafka, name, originals)
            mark_replayed(engine, letters)
            replayed += len(letters)
    return replayed


@labels_app.command("import")
def labels_import(
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
    with _database() as (settings, engine):
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


@offsets_app.command("show")
def offsets_show() -> None:
    """Print what is committed of each partition, what Kafka holds, and what is lost (then exit code 1)."""
    from fraudstream.resume import find_gaps
    from fraudstream.store.offsets import read_offsets

    with _offsets() as (settings, engine, found, ranges):
        with engine.connect() as connection:
            stored = read_offsets(connection, settings.kafka_topic)
        for partition, (earliest, latest) in ranges.items():
            committed = stored.next_offsets.get(partition, "-")
            typer.echo(f"partition {partition}: committed {committed}, Kafka holds {earliest} to {latest}")
        gaps = find_gaps(
            settings.kafka_topic,
            stored_topic_id=stored.topic_id,
            stored=stored.next_offsets,
            topic_id=found.topic_id,
            ranges=ranges,
        )
    for gap in gaps:
        typer.echo(f"lost: {gap}")
    raise typer.Exit(1 if gaps else 0)


@offsets_app.command("accept")
def offsets_accept() -> None:
    """Go on without the records that are lost: the job then starts at the nearest that Kafka holds."""
    from fraudstream.resume import accepted_offsets
    from fraudstream.store.offsets import read_offsets, replace_offsets

    with _offsets() as (settings, engine, found, ranges), engine.begin() as connection:
        stored = read_offsets(connection, settings.kafka_topic)
        accepted = accepted_offsets(
            stored_topic_id=stored.topic_id,
            stored=stored.next_offsets,
            topic_id=found.topic_id,
            ranges=ranges,
        )
        replace_offsets(connection, settings.kafka_topic, found.topic_id, accepted)
    for partition, offset in accepted.items():
        before = stored.next_offsets.get(partition, "-")
        typer.echo(f"partition {partition}: committed {before} -> {offset}")


@contextmanager
def _offsets() -> Iterator[tuple[Settings, Engine, TopicInfo, dict[int, tuple[int, int]]]]:
    from fraudstream import topic
    from fraudstream.store.migrate import migrate

    with _database() as (settings, engine):
        try:
            migrate(engine)
            kafka, name = settings.kafka, settings.kafka_topic
            found = topic.ensure_topic(kafka, name, settings.kafka_partitions)
            yield settings, engine, found, topic.offset_range(kafka, name, found.partitions)
        except (topic.BrokerUnavailable, topic.TopicError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


@contextmanager
def _database() -> Iterator[tuple[Settings, Engine]]:
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


if __name__ == "__main__":
    app(prog_name="python -m fraudstream")
