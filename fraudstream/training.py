"""Training, apart from files, databases and clocks: history -> model -> whether it may replace another.

The earlier part of the transactions, by event time, trains; the later part is held back. On it the
threshold is chosen, and candidate and present model are compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import sklearn
from numpy.typing import NDArray

from fraudstream.features import FEATURE_NAMES, transaction_features
from fraudstream.history import NO_NAME, time_s, wide_name_codes
from fraudstream.labels import outcomes_of, without_transaction
from fraudstream.merchant_risk import DEFAULT_DELAY_S, Outcomes
from fraudstream.merchant_risk import NAMES as MERCHANT_RISK_NAMES
from fraudstream.model import (
    FORM,
    FRAUD,
    MINIMUM_ROWS,
    UNKNOWN,
    Floats,
    Metadata,
    Model,
    Sample,
    Scorer,
    TrainingError,
    average_precision,
    budget_threshold,
    constant_features,
    feature_inputs,
    fit,
)
from fraudstream.schema import SCORE_BINS, TIME_FORMAT

HELD_BACK_ONE_IN = 5

Kind = Literal["supervised", "unsupervised"]
_VERSION_PREFIX: dict[Kind, str] = {"supervised": "hybrid", "unsupervised": "iforest"}

# An alert rate that is off the budget by more than this factor is not what was asked for.
_BUDGET_FACTOR = 2


@dataclass(frozen=True)
class Recipe:
    """How to train. `label_delay_s` is how long outcomes usually take to become known."""

    alert_budget: float = 0.01
    trees: int = 100
    seed: int = 0
    label_delay_s: int = DEFAULT_DELAY_S


@dataclass(frozen=True)
class History:
    """n usable transactions (TRANSACTION_ARROW) in order of arrival, and what is known of each by now.

    `outcome`: FRAUD, LEGITIMATE or UNKNOWN, shape (n,). `known_at_s`: since when, in seconds since
    1970-01-01, local time; 0 where it is unknown.
    """

    transactions: pa.Table
    outcome: NDArray[np.int8]
    known_at_s: NDArray[np.int64]
    data_sha256: str

    @property
    def labelled(self) -> bool:
        return bool((self.outcome != UNKNOWN).any())

    @property
    def kind(self) -> Kind:
        return "supervised" if self.labelled else "unsupervised"


@dataclass(frozen=True)
class Split:
    """Positions of the rows that train and of those that are held back, each in order of event time (of
    the same time in order of arrival), and the time at which the second part begins."""

    training: NDArray[np.int64]
    held_back: NDArray[np.int64]
    at_s: int


@dataclass(frozen=True)
class Trained:
    """A candidate: its model, the held-back rows with their scores, and which features could teach it
    nothing, because they never vary in the training period."""

    model: Model
    held_back: Sample
    held_back_scores: Floats
    constant: tuple[str, ...]


@dataclass(frozen=True)
class Performance:
    """How a model does on held-back rows. `average_precision` is None unless outcomes of both kinds are
    known there."""

    version: str
    kind: str
    threshold: float
    rows: int
    flagged: int
    average_precision: float | None

    @property
    def alert_rate(self) -> float:
        return self.flagged / self.rows


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may become the current model, and why, in words with the numbers."""

    accepted: bool
    reason: str
    candidate: Performance
    present: Performance | None


def unlabelled(transactions: pa.Table, *, data_sha256: str) -> History:
    """A history of which no outcome is known."""
    count = len(transactions)
    return History(transactions, np.full(count, UNKNOWN, np.int8), np.zeros(count, np.int64), data_sha256)


def labelled(
    transactions: pa.Table, labels: pd.DataFrame, *, label_delay_s: int, data_sha256: str
) -> History:
    """A history with its outcomes. `labels` has one row for each TransactionID: TransactionID, is_fraud
    (bool), known_at_s (seconds since 1970-01-01, local time; where missing, event time + `label_delay_s`).

    Raises TrainingError when no label is of one of the transactions.
    """
    ids = transactions["TransactionID"]
    outcome = outcomes_of(labels, ids)
    known = outcome != UNKNOWN
    if not known.any():
        raise TrainingError(_no_usable_label(without_transaction(labels, ids)))
    usual = time_s(transactions["Time"]) + label_delay_s
    said = labels.set_index("TransactionID")["known_at_s"].reindex(ids.to_pandas()).to_numpy(np.float64)
    known_at_s = np.where(np.isnan(said), usual, said).astype(np.int64)
    return History(transactions, outcome, np.where(known, known_at_s, 0), data_sha256)


def _no_usable_label(strangers: list[str]) -> str:
    if not strangers:
        return "there are no usable labels: train without labels, or give some"
    return (
        f"none of the {len(strangers):,} labels is of a transaction in the data; they name others, such as "
        f"{strangers[0]!r}: give the labels of these data, or train without labels"
    )


def rows_sha256(transactions: pa.Table) -> str:
    """A hash of the rows, in their order, whatever their cut into chunks."""
    sink = _Hash()
    pyarrow.csv.write_csv(transactions, pa.PythonFile(sink, mode="w"))
    return sink.sha256.hexdigest()


class _Hash(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # pyarrow hands over bytes
        self.sha256.update(data)
        return len(data)


def features_of(history: History, label_delay_s: int) -> Floats:
    """Shape (n, len(FEATURE_NAMES)): what the stream would have computed of each row when it arrived."""
    return transaction_features(
        history.transactions,
        merchant_outcomes(history.transactions, history.outcome, history.known_at_s),
        delay_s=label_delay_s,
    ).features


def merchant_outcomes(
    transactions: pa.Table, outcome: NDArray[np.int8], known_at_s: NDArray[np.int64]
) -> Outcomes:
    """The known outcomes as merchant risk looks at them: of transactions that name their merchant."""
    merchant = wide_name_codes(transactions["Merchant"])
    usable = (outcome != UNKNOWN) & (merchant != NO_NAME)
    return Outcomes.of(
        merchant[usable],
        time_s(transactions["Time"])[usable],
        known_at_s[usable],
        (outcome == FRAUD)[usable],
    )


def split(times_s: NDArray[np.int64]) -> Split:
    """The last fifth by event time is held back. Raises TrainingError for fewer rows than that allows."""
    earlier, newest = earlier_and_newest(times_s)
    if len(earlier) < MINIMUM_ROWS:
        needed = MINIMUM_ROWS * HELD_BACK_ONE_IN // (HELD_BACK_ONE_IN - 1)
        raise TrainingError(
            f"{len(times_s)} usable rows are too few to train on: at least {needed} are needed, "
            "of which the last fifth is held back"
        )
    return Split(earlier, newest, int(times_s[newest[0]]))


def earlier_and_newest(times_s: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of all rows but the last fifth by event time, and of that fifth, in order of event time; of
    the same time the first rows are earlier."""
    order = np.argsort(times_s, kind="stable")
    cut = len(order) * (HELD_BACK_ONE_IN - 1) // HELD_BACK_ONE_IN
    return order[:cut], order[cut:]


def known_at_split(history: History, parts: Split) -> NDArray[np.int8] | None:
    """The outcomes of the training rows as far as they were known when the training period ended.

    None for a history without labels. Raises TrainingError where there are labels, and none of them was
    known by then.
    """
    if not history.labelled:
        return None
    known = history.known_at_s[parts.training] <= parts.at_s
    outcome = np.where(known, history.outcome[parts.training], UNKNOWN).astype(np.int8)
    if (outcome == UNKNOWN).all():
        raise TrainingError(
            f"none of the {int((history.outcome != UNKNOWN).sum()):,} labels is of a transaction of the "
            f"training period and was known by its end, {_local(parts.at_s)}: train without labels, on a "
            "longer history, or with labels that became known earlier"
        )
    return outcome


def train(history: History, features: Floats, recipe: Recipe, *, trained_at: datetime) -> Trained:
    """Fit a model on the training rows and choose its threshold on the held-back ones.

    `features` as `features_of` gives them. The same history and recipe give the same version, and a model
    that scores bit for bit the same. Raises TrainingError when the data or labels do not allow it.
    """
    times_s = time_s(history.transactions["Time"])
    parts = split(times_s)
    training = Sample(features[parts.training], known_at_split(history, parts))
    held_back = Sample(
        features[parts.held_back], history.outcome[parts.held_back] if history.labelled else None
    )
    scorer = fit(training, trees=recipe.trees, seed=recipe.seed)
    scores = scorer.score(held_back.features)
    threshold = budget_threshold(scores, recipe.alert_budget)
    metadata = Metadata(
        version=version(history, recipe),
        kind=history.kind,
        feature_names=FEATURE_NAMES,
        threshold=threshold,
        threshold_chosen=(
            f"the lowest score that at most {recipe.alert_budget:.2%} of the held-back rows reach"
        ),
        alert_budget=recipe.alert_budget,
        label_delay_s=recipe.label_delay_s,
        trained_at=trained_at.isoformat(timespec="seconds"),
        training_from=_local(int(times_s[parts.training[0]])),
        training_until=_local(int(times_s[parts.training[-1]])),
        training_rows=len(parts.training),
        training_frauds=None if training.outcome is None else int((training.outcome == FRAUD).sum()),
        held_back_rows=len(parts.held_back),
        held_back_alert_rate=float(np.mean(scores >= threshold)),
        held_back_average_precision=_average_precision(scores, held_back),
        held_back_scores=tuple(np.histogram(scores, bins=SCORE_BINS, range=(0, 1))[0].tolist()),
        data_sha256=history.data_sha256,
        seed=recipe.seed,
        versions={
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    )
    return Trained(
        Model(scorer, metadata), held_back, scores, _useless_inputs(training, scorer, history.kind)
    )


def _useless_inputs(training: Sample, scorer: Scorer, kind: Kind) -> tuple[str, ...]:
    """Without labels merchant risk is nothing by definition, which is no news."""
    looked_at = set(feature_inputs(scorer)) - set(() if kind == "supervised" else MERCHANT_RISK_NAMES)
    return tuple(name for name in constant_features(training) if name in looked_at)


def _average_precision(scores: Floats, held_back: Sample) -> float | None:
    return None if held_back.outcome is None else average_precision(scores, held_back.outcome)


def version(history: History, recipe: Recipe) -> str:
    """The name of what `recipe` makes of `history`: its kind, and a hash of all that decides the result."""
    decisive = {
        "data": history.data_sha256,
        "labels": hashlib.sha256(history.outcome.tobytes() + history.known_at_s.tobytes()).hexdigest(),
        "seed": recipe.seed,
        "trees": recipe.trees,
        "budget": recipe.alert_budget,
        "delay": recipe.label_delay_s,
        "features": FEATURE_NAMES,
        "form": FORM,
        "scikit-learn": sklearn.__version__,
    }
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    return f"{_VERSION_PREFIX[history.kind]}-{digest[:12]}"


def compare(trained: Trained, present: Model | None) -> Verdict:
    """Judge the candidate against the present model, each with its own threshold, on the same rows."""
    held_back = trained.held_back
    candidate = performance(trained.model.metadata, trained.held_back_scores, held_back)
    other = (
        None
        if present is None
        else performance(present.metadata, present.score(held_back.features), held_back)
    )
    accepted, reason = judge(candidate, other, trained.model.metadata.alert_budget)
    return Verdict(accepted, reason, candidate, other)


def performance(metadata: Metadata, scores: Floats, held_back: Sample) -> Performance:
    """Of the model that `metadata` is about, whose scores of the held-back rows are `scores`."""
    return Performance(
        version=metadata.version,
        kind=metadata.kind,
        threshold=metadata.threshold,
        rows=len(scores),
        flagged=int((scores >= metadata.threshold).sum()),
        average_precision=_average_precision(scores, held_back),
    )


def judge(candidate: Performance, present: Performance | None, alert_budget: float) -> tuple[bool, str]:
    """Whether the candidate may take over, and why.

    A model that learnt from labels gives way only to another such. Where outcomes of both kinds are known,
    average precision decides, and an equal one is enough; where they are not, the candidate's alert rate
    must be near the budget.
    """
    if present is not None and present.kind == "supervised" != candidate.kind:
        return False, (
            f"the present model {present.version} learnt from labels (supervised), and "
            f"{candidate.version} did not (unsupervised)"
        )
    if candidate.average_precision is None:
        return _near_budget(candidate, alert_budget)
    if present is None or present.average_precision is None:
        return True, (
            f"there is no present model to compare with; average precision {candidate.average_precision:.4f}"
        )
    better = candidate.average_precision >= present.average_precision
    return better, (
        f"on the same held-back rows {candidate.version} has average precision "
        f"{candidate.average_precision:.4f}, the present model {present.version} "
        f"{present.average_precision:.4f}"
    )


def _near_budget(candidate: Performance, alert_budget: float) -> tuple[bool, str]:
    # Of few rows a single one may be more than the budget's share; less than that cannot be flagged.
    most = max(candidate.rows * alert_budget * _BUDGET_FACTOR, 1)
    least = candidate.rows * alert_budget / _BUDGET_FACTOR
    near = least <= candidate.flagged <= most
    return near, (
        f"{candidate.version} flags {candidate.flagged} of {candidate.rows} held-back rows "
        f"({candidate.alert_rate:.2%}), which is {'near' if near else 'more than a factor of two off'} the "
        f"alert budget of {alert_budget:.2%}"
    )


def in_one_line(about: Metadata) -> str:
    """What a training came to, as name=value, for people and programs."""
    precision = about.held_back_average_precision
    return (
        f"model={about.version} kind={about.kind} threshold={about.threshold:.4f} "
        f"training_rows={about.training_rows} held_back_rows={about.held_back_rows} "
        f"held_back_alert_rate={about.held_back_alert_rate:.4f}"
        + ("" if precision is None else f" average_precision={precision:.4f}")
    )


def _local(seconds: int) -> str:
    return pd.Timestamp(seconds, unit="s").strftime(TIME_FORMAT)
