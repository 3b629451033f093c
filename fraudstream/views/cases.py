"""A transaction and a user as text, tables and figures: what was usual before, and what this one is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go

from fraudstream.rules import FEATURE_PHRASES, in_words
from fraudstream.stored import StoredAlert, StoredTransaction
from fraudstream.views.figures import GAP_TO_LABELS, layout
from fraudstream.views.overview import Kpi
from fraudstream.views.palette import Palette
from fraudstream.views.queue import STATES, reasons_text
from fraudstream.views.texts import count, local, name_or_missing, plotly_text, share

MOST_CONTRIBUTIONS = 10
HABIT_ROWS = 12
_HISTORY_HEIGHT = 300
_BAR_PX, _AXIS_PX = 27, 56
_LEAST_SHOWN = 0.0005
_ROOM_FOR_TEXT = 1.35

# What a point of the history is: its shape says it, too, not the colour alone.
KINDS = {
    "Not flagged": ("plain", "circle", 8),
    "Flagged": ("flagged", "diamond", 10),
    "Confirmed fraud": ("confirmed", "x", 10),
    "Legitimate": ("legitimate", "circle-open", 10),
}


def history_figure(history: pd.DataFrame, palette: Palette, *, marked: str | None = None) -> go.Figure:
    """Amounts over time, each transaction by what it is; the one called `marked` has a ring and a line.

    `history` has the columns of reads.cases.History.
    """
    kinds = point_kinds(history)
    figure = go.Figure(
        [
            _points(history[kinds == name], name, getattr(palette, colour), symbol, size)
            for name, (colour, symbol, size) in KINDS.items()
            if (kinds == name).any()
        ]
    )
    this = history[history["TransactionID"] == marked]
    if len(this):
        figure.add_vline(
            x=f"{this['Time'].iloc[0]:%Y-%m-%d %H:%M:%S}",
            line={"color": palette.muted, "width": 1, "dash": "dot"},
        )
        figure.add_trace(_points(this, "This transaction", palette.text, "circle-open", 20, width=2.5))
    figure.update_layout(
        **layout(_HISTORY_HEIGHT, palette),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        uirevision=marked,
    )
    figure.update_xaxes(type="date", gridcolor=palette.grid, automargin=True, **GAP_TO_LABELS)
    figure.update_yaxes(
        title={"text": "Amount", "font": {"size": 13}},
        rangemode="tozero",
        gridcolor=palette.grid,
        automargin=True,
        **GAP_TO_LABELS,
    )
    return figure


def point_kinds(history: pd.DataFrame) -> pd.Series:
    """For each row a key of KINDS: the outcome where it is known, else the verdict."""
    verdict = (history["Is_Fraud"] == "YES").map({True: "Flagged", False: "Not flagged"})
    known = history["state"].map({"fraud": "Confirmed fraud", "legitimate": "Legitimate"})
    return known.fillna(verdict).astype(object)


def history_table(history: pd.DataFrame) -> pd.DataFrame:
    """The history as text for who does not see the figure, the newest first."""
    newest_first = history.iloc[::-1]
    return pd.DataFrame(
        {
            "Time": newest_first["Time"].astype("datetime64[s]"),
            "Transaction": newest_first["TransactionID"],
            "Amount": newest_first["Amount"].astype(float),
            **{name: newest_first[name].map(name_or_missing) for name in ("Location", "Device", "Merchant")},
            "Score": newest_first["score"].astype(float),
            "Is": point_kinds(newest_first),
        }
    )


def alerts_table(alerts: pd.DataFrame) -> pd.DataFrame:
    """Columns Time, Transaction, Amount, Outcome, Reasons."""
    return pd.DataFrame(
        {
            "Time": alerts["Time"].astype("datetime64[s]"),
            "Transaction": alerts["TransactionID"],
            "Amount": alerts["Amount"].astype(float),
            "Outcome": alerts["state"].map(STATES),
            "Reasons": [in_words(reasons) for reasons in alerts["reasons"]],
        }
    )


def habits(
    before: pd.DataFrame, column: str, *, this: str | None = None, marked: bool = False
) -> pd.DataFrame:
    """The names in a column with how often and when last, the most frequent first.

    With `marked`, the column Here says which is this transaction's, which comes first, and whether it is new.
    """
    own = name_or_missing(this)
    found = before.assign(name=before[column].map(name_or_missing)).groupby("name")["Time"]
    times = {str(name): int(number) for name, number in found.size().items()}
    last = {str(name): time for name, time in found.max().items()}
    names = sorted({*times, own} if marked else times, key=lambda name: (-times.get(name, 0), name))
    if marked:
        names.sort(key=lambda name: name != own)
    names = names[:HABIT_ROWS]
    table = pd.DataFrame(
        {
            column: pd.Series(names, dtype=object),
            "Times": pd.Series([times.get(name, 0) for name in names], dtype="int64"),
            "Last": pd.Series([last.get(name) for name in names], dtype="datetime64[s]"),
        }
    )
    if marked:
        here = {own: "yes" if own in times else "new"}
        table.insert(1, "Here", pd.Series([here.get(name, "") for name in names], dtype=object))
    return table


def before_it(history: pd.DataFrame, time: datetime) -> pd.DataFrame:
    return history[history["Time"] < time]


def habit_text(before: pd.DataFrame, amount: float, *, cut: bool) -> str:
    """How this amount compares with those of before; where these are `cut`, of how many that is said."""
    if before.empty:
        return "No transaction of this user in the 30 days before."
    amounts = before["Amount"].astype(float)
    which = f"{count(len(before))} transactions in the 30 days before"
    compared = f"median amount {amounts.median():,.2f}, highest {amounts.max():,.2f}; this one {amount:,.2f}"
    if cut:
        return f"The last {which}, {compared}. Earlier ones do not count here."
    return f"{which}, {compared}"


def habits_text(history: pd.DataFrame, *, cut: bool) -> str:
    """Of which transactions a user's habits are."""
    last = "the last " if cut else "all "
    return f"Of {last}{count(len(history))} transactions in the 30 days up to the user's last one"


def cut_alerts_text(shown: int) -> str:
    return f"The last {count(shown)}; there are more"


def contributions(values: Sequence[float], features: Sequence[float], names: Sequence[str]) -> pd.DataFrame:
    """Columns Feature (in words), Value, Adds to the score: those that do, the largest effects first."""
    table = pd.DataFrame(
        {
            "Feature": [FEATURE_PHRASES.get(name, name) for name in names],
            "Value": [feature_text(value) for value in features],
            "Adds to the score": [float(value) for value in values],
        }
    )
    size = table["Adds to the score"].abs()
    largest = size[size >= _LEAST_SHOWN].sort_values(ascending=False, kind="stable").head(MOST_CONTRIBUTIONS)
    return table.loc[largest.index]


def features_table(features: Sequence[float], names: Sequence[str]) -> pd.DataFrame:
    """Columns Feature (in words), Name, Value."""
    return pd.DataFrame(
        {
            "Feature": [FEATURE_PHRASES.get(name, name) for name in names],
            "Value": [feature_text(value) for value in features],
            "Name": list(names),
        }
    )


def feature_text(value: float) -> str:
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.2f}"


def contributions_figure(table: pd.DataFrame, palette: Palette) -> go.Figure:
    """Horizontal bars, to the right what raises the score; columns as of `contributions`."""
    added = table["Adds to the score"]
    labels = [
        f"{plotly_text(feature)}: {value}"
        for feature, value in zip(table["Feature"], table["Value"], strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=added.tolist(),
            y=list(range(len(table))),
            orientation="h",
            text=[f"{value:+.3f}" for value in added],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [palette.flagged if value > 0 else palette.plain for value in added]},
            customdata=labels,
            hovertemplate="%{customdata}<br>%{x:+.4f}<extra></extra>",
        )
    )
    figure.update_layout(**layout(_AXIS_PX + _BAR_PX * max(len(table), 1), palette), bargap=0.35)
    reach = max(added.abs().max(), _LEAST_SHOWN) * _ROOM_FOR_TEXT if len(table) else 1
    figure.update_xaxes(
        range=[min(added.min(), 0) * _ROOM_FOR_TEXT - 0.12 * reach * (added.min() < 0), reach],
        zeroline=True,
        zerolinecolor=palette.muted,
        gridcolor=palette.grid,
        fixedrange=True,
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=list(range(len(table))),
        ticktext=labels,
        range=[len(table) - 0.5, -0.5],
        automargin=True,
        fixedrange=True,
        showgrid=False,
        zeroline=False,
        **GAP_TO_LABELS,
    )
    return figure


def facts_text(this: StoredTransaction, tz: str) -> str:
    """All fields of the transaction, and the verdict; `tz` is the setting TZ."""
    return "\n".join(
        [
            f"Transaction {this.transaction_id}",
            f"{this.time:%Y-%m-%d %H:%M:%S} ({tz})",
            f"User {this.user_id}",
            f"Location {name_or_missing(this.location)}",
            f"Device {name_or_missing(this.device)}",
            f"Merchant {name_or_missing(this.merchant)}",
        ]
    )


def verdict_text(this: StoredTransaction) -> str:
    """The reasons with their numbers, the score, and who gave it."""
    judge = f"model {this.model_version}" if this.model_version else "the rules alone, without a model"
    return f"{reasons_text(this.reasons)}\n\nScore {this.score:.4f}, judged by {judge}"


def origin_text(this: StoredTransaction, alert: StoredAlert | None, zone: ZoneInfo) -> str:
    """The record's place in Kafka, when it came, and what became of its alert."""
    return "\n".join(
        [
            f"Kafka partition {this.partition_id}, offset {this.offset}, topic id {this.topic_id}",
            f"Produced {_at(this.kafka_time, zone)}",
            f"Stored {_at(this.processed_at, zone)}",
            _mail_text(alert, zone),
        ]
    )


def _mail_text(alert: StoredAlert | None, zone: ZoneInfo) -> str:
    if alert is None:
        return "No alert: it is not flagged"
    if alert.mail == "sent" and alert.sent_at:
        return f"Mailed {_at(alert.sent_at, zone)}"
    return {
        None: "Its alert waits to be mailed",
        "sending": "Its mail is being sent",
        "failed": "Its mail was refused: see the Pipeline page",
    }.get(alert.mail, f"Its mail is {alert.mail}")


def _at(utc: datetime, zone: ZoneInfo) -> str:
    return f"{local(utc, zone):%Y-%m-%d %H:%M:%S} ({zone.key})"


def history_text(history: pd.DataFrame, until: datetime, *, cut: bool, cut_after: bool = False) -> str:
    """What the figure shows: how many transactions of which period, and which of them where it is cut."""
    which = {
        (False, False): "",
        (True, False): "The last ",
        (False, True): "The first ",
        (True, True): "The nearest ",
    }[cut, cut_after]
    last = max([until, *history["Time"].tail(1).tolist()])
    first = history["Time"].min() if cut and len(history) else until - timedelta(days=30)
    return f"{which}{count(len(history))} transactions from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def contributions_text(score: float, shown: int) -> str:
    if shown == 0:
        return f"No feature alone moves the score of {score:.4f}."
    return (
        f"The score is {score:.4f}. A bar shows by how much a feature alone moves it, from what is usual "
        "to what it is here; bars need not add up to the score."
    )


def user_text(user_id: str, first: datetime, last: datetime, tz: str) -> str:
    return (
        f"User {user_id}\n"
        f"All stored transactions are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} ({tz})"
    )


def user_kpis(*, transactions: int, flagged: int, history: pd.DataFrame, cut: bool) -> list[Kpi]:
    """`transactions` and `flagged` are of all time, `history` is of the last 30 days."""
    amounts = history["Amount"].astype(float)
    confirmed = int((history["state"] == "fraud").sum())
    number = count(len(history))
    recent = f"{number}{' and more' if cut else ''}"
    covered = f"last {number}" if cut else "30 days"
    among = f"among the last {number} transactions" if cut else "in these days"
    return [
        Kpi("Transactions, all time", count(transactions), "Stored transactions of this user"),
        Kpi(
            "Flagged, all time",
            f"{count(flagged)} ({share(flagged, transactions)})",
            "Those of them that are flagged",
        ),
        Kpi("Last 30 days", recent, "Transactions in the 30 days up to the user's last one"),
        Kpi(
            f"Confirmed, {covered}",
            count(confirmed),
            f"Confirmed frauds {among}; the median amount of all of these is {amounts.median():,.2f}",
        ),
    ]


def _points(
    rows: pd.DataFrame, name: str, colour: str, symbol: str, size: int, *, width: float = 1.5
) -> go.Scatter:
    names = ("Location", "Device", "Merchant", "TransactionID")
    texts = rows[list(names)].map(lambda each: plotly_text(name_or_missing(each)))
    times = rows["Time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    amounts = rows["Amount"].astype(float)
    hover = times + "<br>" + amounts.map("{:,.2f}".format) + "<br>" + texts.agg("<br>".join, axis=1)
    return go.Scatter(
        name=name,
        mode="markers",
        x=times.tolist(),
        y=amounts.tolist(),
        marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": width}},
        customdata=hover.tolist(),
        hovertemplate="%{customdata}<extra></extra>",
    )
