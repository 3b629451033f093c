"""The commit that the next batch is computed beside: in order, and never lost sight of."""

from __future__ import annotations

import threading

import pytest

from fraudstream.pending_commit import PendingCommit
from tests.support.waiting import wait_until


def test_settling_without_a_commit_does_nothing() -> None:
    pending = PendingCommit()
    pending.settle()
    assert not pending.has_failed


def test_settling_waits_for_the_end() -> None:
    pending, may_end, ended = PendingCommit(), threading.Event(), threading.Event()

    def commit() -> None:
        may_end.wait(10)
        ended.set()

    pending.begin(commit)
    assert pending.is_running and not ended.is_set()
    threading.Timer(0.1, may_end.set).start()
    pending.settle()
    assert ended.is_set() and not pending.is_running


def test_what_a_commit_raises_is_seen_and_raised_once() -> None:
    def commit() -> None:
        raise ValueError("disk full")

    pending = PendingCommit()
    pending.begin(commit)
    wait_until(lambda: pending.has_failed, timeout=10)
    with pytest.raises(ValueError, match="disk full"):
        pending.settle()
    assert not pending.has_failed
    pending.settle()


def test_a_second_commit_needs_the_first_to_be_settled() -> None:
    pending = PendingCommit()
    pending.begin(lambda: None)
    with pytest.raises(AssertionError, match="settle"):
        pending.begin(lambda: None)
    pending.settle()
