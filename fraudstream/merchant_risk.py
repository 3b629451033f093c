"""How often a merchant's transactions turned out to be fraud, as far as that was known at the time.

For a transaction at t the outcomes count whose own event time lies in [t - delay - w, t - delay) and that
were known at t (known_at <= t). The delay is the time that outcomes usually take to come in: without it a
merchant would look safer the newer its transactions are. Nothing else counts, so the features do not depend
on how arrivals were cut into calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fraudstream.history import NO_NAME

_DAY_S = 86_400
_WINDOWS = {"1d": _DAY_S, "7d": 7 * _DAY_S, "30d": 30 * _DAY_S}

NAMES = tuple(f"merchant_{what}_{window}" for window in _WINDOWS for what in ("frauds", "fraud_share"))
DEFAULT_DELAY_S = 7 * _DAY_S

# The share is frauds / (known outcomes + this): one confirmed fraud alone says little about a merchant.
_SMOOTHING = 1.0


@dataclass(frozen=True)
class Outcomes:
    """Confirmed outcomes, one a transaction, in order of (merchant, event time). Merchants are
    `wide_name_codes`; times, of the transaction and of when its outcome became known, seconds since
    1970-01-01, local time.
    """

    merchant: NDArray[np.uint64]
    time_s: NDArray[np.int64]
    known_at_s: NDArray[np.int64]
    fraud: NDArray[np.bool_]

    @staticmethod
    def of(
        merchant: NDArray[np.uint64],
        time_s: NDArray[np.int64],
        known_at_s: NDArray[np.int64],
        fraud: NDArray[np.bool_],
    ) -> Outcomes:
        """From columns in any order."""
        order = np.lexsort((time_s, merchant))
        return Outcomes(merchant[order], time_s[order], known_at_s[order], fraud[order])


def no_outcomes() -> Outcomes:
    """Nothing is known of any transaction."""
    return Outcomes(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))


def merchant_risk(
    merchant: NDArray[np.uint64], time_s: NDArray[np.int64], outcomes: Outcomes, *, delay_s: int
) -> NDArray[np.float64]:
    """Shape (n, len(NAMES)): number and smoothed share of frauds among the merchant's known outcomes.

    `merchant` and `time_s` of n transactions are given as in Outcomes, in any order. The share is
    frauds / (known outcomes + 1); a transaction without a merchant has 0 in both.
    """
    windows = np.array(list(_WINDOWS.values()), dtype=np.int64)
    features = np.zeros((len(merchant), len(NAMES)))
    if len(outcomes.merchant):
        frauds_before = np.concatenate([[0], np.cumsum(outcomes.fraud)])
        first = np.searchsorted(outcomes.merchant, merchant, side="left")
        end = np.searchsorted(outcomes.merchant, merchant, side="right")
        end = np.where(merchant == NO_NAME, first, end)
        all_known_at = _latest_in_merchant(outcomes.merchant, outcomes.known_at_s)
        # One memory layout, or another one would be compiled for anew.
        _count_frauds(
            np.ascontiguousarray(time_s), first, end, windows, delay_s, outcomes.time_s, outcomes.known_at_s,
            outcomes.fraud, frauds_before, all_known_at, features,
        )  # fmt: skip
    return features


@njit(cache=True)
def _latest_in_merchant(merchant, known_at_s):  # type: ignore[no-untyped-def]
    """For each outcome when it and all earlier ones of its merchant were known."""
    latest = known_at_s.copy()
    for position in range(1, len(latest)):
        if merchant[position] == merchant[position - 1]:
            latest[position] = max(latest[position], latest[position - 1])
    return latest


@njit(cache=True)
def _count_frauds(  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    time_s, first, end, windows, delay_s, outcome_time_s, known_at_s, fraud,
    frauds_before, all_known_at, features,
):  # fmt: skip
    for row in range(len(time_s)):
        times = outcome_time_s[first[row] : end[row]]
        if len(times) == 0:
            continue
        until = first[row] + np.searchsorted(times, time_s[row] - delay_s)
        for window in range(len(windows)):
            begin = first[row] + np.searchsorted(times, time_s[row] - delay_s - windows[window])
            settled = begin + np.searchsorted(all_known_at[begin:until], time_s[row], side="right")
            frauds, known = _count_known(settled, until, time_s[row], known_at_s, fraud)
            frauds += frauds_before[settled] - frauds_before[begin]
            known += settled - begin
            features[row, 2 * window] = frauds
            features[row, 2 * window + 1] = frauds / (known + _SMOOTHING)


@njit(cache=True)
def _count_known(begin, until, now_s, known_at_s, fraud):  # type: ignore[no-untyped-def]
    """(frauds, known outcomes) in [begin, until), one by one: some of them were not known yet."""
    frauds = known = 0
    for position in range(begin, until):
        if known_at_s[position] <= now_s:
            known += 1
            frauds += fraud[position]
    return frauds, known
