"""What all sessions of one dashboard process share: its settings and its way to the database."""

from __future__ import annotations

import streamlit as st
from sqlalchemy import Engine

from fraudstream.config import Settings, load_settings
from fraudstream.store.reads.snapshot import open_engine


@st.cache_resource(show_spinner=False)
def settings_of_this_process() -> Settings:
    """Raises SettingsError."""
    return load_settings()


@st.cache_resource(show_spinner=False)
def engine_of_this_process() -> Engine:
    return open_engine(settings_of_this_process().dashboard_database_url)
