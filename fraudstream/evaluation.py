"""How well transactions are ranked and flagged: the protocol of delayed labels, and its figures.

The protocol is that of "Reproducible Machine Learning for Credit Card Fraud Detection - Practical Handbook"
(Le Borgne, Siblini, Lebichot, Bontempi, 2022): a model is trained on some days; labels take some days to
come in; the days after that are the test. A card is whatever pays, here a user. Days are local calendar
days, counted from 1970-01-01. Features and model are those of the stream.

Below, n transactions are arrays of length n: `day` and `card` (int64), `fraud` (bool), `scores` (float64).
"""

from __future__ import annotations

import enum
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sklearn
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudstream.features import transaction_features
from fraudstream.history import time_s
from fraudstream.labels import outcomes_of, scenarios_of, without_transaction
from fraudstream.merchant_risk import DEFAULT_DELAY_S, Outcomes, no_outcomes
from fraudstream.model import FRAUD, UNKNOWN, Sample, Scorer, budget_threshold, fit
from fraudstream.rules import Rules
from fraudstream.training import HELD_BACK_ONE_IN, earlier_and_newest, merchant_outcomes, split

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Outcome = NDArray[np.int8]
Say = Callable[[str], None]

TOP_CARDS = 100

_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)


class EvaluationError(Exception):
    """The data do not allow this evaluation; the text says what they lack and what they hold."""


class Mode(enum.StrEnum):
    """What the model gets to know of the labels, always late: event time + delay."""

    UNSUPERVISED = "unsupervised"  # nothing
    FEEDBACK = "feedback"  # only what merchant risk makes of them
    SUPERVISED = "supervised"  # that, and the outcomes of the training days


@dataclass(frozen=True)
class Plan:
    """Which days train the model, how many the labels take to come in, and which days test it."""

    train_start: date
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7
    mode: Mode = Mode.UNSUPERVISED
    budget: float = 0.01
    trees: int = 100
    seed: int = 0

    @property
    def training(self) -> range:
        start = (self.train_start - _EPOCH).days
        return range(start, start + self.train_days)

    @property
    def waiting(self) -> range:
        return range(self.training.stop, self.training.stop + self.delay_days)

    @property
    def test(self) -> range:
        return range(self.waiting.stop, self.waiting.stop + self.test_days)

    @property
    def delay_s(self) -> int:
        return self.delay_days * _DAY_S


@dataclass(frozen=True)
class ScenarioFigures:
    """One scenario's frauds against all legitimate rows of the test; None where that is undefined."""

    frauds: int
    auc: float | None
    ap: float | None
    recall: float | None


@dataclass(frozen=True)
class Report:
    """The figures over the test rows; None where one is undefined, and `warnings` say why.

    `auc` is the area under the ROC curve, `ap` average precision, `cp100` card precision; `precision`,
    `recall` and `alerts_per_day` are at `threshold`, which `threshold_rows` rows were asked for.
    """

    auc: float | None
    ap: float | None
    cp100: float
    per_scenario: dict[str, ScenarioFigures]
    precision: float | None
    recall: float | None
    alerts_per_day: float
    train_rows: int
    threshold_rows: int
    test_rows: int
    test_frauds: int
    threshold: float
    plan: Plan
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """One flat object, the plan's entries among the others."""
        document = asdict(self)
        plan = document.pop("plan") | {"train_start": self.plan.train_start.isoformat()}
        return {**document, **plan, "versions": _versions()}

    def in_words(self) -> str:
        """A table of the figures for people, `-` where one is undefined."""
        everything = ScenarioFigures(self.test_frauds, self.auc, self.ap, self.recall)
        figures = {"all": everything, **self.per_scenario}
        table = pd.DataFrame([asdict(each) for each in figures.values()], index=list(figures))
        return "\n".join(
            [
                f"{self.plan.mode}: {self.train_rows:,} rows of {_span(self.plan.training)} train, "
                f"{self.test_rows:,} of {_span(self.plan.test)} test",
                _table(table.rename(columns={"auc": "AUC", "ap": "AP"})),
                f"card precision@{TOP_CARDS}: {self.cp100:.3f}",
                f"at the threshold {self.threshold:.4f} (budget {self.plan.budget:.2%}): "
                f"precision {_shown(self.precision)}, recall {_shown(self.recall)}, "
                f"{self.alerts_per_day:.1f} alerts a day",
            ]
        )


def evaluate(
    transactions: pa.Table, truth: pd.DataFrame, plan: Plan, *, say: Say = lambda _text: None
) -> Report:
    """Train and test as `plan` says; `say` is told of each step.

    `transactions` are usable ones (columns of TRANSACTION_ARROW) in the order of their arrival; features look
    back over all of them, also those before the training days. `truth` is as of labels.read_truth; a
    transaction without a label trains the model as one of unknown outcome, never counts as fraud, and is left
    out of the test.

    The threshold is the one at which the rows between training and test would have kept to the budget of
    alerts: they are the newest before the test, and the model has not seen them. Where labels take no time
    there are none; then the last fifth of the training rows is kept from the model for that.

    Raises EvaluationError when a period has no rows, and TrainingError as model.fit does.
    """
    ids = transactions["TransactionID"]
    outcome = outcomes_of(truth, ids)
    day = time_s(transactions["Time"]) // _DAY_S
    _check_days(day, plan)
    say(f"features of {len(transactions):,} transactions")
    rows = _rows(transactions, outcome, scenarios_of(truth, ids), plan)

    learn, choose = rows_to_learn_and_choose(rows.seconds, rows.day, plan)
    say(f"training on {learn.sum():,} rows")
    known = training_outcome(rows.outcome[learn], rows.seconds[learn], plan)
    scorer = fit(Sample(rows.features[learn], known), trees=plan.trees, seed=plan.seed)
    threshold = budget_threshold(scorer.score(rows.features[choose]), plan.budget)

    fraud = rows.outcome == FRAUD
    tested = rows_to_test(rows.card, rows.day, fraud, plan) & (rows.outcome != UNKNOWN)
    if not tested.any():
        raise EvaluationError(
            f"no row of the test days {_span(plan.test)} is left: each has no label, or a card that was "
            "known for fraud by then"
        )
    say(f"scoring {tested.sum():,} rows")
    scores, fraud, days = scorer.score(rows.features[tested]), fraud[tested], rows.day[tested]
    flagged = scores >= threshold
    auc, ap = ranking(scores, fraud)
    precision, recall = precision_and_recall(flagged, fraud)
    return Report(
        auc=auc,
        ap=ap,
        cp100=card_precision(scores, fraud, rows.card[tested], days),
        per_scenario=per_scenario(scores, fraud, flagged, rows.scenario[tested], scenarios_in(truth)),
        precision=precision,
        recall=recall,
        alerts_per_day=float(flagged.sum() / len(np.unique(days))),
        train_rows=int(learn.sum()),
        threshold_rows=int(choose.sum()),
        test_rows=int(tested.sum()),
        test_frauds=int(fraud.sum()),
        threshold=threshold,
        plan=plan,
        warnings=(
            *_label_warnings(truth, ids, outcome),
            *_day_warnings(day, plan),
            *_undefined(fraud, flagged, rows.scenario[tested], scenarios_in(truth)),
        ),
    )


@dataclass(frozen=True)
class _Rows:
    """The transactions from the first training day to the last test day; `seconds` is the event time."""

    features: Floats
    outcome: Outcome
    scenario: NDArray[np.object_]
    seconds: Ints
    day: Ints
    card: Ints


def _rows(transactions: pa.Table, outcome: Outcome, scenario: NDArray[np.object_], plan: Plan) -> _Rows:
    seconds = time_s(transactions["Time"])
    wanted = within(seconds // _DAY_S, range(plan.training.start, plan.test.stop))
    outcomes = known_outcomes(transactions, outcome, plan)
    return _Rows(
        features=transaction_features(transactions, outcomes, delay_s=plan.delay_s).features[wanted],
        outcome=outcome[wanted],
        scenario=scenario[wanted],
        seconds=seconds[wanted],
        day=seconds[wanted] // _DAY_S,
        card=card_numbers(transactions["UserID"].filter(pa.array(wanted))),
    )


# --- the protocol ---------------------------------------------------------------------------------


def within(day: Ints, days: range) -> Bools:
    """Which rows are of one of these days."""
    return (days.start <= day) & (day < days.stop)


def known_outcomes(transactions: pa.Table, outcome: Outcome, plan: Plan) -> Outcomes:
    """What merchant risk may look at: each label known at event time + delay; unsupervised nothing."""
    if plan.mode is Mode.UNSUPERVISED:
        return no_outcomes()
    return merchant_outcomes(transactions, outcome, time_s(transactions["Time"]) + plan.delay_s)


def training_outcome(outcome: Outcome, seconds: Ints, plan: Plan) -> Outcome | None:
    """The outcomes of training rows as far as they are known when the test begins; None if not supervised."""
    if plan.mode is not Mode.SUPERVISED:
        return None
    known = seconds + plan.delay_s <= plan.test.start * _DAY_S
    return np.where(known, outcome, UNKNOWN).astype(np.int8)


def rows_to_learn_and_choose(seconds: Ints, day: Ints, plan: Plan) -> tuple[Bools, Bools]:
    """(rows that train the model, rows that its threshold is chosen on); `seconds` is the event time."""
    training = within(day, plan.training)
    if plan.delay_days:
        return training, within(day, plan.waiting)
    learn, choose = split_by_time(seconds[training])
    return _among(training, learn), _among(training, choose)


def split_by_time(seconds: Ints) -> tuple[Bools, Bools]:
    """(the earlier rows, the newest fifth); of equal times the first rows are earlier."""
    newest = np.zeros(len(seconds), dtype=bool)
    newest[earlier_and_newest(seconds)[1]] = True
    return ~newest, newest


def _among(rows: Bools, chosen: Bools) -> Bools:
    """Of the rows that `rows` marks those that `chosen`, as long as they are many, marks."""
    marked = np.zeros(len(rows), dtype=bool)
    marked[np.flatnonzero(rows)[chosen]] = True
    return marked


def rows_to_test(card: Ints, day: Ints, fraud: Bools, plan: Plan) -> Bools:
    """The rows of the test days, without those of cards that are known for fraud by then.

    As in the Handbook, test day k (from 0) leaves out the cards with a fraud in the training days, or on a
    day from the last training day up to (train start + train days + k - 1): those whose labels have come in
    when the day begins. Test day k is that day + delay + 1.
    """
    newest_known_day = day - plan.delay_days - 1
    first_fraud = first_fraud_day(card, day, fraud & (day >= plan.training.start))
    return within(day, plan.test) & (first_fraud[card] > newest_known_day)


def first_fraud_day(card: Ints, day: Ints, fraud: Bools) -> Ints:
    """For each card number the day of its first fraud; the largest int64 where it has none."""
    first = np.full(card.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, card[fraud], day[fraud])
    return first


def card_numbers(users: pa.ChunkedArray) -> Ints:
    """A number from 0 for each user, in the order of their names: shape of `users`."""
    return pd.factorize(users.to_pandas(), sort=True)[0].astype(np.int64)


# --- the figures ----------------------------------------------------------------------------------


def ranking(scores: Floats, fraud: Bools) -> tuple[float | None, float | None]:
    """(AUC ROC, average precision), as scikit-learn defines them; None unless there is fraud and other."""
    if not fraud.any() or fraud.all():
        return None, None
    return float(roc_auc_score(fraud, scores)), float(average_precision_score(fraud, scores))


def precision_and_recall(flagged: Bools, fraud: Bools) -> tuple[float | None, float | None]:
    """(the share of fraud among the flagged, the share of flagged among the fraud); None of nothing."""
    return _share(fraud[flagged]), _share(flagged[fraud])


def _share(marks: Bools) -> float | None:
    return float(marks.mean()) if len(marks) else None


def card_precision(scores: Floats, fraud: Bools, card: Ints, day: Ints, *, top: int = TOP_CARDS) -> float:
    """How many of the `top` cards that look worst each day are fraud: the mean share over the days.

    The Handbook's card precision top-k. A card's score is its highest of the day, and it is fraud if any of
    its rows of that day is; of equal scores the lower number comes first. A fraud card that is found is left
    out of the later days: it has been blocked. A day with fewer cards is divided by `top` as well: a place in
    the list that is left empty finds nothing. Only days that have rows count.
    """
    rows = pd.DataFrame({"day": day, "card": card, "score": scores, "fraud": fraud})
    cards = rows.groupby(["day", "card"], as_index=False).max()
    found: set[int] = set()
    shares = []
    for _day, of_day in cards.groupby("day"):
        left = of_day[~of_day["card"].isin(found)]
        worst = left.sort_values(["score", "card"], ascending=[False, True]).head(top)
        caught = worst.loc[worst["fraud"], "card"]
        found |= set(caught)
        shares.append(len(caught) / top)
    return float(np.mean(shares))


def scenarios_in(truth: pd.DataFrame) -> list[str]:
    """The scenarios that the labels name of frauds, in alphabetical order."""
    return sorted(truth.loc[truth["is_fraud"], "scenario"].dropna().unique())


def per_scenario(
    scores: Floats, fraud: Bools, flagged: Bools, scenario: NDArray[np.object_], names: Sequence[str]
) -> dict[str, ScenarioFigures]:
    """For each of `names` the figures of its frauds against all rows that are none."""
    figures = {}
    for name in names:
        meant = fraud & (scenario == name)
        compared = meant | ~fraud
        auc, ap = ranking(scores[compared], fraud[compared])
        figures[name] = ScenarioFigures(int(meant.sum()), auc, ap, _share(flagged[meant]))
    return figures


# --- rules and model, alone and together ----------------------------------------------------------


@dataclass(frozen=True)
class VerdictFigures:
    """What one way to flag achieves; `recalls` is the recall by scenario. None where it is undefined."""

    flagged_share: float
    precision: float | None
    recall: float | None
    recalls: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """`verdicts` by the way to flag: rules, model, hybrid (either of the two)."""

    verdicts: dict[str, VerdictFigures]
    frauds: dict[str, int]
    train_rows: int
    test_rows: int
    threshold: float
    budget: float
    trees: int
    seed: int
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {**asdict(self), "versions": _versions()}

    def in_words(self) -> str:
        """A table of the figures for people, `-` where one is undefined."""
        columns = {
            way: {"share flagged": figures.flagged_share, "precision": figures.precision}
            | {"recall": figures.recall}
            | {f"recall, {name} ({self.frauds[name]})": share for name, share in figures.recalls.items()}
            for way, figures in self.verdicts.items()
        }
        return "\n".join(
            [
                "rules alone, model alone, and either of them (hybrid) on the newest "
                f"{1 / HELD_BACK_ONE_IN:.0%} of the rows, {self.test_rows:,} with a label; the "
                f"{self.train_rows:,} before train the model",
                f"the threshold {self.threshold:.4f} (budget {self.budget:.2%}) is chosen on the same newest "
                "rows, without labels",
                _table(pd.DataFrame(columns)),
            ]
        )


def compare_verdicts(
    transactions: pa.Table,
    truth: pd.DataFrame,
    rules: Rules,
    *,
    budget: float = 0.01,
    trees: int = 100,
    seed: int = 0,
    say: Say = lambda _text: None,
) -> Comparison:
    """What the rules find, the model, and both together, as a job that has no labels judges.

    The model is trained on the earlier rows and its threshold chosen on the newest fifth: it is the one that
    a training makes of these transactions. The figures are of these newest rows as far as they are labelled;
    the threshold has seen their scores, not their labels. Arguments and errors as for `evaluate`.
    """
    ids = transactions["TransactionID"]
    outcome, seconds = outcomes_of(truth, ids), time_s(transactions["Time"])
    say(f"features of {len(transactions):,} transactions")
    features = transaction_features(transactions, no_outcomes(), delay_s=DEFAULT_DELAY_S).features
    parts = split(seconds)
    tested = parts.held_back[outcome[parts.held_back] != UNKNOWN]
    if len(tested) == 0:
        raise EvaluationError(f"none of the newest {len(parts.held_back):,} of {len(ids):,} rows has a label")
    say(f"training on {len(parts.training):,} rows")
    scorer = fit(Sample(features[parts.training]), trees=trees, seed=seed)
    threshold = budget_threshold(scorer.score(features[parts.held_back]), budget)
    fraud, scenario = outcome[tested] == FRAUD, scenarios_of(truth, ids)[tested]
    frauds = {name: fraud & (scenario == name) for name in scenarios_in(truth)}
    flagged = _flagged(features[tested], rules, scorer, threshold)
    return Comparison(
        verdicts={way: _verdict_figures(marks, fraud, frauds) for way, marks in flagged.items()},
        frauds={name: int(rows.sum()) for name, rows in frauds.items()},
        train_rows=len(parts.training),
        test_rows=len(tested),
        threshold=threshold,
        budget=budget,
        trees=trees,
        seed=seed,
        warnings=(
            *_label_warnings(truth, ids, outcome),
            *_undefined(fraud, flagged["hybrid"], scenario, list(frauds)),
        ),
    )


def _flagged(features: Floats, rules: Rules, scorer: Scorer, threshold: float) -> dict[str, Bools]:
    by_rules: Bools = np.any(rules.broken(features), axis=1)
    by_model = scorer.score(features) >= threshold
    return {"rules": by_rules, "model": by_model, "hybrid": by_rules | by_model}


def _verdict_figures(flagged: Bools, fraud: Bools, frauds: dict[str, Bools]) -> VerdictFigures:
    precision, recall = precision_and_recall(flagged, fraud)
    recalls = {name: _share(flagged[rows]) for name, rows in frauds.items()}
    return VerdictFigures(float(flagged.mean()), precision, recall, recalls)


# --- what is said about the data ------------------------------------------------------------------


def _check_days(day: Ints, plan: Plan) -> None:
    periods = {"training": plan.training, "delay": plan.waiting, "test": plan.test}
    for name, days in periods.items():
        if len(days) and not within(day, days).any():
            held = f"hold {_span(range(day.min(), day.max() + 1))}" if len(day) else "hold none"
            raise EvaluationError(
                f"the data have no usable transactions of the {name} days {_span(days)}; they {held}"
            )


def _day_warnings(day: Ints, plan: Plan) -> list[str]:
    empty = sorted({*plan.training, *plan.waiting, *plan.test} - set(np.unique(day).tolist()))
    if not empty:
        return []
    return [f"no usable transactions of {', '.join(map(_day_text, empty))}: means over days leave them out"]


def _label_warnings(truth: pd.DataFrame, ids: pa.ChunkedArray, outcome: Outcome) -> list[str]:
    warnings = []
    if stray := without_transaction(truth, ids):
        warnings.append(
            f"labels that name no usable transaction of the data: {len(stray):,}, as {stray[0]!r}"
        )
    unlabelled = ids.filter(pa.array(outcome == UNKNOWN))
    if len(unlabelled):
        warnings.append(
            f"transactions without a label: {len(unlabelled):,}, as {unlabelled[0].as_py()!r}; their outcome "
            "counts as unknown"
        )
    return warnings


def _undefined(
    fraud: Bools, flagged: Bools, scenario: NDArray[np.object_], names: Sequence[str]
) -> list[str]:
    warnings = []
    if not fraud.any():
        warnings.append(f"none of the {len(fraud):,} test rows is fraud: AUC, AP and recall are undefined")
    elif fraud.all():
        warnings.append(f"all of the {len(fraud):,} test rows are fraud: AUC and AP are undefined")
    elif missing := [name for name in names if not (scenario[fraud] == name).any()]:
        warnings.append(f"no fraud of the test rows is {' or '.join(missing)}: its figures are undefined")
    if not flagged.any():
        warnings.append("no test row is flagged: precision is undefined")
    return warnings


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def _span(days: range) -> str:
    return f"{_day_text(days.start)} to {_day_text(days.stop - 1)}"


def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=int(day))).isoformat()


def _table(figures: pd.DataFrame) -> str:
    return figures.map(
        lambda figure: f"{figure:,}" if isinstance(figure, int) else _shown(figure)
    ).to_string()


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"
