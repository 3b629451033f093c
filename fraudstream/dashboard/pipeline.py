"""How the pipeline is: its pace, its lag, what it could not use, and its mails."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.navigation import PIPELINE
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    with problems_shown(PIPELINE.title):
        show_updated_header(PIPELINE.title)
