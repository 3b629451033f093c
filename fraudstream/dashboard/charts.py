"""Figures on a page: in the theme's colours, with a table for who does not see them."""

from __future__ import annotations

from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from fraudstream.views.palette import Palette, palette_of

TABLE_ROWS, TABLE_PX = 12, 420


def present_palette() -> Palette:
    """The colours of the theme that the browser shows."""
    return palette_of(st.context.theme.type)


def show_figure(figure: go.Figure, description: str, table: pd.DataFrame | None = None) -> None:
    """`description` says what is seen, and is the figure's key: it must not change with the numbers.

    With `table`, the same numbers can be opened below the figure as text.
    """
    st.plotly_chart(
        figure,
        theme=None,
        key=description,
        alt=description,
        config={"displayModeBar": False, "typesetMath": False},
    )
    if table is not None:
        with st.expander("As a table", icon=":material/table:", key=f"table {description}"):
            height: int | Literal["content"] = TABLE_PX if len(table) > TABLE_ROWS else "content"
            st.dataframe(table, hide_index=True, height=height, alt=description)
