"""Rules and reasons: why a transaction is flagged, as stable codes with the numbers that caused them.

A reason is a flat JSON object such as `{"code": "AMOUNT_OVER_2000", "amount": 2410.0, "limit": 2000.0}`;
a row's `reasons` is a JSON list of them, or NULL when it is not flagged. Pure: no clock, no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import yaml

RULES_FILE = Path(__file__).with_name("rules.yaml")
MODEL_CODE = "MODEL"

Reason = dict[str, Any]


class RulesError(Exception):
    """rules.yaml does not say what the code needs; the text names the entry."""


@dataclass(frozen=True)
class AmountOver:
    """Flags an amount strictly greater than `limit`; compared in whole cents, so 2000.00 is not over 2000."""

    code: str
    limit_cents: int

    def reason(self, amount_cents: int) -> Reason:
        return {"code": self.code, "amount": amount_cents / 100, "limit": self.limit_cents / 100}


@dataclass(frozen=True)
class Rules:
    amount_over: AmountOver


def load_rules(path: Path = RULES_FILE) -> Rules:
    """Read the rules. Raises RulesError naming the entry, or the line, that is missing or not usable."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RulesError(f"{path.name}: not YAML: {error}") from error
    try:
        entry = document["amount_over"]
        code, limit = str(entry["code"]), Decimal(str(entry["limit"]))
    except (KeyError, TypeError, ArithmeticError) as error:
        raise RulesError(f"{path.name}: amount_over needs `code` and a number as `limit`") from error
    if not limit.is_finite() or limit < 0 or limit != round(limit, 2):
        raise RulesError(f"{path.name}: amount_over.limit must be an amount in whole cents, not {limit}")
    return Rules(AmountOver(code, int(limit * 100)))


def model_reason(score: float, threshold: float) -> Reason:
    return {"code": MODEL_CODE, "score": round(score, 4), "threshold": round(threshold, 4)}


def to_json(reasons: list[Reason]) -> str:
    return orjson.dumps(reasons).decode()


def _amount_over_in_words(reason: Mapping[str, Any]) -> str:
    return f"Amount {reason['amount']:,.2f} is over {reason['limit']:,.2f}"


def _model_in_words(reason: Mapping[str, Any]) -> str:
    return f"Model score {reason['score']:.2f}, threshold {reason['threshold']:.2f}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "AMOUNT_OVER_2000": _amount_over_in_words,
    MODEL_CODE: _model_in_words,
}


def in_words(reasons_json: str | None) -> str:
    """The reasons as a person reads them, joined by `; `. A code of a newer version is shown as it is."""
    if reasons_json is None:
        return ""
    return "; ".join(_one_in_words(reason) for reason in orjson.loads(reasons_json))


def _one_in_words(reason: Mapping[str, Any]) -> str:
    words = _WORDS.get(reason["code"])
    return words(reason) if words else str(reason["code"])
