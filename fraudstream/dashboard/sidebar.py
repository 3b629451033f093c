"""Below the navigation, on every page: where the numbers come from and how the pipeline is."""

from __future__ import annotations

from typing import Literal

import streamlit as st
from sqlalchemy import Engine

from fraudstream.config import Settings
from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S
from fraudstream.store.reads.overview import extent
from fraudstream.store.reads.pipeline import Pipeline, pipeline
from fraudstream.store.reads.snapshot import DatabaseProblem, server_of, snapshot
from fraudstream.views import overview as views


@st.fragment(run_every=REFRESH_S)
def live_status() -> None:
    """Call it inside `st.sidebar`."""
    engine, settings = engine_of_this_process(), settings_of_this_process()
    try:
        with snapshot(engine) as connection:
            covered, state = extent(connection), pipeline(connection)
    except DatabaseProblem as problem:
        _show_connection(engine, problem.title, "red")
        return
    _show_connection(engine, "Connected", "green")
    st.subheader("Period covered")
    st.text(f"{views.period_text(covered)}\nTime zone {settings.tz}")
    _show_pipeline(state, settings)


def _show_connection(engine: Engine, state: str, colour: Literal["green", "red"]) -> None:
    st.subheader("Database")
    st.badge(state, color=colour)
    st.text(f"Server {server_of(engine.url)}\nDatabase {engine.url.database}")


def _show_pipeline(state: Pipeline, settings: Settings) -> None:
    st.subheader("Pipeline")
    st.text(views.pipeline_text(state.counts()))
    for text in views.component_texts(state.components, settings.zone):
        st.text(text)
