"""MySQL -> browser: `streamlit run dashboard.py`. Reads the database every 10 seconds, writes nothing.

Texts from the database are untrusted. They go where they cannot be markup: `st.text`, tables, options of
the filter, and figures, for which `views` escapes them.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from sqlalchemy import Engine
from streamlit.elements.lib.column_types import ColumnConfig

from fraudstream import views
from fraudstream.config import Settings, SettingsError, load_settings
from fraudstream.store import reads

REFRESH_S = 10
TITLE = "Fraud monitor"
SIDEBAR_PX = 250
LINE_PX, ROW_MARGIN_PX = 18, 18
REASONS_IN_A_LINE = 41
FEED_PX = 420


@st.cache_resource(show_spinner=False)
def settings_of_this_process() -> Settings:
    return load_settings()


@st.cache_resource(show_spinner=False)
def engine_of_this_process() -> Engine:
    return reads.open_engine(settings_of_this_process().dashboard_database_url)


def main() -> None:
    st.set_page_config(page_title=TITLE, layout="wide", initial_sidebar_state=SIDEBAR_PX)
    try:
        settings = settings_of_this_process()
    except SettingsError as error:
        st.error("**Settings are not usable.** Correct them and start the dashboard again.")
        st.text(str(error))
        return
    with st.sidebar:
        chosen = choose_filter(st.session_state.get("known_cities", ()))
    live_overview(engine_of_this_process(), settings, chosen)


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
def live_overview(engine: Engine, settings: Settings, chosen: reads.Filter) -> None:
    try:
        overview = reads.read_overview(engine, chosen)
    except reads.DatabaseProblem as problem:
        show_problem(engine, problem)
        return
    if st.session_state.get("known_cities") != overview.cities:
        st.session_state["known_cities"] = overview.cities
        st.rerun()
    updated = datetime.now(settings.zone)
    show_header(f"Updated {updated:%Y-%m-%d %H:%M:%S} ({settings.tz}), every {REFRESH_S} seconds")
    show_sidebar(engine, settings, overview)
    show_overview(overview, chosen)


def show_header(note: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(TITLE, anchor=False, width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.text(note, width="content")
            st.button("Refresh", icon=":material/refresh:")


def show_problem(engine: Engine, problem: reads.DatabaseProblem) -> None:
    show_header(f"Tries again every {REFRESH_S} seconds")
    st.error(f"**{problem.title}**", icon=":material/error:")
    st.text(str(problem))
    with st.sidebar:
        show_connection(engine, problem.title, "red")


def show_sidebar(engine: Engine, settings: Settings, overview: reads.Overview) -> None:
    with st.sidebar:
        show_connection(engine, "Connected", "green")
        st.subheader("Period covered")
        st.text(f"{views.period_text(overview.period)}\nTime zone {settings.tz}")
        st.subheader("Pipeline")
        st.text(views.pipeline_text(overview.pipeline.counts()))
        for text in views.component_texts(overview.pipeline.components, settings.zone):
            st.text(text)


def show_connection(engine: Engine, state: str, colour: Literal["green", "red"]) -> None:
    st.subheader("Database")
    st.badge(state, color=colour)
    st.text(f"Server {reads.server_of(engine.url)}\nDatabase {engine.url.database}")


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
        views.timeline_figure(timeline.frame, timeline.step, fraud_only=chosen.fraud_only),
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
    show_figure(views.most_flagged_figure(ranking.frame), f"{title}: number of flagged transactions")


def show_risky_merchants(ranking: reads.Ranking) -> None:
    title = f"Top {reads.MERCHANT_ROWS} risky merchants"
    st.subheader(title, anchor=False)
    st.caption(f"Flagged share; at least {reads.MERCHANT_MIN_TRANSACTIONS} transactions")
    if ranking.frame.empty:
        st.text("No merchant with so many transactions has a flagged one.")
    else:
        show_figure(views.flagged_share_figure(ranking.frame), f"{title} by share of flagged transactions")


def show_tables(overview: reads.Overview) -> None:
    with st.container(key="last_flagged"):
        st.subheader(f"Last {reads.LAST_FLAGGED_ROWS} flagged", anchor=False)
        show_last_flagged(overview.last_flagged)
    with st.container(key="feed"):
        st.subheader("Live feed", anchor=False)
        st.caption(f"{views.shown_of(len(overview.feed), overview.totals.transactions)}, newest first")
        st.dataframe(
            views.feed_table(overview.feed),
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
    longest_amount = len(views.money(transactions["Amount"].max()))
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


def show_figure(figure: go.Figure, description: str) -> None:
    st.plotly_chart(
        figure,
        theme=None,
        key=description,
        alt=description,
        config={"displayModeBar": False, "typesetMath": False},
    )


if __name__ == "__main__":
    main()
