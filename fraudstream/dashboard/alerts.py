"""Alerts: the queue of flagged transactions, and their review.

The queue is as of when it was opened: alerts that come meanwhile wait behind a button, so that nothing moves
under an analyst's hands. What is known of the alerts that are shown is read again at each refresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import pandas as pd
import streamlit as st

from fraudstream.dashboard import navigation
from fraudstream.dashboard.navigation import ALERTS
from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header
from fraudstream.dashboard.reviewing import show_review
from fraudstream.rules import code_in_words
from fraudstream.store.reads import queue as reads
from fraudstream.store.reads.queue import Known, Place, Queue, State, Wanted
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.views import queue as views

ANY_REASON = "Any reason"
ANY_STATE = "All"
TABLE_PX = 560
# How long after an answer a request from before it may still come, at most; see _choose_row.
ECHO_S = 2.0
_OPENED, _PAGES, _CHOSEN, _IDS, _TABLE, _ASKED, _CODES, _MARKED, _LEFT = (
    "queue_opened_at",
    "queue_pages",
    "queue_chosen",
    "queue_ids",
    "queue_table",
    "queue_asked",
    "queue_codes",
    "queue_row_marked",
    "queue_rows_left",
)


@dataclass(frozen=True)
class Shown:
    """All that one refresh shows: a page of the queue, the chosen alert, and how many came since."""

    queue: Queue
    chosen: pd.DataFrame
    known: Known
    newer: int
    any_alerts: bool


def show() -> None:
    _live()


@st.fragment(run_every=REFRESH_S)
def _live() -> None:
    head = st.container()
    wanted = choose_wanted()
    shown = None
    with head, problems_shown(ALERTS.title):
        shown = _read(wanted)
        show_updated_header(ALERTS.title)
    if shown is not None:
        _show(wanted, shown)


def choose_wanted() -> Wanted:
    """State, reason and search; all of them are kept in the page's address."""
    states: dict[str, State | None] = {views.STATES[each]: each for each in ("new", "fraud", "legitimate")}
    states[ANY_STATE] = None
    reasons: dict[str, str | None] = {code_in_words(code): code for code in _known_codes()}
    reasons = {ANY_REASON: None, **reasons}
    asked_for = st.query_params.get("reason")
    if asked_for is not None:
        reasons.setdefault(asked_for, asked_for)  # not known (yet): it finds nothing, and stays chosen
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="queue_filters"):
        state = st.segmented_control(
            "State",
            list(states),
            default=views.STATES["new"],
            key="state",
            bind="query-params",
            required=True,
        )
        reason = st.selectbox("Reason", list(reasons), key="reason", bind="query-params", width=230)
        search = st.text_input(
            "Search",
            key="search",
            type="search",
            bind="query-params",
            placeholder="Transaction, user, city, merchant, …",
            width=290,
            max_chars=128,
        )
    wanted = Wanted(states[state or ANY_STATE], reasons[reason], (search or "").strip())
    if st.session_state.get(_ASKED) != wanted:
        st.session_state[_ASKED] = wanted
        _open_queue()
    return wanted


def _known_codes() -> tuple[str, ...]:
    return st.session_state.get(_CODES, ())


def _show(wanted: Wanted, shown: Shown) -> None:
    _show_newer(shown.newer)
    table, panel = st.columns([3, 2], gap="medium")
    with table, st.container(key="queue"):
        if shown.queue.rows.empty:
            _show_nothing(wanted, shown)
        else:
            _show_queue(wanted, shown)
        _show_paging(shown.queue)
    if not shown.chosen.empty:
        with panel, st.container(key="review", border=True):
            _show_chosen(shown)


def _read(wanted: Wanted) -> Shown:
    with snapshot(engine_of_this_process()) as connection:
        codes = reads.reason_codes(connection)
        last = reads.last_alert_id(connection)
        opened = st.session_state.setdefault(_OPENED, last)
        pages: list[Place | None] = st.session_state.setdefault(_PAGES, [None])
        found = reads.read_queue(connection, wanted, up_to=opened, behind=pages[-1])
        if found.rows.empty and len(pages) == 1 and opened < last:
            opened = st.session_state[_OPENED] = last  # nothing is shown that newer ones could move
            found = reads.read_queue(connection, wanted, up_to=opened)
        ids = found.rows["TransactionID"].tolist()
        chosen = _chosen(ids)
        row = found.rows[found.rows["TransactionID"] == chosen]
        if chosen is not None and row.empty:
            row = reads.read_alert(connection, chosen)
        known = reads.known_of(connection, [chosen] if chosen else []).get(chosen or "", Known())
        newer = reads.alerts_since(connection, opened)
    if _known_codes() != codes:
        st.session_state[_CODES] = codes
        st.rerun()
    st.session_state[_IDS] = ids
    return Shown(found, row, known, newer, any_alerts=last > 0)


def _chosen(ids: list[str]) -> str | None:
    """The alert that is looked at: the one chosen, also where it has left this page, else the first."""
    chosen: str | None = st.session_state.get(_CHOSEN)
    if chosen is None and ids:
        chosen = ids[0]
    st.session_state[_CHOSEN] = chosen
    return chosen


def _show_newer(newer: int) -> None:
    """There also without any: what is below it would move when the first one came."""
    st.button(
        views.newer_text(newer, reads.MOST_COUNTED),
        key="show_newer",
        icon=":material/arrow_upward:",
        shortcut="N",
        disabled=newer == 0,
        on_click=_open_queue,
    )


def _show_nothing(wanted: Wanted, shown: Shown) -> None:
    if not shown.any_alerts:
        st.info(views.NO_ALERTS, icon=":material/notifications_off:")
    elif shown.queue.next is not None:
        st.info(views.NONE_SO_FAR, icon=":material/filter_alt_off:")
    elif wanted == Wanted("new") and len(_pages()) == 1:
        st.info(views.ALL_REVIEWED, icon=":material/task_alt:")
    else:
        st.info(views.NO_MATCH, icon=":material/filter_alt_off:")


def _show_queue(wanted: Wanted, shown: Shown) -> None:
    rows = shown.queue.rows
    settings = settings_of_this_process()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.text(f"{len(rows):,} alerts, newest first; times in {settings.tz}", width="content")
        _show_export(wanted)
    ids, chosen = rows["TransactionID"].tolist(), st.session_state[_CHOSEN]
    _mark(ids.index(chosen) if chosen in ids else None)
    st.dataframe(
        views.queue_table(rows),
        key=_TABLE,
        hide_index=True,
        height=TABLE_PX,
        column_config=_columns(),
        column_order=[name for name in _columns() if name != "State" or wanted.state is None],
        on_select=_choose_row,
        selection_mode="single-row",
        alt="Alerts, the newest first",
    )


def _show_paging(queue: Queue) -> None:
    if queue.next is None and len(_pages()) == 1:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="paging"):
        st.button("Newer", icon=":material/chevron_left:", disabled=len(_pages()) == 1, on_click=_page_back)
        st.button(
            "Older",
            icon=":material/chevron_right:",
            disabled=queue.next is None,
            on_click=_page_on,
            args=(queue.next,),
        )
        if queue.next is not None:
            st.text(f"looked at back to {queue.next.time:%Y-%m-%d %H:%M}", width="content")


def _show_export(wanted: Wanted) -> None:
    opened = st.session_state[_OPENED]
    engine = engine_of_this_process()

    def content() -> bytes:
        with snapshot(engine) as connection:
            return views.queue_csv(reads.read_export(connection, wanted, up_to=opened))

    st.download_button(
        "CSV",
        content,
        file_name=views.csv_name(datetime.now(settings_of_this_process().zone)),
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        help=f"The newest {reads.EXPORTED_ROWS:,} alerts of this choice, at most, "
        f"of the newest {reads.EXPORT_LOOKED_AT:,} of all",
    )


def _show_chosen(shown: Shown) -> None:
    row = shown.chosen.iloc[0]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"Amount {row['Amount']:,.2f}", anchor=False, width="content")
        with st.container(horizontal=True, gap="small", width="content"):
            st.button("Previous", shortcut="K", on_click=_step, args=(-1,))
            st.button("Next", shortcut="J", on_click=_step, args=(1,))
    st.text(views.alert_text(row))
    st.text(views.reasons_text(row["reasons"]))
    with st.container(horizontal=True, gap="small"):
        navigation.link_to(navigation.TRANSACTION, "Transaction", id=row["TransactionID"])
        navigation.link_to(navigation.USER, "User", id=row["UserID"])
    show_review(row["TransactionID"], shown.known, after_decision=_choose_next, after_undo=_choose)


def _columns() -> dict[str, Any]:
    """In this order; the widths let the reasons be read on a page of 1,280 pixels."""
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "State": text(width=112),
        "Time": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=118),
        "Transaction": text(width=92),
        "Amount": number(width=78, format="accounting"),
        "Score": number(width=50, format="%.2f"),
        "Reasons": text(width=190),
        "User": text(width=58),
        "Location": text(width=80),
    }


def _open_queue() -> None:
    """From the newest alert on, as of now."""
    for key in (_OPENED, _PAGES, _CHOSEN, _IDS):
        st.session_state.pop(key, None)


def _pages() -> list[Place | None]:
    return st.session_state[_PAGES]


def _page_on(place: Place) -> None:
    st.session_state[_PAGES] = [*_pages(), place]
    st.session_state[_CHOSEN] = None


def _page_back() -> None:
    st.session_state[_PAGES] = _pages()[:-1] or [None]
    st.session_state[_CHOSEN] = None


def _mark(row: int | None) -> None:
    """Have the table show this row as the chosen one."""
    before = st.session_state.get(_MARKED)
    if before is not None and before != row:
        _left()[before] = monotonic()
    st.session_state[_MARKED] = row
    st.session_state[_TABLE] = {"selection": {"rows": [] if row is None else [row]}}


def _left() -> dict[int, float]:
    """When the table was last told to show another row than this one; monotonic seconds."""
    return st.session_state.setdefault(_LEFT, {})


def _choose_row() -> None:
    """A click on a row; by the ids of the table as it was sent: the rows may have changed since.

    With each request, those of the timer too, a browser says which row it shows as chosen. As long as it has
    not got the last answer, that is a row which a key has left, or which stands elsewhere now: no click, and
    it must not take the choice back. So a click on such a row counts only ECHO_S after the answer.
    """
    rows, ids = st.session_state[_TABLE]["selection"]["rows"], st.session_state.get(_IDS, [])
    if not rows or rows[0] >= len(ids) or rows[0] == st.session_state.get(_MARKED):
        return
    if monotonic() - _left().get(rows[0], -ECHO_S) >= ECHO_S:
        st.session_state[_CHOSEN], st.session_state[_MARKED] = ids[rows[0]], rows[0]
        _left().clear()


def _step(by: int) -> None:
    ids, chosen = st.session_state.get(_IDS, []), st.session_state.get(_CHOSEN)
    if not ids:
        return
    at = ids.index(chosen) + by if chosen in ids else 0
    st.session_state[_CHOSEN] = ids[min(max(at, 0), len(ids) - 1)]


def _choose(transaction_id: str) -> None:
    st.session_state[_CHOSEN] = transaction_id


def _choose_next(decided: str) -> None:
    """The alert behind the one that was decided, where that is still chosen and on this page."""
    if st.session_state.get(_CHOSEN) == decided and decided in st.session_state.get(_IDS, []):
        _step(1)
