"""The model: how it scores, and why; how it is trained. Its files are model_store's.

Without labels a transaction's score says how strange it is: the tail of each feature's training
distribution (how rare is a value as high as this?), joined with an isolation forest. Merchant risk, where
there are confirmed outcomes, is added as the probability that the merchant is misused. With labels a random
forest decides for the most part. (Gradient boosting, alone or averaged with it, ranked no better on five
simulated populations.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.metrics import average_precision_score

from fraudstream.features import FEATURE_NAMES

Floats = NDArray[np.float64]

MINIMUM_ROWS = 100

# What makes a transaction strange, by aspect: of the features of one aspect the most surprising counts.
# Velocity and impossible speed are left to the rules, which say outright what they found.
ASPECTS: tuple[tuple[str, ...], ...] = (
    ("Amount", "amount_streak"),
    ("night",),
    ("location_new",),
    ("device_new",),
    ("merchant_new",),
)
FOREST_FEATURES = ("Amount", "amount_to_median", "high_amounts_7d", "device_new", "location_new")
_SURPRISE_FEATURES = tuple(
    dict.fromkeys([*(name for aspect in ASPECTS for name in aspect), *FOREST_FEATURES])
)
_FOREST_SAMPLE = 2_048
_MOST_SURPRISE = 12.0  # a value this many powers of ten out is as strange as can be

# So many of all transactions are taken to be fraud of the kind that strangeness can show; it turns a rank
# into a probability: share / (share + how many are at least as strange).
_ASSUMED_FRAUD_SHARE = 0.002
# A merchant whose outcomes of a past day or week were fraud is likely, not sure, to be misused still.
_RISK_WEIGHTS = {
    "merchant_fraud_share_1d": 0.2,
    "merchant_fraud_share_7d": 0.6,
    "merchant_fraud_share_30d": 0.05,
}
# With a supervised part, how much of the score stays with strangeness and merchant risk.
_UNSUPERVISED_WEIGHT = 0.15

TOP_CONTRIBUTIONS = 3
_EXPLAINED_AT_ONCE = 256

UNKNOWN, LEGITIMATE, FRAUD = -1, 0, 1

# Goes up whenever the same data would make another model than before.
FORM = 1


class TrainingError(Exception):
    """The data do not allow training; the text says what is missing."""


@dataclass(frozen=True)
class TailCurve:
    """How rare a value as high as x was in training, as -log10 of the share: 0 is usual, 3 one in 1,000.

    Between the knots it is linear. Above the highest it goes on as an exponential tail with the mean
    excess of the highest hundredth (peaks over threshold; Pickands, 1975, with shape 0).
    """

    values: Floats
    surprises: Floats
    slope: float

    @staticmethod
    def fit(sample: Floats, knots: int = 400) -> TailCurve:
        """From n values. A constant sample gives a curve that finds nothing rare."""
        values, counts = np.unique(sample, return_counts=True)
        at_least = np.cumsum(counts[::-1])[::-1] / len(sample)
        surprises = -np.log10(at_least)
        if len(values) > knots:
            wanted = np.searchsorted(surprises, np.linspace(0, surprises[-1], knots))
            chosen = np.unique(np.concatenate([wanted, [len(values) - 1]]).clip(max=len(values) - 1))
            values, surprises = values[chosen], surprises[chosen]
        return TailCurve(values, surprises, _tail_slope(sample))

    def __call__(self, x: Floats) -> Floats:
        """Shape of `x`; between 0 and _MOST_SURPRISE."""
        inside = np.interp(x, self.values, self.surprises, left=0.0)
        beyond = np.maximum(x - self.values[-1], 0) * self.slope
        return np.minimum(inside + beyond, _MOST_SURPRISE)


def _tail_slope(sample: Floats) -> float:
    """Powers of ten in rarity a unit of x, beyond the sample; 0 where only one value is that high."""
    start = np.quantile(sample, 0.99)
    excess = sample[sample > start] - start
    mean = float(excess.mean()) if len(excess) else 0.0
    slope = 1 / (mean * np.log(10)) if mean > 0 and len(np.unique(excess)) > 1 else 0.0
    return slope if np.isfinite(slope) else 0.0


@dataclass(frozen=True)
class Strangeness:
    """The anomaly model: a curve for each of _SURPRISE_FEATURES, the forest on their surprises, and the
    curve of the joint score."""

    curves: dict[str, TailCurve]
    forest: IsolationForest
    joint: TailCurve

    def probability(self, features: Floats) -> Floats:
        """Shape (n,), in [0, 1): that a transaction so strange is fraud, under _ASSUMED_FRAUD_SHARE."""
        if len(features) == 0:
            return np.empty(0)
        rarity = 10.0 ** -self.joint(_joint_surprise(features, self.curves, self.forest))
        return _ASSUMED_FRAUD_SHARE / (_ASSUMED_FRAUD_SHARE + rarity)


def _joint_surprise(features: Floats, curves: dict[str, TailCurve], forest: IsolationForest) -> Floats:
    surprises = _surprises(features, curves)
    aspects = [np.max([surprises[name] for name in aspect], axis=0) for aspect in ASPECTS]
    isolation = -forest.score_samples(_forest_input(surprises))
    return np.sqrt(np.sum(np.square(aspects), axis=0)) * isolation


def _surprises(features: Floats, curves: dict[str, TailCurve]) -> dict[str, Floats]:
    return {name: curve(features[:, FEATURE_NAMES.index(name)]) for name, curve in curves.items()}


def _forest_input(surprises: dict[str, Floats]) -> Floats:
    return np.column_stack([surprises[name] for name in FOREST_FEATURES])


def merchant_probability(features: Floats) -> Floats:
    """Shape (n,), in [0, 1): that the merchant is being misused, by its confirmed outcomes."""
    # One column after the other: a matrix product would round a row by how many there are beside it.
    probability = np.zeros(len(features))
    for name, weight in _RISK_WEIGHTS.items():
        probability += weight * features[:, FEATURE_NAMES.index(name)]
    return probability


@dataclass(frozen=True)
class Metadata:
    """What is known of a model. Times are local time of the data; shares are of all transactions.

    `held_back_scores` counts the held-back rows by score, in SCORE_BINS (of schema) bins from 0 to 1.
    """

    version: str
    kind: str
    feature_names: tuple[str, ...]
    threshold: float
    threshold_chosen: str
    alert_budget: float
    label_delay_s: int
    trained_at: str
    training_from: str
    training_until: str
    training_rows: int
    training_frauds: int | None
    held_back_rows: int
    held_back_alert_rate: float
    held_back_average_precision: float | None
    held_back_scores: tuple[int, ...]
    data_sha256: str
    seed: int
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scorer:
    """The fitted parts: the anomaly model, and what labels taught a forest on all features and that model's
    score. `usual` is the training median of each feature, which contributions refer to."""

    strangeness: Strangeness
    supervised: RandomForestClassifier | None
    usual: Floats

    def score(self, features: Floats) -> Floats:
        """Shape (n,), in [0, 1]: higher is likelier fraud."""
        if len(features) == 0:
            return np.empty(0)
        strange, misused = self.strangeness.probability(features), merchant_probability(features)
        unsupervised = 1 - (1 - strange) * (1 - misused)
        if self.supervised is None:
            return unsupervised
        learned = self.supervised.predict_proba(np.column_stack([features, unsupervised]))[:, 1]
        return _UNSUPERVISED_WEIGHT * unsupervised + (1 - _UNSUPERVISED_WEIGHT) * learned

    def contributions(self, features: Floats) -> Floats:
        """Shape of `features`: how much of the score each feature alone makes up.

        The mean of two answers: how far the score falls when the feature takes its usual value, and how
        far the score of a wholly usual transaction rises when it takes this one. These are the two ends
        of the feature's Shapley value (Shapley, 1953; Strumbelj and Kononenko, 2014).
        """
        parts = [
            self._contributions(features[start : start + _EXPLAINED_AT_ONCE])
            for start in range(0, len(features), _EXPLAINED_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(FEATURE_NAMES)))

    def _contributions(self, features: Floats) -> Floats:
        rows, width = features.shape
        varied = [FEATURE_NAMES.index(name) for name in feature_inputs(self)]  # the others make up nothing
        each = np.arange(len(varied))
        without = np.repeat(features[None], len(varied), axis=0)
        alone = np.broadcast_to(self.usual, (len(varied), rows, width)).copy()
        without[each, :, varied] = self.usual[varied, None]
        alone[each, :, varied] = features[:, varied].T
        asked = np.concatenate([without.reshape(-1, width), alone.reshape(-1, width)])
        scores = self.score(np.vstack([features, self.usual[None], asked]))
        whole, nothing = scores[:rows], scores[rows]
        fallen, risen = scores[rows + 1 :].reshape(2, len(varied), rows)
        contributions = np.zeros(features.shape)
        contributions[:, varied] = ((whole - fallen) + (risen - nothing)).T / 2
        return contributions


@dataclass(frozen=True)
class Model:
    """A scorer with its threshold; a score at or over the threshold flags a transaction."""

    scorer: Scorer
    metadata: Metadata

    def score(self, features: Floats) -> Floats:
        """See Scorer.score."""
        return self.scorer.score(features)

    def explain(self, features: Floats) -> list[dict[str, float]]:
        """For each row the features that contribute most to its score, the largest first, with how much.

        At most TOP_CONTRIBUTIONS, fewer where fewer add to the score.
        """
        contributions = self.scorer.contributions(features)
        order = np.argsort(-contributions, axis=1, kind="stable")[:, :TOP_CONTRIBUTIONS]
        return [
            {FEATURE_NAMES[column]: float(row[column]) for column in columns if row[column] > 0}
            for row, columns in zip(contributions, order.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Sample:
    """n transactions: features (n, len(FEATURE_NAMES)), and FRAUD, LEGITIMATE or UNKNOWN for each, as far
    as it was known when the model was trained; `outcome` is None where nothing at all is known."""

    features: Floats
    outcome: NDArray[np.int8] | None = None


def fit(training: Sample, *, trees: int = 100, seed: int = 0) -> Scorer:
    """Fit the anomaly model, and the supervised one where outcomes are known.

    The same sample and seed give the same scorer. Raises TrainingError when there are too few rows, when
    nothing varies that makes a transaction strange, or when the outcomes are all of one kind.
    """
    features = training.features
    if len(features) < MINIMUM_ROWS:
        raise TrainingError(f"{len(features)} usable rows are too few to train on: at least {MINIMUM_ROWS}")
    usual = np.median(features, axis=0)
    strangeness = _fit_strangeness(features, trees, seed)
    unsupervised = Scorer(strangeness, None, usual)
    if training.outcome is None:
        return unsupervised
    known = training.outcome != UNKNOWN
    inputs = np.column_stack([features[known], unsupervised.score(features[known])])
    return Scorer(strangeness, _fit_supervised(inputs, training.outcome[known] == FRAUD, trees, seed), usual)


def constant_features(training: Sample) -> tuple[str, ...]:
    """The features that never vary in the training data: no model can learn from them."""
    constant = np.all(training.features == training.features[:1], axis=0)
    return tuple(name for name, same in zip(FEATURE_NAMES, constant, strict=True) if same)


def _fit_strangeness(features: Floats, trees: int, seed: int) -> Strangeness:
    columns = {name: features[:, FEATURE_NAMES.index(name)] for name in _SURPRISE_FEATURES}
    if all(np.all(column == column[0]) for column in columns.values()):
        raise TrainingError(
            f"none of {', '.join(columns)} varies: every usable row of the training data looks the same"
        )
    curves = {name: TailCurve.fit(column) for name, column in columns.items()}
    forest = IsolationForest(
        n_estimators=trees, max_samples=min(_FOREST_SAMPLE, len(features)), random_state=seed, n_jobs=1
    ).fit(_forest_input(_surprises(features, curves)))
    return Strangeness(curves, forest, TailCurve.fit(_joint_surprise(features, curves, forest)))


def _fit_supervised(
    inputs: Floats, fraud: NDArray[np.bool_], trees: int, seed: int
) -> RandomForestClassifier:
    frauds, others = int(fraud.sum()), int((~fraud).sum())
    if min(frauds, others) < 2:
        raise TrainingError(
            f"the labels of the training period name {frauds} frauds and {others} legitimate transactions: "
            "a supervised model needs at least 2 of each; train without labels, or with more of them"
        )
    # Leaves of three rows and more keep a single odd fraud from deciding; scores are only ranked and cut
    # at a budget, so the classes are left as rare as they are.
    forest = RandomForestClassifier(
        n_estimators=trees, min_samples_leaf=3, max_features="sqrt", random_state=seed, n_jobs=-1
    ).fit(inputs, fraud)
    # With several threads a sum over the trees has no fixed order, and a score no fixed last bit.
    return forest.set_params(n_jobs=1)


def budget_threshold(scores: Floats, alert_budget: float) -> float:
    """The lowest score that at most the share `alert_budget` of `scores` reach, or one of them at least.

    Where the highest scores are ties that are more than the budget allows, they stay within it together:
    the threshold lies just above them, and nothing is flagged. Raises ValueError without scores.
    """
    if len(scores) == 0:
        raise ValueError("there are no scores to choose a threshold by")
    allowed = max(int(len(scores) * alert_budget + 1e-9), 1)
    values, counts = np.unique(scores, return_counts=True)
    reaching = np.cumsum(counts[::-1])[::-1]
    within = values[reaching <= allowed]
    return float(within[0]) if len(within) else float(np.nextafter(values[-1], np.inf))


def average_precision(scores: Floats, outcome: NDArray[np.int8]) -> float | None:
    """Over the rows whose outcome is known; None unless both kinds are among them."""
    known = outcome != UNKNOWN
    fraud = outcome[known] == FRAUD
    if not fraud.any() or fraud.all():
        return None
    return float(average_precision_score(fraud, scores[known]))


def parts_of(scorer: Scorer) -> tuple[dict[str, Any], dict[str, Any]]:
    """(estimators by name, plain values): what is stored of a scorer."""
    curves = {**scorer.strangeness.curves, "": scorer.strangeness.joint}
    estimators: dict[str, Any] = {"isolation_forest": scorer.strangeness.forest}
    if scorer.supervised is not None:
        estimators["random_forest"] = scorer.supervised
    return estimators, {
        "supervised": scorer.supervised is not None,
        "usual": scorer.usual.tolist(),
        "curves": {name: _curve_values(curve) for name, curve in curves.items()},
    }


def _curve_values(curve: TailCurve) -> dict[str, Any]:
    return {"values": curve.values.tolist(), "surprises": curve.surprises.tolist(), "slope": curve.slope}


def from_parts(estimators: dict[str, Any], plain: dict[str, Any]) -> Scorer:
    """The inverse of `parts_of`. Raises KeyError or TypeError where something is missing."""
    curves = {
        name: TailCurve(np.array(curve["values"]), np.array(curve["surprises"]), float(curve["slope"]))
        for name, curve in plain["curves"].items()
    }
    joint = curves.pop("")
    strangeness = Strangeness(curves, estimators["isolation_forest"], joint)
    supervised = estimators["random_forest"] if plain["supervised"] else None
    return Scorer(strangeness, supervised, np.array(plain["usual"], dtype=np.float64))


def feature_inputs(scorer: Scorer) -> Sequence[str]:
    """The features that the scorer looks at."""
    if scorer.supervised is not None:
        return FEATURE_NAMES
    used = {*_SURPRISE_FEATURES, *_RISK_WEIGHTS}
    return [name for name in FEATURE_NAMES if name in used]
