"""Where the pages are: their addresses, and ways from one to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

_PAGES = "pages_of_this_session"


@dataclass(frozen=True)
class Place:
    """A page: its address below the dashboard's ("" is the first page), its title and its icon."""

    path: str
    title: str
    icon: str


OVERVIEW = Place("", "Overview", ":material/monitoring:")
ALERTS = Place("alerts", "Alerts", ":material/notifications:")
TRANSACTION = Place("transaction", "Transaction", ":material/receipt_long:")
USER = Place("user", "User", ":material/person:")
RULES_AND_MODEL = Place("rules", "Rules & model", ":material/rule:")
PIPELINE = Place("pipeline", "Pipeline", ":material/conveyor_belt:")


def run(pages: Mapping[Place, Callable[[], None]]) -> None:
    """Show the page that the address names; a link of an older mail leads to its transaction."""
    known = {
        place: st.Page(
            show, title=place.title, icon=place.icon, url_path=place.path, default=place is OVERVIEW
        )
        for place, show in pages.items()
    }
    st.session_state[_PAGES] = known
    chosen = st.navigation(list(known.values()))
    if chosen is known[OVERVIEW] and "transaction" in st.query_params:
        open_transaction(st.query_params["transaction"])
    chosen.run()


def open_page(place: Place, **query: str) -> NoReturn:
    """Leave the present page for another one; not from within a callback."""
    st.switch_page(st.session_state[_PAGES][place], query_params=query)


def open_transaction(transaction_id: str) -> NoReturn:
    open_page(TRANSACTION, id=transaction_id)


def open_user(user_id: str) -> NoReturn:
    open_page(USER, id=user_id)


def link_to(place: Place, label: str, **query: str) -> None:
    """A link that a person may follow or copy; `label` is the code's own text, never one of the data."""
    st.page_link(st.session_state[_PAGES][place], label=label, icon=place.icon, query_params=query)
