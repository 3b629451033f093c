"""How a page keeps itself up to date, and what it says when the database cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import streamlit as st

from fraudstream.dashboard.process import settings_of_this_process
from fraudstream.store.reads.snapshot import DatabaseProblem

REFRESH_S = 10


@contextmanager
def problems_shown(title: str | None) -> Iterator[None]:
    """Around what a page reads and shows: a DatabaseProblem is shown in its place, and ends the block.

    Read everything first, then draw: a problem then never stands below half a page. `title` is None where
    the page has drawn it already.
    """
    try:
        yield
    except DatabaseProblem as problem:
        show_header(title, f"Tries again every {REFRESH_S} seconds")
        st.error(f"**{problem.title}**", icon=":material/error:")
        st.text(str(problem))


def show_updated_header(title: str | None, left: str = "") -> None:
    """The title, or the text on its left, with the moment of this refresh, in the setting TZ."""
    settings = settings_of_this_process()
    updated = datetime.now(settings.zone)
    note = f"Updated {updated:%Y-%m-%d %H:%M:%S} ({settings.tz}), every {REFRESH_S} seconds"
    show_header(title, note, left)


def show_header(title: str | None, note: str, left: str = "") -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if title is None:
            st.text(left, width="content")
        else:
            st.title(title, anchor=False, width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.text(note, width="content")
            st.button("Refresh", icon=":material/refresh:", key=f"refresh_{title}")
