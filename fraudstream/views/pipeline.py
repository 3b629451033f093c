"""How the pipeline is, in numbers, tables and figures. Instants come in as UTC and are shown locally."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go

from fraudstream.views.figures import GAP_TO_LABELS, layout, whole_numbers
from fraudstream.views.overview import Kpi
from fraudstream.views.palette import Palette
from fraudstream.views.texts import count, local, plotly_text

NO_BATCHES = "**No batch has been committed yet**, or all are older than seven days, for which they are kept."

Ends = tuple[datetime, datetime]
"""The first and the last moment that a figure shows, UTC."""

_HEIGHT = 250
_MOST_IN_A_LEGEND = 8
_TIME = "%Y-%m-%d %H:%M:%S"


def job_text(
    running: bool,
    holder: str | None,
    seen_at: datetime | None,
    now: datetime,
    zone: ZoneInfo,
    *,
    in_trouble: bool = False,
) -> str:
    """Whether the job runs; `holder` is host:pid:token, of which the token says nothing to a person.

    Where it is `in_trouble`, a start alone may not help.
    """
    if holder is None or seen_at is None:
        never = "The job has never run on this database."
        return never if in_trouble else f"{never} Start data_cleaning.py."
    who = " ".join(("host", *holder.rsplit(":", 2)[:1], "process", *holder.rsplit(":", 2)[1:2]))
    if running:
        return f"The job is running: {who}."
    away = _duration(now - seen_at)
    down = (
        f"The job is down: {who} was last seen {away} ago, at {local(seen_at, zone):{_TIME}} ({zone.key}). "
        "The numbers below are what it left."
    )
    return down if in_trouble else f"{down} Start data_cleaning.py: it goes on where it was."


def trouble_text(message: str, said_at: datetime, zone: ZoneInfo) -> str:
    """What the job itself says of its trouble, word for word: the text tells what to do."""
    return f"What it last said, at {local(said_at, zone):{_TIME}} ({zone.key}): {message}"


def window_caption(until: datetime, window: timedelta, zone: ZoneInfo) -> str:
    """`2026-03-01 11:00 to 12:00, Africa/Cairo`."""
    first, last = local(until - window, zone), local(until, zone)
    end = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M} to {end}, {zone.key}"


def kpis(
    *,
    rows: int,
    window: timedelta,
    lag: int | None,
    p95_ms: float | None,
    rejected: int,
    waiting: int,
    failed: int,
) -> list[Kpi]:
    return [
        Kpi(
            "Rows per second",
            rate(rows / window.total_seconds()),
            "Mean over the period: stored, duplicate or rejected",
        ),
        Kpi(
            "Lag",
            "–" if lag is None else count(lag),
            "Records that Kafka still held when the newest batch was committed",
        ),
        Kpi("Latency p95", milliseconds(p95_ms), "Produced to committed, in the newest step of the period"),
        Kpi("Dead letters", count(rejected), "Of all time"),
        Kpi("Alerts waiting", count(waiting), "For a mail, now"),
        Kpi(
            "Mails failed",
            count(failed),
            "Refused for good, now; python -m fraudstream alerts retry sends them again",
        ),
    ]


def instant(utc: datetime, zone: ZoneInfo) -> str:
    return f"{local(utc, zone):{_TIME}}"


def rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def milliseconds(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:,.0f} ms" if ms < 10_000 else _duration(timedelta(milliseconds=ms))


def rows_figure(
    frame: pd.DataFrame, ends: Ends, step: timedelta, palette: Palette, zone: ZoneInfo
) -> go.Figure:
    """Rows per second in each step; columns start (UTC), rows, stored, flagged, batches."""
    seconds = step.total_seconds()
    hover = [
        f"{local(start, zone):{_TIME}}<br>{rate(rows / seconds)} rows/s<br>"
        f"{count(rows)} rows in {count(batches)} batches"
        for start, rows, batches in frame[["start", "rows", "batches"]].itertuples(index=False)
    ]
    figure = go.Figure(
        go.Bar(
            x=_local_times(frame["start"], zone),
            y=(frame["rows"] / seconds).tolist(),
            width=seconds * 1000,
            offset=0,
            marker={"color": palette.plain, "line": {"width": 0}},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    return _over_time(figure, ends, palette, zone, "Rows per second")


def lag_figure(lag: pd.DataFrame, ends: Ends, palette: Palette, zone: ZoneInfo) -> go.Figure:
    """Lag of each partition at the end of each step, on top of each other; columns start, partition, lag."""
    figure = go.Figure()
    for number, (partition, of_one) in enumerate(lag.groupby("partition")):
        figure.add_scatter(
            name=f"Partition {partition}",
            x=_local_times(of_one["start"], zone),
            y=of_one["lag"].tolist(),
            stackgroup="lag",
            mode="lines+markers",
            marker={"size": 3},
            line={"color": palette.series[number % len(palette.series)], "width": 1},
            hovertemplate=f"Partition {partition}: %{{y:,d}}<extra></extra>",
        )
    figure = _over_time(figure, ends, palette, zone, "Records behind")
    totals = lag.groupby("start")["lag"].sum() if len(lag) else pd.Series([0])
    figure.update_yaxes(**whole_numbers(totals, palette))
    figure.update_layout(showlegend=1 < len(figure.data) <= _MOST_IN_A_LEGEND)
    return figure


def stages_figure(
    stages: pd.DataFrame, ends: Ends, step: timedelta, palette: Palette, zone: ZoneInfo
) -> go.Figure:
    """What a batch takes, by stage, on top of each other; columns start, stage, ms."""
    figure = go.Figure()
    for number, (stage, of_one) in enumerate(stages.groupby("stage", sort=False)):
        name = plotly_text(str(stage))
        figure.add_bar(
            name=name,
            x=_local_times(of_one["start"], zone),
            y=of_one["ms"].tolist(),
            width=step.total_seconds() * 1000,
            offset=0,
            marker={"color": palette.series[number % len(palette.series)], "line": {"width": 0}},
            hovertemplate=f"{name}: %{{y:,.0f}} ms<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    return _over_time(figure, ends, palette, zone, "ms per batch")


def latency_figure(latency: pd.DataFrame, ends: Ends, palette: Palette, zone: ZoneInfo) -> go.Figure:
    """Produced to committed; columns start, p50, p95, p99 in ms."""
    figure = go.Figure()
    for number, name in enumerate(("p50", "p95", "p99")):
        figure.add_scatter(
            name=name,
            x=_local_times(latency["start"], zone),
            y=latency[name].tolist(),
            mode="lines+markers",
            line={"color": palette.series[number], "width": 2, "dash": ("solid", "dash", "dot")[number]},
            marker={"size": 4},
            hovertemplate=f"{name}: %{{y:,.0f}} ms<extra></extra>",
        )
    return _over_time(figure, ends, palette, zone, "ms")


def batches_table(frame: pd.DataFrame, step: timedelta, zone: ZoneInfo) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "From": [instant(start, zone) for start in frame["start"]],
            "Rows/s": [rate(rows / step.total_seconds()) for rows in frame["rows"]],
            "Batches": frame["batches"],
            "Rows": frame["rows"],
            "Stored": frame["stored"],
            "Flagged": frame["flagged"],
        }
    )


def wide_table(long: pd.DataFrame, name: str, value: str, zone: ZoneInfo) -> pd.DataFrame:
    """A row for each start, a column for each `name`; numbers rounded."""
    if long.empty:
        return pd.DataFrame({"From": []})
    wide = long.pivot(index="start", columns=name, values=value).round(1)
    wide.columns = [str(column) for column in wide.columns]
    wide.insert(0, "From", [instant(start, zone) for start in wide.index])
    return wide.reset_index(drop=True)


def latency_table(latency: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "From": [instant(start, zone) for start in latency["start"]],
            **{f"{name} ms": latency[name].round(1) for name in ("p50", "p95", "p99")},
        }
    )


def rejected_table(rejected: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Reason": rejected["reason"],
            "Number": rejected["number"],
            "Newest": [instant(newest, zone) for newest in rejected["newest"]],
        }
    )


def examples_table(examples: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Dead letters with the beginning of their bytes as text; what is no UTF-8 shows as U+FFFD."""
    return pd.DataFrame(
        {
            "Reason": examples["reason"],
            "Message": [_text(value) for value in examples["value"]],
            "Detail": [detail or "" for detail in examples["detail"]],
            "Rejected": [instant(at, zone) for at in examples["rejected_at"]],
            "Topic": examples["topic"],
            "Partition": examples["partition_id"],
            "Offset": examples["offset"],
        }
    )


def outbox_table(states: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"What": states["what"], "State": states["state"], "Number": states["number"]})


def mail_errors_table(errors: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "State": errors["state"],
            "Attempts": errors["attempts"],
            "Last error": errors["last_error"],
            "Next attempt": [instant(at, zone) for at in errors["next_attempt_at"]],
            "Message-ID": errors["message_id"],
        }
    )


def components_table(components: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """What each part last said, troubles first."""
    severity: Mapping[str, int] = {"error": 0, "warning": 1, "ok": 2}
    order = components.sort_values("state", key=lambda states: states.map(severity), kind="stable")
    return pd.DataFrame(
        {
            "Part": order["component"],
            "State": order["state"],
            "Message": order["message"],
            "Said at": [instant(at, zone) for at in order["updated_at"]],
        }
    )


def _text(value: bytes | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", errors="replace")


def _duration(length: timedelta) -> str:
    """`42 s`, `3 min`, `5 h`, `2 days`: rounded down."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _local_times(starts: pd.Series, zone: ZoneInfo) -> list[str]:
    return [f"{local(start, zone):%Y-%m-%d %H:%M:%S.%f}" for start in starts]


def _over_time(figure: go.Figure, ends: Ends, palette: Palette, zone: ZoneInfo, what: str) -> go.Figure:
    figure.update_layout(
        **layout(_HEIGHT, palette),
        hovermode="x unified",
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        uirevision=what,
    )
    shown = [f"{local(end, zone):%Y-%m-%d %H:%M:%S}" for end in ends]
    figure.update_xaxes(type="date", range=shown, showgrid=False, automargin=True, **GAP_TO_LABELS)
    figure.update_yaxes(
        title={"text": what, "font": {"size": 13}},
        rangemode="tozero",
        gridcolor=palette.grid,
        zeroline=False,
        automargin=True,
        nticks=5,
        **GAP_TO_LABELS,
    )
    return figure
