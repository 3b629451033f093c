"""The id in a page's address, and the field that asks for another one."""

from __future__ import annotations

import streamlit as st


def ask_for_id(label: str, hint: str) -> str | None:
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
