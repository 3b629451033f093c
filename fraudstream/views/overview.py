"""The overview in numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go
from pandas.io.formats.style import Styler

from fraudstream.rules import in_words
from fraudstream.views.figures import GAP_TO_LABELS, layout, named_bars, whole_numbers
from fraudstream.views.palette import Palette
from fraudstream.views.texts import (
    MISSING,
    count,
    local,
    money,
    name_or_missing,
    share,
    share_of,
    short_money,
)

ALL_CITIES = "All cities"
NO_TRANSACTIONS = (
    "**No transactions yet.** Start `data_cleaning.py` and `producer_from_csv.py`, in either order. "
    "This page fills by itself."
)
NO_MATCH = "**No transaction matches the filter.** Choose another city, or untick *Fraud only*."

_TIMELINE_HEIGHT = 260
_STEP_MS: dict[str, float | str] = {"hour": 3_600_000, "day": 86_400_000, "month": "M1"}
_STEP_FORMAT = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True)
class Kpi:
    """One number at the top of the page; `explanation` is shown on demand."""

    label: str
    value: str
    explanation: str


def kpis(*, transactions: int, flagged: int, amount_at_risk: Decimal, locations: int) -> list[Kpi]:
    return [
        Kpi("Total transactions", count(transactions), "Stored transactions that match the filter"),
        Kpi("Frauds", count(flagged), "Those of them that are flagged"),
        Kpi("Fraud rate", share(flagged, transactions), "Frauds divided by total transactions"),
        Kpi(
            "Amount at risk",
            short_money(amount_at_risk),
            f"Sum of the flagged amounts, in the currency of the data: {money(amount_at_risk)}",
        ),
        Kpi("Active locations", count(locations), "Different locations among the transactions"),
    ]


def city_label(city: str | None) -> str:
    """How a city reads in the filter: None is all. A city that is called like one of ours is quoted."""
    if city is None:
        return ALL_CITIES
    return f'"{city}"' if city in (ALL_CITIES, MISSING) else name_or_missing(city)


def period_text(period: tuple[datetime, datetime] | None) -> str:
    if period is None:
        return "no transactions yet"
    return "from {:%Y-%m-%d %H:%M}\nto {:%Y-%m-%d %H:%M}".format(*period)


def filter_text(city: str | None, fraud_only: bool) -> str:
    """What the numbers on the page count."""
    what = "Flagged transactions only" if fraud_only else "All transactions"
    return what if city is None else f"{what}, {city_label(city)}"


def pipeline_text(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{count(number)} {what}" for what, number in counts.items())


def component_texts(components: pd.DataFrame, zone: ZoneInfo) -> list[str]:
    """What each part of the pipeline last said: columns component, state, message, updated_at (UTC)."""
    said = components[["component", "state", "message", "updated_at"]].itertuples(index=False, name=None)
    return [
        f"{component}: {state}\n{message}\n{local(updated_at, zone):%Y-%m-%d %H:%M}"
        for component, state, message, updated_at in said
    ]


def most_flagged_caption(shown: int, groups: int, things: str) -> str:
    """`things` is a plural such as "locations"."""
    number = f"Number and share of flagged, the first {shown} of {count(groups)} {things}"
    return number if shown < groups else "Number and share of flagged transactions"


def feed_table(transactions: pd.DataFrame, palette: Palette) -> Styler:
    """The live feed: Time, Transaction, User, Amount, Location, Device, Merchant, Flagged."""
    table = _readable(transactions)
    table["Flagged"] = (transactions["Is_Fraud"] == "YES").map({True: "flagged", False: ""})
    return table.style.apply(_colour_flagged, axis=1, style=f"background-color: {palette.flagged_row}")


def flagged_table(transactions: pd.DataFrame) -> pd.DataFrame:
    """The last flagged: Time, Transaction, User, Amount, Location, Device, Merchant, Reasons in words."""
    return _readable(transactions).assign(Reasons=[in_words(reasons) for reasons in transactions["reasons"]])


def timeline_figure(frame: pd.DataFrame, step: str, palette: Palette, *, fraud_only: bool) -> go.Figure:
    """Bars of `step` (hour, day, month): flagged ones below, the others on top, so that the height is all.

    `frame` has the columns start, transactions, flagged.
    """
    hover = _timeline_hover(frame, step)
    rest = frame["transactions"] - frame["flagged"]
    series = [("Flagged", frame["flagged"], palette.flagged), ("Not flagged", rest, palette.plain)]
    figure = go.Figure(
        [
            _timeline_bars(name, frame["start"], heights, colour, step, hover)
            for name, heights, colour in series[: 1 if fraud_only else 2]
        ]
    )
    figure.update_layout(
        **layout(_TIMELINE_HEIGHT, palette),
        barmode="stack",
        bargap=0.1,
        hovermode="x",
        showlegend=True,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        uirevision="timeline",
    )
    figure.update_xaxes(type="date", showgrid=False, automargin=True, **GAP_TO_LABELS)
    figure.update_yaxes(
        title={"text": f"Transactions per {step}", "font": {"size": 13}},
        **whole_numbers(frame["transactions"], palette),
    )
    return figure


def most_flagged_figure(frame: pd.DataFrame, palette: Palette) -> go.Figure:
    """Horizontal bars of the flagged transactions; columns name, transactions, flagged; first row on top."""
    texts = [
        f"{count(flagged)} ({share(flagged, transactions)})"
        for flagged, transactions in zip(frame["flagged"], frame["transactions"], strict=True)
    ]
    return named_bars(frame, frame["flagged"].tolist(), texts, palette)


def flagged_share_figure(frame: pd.DataFrame, palette: Palette) -> go.Figure:
    """Horizontal bars of the flagged share; columns as in `most_flagged_figure`."""
    texts = [
        share_of(flagged, transactions)
        for flagged, transactions in zip(frame["flagged"], frame["transactions"], strict=True)
    ]
    return named_bars(frame, (frame["flagged"] / frame["transactions"]).tolist(), texts, palette)


def _readable(transactions: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Time": transactions["Time"].astype("datetime64[s]"),
            "Transaction": transactions["TransactionID"],
            "User": transactions["UserID"],
            "Amount": transactions["Amount"].astype(float),
            **{name: transactions[name].map(name_or_missing) for name in ("Location", "Device", "Merchant")},
        }
    )


def _colour_flagged(row: pd.Series, style: str) -> list[str]:
    return [style if row["Flagged"] else ""] * len(row)


def _timeline_hover(frame: pd.DataFrame, step: str) -> list[str]:
    return [
        f"{start:{_STEP_FORMAT[step]}}<br>{count(transactions)} transactions<br>"
        f"{count(flagged)} flagged ({share(flagged, transactions)})"
        for start, transactions, flagged in frame[["start", "transactions", "flagged"]].itertuples(
            index=False
        )
    ]


def _timeline_bars(
    name: str, starts: pd.Series, heights: pd.Series, colour: str, step: str, hover: Sequence[str]
) -> go.Bar:
    return go.Bar(
        name=name,
        x=starts.dt.strftime("%Y-%m-%d %H:%M").tolist(),
        y=heights.tolist(),
        xperiod=_STEP_MS[step],
        xperiodalignment="middle",
        marker={"color": colour, "line": {"width": 0}},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )
