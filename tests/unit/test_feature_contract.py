"""Features are the same to the bit however arrivals are cut into calls, and none sees the future."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features import transaction_features
from fraudstream.history import KEPT_EVENTS, encode
from fraudstream.merchant_risk import DEFAULT_DELAY_S
from tests.support.reference_features import (
    MAX_CENTS,
    START,
    Confirmed,
    Transaction,
    arrivals,
    as_outcomes,
    as_table,
    cents,
    confirmed,
    devices,
    locations,
    merchants,
    transactions,
)

USERS = ("U1", "U2", "U3")
DELAY = timedelta(seconds=DEFAULT_DELAY_S)
Judged = tuple[list[bytes], dict[str, bytes]]


def judge_in_calls(
    calls: Sequence[Sequence[Transaction]], known: Sequence[Confirmed], *, kept_events: int = KEPT_EVENTS
) -> Judged:
    """The bytes of each row's features, and of each user's history as a database would then hold it."""
    stored: dict[str, bytes] = {}
    rows: list[bytes] = []

    def find(users: list[str]) -> Mapping[str, bytes]:
        return {user: stored[user] for user in users if user in stored}

    for call in calls:
        computed = transaction_features(
            as_table(call), as_outcomes(known), find_histories=find, kept_events=kept_events
        )
        rows += [row.tobytes() for row in computed.features]
        stored.update(zip(computed.users, encode(computed.histories), strict=True))
    return rows, stored


def cut(rows: list[Transaction], places: Sequence[int]) -> Iterator[list[Transaction]]:
    """Places may be equal: a call may bring nothing."""
    edges = [0, *sorted(places), len(rows)]
    return (rows[begin:end] for begin, end in pairwise(edges))


@settings(deadline=None, max_examples=200)
@given(
    arrivals(users=USERS),
    st.lists(confirmed(), max_size=8),
    st.sampled_from([1, 2, 5, KEPT_EVENTS]),
    st.data(),
)
def test_no_cut_into_calls_changes_a_bit(
    rows: list[Transaction], known: list[Confirmed], kept_events: int, data: st.DataObject
) -> None:
    whole = judge_in_calls([rows], known, kept_events=kept_events)
    places = data.draw(st.lists(st.integers(0, len(rows)), max_size=8))
    assert judge_in_calls(list(cut(rows, places)), known, kept_events=kept_events) == whole
    assert judge_in_calls([[row] for row in rows], known, kept_events=kept_events) == whole


def test_no_cut_changes_a_bit_for_many_users_of_whom_some_are_busy() -> None:
    chance = random.Random(11)
    rows = [
        Transaction(
            cents=chance.choice([MAX_CENTS, chance.randrange(10**6)]),
            # Few distinct seconds, so that cuts fall inside one; and late by up to some days.
            time=START + timedelta(seconds=10 * (number // 7) - chance.choice([0, 0, 0, 10, 3_600, 300_000])),
            user=f"U{min(int(chance.expovariate(0.02)), 200) if number % 3 else 0}",
            location=chance.choice([None, "Cairo", "Luxor"]),
            device=chance.choice([None, "iOS", "Web"]),
            merchant=chance.choice(["Amazon", "Noon"]),
        )
        for number in range(3_000)
    ]
    assert sum(row.user == "U0" for row in rows) > KEPT_EVENTS
    known = [Confirmed(START - DELAY - timedelta(hours=hour), START) for hour in range(30)]
    whole = judge_in_calls([rows], known)
    for calls in (2, 17, 150):
        places = [chance.randrange(len(rows)) for _ in range(calls)]
        assert judge_in_calls(list(cut(rows, places)), known) == whole


def by_user(rows: Sequence[Transaction], features: Sequence[bytes]) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for row, its_features in zip(rows, features, strict=True):
        found[row.user].append(its_features)
    return dict(found)


@settings(deadline=None)
@given(arrivals(users=USERS), st.sampled_from([2, KEPT_EVENTS]), st.randoms(use_true_random=False))
def test_other_users_change_nothing_and_neither_does_the_order_among_users(
    rows: list[Transaction], kept_events: int, chance: random.Random
) -> None:
    features, stored = judge_in_calls([rows], [], kept_events=kept_events)
    together = by_user(rows, features)
    for user, its_features in together.items():
        alone = [row for row in rows if row.user == user]
        assert judge_in_calls([alone], [], kept_events=kept_events) == (its_features, {user: stored[user]})

    waiting = {user: iter([row for row in rows if row.user == user]) for user in together}
    turns = chance.sample([row.user for row in rows], len(rows))
    mixed = [next(waiting[user]) for user in turns]
    features, mixed_stored = judge_in_calls([mixed], [], kept_events=kept_events)
    assert (by_user(mixed, features), mixed_stored) == (together, stored)


def features_amid(
    row: Transaction, before: Sequence[Transaction], later: Sequence[Transaction], known: Sequence[Confirmed]
) -> bytes:
    """Those of `row`, when `before` arrived before it and `later` after it."""
    return judge_in_calls([[*before, row, *later]], known)[0][len(before)]


def between(first: timedelta, last: timedelta) -> st.SearchStrategy[timedelta]:
    seconds = st.integers(int(first.total_seconds()), int(last.total_seconds()))
    return st.one_of(st.just(first), st.just(last), seconds.map(lambda each: timedelta(seconds=each)))


A_SECOND = timedelta(seconds=1)
HALF_A_MONTH = timedelta(days=15)


def others(first: timedelta, last: timedelta) -> st.SearchStrategy[list[Transaction]]:
    times = between(first, last).map(lambda passed: START + passed)
    return st.lists(transactions(times=times, users=USERS), max_size=12)


@settings(deadline=None, max_examples=200)
@given(
    transactions(times=st.just(START), users=USERS),
    others(-HALF_A_MONTH, -A_SECOND),
    # Two futures. They lie within the 30 days that are kept: a row that came too early, with a time far
    # ahead, makes its user's history forget, though nothing of its own is ever seen.
    others(timedelta(0), HALF_A_MONTH),
    others(timedelta(0), HALF_A_MONTH),
    st.lists(transactions(users=USERS), max_size=12),
    st.randoms(use_true_random=False),
)
def test_rows_at_or_after_its_time_and_rows_that_arrive_later_change_nothing(
    row: Transaction,
    past: list[Transaction],
    future: list[Transaction],
    other_future: list[Transaction],
    later: list[Transaction],
    chance: random.Random,
) -> None:
    alone = features_amid(row, past, [], [])
    for came_early in (future, other_future):
        assert features_amid(row, mixed_in(past, came_early, chance), later, []) == alone


def mixed_in(rows: list[Transaction], more: list[Transaction], chance: random.Random) -> list[Transaction]:
    """All of them; `rows` in their order."""
    mixed = list(rows)
    for each in more:
        mixed.insert(chance.randint(0, len(mixed)), each)
    return mixed


@settings(deadline=None)
@given(arrivals(), st.sampled_from([2, KEPT_EVENTS]), st.data())
def test_of_rows_at_or_after_its_time_nothing_but_the_time_ever_matters(
    rows: list[Transaction], kept_events: int, data: st.DataObject
) -> None:
    if not rows:
        return
    number = data.draw(st.integers(0, len(rows) - 1))
    changed = [
        each
        if place == number or (place < number and each.time < rows[number].time)
        else replace(
            each,
            cents=data.draw(cents),
            location=data.draw(locations),
            device=data.draw(devices),
            merchant=data.draw(merchants),
        )
        for place, each in enumerate(rows)
    ]
    found, found_changed = (
        judge_in_calls([each], [], kept_events=kept_events)[0][number] for each in (rows, changed)
    )
    assert found == found_changed


known_by_then = between(-timedelta(days=40), timedelta(0)).map(lambda passed: START + passed)
at_any_time = between(-timedelta(days=45), timedelta(days=5)).map(lambda passed: START + passed)
not_known_yet = between(A_SECOND, timedelta(days=40)).map(lambda passed: START + passed)
within_the_delay = between(-DELAY, timedelta(days=5)).map(lambda passed: START + passed)
hidden = st.lists(
    st.one_of(
        confirmed(times=at_any_time, known_at=not_known_yet),
        confirmed(times=within_the_delay, known_at=known_by_then),
    ),
    max_size=10,
)


@settings(deadline=None, max_examples=200)
@given(
    transactions(times=st.just(START)),
    st.lists(confirmed(times=at_any_time, known_at=known_by_then), max_size=10),
    hidden,
    hidden,
)
def test_labels_that_were_not_known_or_are_within_the_delay_change_nothing(
    row: Transaction, known: list[Confirmed], unknown: list[Confirmed], other_unknown: list[Confirmed]
) -> None:
    alone = features_amid(row, [], [], known)
    assert features_amid(row, [], [], [*unknown, *known]) == alone
    assert features_amid(row, [], [], [*known, *other_unknown]) == alone


def test_no_sum_of_cents_can_exceed_int64() -> None:
    # The look-back multiplies a count with an amount; a cut comes after each arrival.
    largest = (KEPT_EVENTS + 1) * MAX_CENTS
    assert largest < np.iinfo(np.int64).max // 100
