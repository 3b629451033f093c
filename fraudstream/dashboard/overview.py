"""The first page: how much, how much of it is flagged, when, where, on which devices and at whom."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import OVERVIEW
from fraudstream.dashboard.process import engine_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header
from fraudstream.store.reads import overview as reads
from fraudstream.views import overview as views
from fraudstream.views.texts import money, shown_of

LINE_PX, ROW_MARGIN_PX = 18, 18
REASONS_IN_A_LINE = 41
FEED_PX = 420


def show() -> None:
    with st.sidebar:
        chosen = choose_filter(st.session_state.get("known_cities", ()))
    _live(chosen)


def choose_filter(known_cities: tuple[str, ...]) -> reads.Filter:
    """City and fraud only; both are kept in the page's address."""
    labels: dict[str, str | None] = {views.city_label(city): city for city in (None, *known_cities)}
    asked_for = st.query_params.get("city")
    if asked_for is not None:
        labels.setdefault(asked_for, asked_for)  # not known (yet): it finds nothing, and stays chosen
    st.subheader("Filter")
    label = st.selectbox("City", list(labels), key="city", bind="query-params")
    fraud_only = st.checkbox("Fraud only", key="fraud_only", bind="query-params")
    return reads.Filter(labels[label], fraud_only)


@st.fragment(run_every=REFRESH_S)
def _live(chosen: reads.Filter) -> None:
    with problems_shown(OVERVIEW.title):
        overview = reads.read_overview(engine_of_this_process(), chosen)
        if st.session_state.get("known_cities") != overview.cities:
            st.session_state["known_cities"] = overview.cities
            st.rerun()
        show_updated_header(OVERVIEW.title)
        show_overview(overview, chosen)


def show_overview(overview: reads.Overview, chosen: reads.Filter) -> None:
    totals = overview.totals
    st.text(views.filter_text(chosen.city, chosen.fraud_only))
    show_kpis(totals)
    if overview.period is None:
        st.info(views.NO_TRANSACTIONS)
    elif totals.transactions == 0:
        st.info(views.NO_MATCH)
    else:
        show_charts(overview, chosen)
        show_tables(overview)


def show_kpis(totals: reads.Totals) -> None:
    numbers = views.kpis(
        transactions=totals.transactions,
        flagged=totals.flagged,
        amount_at_risk=totals.amount_at_risk,
        locations=totals.locations,
    )
    for column, kpi in zip(st.columns([4, 3, 3, 5, 4]), numbers, strict=True):
        column.metric(kpi.label, kpi.value, help=kpi.explanation, border=True)


def show_charts(overview: reads.Overview, chosen: reads.Filter) -> None:
    timeline = overview.timeline
    st.subheader("Timeline", anchor=False)
    show_figure(
        views.timeline_figure(timeline.frame, timeline.step, present_palette(), fraud_only=chosen.fraud_only),
        f"Transactions and flagged transactions per {timeline.step}",
    )
    locations, devices, merchants = st.columns(3, gap="medium")
    with locations:
        show_most_flagged("Fraud by location", overview.by_location, "locations")
    with devices:
        show_most_flagged("Suspicious devices", overview.by_device, "devices")
    with merchants:
        show_risky_merchants(overview.by_merchant)


def show_most_flagged(title: str, ranking: reads.Ranking, things: str) -> None:
    st.subheader(title, anchor=False)
    st.caption(views.most_flagged_caption(len(ranking.frame), ranking.groups, things))
    show_figure(
        views.most_flagged_figure(ranking.frame, present_palette()),
        f"{title}: number of flagged transactions",
    )


def show_risky_merchants(ranking: reads.Ranking) -> None:
    title = f"Top {reads.MERCHANT_ROWS} risky merchants"
    st.subheader(title, anchor=False)
    st.caption(f"Flagged share; at least {reads.MERCHANT_MIN_TRANSACTIONS} transactions")
    if ranking.frame.empty:
        st.text("No merchant with so many transactions has a flagged one.")
    else:
        show_figure(
            views.flagged_share_figure(ranking.frame, present_palette()),
            f"{title} by share of flagged transactions",
        )


def show_tables(overview: reads.Overview) -> None:
    with st.container(key="last_flagged"):
        st.subheader(f"Last {reads.LAST_FLAGGED_ROWS} flagged", anchor=False)
        show_last_flagged(overview.last_flagged)
    with st.container(key="feed"):
        st.subheader("Live feed", anchor=False)
        st.caption(f"{shown_of(len(overview.feed), overview.totals.transactions)}, newest first")
        st.dataframe(
            views.feed_table(overview.feed, present_palette()),
            hide_index=True,
            height=FEED_PX,
            column_config=columns(overview.feed),
            alt="The newest transactions",
        )


def show_last_flagged(transactions: pd.DataFrame) -> None:
    if transactions.empty:
        st.text("No transaction is flagged.")
        return
    table = views.flagged_table(transactions)
    lines = math.ceil(table["Reasons"].str.len().max() / REASONS_IN_A_LINE)
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        row_height=ROW_MARGIN_PX + LINE_PX * lines if lines > 1 else None,
        column_config=columns(transactions),
        alt="The last flagged transactions with their reasons",
    )


def columns(transactions: pd.DataFrame) -> dict[str, ColumnConfig]:
    """Widths that fit a page of 1,280 pixels; an amount is never cut, as it would read as another one."""
    longest_amount = len(money(transactions["Amount"].max()))
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "Time": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", width=142),
        "Transaction": text(width=90),
        "User": text(width=60),
        "Amount": number(width=18 + 8 * longest_amount, format="accounting"),
        "Location": text(width=78),
        "Device": text(width=72),
        "Merchant": text(width=82),
        "Reasons": text(width=268),
    }
