"""What can befall the system. A fault returns when it is over; the system has to recover by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from tests.soak.system import System
from tests.support.waiting import wait_until

Fault = Callable[[System, random.Random], None]

_STANDS_BY_S = 200


def job_killed(system: System, rng: random.Random) -> None:
    system.kill_first_job()
    system.start_job()


def second_job_takes_over(system: System, rng: random.Random) -> None:
    system.start_job()
    wait_until(
        lambda: "standing by" in system.log.read_text(errors="replace"),
        timeout=_STANDS_BY_S,
        describe=system.last_words,
    )
    time.sleep(rng.uniform(0, 3))
    system.kill_first_job()


def broker_killed(system: System, rng: random.Random) -> None:
    system.broker.kill()
    time.sleep(rng.uniform(0, 10))
    system.broker.start()


def job_frozen(system: System, rng: random.Random) -> None:
    system.freeze_job()
    time.sleep(rng.uniform(1, 15))
    system.thaw_job()


def broker_frozen(system: System, rng: random.Random) -> None:
    system.broker.freeze()
    time.sleep(rng.uniform(1, 12))
    system.broker.thaw()


def database_killed(system: System, rng: random.Random) -> None:
    system.stack.kill("mysql")
    time.sleep(rng.uniform(0, 5))
    system.stack.start("mysql")


def mail_server_away(system: System, rng: random.Random) -> None:
    system.mail_door.shut()
    time.sleep(rng.uniform(5, 20))
    system.mail_door.open()


ENDING: tuple[Fault, ...] = (job_killed, second_job_takes_over, broker_killed)
"""A process whose memory is watched ends."""

LASTING: tuple[Fault, ...] = (job_frozen, broker_frozen, database_killed, mail_server_away)
"""The processes live on."""


def dealt(deck: tuple[Fault, ...], rng: random.Random) -> Iterator[Fault]:
    """All of the deck in random order, and again: each fault comes as often as any other."""
    while True:
        yield from rng.sample(deck, len(deck))
