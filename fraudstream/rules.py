"""Rules and reasons: why a transaction is flagged, as stable codes with the numbers that caused them.

A reason is a flat JSON object such as `{"code": "AMOUNT_OVER_2000", "amount": 2410.0, "limit": 2000.0}`;
a row's `reasons` is a JSON list of them, or NULL when it is not flagged. The rules look at the features
alone. Pure: no clock, no network.

A new rule is a subclass of Rule, its name in `_KINDS`, and an entry of that name in rules.yaml.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import orjson
import yaml
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fraudstream.features import FEATURE_NAMES

RULES_FILE = Path(__file__).with_name("rules.yaml")
MODEL_CODE = "MODEL"

Floats = NDArray[np.float64]
Reason = dict[str, Any]

# The values of an entry of rules.yaml. A description says what must be there, in the error and here.
Code = Annotated[
    str,
    Field(
        strict=True,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="a text of capital letters, digits and underscores",
    ),
]
Money = Annotated[
    Decimal,
    Field(
        ge=0,
        max_digits=18,
        decimal_places=2,
        allow_inf_nan=False,
        description="an amount of 0 or more, in whole cents",
    ),
]
Count = Annotated[
    int, Field(strict=True, ge=0, le=1_000_000, description="a whole number from 0 to 1,000,000")
]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False, description="a number of 0 or more")]
Share = Annotated[float, Field(strict=True, ge=0, le=1, description="a share from 0 to 1")]

_NO_OTHERS = ConfigDict(extra="forbid")


class RulesError(Exception):
    """rules.yaml does not say what the code needs; the text names the entry."""


@dataclass(frozen=True, config=_NO_OTHERS)
class Rule(ABC):
    """One rule: the fields are its entry in rules.yaml.

    `known_code` is the code under which `words` reads what `numbers` gave, however long ago it was stored,
    `title` what that code stands for.
    A field `limit` must be exceeded; `at_least_...` may be reached.
    """

    known_code: ClassVar[str]
    title: ClassVar[str]
    code: Code

    @abstractmethod
    def broken(self, features: Floats) -> NDArray[np.bool_]:
        """Which of n transactions break the rule: features of shape (n, len(FEATURE_NAMES)) -> (n,)."""

    @abstractmethod
    def numbers(self, row: Floats) -> Reason:
        """What the reason says beside the code: features of one transaction, shape (len(FEATURE_NAMES),)."""

    @staticmethod
    @abstractmethod
    def words(reason: Mapping[str, Any]) -> str:
        """A reason of this rule as a person reads it."""


@dataclass(frozen=True, config=_NO_OTHERS)
class AmountOver(Rule):
    """An amount over `limit`; compared in whole cents, so 2000.00 is not over 2000."""

    known_code = "AMOUNT_OVER_2000"
    title = "High amount"
    limit: Money

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        # The feature is cents / 100: only rounding gives back the very cents.
        return np.rint(_of(features, "Amount") * 100) > int(self.limit * 100)

    def numbers(self, row: Floats) -> Reason:
        return {"amount": _rounded(row, "Amount", 2), "limit": float(self.limit)}

    @staticmethod
    def words(reason: Mapping[str, Any]) -> str:
        return f"Amount {reason['amount']:,.2f} is over {reason['limit']:,.2f}"


@dataclass(frozen=True, config=_NO_OTHERS)
class Velocity(Rule):
    """More than `limit` transactions of the user within five minutes, this one among them."""

    known_code = "VELOCITY_5M"
    title = "Many transactions in 5 minutes"
    limit: Count

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        return _of(features, "tx_count_5m") + 1 > self.limit

    def numbers(self, row: Floats) -> Reason:
        return {"count": _whole(row, "tx_count_5m") + 1, "limit": self.limit}

    @staticmethod
    def words(reason: Mapping[str, Any]) -> str:
        return f"{_counted(reason['count'], 'transaction')} in 5 minutes, more than {reason['limit']}"


@dataclass(frozen=True, config=_NO_OTHERS)
class ImpossibleTravel(Rule):
    """At least `at_least_km` from the user's last known city, faster than `limit_kmh`, and at least
    `at_least_ratio` times the mean amount of the user's last 30 days (0: whatever the amount)."""

    known_code = "IMPOSSIBLE_TRAVEL"
    title = "Impossible travel"
    limit_kmh: Number
    at_least_km: Number
    at_least_ratio: Number

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        fast = _of(features, "travel_kmh") > self.limit_kmh
        far = _of(features, "travel_km") >= self.at_least_km
        return fast & far & (_of(features, "amount_ratio") >= self.at_least_ratio)

    def numbers(self, row: Floats) -> Reason:
        return {
            "km": _rounded(row, "travel_km", 1),
            "kmh": _rounded(row, "travel_kmh", 1),
            "limit": self.limit_kmh,
            "ratio": _rounded(row, "amount_ratio", 2),
        }

    @staticmethod
    def words(reason: Mapping[str, Any]) -> str:
        return (
            f"{reason['km']:,.0f} km in the time since the last transaction: {reason['kmh']:,.0f} km/h, "
            f"over {reason['limit']:,.0f}, with {reason['ratio']:,} times the usual amount"
        )


@dataclass(frozen=True, config=_NO_OTHERS)
class NewDeviceHighAmount(Rule):
    """A device that the user never had, and over `limit` times the mean amount of the user's last 30 days,
    which has at least `at_least_history` transactions."""

    known_code = "NEW_DEVICE_HIGH_AMOUNT"
    title = "New device, high amount"
    limit: Number
    at_least_history: Count

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        new = _of(features, "device_new") == 1
        high = _of(features, "amount_ratio") > self.limit
        return new & high & (_of(features, "tx_count_30d") >= self.at_least_history)

    def numbers(self, row: Floats) -> Reason:
        return {
            "ratio": _rounded(row, "amount_ratio", 2),
            "limit": self.limit,
            "amount": _rounded(row, "Amount", 2),
        }

    @staticmethod
    def words(reason: Mapping[str, Any]) -> str:
        return f"New device and {reason['ratio']:,} times the usual amount (limit {reason['limit']:,g})"


@dataclass(frozen=True, config=_NO_OTHERS)
class RiskyMerchant(Rule):
    """At least `at_least_frauds` confirmed frauds at the merchant in 30 days, and their share over `limit`.

    The share is that of `merchant_fraud_share_30d`: smoothed, so a little below the plain one.
    """

    known_code = "RISKY_MERCHANT"
    title = "Risky merchant"
    limit: Share
    at_least_frauds: Count

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        many = _of(features, "merchant_frauds_30d") >= self.at_least_frauds
        return many & (_of(features, "merchant_fraud_share_30d") > self.limit)

    def numbers(self, row: Floats) -> Reason:
        return {
            "frauds": _whole(row, "merchant_frauds_30d"),
            "share": _rounded(row, "merchant_fraud_share_30d", 4),
            "limit": self.limit,
        }

    @staticmethod
    def words(reason: Mapping[str, Any]) -> str:
        frauds = _counted(reason["frauds"], "confirmed fraud")
        return (
            f"Merchant had {frauds} in 30 days (estimated share {reason['share']:.0%}, "
            f"limit {reason['limit']:.0%})"
        )


_REQUIRED = "amount_over"
_KINDS: dict[str, type[Rule]] = {
    _REQUIRED: AmountOver,
    "velocity": Velocity,
    "impossible_travel": ImpossibleTravel,
    "new_device_high_amount": NewDeviceHighAmount,
    "risky_merchant": RiskyMerchant,
}


def _of(features: Floats, name: str) -> Floats:
    """One feature, of many transactions or of one."""
    return features[..., FEATURE_NAMES.index(name)]


def _rounded(row: Floats, name: str, digits: int) -> float:
    return round(float(_of(row, name)), digits)


def _whole(row: Floats, name: str) -> int:
    return int(_of(row, name))


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


@plain_dataclass(frozen=True)
class Rules:
    """The rules that are switched on; columns of `broken` and reasons are in their order."""

    rules: tuple[Rule, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(rule.code for rule in self.rules)

    def broken(self, features: Floats) -> NDArray[np.bool_]:
        """Features of n transactions, shape (n, len(FEATURE_NAMES)) -> shape (n, len(codes))."""
        broken = np.empty((len(features), len(self.rules)), dtype=np.bool_)
        for column, rule in enumerate(self.rules):
            broken[:, column] = rule.broken(features)
        return broken

    def reasons(self, row_features: Floats, broken_row: NDArray[np.bool_]) -> list[Reason]:
        """The reasons of one transaction: its features, and its row of `broken`."""
        return [
            {"code": rule.code, **rule.numbers(row_features)}
            for rule, is_broken in zip(self.rules, broken_row.tolist(), strict=True)
            if is_broken
        ]


def load_rules(path: Path = RULES_FILE) -> Rules:
    """Read the rules, in the order of the file; a rule without an entry is off.

    Raises RulesError naming the entry, or the line, that is missing, unknown or not usable, and what it
    needs.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RulesError(f"{path.name}: not YAML: {error}") from error
    entries = document if isinstance(document, dict) else {}
    if _REQUIRED not in entries:
        raise RulesError(f"{path.name}: {_REQUIRED} is missing; it needs {_needs(AmountOver)}")
    rules = tuple(_rule(path.name, name, values) for name, values in entries.items())
    _check_codes(path.name, dict(zip(entries, rules, strict=True)))
    return Rules(rules)


def _rule(file: str, name: object, values: object) -> Rule:
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise RulesError(f"{file}: {name} is no rule; there are {', '.join(_KINDS)}")
    if not isinstance(values, dict):
        switch_off = "" if name == _REQUIRED else "; to switch the rule off, leave out its name, too"
        raise RulesError(f"{file}: {name} needs {_needs(kind)}{switch_off}")
    unknown = [str(field) for field in values if field not in _descriptions(kind)]
    if unknown:
        raise RulesError(f"{file}: {name} has no {', '.join(unknown)}; it needs {_needs(kind)}")
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise RulesError("\n".join(_problems(f"{file}: {name}", kind, error))) from None


def _problems(entry: str, kind: type[Rule], error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        field = str(problem["loc"][0])
        missing = "is missing: it " if problem["type"] == "missing" else ""
        found = "" if missing else f", not {problem['input']!r}"
        yield f"{entry}.{field} {missing}must be {_descriptions(kind)[field]}{found}"


def _needs(kind: type[Rule]) -> str:
    return " and ".join(f"`{field}` ({description})" for field, description in _descriptions(kind).items())


def _descriptions(kind: type[Rule]) -> dict[str, str]:
    """What each field of an entry must be, by name."""
    fields = kind.__pydantic_fields__  # type: ignore[attr-defined]  # pydantic's decorator adds it
    return {name: field.description for name, field in fields.items()}


def _check_codes(file: str, rules: Mapping[str, Rule]) -> None:
    """A code of another kind of reason would be read with the words of that kind."""
    owners = {MODEL_CODE: "the model", **{kind.known_code: name for name, kind in _KINDS.items()}}
    for name, rule in rules.items():
        owner = owners.setdefault(rule.code, name)
        if owner != name:
            raise RulesError(f"{file}: {name}.code must be its own: {rule.code} is that of {owner}")


def model_reason(score: float, threshold: float, top: Mapping[str, float]) -> Reason:
    """`top` has the features that raised the score most, with what each added to it."""
    largest_first = sorted(top.items(), key=lambda item: -item[1])
    return {
        "code": MODEL_CODE,
        "score": round(score, 4),
        "threshold": round(threshold, 4),
        "top": {name: round(float(added), 4) for name, added in largest_first},
    }


def to_json(reasons: list[Reason]) -> str:
    return orjson.dumps(reasons).decode()


_SPANS = {"5m": "5 minutes", "1h": "1 hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
_RISK_SPANS = {"1d": "1 day", "7d": "7 days", "30d": "30 days"}

# Each feature as a person would name it.
FEATURE_PHRASES: dict[str, str] = {
    "Amount": "the amount",
    "tod_sin": "time of day (morning or evening)",
    "tod_cos": "time of day (midnight or noon)",
    "night": "at night",
    "weekend": "at the weekend",
    "missing_location": "no location",
    **{f"tx_count_{window}": f"transactions in {span}" for window, span in _SPANS.items()},
    **{f"amount_sum_{window}": f"amount spent in {span}" for window, span in _SPANS.items()},
    "avg_amount_24h": "mean amount in 24 hours",
    "amount_zscore": "amount against the usual",
    "amount_ratio": "amount against the user's mean",
    "amount_to_median": "amount against the user's median",
    "amount_deviation": "amount against the usual ones without the high",
    "amount_streak": "high amount after other high ones",
    "high_amounts_7d": "high amounts in 7 days",
    "seconds_since_last": "time since the last transaction",
    "location_changed": "other location than the last",
    "location_new": "new location",
    "travel_km": "distance from the last location",
    "travel_kmh": "speed from the last location",
    "device_switched": "other device than the last",
    "device_new": "new device",
    "merchant_new": "new merchant",
    "history_truncated": "more transactions than are kept",
    **{f"merchant_frauds_{window}": f"merchant's frauds in {span}" for window, span in _RISK_SPANS.items()},
    **{
        f"merchant_fraud_share_{window}": f"merchant's share of fraud in {span}"
        for window, span in _RISK_SPANS.items()
    },
}


def _model_in_words(reason: Mapping[str, Any]) -> str:
    said = f"Model score {reason['score']:.2f}, threshold {reason['threshold']:.2f}"
    # Models of older versions did not say what they saw.
    causes = [FEATURE_PHRASES.get(name, name) for name in reason.get("top", ())]
    return f"{said}, mostly because of: {', '.join(causes)}" if causes else said


_TITLES = {MODEL_CODE: "Model", **{kind.known_code: kind.title for kind in _KINDS.values()}}
_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    MODEL_CODE: _model_in_words,
    **{kind.known_code: kind.words for kind in _KINDS.values()},
}


def in_words(reasons_json: str | None) -> str:
    """The reasons as a person reads them, joined by `; `. A code of a newer version is shown as it is."""
    return "; ".join(each_in_words(reasons_json))


def each_in_words(reasons_json: str | None) -> list[str]:
    """One text for each reason, in their order."""
    return [] if reasons_json is None else [_one_in_words(reason) for reason in orjson.loads(reasons_json)]


def codes(reasons_json: str | None) -> list[str]:
    """The code of each reason, in their order."""
    return [] if reasons_json is None else [str(reason["code"]) for reason in orjson.loads(reasons_json)]


def code_in_words(code: str) -> str:
    """What a code stands for; one of a newer version is shown as it is."""
    return _TITLES.get(code, code)


def _one_in_words(reason: Mapping[str, Any]) -> str:
    words = _WORDS.get(reason["code"])
    return words(reason) if words else str(reason["code"])
