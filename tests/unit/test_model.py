"""The model: what it finds strange, what labels teach it, why it says so, and where the line is drawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fraudstream.features import FEATURE_NAMES, transaction_features
from fraudstream.merchant_risk import no_outcomes
from fraudstream.model import (
    FRAUD,
    LEGITIMATE,
    MINIMUM_ROWS,
    TOP_CONTRIBUTIONS,
    UNKNOWN,
    Floats,
    Metadata,
    Model,
    Sample,
    Scorer,
    TailCurve,
    TrainingError,
    average_precision,
    budget_threshold,
    constant_features,
    feature_inputs,
    fit,
    from_parts,
    merchant_probability,
    parts_of,
)
from fraudstream.schema import SCORE_BINS, TRANSACTION_ARROW

FRAUD_SHARES = tuple(name for name in FEATURE_NAMES if name.startswith("merchant_fraud_share"))
MONEY = ("Amount", "avg_amount_24h", *(name for name in FEATURE_NAMES if name.startswith("amount_sum")))


def column(name: str) -> int:
    return FEATURE_NAMES.index(name)


def plausible(count: int = 600, seed: int = 3) -> Floats:
    """Features as transactions have them: shares are mostly 0, flags rare, amounts skewed, counts small."""
    chance = np.random.default_rng(seed)
    features = chance.lognormal(3, 1, (count, len(FEATURE_NAMES)))
    for position, name in enumerate(FEATURE_NAMES):
        if name.startswith("merchant_"):
            features[:, position] = np.where(chance.random(count) < 0.05, chance.random(count), 0)
        elif name.startswith("tx_count") or name == "high_amounts_7d":
            features[:, position] = chance.poisson(1, count)
        elif name in ("amount_zscore", "amount_deviation", "amount_streak", "tod_sin", "tod_cos"):
            features[:, position] = chance.standard_normal(count)
        elif name.endswith(("_new", "_changed", "_switched", "_truncated")) or name in (
            "night",
            "weekend",
            "missing_location",
        ):
            features[:, position] = chance.random(count) < 0.05
    return features


def with_outcomes(count: int = 600, seed: int = 3) -> Sample:
    """Many transactions of the last five minutes are fraud; of a third nothing is known."""
    features = plausible(count, seed)
    fraud = features[:, column("tx_count_5m")] >= 3
    outcome = np.where(fraud, FRAUD, LEGITIMATE).astype(np.int8)
    outcome[::3] = UNKNOWN
    return Sample(features, outcome)


@cache
def anomaly() -> Scorer:
    return fit(Sample(plausible()), trees=20)


@cache
def learned() -> Scorer:
    return fit(with_outcomes(), trees=20)


both = pytest.mark.parametrize("scorer_of", [anomaly, learned], ids=["anomaly", "learned"])
ScorerOf = Callable[[], Scorer]


def usual_but(scorer: Scorer, **changed: float) -> Floats:
    """One transaction that is as usual but for what is named, as features of one row."""
    row = scorer.usual[None].copy()
    for name, value in changed.items():
        row[:, column(name)] = value
    return row


def model_of(scorer: Scorer) -> Model:
    return Model(
        scorer,
        Metadata(
            version="v", kind="k", feature_names=FEATURE_NAMES, threshold=0.5, threshold_chosen="so",
            alert_budget=0.01, label_delay_s=0, trained_at="", training_from="", training_until="",
            training_rows=0, training_frauds=None, held_back_rows=0, held_back_alert_rate=0.0,
            held_back_average_precision=None, held_back_scores=(0,) * SCORE_BINS, data_sha256="", seed=0,
        ),
    )  # fmt: skip


# Scores


@both
def test_scores_are_one_a_row_and_shares_of_one(scorer_of: ScorerOf) -> None:
    scorer = scorer_of()
    scores = scorer.score(plausible(1000, seed=4))
    assert scores.shape == (1000,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(np.unique(scores)) > 500
    assert scorer.score(plausible(5)[:0]).shape == (0,)
    assert np.array_equal(model_of(scorer).score(plausible(50)), scorer.score(plausible(50)))


@both
def test_values_beyond_all_that_was_seen_still_give_a_score(scorer_of: ScorerOf) -> None:
    scorer = scorer_of()
    extremes = np.vstack([np.full(len(FEATURE_NAMES), value) for value in (-1e12, 0.0, 1.0, 1e12)])
    extremes[:, [column(name) for name in FRAUD_SHARES]] = [[0.0], [0.0], [0.999], [0.999]]
    scores = scorer.score(extremes)
    assert ((scores >= 0) & (scores <= 1)).all()


@both
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_score_does_not_depend_on_the_rows_beside_it(scorer_of: ScorerOf, size: int) -> None:
    """To the last bit: a stored score must come out again whatever batch the row was in."""
    scorer, features = scorer_of(), plausible(600, seed=4)
    features[:, [column(name) for name in FRAUD_SHARES]] = np.random.default_rng(5).random((600, 3))
    whole = scorer.score(features)
    parts = [scorer.score(features[start : start + size]) for start in range(0, 600, size)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(scorer.score(features[::-1]), whole[::-1])
    assert np.array_equal(scorer.score(np.asfortranarray(features)), whole)


def test_the_same_sample_and_seed_give_the_same_scorer() -> None:
    features = plausible(400, seed=4)
    for sample, first in ((Sample(plausible()), anomaly()), (with_outcomes(), learned())):
        again, other = fit(sample, trees=20), fit(sample, trees=20, seed=1)
        assert np.array_equal(again.score(features), first.score(features))
        assert not np.array_equal(other.score(features), first.score(features))


def test_training_leaves_the_sample_as_it_was() -> None:
    sample, untouched = with_outcomes(), with_outcomes()
    fit(sample, trees=2)
    assert np.array_equal(sample.features, untouched.features)
    assert sample.outcome is not None and untouched.outcome is not None
    assert np.array_equal(sample.outcome, untouched.outcome)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Amount", (20.0, 500.0, 1e5)),
        ("amount_streak", (0.0, 3.0, 40.0)),
        ("night", (0.0, 1.0)),
        ("location_new", (0.0, 1.0)),
        ("device_new", (0.0, 1.0)),
        ("merchant_new", (0.0, 1.0)),
        *((name, (0.0, 0.2, 0.5, 0.9)) for name in FRAUD_SHARES),
    ],
)
def test_what_is_rarer_or_riskier_scores_higher(name: str, values: tuple[float, ...]) -> None:
    scorer = anomaly()
    scores = np.concatenate([scorer.score(usual_but(scorer, **{name: value})) for value in values])
    assert (np.diff(scores) > 0).all()


def test_another_currency_leaves_the_ranking_as_it_is() -> None:
    columns = [column(name) for name in MONEY]
    training, features = plausible(), plausible(1000, seed=4)
    scaled_training, scaled_features = training.copy(), features.copy()
    scaled_training[:, columns] *= 100
    scaled_features[:, columns] *= 100
    scaled = fit(Sample(scaled_training), trees=20).score(scaled_features)
    assert spearmanr(scaled, anomaly().score(features)).statistic > 0.999


def test_an_outlier_of_real_transactions_scores_highest_and_its_amount_is_why() -> None:
    """20 users buy for about 30 every 7 hours at one place; the last purchase of one is 3,000."""
    start = datetime.fromisoformat("2025-01-01 00:00:00")
    chance = np.random.default_rng(3)
    rows = [
        {
            "TransactionID": f"T{number}-{user}",
            "UserID": f"U{user}",
            "Amount": Decimal(int(chance.integers(2_000, 4_000))).scaleb(-2),
            "Location": "Cairo",
            "Time": start + timedelta(hours=7 * number, minutes=user),
            "Device": "iOS",
            "Merchant": "Amazon",
        }
        for number in range(20)
        for user in range(20)
    ]
    rows[-1]["Amount"] = Decimal("3000.00")
    features = transaction_features(pa.Table.from_pylist(rows, TRANSACTION_ARROW), no_outcomes()).features
    model = model_of(fit(Sample(features[:-1]), trees=20))
    assert model.score(features).argmax() == len(rows) - 1
    assert next(iter(model.explain(features[-1:])[0])) in {"Amount", "amount_streak"}


# How rare a value is

amounts = st.integers(0, 10**9).map(lambda cents: cents / 100)
samples = st.lists(amounts, min_size=1, max_size=200).map(np.array)


def exact_surprise(sample: Floats, value: float) -> float:
    return float(-np.log10(np.mean(sample >= value)))


@given(samples, st.lists(amounts, min_size=2, max_size=50).map(sorted))
def test_a_higher_value_is_never_less_surprising(sample: Floats, asked: list[float]) -> None:
    surprises = TailCurve.fit(sample)(np.array(asked))
    assert (np.diff(surprises) >= 0).all()
    assert np.isfinite(surprises).all() and (surprises >= 0).all()


@given(samples)
def test_the_surprise_of_a_seen_value_is_its_share_in_powers_of_ten(sample: Floats) -> None:
    curve = TailCurve.fit(sample)
    assert curve(sample) == pytest.approx([exact_surprise(sample, value) for value in sample])
    assert curve(np.array([sample.min(), sample.min() - 1, -1e12])).tolist() == [0, 0, 0]


@given(amounts, st.integers(1, 50))
def test_a_constant_sample_finds_nothing_rare(value: float, count: int) -> None:
    curve = TailCurve.fit(np.full(count, value))
    assert curve(np.array([value - 1, value, value + 1, 1e12])).tolist() == [0, 0, 0, 0]


def test_ties_share_one_surprise() -> None:
    curve = TailCurve.fit(np.repeat([0.0, 1.0], [990, 10]))
    assert curve(np.array([0.0, 1.0])) == pytest.approx([0, 2])
    # Only one value is that high: how a higher one would be is unknown, and it is not made up.
    assert curve(np.array([2.0, 1e9])) == pytest.approx([2, 2])


def test_few_knots_keep_the_curve() -> None:
    sample = np.random.default_rng(3).lognormal(3, 1, 5_000)
    curve = TailCurve.fit(sample, knots=50)
    assert len(curve.values) <= 51
    asked = np.quantile(sample, [0, 0.1, 0.5, 0.9, 0.99, 0.999, 1])
    assert curve(asked) == pytest.approx([exact_surprise(sample, value) for value in asked], abs=0.1)


def test_beyond_the_sample_the_tail_goes_on_as_it_fell() -> None:
    """Of an exponential distribution the share above x is exp(-x), seen or not."""
    curve = TailCurve.fit(np.random.default_rng(3).exponential(size=20_000))
    asked = np.array([12.0, 15.0, 20.0])
    assert (asked > curve.values[-1]).all()
    assert curve(asked) == pytest.approx(asked / np.log(10), rel=0.1)


def test_surprise_ends_where_nothing_can_be_stranger() -> None:
    curve = TailCurve.fit(np.random.default_rng(3).exponential(size=500))
    most = curve(np.array([1e9, 1e12, 1e300]))
    assert most[0] == most[1] == most[2] > curve(curve.values)[-1]


# What is known of the merchant

shares = st.floats(0, 1, exclude_max=True)


@given(st.lists(shares, min_size=len(FRAUD_SHARES), max_size=len(FRAUD_SHARES)), st.integers(0, 2), shares)
def test_a_merchant_with_more_fraud_is_never_the_safer(risk: list[float], which: int, more: float) -> None:
    features = np.zeros((2, len(FEATURE_NAMES)))
    features[:, [column(name) for name in FRAUD_SHARES]] = risk
    features[1, column(FRAUD_SHARES[which])] = max(risk[which], more)
    less, risky = merchant_probability(features)
    assert 0 <= less <= risky < 1


def test_a_merchant_without_known_fraud_adds_nothing() -> None:
    features = plausible(50)
    features[:, [column(name) for name in FRAUD_SHARES]] = 0
    assert (merchant_probability(features) == 0).all()
    assert merchant_probability(features[:0]).shape == (0,)


# Training


@pytest.mark.parametrize("count", [0, 1, 10, MINIMUM_ROWS - 1])
def test_too_few_rows_are_refused(count: int) -> None:
    for sample in (Sample(plausible(count)), Sample(plausible(count), np.zeros(count, np.int8))):
        with pytest.raises(TrainingError, match=rf"^{count} usable rows are too few .* at least 100"):
            fit(sample)


def test_as_many_rows_as_are_needed_are_enough() -> None:
    assert np.isfinite(fit(Sample(plausible(MINIMUM_ROWS)), trees=2).score(plausible(10))).all()


def test_data_that_never_vary_are_refused() -> None:
    same = np.repeat(plausible(1), 200, axis=0)
    with pytest.raises(TrainingError, match=r"none of Amount, .* varies: every usable row .* looks the same"):
        fit(Sample(same))
    same[:, column("Amount")] = plausible(200)[:, column("Amount")]
    scores = fit(Sample(same), trees=5).score(same)
    assert np.isfinite(scores).all()
    assert scores[same[:, column("Amount")].argmax()] > np.median(scores)


def test_constant_features_are_named() -> None:
    features = plausible()
    assert constant_features(Sample(features)) == ()
    features[:, [column("device_new"), column("Amount")]] = 1
    features[:-1, column("night")] = 0
    features[-1, column("night")] = 1
    assert constant_features(Sample(features)) == ("Amount", "device_new")


def test_labels_teach_what_strangeness_cannot_see() -> None:
    fresh = with_outcomes(1000, seed=5)
    fraud = fresh.features[:, column("tx_count_5m")] >= 3
    outcome = np.where(fraud, FRAUD, LEGITIMATE).astype(np.int8)
    without = average_precision(anomaly().score(fresh.features), outcome)
    with_labels = average_precision(learned().score(fresh.features), outcome)
    assert without is not None and with_labels is not None
    assert without < 0.4 and with_labels > 0.95


def test_rows_of_unknown_outcome_teach_neither() -> None:
    """Half of the frauds, and most of the others, are not known; both halves look alike."""
    features = plausible(600)
    fraud = np.arange(600) % 2 == 0
    features[:, column("tx_count_5m")] = np.where(fraud, 9, 1)
    outcome = np.where(fraud, FRAUD, LEGITIMATE).astype(np.int8)
    outcome[100:] = UNKNOWN
    scorer = fit(Sample(features, outcome), trees=20)
    scores = scorer.score(plausible_with_count(9)), scorer.score(plausible_with_count(1))
    assert np.median(scores[0]) > 0.6
    assert np.median(scores[1]) < 0.3


def plausible_with_count(count: float) -> Floats:
    features = plausible(200, seed=6)
    features[:, column("tx_count_5m")] = count
    return features


@pytest.mark.parametrize(
    ("known", "counts"),
    [
        ([], "0 frauds and 0 legitimate"),
        ([LEGITIMATE] * 50, "0 frauds and 50 legitimate"),
        ([FRAUD] * 7, "7 frauds and 0 legitimate"),
        ([FRAUD] + [LEGITIMATE] * 30, "1 frauds and 30 legitimate"),
    ],
)
def test_outcomes_of_one_kind_are_refused_with_their_numbers(known: list[int], counts: str) -> None:
    outcome = np.full(200, UNKNOWN, np.int8)
    outcome[: len(known)] = known
    with pytest.raises(TrainingError) as caught:
        fit(Sample(plausible(200), outcome))
    assert counts in str(caught.value)
    assert "at least 2 of each" in str(caught.value)


# Reasons


def one_by_one(scorer: Scorer, row: Floats) -> list[float]:
    """Contributions as they are defined: each feature asked for by itself."""

    def score(features: Floats) -> float:
        return float(scorer.score(features[None])[0])

    answers = []
    for position in range(len(FEATURE_NAMES)):
        without, alone = row.copy(), scorer.usual.copy()
        without[position], alone[position] = scorer.usual[position], row[position]
        answers.append((score(row) - score(without) + score(alone) - score(scorer.usual)) / 2)
    return answers


@both
def test_contributions_are_what_a_feature_takes_away_and_adds(scorer_of: ScorerOf) -> None:
    scorer, features = scorer_of(), plausible(300, seed=4)
    contributions = scorer.contributions(features)
    assert contributions.shape == features.shape
    for row in (0, 1, 255, 256, 299):  # on both sides of where the rows are cut
        assert contributions[row] == pytest.approx(one_by_one(scorer, features[row]), abs=1e-12)
    assert scorer.contributions(features[:0]).shape == (0, len(FEATURE_NAMES))


@both
def test_a_feature_with_its_usual_value_contributes_nothing(scorer_of: ScorerOf) -> None:
    scorer = scorer_of()
    features = plausible(50, seed=4)
    usual = features == scorer.usual
    assert usual.any()
    assert (scorer.contributions(features)[usual] == 0).all()
    assert (scorer.contributions(usual_but(scorer)) == 0).all()
    assert model_of(scorer).explain(usual_but(scorer)) == [{}]


@both
@pytest.mark.parametrize(
    "changed",
    [
        {"Amount": 1e5},
        {"Amount": 1e5, "device_new": 1.0},
        {"tx_count_5m": 5.0, "merchant_fraud_share_7d": 0.8},
    ],
    ids="+".join,
)
def test_one_or_two_causes_make_up_all_of_the_difference(
    scorer_of: ScorerOf, changed: dict[str, float]
) -> None:
    scorer = scorer_of()
    strange = usual_but(scorer, **changed)
    contributions = scorer.contributions(strange)[0]
    difference = float((scorer.score(strange) - scorer.score(usual_but(scorer)))[0])
    assert contributions.sum() == pytest.approx(difference, abs=1e-12)


@pytest.mark.parametrize(
    ("scorer_of", "cause", "value"),
    [
        (anomaly, "Amount", 1e5),
        (anomaly, "amount_streak", 50.0),
        (anomaly, "night", 1.0),
        (anomaly, "device_new", 1.0),
        (anomaly, "location_new", 1.0),
        (anomaly, "merchant_new", 1.0),
        (anomaly, "merchant_fraud_share_7d", 0.9),
        (learned, "tx_count_5m", 6.0),
        (learned, "merchant_fraud_share_7d", 0.9),
    ],
)
def test_the_cause_comes_first_among_the_reasons(scorer_of: ScorerOf, cause: str, value: float) -> None:
    scorer = scorer_of()
    reasons = model_of(scorer).explain(usual_but(scorer, **{cause: value}))[0]
    assert next(iter(reasons)) == cause


@both
def test_reasons_are_the_largest_contributions_in_order(scorer_of: ScorerOf) -> None:
    scorer, features = scorer_of(), plausible(40, seed=4)
    contributions = scorer.contributions(features)
    explained = model_of(scorer).explain(features)
    assert len(explained) == 40
    for row, reasons in zip(contributions, explained, strict=True):
        largest = sorted((value for value in row if value > 0), reverse=True)[:TOP_CONTRIBUTIONS]
        assert list(reasons.values()) == largest
        assert all(row[column(name)] == value for name, value in reasons.items())
    assert max(map(len, explained)) == TOP_CONTRIBUTIONS == 3
    assert model_of(scorer).explain(features[:0]) == []


@both
def test_the_score_depends_on_its_inputs_and_on_nothing_else(scorer_of: ScorerOf) -> None:
    scorer, features = scorer_of(), plausible(400, seed=4)
    before = scorer.score(features)
    inputs = feature_inputs(scorer)
    assert set(inputs) <= set(FEATURE_NAMES)
    others = [column(name) for name in FEATURE_NAMES if name not in inputs]
    changed = features.copy()
    changed[:, others] = plausible(400, seed=5)[:, others] * 7 - 1
    assert np.array_equal(scorer.score(changed), before)


def test_every_input_of_the_anomaly_model_can_change_the_score() -> None:
    scorer, features = anomaly(), plausible(400, seed=4)
    inputs = feature_inputs(scorer)
    assert 5 < len(inputs) < len(FEATURE_NAMES)
    for name in inputs:
        changed = features.copy()
        changed[:, column(name)] = 0.9
        assert not np.array_equal(scorer.score(changed), scorer.score(features)), name


@both
def test_parts_make_the_same_scorer_again(scorer_of: ScorerOf) -> None:
    scorer, features = scorer_of(), plausible(100, seed=4)
    again = from_parts(*parts_of(scorer))
    assert np.array_equal(again.score(features), scorer.score(features))
    assert np.array_equal(again.usual, scorer.usual)


@pytest.mark.parametrize("part", ["usual", "curves", "supervised"])
def test_missing_parts_are_missed(part: str) -> None:
    estimators, plain = parts_of(learned())
    with pytest.raises(KeyError, match=part):
        from_parts(estimators, {name: value for name, value in plain.items() if name != part})
    with pytest.raises(KeyError, match="random_forest"):
        from_parts({name: value for name, value in estimators.items() if name != "random_forest"}, plain)


# The threshold


@pytest.mark.parametrize(
    ("scores", "alert_budget", "flagged"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 0.2, 2),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9], 0.2, 2),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.9], 0.2, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 0.9, 0.9], 0.2, 0),
        ([1.0] * 10, 0.5, 0),
        ([0.0] * 10, 0.5, 0),
        ([0.5] * 10, 1.0, 10),
        ([0.1, 0.2, 0.3], 1.0, 3),
    ],
)
def test_as_many_are_flagged_as_the_budget_allows(
    scores: list[float], alert_budget: float, flagged: int
) -> None:
    threshold = budget_threshold(np.array(scores), alert_budget)
    assert sum(score >= threshold for score in scores) == flagged


def test_a_budget_of_less_than_one_row_still_allows_one() -> None:
    assert budget_threshold(np.array([0.3, 0.1, 0.2]), 0.01) == 0.3
    assert budget_threshold(np.array([0.3, 0.3, 0.2]), 0.01) > 0.3


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.floats(0.0001, 1))
def test_never_more_than_the_budget_and_never_fewer_than_fit(levels: list[int], alert_budget: float) -> None:
    scores = np.array(levels) / 30
    allowed = max(len(scores) * alert_budget + 1e-9, 1)
    threshold = budget_threshold(scores, alert_budget)
    assert np.sum(scores >= threshold) <= allowed
    below = scores[scores < threshold]
    if len(below):
        assert np.sum(scores >= below.max()) > int(allowed)


# How good a ranking is


def outcomes_of(*kinds: int) -> NDArray[np.int8]:
    return np.array(kinds, np.int8)


def test_average_precision_is_over_the_known_rows() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    perfect = outcomes_of(FRAUD, FRAUD, LEGITIMATE, LEGITIMATE)
    assert average_precision(scores, perfect) == 1
    assert average_precision(scores, outcomes_of(LEGITIMATE, FRAUD, LEGITIMATE, FRAUD)) == pytest.approx(0.5)
    assert average_precision(scores, outcomes_of(UNKNOWN, FRAUD, UNKNOWN, LEGITIMATE)) == 1


def test_ties_are_no_ranking() -> None:
    assert average_precision(np.full(4, 0.5), outcomes_of(FRAUD, LEGITIMATE, LEGITIMATE, LEGITIMATE)) == 0.25


@pytest.mark.parametrize("kinds", [(), (UNKNOWN,), (FRAUD, UNKNOWN), (LEGITIMATE, LEGITIMATE)])
def test_without_both_kinds_there_is_no_precision(kinds: tuple[int, ...]) -> None:
    assert average_precision(np.linspace(0, 1, len(kinds)), outcomes_of(*kinds)) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([UNKNOWN, LEGITIMATE, FRAUD])), min_size=2))
@settings(max_examples=50)
def test_precision_is_a_share_and_does_not_depend_on_the_order(rows: list[tuple[int, int]]) -> None:
    scores, outcome = np.array([level / 9 for level, _ in rows]), outcomes_of(*(kind for _, kind in rows))
    precision = average_precision(scores, outcome)
    assert precision is None or 0 < precision <= 1
    backwards = average_precision(scores[::-1], outcome[::-1])
    assert backwards == (None if precision is None else pytest.approx(precision))
