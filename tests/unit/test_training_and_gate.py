"""From a history to a judged candidate: what trains, what is held back, what was known, who may take over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fraudstream.features import FEATURE_NAMES
from fraudstream.history import time_s
from fraudstream.model import FRAUD, LEGITIMATE, UNKNOWN, TrainingError
from fraudstream.schema import SCORE_BINS, TRANSACTION_ARROW
from fraudstream.training import (
    History,
    Performance,
    Recipe,
    Split,
    Trained,
    compare,
    features_of,
    judge,
    known_at_split,
    labelled,
    merchant_outcomes,
    rows_sha256,
    split,
    train,
    unlabelled,
    version,
)

START = datetime.fromisoformat("2025-01-01 00:00:00")
NOW = datetime(2025, 6, 1, tzinfo=UTC)
DAY_S = 86_400
DATA = "d" * 64


def transactions(count: int = 600, *, seed: int = 5) -> pa.Table:
    """Every hour one, of 20 users, in no order of time; every 12th is a night-time amount far out."""
    chance = np.random.default_rng(seed)
    hours = chance.permutation(count).tolist()
    return pa.Table.from_pylist(
        [
            {
                "TransactionID": f"T{hour:05}",
                "UserID": f"U{hour % 20}",
                "Amount": Decimal(int(chance.integers(1_000, 9_000)) * (12 if hour % 12 == 3 else 1)) / 100,
                "Location": None if hour % 17 == 0 else "Cairo",
                "Time": START + timedelta(hours=hour),
                "Device": "iOS" if hour % 5 else "Web",
                "Merchant": f"M{hour % 7}",
            }
            for hour in hours
        ],
        schema=TRANSACTION_ARROW,
    )


def labels_of(rows: pa.Table, known_at_s: float = np.nan) -> pd.DataFrame:
    ids = rows["TransactionID"].to_pylist()
    return pd.DataFrame(
        {
            "TransactionID": ids,
            "is_fraud": [int(each[1:]) % 12 == 3 for each in ids],
            "known_at_s": known_at_s,
        }
    )


def history(*, delay_s: int = 0, count: int = 600) -> History:
    rows = transactions(count)
    return labelled(rows, labels_of(rows), label_delay_s=delay_s, data_sha256=DATA)


def trained(found: History, recipe: Recipe | None = None) -> Trained:
    recipe = recipe or Recipe(trees=10)
    return train(found, features_of(found, recipe.label_delay_s), recipe, trained_at=NOW)


@pytest.fixture(scope="module")
def unsupervised() -> Trained:
    return trained(unlabelled(transactions(), data_sha256=DATA))


@pytest.fixture(scope="module")
def supervised() -> Trained:
    return trained(history())


def test_the_last_fifth_by_event_time_is_held_back_whatever_the_order_of_arrival() -> None:
    times_s = np.random.default_rng(1).permutation(500) * 60
    parts = split(times_s)
    assert sorted(times_s[parts.training]) == [minute * 60 for minute in range(400)]
    assert times_s[parts.held_back].tolist() == [minute * 60 for minute in range(400, 500)]
    assert parts.at_s == 400 * 60


def test_rows_of_one_time_are_split_by_their_arrival() -> None:
    parts = split(np.full(200, 7))
    assert parts.training.tolist() == list(range(160))
    assert parts.held_back.tolist() == list(range(160, 200))


@pytest.mark.parametrize("count", [0, 10, 124])
def test_too_few_rows_are_named_with_how_many_are_needed(count: int) -> None:
    with pytest.raises(TrainingError, match=rf"^{count} usable rows are too few .* at least 125 are needed"):
        split(np.arange(count))
    assert len(split(np.arange(125)).training) == 100


def test_a_label_without_a_time_is_known_at_event_time_and_the_delay() -> None:
    found = history(delay_s=3 * DAY_S)
    assert np.array_equal(found.known_at_s, time_s(found.transactions["Time"]) + 3 * DAY_S)
    hours = [int(each[1:]) for each in found.transactions["TransactionID"].to_pylist()]
    assert found.outcome.tolist() == [FRAUD if hour % 12 == 3 else LEGITIMATE for hour in hours]


def test_a_label_with_a_time_is_known_from_then_on_and_what_has_no_label_is_unknown() -> None:
    rows = transactions()
    labels = labels_of(rows, known_at_s=1_738_555_506)[:2]
    found = labelled(rows, labels, label_delay_s=DAY_S, data_sha256=DATA)
    assert found.known_at_s[:3].tolist() == [1_738_555_506, 1_738_555_506, 0]
    assert (found.outcome != UNKNOWN).tolist() == [True, True, *[False] * 598]


def test_labels_that_are_of_no_transaction_are_an_error_and_never_no_labels() -> None:
    rows = transactions()
    strangers = labels_of(rows).assign(TransactionID=[f"X{number}" for number in range(len(rows))])
    with pytest.raises(TrainingError, match=r"none of the 600 labels is of a transaction in the data.*'X0'"):
        labelled(rows, strangers, label_delay_s=0, data_sha256=DATA)
    with pytest.raises(TrainingError, match="no usable labels"):
        labelled(rows, strangers[:0], label_delay_s=0, data_sha256=DATA)


def test_a_training_row_has_the_outcome_that_was_known_when_its_period_ended() -> None:
    found = history(delay_s=2 * DAY_S)
    parts = split(time_s(found.transactions["Time"]))
    outcome = known_at_split(found, parts)
    assert outcome is not None
    known_until = parts.at_s - 2 * DAY_S
    early = time_s(found.transactions["Time"])[parts.training] <= known_until
    assert np.array_equal(outcome != UNKNOWN, early)
    assert np.array_equal(outcome[early], found.outcome[parts.training][early])
    assert 0 < early.sum() < len(early)


def test_no_label_in_time_is_an_error_and_never_no_labels() -> None:
    found = history(delay_s=400 * DAY_S)
    with pytest.raises(
        TrainingError, match=r"none of the 600 labels .* known by its end, 2025-01-21 00:00:00"
    ):
        trained(found)


def test_labels_of_one_kind_are_an_error() -> None:
    rows = transactions()
    labels = labels_of(rows).assign(is_fraud=False)
    with pytest.raises(TrainingError, match="0 frauds"):
        trained(labelled(rows, labels, label_delay_s=0, data_sha256=DATA))


def test_data_that_never_vary_are_an_error() -> None:
    rows = transactions()
    same = pa.table(
        {name: pa.concat_arrays([rows[name][:1].combine_chunks()] * 600) for name in rows.column_names}
    )
    with pytest.raises(TrainingError, match="varies"):
        trained(unlabelled(same.cast(TRANSACTION_ARROW), data_sha256=DATA))


def test_a_merchant_without_a_name_has_no_risk() -> None:
    rows = transactions()
    nameless = rows.set_column(6, "Merchant", pa.nulls(len(rows), pa.string()))
    labels = labels_of(rows)
    found = labelled(nameless, labels, label_delay_s=0, data_sha256=DATA)
    assert len(merchant_outcomes(found.transactions, found.outcome, found.known_at_s).merchant) == 0
    risk = features_of(found, 0)[:, [FEATURE_NAMES.index("merchant_frauds_30d")]]
    assert not risk.any()


def test_merchant_risk_comes_from_the_labels_after_the_delay() -> None:
    found = history(delay_s=DAY_S)
    risk = features_of(found, DAY_S)[:, FEATURE_NAMES.index("merchant_frauds_30d")]
    hours = (time_s(found.transactions["Time"]) - time_s(found.transactions["Time"]).min()) // 3_600
    assert not risk[hours <= 24].any()
    assert risk[hours > 24 + 7 * 12].all()


def test_metadata_say_what_was_done(supervised: Trained, unsupervised: Trained) -> None:
    about = supervised.model.metadata
    assert (about.kind, unsupervised.model.metadata.kind) == ("supervised", "unsupervised")
    assert about.version.startswith("hybrid-")
    assert unsupervised.model.metadata.version.startswith("iforest-")
    assert (about.training_rows, about.held_back_rows) == (480, 120)
    assert (about.training_from, about.training_until) == ("2025-01-01 00:00:00", "2025-01-20 23:00:00")
    assert (about.training_frauds, unsupervised.model.metadata.training_frauds) == (40, None)
    assert about.feature_names == FEATURE_NAMES
    assert about.data_sha256 == DATA
    assert about.trained_at == "2025-06-01T00:00:00+00:00"
    assert unsupervised.model.metadata.held_back_average_precision is None
    assert about.held_back_average_precision is not None and about.held_back_average_precision > 0.5


def test_the_threshold_keeps_the_held_back_rows_within_the_budget() -> None:
    found = unlabelled(transactions(), data_sha256=DATA)
    for budget in (0.01, 0.1):
        candidate = trained(found, Recipe(alert_budget=budget, trees=10))
        about, scores = candidate.model.metadata, candidate.held_back_scores
        assert np.array_equal(scores, candidate.model.score(candidate.held_back.features))
        assert about.held_back_alert_rate == np.mean(scores >= about.threshold)
        assert budget / 2 <= about.held_back_alert_rate <= budget
        assert (len(about.held_back_scores), sum(about.held_back_scores)) == (SCORE_BINS, 120)


def test_what_never_varies_is_named_and_merchant_risk_only_where_there_are_labels(
    supervised: Trained, unsupervised: Trained
) -> None:
    assert "location_new" in unsupervised.constant
    assert not any(name.startswith("merchant_fraud") for name in unsupervised.constant)
    assert "history_truncated" in supervised.constant
    assert "Amount" not in supervised.constant


def test_the_same_history_and_recipe_give_the_same_model_bit_for_bit(
    supervised: Trained, unsupervised: Trained
) -> None:
    for first, found in (
        (supervised, history()),
        (unsupervised, unlabelled(transactions(), data_sha256=DATA)),
    ):
        again = trained(found)
        assert again.model.metadata == first.model.metadata
        assert np.array_equal(again.held_back_scores, first.held_back_scores)


def test_the_version_changes_with_all_that_decides_the_result() -> None:
    found, recipe = history(), Recipe()
    outcome = found.outcome.copy()
    outcome[0] = UNKNOWN
    versions = [
        version(found, recipe),
        version(replace(found, data_sha256="e" * 64), recipe),
        version(replace(found, outcome=outcome), recipe),
        version(replace(found, known_at_s=found.known_at_s + 1), recipe),
        version(unlabelled(found.transactions, data_sha256=DATA), recipe),
        version(found, replace(recipe, seed=1)),
        version(found, replace(recipe, trees=101)),
        version(found, replace(recipe, alert_budget=0.02)),
        version(found, replace(recipe, label_delay_s=0)),
    ]
    assert len(set(versions)) == len(versions)


def test_the_hash_of_rows_is_of_their_values_and_order_and_not_of_their_chunks() -> None:
    rows = transactions(50)
    cut = pa.concat_tables([rows[:7], rows[7:]])
    assert rows_sha256(cut) == rows_sha256(rows)
    assert rows_sha256(rows.take(pa.array([1, 0, *range(2, 50)]))) != rows_sha256(rows)
    missing, empty = (
        rows.set_column(6, "Merchant", pa.array([merchant, *rows["Merchant"].to_pylist()[1:]], pa.string()))
        for merchant in (None, "")
    )
    assert len({rows_sha256(rows), rows_sha256(missing), rows_sha256(empty)}) == 3


PRESENT = Performance("old", "supervised", 0.5, rows=1_000, flagged=10, average_precision=0.5)


def candidate(*, flagged: int = 10, precision: float | None = 0.5, kind: str = "supervised") -> Performance:
    return Performance("new", kind, 0.6, rows=1_000, flagged=flagged, average_precision=precision)


@pytest.mark.parametrize(("precision", "accepted"), [(0.4999, False), (0.5, True), (0.51, True)])
def test_where_outcomes_are_known_average_precision_decides(precision: float, accepted: bool) -> None:
    verdict, reason = judge(candidate(precision=precision), PRESENT, 0.01)
    assert verdict is accepted
    assert f"{precision:.4f}" in reason and "0.5000" in reason


def test_an_alert_rate_off_the_budget_is_no_reason_where_outcomes_are_known() -> None:
    assert judge(candidate(flagged=500, precision=0.6), PRESENT, 0.01)[0]


@pytest.mark.parametrize(
    ("flagged", "accepted"), [(0, False), (4, False), (5, True), (10, True), (20, True), (21, False)]
)
@pytest.mark.parametrize("present", [None, replace(PRESENT, kind="unsupervised", average_precision=None)])
def test_without_outcomes_the_alert_rate_must_be_near_the_budget(
    flagged: int, accepted: bool, present: Performance | None
) -> None:
    verdict, reason = judge(
        candidate(flagged=flagged, precision=None, kind="unsupervised"), present, alert_budget=0.01
    )
    assert verdict is accepted
    assert f"{flagged} of 1000" in reason and "1.00%" in reason


@pytest.mark.parametrize(("flagged", "accepted"), [(0, False), (1, True), (2, False)])
def test_of_few_rows_a_single_alert_is_near_any_budget(flagged: int, accepted: bool) -> None:
    few = replace(candidate(flagged=flagged, precision=None), rows=30)
    assert judge(few, None, 0.01)[0] is accepted


def test_a_model_that_learnt_from_labels_does_not_give_way_to_one_that_did_not() -> None:
    verdict, reason = judge(candidate(precision=None, kind="unsupervised"), PRESENT, 0.01)
    assert not verdict
    assert "old learnt from labels" in reason
    assert judge(candidate(), replace(PRESENT, kind="unsupervised"), 0.01)[0]


def test_without_a_present_model_a_candidate_with_outcomes_is_taken() -> None:
    verdict, reason = judge(candidate(precision=0.01), None, 0.01)
    assert verdict and "no present model" in reason


def test_both_models_are_compared_on_the_same_held_back_rows(
    supervised: Trained, unsupervised: Trained
) -> None:
    verdict = compare(supervised, unsupervised.model)
    assert verdict.present is not None
    about = unsupervised.model.metadata
    assert (verdict.present.version, verdict.present.threshold) == (about.version, about.threshold)
    scores = unsupervised.model.score(supervised.held_back.features)
    assert verdict.present.flagged == (scores >= about.threshold).sum()
    assert verdict.present.rows == verdict.candidate.rows == 120
    assert verdict.candidate.average_precision == supervised.model.metadata.held_back_average_precision
    assert verdict.accepted is (verdict.candidate.average_precision >= verdict.present.average_precision)
    assert compare(supervised, supervised.model).accepted
    assert not compare(unsupervised, supervised.model).accepted


def test_a_split_names_each_row_once() -> None:
    parts: Split = split(np.random.default_rng(2).integers(0, 50, 333))
    assert sorted([*parts.training, *parts.held_back]) == list(range(333))
