"""Alerts: the queue of flagged transactions, and their review."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.navigation import ALERTS
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    with problems_shown(ALERTS.title):
        show_updated_header(ALERTS.title)
