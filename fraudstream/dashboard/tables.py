"""Tables of transactions whose rows lead to their pages."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fraudstream.dashboard.navigation import open_transaction

ROWS_PX = 320


def show_transactions(table: pd.DataFrame, *, key: str, alt: str) -> None:
    """A table with a column Transaction: a click on a row opens that transaction. Times in the setting TZ."""
    number = st.column_config.NumberColumn
    chosen = st.dataframe(
        table,
        key=key,
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
    cells = chosen["selection"]["cells"]
    if cells:
        open_transaction(str(table["Transaction"].iloc[cells[0][0]]))
