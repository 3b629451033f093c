"""One transaction in all detail; the address says which: `/transaction?id=ID`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from fraudstream import feature_record
from fraudstream.dashboard import navigation
from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import TRANSACTION
from fraudstream.dashboard.process import model_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S
from fraudstream.dashboard.reviewing import show_review
from fraudstream.dashboard.search import show_search
from fraudstream.dashboard.tables import show_alerts
from fraudstream.features import FEATURE_NAMES
from fraudstream.store.reads.cases import Case, read_case
from fraudstream.stored import StoredTransaction
from fraudstream.views import cases as views
from fraudstream.views.queue import review_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    found = show_search(
        TRANSACTION.title,
        "Transaction",
        "Its id, as in the data",
        read=read_case,
        without_id="Enter a transaction's id above, or open one from the alerts or the live feed.",
        unknown=lambda asked: f"No transaction {asked} is stored.",
    )
    if found is not None:
        _show(found)


def _show(case: Case) -> None:
    facts, why, panel = st.columns([4, 5, 6], gap="medium")
    with facts:
        _show_facts(case)
    with why:
        _show_reasons(case)
    with panel, st.container(key="review", border=True):
        st.subheader("Review", anchor=False)
        show_review(case.transaction.transaction_id, case.known)
        _show_reviews(case)
    _show_history(case)
    contributions = st.container()
    _show_habits(case)
    _show_earlier_alerts(case)
    with contributions:  # at last: the first to ask for the model waits until it is read
        _show_contributions(case.transaction)


def _show_facts(case: Case) -> None:
    this, settings = case.transaction, settings_of_this_process()
    st.subheader(f"Amount {this.amount:,.2f}", anchor=False)
    st.text(views.facts_text(this, settings.tz))
    navigation.link_to(navigation.USER, "User", id=this.user_id)
    with st.expander("Where it came from", icon=":material/route:"):
        st.text(views.origin_text(this, case.alert, settings.zone))


def _show_reasons(case: Case) -> None:
    this = case.transaction
    st.subheader("Why it is flagged" if this.flagged else "Not flagged", anchor=False)
    st.text(views.verdict_text(this))


def _show_reviews(case: Case) -> None:
    if len(case.reviews) < 2:
        return
    with st.expander(f"All {len(case.reviews)} changes", icon=":material/history:"):
        zone = settings_of_this_process().zone
        st.text("\n".join(review_text(each, zone) for each in case.reviews))


def _show_history(case: Case) -> None:
    history = case.history
    st.subheader("The user's 30 days before it", anchor=False)
    said = views.history_text(
        history.frame, case.transaction.time, cut=history.cut, cut_after=history.cut_after
    )
    st.text(said)
    show_figure(
        views.history_figure(history.frame, present_palette(), marked=case.transaction.transaction_id),
        "The user's amounts over 30 days, this transaction marked",
        views.history_table(history.frame),
    )


def _show_contributions(this: StoredTransaction) -> None:
    st.subheader("What made up the model's score", anchor=False)
    if this.features is None:
        st.text("The features of this transaction were not stored.")
        return
    try:
        features = feature_record.unpack(this.features)
    except feature_record.FeatureRecordError as error:
        st.text(f"Cannot be shown: {error}.")
        return
    values, missing = _contributions(this, features)
    if values is None:
        st.text(missing)
    else:
        table = views.contributions(values.tolist(), features.tolist(), FEATURE_NAMES)
        st.text(views.contributions_text(this.score, len(table)))
        show_figure(
            views.contributions_figure(table, present_palette()),
            "How much of the score each feature alone makes up",
            table,
        )
    with st.expander("All features", icon=":material/data_object:", key="features"):
        st.dataframe(
            views.features_table(features.tolist(), FEATURE_NAMES),
            hide_index=True,
            height="content",
            alt="All features of this transaction",
        )


def _contributions(
    this: StoredTransaction, features: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, str]:
    """What each feature adds to the score, or None and why this cannot be told."""
    from fraudstream.model_store import ModelError

    if this.model_version is None:
        return None, "It was judged without a model: the rules alone decided."
    try:
        with st.spinner("Reading the model"):
            model = model_of_this_process()
    except ModelError as error:
        return None, f"The model cannot be read here: {error}."
    present = model.metadata.version if model else None
    if model is None or present != this.model_version:
        return None, (
            f"It was judged by model {this.model_version}. The present one is {present or 'none'}, "
            "which cannot tell what that one saw."
        )
    return model.scorer.contributions(features[None])[0], ""


def _show_habits(case: Case) -> None:
    this = case.transaction
    before = views.before_it(case.history.frame, this.time)
    st.subheader("Known places, devices and merchants", anchor=False)
    st.text(views.habit_text(before, float(this.amount), cut=case.history.cut))
    own = {"Location": this.location, "Device": this.device, "Merchant": this.merchant}
    for column, (name, value) in zip(st.columns(3, gap="medium"), own.items(), strict=True):
        with column, st.container(key=f"habits_{name}"):
            st.dataframe(
                views.habits(before, name, this=value, marked=True),
                hide_index=True,
                height="content",
                column_config={
                    "Here": st.column_config.TextColumn(width=50, help="Whether this transaction is there"),
                    "Last": st.column_config.DatetimeColumn(format="YYYY-MM-DD", width=90),
                },
                alt=f"{name}: how often before, and when last",
            )


def _show_earlier_alerts(case: Case) -> None:
    st.subheader("The user's other alerts", anchor=False)
    show_alerts(
        case.alerts,
        key="other_alerts",
        of=case.transaction.transaction_id,
        alt="The user's other alerts, the newest first",
        none="There is no other alert of this user.",
    )
