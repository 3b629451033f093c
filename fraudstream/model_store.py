"""The model's files: written so that no reader sees half a model, read so that only ours is taken.

Layout of `model_output/`: one folder for each version, and a file `CURRENT` with the name of the version in
use. A version's folder has `model.json`, with one line for each of the metadata and one for the scorer's
plain values, and a file `NAME.skops` for each of its estimators. There is no pickle. A reader sees the old
version or the new one, never a mix: a version's folder is complete before `CURRENT` is replaced by one
rename.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import skops.io
from pydantic import TypeAdapter, ValidationError
from sklearn.ensemble import IsolationForest, RandomForestClassifier

from fraudstream.features import FEATURE_NAMES
from fraudstream.model import Metadata, Model, Scorer, TailCurve, from_parts, parts_of

Read = TypeVar("Read")

CURRENT = "CURRENT"
METADATA_FILE = "model.json"

_SCORER = "scorer"
# A folder's name and nothing more, and no longer than the database's column for it.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_ESTIMATORS: dict[str, type] = {
    "isolation_forest": IsolationForest,
    "random_forest": RandomForestClassifier,
}
# Everything that these consist of beyond what skops trusts by itself.
_TRUSTED_TYPES = frozenset({"sklearn.tree._tree.Tree"})

# A score is at most 1; a threshold that nothing is to reach lies just above the highest score.
_HIGHEST_THRESHOLD = float(np.nextafter(1.0, np.inf))


class ModelError(Exception):
    """A model exists but cannot be used, or cannot be saved; the text says which and why."""


def save(model: Model, directory: Path) -> Path:
    """Write the version's folder, then point CURRENT at it by one rename. Returns the folder.

    A version that is there already is the same model: each of its files is replaced by one rename, too.
    Raises ModelError, and writes nothing, when the version is no plain name or a number is not finite.
    """
    version = _plain_name(model.metadata.version)
    estimators, values = parts_of(model.scorer)
    fields = asdict(model.metadata) | {_SCORER: {"estimators": list(estimators), "values": values}}
    try:
        document = _one_line_each(fields)
    except ValueError as error:
        raise ModelError(f"the model {version} cannot be saved: {error}") from error
    contents = {_file_of(name): _packed(estimator) for name, estimator in estimators.items()}
    folder = directory / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content)
    _replace(folder / METADATA_FILE, document.encode())
    _replace(directory / CURRENT, f"{version}\n".encode())
    return folder


def current_version(directory: Path) -> str | None:
    """The version that CURRENT names, or None when there is no model.

    Raises ModelError when CURRENT cannot be read or holds anything but the plain name of a folder.
    """
    pointer = directory / CURRENT
    try:
        return _plain_name(pointer.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except (ModelError, OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{pointer} does not name a model: {error}") from error


def load(directory: Path) -> Model | None:
    """The current model, or None when there is none. It scores bit for bit as the one that was saved.

    Raises ModelError when CURRENT names a version that cannot be read, is of an earlier form, holds types
    that a model has no business holding, was trained with other features than this code computes, or
    contradicts itself.
    """
    return _load(directory, _read_model)


def load_metadata(directory: Path) -> Metadata | None:
    """What is known of the current model, without its estimators; None when there is no model.

    Raises ModelError as `load`, but for what only the estimators would show.
    """
    return _load(directory, lambda folder: _read_document(folder)[0])


def _load(directory: Path, read: Callable[[Path], Read]) -> Read | None:
    version = current_version(directory)
    if version is None:
        return None
    folder = directory / version
    try:
        return read(folder)
    except Exception as error:
        raise ModelError(
            f"the model in {folder} cannot be loaded: {_problem(error)}; "
            "train it again with train_fraud_model.py"
        ) from error


def _problem(error: Exception) -> str:
    if isinstance(error, ModelError):
        return str(error)
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return f"{type(error).__name__}: {error}"


def _plain_name(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise ModelError(
            f"{version!r} is no version: up to 64 letters, digits, dots, hyphens and underscores, "
            "the first a letter or digit"
        )
    return version


def _file_of(estimator_name: str) -> str:
    return f"{estimator_name}.skops"


def _one_line_each(fields: dict[str, Any]) -> str:
    """A JSON object. Raises ValueError for numbers that JSON does not have."""
    lines = (f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in fields.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _packed(estimator: Any) -> bytes:
    return skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=9)


def _replace(path: Path, content: bytes) -> None:
    """Give the file its new content at once; a reader sees the old or the new, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            # Without it a power cut could leave CURRENT naming a version whose content is not there.
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _read_model(folder: Path) -> Model:
    metadata, stored = _read_document(folder)
    if metadata.feature_names != FEATURE_NAMES:
        raise ModelError(f"it was trained with other features: {_difference(metadata.feature_names)}")
    if not 0 <= metadata.threshold <= _HIGHEST_THRESHOLD:
        raise ModelError(f"its threshold {metadata.threshold} is no score from 0 to 1")
    estimators = {name: _read_estimator(folder, name) for name in stored["estimators"]}
    scorer = from_parts(estimators, stored["values"])
    _check(scorer, estimators)
    return Model(scorer, metadata)


def _read_document(folder: Path) -> tuple[Metadata, dict[str, Any]]:
    """The metadata, and the scorer's plain values with the names of its estimators."""
    text = (folder / METADATA_FILE).read_text(encoding="utf-8")
    document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    if _SCORER not in document:
        raise ModelError(f"{METADATA_FILE} has no {_SCORER!r}, so it is of an earlier form")
    stored = document.pop(_SCORER)
    metadata = _metadata(document)
    if metadata.version != folder.name:
        raise ModelError(f"it says that it is {metadata.version}")
    return metadata, stored


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ModelError(f"{METADATA_FILE} holds {text}, which is no finite number")
    return number


def _metadata(document: dict[str, Any]) -> Metadata:
    try:
        # By way of JSON: only there is a list as good as a tuple when types are taken strictly.
        return TypeAdapter(Metadata).validate_json(json.dumps(document), strict=True, extra="forbid")
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ModelError(f"{METADATA_FILE} is not as it was saved: {'; '.join(wrong)}") from error


def _difference(trained: Sequence[str]) -> str:
    unknown = [name for name in trained if name not in FEATURE_NAMES]
    lacking = [name for name in FEATURE_NAMES if name not in trained]
    texts = [
        *([f"this version does not compute {', '.join(unknown)}"] if unknown else []),
        *([f"the model lacks {', '.join(lacking)}"] if lacking else []),
    ]
    return "; ".join(texts) or "those of this version, but in another order or repeated"


def _read_estimator(folder: Path, name: str) -> Any:
    if name not in _ESTIMATORS:
        raise ModelError(f"it has an estimator {name!r}; there are only {', '.join(_ESTIMATORS)}")
    path = folder / _file_of(name)
    foreign = set(skops.io.get_untrusted_types(file=path)) - _TRUSTED_TYPES
    if foreign:
        raise ModelError(f"{path.name} holds types that are not trusted: {', '.join(sorted(foreign))}")
    estimator = skops.io.load(path, trusted=sorted(_TRUSTED_TYPES))
    if type(estimator) is not _ESTIMATORS[name]:
        raise ModelError(f"{path.name} is a {type(estimator).__name__}, not a {_ESTIMATORS[name].__name__}")
    return estimator


def _check(scorer: Scorer, estimators: dict[str, Any]) -> None:
    """Raises where the parts do not fit each other."""
    used, _ = parts_of(scorer)
    if used.keys() != estimators.keys():
        raise ModelError(f"of its estimators only {', '.join(used)} belong together")
    if scorer.supervised is not None and scorer.supervised.classes_.tolist() != [False, True]:
        raise ModelError("its RandomForestClassifier does not tell fraud from legitimate")
    if scorer.usual.shape != (len(FEATURE_NAMES),):
        raise ModelError(f"it has {scorer.usual.size} usual values for {len(FEATURE_NAMES)} features")
    for name, curve in scorer.strangeness.curves.items():
        if not _is_curve(curve):
            raise ModelError(f"its curve of {name} is none")
    if not _is_curve(scorer.strangeness.joint):
        raise ModelError("its curve of the joint score is none")
    # Asks each part for what it needs: a missing curve or an estimator of another width shows here.
    (score,) = scorer.score(scorer.usual[None])
    if not 0 <= score <= 1:
        raise ModelError(f"it gives a usual transaction the score {score}")


def _is_curve(curve: TailCurve) -> bool:
    """Numbers, as many surprises as values, and both rising."""
    arrays = (curve.values, curve.surprises)
    return (
        all(array.dtype == np.float64 and array.ndim == 1 and len(array) > 0 for array in arrays)
        and len(curve.values) == len(curve.surprises)
        and bool(np.all(np.diff(curve.values) > 0) and np.all(np.diff(curve.surprises) >= 0))
        and curve.slope >= 0
    )
