"""The features said a second time, slowly: one row after the other, exact fractions, no arrays.

With it what tests need to make arrivals and confirmed outcomes, by hand and at random.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from statistics import median

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from fraudstream.geography import COORDINATES
from fraudstream.history import wide_name_codes
from fraudstream.merchant_risk import Outcomes
from fraudstream.schema import MAX_AMOUNT, TRANSACTION_ARROW

LOOK_BACK = timedelta(days=30)
WINDOWS = {
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": LOOK_BACK,
}
RISK_WINDOWS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
MAX_CENTS = int(MAX_AMOUNT * 100)
START = datetime.fromisoformat("2026-02-27 22:00:00")

# None: the contract leaves both 0 and 1 open.
Features = dict[str, int | float | Fraction | None]


@dataclass(frozen=True)
class Transaction:
    """One arrival."""

    cents: int = 1_250
    time: datetime = START
    user: str = "U1"
    location: str | None = "Cairo"
    device: str | None = "iOS"
    merchant: str | None = "Amazon"


@dataclass(frozen=True)
class Confirmed:
    """The outcome of one transaction, and when it became known."""

    time: datetime
    known_at: datetime
    fraud: bool = True
    merchant: str | None = "Amazon"


def as_table(transactions: Iterable[Transaction]) -> pa.Table:
    """Rows of TRANSACTION_ARROW, in the given order."""
    rows = [
        {
            "TransactionID": f"T{number}",
            "UserID": each.user,
            "Amount": Decimal(each.cents) / 100,
            "Location": each.location,
            "Time": each.time,
            "Device": each.device,
            "Merchant": each.merchant,
        }
        for number, each in enumerate(transactions)
    ]
    return pa.Table.from_pylist(rows, TRANSACTION_ARROW)


def as_outcomes(confirmed: Sequence[Confirmed]) -> Outcomes:
    def seconds(times: list[datetime]) -> np.ndarray:
        return np.array(times, dtype="datetime64[s]").astype(np.int64)

    return Outcomes.of(
        wide_name_codes(pa.chunked_array([[each.merchant for each in confirmed]], pa.string())),
        seconds([each.time for each in confirmed]),
        seconds([each.known_at for each in confirmed]),
        np.array([each.fraud for each in confirmed], dtype=bool),
    )


@dataclass
class _Memory:
    """What is kept of one user, in the order (event time, arrival), and the times of what was too much."""

    kept: list[Transaction] = field(default_factory=list)
    dropped: list[datetime] = field(default_factory=list)

    @property
    def newest(self) -> datetime:
        return max(each.time for each in self.kept)

    def take(self, arrival: Transaction, kept_events: int) -> None:
        in_arrival_order = [*self.kept, arrival]
        oldest = max(each.time for each in in_arrival_order) - LOOK_BACK
        self.kept = sorted(
            (each for each in in_arrival_order if each.time >= oldest), key=lambda each: each.time
        )
        while len(self.kept) > kept_events:
            self.dropped.append(self.kept.pop(0).time)


def reference_features(
    arrivals: Sequence[Transaction],
    confirmed: Sequence[Confirmed] = (),
    *,
    kept_events: int = 500,
    delay: timedelta = timedelta(days=7),
) -> list[Features]:
    """The features of each arrival, by name."""
    memories: defaultdict[str, _Memory] = defaultdict(_Memory)
    found = []
    for arrival in arrivals:
        memory = memories[arrival.user]
        found.append(
            {
                **_own_row(arrival),
                **_behaviour(arrival, memory),
                **reference_risk(arrival.merchant, arrival.time, confirmed, delay),
            }
        )
        memory.take(arrival, kept_events)
    return found


def _own_row(arrival: Transaction) -> Features:
    midnight = arrival.time.replace(hour=0, minute=0, second=0)
    turn = 2 * math.pi * (arrival.time - midnight).total_seconds() / 86_400
    return {
        "Amount": Fraction(arrival.cents, 100),
        "tod_sin": math.sin(turn),
        "tod_cos": math.cos(turn),
        "night": int(arrival.time.hour < 6),
        "weekend": int(arrival.time.strftime("%a") in ("Fri", "Sat")),
        "missing_location": int(arrival.location is None),
    }


def _within(past: list[Transaction], now: datetime, window: timedelta) -> list[Transaction]:
    return [each for each in past if now - window <= each.time < now]


def _behaviour(arrival: Transaction, memory: _Memory) -> Features:
    now = arrival.time
    past = _within(memory.kept, now, LOOK_BACK)
    features: Features = {}
    for name, window in WINDOWS.items():
        within = _within(past, now, window)
        features[f"tx_count_{name}"] = len(within)
        features[f"amount_sum_{name}"] = Fraction(sum(each.cents for each in within), 100)
    last_day = [each.cents for each in _within(past, now, WINDOWS["24h"])]
    features["avg_amount_24h"] = Fraction(sum(last_day), 100 * len(last_day)) if last_day else 0
    features["seconds_since_last"] = (
        int((now - past[-1].time).total_seconds()) if past else int(LOOK_BACK.total_seconds())
    )
    return {
        **features,
        **_amount(arrival, past),
        **_names(arrival, past),
        **_journey(arrival, past),
        "history_truncated": _truncated(now, memory),
    }


def _amount(arrival: Transaction, past: list[Transaction]) -> Features:
    features: Features = {
        "amount_zscore": 0,
        "amount_ratio": 1,
        "amount_to_median": 1,
        "amount_deviation": 0,
        "amount_streak": 0,
        "high_amounts_7d": 0,
    }
    if not past:
        return features
    amounts = [each.cents for each in past]
    mean, variance = _mean_and_variance(amounts)
    if variance:
        features["amount_zscore"] = float(arrival.cents - mean) / math.sqrt(variance)
    if mean:
        features["amount_ratio"] = arrival.cents / mean
    middle = median(Fraction(amount) for amount in amounts)
    if middle:
        features["amount_to_median"] = arrival.cents / middle
    high = sum(each.cents > 3 * middle for each in _within(past, arrival.time, WINDOWS["7d"]))
    usual = [amount for amount in amounts if amount <= 3 * middle]
    mean, variance = _mean_and_variance(usual)
    if mean:
        n = len(usual)
        assumed = (n * variance + 5 * mean**2) / (n + 5)
        deviation = float(arrival.cents - mean) / math.sqrt(assumed * (1 + Fraction(1, n)))
        features["amount_deviation"] = deviation
        features["amount_streak"] = deviation * (1 + min(high, 8) / 2) if deviation > 0 else deviation
    return {**features, "high_amounts_7d": high}


def _mean_and_variance(amounts: list[int]) -> tuple[Fraction, Fraction]:
    mean = Fraction(sum(amounts), len(amounts))
    return mean, sum(((amount - mean) ** 2 for amount in amounts), Fraction()) / len(amounts)


def _names(arrival: Transaction, past: list[Transaction]) -> Features:
    places, devices, merchants = (
        [name for name in names if name is not None]
        for names in (
            [each.location for each in past],
            [each.device for each in past],
            [each.merchant for each in past],
        )
    )
    return {
        "location_changed": _is_another(arrival.location, places[-1:]),
        "location_new": _is_another(arrival.location, places),
        "device_switched": _is_another(arrival.device, devices[-1:]),
        "device_new": _is_another(arrival.device, devices),
        "merchant_new": _is_another(arrival.merchant, merchants),
    }


def _is_another(name: str | None, known: list[str]) -> int:
    return int(name is not None and known != [] and name not in known)


def _journey(arrival: Transaction, past: list[Transaction]) -> Features:
    in_cities = [each for each in past if each.location in COORDINATES]
    if arrival.location not in COORDINATES or not in_cities:
        return {"travel_km": 0, "travel_kmh": 0}
    last = in_cities[-1]
    kilometres = reference_distance_km(str(last.location), arrival.location)
    hours = max((arrival.time - last.time).total_seconds(), 60) / 3_600
    return {"travel_km": kilometres, "travel_kmh": kilometres / hours}


def reference_distance_km(city: str, other: str) -> float:
    """By the angle between the two directions from the centre of the Earth."""
    here, there = (_direction(*COORDINATES[name]) for name in (city, other))
    across = [
        here[1] * there[2] - here[2] * there[1],
        here[2] * there[0] - here[0] * there[2],
        here[0] * there[1] - here[1] * there[0],
    ]
    along = sum(one * two for one, two in zip(here, there, strict=True))
    return 6371 * math.atan2(math.hypot(*across), along)


def _direction(latitude: float, longitude: float) -> tuple[float, float, float]:
    north, east = math.radians(latitude), math.radians(longitude)
    return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)


def _truncated(now: datetime, memory: _Memory) -> int | None:
    missing = [time for time in memory.dropped if now - LOOK_BACK <= time < now]
    for_number_alone = [time for time in missing if time >= memory.newest - LOOK_BACK]
    return None if missing and not for_number_alone else int(missing != [])


def reference_risk(
    merchant: str | None, now: datetime, confirmed: Sequence[Confirmed], delay: timedelta
) -> Features:
    features: Features = {}
    for name, window in RISK_WINDOWS.items():
        known = [
            each
            for each in confirmed
            if merchant is not None
            and each.merchant == merchant
            and now - delay - window <= each.time < now - delay
            and each.known_at <= now
        ]
        frauds = sum(each.fraud for each in known)
        features[f"merchant_frauds_{name}"] = frauds
        features[f"merchant_fraud_share_{name}"] = Fraction(frauds, len(known) + 1)
    return features


# Where windows begin and end, to the second and beside it; and a long time, for what is forgotten.
_EDGES_S = [0, 1, 299, 300, 301, 3_599, 3_600, 3_601, 86_399, 86_400, 86_401]
_LATER_EDGES_S = [
    days * 86_400 + beside for days in (6, 7, 8, 14, 29, 30, 31, 37, 38, 60) for beside in (-1, 0, 1)
]
offsets_s = st.one_of(st.sampled_from(_EDGES_S), st.sampled_from(_LATER_EDGES_S), st.integers(0, 70 * 86_400))
times = offsets_s.map(lambda seconds: START + timedelta(seconds=seconds))
cents = st.one_of(
    st.sampled_from([0, 1, 100, 300, 301, MAX_CENTS - 1, MAX_CENTS]),
    st.integers(0, 50_000),
    st.integers(0, MAX_CENTS),
)
locations = st.sampled_from([None, "Cairo", "Aswan", "Alex", "Atlantis", "cairo"])
devices = st.sampled_from([None, "iOS", "Web", "Toaster"])
merchants = st.sampled_from([None, "Amazon", "Noon", "Kiosk"])


def transactions(
    *, times: st.SearchStrategy[datetime] = times, users: Sequence[str] = ("U1", "U2")
) -> st.SearchStrategy[Transaction]:
    return st.builds(Transaction, cents, times, st.sampled_from(users), locations, devices, merchants)


@st.composite
def arrivals(
    draw: st.DrawFn, *, max_size: int = 40, users: Sequence[str] = ("U1", "U2")
) -> list[Transaction]:
    """In the order of time, or in any: then many rows are late, and some older than all that is kept."""
    drawn = draw(st.lists(transactions(users=users), max_size=max_size))
    return sorted(drawn, key=lambda each: each.time) if draw(st.booleans()) else drawn


def confirmed(
    *, times: st.SearchStrategy[datetime] = times, known_at: st.SearchStrategy[datetime] = times
) -> st.SearchStrategy[Confirmed]:
    """Outcomes of those merchants; some become known late, some (wrongly) before the transaction."""
    return st.builds(Confirmed, times, known_at, st.booleans(), merchants)
