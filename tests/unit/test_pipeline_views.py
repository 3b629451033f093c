"""What the page of the pipeline says: whether the job runs, its numbers in local time, texts as they are."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from fraudstream.views import pipeline as views
from fraudstream.views.palette import DARK, LIGHT

CAIRO = ZoneInfo("Africa/Cairo")
NOON = datetime.fromisoformat("2026-03-01 12:00:00")
STEP = timedelta(seconds=15)
ENDS = NOON - timedelta(minutes=15), NOON + STEP
HOLDER = "<b>worker</b>:1:4242:1a2b"


def test_a_running_job_says_where():
    assert (
        views.job_text(True, HOLDER, NOON, NOON, CAIRO)
        == "The job is running: host <b>worker</b>:1 process 4242."
    )


def test_a_job_that_is_down_says_since_when_in_local_time():
    said = views.job_text(False, HOLDER, NOON, NOON + timedelta(minutes=5, seconds=7), CAIRO)
    assert "was last seen 5 min ago, at 2026-03-01 14:00:00 (Africa/Cairo)" in said
    assert "Start data_cleaning.py" in said


def test_a_job_that_never_ran_says_so():
    assert views.job_text(False, None, None, NOON, CAIRO) == (
        "The job has never run on this database. Start data_cleaning.py."
    )


@pytest.mark.parametrize(("running", "holder"), [(False, None), (False, HOLDER), (True, HOLDER)])
def test_of_a_job_in_trouble_nobody_says_that_a_start_suffices(running, holder):
    said = views.job_text(running, holder, holder and NOON, NOON, CAIRO, in_trouble=True)
    assert said
    assert "Start data_cleaning.py" not in said
    assert "goes on" not in said


def test_the_jobs_own_words_are_shown_as_they_are_with_their_local_time():
    assert views.trouble_text("<b>lost</b>: offsets accept", NOON, CAIRO) == (
        "What it last said, at 2026-03-01 14:00:00 (Africa/Cairo): <b>lost</b>: offsets accept"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3_700, "1 h"), (100_000, "27 h"), (200_000, "2 days")],
)
def test_how_long_ago(seconds, text):
    said = views.job_text(False, HOLDER, NOON, NOON + timedelta(seconds=seconds), CAIRO)
    assert f"last seen {text} ago" in said


def test_the_window_is_said_in_local_time():
    assert views.window_caption(NOON, timedelta(hours=1), CAIRO) == "2026-03-01 13:00 to 14:00, Africa/Cairo"
    assert views.window_caption(NOON, timedelta(days=1), CAIRO) == (
        "2026-02-28 14:00 to 2026-03-01 14:00, Africa/Cairo"
    )


def test_numbers_of_nothing():
    shown = views.kpis(
        rows=0, window=timedelta(hours=1), lag=None, p95_ms=None, rejected=0, waiting=0, failed=0
    )
    assert [kpi.value for kpi in shown] == ["0.0", "–", "–", "0", "0", "0"]


def test_numbers():
    shown = views.kpis(
        rows=3_600_000, window=timedelta(hours=1), lag=1234, p95_ms=432.1, rejected=5, waiting=6, failed=7
    )
    assert [kpi.value for kpi in shown] == ["1,000", "1,234", "432 ms", "5", "6", "7"]
    assert views.milliseconds(125_000) == "2 min"


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_figures_are_in_local_time_and_escape_names(palette):
    frame = pd.DataFrame({"start": [NOON], "rows": [1500], "batches": [3]})
    figure = views.rows_figure(frame, ENDS, STEP, palette, CAIRO)
    # The whole window, however few batches there are in it.
    assert figure.layout.xaxis.range == ("2026-03-01 13:45:00", "2026-03-01 14:00:15")
    (bars,) = figure.data
    assert list(bars.x) == ["2026-03-01 14:00:00.000000"]
    assert list(bars.y) == [100.0]
    assert bars.customdata[0] == "2026-03-01 14:00:00<br>100 rows/s<br>1,500 rows in 3 batches"

    stages = pd.DataFrame({"start": [NOON, NOON], "stage": ["judge", "<b>x</b>"], "ms": [10.0, 5.0]})
    drawn = views.stages_figure(stages, ENDS, STEP, palette, CAIRO)
    assert [trace.name for trace in drawn.data] == ["judge", "&lt;b&gt;x&lt;/b&gt;"]

    lag = pd.DataFrame({"start": [NOON, NOON], "partition": [0, 1], "lag": [3, 4]})
    assert [trace.name for trace in views.lag_figure(lag, ENDS, palette, CAIRO).data] == [
        "Partition 0",
        "Partition 1",
    ]

    latency = pd.DataFrame({"start": [NOON], "p50": [1.0], "p95": [2.0], "p99": [3.0]})
    assert [list(trace.y) for trace in views.latency_figure(latency, ENDS, palette, CAIRO).data] == [
        [1],
        [2],
        [3],
    ]


def test_figures_and_tables_of_nothing_can_be_made():
    nothing = pd.DataFrame({name: [] for name in ("start", "rows", "batches", "stored", "flagged")})
    assert views.rows_figure(nothing, ENDS, STEP, LIGHT, CAIRO).data
    assert views.batches_table(nothing, STEP, CAIRO).empty
    lag = pd.DataFrame({"start": [], "partition": [], "lag": []})
    assert not views.lag_figure(lag, ENDS, LIGHT, CAIRO).data
    assert views.wide_table(lag, "partition", "lag", CAIRO).empty


def test_tables_have_a_column_for_each_stage_and_the_bytes_of_dead_letters_as_text():
    stages = pd.DataFrame({"start": [NOON, NOON], "stage": ["judge", "commit"], "ms": [10.04, 5.0]})
    assert views.wide_table(stages, "stage", "ms", CAIRO).to_dict("records") == [
        {"From": "2026-03-01 14:00:00", "commit": 5.0, "judge": 10.0}
    ]
    examples = pd.DataFrame(
        [("not JSON", None, "t", 0, 7, NOON, b"\xff<script>"), ("no value", "x", "t", 0, 8, NOON, None)],
        columns=["reason", "detail", "topic", "partition_id", "offset", "rejected_at", "value"],
    )
    table = views.examples_table(examples, CAIRO)
    assert table["Message"].tolist() == ["\ufffd<script>", ""]
    assert table["Detail"].tolist() == ["", "x"]


def test_troubles_come_first():
    components = pd.DataFrame(
        [("a", "ok", "fine", NOON), ("b", "warning", "hm", NOON), ("c", "error", "no", NOON)],
        columns=["component", "state", "message", "updated_at"],
    )
    assert views.components_table(components, CAIRO)["Part"].tolist() == ["c", "b", "a"]
