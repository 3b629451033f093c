"""`python -m fraudstream dead-letters VERB`: records that could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.cli.database import opened_database
from fraudstream.config import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fraudstream.store.dead_letters import DeadLetter, Selection

app = typer.Typer(no_args_is_help=True, help="Records that could not be used.")

# Whoever replays has a broker; a wrong address shall be said soon.
_BROKER_WAIT_S = 5.0

_Reason = Annotated[str | None, typer.Option(help="Only those of this reason, as `list` names it.")]


@app.command("list")
def show_newest(
    reason: _Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many, the newest first.")] = 20,
) -> None:
    """Count the refused records by reason, and show the newest. Times are UTC."""
    from fraudstream.store.dead_letters import Selection, count_dead_letters, newest_dead_letters

    with opened_database() as (settings, engine):
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


@app.command("show")
def show_one(
    partition: Annotated[int, typer.Argument(min=0)], offset: Annotated[int, typer.Argument(min=0)]
) -> None:
    """Show one refused record in full, its bytes as Python writes them. Exit code 1 when there is none."""
    from fraudstream.store.dead_letters import Selection, newest_dead_letters

    with opened_database() as (settings, engine):
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


@app.command()
def replay(
    reason: _Reason = None,
    partition: Annotated[int | None, typer.Option(min=0, help="With --offset: only that one.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="With --partition: only that one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Send refused records to the topic once more, byte for byte, after what was wrong has been mended.

    Each is sent again once: it keeps its entry, with the time of that. What is still wrong with it makes a
    new entry. Messages that are too long are left out: only their beginnings are kept. One that is too large
    for the topic is named and left as it is; the exit code is then 1, as when Kafka does not answer. Run
    again, the command goes on: what Kafka had by then, but was not noted when the command died, comes twice;
    of two that are stored one counts as a duplicate.
    """
    from fraudstream import topic
    from fraudstream.publisher.delivery import DeliveryFailed
    from fraudstream.store.dead_letters import Selection

    if (partition is None) != (offset is None):
        raise typer.BadParameter("--partition and --offset belong together")
    if [reason is not None, offset is not None, everything].count(True) != 1:
        raise typer.BadParameter("say which: --reason, --partition with --offset, or --all")
    with opened_database() as (settings, engine):
        selection = Selection(settings.kafka_topic, reason, partition, offset)
        done = _Done()
        try:
            _replay(settings, engine, selection, done)
            _tell_what_is_left_out(engine, selection)
        except (DeliveryFailed, topic.BrokerUnavailable, topic.TopicError) as error:
            done.complaints.append(str(error))
    typer.echo(f"replayed={done.replayed}")
    for complaint in done.complaints:
        typer.echo(f"Error: {complaint}", err=True)
    if done.complaints:
        raise typer.Exit(1)


def _tell_what_is_left_out(engine: Engine, selection: Selection) -> None:
    from fraudstream.schema import Rejection
    from fraudstream.store.dead_letters import count_dead_letters

    counts = {reason: number for reason, number, _ in count_dead_letters(engine, selection)}
    if number := counts.get(Rejection.MESSAGE_TOO_LONG):
        typer.echo(f"{number} not sent again: too long, only their beginnings are kept", err=True)


@dataclass
class _Done:
    """How many were sent again, and what to say of others."""

    replayed: int = 0
    complaints: list[str] = field(default_factory=list)


def _replay(settings: Settings, engine: Engine, selection: Selection, done: _Done) -> None:
    from fraudstream import topic
    from fraudstream.store.dead_letters import next_to_replay, only_replay

    name, last = settings.kafka_topic, None
    topic.ensure_topic(settings.kafka, name, settings.kafka_partitions, wait_s=_BROKER_WAIT_S)
    with only_replay(engine) as begins:
        while letters := next_to_replay(engine, selection, begins, last, limit=500):
            _send_and_mark(settings, engine, letters, done)
            last = letters[-1]


def _send_and_mark(settings: Settings, engine: Engine, letters: Sequence[DeadLetter], done: _Done) -> None:
    from fraudstream.publisher.delivery import Answer, Original, send_again
    from fraudstream.store.dead_letters import mark_replayed

    originals = [
        Original(each.key, each.value, f"{each.topic_id}/{each.partition_id}/{each.offset}")
        for each in letters
    ]
    acknowledged = []
    try:
        answers = send_again(settings.kafka, settings.kafka_topic, originals)
        for letter, original, answer in zip(letters, originals, answers, strict=True):
            if answer is Answer.ACKNOWLEDGED:
                acknowledged.append(letter)
            elif answer is Answer.TOO_LARGE:
                done.complaints.append(_too_large(letter, original.size))
    finally:
        # Whatever became of the others: what Kafka has must not be sent once more.
        mark_replayed(engine, acknowledged)
        done.replayed += len(acknowledged)


def _too_large(letter: DeadLetter, size: int) -> str:
    place = f"partition {letter.partition_id} offset {letter.offset}"
    return f"{place} was not sent: its {size:,} bytes are more than the topic takes (max.message.bytes)"
