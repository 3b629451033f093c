"""Small models, fitted in a moment, for what is done with a model whatever it has learnt."""

from __future__ import annotations

from functools import cache

import numpy as np

from fraudstream.features import FEATURE_NAMES
from fraudstream.model import Floats, Metadata, Model, Sample, fit
from fraudstream.schema import SCORE_BINS


def features(count: int = 300) -> Floats:
    """Any numbers do here, as long as shares are shares."""
    return np.random.default_rng(3).beta(1, 9, (count, len(FEATURE_NAMES)))


def about(version: str, threshold: float = 0.25) -> Metadata:
    """Every kind of value that metadata have, and numbers that text cuts easily."""
    return Metadata(
        version=version,
        kind="kind",
        feature_names=FEATURE_NAMES,
        threshold=threshold,
        threshold_chosen="score that 1.00% of the held-back rows reach",
        alert_budget=0.1 + 0.2,
        label_delay_s=604_800,
        trained_at="2025-02-01T00:00:00+00:00",
        training_from="2025-01-01 00:00:00",
        training_until="2025-01-24 00:00:00",
        training_rows=300,
        training_frauds=None,
        held_back_rows=100,
        held_back_alert_rate=1 / 3,
        held_back_average_precision=None,
        held_back_scores=tuple(range(SCORE_BINS)),
        data_sha256="a" * 64,
        seed=0,
        versions={"numpy": np.__version__},
    )


@cache
def anomaly_model(version: str = "anomaly-1", seed: int = 0) -> Model:
    return Model(fit(Sample(features()), trees=5, seed=seed), about(version))
