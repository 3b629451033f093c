"""The report of a training: the numbers are those of the held-back rows, and the page needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from fraudstream import report
from fraudstream.features import FEATURE_NAMES
from fraudstream.model import (
    FRAUD,
    LEGITIMATE,
    UNKNOWN,
    Floats,
    Metadata,
    Model,
    Sample,
    average_precision,
    budget_threshold,
    fit,
)
from fraudstream.report import feature_weights, operating_points, report_html, score_counts
from fraudstream.schema import SCORE_BINS
from fraudstream.training import Performance, Trained, Verdict, judge, performance

HOSTILE = "<script>alert(1)</script>&\"'"
SCORES = np.array([0.05, 0.15, 0.15, 0.35, 0.55, 0.75, 0.95])
OUTCOME = np.array([LEGITIMATE, LEGITIMATE, FRAUD, UNKNOWN, LEGITIMATE, FRAUD, FRAUD], dtype=np.int8)


class Page(HTMLParser):
    """What a browser would load, the tables by caption, and the text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts = self.figures = 0
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._inside: list[str] = []
        self._caption = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [str(values[name]) for name in ("src", "href", "action", "data") if name in values]
        self.scripts += tag == "script"
        self.figures += tag == "figure"
        if tag in {"script", "style", "caption", "th", "td"}:
            self._inside.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in {"th", "td"}:
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        where = self._inside[-1] if self._inside else ""
        if where == "caption":
            self._caption += data
        elif where in {"th", "td"}:
            self.tables[self._caption][-1][-1] += data
        if where not in {"script", "style"}:
            self.text += data


@pytest.fixture(scope="module")
def features() -> Floats:
    chance = np.random.default_rng(4)
    values = chance.exponential(size=(400, len(FEATURE_NAMES))) * 100
    shares = [column for column, name in enumerate(FEATURE_NAMES) if "share" in name]
    values[:, shares] = chance.random((400, len(shares))) / 10
    return values


def trained(features: Floats, *, labels: bool, version: str = "iforest-abc") -> Trained:
    outcome = np.where(features[:, 0] > 250, FRAUD, LEGITIMATE).astype(np.int8)
    outcome[::10] = UNKNOWN
    scorer = fit(Sample(features[:300]), trees=5)
    scores = scorer.score(features[300:])
    held_back = Sample(features[300:], outcome[300:] if labels else None)
    threshold = budget_threshold(scores, 0.05)
    metadata = Metadata(
        version=version,
        kind="supervised" if labels else "unsupervised",
        feature_names=FEATURE_NAMES,
        threshold=threshold,
        threshold_chosen="the lowest score that at most 5.00% of the held-back rows reach",
        alert_budget=0.05,
        label_delay_s=0,
        trained_at=datetime(2025, 6, 1, tzinfo=UTC).isoformat(),
        training_from="2025-01-01 00:00:00",
        training_until="2025-01-20 00:00:00",
        training_rows=300,
        training_frauds=7 if labels else None,
        held_back_rows=100,
        held_back_alert_rate=float(np.mean(scores >= threshold)),
        held_back_average_precision=average_precision(scores, outcome[300:]) if labels else None,
        held_back_scores=tuple(np.histogram(scores, bins=SCORE_BINS, range=(0, 1))[0].tolist()),
        data_sha256="d" * 64,
        seed=3,
        versions={"python": "3.11"},
    )
    return Trained(Model(scorer, metadata), held_back, scores, constant=("night",))


def verdict_on(candidate: Trained, present: Performance | None = None) -> Verdict:
    done = performance(candidate.model.metadata, candidate.held_back_scores, candidate.held_back)
    return Verdict(*judge(done, present, 0.05), done, present)


@pytest.fixture(scope="module")
def labelled(features: Floats) -> Trained:
    return trained(features, labels=True)


def test_the_page_loads_nothing_and_has_plotlys_script_once(labelled: Trained) -> None:
    html = report_html(labelled, verdict_on(labelled), "accepted", source="data.csv")
    page = Page(html)
    assert page.loaded == []
    assert page.figures == 4
    assert page.scripts == 1 + page.figures
    assert html.count("plotly.js v") == 1
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "url(" not in styles and "@import" not in styles
    assert "default-src 'none'" in html


def test_the_summary_has_the_numbers_of_the_training(labelled: Trained) -> None:
    about = labelled.model.metadata
    page = Page(report_html(labelled, verdict_on(labelled), "accepted", source="data.csv"))
    said = dict(page.tables["At a glance"][1:])  # type: ignore[arg-type]
    assert said["Data"] == "data.csv"
    assert said["Training period"] == "2025-01-01 00:00:00 to 2025-01-20 00:00:00"
    assert said["Training rows"] == "300, 7 known frauds"
    assert said["Held-back rows"].startswith("100,")
    assert said["Threshold"].startswith(f"{about.threshold:.4f}: the lowest score")
    assert said["Alert rate at the threshold"] == "5.00%"
    assert said["Average precision"] == f"{about.held_back_average_precision:.4f}"
    metadata = dict(page.tables["Metadata"][1:])  # type: ignore[arg-type]
    assert metadata["data_sha256"] == "d" * 64
    assert metadata["feature_names"] == ", ".join(FEATURE_NAMES)
    assert metadata["versions"] == "python 3.11"
    assert "Constant in the training period, so without effect: night" in page.text


def test_each_figure_has_a_table_and_a_description(labelled: Trained) -> None:
    html = report_html(labelled, verdict_on(labelled), "accepted", source="data.csv")
    page = Page(html)
    assert len(re.findall(r'<figure role="img" aria-label="[^"]{30,}">', html)) == page.figures
    counted = page.tables["Held-back rows by score"][1:]
    assert sum(int(rows) for _, rows, _ in counted) == 100
    assert sum(int(frauds) for _, _, frauds in counted) == (labelled.held_back.outcome == FRAUD).sum()
    assert page.tables["Alert rate, precision and recall by threshold"][1][:4] == [
        "chosen", f"{labelled.model.metadata.threshold:.4f}", "5", "5.00%",
    ]  # fmt: skip
    assert len(page.tables["Highest precision at a recall of at least"]) == 7
    assert len(page.tables["Features by their mean absolute contribution"]) == 16


def test_without_labels_nothing_is_said_of_precision(features: Floats) -> None:
    candidate = trained(features, labels=False)
    page = Page(report_html(candidate, verdict_on(candidate), "accepted", source="data.csv"))
    assert page.figures == 3
    assert "Highest precision at a recall of at least" not in page.tables
    assert "300, no labels" in page.text
    rows = page.tables["Alert rate, precision and recall by threshold"][1:]
    assert {(row[4], row[5]) for row in rows} == {("–", "–")}


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ("accepted", "Accepted: it is the current model"),
        ("refused", "Refused: the present model stays"),
        ("forced", "Forced: it is the current model"),
    ],
)
def test_the_verdict_and_its_reason_stand_first(labelled: Trained, decision, words) -> None:
    done = verdict_on(labelled).candidate
    assert done.average_precision is not None
    present = replace(done, version="hybrid-old", average_precision=done.average_precision + 0.01)
    verdict = verdict_on(labelled, present)
    page = Page(report_html(labelled, verdict, decision, source="data.csv"))
    assert page.text.index(words) < page.text.index(verdict.reason) < page.text.index("Summary")
    compared = page.tables["Candidate and present model"]
    assert compared[1] == ["Version", "iforest-abc", "hybrid-old"]
    assert compared[-1] == [
        "Average precision", f"{done.average_precision:.4f}", f"{present.average_precision:.4f}",
    ]  # fmt: skip


def test_what_comes_from_outside_is_shown_and_never_markup(features: Floats) -> None:
    candidate = trained(features, labels=True, version=HOSTILE)
    done = verdict_on(candidate).candidate
    verdict = verdict_on(candidate, replace(done, version=f"present {HOSTILE}"))
    html = report_html(candidate, verdict, "accepted", source=HOSTILE)
    assert "<script>alert" not in html
    page = Page(html)
    assert dict(page.tables["At a glance"][1:])["Data"] == HOSTILE  # type: ignore[arg-type]
    assert page.tables["Candidate and present model"][1] == ["Version", HOSTILE, f"present {HOSTILE}"]
    assert page.scripts == 1 + page.figures


def test_scores_are_counted_in_bins_that_hold_their_lower_edge() -> None:
    counts = score_counts(np.array([0.0, 0.5, 0.5, 1.0]), np.array([0, 1, -1, 1], dtype=np.int8))
    assert len(counts) == SCORE_BINS
    filled = counts[counts["rows"] > 0]
    assert filled["from"].tolist() == [0.0, 0.5, 0.98]
    assert filled["rows"].tolist() == [1, 2, 1]
    assert filled["frauds"].tolist() == [0, 1, 1]


def test_what_a_threshold_means_on_the_rows_whose_outcome_is_known() -> None:
    points = operating_points(SCORES, OUTCOME, np.array([0.15, 0.35, 0.75, 0.96]))
    assert points["flagged"].tolist() == [6, 4, 2, 0]
    assert points["alert_rate"].tolist() == [6 / 7, 4 / 7, 2 / 7, 0]
    assert points["precision"].tolist()[:3] == [3 / 5, 2 / 3, 1]
    assert np.isnan(points["precision"].iloc[3])
    assert points["recall"].tolist() == [1, 2 / 3, 2 / 3, 0]


@pytest.mark.parametrize("outcome", [None, np.full(7, UNKNOWN, np.int8)])
def test_where_nothing_is_known_only_the_alert_rate_is(outcome) -> None:
    points = operating_points(SCORES, outcome, np.array([0.75]))
    assert points["alert_rate"].tolist() == [2 / 7]
    assert points[["precision", "recall"]].isna().all(axis=None)


def test_features_are_weighed_by_their_part_in_the_highest_scores(features: Floats) -> None:
    candidate = trained(features, labels=False)
    weights = feature_weights(candidate.model, candidate.held_back, candidate.held_back_scores)
    assert weights.is_monotonic_decreasing
    assert set(weights.index) == set(FEATURE_NAMES)
    assert weights["Amount"] > 0
    assert weights["weekend"] == 0  # an anomaly model does not look at it


def test_only_the_highest_scores_are_explained(features: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EXPLAINED_ROWS", 1)
    candidate = trained(features, labels=False)
    weights = feature_weights(candidate.model, candidate.held_back, candidate.held_back_scores)
    highest = candidate.held_back.features[[np.argmax(candidate.held_back_scores)]]
    contributions = np.abs(candidate.model.scorer.contributions(highest))[0]
    assert weights.to_dict() == dict(zip(FEATURE_NAMES, contributions.tolist(), strict=True))
