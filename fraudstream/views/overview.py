"""The overview in numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go
from pandas.io.formats.style import Styler
from plotly.subplots import make_subplots

from fraudstream.periods import Period
from fraudstream.rules import in_words
from fraudstream.views.figures import GAP_TO_LABELS, layout, named_bars, whole_numbers
from fraudstream.views.palette import Palette
from fraudstream.views.texts import (
    count,
    flagged_of,
    local,
    money,
    name_or_missing,
    share,
    share_of,
    short_money,
)

NO_TRANSACTIONS = (
    "**No transactions yet.** Start `data_cleaning.py` and `producer_from_csv.py`, in either order. "
    "This page fills by itself."
)
NO_MATCH = (
    "**No transaction matches the filter.** Choose another period or other names, or untick *Fraud only*."
)
UNCHANGED = "unchanged"
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_TIMELINE_HEIGHT = 380
_HEAT_HEIGHT = 260
_STEP_MS: dict[str, float | str] = {"hour": 3_600_000, "day": 86_400_000, "month": "M1"}
_STEP_FORMAT = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}

Mood = Literal["neutral", "worse", "better"]


@dataclass(frozen=True)
class Kpi:
    """One number at the top of the page; `explanation` is shown on demand.

    `change` is against the period before, None where there is nothing to compare with; more frauds, a greater
    share or amount of them are worse, fewer are better.
    """

    label: str
    value: str
    explanation: str
    change: str | None = None
    mood: Mood = "neutral"


class Counts(Protocol):
    """What the numbers at the top are made of, of one period."""

    @property
    def transactions(self) -> int: ...
    @property
    def flagged(self) -> int: ...
    @property
    def amount_at_risk(self) -> Decimal: ...
    @property
    def locations(self) -> int: ...
    @property
    def judged(self) -> int: ...


def kpis(now: Counts, before: Counts | None) -> list[Kpi]:
    """The numbers of a period, and how they differ from those of the period before."""
    then = before or now
    compared = before is not None
    return [
        Kpi(
            "Total transactions",
            count(now.transactions),
            "Stored transactions of the period that match the filter",
            _relative_change(now.transactions, then.transactions) if compared else None,
        ),
        Kpi(
            "Frauds",
            count(now.flagged),
            "Those of them that are flagged",
            _relative_change(now.flagged, then.flagged) if compared else None,
            _mood(now.flagged, then.flagged),
        ),
        Kpi(
            "Fraud rate",
            share(now.flagged, now.judged),
            "Frauds divided by all transactions, flagged or not; the change is in percentage points",
            _change_of_share(now, then) if compared else None,
            _mood(round(_ratio(now), 4), round(_ratio(then), 4)),
        ),
        Kpi(
            "Amount at risk",
            short_money(now.amount_at_risk),
            f"Sum of the flagged amounts, in the currency of the data: {money(now.amount_at_risk)}",
            _relative_change(now.amount_at_risk, then.amount_at_risk) if compared else None,
            _mood(now.amount_at_risk, then.amount_at_risk),
        ),
        Kpi(
            "Active locations",
            count(now.locations),
            "Different locations among the transactions",
            _difference(now.locations, then.locations) if compared else None,
        ),
    ]


def period_caption(period: Period, tz: str) -> str:
    """Which transactions were counted: `2026-03-01 12:00 to 2026-03-04 12:00, Africa/Cairo`."""
    return f"{period.start:%Y-%m-%d %H:%M} to {period.end:%Y-%m-%d %H:%M}, {tz}"


def compared_with(period: Period) -> str:
    """What a change is against: a period as long, just before."""
    hours = round(period.length.total_seconds() / 3600)
    length = f"{hours // 24} days" if hours % 24 == 0 and hours > 24 else f"{hours} hours"
    return "against the hour before" if hours == 1 else f"against the {length} before"


def places_caption(names: int, on_map: int) -> str:
    """How many of the named locations the map can show."""
    return (
        "Most flagged first"
        if names == on_map
        else f"Most flagged first; {names - on_map} without a known place"
    )


def filter_text(names: Mapping[str, str], fraud_only: bool) -> str:
    """What the numbers on the page count; `names` are the chosen ones by column, "" is missing."""
    what = "Flagged transactions only" if fraud_only else "All transactions"
    return ", ".join([what, *(f"{column} {name_or_missing(name)}" for column, name in names.items())])


def period_text(extent: tuple[datetime, datetime] | None) -> str:
    if extent is None:
        return "no transactions yet"
    return "from {:%Y-%m-%d %H:%M}\nto {:%Y-%m-%d %H:%M}".format(*extent)


def pipeline_text(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{count(number)} {what}" for what, number in counts.items())


def component_texts(components: pd.DataFrame, zone: ZoneInfo) -> list[str]:
    """What each part of the pipeline last said: columns component, state, message, updated_at (UTC)."""
    said = components[["component", "state", "message", "updated_at"]].itertuples(index=False, name=None)
    return [
        f"{component}: {state}\n{message}\n{local(updated_at, zone):%Y-%m-%d %H:%M}"
        for component, state, message, updated_at in said
    ]


def most_flagged(counted: pd.DataFrame, rows: int) -> pd.DataFrame:
    """The names with the most flagged transactions, of those with any; columns as counted."""
    flagged = counted[counted["flagged"] > 0]
    order = flagged.sort_values(["flagged", "transactions", "name"], ascending=[False, False, True])
    return order.head(rows)


def riskiest(counted: pd.DataFrame, rows: int, least_transactions: int) -> pd.DataFrame:
    """The names with the greatest flagged share, of those with enough transactions and any flagged."""
    enough = counted[
        (counted["transactions"] >= least_transactions) & (counted["flagged"] > 0) & (counted["name"] != "")
    ]
    order = enough.assign(share=enough["flagged"] / enough["transactions"]).sort_values(
        ["share", "flagged", "name"], ascending=[False, False, True]
    )
    return order.drop(columns="share").head(rows)


def costliest(counted: pd.DataFrame, rows: int) -> pd.DataFrame:
    """The names with the greatest flagged amount, of those with any."""
    flagged = counted[(counted["flagged"] > 0) & (counted["name"] != "")]
    return flagged.sort_values(["amount_at_risk", "name"], ascending=[False, True]).head(rows)


def names_table(counted: pd.DataFrame, what: str) -> pd.DataFrame:
    """The numbers behind a figure: name (column `what`), transactions, flagged, their share and amount."""
    shares = [
        share(part, whole) for part, whole in zip(counted["flagged"], counted["transactions"], strict=True)
    ]
    return pd.DataFrame(
        {
            what: counted["name"].map(name_or_missing).astype("object"),
            "Transactions": counted["transactions"],
            "Flagged": counted["flagged"],
            "Share": shares,
            "Amount at risk": [money(amount) for amount in counted["amount_at_risk"]],
        }
    )


def timeline_table(frame: pd.DataFrame, step: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            step.capitalize(): [f"{start:{_STEP_FORMAT[step]}}" for start in frame["start"]],
            "Transactions": frame["transactions"],
            "Flagged": frame["flagged"],
            "Share": _shares(frame),
        }
    )


def weekday_hour_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Flagged transactions: a row for each hour, a column for each weekday."""
    grid = _grid(frame, "flagged")
    return pd.DataFrame(
        {"Hour": [f"{hour:02}:00" for hour in range(24)], **dict(zip(WEEKDAYS, grid, strict=True))}
    )


def feed_table(transactions: pd.DataFrame, palette: Palette) -> Styler:
    """The live feed: Time, Transaction, User, Amount, Location, Device, Merchant, Flagged, Why."""
    table = pd.DataFrame(
        {
            "Time": transactions["Time"].astype("datetime64[s]"),
            "Transaction": transactions["TransactionID"],
            "User": transactions["UserID"],
            "Amount": transactions["Amount"].astype(float),
            **{name: transactions[name].map(name_or_missing) for name in ("Location", "Device", "Merchant")},
            "Flagged": (transactions["Is_Fraud"] == "YES").map({True: "flagged", False: ""}),
            "Why": [in_words(reasons) for reasons in transactions["reasons"]],
        }
    )
    return table.style.apply(_colour_flagged, axis=1, style=f"background-color: {palette.flagged_row}")


def timeline_figure(
    frame: pd.DataFrame, step: str, shown: Period, period: Period, palette: Palette, *, fraud_only: bool
) -> go.Figure:
    """Above, bars of `step` (hour, day, month): flagged ones below, the others on top, so that the height is
    all. Below, the flagged share of each. What of `shown` is before `period` is shaded.

    `frame` has the columns start, transactions, flagged.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.09)
    hover = _timeline_hover(frame, step)
    starts = frame["start"].dt.strftime("%Y-%m-%d %H:%M").tolist()
    common = {
        "x": starts,
        "xperiod": _STEP_MS[step],
        "xperiodalignment": "middle",
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    rest = frame["transactions"] - frame["flagged"]
    series = [("Flagged", frame["flagged"], palette.flagged), ("Not flagged", rest, palette.plain)]
    for name, heights, colour in series[: 1 if fraud_only else 2]:
        marker = {"color": colour, "line": {"width": 0}}
        figure.add_trace(go.Bar(name=name, y=heights.tolist(), marker=marker, **common), row=1, col=1)
    ratios = (100 * frame["flagged"] / frame["transactions"]).tolist()
    line = go.Scatter(
        name="Flagged share",
        y=ratios,
        mode="lines+markers" if len(ratios) < 60 else "lines",
        line={"color": palette.flagged, "width": 2},
        marker={"size": 5},
        showlegend=False,
        **common,
    )
    figure.add_trace(line, row=2, col=1)
    figure.update_layout(
        **layout(_TIMELINE_HEIGHT, palette),
        barmode="stack",
        bargap=0.1,
        hovermode="x",
        showlegend=True,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        uirevision="timeline",
    )
    figure.update_xaxes(
        type="date", showgrid=False, automargin=True, range=[shown.start, shown.end], **GAP_TO_LABELS
    )
    figure.update_yaxes(
        title={"text": f"Per {step}", "font": {"size": 13}},
        **whole_numbers(frame["flagged" if fraud_only else "transactions"], palette),
        row=1,
        col=1,
    )
    figure.update_yaxes(
        title={"text": "Flagged share", "font": {"size": 13}},
        ticksuffix=" %",
        rangemode="tozero",
        gridcolor=palette.grid,
        zeroline=False,
        automargin=True,
        nticks=4,
        **GAP_TO_LABELS,
        row=2,
        col=1,
    )
    if shown.start < period.start:
        figure.add_vrect(
            x0=shown.start,
            x1=period.start,
            fillcolor=palette.muted,
            opacity=0.14,
            line_width=0,
            row="all",
            col=1,
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


def flagged_amount_figure(frame: pd.DataFrame, palette: Palette) -> go.Figure:
    """Horizontal bars of the flagged amounts; columns also amount_at_risk."""
    amounts = frame["amount_at_risk"].tolist()
    return named_bars(
        frame, [float(amount) for amount in amounts], [short_money(each) for each in amounts], palette
    )


def weekday_hour_figure(frame: pd.DataFrame, palette: Palette) -> go.Figure:
    """Flagged transactions by weekday and hour: the more, the stronger the colour; nothing where there are no
    transactions. Columns weekday (0 is Monday), hour, transactions, flagged."""
    transactions, flagged = _grid(frame, "transactions"), _grid(frame, "flagged")
    hover = [
        [
            f"{weekday} {hour:02}:00 to {hour + 1:02}:00<br>{flagged_of(part, whole)}"
            for hour, (part, whole) in enumerate(zip(parts, wholes, strict=True))
        ]
        for weekday, parts, wholes in zip(WEEKDAYS, flagged, transactions, strict=True)
    ]
    seen = [
        [part if whole else None for part, whole in zip(parts, wholes, strict=True)]
        for parts, wholes in zip(flagged, transactions, strict=True)
    ]
    steps = len(palette.scale) - 1
    figure = go.Figure(
        go.Heatmap(
            z=seen,
            x=list(range(24)),
            y=list(range(7)),
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=[[step / steps, colour] for step, colour in enumerate(palette.scale)],
            zmin=0,
            zmax=max(1, *(max(row) for row in flagged)),
            xgap=2,
            ygap=2,
            colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": ",d", "nticks": 4, "len": 1},
        )
    )
    figure.update_layout(**layout(_HEAT_HEIGHT, palette))
    hours = list(range(0, 24, 3))
    figure.update_xaxes(
        tickvals=hours,
        ticktext=[f"{hour:02}:00" for hour in hours],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=list(range(7)),
        ticktext=[weekday[:3] for weekday in WEEKDAYS],
        autorange="reversed",
        automargin=True,
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        **GAP_TO_LABELS,
    )
    return figure


def _relative_change(now: int | Decimal, before: int | Decimal) -> str:
    """In percent; from nothing to something there is no ratio."""
    if now == before:
        return UNCHANGED
    if before == 0:
        return f"+{now:,}" if isinstance(now, int) else f"+{short_money(now)}"
    percent = float(100 * (now - before) / before)
    return ">+999%" if percent > 999 else f"{percent:+.1f}%"


def _change_of_share(now: Counts, before: Counts) -> str | None:
    if not now.transactions or not before.transactions:
        return None
    points = round(100 * (round(_ratio(now), 4) - round(_ratio(before), 4)), 2)
    return f"{points:+.2f} pp" if points else UNCHANGED


def _difference(now: int, before: int) -> str:
    return f"{now - before:+,}" if now != before else UNCHANGED


def _ratio(counts: Counts) -> float:
    return counts.flagged / counts.judged if counts.judged else 0.0


def _mood(now: float | Decimal, before: float | Decimal) -> Mood:
    if now == before:
        return "neutral"
    return "worse" if now > before else "better"


def _shares(frame: pd.DataFrame) -> list[str]:
    return [share(part, whole) for part, whole in zip(frame["flagged"], frame["transactions"], strict=True)]


def _grid(frame: pd.DataFrame, column: str) -> list[list[int]]:
    """Seven rows of 24 numbers, 0 where the frame has none."""
    grid = [[0] * 24 for _ in WEEKDAYS]
    for weekday, hour, number in frame[["weekday", "hour", column]].itertuples(index=False):
        grid[weekday][hour] = int(number)
    return grid


def _colour_flagged(row: pd.Series, style: str) -> list[str]:
    return [style if row["Flagged"] else ""] * len(row)


def _timeline_hover(frame: pd.DataFrame, step: str) -> Sequence[str]:
    return [
        f"{start:{_STEP_FORMAT[step]}}<br>{count(transactions)} transactions<br>"
        f"{count(flagged)} flagged ({share(flagged, transactions)})"
        for start, transactions, flagged in frame[["start", "transactions", "flagged"]].itertuples(
            index=False
        )
    ]
