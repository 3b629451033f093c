"""The model artefact: train, save, load, score. No pickle: skops for the estimator, JSON beside it.

Layout of `model_output/`: one folder for each version with `model.skops` and `model.json`, and a file
`CURRENT` with the name of the version in use. A reader sees the old version or the new one, never a mix:
a version's folder is complete before `CURRENT` is replaced by one rename.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tempfile
import zipfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from fraudstream.features import FEATURE_NAMES

CURRENT = "CURRENT"
MODEL_FILE = "model.skops"
METADATA_FILE = "model.json"

MINIMUM_ROWS = 100

# Everything that an isolation forest consists of beyond what skops trusts by itself.
_TRUSTED_TYPES = frozenset({"sklearn.tree._tree.Tree"})


class ModelError(Exception):
    """A model exists but cannot be used; the text says which and why."""


class TrainingError(Exception):
    """The data do not allow training; the text says what is missing."""


@dataclass(frozen=True)
class Metadata:
    version: str
    kind: str
    feature_names: tuple[str, ...]
    threshold: float
    threshold_chosen: str
    alert_budget: float
    trained_at: str
    training_from: str
    training_until: str
    training_rows: int
    held_back_rows: int
    held_back_alert_rate: float
    data_sha256: str
    seed: int
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A fitted estimator with its threshold; a score at or over the threshold flags a transaction."""

    estimator: IsolationForest
    metadata: Metadata

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores in (0, 1], shape (n,): higher is stranger (Liu, Ting and Zhou, 2008)."""
        if len(features) == 0:
            return np.empty(0)
        return -self.estimator.score_samples(features)


def train(
    features: NDArray[np.float64],
    time_s: NDArray[np.int64],
    *,
    data_sha256: str,
    alert_budget: float = 0.01,
    held_back: float = 0.2,
    trees: int = 100,
    seed: int = 0,
) -> Model:
    """Fit an isolation forest on the earlier part of the data and choose its threshold on the later part.

    `time_s` is local time in seconds since 1970-01-01, one a row of `features`. The threshold is the score
    that the share `alert_budget` of the held-back rows reaches. The same data and seed give the same model.
    Raises TrainingError when there are too few rows, or when no feature varies.
    """
    if len(features) < MINIMUM_ROWS:
        raise TrainingError(f"{len(features)} usable rows are too few to train on: at least {MINIMUM_ROWS}")
    if np.all(features == features[0]):
        raise TrainingError("no feature varies: every usable row of the training data looks the same")
    order = np.argsort(time_s, kind="stable")
    cut = int(len(order) * (1 - held_back))
    training, later = order[:cut], order[cut:]
    estimator = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=1).fit(features[training])
    later_scores = -estimator.score_samples(features[later])
    threshold = float(np.quantile(later_scores, 1 - alert_budget, method="higher"))
    metadata = Metadata(
        version=_version(data_sha256, seed, trees, alert_budget),
        kind="isolation forest",
        feature_names=FEATURE_NAMES,
        threshold=threshold,
        threshold_chosen=f"score that {alert_budget:.2%} of the held-back rows reach",
        alert_budget=alert_budget,
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        training_from=_local_text(time_s[training].min()),
        training_until=_local_text(time_s[training].max()),
        training_rows=len(training),
        held_back_rows=len(later),
        held_back_alert_rate=float(np.mean(later_scores >= threshold)),
        data_sha256=data_sha256,
        seed=seed,
        versions={
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    )
    return Model(estimator, metadata)


def save(model: Model, directory: Path) -> Path:
    """Write the version's folder, then point CURRENT at it by one rename. Returns the folder.

    A version that is there already is the same model: each of its files is replaced by one rename, too.
    """
    folder = directory / model.metadata.version
    folder.mkdir(parents=True, exist_ok=True)
    estimator = io.BytesIO()
    skops.io.dump(model.estimator, estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    metadata = json.dumps(asdict(model.metadata), indent=2) + "\n"
    _replace(folder / MODEL_FILE, estimator.getvalue())
    _replace(folder / METADATA_FILE, metadata.encode())
    _replace(directory / CURRENT, f"{model.metadata.version}\n".encode())
    return folder


def _replace(path: Path, content: bytes) -> None:
    """Give the file its new content at once; a reader sees the old or the new, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def current_version(directory: Path) -> str | None:
    """The version that CURRENT names, or None when there is no model."""
    pointer = directory / CURRENT
    return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def load(directory: Path) -> Model | None:
    """The current model, or None when there is none.

    Raises ModelError when CURRENT names a version that cannot be read, holds types that a model has no
    business holding, or was trained with other features than this code computes.
    """
    version = current_version(directory)
    if version is None:
        return None
    folder = directory / version
    try:
        document = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        metadata = Metadata(**{**document, "feature_names": tuple(document["feature_names"])})
        estimator = _load_estimator(folder / MODEL_FILE)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model in {folder} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if metadata.feature_names != FEATURE_NAMES:
        raise ModelError(
            f"the model in {folder} was trained with the features {', '.join(metadata.feature_names)}; this "
            f"version computes {', '.join(FEATURE_NAMES)}: train it again with train_fraud_model.py"
        )
    if estimator.n_features_in_ != len(FEATURE_NAMES) or not _is_score(metadata.threshold):
        raise ModelError(
            f"the model in {folder} contradicts itself: {estimator.n_features_in_} features and the "
            f"threshold {metadata.threshold!r}; train it again with train_fraud_model.py"
        )
    return Model(estimator, metadata)


def _is_score(threshold: object) -> bool:
    return isinstance(threshold, float) and 0 <= threshold <= 1


def _load_estimator(path: Path) -> IsolationForest:
    foreign = set(skops.io.get_untrusted_types(file=path)) - _TRUSTED_TYPES
    if foreign:
        raise ModelError(f"the model {path} holds types that are not trusted: {', '.join(sorted(foreign))}")
    estimator: Any = skops.io.load(path, trusted=sorted(_TRUSTED_TYPES))
    if not isinstance(estimator, IsolationForest):
        raise ModelError(f"the model {path} is a {type(estimator).__name__}, not an IsolationForest")
    return estimator


def _version(data_sha256: str, seed: int, trees: int, alert_budget: float) -> str:
    recipe = f"{data_sha256} {seed} {trees} {alert_budget} {','.join(FEATURE_NAMES)} {sklearn.__version__}"
    return f"iforest-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _local_text(time_s: np.int64) -> str:
    return str(np.datetime64(int(time_s), "s")).replace("T", " ")
