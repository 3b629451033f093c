"""What each rule and the model flag, how often they are right, and whether scores have drifted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import RULES_AND_MODEL
from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header
from fraudstream.store.reads.detection import (
    Detection,
    days_covered,
    newest_days,
    read_detection,
    version_at_work,
)
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.views import detection as views
from fraudstream.views.overview import NO_TRANSACTIONS

if TYPE_CHECKING:
    from fraudstream.model import Metadata

SPANS = {"7 days": 7, "30 days": 30, "90 days": 90, "All": None}


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    head = st.container()
    chosen = st.segmented_control(
        "Period, up to the newest day of the data",
        list(SPANS),
        default="30 days",
        key="days",
        bind="query-params",
        required=True,
    )
    read = False
    found = at_work = None
    with head, problems_shown(RULES_AND_MODEL.title):
        with snapshot(engine_of_this_process()) as connection:
            covered = days_covered(connection)
            at_work = version_at_work(connection)
            days = SPANS[chosen or "30 days"]
            found = read_detection(connection, newest_days(covered, days)) if covered else None
        show_updated_header(RULES_AND_MODEL.title)
        read = True
    if found is not None:
        _show(found, at_work)
    elif read:
        st.info(NO_TRANSACTIONS)


def _show(found: Detection, at_work: str | None) -> None:
    st.text(views.span_text(found.span.first, found.span.last, settings_of_this_process().tz))
    if found.since is not None:
        st.text(views.since_text(found.looked_at, found.since))
    numbers = views.detection_kpis(
        transactions=found.transactions,
        alerts=found.alerts,
        looked_at=found.looked_at,
        fraud=int(found.outcomes["fraud"].sum()),
        legitimate=int(found.outcomes["legitimate"].sum()),
    )
    for column, kpi in zip(st.columns(4), numbers, strict=True):
        column.metric(kpi.label, kpi.value, help=kpi.explanation, border=True)
    _show_rules(found)
    _show_precision(found)
    _show_model(found, at_work)


def _show_rules(found: Detection) -> None:
    st.subheader("Reasons", anchor=False)
    if found.rules.empty:
        st.text("Nothing is flagged in these days.")
        return
    st.text(
        "An alert with two reasons counts for both. Precision is the share of confirmed frauds among those "
        "with an outcome, with its 95 % interval."
    )
    show_figure(views.rules_figure(found.rules, present_palette()), "Flags of each reason by their outcome")
    with st.container(key="reasons"):
        st.dataframe(
            views.rules_table(found.rules, found.alerts),
            hide_index=True,
            height="content",
            alt="Each reason: its flags, their share of all alerts, their outcomes and the precision",
        )


def _show_precision(found: Detection) -> None:
    st.subheader("Precision of alerts with an outcome", anchor=False)
    if found.outcomes.empty:
        st.text("No alert of these days has an outcome yet: review some on the Alerts page.")
        return
    step, spans = views.precision_by_span(found.outcomes, found.span.days)
    st.text(f"By the {step} of the transaction; the bars are the 95 % interval.")
    show_figure(
        views.precision_figure(spans, step, present_palette()),
        "Share of confirmed frauds among alerts with an outcome, over time",
        views.precision_table(spans, step),
    )


def _show_model(found: Detection, at_work: str | None) -> None:
    from fraudstream.model_store import ModelError, load_metadata

    st.subheader("Model", anchor=False)
    try:
        about = load_metadata(settings_of_this_process().model_dir)
    except ModelError as error:
        st.text(f"The model cannot be read here: {error}.")
        return
    if about is None:
        st.text("There is no model: the rules alone decide. train_fraud_model.py makes one.")
        return
    st.text(_about(about, at_work))
    _show_scores(found, about)


def _about(about: Metadata, at_work: str | None) -> str:
    return views.model_text(
        version=about.version,
        kind=about.kind,
        trained_at=datetime.fromisoformat(about.trained_at).astimezone(settings_of_this_process().zone),
        training=(about.training_from, about.training_until, about.training_rows),
        threshold=about.threshold,
        threshold_chosen=about.threshold_chosen,
        at_work=at_work,
    )


def _show_scores(found: Detection, about: Metadata) -> None:
    now, training = found.scores.get(about.version), about.held_back_scores
    st.subheader("Scores now and in training", anchor=False)
    if now is None:
        st.text(f"No transaction of these days was judged by model {about.version}.")
        return
    st.text(views.scores_text(sum(now), sum(training), views.drift(now, training)))
    show_figure(
        views.scores_figure(now, training, about.threshold, present_palette()),
        "Share of transactions by score, now and in training",
        views.scores_table(now, training),
    )
