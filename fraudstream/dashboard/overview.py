"""The first page: how much, how much of it is flagged, when, where, on which devices and at whom."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from fraudstream.dashboard import filters
from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import OVERVIEW
from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header
from fraudstream.dashboard.tables import open_chosen
from fraudstream.periods import Period, Recent
from fraudstream.store.reads import overview as reads
from fraudstream.views import overview as views
from fraudstream.views.map import fraud_map, placed
from fraudstream.views.palette import Palette
from fraudstream.views.texts import money, shown_of

RANKED_ROWS = 10
MERCHANT_ROWS = 5
MERCHANT_MIN_TRANSACTIONS = 20
FEED_PX, LOCATIONS_PX = 420, 330
# Colours that the colour-blind can tell apart; the arrow says it, too.
MOODS: dict[views.Mood, Literal["off", "orange", "blue"]] = {
    "neutral": "off",
    "worse": "orange",
    "better": "blue",
}
LOCATION_COLUMNS: dict[str, ColumnConfig] = {
    "Location": st.column_config.TextColumn(width=80),
    "Transactions": st.column_config.NumberColumn("Rows", width=56),
    "Flagged": st.column_config.NumberColumn(width=60),
    "Share": st.column_config.TextColumn(width=52),
    "Amount at risk": st.column_config.TextColumn(width=100),
}


def show() -> None:
    st.title(OVERVIEW.title, anchor=False)
    choice = filters.choose()
    if choice.period is None:
        st.warning("Choose a start, and an end that is later.", icon=":material/event_busy:")
        return
    _live(choice.period, choice.filter)


@st.fragment(run_every=REFRESH_S)
def _live(asked: Recent | Period, chosen: reads.Filter) -> None:
    with problems_shown(None):
        overview = reads.read_overview(engine_of_this_process(), asked, chosen)
        filters.remember(overview.names, overview.extent[1] if overview.extent else None)
        show_updated_header(None, counts_what(overview, chosen))
        show_overview(overview, chosen)


def counts_what(overview: reads.Overview, chosen: reads.Filter) -> str:
    what = views.filter_text(chosen.names(), chosen.fraud_only)
    if overview.period is None or overview.counted is None:
        return what
    covered = views.period_caption(overview.period, settings_of_this_process().tz)
    compared = "" if overview.counted.before is None else f"; change: {views.compared_with(overview.period)}"
    return f"{what}{compared}\n{covered}"


def show_overview(overview: reads.Overview, chosen: reads.Filter) -> None:
    if overview.period is None or overview.counted is None:
        show_kpis(reads.Totals(0, 0, Decimal(0), 0, 0), None)
        st.info(views.NO_TRANSACTIONS)
        return
    covered = views.period_caption(overview.period, settings_of_this_process().tz)
    show_kpis(overview.counted.totals, overview.counted.before)
    if overview.counted.totals.transactions == 0:
        st.info(views.NO_MATCH)
        return
    show_timeline(overview.counted.timeline, overview.period, chosen, covered)
    show_places(overview.counted.by_location, covered)
    show_rankings(overview.counted, covered)
    show_weekday_hours(overview.counted.by_weekday_hour, covered)
    show_feed(overview.feed, overview.counted.totals.transactions, covered)


def show_kpis(now: reads.Totals, before: reads.Totals | None) -> None:
    with st.container(horizontal=True, key="kpis"):
        for kpi in views.kpis(now, before):
            st.metric(
                kpi.label,
                kpi.value,
                kpi.change,
                delta_color=MOODS[kpi.mood],
                delta_arrow="off" if kpi.change == views.UNCHANGED else "auto",
                help=kpi.explanation,
                border=True,
            )


def show_timeline(timeline: reads.Timeline, period: Period, chosen: reads.Filter, covered: str) -> None:
    st.header("Timeline", anchor=False)
    st.caption(covered if timeline.shown == period else f"{covered}; before it, shaded, the rest of 24 hours")
    figure = views.timeline_figure(
        timeline.frame, timeline.step, timeline.shown, period, present_palette(), fraud_only=chosen.fraud_only
    )
    show_figure(
        figure,
        "Transactions, flagged transactions and their share over time",
        views.timeline_table(timeline.frame, timeline.step),
    )


def show_places(by_location: pd.DataFrame, covered: str) -> None:
    most_flagged = views.most_flagged(by_location, len(by_location))
    on_map, in_table = st.columns([3, 2], gap="medium")
    with on_map:
        st.header("Fraud by location", anchor=False)
        st.caption(f"{covered}; area: flagged, colour: their share")
        show_figure(fraud_map(by_location, present_palette()), "Fraud by location: a map of the cities")
    with in_table, st.container(key="locations"):
        st.header("Locations", anchor=False)
        st.caption(views.places_caption(len(most_flagged), len(placed(most_flagged))))
        st.dataframe(
            views.names_table(most_flagged, "Location"),
            hide_index=True,
            height=LOCATIONS_PX,
            column_config=LOCATION_COLUMNS,
            alt="Flagged transactions by location, the most first",
        )


def show_rankings(counted: reads.Counted, covered: str) -> None:
    devices, by_share, by_amount = st.columns(3, gap="medium")
    with devices:
        ranked = views.most_flagged(counted.by_device, RANKED_ROWS)
        show_ranking(
            "Suspicious devices",
            "Number and share of flagged",
            ranked,
            "Device",
            covered,
            views.most_flagged_figure,
        )
    with by_share:
        ranked = views.riskiest(counted.by_merchant, MERCHANT_ROWS, MERCHANT_MIN_TRANSACTIONS)
        what = f"Flagged share; at least {MERCHANT_MIN_TRANSACTIONS} transactions"
        show_ranking(
            "Risky merchants by share", what, ranked, "Merchant", covered, views.flagged_share_figure
        )
    with by_amount:
        ranked = views.costliest(counted.by_merchant, MERCHANT_ROWS)
        show_ranking(
            "Risky merchants by amount",
            "Flagged amount",
            ranked,
            "Merchant",
            covered,
            views.flagged_amount_figure,
        )


def show_ranking(
    title: str,
    what: str,
    ranked: pd.DataFrame,
    name: str,
    covered: str,
    figure: Callable[[pd.DataFrame, Palette], go.Figure],
) -> None:
    st.header(title, anchor=False)
    st.caption(f"{what}; {covered}")
    if ranked.empty:
        st.text("Nothing flagged to rank.")
    else:
        show_figure(figure(ranked, present_palette()), title, views.names_table(ranked, name))


def show_weekday_hours(by_weekday_hour: pd.DataFrame, covered: str) -> None:
    st.header("When fraud happens", anchor=False)
    st.caption(f"Flagged transactions by weekday and hour; {covered}")
    show_figure(
        views.weekday_hour_figure(by_weekday_hour, present_palette()),
        "Flagged transactions by weekday and hour",
        views.weekday_hour_table(by_weekday_hour),
    )


def show_feed(transactions: pd.DataFrame, total: int, covered: str) -> None:
    with st.container(key="feed"):
        st.header("Live feed", anchor=False)
        st.caption(f"{shown_of(len(transactions), total)}, newest first; {covered}. Select a row to open it.")
        selected = st.dataframe(
            views.feed_table(transactions, present_palette()),
            hide_index=True,
            height=FEED_PX,
            column_config=feed_columns(transactions),
            on_select="rerun",
            selection_mode="single-row",
            key="feed_rows",
            alt="The newest transactions",
        )
    open_chosen("feed_rows", selected["selection"]["rows"], transactions["TransactionID"].tolist())


def feed_columns(transactions: pd.DataFrame) -> dict[str, ColumnConfig]:
    """Widths for a page of 1,280 pixels; an amount is never cut, as it would read as another one."""
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
        "Flagged": text(width=66),
        "Why": text(width=300),
    }
