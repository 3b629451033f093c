"""What of the data a page counts: the period and the names, all kept in the page's address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from fraudstream.dashboard.process import engine_of_this_process
from fraudstream.periods import DAY, FIRST, LAST, Period, Recent, between, latest
from fraudstream.store.reads.overview import Filter, Names, all_names, extent
from fraudstream.store.reads.snapshot import DatabaseProblem, snapshot
from fraudstream.views.texts import filter_label

PERIODS: dict[str, Recent | None] = {
    "All": "all",
    "Hour": "hour",
    "Day": "day",
    "Week": "week",
    "Custom": None,
}
DEFAULT_PERIOD = "All"
NAME_PX, MOMENT_PX = 140, 210

_KNOWN = "known_to_filters"


@dataclass(frozen=True)
class Known:
    """What there is to choose from, as the last refresh found it."""

    names: Names
    newest: datetime | None


@dataclass(frozen=True)
class Choice:
    """`period` is None where a custom one lacks an end, or ends before it starts."""

    period: Recent | Period | None
    filter: Filter


def remember(names: Names, newest: datetime | None) -> None:
    """Offer these from now on; from within a fragment, as new names need the whole page drawn anew."""
    known = _known()
    st.session_state[_KNOWN] = Known(names, newest)
    if known.names != names:
        st.rerun()


def choose() -> Choice:
    known = _known()
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        period = st.segmented_control(
            "Period",
            list(PERIODS),
            default=DEFAULT_PERIOD,
            required=True,
            key="period",
            bind="query-params",
            help="All of the data; its last hour, day or week, in whole hours; or hours of your choice.",
        )
        city = _choose_name("City", "All cities", known.names.cities)
        device = _choose_name("Device", "All devices", known.names.devices)
        merchant = _choose_name("Merchant", "All merchants", known.names.merchants)
        fraud_only = st.checkbox("Fraud only", key="fraud_only", bind="query-params", width="content")
    recent = PERIODS[period or DEFAULT_PERIOD]
    return Choice(recent or _choose_hours(known.newest), Filter(city, device, merchant, fraud_only))


def _known() -> Known:
    """What the last refresh found; at first, what the database has now, if it can be read."""
    if _KNOWN not in st.session_state:
        try:
            with snapshot(engine_of_this_process()) as connection:
                covered = extent(connection)
                st.session_state[_KNOWN] = Known(all_names(connection), covered[1] if covered else None)
        except DatabaseProblem:
            return Known(Names(), None)
    return st.session_state[_KNOWN]


def _choose_name(label: str, everything: str, names: tuple[str, ...]) -> str | None:
    key = label.lower()
    labels: dict[str, str | None] = {filter_label(name, everything): name for name in (None, *names)}
    asked_for = st.query_params.get(key)
    if asked_for is not None:
        labels.setdefault(asked_for, asked_for)  # not known (yet): it finds nothing, and stays chosen
    return labels[st.selectbox(label, list(labels), key=key, bind="query-params", width=NAME_PX)]


def _choose_hours(newest: datetime | None) -> Period | None:
    _fill_in_hours(latest(DAY, newest or datetime.now()))  # noqa: DTZ005 - only where no data say better
    common: dict[str, Any] = {
        "value": None,
        "step": timedelta(hours=1),
        "min_value": FIRST,
        "max_value": LAST,
        "format": "YYYY-MM-DD",
        "required": True,
        "bind": "query-params",
        "width": MOMENT_PX,
    }
    with st.container(horizontal=True, vertical_alignment="bottom", key="hours"):
        start = st.datetime_input("From (whole hours)", key="from", **common)
        end = st.datetime_input("To (not included)", key="to", **common)
    return None if start is None or end is None else between(start, end)


def _fill_in_hours(usual: Period) -> None:
    """Put the usual hours into the fields and the address, once.

    As defaults they would be left out of the address, and a bookmark would count others once data have
    moved on.
    """
    moments = {"from": usual.start, "to": usual.end.replace(second=0, microsecond=0)}
    missing = {
        key: moment
        for key, moment in moments.items()
        if key not in st.session_state and key not in st.query_params
    }
    for key, moment in missing.items():
        st.session_state[key] = moment
    if missing:
        st.query_params.update({key: moment.isoformat(timespec="minutes") for key, moment in missing.items()})
