"""The id in a page's address, the field that asks for another one, and what the database has of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st
from sqlalchemy import Connection

from fraudstream.dashboard.process import engine_of_this_process
from fraudstream.dashboard.refresh import problems_shown, show_updated_header
from fraudstream.store.reads.snapshot import snapshot

Found = TypeVar("Found")


def show_search(
    title: str,
    label: str,
    hint: str,
    *,
    read: Callable[[Connection, str], Found | None],
    without_id: str,
    unknown: Callable[[str], str],
) -> Found | None:
    """The head of a page about one thing: title, field, and what to say where there is none to show."""
    head = st.container()
    asked = _ask_for_id(label, hint)
    found = None
    with head, problems_shown(title):
        if asked:
            with snapshot(engine_of_this_process()) as connection:
                found = read(connection, asked)
        show_updated_header(title)
        if asked is None:
            st.text(without_id)
        elif found is None:
            st.text(unknown(asked))
    return found


def _ask_for_id(label: str, hint: str) -> str | None:
    """What `?id=` says; the field beside it changes the address."""
    present = st.query_params.get("id")
    key = f"find {label} {present}"
    st.text_input(
        f"{label} id",
        present or "",
        key=key,
        type="search",
        placeholder=hint,
        width=420,
        max_chars=64,
        on_change=_ask,
        args=(key,),
    )
    return present


def _ask(key: str) -> None:
    asked = str(st.session_state[key] or "").strip()
    if asked:
        st.query_params["id"] = asked
    else:
        st.query_params.pop("id", None)
