"""One user: history, habits, alerts; the address says who: `/user?id=ID`."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.navigation import USER
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    with problems_shown(USER.title):
        show_updated_header(USER.title)
