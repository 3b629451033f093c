"""The map of fraud by city: outlines of Natural Earth out of the package, so that nothing is fetched.

Plotly's own base map would be loaded from a server as soon as one of its layers were shown.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from math import sqrt

import pandas as pd
import plotly.graph_objects as go

from fraudstream.geography import COORDINATES
from fraudstream.views.figures import layout
from fraudstream.views.palette import Palette
from fraudstream.views.texts import flagged_of, plotly_text

MAP_HEIGHT = 360

_GREATEST_PX = 44
_LEAST_PX = 8
_MARGIN_DEGREES = 2.0
_WIDER_DEGREES = 5.0
_LABEL_DEGREES = 1.5

Ring = list[tuple[float, float]]
Box = tuple[float, float, float, float]


def placed(counted: pd.DataFrame) -> pd.DataFrame:
    """The rows whose name (column `name`) is a city with a known place."""
    return counted[counted["name"].isin(COORDINATES)]


def fraud_map(counted: pd.DataFrame, palette: Palette) -> go.Figure:
    """A disc for each city with a known place, its area the number of flagged transactions, its colour their
    share; columns name, transactions, flagged."""
    figure = go.Figure([_outlines(palette), _cities(placed(counted), palette)])
    west, south, east, north = _view()
    figure.update_layout(**{**layout(MAP_HEIGHT, palette), "margin": {"l": 0, "r": 0, "t": 0, "b": 0}})
    figure.update_layout(showlegend=False, uirevision="map", dragmode=False)
    figure.update_geos(
        visible=False,
        bgcolor="rgba(0,0,0,0)",
        projection={"type": "mercator"},
        lonaxis={"range": [west, east], "showgrid": False},
        lataxis={"range": [south, north], "showgrid": False},
        **{f"show{layer}": False for layer in _BASE_LAYERS},
    )
    return figure


_BASE_LAYERS = ("coastlines", "countries", "frame", "lakes", "land", "ocean", "rivers", "subunits")


def _view() -> Box:
    """West, south, east, north of what is shown: all places that are known, the same whatever is counted."""
    latitudes, longitudes = zip(*COORDINATES.values(), strict=True)
    return (
        min(longitudes) - _WIDER_DEGREES,
        min(latitudes) - _MARGIN_DEGREES,
        max(longitudes) + _WIDER_DEGREES,
        max(latitudes) + _MARGIN_DEGREES,
    )


@cache
def _outlines(palette: Palette) -> go.Scattergeo:
    """The countries in view as one trace with gaps: a page draws it at each refresh, and it never changes."""
    longitudes: list[float | None] = []
    latitudes: list[float | None] = []
    view = _view()
    for ring in _countries():
        if _meet(_box(ring), view):
            longitudes += [*(longitude for longitude, _ in ring), None]
            latitudes += [*(latitude for _, latitude in ring), None]
    return go.Scattergeo(
        lon=longitudes,
        lat=latitudes,
        mode="lines",
        line={"color": palette.borders, "width": 0.8},
        fill="toself",
        fillcolor=palette.land,
        hoverinfo="skip",
    )


def _cities(counted: pd.DataFrame, palette: Palette) -> go.Scattergeo:
    names = counted["name"].tolist()
    flagged = counted["flagged"].tolist()
    transactions = counted["transactions"].tolist()
    most = max([*flagged, 1])
    shares = [100 * part / whole for part, whole in zip(flagged, transactions, strict=True)]
    steps = len(palette.scale) - 1
    return go.Scattergeo(
        lon=[COORDINATES[name][1] for name in names],
        lat=[COORDINATES[name][0] for name in names],
        mode="markers+text",
        text=names,
        textposition=[_beside(name, names) for name in names],
        textfont={"color": palette.text, "size": 13},
        marker={
            "size": [max(_LEAST_PX, _GREATEST_PX * sqrt(number / most)) for number in flagged],
            "color": shares,
            "colorscale": [[step / steps, colour] for step, colour in enumerate(palette.scale)],
            "cmin": 0,
            "cmax": max([*shares, 1]),
            "opacity": 0.85,
            "line": {"color": palette.text, "width": 1},
            "colorbar": {
                "title": {"text": "Flagged share"},
                "ticksuffix": " %",
                "thickness": 10,
                "len": 0.7,
                "x": 1,
                "xpad": 4,
                "outlinewidth": 0,
            },
        },
        customdata=[
            f"{plotly_text(name)}<br>{flagged_of(part, whole)}"
            for name, part, whole in zip(names, flagged, transactions, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _beside(name: str, others: list[str]) -> str:
    """Where a city's name stands: left of it where another city lies close to the right."""
    latitude, longitude = COORDINATES[name]
    places = [COORDINATES[other] for other in others if other != name]
    crowded = any(
        abs(north - latitude) < _LABEL_DEGREES and 0 < east - longitude < _LABEL_DEGREES
        for north, east in places
    )
    return "middle left" if crowded else "middle right"


@cache
def _countries() -> tuple[Ring, ...]:
    text = resources.files("fraudstream.views").joinpath("countries.json").read_text(encoding="utf-8")
    return tuple(
        polygon[0]
        for feature in json.loads(text)["features"]
        for polygon in feature["geometry"]["coordinates"]
    )


def _box(ring: Ring) -> Box:
    longitudes, latitudes = zip(*ring, strict=True)
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def _meet(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
