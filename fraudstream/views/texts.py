"""Numbers, names, times and periods as a person reads them."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

MISSING = "(missing)"
NO_VALUE = "–"

_LONGEST_LABEL = 16
_LONGEST_SHOWN_EXACTLY = Decimal(10_000_000)
_SCALES = ((Decimal(10) ** 12, "trillion"), (Decimal(10) ** 9, "billion"), (Decimal(10) ** 6, "million"))


def count(number: int) -> str:
    return f"{number:,}"


def money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def short_money(amount: Decimal) -> str:
    """Exact up to ten million, then in millions, billions or trillions with two decimals, cut not rounded."""
    if abs(amount) < _LONGEST_SHOWN_EXACTLY:
        return money(amount)
    unit, name = next((unit, name) for unit, name in _SCALES if abs(amount) >= unit)
    return f"{int(amount / unit * 100) / 100:,.2f} {name}"


def share(part: int, whole: int) -> str:
    """A percentage with one decimal; what is not 0 or all never reads as 0% or 100%; of nothing: a dash."""
    if whole == 0:
        return NO_VALUE
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%"


def share_of(part: int, whole: int) -> str:
    return f"{share(part, whole)} of {count(whole)}"


def flagged_of(part: int, whole: int) -> str:
    return f"{count(part)} of {count(whole)} flagged ({share(part, whole)})"


def name_or_missing(name: str | None) -> str:
    return name or MISSING


def filter_label(name: str | None, everything: str) -> str:
    """How a name reads in a filter: None is `everything`. A name that reads like one of ours is quoted."""
    if name is None:
        return everything
    return f'"{name}"' if name in (everything, MISSING) else name_or_missing(name)


def shown_of(shown: int, total: int) -> str:
    return f"Showing all {count(total)}" if shown == total else f"Showing {count(shown)} of {count(total)}"


def plotly_text(text: str) -> str:
    """The text as Plotly shows it letter by letter: markup in it stays visible and does nothing."""
    return html.escape(text, quote=False)


def shortened(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def local(utc: datetime, zone: ZoneInfo) -> datetime:
    return utc.replace(tzinfo=UTC).astimezone(zone)
