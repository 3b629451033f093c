"""Every feature against a slow reference, and the meaning of each by hand."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.config import PROJECT_DIR
from fraudstream.features import FEATURE_NAMES, behaviour_features, row_features, transaction_features
from fraudstream.history import KEPT_EVENTS, KEPT_S, events_of, no_history
from tests.support.reference_features import (
    MAX_CENTS,
    START,
    Confirmed,
    Transaction,
    arrivals,
    as_outcomes,
    as_table,
    confirmed,
    reference_features,
)

EXACT = {
    name
    for name in FEATURE_NAMES
    if name.startswith(("tx_count_", "merchant_", "location_", "device_"))
    or name in ("Amount", "night", "weekend", "missing_location", "high_amounts_7d", "seconds_since_last")
    or name == "history_truncated"
}
SUMS = {name for name in FEATURE_NAMES if name.startswith("amount_sum_")}
# Beyond it float64 does not have each number of cents.
ALL_CENTS_BELOW = 2**53 / 100

SEEDS_NAMES = (
    "Amount",
    "amount_zscore",
    "tx_count_5m",
    "tx_count_1h",
    "avg_amount_24h",
    "tod_sin",
    "tod_cos",
    "missing_location",
)


def features_of(
    rows: Sequence[Transaction], known: Sequence[Confirmed] = (), *, kept_events: int = KEPT_EVENTS
) -> list[dict[str, float]]:
    """By name, for each arrival."""
    computed = transaction_features(as_table(rows), as_outcomes(known), kept_events=kept_events)
    return [dict(zip(FEATURE_NAMES, row, strict=True)) for row in computed.features.tolist()]


def last_of(*rows: Transaction, kept_events: int = KEPT_EVENTS) -> dict[str, float]:
    return features_of(rows, kept_events=kept_events)[-1]


def after(transaction: Transaction = Transaction(), **passed: float) -> Transaction:  # noqa: B008
    return replace(transaction, time=START + timedelta(**passed))


def assert_agree(
    rows: Sequence[Transaction], known: Sequence[Confirmed] = (), *, kept_events: int = KEPT_EVENTS
) -> None:
    found = features_of(rows, known, kept_events=kept_events)
    wanted = reference_features(rows, known, kept_events=kept_events)
    for number, (got, want) in enumerate(zip(found, wanted, strict=True)):
        assert want.keys() == got.keys() == set(FEATURE_NAMES)
        for name, value in want.items():
            assert value is not None or got[name] in (0, 1), (number, name, got[name])
            assert value is None or same(name, got[name], value), (number, name, got[name], float(value))


def same(name: str, got: float, want: float | Fraction) -> bool:
    if name in EXACT or (name in SUMS and want < ALL_CENTS_BELOW):
        return got == float(want)
    if name in SUMS:
        return abs(got - float(want)) <= math.ulp(float(want))
    return math.isclose(got, float(want), rel_tol=1e-12, abs_tol=1e-12)


@settings(deadline=None, max_examples=300)
@given(arrivals(), st.lists(confirmed(), max_size=12), st.sampled_from([1, 2, 5, KEPT_EVENTS]))
def test_all_features_are_what_the_contract_says(
    rows: list[Transaction], known: list[Confirmed], kept_events: int
) -> None:
    assert_agree(rows, known, kept_events=kept_events)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, MAX_CENTS), st.integers(0, 4)), max_size=30))
def test_amounts_that_differ_by_little_or_nothing_are_told_apart(steps: list[tuple[int, int]]) -> None:
    base = steps[0][0] if steps else 0
    rows = [
        after(Transaction(cents=min(base + step, MAX_CENTS)), minutes=number)
        for number, (_, step) in enumerate(steps)
    ]
    assert_agree(rows)


def test_a_busy_month_of_many_users() -> None:
    chance = random.Random(5)
    rows = [
        Transaction(
            cents=round(chance.lognormvariate(8, 1.5)),
            time=START + timedelta(seconds=chance.randrange(75 * 86_400)),
            user=f"U{chance.randrange(8)}",
            location=chance.choice([None, "Cairo", "Giza", "Luxor", "Sharm"]),
            device=chance.choice([None, "iOS", "Web"]),
            merchant=chance.choice([None, "Amazon", "Noon", "Souq"]),
        )
        for _ in range(500)
    ]
    in_order = sorted(rows, key=lambda each: each.time + timedelta(days=chance.choice([0, 0, 0, 1, 20, 40])))
    known = [
        Confirmed(each.time, each.time + timedelta(days=chance.expovariate(0.2)), chance.random() < 0.3)
        for each in in_order
        if each.merchant == "Amazon"
    ]
    whole_seconds = [replace(each, known_at=each.known_at.replace(microsecond=0)) for each in known]
    assert_agree(in_order, whole_seconds)


def test_more_events_than_are_kept_each_of_the_largest_amount() -> None:
    rows = [after(Transaction(cents=MAX_CENTS), minutes=number) for number in range(KEPT_EVENTS + 20)]
    assert_agree(rows)
    last = last_of(*rows)
    assert last["tx_count_30d"] == KEPT_EVENTS
    assert last["amount_sum_30d"] == pytest.approx(KEPT_EVENTS * MAX_CENTS / 100, rel=1e-15)
    assert (last["amount_zscore"], last["amount_ratio"]) == (0, pytest.approx(1, rel=1e-15))


def test_the_first_systems_names_are_there_and_none_twice() -> None:
    assert set(SEEDS_NAMES) <= set(FEATURE_NAMES)
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_nothing_comes_of_nothing() -> None:
    computed = transaction_features(as_table([]), as_outcomes([]))
    assert computed.features.shape == (0, len(FEATURE_NAMES))
    assert computed.users == []


def test_a_first_transaction_is_as_usual() -> None:
    first = last_of(Transaction(cents=99_999))
    usual = {"Amount": 999.99, "amount_ratio": 1, "amount_to_median": 1, "seconds_since_last": KEPT_S}
    of_its_own = {"tod_sin", "tod_cos", "night", "weekend"}
    assert {name: value for name, value in first.items() if value and name not in of_its_own} == usual


@pytest.mark.parametrize(
    ("window", "length"),
    [
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("30d", timedelta(days=30)),
    ],
)
def test_a_window_has_its_first_second_and_not_its_last(window: str, length: timedelta) -> None:
    a_second = timedelta(seconds=1)

    def counted(passed: timedelta) -> tuple[float, float]:
        last = last_of(Transaction(cents=250), Transaction(cents=999, time=START + passed))
        return last[f"tx_count_{window}"], last[f"amount_sum_{window}"]

    assert counted(length) == counted(a_second) == (1, 2.5)
    assert counted(length + a_second) == counted(timedelta(0)) == counted(-a_second) == (0, 0)


def test_rows_that_arrived_later_do_not_count_however_early_their_time() -> None:
    late = [after(minutes=2), after(minutes=1), after(minutes=3)]
    assert [each["tx_count_5m"] for each in features_of(late)] == [0, 0, 2]


def test_amounts_are_compared_with_the_users_own() -> None:
    # Mean 3, squared deviations 4 and 4, median 3.
    last = last_of(
        after(Transaction(100)), after(Transaction(500), hours=1), after(Transaction(900), hours=2)
    )
    assert last["amount_zscore"] == pytest.approx((9 - 3) / 2)
    assert (last["amount_ratio"], last["amount_to_median"]) == (3, 3)
    assert (last["avg_amount_24h"], last["seconds_since_last"]) == (3, 3_600)


def test_a_deviation_allows_for_few_amounts_and_leaves_high_ones_out() -> None:
    usual = [after(Transaction(1_000), days=day) for day in range(4)]
    high = after(Transaction(3_001), days=4)
    last = last_of(*usual, high, after(Transaction(2_000), days=5))
    # Four usual ones of 10: variance (0 + 5 * 100) / 9.
    deviation = (20 - 10) / math.sqrt(500 / 9 * (1 + 1 / 4))
    assert last["high_amounts_7d"] == 1
    assert last["amount_deviation"] == pytest.approx(deviation)
    assert last["amount_streak"] == pytest.approx(1.5 * deviation)


def test_a_streak_is_of_high_amounts_and_of_at_most_eight() -> None:
    usual = [after(Transaction(1_000), hours=hour) for hour in range(20)]
    high = [after(Transaction(9_000), hours=20 + hour) for hour in range(10)]
    last = last_of(*usual, *high, after(Transaction(5_000), hours=30))
    low = last_of(*usual, *high, after(Transaction(500), hours=30))
    assert last["high_amounts_7d"] == 10
    assert last["amount_streak"] == pytest.approx(5 * last["amount_deviation"])
    assert low["amount_streak"] == low["amount_deviation"] < 0


def test_free_of_charge_only_is_compared_with_nothing() -> None:
    last = last_of(Transaction(0), after(Transaction(0), hours=1), after(Transaction(500), hours=2))
    assert (last["amount_ratio"], last["amount_to_median"]) == (1, 1)
    assert (last["amount_zscore"], last["amount_deviation"], last["amount_streak"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("field", "switched", "new"),
    [("location", "location_changed", "location_new"), ("device", "device_switched", "device_new")],
)
def test_another_than_the_last_is_not_new_if_it_was_seen(field: str, switched: str, new: str) -> None:
    def seen(*names: str | None) -> tuple[float, float]:
        rows = [after(replace(Transaction(), **{field: name}), hours=n) for n, name in enumerate(names)]
        last = last_of(*rows)
        return last[switched], last[new]

    assert seen("Cairo", "Cairo") == (0, 0)
    assert seen("Cairo", "Luxor") == (1, 1)
    assert seen("Cairo", "Luxor", "Cairo") == (1, 0)
    assert seen("Cairo", None, "Cairo") == (0, 0)
    assert seen("Cairo", None) == (0, 0)
    assert seen(None, "Cairo") == (0, 0)


def test_of_two_at_one_second_the_later_arrival_is_the_last() -> None:
    def changed(*places: str) -> float:
        rows = [replace(Transaction(), location=place) for place in places]
        return last_of(*rows, after(Transaction(location="Luxor"), hours=1))["location_changed"]

    assert (changed("Cairo", "Luxor"), changed("Luxor", "Cairo")) == (0, 1)


def test_a_merchant_is_new_that_was_not_among_the_known_ones() -> None:
    def is_new(*merchants: str | None) -> float:
        rows = [after(Transaction(merchant=name), hours=n) for n, name in enumerate(merchants)]
        return last_of(*rows)["merchant_new"]

    assert is_new("Noon", "Souq") == is_new("Noon", None, "Souq") == 1
    assert is_new("Noon", "Souq", "Noon") == is_new("Noon", None) == is_new(None, "Noon") == 0


def test_a_journey_is_timed_from_the_last_known_city() -> None:
    start = Transaction(location="Cairo")
    between = [after(Transaction(location=place), minutes=30) for place in (None, "Atlantis")]
    last = last_of(start, *between, after(Transaction(location="Aswan"), hours=2))
    assert last["travel_km"] == pytest.approx(690, rel=0.02)
    assert last["travel_kmh"] == pytest.approx(last["travel_km"] / 2)
    stranded = last_of(start, after(Transaction(location="Atlantis"), hours=2))
    assert (stranded["travel_km"], stranded["travel_kmh"]) == (0, 0)


def test_a_journey_takes_a_minute_at_least() -> None:
    last = last_of(Transaction(location="Cairo"), after(Transaction(location="Giza"), seconds=1))
    assert last["travel_kmh"] == pytest.approx(60 * last["travel_km"])


@pytest.mark.parametrize(
    ("time", "night", "weekend"),
    [
        ("2026-02-26 23:59:59", 0, 0),  # a Thursday
        ("2026-02-27 00:00:00", 1, 1),
        ("2026-02-28 05:59:59", 1, 1),
        ("2026-02-28 06:00:00", 0, 1),
        ("2026-03-01 00:00:00", 1, 0),
        ("2000-01-01 12:00:00", 0, 1),
    ],
)
def test_night_and_weekend(time: str, night: int, weekend: int) -> None:
    last = last_of(Transaction(time=datetime.fromisoformat(time)))
    assert (last["night"], last["weekend"]) == (night, weekend)


def test_the_time_of_day_is_a_circle() -> None:
    rows = [Transaction(time=START.replace(hour=hour)) for hour in (0, 6, 12, 18)]
    features = row_features(events_of(as_table(rows)))
    assert features[:, 1:3] == pytest.approx(np.array([[0, 1], [1, 0], [0, -1], [-1, 0]]), abs=1e-12)


def minutes_truncated(*minutes: int) -> list[float]:
    """`history_truncated` of arrivals in these minutes when two are kept."""
    rows = [after(minutes=minute) for minute in minutes]
    return [each["history_truncated"] for each in features_of(rows, kept_events=2)]


A_MONTH = 30 * 24 * 60


def test_what_was_dropped_for_number_shows_for_30_days() -> None:
    assert minutes_truncated(0, 1, 2, 3) == [0, 0, 0, 1]
    assert minutes_truncated(0, 1, 2, A_MONTH) == [0, 0, 0, 1]
    assert minutes_truncated(0, 1, 2, A_MONTH + 1) == [0, 0, 0, 0]


def test_what_was_dropped_for_age_does_not_show() -> None:
    assert minutes_truncated(0, A_MONTH + 1, A_MONTH + 2) == [0, 0, 0]
    # The last of these drops none for number: the first is too old by then.
    assert minutes_truncated(0, 1, A_MONTH + 1, A_MONTH + 2) == [0, 0, 0, 0]


def test_a_late_row_misses_only_what_was_dropped_before_its_time() -> None:
    assert minutes_truncated(10, 20, 30, 10, 11) == [0, 0, 0, 0, 1]
    assert minutes_truncated(10, 20, 30, 40, 5, 15) == [0, 0, 0, 1, 0, 1]
    # Too late for the full history itself, it is dropped at once, and the next row misses it.
    assert minutes_truncated(10, 20, 5, 6) == [0, 0, 0, 1]


def test_an_arrival_older_than_30_days_is_judged_and_not_kept() -> None:
    rows = [
        after(days=30),
        replace(Transaction(), time=START - timedelta(seconds=1)),
        after(days=30, hours=1),
    ]
    old, new = features_of(rows)[1:]
    assert (old["tx_count_30d"], new["tx_count_30d"]) == (0, 1)


def test_users_without_arrivals_keep_their_history() -> None:
    nothing, starts = events_of(as_table([])), np.zeros(4, np.int64)
    features, histories = behaviour_features(no_history(3), nothing, starts)
    assert features.shape[0] == len(histories.events) == 0
    assert histories.starts.tolist() == [0, 0, 0, 0]


WATCHED_CALLS = """
import json, pickle
import numpy as np
from datetime import timedelta
from numba.core.dispatcher import Dispatcher
from fraudstream import features, merchant_risk
from fraudstream.history import encode, events_of, no_history
from tests.support.reference_features import START, Confirmed, Transaction, as_outcomes, as_table

def compiled():
    functions = {f"{m.__name__}.{name}": function for m in (features, merchant_risk)
                 for name, function in vars(m).items() if isinstance(function, Dispatcher)}
    return {name: [len(each.signatures), sum(each.stats.cache_misses.values())]
            for name, each in functions.items()}

def call(outcomes, stored):
    rows = as_table(Transaction(user=f"U{n % 3}", time=START + timedelta(days=9)) for n in range(9))
    found = features.transaction_features(rows, outcomes, find_histories=lambda users: stored)
    events, starts = events_of(rows), np.array([0, len(rows)])
    features.behaviour_features(no_history(1), events, starts)
    return dict(zip(found.users, encode(found.histories)))

features.compile_features()
before = compiled()
outcomes = as_outcomes([Confirmed(START, START), Confirmed(START, START + timedelta(days=99))])
call(outcomes, call(as_outcomes([]), {}))
call(pickle.loads(pickle.dumps(outcomes, 5)), {})
print(json.dumps([before, compiled()]))
"""


def test_once_compiled_no_call_compiles_anything_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_CALLS], cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    before, afterwards = json.loads(done.stdout)
    for entry in (
        "features._follow_users",
        "merchant_risk._count_frauds",
        "merchant_risk._latest_in_merchant",
    ):
        assert before[f"fraudstream.{entry}"][0] == 1
    assert afterwards == before
