"""Pieces that the figures share: the layout, horizontal bars with names, an axis of whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from fraudstream.views.palette import Palette
from fraudstream.views.texts import count, name_or_missing, plotly_text, shortened

BARS_HEIGHT = 300
# The one that Streamlit brings along and shows everywhere else.
FONT = '"Source Sans", sans-serif'
GAP_TO_LABELS = {"ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}

_ROOM_FOR_BAR_TEXT = 2.0


def layout(height: int, palette: Palette) -> dict[str, object]:
    """What every figure says of its size, margins and colours; height in pixels."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": palette.text, "size": 13, "family": FONT},
        "hoverlabel": {
            "align": "left",
            "namelength": -1,
            "bgcolor": palette.panel,
            "bordercolor": palette.borders,
            "font": {"color": palette.text},
        },
    }


def named_bars(
    frame: pd.DataFrame, lengths: Sequence[float], texts: Sequence[str], palette: Palette
) -> go.Figure:
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
            marker={"color": palette.flagged},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.update_layout(**layout(BARS_HEIGHT, palette), bargap=0.35)
    longest = max([*lengths, 0]) or 1
    figure.update_xaxes(visible=False, range=[0, longest * _ROOM_FOR_BAR_TEXT], fixedrange=True)
    figure.update_yaxes(
        tickvals=positions,
        ticktext=[plotly_text(shortened(name)) for name in names],
        range=[max(len(names), 5) - 0.5, -0.5],
        automargin=True,
        fixedrange=True,
        **GAP_TO_LABELS,
        showgrid=False,
        zeroline=False,
    )
    return figure


def whole_numbers(heights: pd.Series, palette: Palette) -> dict[str, object]:
    """No ticks at 0.5 transactions where the bars are low."""
    few = len(heights) == 0 or heights.max() < 5
    return {
        "rangemode": "tozero",
        "tickformat": ",d",
        "gridcolor": palette.grid,
        "automargin": True,
        **GAP_TO_LABELS,
        **({"dtick": 1} if few else {}),
    }
