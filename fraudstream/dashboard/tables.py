"""Tables of transactions and alerts whose rows lead to their pages."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from fraudstream.dashboard.navigation import open_transaction
from fraudstream.store.reads.cases import Alerts
from fraudstream.views import cases as views

ROWS_PX = 320


def show_transactions(table: pd.DataFrame, *, key: str, of: str, alt: str) -> None:
    """A table with a column Transaction: a click on a row opens that transaction. Times in the setting TZ.

    `of` says whose table it is: what was chosen in another one's means nothing here.
    """
    number = st.column_config.NumberColumn
    own_key = f"{key} of {of}"
    with st.container(key=key):
        chosen = st.dataframe(
            table,
            key=own_key,
            hide_index=True,
            height="content" if len(table) < 9 else ROWS_PX,
            column_config={
                "Time": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", width=142),
                "Amount": number(format="accounting", width=90),
                "Score": number(format="%.2f", width=60),
                "Transaction": st.column_config.TextColumn(width=110),
            },
            on_select="rerun",
            selection_mode="single-cell",
            alt=f"{alt}; a click on a row opens the transaction",
        )
    rows = [row for row, _column in chosen["selection"]["cells"]]
    open_chosen(own_key, rows, table["Transaction"].tolist())


def show_alerts(alerts: Alerts, *, key: str, of: str, alt: str, none: str) -> None:
    """A user's alerts as `show_transactions` does; `none` is said where there are none."""
    if alerts.frame.empty:
        st.text(none)
        return
    if alerts.cut:
        st.text(views.cut_alerts_text(len(alerts.frame)))
    show_transactions(views.alerts_table(alerts.frame), key=key, of=of, alt=alt)


def open_chosen(key: str, rows: Sequence[int], transaction_ids: Sequence[str]) -> None:
    """Open the transaction in the first of `rows`, those chosen in the table `key` as it was last sent.

    `transaction_ids` are those of the table as it is sent now: it may have other rows than what was clicked.
    """
    sent = st.session_state.get(f"{key} as sent", ())
    for row in rows:
        if row < len(sent):
            open_transaction(sent[row])
    st.session_state[f"{key} as sent"] = tuple(transaction_ids)
