"""Replay a CSV of transactions into the Kafka topic, keyed by user.

Every row is sent as it is; cleaning is the pipeline's job. Within one run Kafka holds each row once.
`--resume` goes on after the longest run of acknowledged rows that was saved: after a crash the rows
behind it are sent a second time, and the pipeline drops them as duplicates.

Exit code: 0 all is well (also after Ctrl-C), 1 Kafka did not take every row, 2 the file or the command
line cannot be used.
"""

from __future__ import annotations

import itertools
import logging
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fraudstream import topic
from fraudstream.config import TRANSACTIONS_CSV, SettingsError, load_settings
from fraudstream.publisher import csv_source, delivery, display, progress, replay
from fraudstream.stop_signals import count_stop_signals

UNUSABLE = (SettingsError, csv_source.CsvError, progress.ProgressError)
UNDELIVERED = (topic.BrokerUnavailable, topic.TopicError, delivery.DeliveryFailed)
DEFAULT_RATE = 50.0

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@app.command()
def main(
    file: Annotated[Path, typer.Option(help="The transactions.")] = TRANSACTIONS_CSV,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Rows a second; 0 = as fast as it goes. [default: 50]")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Instead of --rate: so many times the events' own pace.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many rows.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, with later times.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last run came to.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a starting broker.")] = topic.WAIT_S,
) -> None:
    """Replay a CSV of transactions into Kafka."""
    if rate is not None and speed is not None:
        raise typer.BadParameter("give either --rate or --speed")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its troubles come to us as exceptions
    try:
        settings = load_settings()
        csv_source.check_head(file)
        kafka, name = settings.kafka, settings.kafka_topic
        found = topic.ensure_topic(kafka, name, settings.kafka_partitions, wait_s=wait, on_wait=console.print)
        saved = progress.ProgressFile(settings.state_dir / "producer", file, name, found.topic_id)
        start, remark = saved.load(looping=loop) if resume else (replay.START, f"Sending {file}")
        console.print(f"{remark} -> topic {name} at {kafka.bootstrap_servers}")
        clock = replay.Clock(settings.zone, lambda: datetime.now(settings.zone).replace(tzinfo=None))
        rows = replay.rounds(file, start, clock, console.print) if loop else replay.one_round(file, start)
        due = replay.schedule(DEFAULT_RATE if rate is None else rate, speed, clock)
        total = limit if loop else replay.rows_ahead(file, start, limit)
        asked_to_end = count_stop_signals(polled=2)
        with (
            display.replay_display(console, total) as show,
            delivery.Publisher(kafka, name, asked_to_end, (show, saved.record)) as publisher,
        ):
            for row in replay.paced(itertools.islice(rows, limit), due, asked_to_end, publisher.settle):
                publisher.send(row)
            if asked_to_end():
                console.print("Stopping as soon as the rows under way are acknowledged ...")
    except (*UNUSABLE, *UNDELIVERED) as error:
        console.print(str(error), style="red")
        raise typer.Exit(2 if isinstance(error, UNUSABLE) else 1) from error


if __name__ == "__main__":
    app()
