"""Labelled synthetic transactions, deterministic by seed: `simulate`, users with habits at known merchants,
and `simulate_cards`, customers and terminals on a plane.

The first is drawn in steps, each a pure function of a `numpy.random.Generator` and the step before:
habits of a population, ordinary transactions, anomalies of five scenarios, then the blemishes of real
data (late arrival, missing cells, exact duplicates). Between the steps a *draft* is a DataFrame with one
row for each transaction:

    user (int64, index into the population), time (datetime64[s], local time), cents (int64),
    city, device, merchant (int64, index into the known names of schema.py), scenario (str)

The second follows a published description and has its own section below. Nothing here touches the disk or
the clock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraudstream.schema import CITIES, DEVICES, FIELD_NAMES, MERCHANTS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The last simulated day ends here: far enough in the past that a replay can loop for years.
END = np.datetime64("2025-01-31T00:00:00", "s")

ANOMALY_SHARE = 0.05
MISSING_SHARE = 0.01
# Of the missing cells, so many are in a required field: such rows become dead letters.
MISSING_REQUIRED_SHARE = 0.06
DUPLICATE_SHARE = 0.005
LATE_SHARE = 0.02

LABEL_NAMES = ("TransactionID", "is_fraud", "scenario")


class Scenario(enum.StrEnum):
    """Why a transaction was made; everything but NORMAL is fraud."""

    NORMAL = "normal"
    RAPID_FIRE = "rapid_fire"
    GEO_CHANGE = "geo_change"
    HIGH_AMOUNT = "high_amount"
    DEVICE_SWITCH = "device_switch"
    MERCHANT_RISK = "merchant_risk"


class CardScenario(enum.StrEnum):
    """The same for `simulate_cards`."""

    NORMAL = "normal"
    HIGH_AMOUNT = "high_amount"
    COMPROMISED_TERMINAL = "compromised_terminal"
    LEAKED_CREDENTIALS = "leaked_credentials"


@dataclass(frozen=True)
class Habits:
    """What is usual for each user of a population; every array has one row for each user."""

    user_ids: npt.NDArray[np.str_]
    activity: Floats  # share of all transactions, sums to 1
    home_city: Ints
    usual_device: Ints
    merchant_shares: Floats  # (users, merchants), rows sum to 1
    peak_hour: Floats  # 0 to 24
    hours_spread: Floats  # standard deviation, hours
    median_amount: Floats  # currency units
    amount_sigma: Floats  # of the logarithm


@dataclass(frozen=True)
class Simulation:
    """Both frames hold text as a CSV would, in `FIELD_NAMES` and `LABEL_NAMES`; a missing cell is ''.

    `transactions` is in order of arrival, duplicates included; `labels` has one row for each
    TransactionID, in order of the identifiers.
    """

    transactions: pd.DataFrame
    labels: pd.DataFrame


def simulate(*, rows: int = 10_000, users: int = 100, days: int = 30, seed: int = 42) -> Simulation:
    """Transactions of `users` users over the `days` days before END, local time.

    `rows` counts distinct transactions; DUPLICATE_SHARE of them arrive a second time on top. The same
    arguments give the same frames. Raises ValueError when an argument is not positive.
    """
    if min(rows, users, days) < 1:
        raise ValueError("rows, users and days must be at least 1")
    rng = np.random.default_rng(seed)
    start = END - np.timedelta64(days, "D")
    habits = draw_habits(rng, users)
    counts = _split(round(rows * ANOMALY_SHARE), len(_ANOMALIES))
    normal = draw_normal(rng, habits, rows - sum(counts), start, days)
    anomalies = [
        draw(rng, habits, normal, count).assign(scenario=scenario.value)
        for (scenario, draw), count in zip(_ANOMALIES.items(), counts, strict=True)
    ]
    draft = pd.concat([normal, *anomalies], ignore_index=True)
    draft["time"] = np.clip(draft["time"].to_numpy(), start, END - np.timedelta64(1, "s"))
    draft = draft.sort_values("time", kind="stable", ignore_index=True)
    text = to_text(draft, habits.user_ids)
    labels = _label(text["TransactionID"], draft["scenario"])
    blank_cells(rng, text)
    return Simulation(_in_order_of_arrival(rng, text, draft["time"].to_numpy()), labels)


def draw_habits(rng: np.random.Generator, users: int) -> Habits:
    """Habits of `users` users named U001, U002, … (wider when there are a thousand or more)."""
    width = max(3, len(str(users)))
    activity = rng.gamma(2.0, size=users)
    return Habits(
        user_ids=np.array([f"U{number:0{width}d}" for number in range(1, users + 1)]),
        activity=activity / activity.sum(),
        home_city=rng.choice(len(CITIES), size=users, p=_zipf(len(CITIES))),
        usual_device=rng.choice(len(DEVICES), size=users, p=[0.45, 0.30, 0.15, 0.10]),
        merchant_shares=rng.dirichlet(np.full(len(MERCHANTS), 0.4), size=users),
        peak_hour=rng.uniform(9, 22, size=users),
        hours_spread=rng.uniform(1.5, 3.5, size=users),
        median_amount=np.clip(rng.lognormal(np.log(190), 0.55, size=users), 40, 500),
        amount_sigma=rng.uniform(0.35, 0.6, size=users),
    )


def draw_normal(
    rng: np.random.Generator, habits: Habits, count: int, start: np.datetime64, days: int
) -> pd.DataFrame:
    """A draft of `count` transactions as the habits have them, in no particular order.

    Now and then a user travels, borrows a device or tries a merchant: being unusual is not fraud.
    """
    user = rng.choice(len(habits.user_ids), size=count, p=habits.activity)
    hour = rng.normal(habits.peak_hour[user], habits.hours_spread[user]) % 24
    second = (rng.integers(days, size=count) * 86_400 + hour * 3600).astype(np.int64)
    return pd.DataFrame(
        {
            "user": user,
            "time": start + second.astype("timedelta64[s]"),
            "cents": _usual_cents(rng, habits, user),
            "city": _sometimes_another(rng, habits.home_city[user], len(CITIES), 0.04),
            "device": _sometimes_another(rng, habits.usual_device[user], len(DEVICES), 0.06),
            "merchant": _usual_merchant(rng, habits, user),
            "scenario": Scenario.NORMAL.value,
        }
    )


def _rapid_fire(rng: np.random.Generator, habits: Habits, normal: pd.DataFrame, count: int) -> pd.DataFrame:
    """Bursts of five to eight small payments within seconds of each other, by one user at one merchant."""
    sizes = rng.integers(5, 9, size=count // 5 + 1)
    burst = np.repeat(np.arange(len(sizes)), sizes)[:count]
    draft = _anchors(rng, normal, len(sizes)).iloc[burst].reset_index(drop=True)
    gaps = rng.integers(4, 45, size=count)
    elapsed = np.cumsum(gaps)
    first_of_burst = np.searchsorted(burst, burst)
    draft["time"] += (elapsed - elapsed[first_of_burst] + 60).astype("timedelta64[s]")
    draft["cents"] = _scaled_cents(rng, habits, draft["user"].to_numpy(), 0.2, 1.2)
    return draft


def _geo_change(rng: np.random.Generator, habits: Habits, normal: pd.DataFrame, count: int) -> pd.DataFrame:
    """A payment in another city minutes after one at the place where the user just was."""
    draft = _anchors(rng, normal, count)
    draft["time"] += rng.integers(3 * 60, 40 * 60, size=count).astype("timedelta64[s]")
    draft["city"] = _another(rng, draft["city"].to_numpy(), len(CITIES))
    draft["cents"] = _scaled_cents(rng, habits, draft["user"].to_numpy(), 0.8, 3.0)
    return draft


def _high_amount(rng: np.random.Generator, habits: Habits, normal: pd.DataFrame, count: int) -> pd.DataFrame:
    """An amount many times the user's usual one: for most users above 2,000, for a thrifty one below."""
    draft = _anchors(rng, normal, count)
    draft["time"] += rng.integers(600, 6 * 3600, size=count).astype("timedelta64[s]")
    draft["cents"] = _scaled_cents(rng, habits, draft["user"].to_numpy(), 9.0, 24.0)
    return draft


def _device_switch(
    rng: np.random.Generator, habits: Habits, normal: pd.DataFrame, count: int
) -> pd.DataFrame:
    """A payment from a device that is not the user's, in the small hours, above the usual amount."""
    draft = _anchors(rng, normal, count)
    small_hours = rng.integers(1 * 3600, 5 * 3600, size=count).astype("timedelta64[s]")
    draft["time"] = draft["time"].to_numpy().astype("datetime64[D]") + small_hours
    draft["device"] = _another(rng, habits.usual_device[draft["user"].to_numpy()], len(DEVICES))
    draft["cents"] = _scaled_cents(rng, habits, draft["user"].to_numpy(), 1.5, 5.0)
    return draft


def _merchant_risk(
    rng: np.random.Generator, habits: Habits, normal: pd.DataFrame, count: int
) -> pd.DataFrame:
    """A payment well above the usual amount at the merchant that the user frequents least."""
    draft = _anchors(rng, normal, count)
    draft["time"] += rng.integers(600, 12 * 3600, size=count).astype("timedelta64[s]")
    draft["merchant"] = habits.merchant_shares.argmin(axis=1)[draft["user"].to_numpy()]
    draft["cents"] = _scaled_cents(rng, habits, draft["user"].to_numpy(), 2.5, 6.0)
    return draft


_ANOMALIES: dict[Scenario, Callable[[np.random.Generator, Habits, pd.DataFrame, int], pd.DataFrame]] = {
    Scenario.RAPID_FIRE: _rapid_fire,
    Scenario.GEO_CHANGE: _geo_change,
    Scenario.HIGH_AMOUNT: _high_amount,
    Scenario.DEVICE_SWITCH: _device_switch,
    Scenario.MERCHANT_RISK: _merchant_risk,
}


def to_text(draft: pd.DataFrame, user_ids: npt.NDArray[np.str_]) -> pd.DataFrame:
    """The draft as the text of a CSV, row for row; identifiers number the rows from TXN0000001."""
    numbers = np.arange(1, len(draft) + 1)
    time = draft["time"].to_numpy().astype("datetime64[s]")
    columns = {
        "TransactionID": np.char.mod("TXN%07d", numbers),
        "UserID": user_ids[draft["user"]],
        "Amount": np.char.mod("%.2f", draft["cents"].to_numpy() / 100),
        "Location": np.array(CITIES)[draft["city"]],
        "Time": np.char.replace(np.datetime_as_string(time), "T", " "),
        "Device": np.array(DEVICES)[draft["device"]],
        "Merchant": np.array(MERCHANTS)[draft["merchant"]],
    }
    return pd.DataFrame({name: columns[name].astype(object) for name in FIELD_NAMES})


def blank_cells(rng: np.random.Generator, text: pd.DataFrame) -> None:
    """Empty one cell, in place, in MISSING_SHARE of the rows: few of them in Amount or Time."""
    count = round(len(text) * MISSING_SHARE)
    required = round(count * MISSING_REQUIRED_SHARE)
    columns = np.concatenate(
        [
            np.resize(["Amount", "Time"], required),
            rng.choice(["Location", "Device", "Merchant"], size=count - required),
        ]
    )
    rows = rng.choice(len(text), size=count, replace=False)
    for column in np.unique(columns):
        text.loc[rows[columns == column], column] = ""


def _label(transaction_ids: pd.Series, scenarios: pd.Series) -> pd.DataFrame:
    is_fraud = (scenarios != Scenario.NORMAL.value).map({True: "1", False: "0"})
    return pd.DataFrame(dict(zip(LABEL_NAMES, (transaction_ids, is_fraud, scenarios), strict=True)))


def _in_order_of_arrival(
    rng: np.random.Generator, text: pd.DataFrame, time: npt.NDArray[np.datetime64]
) -> pd.DataFrame:
    """Most rows arrive as they happen, some minutes to hours late; duplicates arrive after their first."""
    late = rng.random(len(text)) < LATE_SHARE
    delay = np.where(late, rng.integers(5 * 60, 6 * 3600, size=len(text)), 0)
    arrival = time.astype("datetime64[s]") + delay.astype("timedelta64[s]")
    copies = rng.choice(len(text), size=round(len(text) * DUPLICATE_SHARE), replace=False)
    copy_delay = rng.integers(1, 3 * 3600, size=len(copies)).astype("timedelta64[s]")
    rows = np.concatenate([np.arange(len(text)), copies])
    order = np.argsort(np.concatenate([arrival, arrival[copies] + copy_delay]), kind="stable")
    return text.iloc[rows[order]].reset_index(drop=True)


def _anchors(rng: np.random.Generator, normal: pd.DataFrame, count: int) -> pd.DataFrame:
    """Ordinary transactions, drawn with replacement, that anomalies start from."""
    return normal.iloc[rng.integers(len(normal), size=count)].reset_index(drop=True)


def _usual_cents(rng: np.random.Generator, habits: Habits, user: Ints) -> Ints:
    amount = rng.lognormal(np.log(habits.median_amount[user]), habits.amount_sigma[user])
    return _to_cents(amount)


def _scaled_cents(
    rng: np.random.Generator, habits: Habits, user: Ints, smallest: float, largest: float
) -> Ints:
    return _to_cents(habits.median_amount[user] * rng.uniform(smallest, largest, size=len(user)))


def _to_cents(amount: Floats) -> Ints:
    return np.maximum(np.rint(amount * 100).astype(np.int64), 100)


def _usual_merchant(rng: np.random.Generator, habits: Habits, user: Ints) -> Ints:
    """One merchant for each of `user`, by the user's own shares."""
    up_to = habits.merchant_shares.cumsum(axis=1)[user, :-1]
    return (rng.random((len(user), 1)) >= up_to).sum(axis=1)


def _sometimes_another(rng: np.random.Generator, usual: Ints, choices: int, share: float) -> Ints:
    return np.where(rng.random(len(usual)) < share, _another(rng, usual, choices), usual)


def _another(rng: np.random.Generator, usual: Ints, choices: int) -> Ints:
    return (usual + rng.integers(1, choices, size=len(usual))) % choices


def _zipf(choices: int) -> Floats:
    weights = 1 / np.arange(1, choices + 1)
    return weights / weights.sum()


def _split(total: int, parts: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(total), parts)]


# --- customers and terminals on a plane ------------------------------------------------------------
#
# After the transaction simulator of "Reproducible Machine Learning for Credit Card Fraud Detection -
# Practical Handbook" (Le Borgne, Siblini, Lebichot, Bontempi, 2022), chapter 3. Lengths are in units of
# the plane, which is a square; amounts in currency units.

_PLANE = 100.0
_REACH = 5.0
_MEAN_AMOUNT = (5.0, 100.0)
_DAILY_RATE = (0.0, 4.0)
_NOON_S, _TIME_SPREAD_S = 43_200, 20_000
_ALWAYS_FRAUD_OVER = 22_000  # cents
_TERMINALS_A_DAY, _TERMINAL_DAYS = 2, 28
_CUSTOMERS_A_DAY, _CUSTOMER_DAYS = 3, 14
_LEAKED_SHARE, _LEAKED_FACTOR = 1 / 3, 5
_CUSTOMERS_AT_ONCE = 500
CARDS_START = np.datetime64("2018-04-01", "D")


def simulate_cards(
    *,
    customers: int = 5_000,
    terminals: int = 10_000,
    days: int = 30,
    seed: int = 42,
    start: np.datetime64 = CARDS_START,
) -> Simulation:
    """About two transactions a day of each customer, at terminals within reach, from the day `start` on.

    Location and Device are unknown; UserID names the customer, Merchant the terminal. Fraud is an amount
    over 220, all that happens at a terminal for 28 days after it was compromised (two a day are), and a
    third of what a customer pays for 14 days after the credentials leaked (three customers a day), those
    amounts five times as high. Of several scenarios the last of these names the row. Rows are in order of
    time. The same arguments give the same frames. Raises ValueError when a number is not positive, or the
    numbers are so small that there is no transaction.
    """
    if min(customers, terminals, days) < 1:
        raise ValueError("customers, terminals and days must be at least 1")
    rng = np.random.default_rng(seed)
    customer, day = _payments(rng, customers, days)
    terminal, reaches = _terminals_within_reach(rng, customers, terminals, customer)
    second = np.rint(rng.normal(_NOON_S, _TIME_SPREAD_S, size=len(customer))).astype(np.int64)
    cents = _card_cents(rng, rng.uniform(*_MEAN_AMOUNT, size=customers)[customer])
    happens = reaches & (second > 0) & (second < 86_400)
    draft = pd.DataFrame(
        {"customer": customer, "day": day, "second": second, "terminal": terminal, "cents": cents}
    )
    draft = draft[happens].sort_values(["day", "second"], kind="stable", ignore_index=True)
    if draft.empty:
        raise ValueError("so few customers, terminals and days make no transaction: take more")
    scenario = _commit_fraud(rng, draft, customers, terminals, days)
    text = _card_text(draft, start, customers, terminals)
    labels = _label(text["TransactionID"], pd.Series(scenario))
    return Simulation(text, labels)


def _payments(rng: np.random.Generator, customers: int, days: int) -> tuple[Ints, Ints]:
    """Customer and day of each payment; each customer has a rate of his own."""
    rate = rng.uniform(*_DAILY_RATE, size=customers)
    counts = rng.poisson(rate[:, None], size=(customers, days))
    customer, day = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), days)
    return customer, day


def _terminals_within_reach(
    rng: np.random.Generator, customers: int, terminals: int, customer: Ints
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """A terminal near each payment's customer, all as likely, and whether there is any."""
    homes, places = rng.uniform(0, _PLANE, (customers, 2)), rng.uniform(0, _PLANE, (terminals, 2))
    near: list[Ints] = []
    counts: list[Ints] = []
    for first in range(0, customers, _CUSTOMERS_AT_ONCE):
        offsets = homes[first : first + _CUSTOMERS_AT_ONCE, None, :] - places
        within = (offsets**2).sum(axis=2) < _REACH**2
        near.append(np.nonzero(within)[1])
        counts.append(within.sum(axis=1))
    # One more, so that a customer without any may point behind the others' and is told by `reaches`.
    all_near, count = np.append(np.concatenate(near), 0), np.concatenate(counts)
    begins = np.cumsum(count) - count
    pick = (rng.random(len(customer)) * count[customer]).astype(np.int64)
    return all_near[begins[customer] + pick], count[customer] > 0


def _card_cents(rng: np.random.Generator, mean: Floats) -> Ints:
    """Normal with half the mean as deviation; where that is negative, anything up to twice the mean."""
    amount = rng.normal(mean, mean / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
    return np.rint(amount * 100).astype(np.int64)


def _commit_fraud(
    rng: np.random.Generator, draft: pd.DataFrame, customers: int, terminals: int, days: int
) -> npt.NDArray[np.object_]:
    """The scenario of each row; amounts paid with leaked credentials are raised in the draft."""
    day = draft["day"].to_numpy()
    scenario = np.full(len(draft), CardScenario.NORMAL.value, dtype=object)
    scenario[draft["cents"].to_numpy() > _ALWAYS_FRAUD_OVER] = CardScenario.HIGH_AMOUNT.value
    compromised = _affected(rng, terminals, days, _TERMINALS_A_DAY, _TERMINAL_DAYS)
    scenario[compromised[draft["terminal"], day]] = CardScenario.COMPROMISED_TERMINAL.value
    leaked = _affected(rng, customers, days, _CUSTOMERS_A_DAY, _CUSTOMER_DAYS)[draft["customer"], day]
    leaked &= rng.random(len(draft)) < _LEAKED_SHARE
    scenario[leaked] = CardScenario.LEAKED_CREDENTIALS.value
    draft.loc[leaked, "cents"] *= _LEAKED_FACTOR
    return scenario


def _affected(
    rng: np.random.Generator, population: int, days: int, drawn_a_day: int, lasting_days: int
) -> npt.NDArray[np.bool_]:
    """(population, days): each day some are drawn and stay affected for `lasting_days`, that day included."""
    affected = np.zeros((population, days), dtype=bool)
    for day in range(days):
        drawn = rng.choice(population, size=min(drawn_a_day, population), replace=False)
        affected[drawn, day : day + lasting_days] = True
    return affected


def _card_text(draft: pd.DataFrame, start: np.datetime64, customers: int, terminals: int) -> pd.DataFrame:
    second = draft["day"].to_numpy() * 86_400 + draft["second"].to_numpy()
    time = start.astype("datetime64[s]") + second.astype("timedelta64[s]")
    columns = {
        "TransactionID": np.char.mod("TXN%07d", np.arange(1, len(draft) + 1)),
        "UserID": _names("U", customers)[draft["customer"]],
        "Amount": np.char.mod("%.2f", draft["cents"].to_numpy() / 100),
        "Location": np.full(len(draft), ""),
        "Time": np.char.replace(np.datetime_as_string(time), "T", " "),
        "Device": np.full(len(draft), ""),
        "Merchant": _names("M", terminals)[draft["terminal"]],
    }
    return pd.DataFrame({name: columns[name].astype(object) for name in FIELD_NAMES})


def _names(letter: str, count: int) -> npt.NDArray[np.object_]:
    """`U00001`, `U00002`, ...: one string each, which all its rows share."""
    return np.array([f"{letter}{number:05d}" for number in range(1, count + 1)], dtype=object)
