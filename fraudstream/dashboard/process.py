"""What all sessions of one dashboard process share: its settings and its way to the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from sqlalchemy import Engine

from fraudstream.config import Settings, load_settings
from fraudstream.store.reads.snapshot import open_engine

if TYPE_CHECKING:
    from fraudstream.model import Model


@st.cache_resource(show_spinner=False)
def settings_of_this_process() -> Settings:
    """Raises SettingsError."""
    return load_settings()


@st.cache_resource(show_spinner=False)
def engine_of_this_process() -> Engine:
    return open_engine(settings_of_this_process().dashboard_database_url)


def model_of_this_process() -> Model | None:
    """The current model, loaded once for each version. Raises ModelError."""
    from fraudstream.model_store import current_version

    version = current_version(settings_of_this_process().model_dir)
    return None if version is None else _model(version)


@st.cache_resource(show_spinner=False, max_entries=1)
def _model(version: str) -> Model | None:
    # `version` is the cache's key. With its library it takes a second, which no other page waits for.
    from fraudstream.model_store import load

    return load(settings_of_this_process().model_dir)
