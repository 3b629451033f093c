"""What the dashboard shows, as text, tables and figures; nothing of Streamlit, SQL or the clock.

Names come from the outside: figures get them escaped (Plotly reads a subset of HTML in labels), tables
hold them as they are. A missing name is None or "" and shown as "(missing)". Times are local time in the
setting TZ, unless said otherwise.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go
from pandas.io.formats.style import Styler

from fraudstream.rules import in_words

MISSING = "(missing)"
ALL_CITIES = "All cities"
NO_VALUE = "–"
NO_TRANSACTIONS = (
    "**No transactions yet.** Start `data_cleaning.py` and `producer_from_csv.py`, in either order. "
    "This page fills by itself."
)
NO_MATCH = "**No transaction matches the filter.** Choose another city, or untick *Fraud only*."

# Blue and vermilion of the palette by Okabe and Ito, which the colour-blind can tell apart.
PLAIN_COLOUR = "#6FA8D3"
FLAGGED_COLOUR = "#D55E00"
_FLAGGED_ROW = "background-color: #FDEBDD"
_GRID_COLOUR = "#E3E8EE"
_TEXT_COLOUR = "#1F2A37"

_LONGEST_LABEL = 16
_LONGEST_SHOWN_EXACTLY = Decimal(10_000_000)
_SCALES = ((Decimal(10) ** 12, "trillion"), (Decimal(10) ** 9, "billion"), (Decimal(10) ** 6, "million"))
_ROOM_FOR_BAR_TEXT = 2.0
_TIMELINE_HEIGHT = 260
_BARS_HEIGHT = 300
_GAP_TO_LABELS = {"ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}
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


def name_or_missing(name: str | None) -> str:
    return name or MISSING


def city_label(city: str | None) -> str:
    """How a city reads in the filter: None is all. A city that is called like one of ours is quoted."""
    if city is None:
        return ALL_CITIES
    return f'"{city}"' if city in (ALL_CITIES, MISSING) else name_or_missing(city)


def period_text(period: tuple[datetime, datetime] | None) -> str:
    if period is None:
        return "no transactions yet"
    return "from {:%Y-%m-%d %H:%M}\nto {:%Y-%m-%d %H:%M}".format(*period)


def shown_of(shown: int, total: int) -> str:
    return f"Showing all {count(total)}" if shown == total else f"Showing {count(shown)} of {count(total)}"


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
        f"{component}: {state}\n{message}\n{_local(updated_at, zone):%Y-%m-%d %H:%M}"
        for component, state, message, updated_at in said
    ]


def most_flagged_caption(shown: int, groups: int, things: str) -> str:
    """`things` is a plural such as "locations"."""
    number = f"Number and share of flagged, the first {shown} of {count(groups)} {things}"
    return number if shown < groups else "Number and share of flagged transactions"


def feed_table(transactions: pd.DataFrame) -> Styler:
    """The live feed: Time, Transaction, User, Amount, Location, Device, Merchant, Flagged."""
    table = _readable(transactions)
    table["Flagged"] = (transactions["Is_Fraud"] == "YES").map({True: "flagged", False: ""})
    return table.style.apply(_colour_flagged, axis=1)


def flagged_table(transactions: pd.DataFrame) -> pd.DataFrame:
    """The last flagged: Time, Transaction, User, Amount, Location, Device, Merchant, Reasons in words."""
    return _readable(transactions).assign(Reasons=[in_words(reasons) for reasons in transactions["reasons"]])


def timeline_figure(frame: pd.DataFrame, step: str, *, fraud_only: bool) -> go.Figure:
    """Bars of `step` (hour, day, month): flagged ones below, the others on top, so that the height is all.

    `frame` has the columns start, transactions, flagged.
    """
    hover = _timeline_hover(frame, step)
    rest = frame["transactions"] - frame["flagged"]
    series = [("Flagged", frame["flagged"], FLAGGED_COLOUR), ("Not flagged", rest, PLAIN_COLOUR)]
    figure = go.Figure(
        [
            _timeline_bars(name, frame["start"], heights, colour, step, hover)
            for name, heights, colour in series[: 1 if fraud_only else 2]
        ]
    )
    figure.update_layout(
        **_layout(_TIMELINE_HEIGHT),
        barmode="stack",
        bargap=0.1,
        hovermode="x",
        showlegend=True,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        uirevision="timeline",
    )
    figure.update_xaxes(type="date", showgrid=False, automargin=True, **_GAP_TO_LABELS)
    figure.update_yaxes(
        title={"text": f"Transactions per {step}", "font": {"size": 13}},
        **_whole_numbers(frame["transactions"]),
    )
    return figure


def most_flagged_figure(frame: pd.DataFrame) -> go.Figure:
    """Horizontal bars of the flagged transactions; columns name, transactions, flagged; first row on top."""
    texts = [
        f"{count(flagged)} ({share(flagged, transactions)})"
        for flagged, transactions in zip(frame["flagged"], frame["transactions"], strict=True)
    ]
    return _named_bars(frame, frame["flagged"].tolist(), texts)


def flagged_share_figure(frame: pd.DataFrame) -> go.Figure:
    """Horizontal bars of the flagged share; columns as in `most_flagged_figure`."""
    texts = [
        share_of(flagged, transactions)
        for flagged, transactions in zip(frame["flagged"], frame["transactions"], strict=True)
    ]
    return _named_bars(frame, (frame["flagged"] / frame["transactions"]).tolist(), texts)


def plotly_text(text: str) -> str:
    """The text as Plotly shows it letter by letter: markup in it stays visible and does nothing."""
    return html.escape(text, quote=False)


def shortened(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _local(utc: datetime, zone: ZoneInfo) -> datetime:
    return utc.replace(tzinfo=UTC).astimezone(zone)


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


def _colour_flagged(row: pd.Series) -> list[str]:
    return [_FLAGGED_ROW if row["Flagged"] else ""] * len(row)


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


def _named_bars(frame: pd.DataFrame, lengths: Sequence[float], texts: Sequence[str]) -> go.Figure:
    """Bars at 0, 1, 2, … with their names as tick texts: equal or date-like names stay bars of their own."""
    names = [name_or_missing(name) for name in frame["name"]]
    positions = list(range(len(names)))
    hover = [
        f"{plotly_text(name)}<br>{count(flagged)} of {count(transactions)} flagged"
        for name, flagged, transactions in zip(names, frame["flagged"], frame["transactions"], strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=lengths,
            y=positions,
            orientation="h",
            text=texts,
            textposition="outside",
            cliponaxis=False,
            marker={"color": FLAGGED_COLOUR},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.update_layout(**_layout(_BARS_HEIGHT), bargap=0.35)
    longest = max([*lengths, 0]) or 1
    figure.update_xaxes(visible=False, range=[0, longest * _ROOM_FOR_BAR_TEXT], fixedrange=True)
    figure.update_yaxes(
        tickvals=positions,
        ticktext=[plotly_text(shortened(name)) for name in names],
        range=[max(len(names), 5) - 0.5, -0.5],
        automargin=True,
        fixedrange=True,
        **_GAP_TO_LABELS,
        showgrid=False,
        zeroline=False,
    )
    return figure


def _layout(height: int) -> dict[str, object]:
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": _TEXT_COLOUR, "size": 13},
        "hoverlabel": {"align": "left", "namelength": -1},
    }


def _whole_numbers(heights: pd.Series) -> dict[str, object]:
    """No ticks at 0.5 transactions where the bars are low."""
    few = len(heights) == 0 or heights.max() < 5
    return {
        "rangemode": "tozero",
        "tickformat": ",d",
        "gridcolor": _GRID_COLOUR,
        "automargin": True,
        **_GAP_TO_LABELS,
        **({"dtick": 1} if few else {}),
    }
