"""How the pipeline is: its pace, its lag, what it could not use, and its mails; also while it is down."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from fraudstream.dashboard.charts import present_palette, show_figure
from fraudstream.dashboard.navigation import PIPELINE
from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.dashboard.refresh import REFRESH_S, problems_shown, show_updated_header
from fraudstream.store.reads import pipeline as reads
from fraudstream.views import pipeline as views

WINDOWS = {
    "15 minutes": timedelta(minutes=15),
    "1 hour": timedelta(hours=1),
    "6 hours": timedelta(hours=6),
    "1 day": timedelta(days=1),
}
DEFAULT_WINDOW = "15 minutes"
EXAMPLE_COLUMNS: dict[str, ColumnConfig] = {
    "Reason": st.column_config.TextColumn(width=140),
    "Message": st.column_config.TextColumn(width=260),
    "Detail": st.column_config.TextColumn(width=120),
}


def show() -> None:
    st.title(PIPELINE.title, anchor=False)
    window = st.segmented_control(
        "Last",
        list(WINDOWS),
        default=DEFAULT_WINDOW,
        required=True,
        key="last",
        bind="query-params",
        help="Up to the newest batch, whenever that was",
    )
    _live(WINDOWS[window or DEFAULT_WINDOW])


@st.fragment(run_every=REFRESH_S)
def _live(window: timedelta) -> None:
    with problems_shown(None):
        operation = reads.read_operation(engine_of_this_process(), window)
        zone = settings_of_this_process().zone
        covered = views.window_caption(operation.batches.until, window, zone) if operation.batches else ""
        show_updated_header(None, covered)
        show_job(operation)
        show_kpis(operation, window)
        if operation.batches is None:
            st.info(views.NO_BATCHES)
        else:
            show_batches(operation.batches, covered)
        show_dead_letters(operation)
        show_outbox(operation.outbox)
        show_components(operation.state)


def show_job(operation: reads.Operation) -> None:
    job, zone = operation.job, settings_of_this_process().zone
    trouble = job.trouble
    well = job.running and trouble is None
    # The host's name and an error are texts of the outside: no markup for them.
    with st.container(border=True, key="job"):
        st.badge("Running" if job.running else "Down", color="green" if well else "orange")
        said = views.job_text(
            job.running, job.holder, job.seen_at, operation.now, zone, in_trouble=trouble is not None
        )
        st.text(said)
        if trouble is not None:
            st.text(views.trouble_text(trouble.message, trouble.updated_at, zone))


def show_kpis(operation: reads.Operation, window: timedelta) -> None:
    batches, state = operation.batches, operation.state
    latency = None if batches is None or batches.latency.empty else float(batches.latency["p95"].iloc[-1])
    lag = None if batches is None else batches.frame["lag"].iloc[-1]
    numbers = views.kpis(
        rows=0 if batches is None else int(batches.frame["rows"].sum()),
        window=window,
        lag=None if lag is None else int(lag),
        p95_ms=latency,
        rejected=state.rejected,
        waiting=state.alerts_waiting,
        failed=state.mails_failed,
    )
    with st.container(horizontal=True, key="kpis"):
        for kpi in numbers:
            st.metric(kpi.label, kpi.value, help=kpi.explanation, border=True)


def show_batches(batches: reads.Batches, covered: str) -> None:
    zone, palette = settings_of_this_process().zone, present_palette()
    ends = batches.until - batches.window, batches.until
    sampled = f"; every {batches.sampled}th" if batches.sampled > 1 else ""
    left, right = st.columns(2, gap="medium")
    with left:
        st.header("Rows per second", anchor=False)
        st.caption(covered)
        show_figure(
            views.rows_figure(batches.frame, ends, batches.step, palette, zone),
            "Rows per second over time",
            views.batches_table(batches.frame, batches.step, zone),
        )
    with right:
        st.header("Lag by partition", anchor=False)
        st.caption(f"Records behind; {covered}")
        show_figure(
            views.lag_figure(batches.lag, ends, palette, zone),
            "Lag of each partition over time",
            views.wide_table(batches.lag, "partition", "lag", zone),
        )
    left, right = st.columns(2, gap="medium")
    with left:
        st.header("Batch duration by stage", anchor=False)
        st.caption(f"Mean of a batch{sampled}; {covered}")
        show_figure(
            views.stages_figure(batches.stages, ends, batches.step, palette, zone),
            "Duration of a batch by stage over time",
            views.wide_table(batches.stages, "stage", "ms", zone),
        )
    with right:
        st.header("Latency", anchor=False)
        st.caption(f"p50, p95: mean batch, p99: worst{sampled}; {covered}")
        show_figure(
            views.latency_figure(batches.latency, ends, palette, zone),
            "Latency from produced to committed over time",
            views.latency_table(batches.latency, zone),
        )


def show_dead_letters(operation: reads.Operation) -> None:
    zone = settings_of_this_process().zone
    st.header("Dead letters", anchor=False)
    st.caption(
        f"Records that cannot be used, of all time; times in {zone.key}. "
        "`python -m fraudstream dead-letters` shows them whole and puts them through again."
    )
    if operation.rejected.empty:
        st.text("None.")
        return
    reasons, examples = st.columns([2, 3], gap="medium")
    with reasons, st.container(key="dead_letters"):
        st.dataframe(
            views.rejected_table(operation.rejected, zone), hide_index=True, alt="Dead letters by reason"
        )
    with examples, st.container(key="dead_letter_examples"):
        st.dataframe(
            views.examples_table(operation.examples, zone),
            hide_index=True,
            column_config=EXAMPLE_COLUMNS,
            alt="The newest dead letters of each reason",
        )


def show_outbox(outbox: reads.Outbox) -> None:
    zone = settings_of_this_process().zone
    st.header("Mails", anchor=False)
    oldest = outbox.oldest_waiting
    st.caption(
        f"Now; times in {zone.key}. "
        + (f"The oldest waiting alert is of {views.instant(oldest, zone)}." if oldest else "No alert waits.")
    )
    states, errors = st.columns([2, 3], gap="medium")
    with states, st.container(key="outbox"):
        st.dataframe(views.outbox_table(outbox.states), hide_index=True, alt="Alerts and mails by state")
    with errors, st.container(key="mail_errors"):
        if outbox.errors.empty:
            st.text("No mail is in trouble.")
        else:
            st.dataframe(
                views.mail_errors_table(outbox.errors, zone),
                hide_index=True,
                alt="Mails that are not through",
            )


def show_components(state: reads.Pipeline) -> None:
    zone = settings_of_this_process().zone
    st.header("What the parts last said", anchor=False)
    st.caption(f"Troubles first; times in {zone.key}")
    with st.container(key="components"):
        if state.components.empty:
            st.text("Nothing yet.")
        else:
            st.dataframe(
                views.components_table(state.components, zone),
                hide_index=True,
                alt="Parts and their last word",
            )
