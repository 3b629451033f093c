"""A merchant's confirmed frauds: which count at what time, and their smoothed share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.history import time_s, wide_name_codes
from fraudstream.merchant_risk import NAMES, merchant_risk, no_outcomes
from tests.support.reference_features import (
    RISK_WINDOWS,
    START,
    Confirmed,
    as_outcomes,
    confirmed,
    merchants,
    reference_risk,
    times,
)

A_SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
DELAY = timedelta(days=7)
NOW = START + timedelta(days=100)


def risks(
    rows: Sequence[tuple[str | None, datetime]], known: Sequence[Confirmed], delay: timedelta = DELAY
) -> list[dict[str, float]]:
    """By name, for a transaction of each (merchant, time)."""
    names = pa.chunked_array([[name for name, _ in rows]], pa.string())
    seconds = time_s(pa.chunked_array([[time for _, time in rows]], pa.timestamp("us")))
    found = merchant_risk(
        wide_name_codes(names), seconds, as_outcomes(known), delay_s=int(delay.total_seconds())
    )
    return [dict(zip(NAMES, row, strict=True)) for row in found.tolist()]


def risk(*known: Confirmed, merchant: str | None = "Amazon") -> dict[str, float]:
    """Of one transaction now."""
    return risks([(merchant, NOW)], known)[0]


def confirmed_before(passed: timedelta, **changed: object) -> Confirmed:
    """A fraud that long ago, known at once."""
    return Confirmed(**{"time": NOW - passed, "known_at": NOW - passed, **changed})


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(merchants, times), max_size=8),
    st.lists(confirmed(), max_size=25),
    st.sampled_from([timedelta(0), DAY, DELAY]),
)
def test_risk_is_what_the_contract_says(
    rows: list[tuple[str | None, datetime]], known: list[Confirmed], delay: timedelta
) -> None:
    wanted = [reference_risk(merchant, time, known, delay) for merchant, time in rows]
    assert risks(rows, known, delay) == [
        {name: float(value) for name, value in each.items()} for each in wanted
    ]


def test_without_outcomes_there_is_no_risk() -> None:
    features = merchant_risk(np.array([1, 2], np.uint64), np.array([0, 9]), no_outcomes(), delay_s=0)
    assert features.tolist() == [[0.0] * len(NAMES)] * 2


@pytest.mark.parametrize(("window", "length"), RISK_WINDOWS.items())
def test_a_window_ends_before_the_delay_and_is_half_open(window: str, length: timedelta) -> None:
    def counts(passed: timedelta) -> float:
        return risk(confirmed_before(passed))[f"merchant_frauds_{window}"]

    assert counts(DELAY + length) == counts(DELAY + A_SECOND) == 1
    assert counts(DELAY + length + A_SECOND) == counts(DELAY) == 0


def test_an_outcome_counts_from_the_second_it_is_known() -> None:
    early, late = (risk(confirmed_before(8 * DAY, known_at=known_at)) for known_at in (NOW, NOW + A_SECOND))
    assert (early["merchant_frauds_7d"], late["merchant_frauds_7d"]) == (1, 0)


def test_one_outcome_that_comes_late_hides_no_other() -> None:
    known = [confirmed_before(day * DAY, known_at=NOW) for day in (8, 9, 10)]
    unknown = confirmed_before(8.5 * DAY, known_at=NOW + A_SECOND)
    now = risk(*known, unknown)
    assert (now["merchant_frauds_7d"], now["merchant_fraud_share_7d"]) == (3, 3 / 4)
    later = risks([("Amazon", NOW + DAY)], [*known, unknown])[0]
    assert (later["merchant_frauds_7d"], later["merchant_fraud_share_7d"]) == (4, 4 / 5)


def test_the_share_is_of_the_known_outcomes_and_one_more() -> None:
    known = [confirmed_before(9 * DAY, fraud=fraud) for fraud in (True, False, False, True, False)]
    found = risk(*known)
    assert (found["merchant_frauds_30d"], found["merchant_fraud_share_30d"]) == (2, 2 / 6)


def test_merchants_are_told_apart_to_the_letter() -> None:
    known = [confirmed_before(9 * DAY, merchant=name) for name in ("Amazon", "Noon", "Noon", "amazon")]
    rows = [(name, NOW) for name in ("Noon", "Amazon", "Souq")]
    assert [each["merchant_frauds_7d"] for each in risks(rows, known)] == [2, 1, 0]


def test_a_transaction_without_merchant_has_no_risk() -> None:
    assert set(risk(confirmed_before(9 * DAY, merchant=None), merchant=None).values()) == {0}
