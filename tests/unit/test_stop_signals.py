"""What a signal does to a program that asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fraudstream.stop_signals import ENDING, exit_on_signals


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """What the tests were started to ignore is not ignored in them; handlers are put back."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in ENDING}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("ending", ENDING)
def test_the_first_signal_ends_the_program_and_no_other_one_its_clean_up(ending: signal.Signals) -> None:
    exit_on_signals()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), ending)
    assert ended.value.code == 128 + ending
    for later in ENDING:
        os.kill(os.getpid(), later)


def test_what_was_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    exit_on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
