"""What each rule and the model flag, and how often they are right."""

from __future__ import annotations

import streamlit as st

from fraudstream.dashboard.navigation import RULES_AND_MODEL
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    with problems_shown(RULES_AND_MODEL.title):
        show_updated_header(RULES_AND_MODEL.title)
