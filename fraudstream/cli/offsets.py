"""`python -m fraudstream offsets VERB`: where the job goes on in Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from fraudstream.cli.database import opened_database
from fraudstream.config import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fraudstream.topic import TopicInfo

app = typer.Typer(no_args_is_help=True, help="Where the job goes on in Kafka.")


@app.command()
def show() -> None:
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


@app.command()
def accept() -> None:
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

    with opened_database() as (settings, engine):
        try:
            migrate(engine)
            kafka, name = settings.kafka, settings.kafka_topic
            found = topic.ensure_topic(kafka, name, settings.kafka_partitions)
            yield settings, engine, found, topic.offset_range(kafka, name, found.partitions)
        except (topic.BrokerUnavailable, topic.TopicError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None
