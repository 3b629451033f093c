"""The report of a training as one HTML page that needs nothing else: figures, and a table beside each.

All of it is computed from the held-back rows, which the model has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from sklearn.metrics import precision_recall_curve

from fraudstream.features import FEATURE_NAMES
from fraudstream.model import FRAUD, UNKNOWN, Floats, Metadata, Model, Sample, budget_threshold
from fraudstream.schema import SCORE_BINS
from fraudstream.training import Performance, Trained, Verdict
from fraudstream.views.palette import LIGHT

Decision = Literal["accepted", "refused", "forced"]

EXPLAINED_ROWS = 1_000
TOP_FEATURES = 15
_SHOWN_ALERT_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_MOST_POINTS = 400
_NOTHING = "–"

_HEADLINES: dict[Decision, str] = {
    "accepted": "Accepted: it is the current model",
    "refused": "Refused: the present model stays",
    "forced": "Forced: it is the current model, though it would have been refused",
}


@dataclass(frozen=True)
class Table:
    """A table of text; the first cell of a row names it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One part of the page: `figure` is the HTML of a Plotly figure, `description` what it shows."""

    title: str
    text: str
    table: Table
    figure: Markup | None = None
    description: str = ""


def report_html(trained: Trained, verdict: Verdict, decision: Decision, *, source: str) -> str:
    """The whole page. `source` says in words what was trained on. It loads nothing from anywhere."""
    about = trained.model.metadata
    return (
        _templates()
        .get_template("report.html")
        .render(
            about=about,
            decision=decision,
            headline=_HEADLINES[decision],
            reason=verdict.reason,
            plotly=Markup(get_plotlyjs()),
            summary=_summary(about, source),
            sections=_sections(trained, verdict),
        )
    )


def _sections(trained: Trained, verdict: Verdict) -> Iterable[Section]:
    about, scores, outcome = trained.model.metadata, trained.held_back_scores, trained.held_back.outcome
    yield _score_section(scores, outcome, about.threshold)
    yield _threshold_section(scores, outcome, about.threshold)
    if outcome is not None and about.held_back_average_precision is not None:
        yield _precision_recall_section(scores, outcome, about)
    yield _feature_section(trained)
    yield _comparison_section(verdict)
    yield _metadata_section(about)


def _summary(about: Metadata, source: str) -> Table:
    frauds = "no labels" if about.training_frauds is None else f"{about.training_frauds:,} known frauds"
    return Table(
        "At a glance",
        ("What", "Value"),
        (
            ("Data", source),
            ("Training period", f"{about.training_from} to {about.training_until}"),
            ("Training rows", f"{about.training_rows:,}, {frauds}"),
            ("Held-back rows", f"{about.held_back_rows:,}, the last by event time"),
            ("Threshold", f"{about.threshold:.4f}: {about.threshold_chosen}"),
            ("Alert rate at the threshold", _percent(about.held_back_alert_rate)),
            ("Average precision", _number(about.held_back_average_precision)),
        ),
    )


def score_counts(scores: Floats, outcome: NDArray[np.int8] | None) -> pd.DataFrame:
    """Held-back rows by score, one row for each of SCORE_BINS bins: from, to, rows, frauds (known ones)."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    frauds = scores[outcome == FRAUD] if outcome is not None else scores[:0]
    return pd.DataFrame(
        {
            "from": edges[:-1],
            "to": edges[1:],
            "rows": np.histogram(scores, bins=edges)[0],
            "frauds": np.histogram(frauds, bins=edges)[0],
        }
    )


def _score_section(scores: Floats, outcome: NDArray[np.int8] | None, threshold: float) -> Section:
    counts = score_counts(scores, outcome)
    middle = (counts["from"] + counts["to"]) / 2
    figure = go.Figure(go.Bar(x=middle, y=counts["rows"] - counts["frauds"], name="not known as fraud"))
    figure.update_traces(marker_color=LIGHT.plain)
    if outcome is not None:
        figure.add_bar(x=middle, y=counts["frauds"], name="known fraud", marker_color=LIGHT.flagged)
    figure.update_layout(barmode="overlay", bargap=0.05)
    figure.update_xaxes(title="score", range=[0, 1])
    figure.update_yaxes(title="rows (logarithmic)", type="log")
    _mark_threshold(figure, threshold)
    filled = counts[counts["rows"] > 0]
    return Section(
        "Scores",
        "How many held-back rows have which score. Rows at or right of the dashed line are flagged.",
        Table(
            "Held-back rows by score",
            ("Score", "Rows", "Known frauds"),
            tuple(
                (f"{row['from']:.2f} to {row['to']:.2f}", f"{row['rows']:,.0f}", f"{row['frauds']:,.0f}")
                for _, row in filled.iterrows()
            ),
        ),
        _html(figure, "scores"),
        "Bar chart of the number of held-back rows by score.",
    )


def operating_points(scores: Floats, outcome: NDArray[np.int8] | None, thresholds: Floats) -> pd.DataFrame:
    """What each threshold would mean on these rows: threshold, flagged, alert_rate, precision, recall.

    Precision and recall are of the rows whose outcome is known; missing where that says nothing.
    """
    flagged = _reaching(scores, thresholds)
    points = pd.DataFrame({"threshold": thresholds, "flagged": flagged, "alert_rate": flagged / len(scores)})
    known = np.zeros(len(scores), bool) if outcome is None else outcome != UNKNOWN
    frauds = np.zeros(len(scores), bool) if outcome is None else outcome == FRAUD
    caught = _reaching(scores[frauds], thresholds).astype(float)
    judged = _reaching(scores[known], thresholds).astype(float)
    points["precision"] = np.divide(caught, judged, out=np.full(len(caught), np.nan), where=judged > 0)
    points["recall"] = caught / frauds.sum() if frauds.any() else np.nan
    return points


def _reaching(scores: Floats, thresholds: Floats) -> NDArray[np.int64]:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _threshold_section(scores: Floats, outcome: NDArray[np.int8] | None, threshold: float) -> Section:
    curve = operating_points(scores, outcome, _thinned(np.unique(scores)))
    figure = go.Figure()
    for column, colour, dash in (
        ("alert_rate", LIGHT.plain, "solid"),
        ("precision", LIGHT.flagged, "solid"),
        ("recall", LIGHT.flagged, "dot"),
    ):
        if curve[column].notna().any():
            line = {"color": colour, "dash": dash}
            name = column.replace("_", " ")
            figure.add_scatter(x=curve["threshold"], y=curve[column], name=name, mode="lines", line=line)
    figure.update_xaxes(title="threshold", range=[0, 1])
    figure.update_yaxes(title="share", tickformat=".0%", range=[0, 1.02])
    _mark_threshold(figure, threshold)
    choices = [threshold, *(budget_threshold(scores, rate) for rate in _SHOWN_ALERT_RATES)]
    names = ["chosen", *(f"budget {rate:.1%}" for rate in _SHOWN_ALERT_RATES)]
    points = operating_points(scores, outcome, np.array(choices))
    return Section(
        "Thresholds",
        "What other thresholds would have meant for the held-back rows. Precision and recall are of those "
        "rows whose outcome is known.",
        Table(
            "Alert rate, precision and recall by threshold",
            ("Alert budget", "Threshold", "Flagged", "Alert rate", "Precision", "Recall"),
            tuple(
                (name, f"{at:.4f}", f"{flagged:,.0f}", *map(_percent, shares))
                for name, (at, flagged, *shares) in zip(names, points.to_numpy().tolist(), strict=True)
            ),
        ),
        _html(figure, "thresholds"),
        "Lines of the alert rate, and where outcomes are known of precision and recall, over the threshold.",
    )


def _precision_recall_section(scores: Floats, outcome: NDArray[np.int8], about: Metadata) -> Section:
    known = outcome != UNKNOWN
    precision, recall, _ = precision_recall_curve(outcome[known] == FRAUD, scores[known])
    shown = _thinned(np.arange(len(recall)))
    figure = go.Figure(
        go.Scatter(
            x=recall[shown], y=precision[shown], mode="lines", line={"color": LIGHT.plain, "shape": "hv"}
        )
    )
    chosen = operating_points(scores, outcome, np.array([about.threshold])).iloc[0]
    figure.add_scatter(
        x=[chosen["recall"]], y=[chosen["precision"]], name="threshold", mode="markers",
        marker={"color": LIGHT.flagged, "size": 10},
    )  # fmt: skip
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="recall", range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title="precision", range=[0, 1.02], tickformat=".0%")
    return Section(
        "Precision and recall",
        f"Average precision {_number(about.held_back_average_precision)}; a random order would have "
        f"{np.mean(outcome[known] == FRAUD):.4f}. The dot is the chosen threshold.",
        Table(
            "Highest precision at a recall of at least",
            ("Recall", "Precision"),
            tuple(
                (f"{least:.0%}", _percent(float(precision[recall >= least].max())))
                for least in (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
            ),
        ),
        _html(figure, "precision-recall"),
        "Precision over recall on the held-back rows whose outcome is known.",
    )


def feature_weights(model: Model, held_back: Sample, scores: Floats) -> pd.Series:
    """How much each feature makes up of the scores of the EXPLAINED_ROWS highest, largest first.

    The mean of the absolute contributions; see model.Scorer.contributions.
    """
    highest = np.argsort(-scores, kind="stable")[:EXPLAINED_ROWS]
    weights = np.abs(model.scorer.contributions(held_back.features[highest])).mean(axis=0)
    return pd.Series(weights, FEATURE_NAMES).sort_values(ascending=False, kind="stable")


def _feature_section(trained: Trained) -> Section:
    top = feature_weights(trained.model, trained.held_back, trained.held_back_scores).head(TOP_FEATURES)
    figure = go.Figure(go.Bar(x=top[::-1], y=top.index[::-1], orientation="h", marker_color=LIGHT.plain))
    figure.update_layout(height=440)
    figure.update_xaxes(title="mean absolute contribution to the score")
    figure.update_yaxes(automargin=True)
    constant = ", ".join(trained.constant)
    return Section(
        "Top features",
        f"What the scores of the {EXPLAINED_ROWS:,} highest-scored held-back rows are made up of."
        + (f" Constant in the training period, so without effect: {constant}." if constant else ""),
        Table(
            "Features by their mean absolute contribution",
            ("Feature", "Contribution"),
            tuple((str(name), f"{weight:.4f}") for name, weight in top.items()),
        ),
        _html(figure, "features"),
        "Bar chart of the features that contribute most to high scores.",
    )


def _comparison_section(verdict: Verdict) -> Section:
    compared = [verdict.candidate, *([verdict.present] if verdict.present else [])]
    return Section(
        "Against the present model",
        "Both models on the same held-back rows, each with its own threshold."
        if verdict.present
        else "There was no present model that could be loaded.",
        Table(
            "Candidate and present model",
            ("What", "Candidate", "Present model")[: 1 + len(compared)],
            (
                ("Version", *(each.version for each in compared)),
                ("Kind", *(each.kind for each in compared)),
                ("Threshold", *(f"{each.threshold:.4f}" for each in compared)),
                ("Flagged", *(_flagged(each) for each in compared)),
                ("Average precision", *(_number(each.average_precision) for each in compared)),
            ),
        ),
    )


def _flagged(performance: Performance) -> str:
    return f"{performance.flagged:,} of {performance.rows:,} ({_percent(performance.alert_rate)})"


def _metadata_section(about: Metadata) -> Section:
    listed = {name: value for name, value in asdict(about).items() if name != "held_back_scores"}
    return Section(
        "Metadata",
        "What is stored with the model.",
        Table("Metadata", ("Name", "Value"), tuple((name, _text(value)) for name, value in listed.items())),
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return _NOTHING
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, Sequence) else json.dumps(value)


def _percent(value: float) -> str:
    return _NOTHING if np.isnan(value) else f"{value:.2%}"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4f}"


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    if len(values) <= _MOST_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, _MOST_POINTS).round().astype(int)]


def _mark_threshold(figure: go.Figure, threshold: float) -> None:
    figure.add_vline(
        x=threshold, line_dash="dash", line_color=LIGHT.flagged,
        annotation_text=f"threshold {threshold:.4f}",
        annotation_position="top left" if threshold > 0.5 else "top right",
    )  # fmt: skip


def _html(figure: go.Figure, name: str) -> Markup:
    """The figure without Plotly's script, which the page has once."""
    if figure.layout.height is None:
        figure.update_layout(height=340)
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.16},
    )
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return Markup(html)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("fraudstream"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
