"""What the model and the rules see of a transaction: its user's behaviour before it, and its own row.

The feature contract: the windows of a transaction at t are [t - w, t) of event time, over those of its
user's transactions that arrived before it. So the features do not depend on how arrivals were cut into
calls, and one call over a whole file gives bit-equal ones. Sums are exact (int64 cents); deviations are
two passes over float64 in the order (event time, arrival), of differences that are themselves exact. An
event that arrives late meets the history as it then is: what was forgotten by then is gone (`_keep`).
Training, evaluation and streaming call the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from fraudstream import merchant_risk
from fraudstream.geography import city_distances
from fraudstream.history import (
    EVENT,
    KEPT_EVENTS,
    KEPT_S,
    NO_NAME,
    Events,
    decode,
    events_of,
    wide_name_codes,
)
from fraudstream.merchant_risk import DEFAULT_DELAY_S, Outcomes
from fraudstream.schema import CITIES, TRANSACTION_ARROW

_WINDOWS = {"5m": 300, "1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": KEPT_S}
_DAY_S = 86_400

BEHAVIOUR_NAMES = (
    *(f"tx_count_{window}" for window in _WINDOWS),
    *(f"amount_sum_{window}" for window in _WINDOWS),
    "avg_amount_24h",
    "amount_zscore",
    "amount_ratio",
    "amount_to_median",
    "amount_deviation",
    "amount_streak",
    "high_amounts_7d",
    "seconds_since_last",
    "location_changed",
    "location_new",
    "travel_km",
    "travel_kmh",
    "device_switched",
    "device_new",
    "merchant_new",
    "history_truncated",
)
ROW_NAMES = ("Amount", "tod_sin", "tod_cos", "night", "weekend", "missing_location")

FEATURE_NAMES = (*ROW_NAMES, *BEHAVIOUR_NAMES, *merchant_risk.NAMES)

# Past amounts above this multiple of the user's median are high; the others are the usual ones.
HIGH_MULTIPLE = 3
# Of a user with few usual amounts it is assumed that they vary by as much as their mean: this many
# assumed ones are added to those seen.
_ASSUMED_AMOUNTS = 5
# How much a high amount of the last seven days adds to the weight of another one, and how many count.
_STREAK_WEIGHT, _STREAK_AT_MOST = 0.5, 8

_NIGHT_ENDS_S = 6 * 3_600
_FRIDAY, _SATURDAY = 4, 5  # the weekend where the shipped cities lie
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True)
class Computed:
    """`features` of n transactions, shape (n, len(FEATURE_NAMES)), in their order; the users' `histories`
    afterwards, in the order of `users`."""

    features: NDArray[np.float64]
    users: list[str]
    histories: Events


# UserIDs -> the stored histories of those among them that have one.
FindHistories = Callable[[list[str]], Mapping[str, bytes]]


def transaction_features(
    transactions: pa.Table,
    outcomes: Outcomes,
    *,
    find_histories: FindHistories = lambda _users: {},
    delay_s: int = DEFAULT_DELAY_S,
    kept_events: int = KEPT_EVENTS,
) -> Computed:
    """All features of usable transactions (the columns of TRANSACTION_ARROW), given in order of arrival.

    `find_histories` says what came before them; without it nothing did. `outcomes` and `delay_s` are what
    merchant risk looks at. One call, and any cut of the same arrivals into calls that hand on the
    histories, give the same features and histories to the bit. Raises HistoryError when a stored history
    cannot be read.
    """
    events = events_of(transactions)
    users, user_of_row = _users(transactions["UserID"])
    by_user = np.argsort(user_of_row, kind="stable")
    starts = np.searchsorted(user_of_row[by_user], np.arange(len(users) + 1))
    stored = decode(users, find_histories(users) if users else {})
    behaviour = np.empty((len(events), len(BEHAVIOUR_NAMES)))
    behaviour[by_user], histories = behaviour_features(
        stored, events[by_user], starts, kept_events=kept_events
    )
    risk = merchant_risk.merchant_risk(
        wide_name_codes(transactions["Merchant"]), events["time_s"], outcomes, delay_s=delay_s
    )
    return Computed(np.hstack([row_features(events), behaviour, risk]), users, histories)


def compile_features() -> None:
    """Have everything compiled that `transaction_features` calls, and kept on disk for later processes.

    Takes some ten seconds once for each machine and version of the code, else a fraction of one.
    """
    time = datetime.fromisoformat("2026-01-01")
    row = ("T1", "U1", Decimal(1), CITIES[0], time, "iOS", "Amazon")
    names = TRANSACTION_ARROW.names
    transactions = pa.Table.from_pylist([dict(zip(names, row, strict=True))], TRANSACTION_ARROW)
    events = events_of(transactions)
    outcomes = Outcomes.of(
        wide_name_codes(transactions["Merchant"]), events["time_s"], events["time_s"], np.array([True])
    )
    transaction_features(transactions, outcomes)


def _users(names: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    encoded = names.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def row_features(events: NDArray[np.void]) -> NDArray[np.float64]:
    """Features of n transactions, each from its own row only: shape (n, len(ROW_NAMES)).

    `tod_sin` and `tod_cos` put the time of day on a circle, so that 23:59 and 00:01 are neighbours; night
    is before 06:00, local time.
    """
    second_of_day = events["time_s"] % _DAY_S
    angle = second_of_day * (2 * np.pi / _DAY_S)
    weekday = (events["time_s"] // _DAY_S + _EPOCH_WEEKDAY) % 7
    columns = (
        events["cents"] / 100,
        np.sin(angle),
        np.cos(angle),
        second_of_day < _NIGHT_ENDS_S,
        (weekday == _FRIDAY) | (weekday == _SATURDAY),
        events["location"] == NO_NAME,
    )
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


def behaviour_features(
    histories: Events,
    arrivals: NDArray[np.void],
    starts: NDArray[np.int64],
    *,
    kept_events: int = KEPT_EVENTS,
) -> tuple[NDArray[np.float64], Events]:
    """Features of n arrivals of m users, shape (n, len(BEHAVIOUR_NAMES)), and the users' new histories.

    User u of `histories` has `arrivals[starts[u]:starts[u + 1]]`, in order of arrival. After each arrival
    the history is cut to the KEPT_S seconds before the user's newest event and to the newest `kept_events`
    events; an arrival that is older than that is judged and not kept.

    "The past" is what the history then has of [t - 30 days, t). Amounts are in units of the currency:

    - `tx_count_W`, `amount_sum_W`: number and sum of the past's events in [t - W, t); `avg_amount_24h`:
      their mean, 0 without one
    - `amount_zscore`: standard deviations (of the population) above the past's mean, 0 where all amounts
      are equal; `amount_ratio`, `amount_to_median`: multiple of the past's mean and median, 1 where that is 0
    - `high_amounts_7d`: the past's events in [t - 7 days, t) above HIGH_MULTIPLE times the past's median
    - `amount_deviation`: (amount - m) / sqrt(v (1 + 1/n)), with n the number, m the mean and s the sum of
      squared deviations of the usual amounts, those up to HIGH_MULTIPLE medians, and
      v = (s + 5 m^2) / (n + 5): five assumed amounts that are off by the mean; 0 where m is
    - `amount_streak`: the deviation, and where it is positive half as much again for each of the last seven
      days' high amounts, of which eight count
    - `seconds_since_last`: since the past's newest event, KEPT_S without one
    - `location_changed`, `device_switched`: another than the past's last known one; `location_new`,
      `device_new`, `merchant_new`: none of the past's. 0 where it is missing, or was in all of the past
    - `travel_km`, `travel_kmh`: from the past's last known city, when this is one; the journey is never
      timed as shorter than a minute
    - `history_truncated`: an event in [t - 30 days, t) was dropped because of `kept_events`. For a late
      arrival this is not said of events so old that KEPT_S would have dropped them by now, if they were
      followed by 30 days without any other that was dropped

    With an empty past the amount is as usual (ratios 1, deviations 0) and nothing is new.
    """
    codes, kilometres = city_distances()
    windows = np.array(list(_WINDOWS.values()), dtype=np.int64)
    features = np.zeros((len(arrivals), len(BEHAVIOUR_NAMES)))
    kept = np.empty(len(histories.events) + len(arrivals), EVENT)
    kept_starts = np.zeros(len(histories.starts), np.int64)
    dropped_from, dropped_until = histories.dropped_from.copy(), histories.dropped_until.copy()
    end = _follow_users(
        _read_only(histories.events), histories.starts, _read_only(arrivals), starts, windows, codes,
        kilometres, KEPT_S, kept_events, features, kept, kept_starts, dropped_from, dropped_until,
    )  # fmt: skip
    return features, Events(kept[:end], kept_starts, dropped_from, dropped_until)


def _read_only(events: NDArray[np.void]) -> NDArray[np.void]:
    """Decoded events are; to compiled code anything else would be another type, to be compiled for anew."""
    view = events.view()
    view.flags.writeable = False
    return view


def _column(name: str) -> int:
    return BEHAVIOUR_NAMES.index(name)


# Compiled code knows these as constants. What the cache on disk was compiled from is recognised by the time
# and size of this file alone, so whatever may change elsewhere is an argument.
_COUNT, _SUM, _AVG_24H = _column("tx_count_5m"), _column("amount_sum_5m"), _column("avg_amount_24h")
_ZSCORE, _RATIO, _TO_MEDIAN = (
    _column("amount_zscore"),
    _column("amount_ratio"),
    _column("amount_to_median"),
)
_DEVIATION, _STREAK = _column("amount_deviation"), _column("amount_streak")
_HIGH_7D, _SINCE_LAST = _column("high_amounts_7d"), _column("seconds_since_last")
_PLACE_CHANGED, _PLACE_NEW = _column("location_changed"), _column("location_new")
_KM, _KMH = _column("travel_km"), _column("travel_kmh")
_DEVICE_SWITCHED, _DEVICE_NEW = _column("device_switched"), _column("device_new")
_MERCHANT_NEW, _TRUNCATED = _column("merchant_new"), _column("history_truncated")
_24H, _7D = (list(_WINDOWS).index(window) for window in ("24h", "7d"))
# A journey is never timed as shorter than this: clocks of two shops differ.
_SHORTEST_JOURNEY_S = 60


@njit(cache=True)
def _follow_users(  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    stored, stored_starts, arrivals, arrival_starts,
    windows, codes, kilometres, kept_s, kept_events, features, kept, starts, dropped_from, dropped_until,
):  # fmt: skip
    """Fill `features`, `kept`, `starts` and what was dropped, user by user; returns the number kept."""
    filled = 0
    for user in range(len(starts) - 1):
        # The user's events are kept[first:end]; `first` moves on as old ones fall out.
        first, end = filled, filled
        for position in range(stored_starts[user], stored_starts[user + 1]):
            kept[end] = stored[position]
            end += 1
        for row in range(arrival_starts[user], arrival_starts[user + 1]):
            event = arrivals[row]
            before = _first_at(kept, first, end, event.time_s)
            _look_back(kept, first, before, event, windows, codes, kilometres, kept_s, features[row])
            features[row, _TRUNCATED] = (
                dropped_from[user] < event.time_s and dropped_until[user] >= event.time_s - kept_s
            )
            first, end = _keep(
                kept, first, end, event, kept_s, kept_events, dropped_from[user:], dropped_until[user:]
            )
        for position in range(first, end):
            kept[filled] = kept[position]
            filled += 1
        starts[user + 1] = filled
    return filled


@njit(cache=True)
def _keep(  # type: ignore[no-untyped-def]
    kept, first, end, event, kept_s, kept_events, dropped_from, dropped_until
):  # fmt: skip
    """Put the event in its place behind those of the same time, then cut; returns the new bounds."""
    position = end
    while position > first and kept[position - 1].time_s > event.time_s:
        kept[position] = kept[position - 1]
        position -= 1
    kept[position] = event
    end += 1
    first = _first_at(kept, first, end, kept[end - 1].time_s - kept_s)
    while end - first > kept_events:
        dropped = kept[first].time_s
        # So no look-back of kept_s falls between two dropped events without meeting one.
        if dropped_until[0] < dropped - kept_s:
            dropped_from[0] = dropped
        dropped_from[0] = min(dropped_from[0], dropped)
        dropped_until[0] = max(dropped_until[0], dropped)
        first += 1
    return first, end


@njit(cache=True)
def _first_at(kept, first, end, time_s):  # type: ignore[no-untyped-def]
    """The first position in kept[first:end] whose time is `time_s` or later (binary search)."""
    while first < end:
        middle = (first + end) // 2
        if kept[middle].time_s < time_s:
            first = middle + 1
        else:
            end = middle
    return first


@njit(cache=True)
def _look_back(  # type: ignore[no-untyped-def]
    kept, first, end, event, windows, codes, kilometres, kept_s, features
):  # fmt: skip
    """The features of one event from kept[first:end], the user's events before its time."""
    total, position = 0, end
    for window in range(len(windows)):
        begin = _first_at(kept, first, end, event.time_s - windows[window])
        while position > begin:
            position -= 1
            total += kept[position].cents
        features[_COUNT + window] = end - begin
        features[_SUM + window] = total / 100
    count_24h = features[_COUNT + _24H]
    if count_24h > 0:
        features[_AVG_24H] = features[_SUM + _24H] / count_24h
    _compare_amount(kept, position, end, event, total, int(features[_COUNT + _7D]), features)
    _compare_names(kept, position, end, event, features)
    _measure_journey(kept, position, end, event, codes, kilometres, features)
    features[_SINCE_LAST] = event.time_s - kept[end - 1].time_s if end > position else kept_s


@njit(cache=True)
def _compare_amount(kept, begin, end, event, total, count_7d, features):  # type: ignore[no-untyped-def]
    """The amount against the user's own; with nothing to compare it with it is taken as usual."""
    features[_RATIO] = features[_TO_MEDIAN] = 1.0
    count = end - begin
    if count == 0:
        return
    amounts = np.empty(count)
    squares = 0.0
    for position in range(begin, end):
        amounts[position - begin] = kept[position].cents
        # `count` times the deviation from the mean: exact in int64, so that equal amounts deviate by zero.
        squares += float(count * kept[position].cents - total) ** 2
    if squares > 0:
        features[_ZSCORE] = (count * event.cents - total) / np.sqrt(squares / count)
    mean = total / count
    if mean > 0:
        features[_RATIO] = event.cents / mean
    median = np.median(amounts)
    if median > 0:
        features[_TO_MEDIAN] = event.cents / median
    for amount in amounts[count - count_7d :]:
        features[_HIGH_7D] += amount > HIGH_MULTIPLE * median
    _compare_with_usual(amounts, HIGH_MULTIPLE * median, event.cents, features)


@njit(cache=True)
def _compare_with_usual(amounts, highest, cents, features):  # type: ignore[no-untyped-def]
    """Deviation and streak, against the amounts up to `highest`; at least half of them are."""
    count, total = 0, 0.0
    for amount in amounts:
        if amount <= highest:
            count += 1
            total += amount
    mean = total / count
    squares = 0.0
    for amount in amounts:
        if amount <= highest:
            squares += (amount - mean) ** 2
    variance = (squares + _ASSUMED_AMOUNTS * mean**2) / (count + _ASSUMED_AMOUNTS)
    if variance > 0:
        features[_DEVIATION] = (cents - mean) / np.sqrt(variance * (1 + 1 / count))
    features[_STREAK] = features[_DEVIATION]
    if features[_DEVIATION] > 0:
        features[_STREAK] *= 1 + _STREAK_WEIGHT * min(features[_HIGH_7D], _STREAK_AT_MOST)


@njit(cache=True)
def _compare_names(kept, begin, end, event, features):  # type: ignore[no-untyped-def]
    """Whether place, device and merchant are others than the last, or new; unknown ones are neither."""
    last_place = last_device = NO_NAME
    seen_place = seen_device = seen_merchant = any_merchant = False
    for position in range(begin, end):
        past = kept[position]
        if past.location != NO_NAME:
            last_place = past.location
            seen_place |= past.location == event.location
        if past.device != NO_NAME:
            last_device = past.device
            seen_device |= past.device == event.device
        any_merchant |= past.merchant != NO_NAME
        seen_merchant |= past.merchant == event.merchant
    if event.location != NO_NAME and last_place != NO_NAME:
        features[_PLACE_CHANGED] = event.location != last_place
        features[_PLACE_NEW] = not seen_place
    if event.device != NO_NAME and last_device != NO_NAME:
        features[_DEVICE_SWITCHED] = event.device != last_device
        features[_DEVICE_NEW] = not seen_device
    if event.merchant != NO_NAME and any_merchant:
        features[_MERCHANT_NEW] = not seen_merchant


@njit(cache=True)
def _measure_journey(kept, begin, end, event, codes, kilometres, features):  # type: ignore[no-untyped-def]
    here = _place_of(event.location, codes)
    if here < 0:
        return
    for position in range(end - 1, begin - 1, -1):
        there = _place_of(kept[position].location, codes)
        if there >= 0:
            seconds = max(event.time_s - kept[position].time_s, _SHORTEST_JOURNEY_S)
            features[_KM] = kilometres[there, here]
            features[_KMH] = features[_KM] * 3_600 / seconds
            return


@njit(cache=True)
def _place_of(location, codes):  # type: ignore[no-untyped-def]
    """The position of a known city's code, or -1."""
    if location == NO_NAME:
        return -1
    position = np.searchsorted(codes, location)
    return position if position < len(codes) and codes[position] == location else -1
