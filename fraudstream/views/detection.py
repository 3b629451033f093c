"""How good the flags are, as numbers, tables and figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fraudstream.rules import code_in_words
from fraudstream.views.figures import GAP_TO_LABELS, layout
from fraudstream.views.overview import Kpi
from fraudstream.views.palette import Palette
from fraudstream.views.texts import NO_VALUE, count, plotly_text, share, shortened

_SCORES_HEIGHT = 300
_PRECISION_HEIGHT = 280
_RULE_PX, _AXIS_PX = 38, 70
_LONGEST_RULE = 34
# Population stability: below the first little has moved, above the second a lot (a rule of thumb).
_SOME_DRIFT, _MUCH_DRIFT = 0.1, 0.25
# An empty bin counts as this share, so that the index stays finite.
_LEAST_SHARE = 1e-4
_DRIFT_BINS = 10
_DAYS_SHOWN_BY_DAY = 31


def span_text(first: date, last: date, tz: str) -> str:
    return f"Transactions of {first:%Y-%m-%d} to {last:%Y-%m-%d}, whole days ({tz})"


def since_text(looked_at: int, since: datetime) -> str:
    return f"Outcomes are those of the newest {count(looked_at)} alerts, since {since:%Y-%m-%d %H:%M}"


def detection_kpis(
    *, transactions: int, alerts: int, looked_at: int, fraud: int, legitimate: int
) -> list[Kpi]:
    """`looked_at` is of how many of the alerts the outcomes are."""
    known = fraud + legitimate
    return [
        Kpi("Transactions", count(transactions), "Stored transactions of these days"),
        Kpi("Alerts", f"{count(alerts)} ({share(alerts, transactions)})", "Flagged ones, and their share"),
        Kpi(
            "With an outcome",
            f"{count(known)} ({share(known, looked_at)})",
            "Reviewed or labelled alerts, and their share of those looked at",
        ),
        Kpi("Precision", share(fraud, known), "Confirmed frauds among the alerts with an outcome"),
    ]


def model_text(
    *,
    version: str,
    kind: str,
    trained_at: datetime,
    training: tuple[str, str, int],
    threshold: float,
    threshold_chosen: str,
    at_work: str | None,
) -> str:
    """What is known of the model; `training` is from, until, rows.

    `at_work` is the newest batch's version: "" where it had no model, None where there is no batch.
    """
    first, last, rows = training
    lines = [
        f"Version {version} ({kind}), trained {trained_at:%Y-%m-%d %H:%M}",
        f"Learned from {count(rows)} transactions of {first} to {last}",
        f"Flags a score of {threshold:.4f} and more: {threshold_chosen}",
    ]
    if at_work not in (None, version):
        judged = f"model {at_work}" if at_work else "no model"
        lines.append(f"The newest batch was judged by {judged}: the job takes up a model when it starts")
    return "\n".join(lines)


def scores_text(now: int, training: int, index: float | None) -> str:
    return (
        f"{count(now)} transactions of these days and {count(training)} that training held back. "
        f"Population stability index {drift_text(index)}: under {_SOME_DRIFT} little has changed, "
        f"over {_MUCH_DRIFT} much; then train again."
    )


def rules_table(rules: pd.DataFrame, alerts: int) -> pd.DataFrame:
    """Columns Reason, Flags, Share of alerts, Confirmed, Legitimate, Not reviewed, Precision, Code.

    `rules` has code, flagged, fraud, legitimate. An alert with two reasons counts for both.
    """
    reviewed = rules["fraud"] + rules["legitimate"]
    return pd.DataFrame(
        {
            "Reason": rules["code"].map(code_in_words),
            "Flags": rules["flagged"],
            "Share of alerts": [share(flagged, alerts) for flagged in rules["flagged"]],
            "Confirmed": rules["fraud"],
            "Legitimate": rules["legitimate"],
            "Not reviewed": rules["flagged"] - reviewed,
            "Precision": [
                precision_text(fraud, known) for fraud, known in zip(rules["fraud"], reviewed, strict=True)
            ],
            "Code": rules["code"],
        }
    )


def precision_text(fraud: int, known: int) -> str:
    """The share of confirmed frauds with the interval that holds the true one 95 times of 100 (Wilson)."""
    if known == 0:
        return NO_VALUE
    low, high = wilson(fraud, known)
    return f"{share(fraud, known)} ({low:.0%} to {high:.0%})"


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score; `trials` at least 1."""
    p, n = successes / trials, trials
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not push a bound past the share itself.
    return max(0.0, min(p, middle - reach)), min(1.0, max(p, middle + reach))


def rules_figure(rules: pd.DataFrame, palette: Palette) -> go.Figure:
    """Horizontal bars of each reason's flags: confirmed, legitimate, not reviewed."""
    positions = list(range(len(rules)))
    open_ones = rules["flagged"] - rules["fraud"] - rules["legitimate"]
    series = [
        ("Confirmed fraud", rules["fraud"], palette.confirmed, ""),
        ("Legitimate", rules["legitimate"], palette.legitimate, "/"),
        ("Not reviewed", open_ones, palette.plain, ""),
    ]
    names = [plotly_text(shortened(code_in_words(code), _LONGEST_RULE)) for code in rules["code"]]
    figure = go.Figure(
        [
            go.Bar(
                name=name,
                x=numbers.tolist(),
                y=positions,
                orientation="h",
                marker={"color": colour, "pattern": {"shape": pattern, "solidity": 0.25}},
                customdata=names,
                hovertemplate=f"%{{customdata}}<br>{name}: %{{x:,d}}<extra></extra>",
            )
            for name, numbers, colour, pattern in series
        ]
    )
    figure.update_layout(
        **layout(_AXIS_PX + _RULE_PX * max(len(rules), 1), palette),
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    )
    figure.update_xaxes(
        rangemode="tozero", tickformat=",d", gridcolor=palette.grid, automargin=True, fixedrange=True
    )
    figure.update_yaxes(
        tickvals=positions,
        ticktext=names,
        range=[len(rules) - 0.5, -0.5],
        automargin=True,
        fixedrange=True,
        showgrid=False,
        **GAP_TO_LABELS,
    )
    return figure


def scores_figure(
    now: Sequence[int], training: Sequence[int], threshold: float, palette: Palette
) -> go.Figure:
    """Shares of transactions by score, now and in training, on a logarithmic axis, and the threshold."""
    edges = np.linspace(0, 1, len(now) + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).round(4).tolist()
    series = [("Training", training, palette.muted, "dot"), ("Now", now, palette.flagged, "solid")]
    figure = go.Figure(
        [
            go.Scatter(
                name=name,
                mode="lines",
                x=middles,
                y=[value if value > 0 else None for value in _shares(numbers).tolist()],
                line={"color": colour, "dash": dash, "width": 2, "shape": "hvh"},
                connectgaps=False,
                hovertemplate=f"{name}, score about %{{x:.2f}}: %{{y:.3%}}<extra></extra>",
            )
            for name, numbers, colour, dash in series
        ]
    )
    figure.add_vline(
        x=threshold,
        line={"color": palette.text, "width": 1, "dash": "dash"},
        annotation={"text": f"threshold {threshold:.2f}", "font": {"size": 12}, "yanchor": "bottom"},
        annotation_position="top",
    )
    figure.update_layout(
        **{**layout(_SCORES_HEIGHT, palette), "margin": {"l": 8, "r": 8, "t": 30, "b": 8}},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom"},
    )
    figure.update_xaxes(
        title={"text": "Score", "font": {"size": 13}}, range=[0, 1], gridcolor=palette.grid, automargin=True
    )
    figure.update_yaxes(
        title={"text": "Share of transactions", "font": {"size": 13}},
        type="log",
        tickformat=".3~%",
        gridcolor=palette.grid,
        automargin=True,
        **GAP_TO_LABELS,
    )
    return figure


def scores_table(now: Sequence[int], training: Sequence[int]) -> pd.DataFrame:
    """Columns Score, Now, Training: the same as text."""
    edges = np.linspace(0, 1, len(now) + 1)
    return pd.DataFrame(
        {
            "Score": [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)],
            "Now": [share(number, sum(now)) for number in now],
            "Training": [share(number, sum(training)) for number in training],
        }
    )


def drift(now: Sequence[int], training: Sequence[int]) -> float | None:
    """The population stability index over the training's deciles; None where either has no row."""
    if sum(now) == 0 or sum(training) == 0:
        return None
    joined = _deciles(training)
    observed, expected = (_shares([sum(numbers[a:b]) for a, b in joined]) for numbers in (now, training))
    observed, expected = (np.maximum(shares, _LEAST_SHARE) for shares in (observed, expected))
    return float(np.sum((observed - expected) * np.log(observed / expected)))


def drift_text(index: float | None) -> str:
    if index is None:
        return NO_VALUE
    much = "little" if index < _SOME_DRIFT else "some" if index < _MUCH_DRIFT else "much"
    return f"{index:.2f} ({much})"


def precision_by_span(outcomes: pd.DataFrame, days: int) -> tuple[str, pd.DataFrame]:
    """("day" or "week", one row for each with known outcomes: start, fraud, legitimate, low, high).

    Weeks begin on Monday; `low` and `high` are the 95 % interval of the precision.
    """
    step = "day" if days <= _DAYS_SHOWN_BY_DAY else "week"
    starts = [_start(each, step) for each in outcomes["day"]]
    summed = outcomes.assign(start=starts).groupby("start", as_index=False)[["fraud", "legitimate"]].sum()
    known = summed["fraud"] + summed["legitimate"]
    bounds = [wilson(fraud, number) for fraud, number in zip(summed["fraud"], known, strict=True)]
    return step, summed.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def precision_figure(spans: pd.DataFrame, step: str, palette: Palette) -> go.Figure:
    """The share of confirmed frauds among alerts with an outcome, with its interval; `spans` as above."""
    known = spans["fraud"] + spans["legitimate"]
    precision = spans["fraud"] / known
    hover = [
        f"{step} of {start:%Y-%m-%d}<br>{share(fraud, number)} of {count(number)} with an outcome"
        for start, fraud, number in zip(spans["start"], spans["fraud"], known, strict=True)
    ]
    figure = go.Figure(
        go.Scatter(
            mode="lines+markers",
            x=[f"{start:%Y-%m-%d}" for start in spans["start"]],
            y=precision.tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (spans["high"] - precision).tolist(),
                "arrayminus": (precision - spans["low"]).tolist(),
                "color": palette.muted,
                "thickness": 1,
                "width": 3,
            },
            marker={"color": palette.confirmed, "size": 8},
            line={"color": palette.confirmed, "width": 2},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.update_layout(**layout(_PRECISION_HEIGHT, palette))
    figure.update_xaxes(type="date", gridcolor=palette.grid, automargin=True, **GAP_TO_LABELS)
    figure.update_yaxes(
        title={"text": f"Precision per {step}", "font": {"size": 13}},
        range=[-0.03, 1.03],
        tickformat=".0%",
        gridcolor=palette.grid,
        automargin=True,
        **GAP_TO_LABELS,
    )
    return figure


def precision_table(spans: pd.DataFrame, step: str) -> pd.DataFrame:
    known = spans["fraud"] + spans["legitimate"]
    return pd.DataFrame(
        {
            f"{step.capitalize()} of": [f"{start:%Y-%m-%d}" for start in spans["start"]],
            "Confirmed fraud": spans["fraud"],
            "Legitimate": spans["legitimate"],
            "Precision": [
                precision_text(fraud, number) for fraud, number in zip(spans["fraud"], known, strict=True)
            ],
        }
    )


def _start(day: date, step: str) -> date:
    return day if step == "day" else day - timedelta(days=day.weekday())


def _shares(numbers: Sequence[int]) -> np.ndarray:
    total = sum(numbers)
    return np.array(numbers, dtype=float) / total if total else np.zeros(len(numbers))


def _deciles(training: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring bins joined until each holds a tenth of the training's rows, or what is left."""
    tenth = sum(training) / _DRIFT_BINS
    joined, start, held = [], 0, 0
    for index, number in enumerate(training):
        held += number
        if held >= tenth:
            joined.append((start, index + 1))
            start, held = index + 1, 0
    return [*joined, (start, len(training))] if start < len(training) else joined
