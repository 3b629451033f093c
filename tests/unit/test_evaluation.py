"""The protocol of delayed labels and its figures, worked out by hand and against plain loops."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudstream import evaluation
from fraudstream.evaluation import (
    Comparison,
    EvaluationError,
    Mode,
    Plan,
    Report,
    ScenarioFigures,
    card_numbers,
    card_precision,
    compare_verdicts,
    evaluate,
    known_outcomes,
    per_scenario,
    precision_and_recall,
    ranking,
    rows_to_learn_and_choose,
    rows_to_test,
    split_by_time,
    training_outcome,
)
from fraudstream.features import FEATURE_NAMES, transaction_features
from fraudstream.merchant_risk import no_outcomes
from fraudstream.model import FRAUD, LEGITIMATE, UNKNOWN, Sample, TrainingError, budget_threshold, fit
from fraudstream.schema import TRANSACTION_ARROW

START = date(2018, 7, 25)
FIRST = (START - date(1970, 1, 1)).days
DAY_S = 86_400


def plan(**changed: Any) -> Plan:
    """Two days train, one day is waited for labels, three days test: 25-26, 27, 28-30 July."""
    return replace(Plan(START, train_days=2, delay_days=1, test_days=3, trees=20), **changed)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def marks(text: str) -> np.ndarray:
    """`.x.` -> [False, True, False]"""
    return np.array([letter == "x" for letter in text])


# --- periods and cards ----------------------------------------------------------------------------


def test_the_periods_follow_each_other() -> None:
    assert [plan().training, plan().waiting, plan().test] == [
        range(FIRST, FIRST + 2),
        range(FIRST + 2, FIRST + 3),
        range(FIRST + 3, FIRST + 6),
    ]


def test_the_threshold_is_chosen_on_the_days_between_training_and_test() -> None:
    day = FIRST + ints(-1, 0, 1, 2, 3, 5)
    learn, choose = rows_to_learn_and_choose(day * DAY_S, day, plan())
    assert learn.tolist() == marks(".xx...").tolist()
    assert choose.tolist() == marks("...x..").tolist()


def test_without_a_delay_it_is_chosen_on_the_newest_fifth_of_the_training_rows() -> None:
    seconds = FIRST * DAY_S + ints(-5, 90, 10, 20, 30, 40, 2 * DAY_S)
    learn, choose = rows_to_learn_and_choose(seconds, seconds // DAY_S, plan(delay_days=0))
    assert choose.tolist() == marks(".x.....").tolist()
    assert learn.tolist() == marks("..xxxx.").tolist()


def test_of_rows_of_one_time_the_last_are_the_newest() -> None:
    earlier, newest = split_by_time(ints(*[7] * 10))
    assert newest.tolist() == marks("........xx").tolist()
    assert earlier.tolist() == (~newest).tolist()


@pytest.mark.parametrize(
    ("fraud_day", "tested"),
    [
        (-1, "xxx"),  # before the training days: not looked at
        (0, "..."),
        (1, "..."),  # the last training day
        (2, "x.."),  # test day 1 is the first that knows of the day after the training
        (3, "xx."),
        (4, "xxx"),  # its label is not known before the test is over
    ],
)
def test_a_card_is_left_out_from_the_day_on_that_knows_of_its_fraud(fraud_day: int, tested: str) -> None:
    """Three legitimate rows of one card, one a test day, and a fraud of it."""
    day = FIRST + ints(3, 4, 5, fraud_day)
    kept = rows_to_test(ints(0, 0, 0, 0), day, marks("...x"), plan())
    assert kept[:3].tolist() == marks(tested).tolist()
    assert kept[3] == (fraud_day in (3, 4))  # the fraud itself is tested where it falls into the test


def test_frauds_of_one_card_say_nothing_about_another() -> None:
    day = FIRST + ints(3, 3, 0)
    assert rows_to_test(ints(1, 0, 0), day, marks("..x"), plan()).tolist() == marks("x..").tolist()


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-2, 12), st.booleans(), st.integers(0, 4)),
    min_size=1,
    max_size=60,
)


def columns(rows: list[tuple[int, int, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    card, day, fraud, score = (np.array(column) for column in zip(*rows, strict=True))
    return card.astype(np.int64), FIRST + day.astype(np.int64), fraud, score / 4


@given(ROWS, st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
def test_the_rows_to_test_are_those_of_the_published_loop(
    rows: list[tuple[int, int, bool, int]], train_days: int, delay_days: int, test_days: int
) -> None:
    """The protocol as its authors describe it, day by day."""
    card, day, fraud, _ = columns(rows)
    known = {c for c, d, f in zip(card, day, fraud, strict=True) if f and FIRST <= d < FIRST + train_days}
    expected = []
    for k in range(test_days):
        newly_known = FIRST + train_days + k - 1
        known |= {c for c, d, f in zip(card, day, fraud, strict=True) if f and d == newly_known}
        today = FIRST + train_days + delay_days + k
        expected += [i for i in range(len(card)) if day[i] == today and card[i] not in known]
    kept = rows_to_test(card, day, fraud, Plan(START, train_days, delay_days, test_days))
    assert np.flatnonzero(kept).tolist() == sorted(expected)


def test_cards_are_numbered_by_their_names() -> None:
    assert card_numbers(pa.chunked_array([["b", "a"], ["c", "b"]])).tolist() == [1, 0, 2, 1]


# --- figures --------------------------------------------------------------------------------------


def test_card_precision_counts_the_frauds_among_the_worst_cards_of_each_day() -> None:
    """Day 1: the cards' highest scores are .9 (card 0, fraud by its other row), .8 (1), .7 (2, fraud).
    Day 2: card 0 was found before, so 1 and 3 are looked at, and 3 is fraud. 1/2 and 1/2."""
    rows = [(0, 1, 0.9, False), (0, 1, 0.1, True), (1, 1, 0.8, False), (2, 1, 0.7, True)]
    rows += [(0, 2, 0.9, True), (1, 2, 0.8, False), (3, 2, 0.6, True), (2, 2, 0.5, True)]
    card, day, scores, fraud = (np.array(column) for column in zip(*rows, strict=True))
    assert card_precision(scores, fraud, card, day, top=2) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_a_place_that_no_card_takes_finds_nothing() -> None:
    found = card_precision(np.array([0.1, 0.2]), marks("xx"), ints(0, 1), ints(1, 1), top=100)
    assert found == pytest.approx(2 / 100)


def test_of_equal_scores_the_lower_number_comes_first() -> None:
    scores, day = np.full(3, 0.5), ints(1, 1, 1)
    assert card_precision(scores, marks("x.."), ints(0, 1, 2), day, top=1) == 1
    assert card_precision(scores, marks("x.."), ints(2, 1, 0), day, top=1) == 0


def test_a_day_whose_cards_were_all_found_before_counts_as_one_without_finds() -> None:
    found = card_precision(np.array([0.1, 0.2]), marks("xx"), ints(0, 0), ints(1, 2), top=1)
    assert found == pytest.approx(1 / 2)


@given(ROWS, st.integers(1, 4))
def test_card_precision_is_what_a_plain_loop_finds(rows: list[tuple[int, int, bool, int]], top: int) -> None:
    card, day, fraud, scores = columns(rows)
    found: set[int] = set()
    shares = []
    for today in sorted(set(day)):
        of_day = [i for i in range(len(card)) if day[i] == today and card[i] not in found]
        highest = {c: max(scores[i] for i in of_day if card[i] == c) for c in {card[i] for i in of_day}}
        worst = sorted(highest, key=lambda c: (-highest[c], c))[:top]
        caught = {c for c in worst if any(fraud[i] for i in of_day if card[i] == c)}
        found |= caught
        shares.append(len(caught) / top)
    assert card_precision(scores, fraud, card, day, top=top) == pytest.approx(sum(shares) / len(shares))


def test_ranking_by_hand() -> None:
    """3 of the 4 pairs of a fraud and another are in order; the precision at the two frauds is 1 and 2/3."""
    auc, ap = ranking(np.array([0.9, 0.5, 0.6, 0.1]), marks("xx.."))
    assert auc == pytest.approx(3 / 4)
    assert ap == pytest.approx((1 + 2 / 3) / 2)


def test_scores_that_are_all_equal_rank_nothing() -> None:
    assert ranking(np.full(4, 0.5), marks("x...")) == (0.5, 0.25)


@pytest.mark.parametrize("fraud", ["....", "xxxx", ""])
def test_of_one_kind_alone_there_is_no_ranking(fraud: str) -> None:
    assert ranking(np.arange(float(len(fraud))), marks(fraud)) == (None, None)


def test_precision_and_recall() -> None:
    assert precision_and_recall(marks("xxx.."), marks("x..xx")) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert precision_and_recall(marks("..."), marks("x..")) == (None, 0)
    assert precision_and_recall(marks("x.."), marks("...")) == (0, None)


def test_a_scenario_is_measured_against_all_that_is_no_fraud() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    scenario = np.array(["leak", "other", "normal", "leak"], dtype=object)
    figures = per_scenario(scores, marks("xx.x"), marks("xx.."), scenario, ["leak", "other", "unseen"])
    assert figures == {
        "leak": ScenarioFigures(2, 0.5, pytest.approx((1 + 2 / 3) / 2), 0.5),
        "other": ScenarioFigures(1, 1.0, 1.0, 1.0),
        "unseen": ScenarioFigures(0, None, None, None),
    }


# --- what the model may know ----------------------------------------------------------------------


def transactions(rows: int = 1_200, days: int = 6, seed: int = 1) -> tuple[pa.Table, pd.DataFrame]:
    """Payments of 40 users over `days` days from START on, in order of time, and which of them are fraud.

    One in ten is: half of them ten times as high as usual, the other half at the one merchant `bad`.
    """
    chance = np.random.default_rng(seed)
    kind = chance.choice(["normal", "high", "merchant"], size=rows, p=[0.9, 0.05, 0.05])
    seconds = np.sort(chance.integers(0, days * DAY_S, rows)).tolist()
    amounts = np.where(kind == "high", 10, 1) * chance.integers(1_000, 9_000, rows)
    merchants = np.where(kind == "merchant", "bad", np.char.mod("M%d", chance.integers(0, 20, rows)))
    start = datetime(START.year, START.month, START.day)  # noqa: DTZ001  # local time has no zone
    table = {
        "TransactionID": [f"T{number}" for number in range(rows)],
        "UserID": [f"U{number}" for number in chance.integers(0, 40, rows)],
        "Amount": [Decimal(int(cents)) / 100 for cents in amounts],
        "Location": [None] * rows,
        "Time": [start + timedelta(seconds=second) for second in seconds],
        "Device": [None] * rows,
        "Merchant": merchants.tolist(),
    }
    truth = {
        "TransactionID": table["TransactionID"],
        "is_fraud": kind != "normal",
        "scenario": kind.astype(object),
    }
    return pa.table(table, schema=TRANSACTION_ARROW), pd.DataFrame(truth)


def swapped(truth: pd.DataFrame) -> pd.DataFrame:
    return truth.assign(is_fraud=~truth["is_fraud"])


def test_a_label_is_known_to_merchants_one_delay_after_its_transaction() -> None:
    table, _ = transactions(rows=3)
    table = table.set_column(6, "Merchant", pa.array(["A", None, "B"], pa.string()))
    outcome = np.array([FRAUD, FRAUD, UNKNOWN], dtype=np.int8)
    known = known_outcomes(table, outcome, plan(mode=Mode.FEEDBACK))
    assert known.fraud.tolist() == [True]  # no merchant, no label: nothing to know
    assert (known.known_at_s - known.time_s).tolist() == [DAY_S]
    assert len(known_outcomes(table, outcome, plan()).time_s) == 0


@pytest.mark.parametrize(("delay_days", "known"), [(0, True), (1, True), (7, True)])
def test_training_rows_teach_what_is_known_when_the_test_begins(delay_days: int, known: bool) -> None:
    last_second = ints((FIRST + 2) * DAY_S - 1)
    outcome = np.array([FRAUD], dtype=np.int8)
    supervised = plan(mode=Mode.SUPERVISED, delay_days=delay_days)
    assert training_outcome(outcome, last_second, supervised).tolist() == [FRAUD if known else UNKNOWN]
    later = ints((FIRST + 2) * DAY_S + 1)
    assert training_outcome(outcome, later, supervised).tolist() == [UNKNOWN]
    for mode in (Mode.UNSUPERVISED, Mode.FEEDBACK):
        assert training_outcome(outcome, last_second, plan(mode=mode)) is None


def test_the_unsupervised_figures_are_those_of_a_model_that_saw_no_label() -> None:
    """Everything again with the parts that the stream uses, and the rows picked by hand."""
    table, truth = transactions()
    report = evaluate(table, truth, plan())
    features = transaction_features(table, no_outcomes()).features
    day = (table["Time"].to_numpy().astype("datetime64[D]").astype(np.int64)) - FIRST
    scorer = fit(Sample(features[day < 2]), trees=20, seed=0)
    threshold = budget_threshold(scorer.score(features[day == 2]), 0.01)
    fraud, user = truth["is_fraud"].to_numpy(), np.array(table["UserID"].to_pylist())
    tested = np.zeros(len(day), dtype=bool)
    for today in (3, 4, 5):
        known = set(user[fraud & (day <= today - 2)])
        tested |= (day == today) & ~np.isin(user, list(known))
    scores, fraud = scorer.score(features[tested]), fraud[tested]
    assert report.threshold == threshold
    assert (report.train_rows, report.threshold_rows) == ((day < 2).sum(), (day == 2).sum())
    assert (report.test_rows, report.test_frauds) == (tested.sum(), fraud.sum())
    assert report.auc == pytest.approx(roc_auc_score(fraud, scores))
    assert report.ap == pytest.approx(average_precision_score(fraud, scores))
    assert report.recall == pytest.approx(np.mean(scores[fraud] >= threshold))
    assert report.alerts_per_day == pytest.approx((scores >= threshold).sum() / 3)
    assert sum(each.frauds for each in report.per_scenario.values()) == fraud.sum()
    assert list(report.per_scenario) == ["high", "merchant"]


def fitted_with(
    monkeypatch: pytest.MonkeyPatch, table: pa.Table, truth: pd.DataFrame, chosen: Plan
) -> Sample:
    """What the model was trained on."""
    samples: list[Sample] = []

    def remember(training: Sample, **options: Any) -> Any:
        samples.append(training)
        return fit(training, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "fit", remember)
        evaluate(table, truth, chosen)
    (sample,) = samples
    return sample


def test_each_mode_learns_from_what_it_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """`before` labels are old enough for merchant risk in the training days, which are the last ones here."""
    table, truth = transactions(days=8)
    chosen = plan(train_start=START + timedelta(days=2))
    risk = [FEATURE_NAMES.index(name) for name in FEATURE_NAMES if name.startswith("merchant_fraud")]

    unsupervised = fitted_with(monkeypatch, table, truth, chosen)
    assert unsupervised.outcome is None and not unsupervised.features[:, risk].any()

    feedback = fitted_with(monkeypatch, table, truth, replace(chosen, mode=Mode.FEEDBACK))
    assert feedback.outcome is None and feedback.features[:, risk].any()

    supervised = fitted_with(monkeypatch, table, truth, replace(chosen, mode=Mode.SUPERVISED))
    day = (table["Time"].to_numpy().astype("datetime64[D]").astype(np.int64)) - FIRST
    expected = np.where(truth["is_fraud"], FRAUD, LEGITIMATE)[(day == 2) | (day == 3)]
    assert supervised.outcome is not None and supervised.outcome.tolist() == expected.tolist()
    assert np.array_equal(supervised.features, feedback.features)


def test_labels_of_the_test_days_reach_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other labels from the day on at which nothing is known, model and threshold are the same."""
    table, truth = transactions(days=6)
    late = table["Time"].to_numpy() >= np.datetime64(START + timedelta(days=3))
    other = truth.assign(is_fraud=truth["is_fraud"] ^ late)
    for mode in Mode:
        one, two = (evaluate(table, labels, plan(mode=mode)) for labels in (truth, other))
        assert one.threshold == two.threshold
        assert one.auc != two.auc


def test_labels_before_the_training_days_teach_the_merchants() -> None:
    """The fraud at one merchant is found by feedback, and not without."""
    table, truth = transactions(rows=4_000, days=12)
    chosen = plan(train_start=START + timedelta(days=5), train_days=2)
    alone, feedback = (
        evaluate(table, truth, replace(chosen, mode=mode)).per_scenario["merchant"].auc
        for mode in (Mode.UNSUPERVISED, Mode.FEEDBACK)
    )
    assert alone is not None and feedback is not None
    assert feedback > 0.9 > alone


# --- what is missing ------------------------------------------------------------------------------


def test_transactions_without_a_label_are_left_out_and_said_so() -> None:
    table, truth = transactions()
    labelled = truth["is_fraud"] | (np.arange(len(truth)) % 2 == 0)
    stray = pd.DataFrame({"TransactionID": ["stray"], "is_fraud": [True], "scenario": ["high"]})
    whole = evaluate(table, truth, plan())
    fewer = evaluate(table, pd.concat([truth[labelled], stray], ignore_index=True), plan())
    assert fewer.test_frauds == whole.test_frauds
    assert fewer.test_rows < whole.test_rows
    assert fewer.train_rows == whole.train_rows
    assert fewer.warnings[:2] == (
        "labels that name no usable transaction of the data: 1, as 'stray'",
        f"transactions without a label: {(~labelled).sum()}, as 'T{np.argmin(labelled)}'; "
        "their outcome counts as unknown",
    )
    assert whole.warnings == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train_start": START - timedelta(days=9)},
            "no usable transactions of the training days 2018-07-16 to 2018-07-17; they hold 2018-07-25 to "
            "2018-07-30",
        ),
        ({"train_days": 5}, "no usable transactions of the test days 2018-07-31 to 2018-08-02"),
        ({"train_days": 6}, "no usable transactions of the delay days 2018-07-31 to 2018-07-31"),
    ],
)
def test_a_period_without_rows_is_an_error(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(*transactions(), plan(**changed))
    assert message in str(caught.value)


def test_no_transactions_at_all_are_an_error() -> None:
    table, truth = transactions()
    with pytest.raises(EvaluationError, match=r"training days .* they hold none"):
        evaluate(table.slice(0, 0), truth, plan())


def test_a_test_of_which_no_row_is_left_is_an_error() -> None:
    table, truth = transactions()
    with pytest.raises(EvaluationError, match="no row of the test days 2018-07-28 to 2018-07-30 is left"):
        evaluate(table, truth.assign(is_fraud=True), plan())
    with pytest.raises(EvaluationError, match="is left: each has no label"):
        evaluate(table, truth.iloc[:0], plan())


def test_test_days_without_rows_are_named_and_no_part_of_a_mean() -> None:
    table, truth = transactions()
    longer = evaluate(table, truth, plan(test_days=5))
    assert longer.warnings == (
        "no usable transactions of 2018-07-31, 2018-08-01: means over days leave them out",
    )
    whole = evaluate(table, truth, plan())
    assert (longer.alerts_per_day, longer.cp100) == (whole.alerts_per_day, whole.cp100)


def test_a_figure_that_is_undefined_is_none_and_explained() -> None:
    table, truth = transactions()
    report = evaluate(table, truth.assign(is_fraud=False), plan(budget=0.0001))
    assert (report.auc, report.ap, report.recall, report.cp100) == (None, None, None, 0)
    assert f"none of the {report.test_rows:,} test rows is fraud: AUC, AP and recall are undefined" in (
        report.warnings
    )
    assert report.as_json()["auc"] is None
    assert report.in_words().splitlines()[2].split() == ["all", "0", "-", "-", "-"]


def test_a_scenario_that_the_test_has_no_fraud_of_is_named() -> None:
    table, truth = transactions()
    early = np.arange(len(truth)) < 3
    report = evaluate(
        table, truth.assign(scenario=np.where(early & truth["is_fraud"], "early", "late")), plan()
    )
    if not (early & truth["is_fraud"]).any():
        pytest.fail("the data have no early fraud: take another seed")
    assert report.per_scenario["early"] == ScenarioFigures(0, None, None, None)
    assert report.warnings == ("no fraud of the test rows is early: its figures are undefined",)


def test_labels_of_one_kind_cannot_teach() -> None:
    table, truth = transactions()
    with pytest.raises(TrainingError, match="0 frauds"):
        evaluate(table, truth.assign(is_fraud=False), plan(mode=Mode.SUPERVISED))


def test_the_report_is_one_flat_object() -> None:
    report: Report = evaluate(*transactions(), plan())
    document = report.as_json()
    assert document["train_start"] == "2018-07-25"
    assert {"auc", "ap", "cp100", "per_scenario", "precision", "recall", "alerts_per_day"} <= document.keys()
    assert {
        "train_rows",
        "test_rows",
        "mode",
        "train_days",
        "delay_days",
        "test_days",
        "seed",
    } <= document.keys()
    assert document["per_scenario"]["high"].keys() == {"frauds", "auc", "ap", "recall"}
    assert "unsupervised: " in report.in_words() and "2018-07-28 to 2018-07-30 test" in report.in_words()


def test_the_same_seed_gives_the_same_figures() -> None:
    table, truth = transactions()
    one, two = (evaluate(table, truth, plan(mode=Mode.SUPERVISED)) for _ in range(2))
    assert one == two


# --- rules and model ------------------------------------------------------------------------------


class AmountOver500:
    """In the place of the shipped rules."""

    codes = ("HIGH", "NEVER")

    def broken(self, features: np.ndarray) -> np.ndarray:
        high = features[:, FEATURE_NAMES.index("Amount")] > 500
        return np.column_stack([high, np.zeros(len(high), dtype=bool)])


def compared(truth: pd.DataFrame, table: pa.Table) -> Comparison:
    return compare_verdicts(table, truth, AmountOver500(), budget=0.02, trees=20)  # type: ignore[arg-type]


def test_rules_and_model_are_compared_on_the_newest_fifth() -> None:
    table, truth = transactions()
    comparison = compared(truth, table)
    assert (comparison.train_rows, comparison.test_rows) == (960, 240)
    newest = truth.iloc[960:]
    high = np.array([float(amount) for amount in table["Amount"].to_pylist()[960:]]) > 500
    rules, model, hybrid = (comparison.verdicts[way] for way in ("rules", "model", "hybrid"))
    fraud = newest["is_fraud"].to_numpy()
    assert rules.flagged_share == high.mean()
    assert rules.precision == fraud[high].mean()
    assert rules.recalls == {
        "high": high[newest["scenario"] == "high"].mean(),
        "merchant": high[newest["scenario"] == "merchant"].mean(),
    }
    assert 0 < model.flagged_share <= 0.02
    assert max(rules.flagged_share, model.flagged_share) <= hybrid.flagged_share
    assert hybrid.flagged_share <= rules.flagged_share + model.flagged_share
    assert hybrid.recall is not None and rules.recall is not None and hybrid.recall >= rules.recall
    assert comparison.frauds == {name: (newest["scenario"] == name).sum() for name in ("high", "merchant")}


def test_the_compared_model_has_seen_no_label() -> None:
    table, truth = transactions()
    assert compared(truth, table).threshold == compared(swapped(truth), table).threshold


def test_newest_rows_without_labels_cannot_be_compared() -> None:
    table, truth = transactions()
    with pytest.raises(EvaluationError, match="none of the newest 240 of 1,200 rows has a label"):
        compared(truth.iloc[:960], table)


def test_the_comparison_in_words_has_a_line_for_each_scenario() -> None:
    comparison = compared(*reversed(transactions()))  # type: ignore[arg-type]
    words = comparison.in_words()
    for name, number in comparison.frauds.items():
        assert f"recall, {name} ({number})" in words
    assert "the newest 20% of the rows, 240 with a label" in words
    assert comparison.as_json()["verdicts"].keys() == {"rules", "model", "hybrid"}
