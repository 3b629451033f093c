"""MySQL -> browser: `streamlit run dashboard.py`. Its pages read the database again every 10 seconds."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from fraudstream.config import SettingsError
from fraudstream.dashboard import (
    alerts,
    navigation,
    overview,
    pipeline,
    reviewing,
    rules_and_model,
    sidebar,
    transaction,
    user,
)
from fraudstream.dashboard.held_keys import count_held_keys_once
from fraudstream.dashboard.process import settings_of_this_process

TITLE = "Fraud monitor"
ICON = Path(__file__).parent / "fraudstream" / "dashboard" / "icon.svg"
SIDEBAR_PX = 250
ABOUT = "Transactions, alerts and the pipeline of fraudstream."
PAGES = {
    navigation.OVERVIEW: overview.show,
    navigation.ALERTS: alerts.show,
    navigation.TRANSACTION: transaction.show,
    navigation.USER: user.show,
    navigation.RULES_AND_MODEL: rules_and_model.show,
    navigation.PIPELINE: pipeline.show,
}


def main() -> None:
    st.set_page_config(
        page_title=TITLE,
        # A page's own icon would be the tab's, too, fetched from the internet.
        page_icon=ICON,
        layout="wide",
        initial_sidebar_state=SIDEBAR_PX,
        # With an entry of ours the menu appears, and in it the choice between light and dark.
        menu_items={"About": ABOUT},
    )
    try:
        settings_of_this_process()
    except SettingsError as error:
        st.error("**Settings are not usable.** Correct them and start the dashboard again.")
        st.text(str(error))
        return
    navigation.run(PAGES)
    with st.sidebar:
        sidebar.live_status()
        count_held_keys_once(reviewing.KEYS)


if __name__ == "__main__":
    main()
