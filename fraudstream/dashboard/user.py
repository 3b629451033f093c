"""One user: history, habits, alerts; the address says who: `/user?id=ID`."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import USER
from fraudstream.dashboard.process import settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S
from fraudstream.dashboard.search import show_search
from fraudstream.dashboard.tables import show_alerts, show_transactions
from fraudstream.store.reads.cases import LATEST_ROWS, User, read_user
from fraudstream.views import cases as views
from fraudstream.views.overview import Kpi


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    found = show_search(
        USER.title,
        "User",
        "The user's id, as in the data",
        read=read_user,
        without_id="Enter a user's id above, or open one from a transaction.",
        unknown=lambda asked: f"No transaction of user {asked} is stored.",
    )
    if found is not None:
        _show(found)


def _show(user: User) -> None:
    st.text(views.user_text(user.user_id, user.first, user.last, settings_of_this_process().tz))
    for column, kpi in zip(st.columns(4), _kpis(user), strict=True):
        column.metric(kpi.label, kpi.value, help=kpi.explanation, border=True)
    st.subheader("The last 30 days", anchor=False)
    st.text(views.history_text(user.history.frame, user.last, cut=user.history.cut))
    show_figure(
        views.history_figure(user.history.frame, present_palette()),
        "The user's amounts over the last 30 days",
        views.history_table(user.history.frame),
    )
    _show_habits(user)
    st.subheader("Alerts", anchor=False)
    show_alerts(
        user.alerts,
        key="user_alerts",
        of=user.user_id,
        alt="The user's alerts, the newest first",
        none="There is no alert of this user.",
    )
    st.subheader(f"The last {LATEST_ROWS} transactions", anchor=False)
    show_transactions(
        views.history_table(user.history.frame).head(LATEST_ROWS),
        key="user_transactions",
        of=user.user_id,
        alt="The user's last transactions, the newest first",
    )


def _kpis(user: User) -> list[Kpi]:
    return views.user_kpis(
        transactions=user.transactions, flagged=user.flagged, history=user.history.frame, cut=user.history.cut
    )


def _show_habits(user: User) -> None:
    st.subheader("Places, devices and merchants in these days", anchor=False)
    st.text(views.habits_text(user.history.frame, cut=user.history.cut))
    for column, name in zip(st.columns(3, gap="medium"), ("Location", "Device", "Merchant"), strict=True):
        with column:
            st.dataframe(
                views.habits(user.history.frame, name),
                hide_index=True,
                height="content",
                column_config={"Last": st.column_config.DatetimeColumn(format="YYYY-MM-DD", width=90)},
                alt=f"{name}: how often, and when last",
            )
