"""How good the flags are: precision with its interval, drift, and their figures."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from fraudstream.schema import SCORE_BINS
from fraudstream.views import detection
from fraudstream.views.palette import LIGHT

RULES = pd.DataFrame(
    {"code": ["MODEL", "<b>NEW</b>"], "flagged": [30, 10], "fraud": [8, 0], "legitimate": [2, 0]}
)
MONDAY = date.fromisoformat("2026-03-02")


def test_a_rule_is_shown_with_its_share_outcomes_and_precision() -> None:
    table = detection.rules_table(RULES, alerts=40)
    assert table.iloc[0].to_dict() == {
        "Reason": "Model",
        "Flags": 30,
        "Share of alerts": "75.0%",
        "Confirmed": 8,
        "Legitimate": 2,
        "Not reviewed": 20,
        "Precision": "80.0% (49% to 94%)",
        "Code": "MODEL",
    }
    assert table["Precision"].iloc[1] == "–"


def test_the_figure_of_rules_adds_up_to_the_flags_and_escapes_codes() -> None:
    figure = detection.rules_figure(RULES, LIGHT)
    assert np.sum([trace.x for trace in figure.data], axis=0).tolist() == [30, 10]
    assert figure.layout.yaxis.ticktext == ("Model", "&lt;b&gt;NEW&lt;/b&gt;")


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 500), (500, 500), (3, 10)])
def test_an_interval_lies_within_0_and_1_and_around_the_share(successes: int, trials: int) -> None:
    low, high = detection.wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high


def test_an_interval_narrows_with_the_number_of_outcomes() -> None:
    few, many = detection.wilson(3, 10), detection.wilson(300, 1_000)
    assert many[1] - many[0] < few[1] - few[0]


def test_drift_is_nothing_for_the_same_distribution_whatever_its_size_and_much_for_another() -> None:
    training = [1_000 >> min(each, 9) for each in range(SCORE_BINS)]
    assert detection.drift([10 * each for each in training], training) == pytest.approx(0)
    assert detection.drift_text(detection.drift(training, training)) == "0.00 (little)"
    shifted = [0] * 5 + training[:-5]
    assert detection.drift_text(detection.drift(shifted, training)).endswith("(much)")
    assert detection.drift([0] * SCORE_BINS, training) is None
    assert detection.drift_text(None) == "–"


def test_drift_stays_finite_where_all_scores_have_moved() -> None:
    low, high = [1] + [0] * (SCORE_BINS - 1), [0] * (SCORE_BINS - 1) + [1]
    index = detection.drift(high, low)
    assert index is not None
    assert np.isfinite(index)


def test_scores_are_shown_as_shares_with_gaps_where_there_are_none() -> None:
    now, training = [3, 0, 1], [1, 1, 2]
    figure = detection.scores_figure(now, training, 0.8, LIGHT)
    shown = {trace.name: trace.y for trace in figure.data}
    assert shown == {"Training": (0.25, 0.25, 0.5), "Now": (0.75, None, 0.25)}
    assert [shape.x0 for shape in figure.layout.shapes] == [0.8]
    assert detection.scores_table(now, training)["Now"].tolist() == ["75.0%", "0.0%", "25.0%"]


def outcomes(days: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "day": [MONDAY + timedelta(days=each) for each in range(days)],
            "fraud": [1] * days,
            "legitimate": [1] * days,
        }
    )


def test_precision_is_by_the_day_in_a_month_and_by_weeks_from_monday_beyond() -> None:
    step, spans = detection.precision_by_span(outcomes(14), 30)
    assert (step, len(spans)) == ("day", 14)
    step, spans = detection.precision_by_span(outcomes(15), 90)
    assert (step, spans["start"].tolist()) == (
        "week",
        [MONDAY, MONDAY + timedelta(days=7), MONDAY + timedelta(days=14)],
    )
    assert spans["fraud"].tolist() == [7, 7, 1]
    figure = detection.precision_figure(spans, step, LIGHT)
    assert figure.data[0].y == (0.5, 0.5, 0.5)
    assert detection.precision_table(spans, step)["Precision"].tolist()[0].startswith("50.0% (")


def test_a_model_that_the_job_does_not_use_is_said_to_be_so() -> None:
    def said(at_work: str | None) -> str:
        return detection.model_text(
            version="v2",
            kind="supervised",
            trained_at=pd.Timestamp("2026-03-01 12:00").to_pydatetime(),
            training=("2026-01-01", "2026-02-01", 12_000),
            threshold=0.5,
            threshold_chosen="within a budget",
            at_work=at_work,
        )

    assert "Learned from 12,000 transactions" in said("v2")
    assert "newest batch" not in said("v2") + said(None)
    assert "judged by model v1" in said("v1")
    assert "judged by no model" in said("")
