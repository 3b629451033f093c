"""The soak: a steady rate, faults at random, and at the end everything compared with a calm run.

    python -m tests.soak --minutes 20 [--seed N] [--rate N]

It passes when every table equals that of a run that nobody disturbed, every alert was mailed, a mail came
twice only where a fault may have hidden its outcome, and memory stayed within the limits of memory.py: a
JVM within its heap and a fixed allowance, a Python process, in the last quarter of its longest life,
within what it took in the second and a fixed allowance. So that a life is long enough to tell, nothing
ends the job or the broker in the second half.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fraudstream.config import child_environment, export, load_settings
from fraudstream.simulator import simulate
from fraudstream.stack import Stack
from fraudstream.topic import ensure_topic
from tests.soak.faults import ENDING, LASTING, dealt
from tests.soak.memory import Life, MemoryWatch, longest_lives
from tests.soak.system import System
from tests.support.databases import fresh_databases
from tests.support.kafka_topics import count_records
from tests.support.kills import assert_each_alert_has_one_mail, everything_is_mailed, let_leases_run_out
from tests.support.load import count_rows, sending_at
from tests.support.mail_servers import MailServer, mail_server
from tests.support.relay import Relay
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import assert_same_tables, metrics_total, whole_tables

_DRAIN_S = 600

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Outcome:
    """What a soak that passed has to tell."""

    records: int
    mails: int
    sent_twice: int
    tables: int
    faults: Counter[str]
    longest_pause_s: float
    lives: list[Life]


@app.command()
def main(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long faults come, under load.")] = 20,
    seed: Annotated[int | None, typer.Option(help="The same seed deals the same faults.")] = None,
    rate: Annotated[int, typer.Option(min=1, help="Records a second.")] = 50,
) -> None:
    """Run the system at a steady rate with faults at random, and compare all with an undisturbed run."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _interrupt)
    export(FRAUDSTREAM_ENV_FILE=os.devnull)
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    typer.echo(f"soak: {minutes:g} min at {rate} records/s, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="fraudstream-soak-") as folder, running_stack(folder) as stack:
        outcome = soak(stack, Path(folder), minutes=minutes, rng=random.Random(seed), rate=rate)
    tell(outcome)


def _interrupt(number: int, frame: object) -> None:
    """By default SIGTERM ends Python without any clean-up, and the stack's processes would stay."""
    raise KeyboardInterrupt(f"signal {number}")


@contextmanager
def running_stack(folder: str) -> Iterator[Stack]:
    stack = Stack(Path(folder) / "stack", load_settings().cache_dir, child_environment())
    try:
        stack.up(usual_ports=False)
        yield stack
    finally:
        stack.reset()


def soak(stack: Stack, folder: Path, *, minutes: float, rng: random.Random, rate: int) -> Outcome:
    csv, topic = folder / "load.csv", f"soak-{secrets.token_hex(4)}"
    rows = round(minutes * 60 * rate * 1.5) + 200 * rate  # more than can be sent by then
    simulate(rows=rows, users=200, days=20, seed=5).transactions.to_csv(csv, index=False)
    records, addresses = count_rows(csv), stack.addresses()
    with (
        fresh_databases(stack.mysql_admin_url(), addresses.mysql) as new_database,
        mail_server(MailServer()) as inbox,
    ):
        door, database = Relay("127.0.0.1", inbox.port), new_database()
        door.open()
        environment = child_environment(
            **addresses.environment()
            | {
                "KAFKA_TOPIC": topic,
                "MYSQL_URL": database,
                "SMTP_PORT": str(door.port),
                "RECEIVER_EMAIL": "analyst@example.org",
                "ALERT_COOLDOWN_SECONDS": "0",
            }
        )
        engine = open_tables(database)
        with (
            System(stack, engine, door, environment, folder) as system,
            MemoryWatch(system.process_ids) as memory,
        ):
            system.start_job()
            with sending_at(rate, csv, environment):
                faults = disturb(system, minutes * 60, rng)
            wait_for_all(engine, topic, records, system.log, timeout=_DRAIN_S)
            let_leases_run_out(engine)
            wait_until(lambda: everything_is_mailed(engine), timeout=_DRAIN_S, describe="all is mailed")
            system.stop_jobs()
        door.shut()

        partitions = ensure_topic(addresses.kafka, topic, 1).partitions
        assert count_records(addresses.kafka, topic, len(partitions)) == records
        present = whole_tables(engine)
        calm = undisturbed_tables(environment, new_database(), records, folder / "calm.log")
        assert_same_tables(present, calm)
        (totals,) = present["pipeline_totals"]
        assert metrics_total(engine) == tuple(totals[1:])
        flagged = {row.TransactionID for row in present["clean_data"] if row.Is_Fraud == "YES"}
        assert_each_alert_has_one_mail(inbox.received, flagged, deaths=faults.total())
        lives = longest_lives(memory.lives)
        for life in lives:
            assert life.is_bounded, f"more than {life.limit:.0f} MiB: {described(life)}"
        engine.dispose()
    mails = {str(mail.message["Message-ID"]) for mail in inbox.received}
    return Outcome(
        records=records,
        mails=len(mails),
        sent_twice=len(inbox.received) - len(mails),
        tables=len(present),
        faults=faults,
        longest_pause_s=system.longest_pause_s,
        lives=lives,
    )


def disturb(system: System, seconds: float, rng: random.Random) -> Counter[str]:
    """One fault after the other for so long, each once the system has recovered from the one before."""
    system.wait_until_it_works()
    began, faults = time.monotonic(), Counter[str]()
    anything, nothing_that_ends = dealt((*ENDING, *LASTING), rng), dealt(LASTING, rng)
    for number in itertools.count(1):
        passed = time.monotonic() - began
        if passed > seconds:
            break
        fault = next(anything if passed < seconds / 2 else nothing_that_ends)
        name = fault.__name__.replace("_", " ")
        typer.echo(f"{passed:6.0f} s  {number:3}  {name}")
        fault(system, rng)
        system.wait_until_it_works()
        faults[name] += 1
        time.sleep(rng.uniform(1, 5))
    return faults


def tell(outcome: Outcome) -> None:
    befell = ", ".join(f"{name} {times}" for name, times in sorted(outcome.faults.items()))
    typer.echo(f"faults: {befell}; longest until a batch was committed again {outcome.longest_pause_s:.0f} s")
    typer.echo(f"records: {outcome.records:,}; {outcome.tables} tables equal those of an undisturbed run")
    typer.echo(f"mails: {outcome.mails:,}, each alert in one; {outcome.sent_twice} sent twice")
    typer.echo("memory in MiB, in each tenth of the longest life:")
    for life in outcome.lives:
        typer.echo(f"  {described(life)}, limit {life.limit:.0f}")
    typer.echo("passed")


def described(life: Life) -> str:
    course = " ".join(f"{size:.0f}" for size in life.course)
    return f"{life.part.name}, {len(life.samples)} s: {course}"


if __name__ == "__main__":
    app()
