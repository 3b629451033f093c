"""One transaction in all detail; the address says which: `/transaction?id=ID`."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.navigation import TRANSACTION
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    with problems_shown(TRANSACTION.title):
        show_updated_header(TRANSACTION.title)
