"""`python -m fraudstream dead-letters VERB`: records that could not be used."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.cli.database import opened_database
from fraudstream.config import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fraudstream.store.dead_letters import Selection

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
    new entry. Ended halfway, the command may be run again: what then comes twice counts once. Messages that
    are too long are left out: only their beginnings are kept.
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
        try:
            typer.echo(f"replayed={_replay(settings, engine, selection)}")
            _tell_what_is_left_out(engine, selection)
        except (DeliveryFailed, topic.BrokerUnavailable, topic.TopicError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


def _tell_what_is_left_out(engine: Engine, selection: Selection) -> None:
    from fraudstream.schema import Rejection
    from fraudstream.store.dead_letters import count_dead_letters

    counts = {reason: number for reason, number, _ in count_dead_letters(engine, selection)}
    if number := counts.get(Rejection.MESSAGE_TOO_LONG):
        typer.echo(f"{number} not sent again: too long, only their beginnings are kept", err=True)


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
