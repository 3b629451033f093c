"""The model artefact: trained reproducibly, saved and loaded unchanged, refused when it is not ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV
from fraudstream.features import FEATURE_NAMES, row_features
from fraudstream.model import (
    CURRENT,
    METADATA_FILE,
    MINIMUM_ROWS,
    MODEL_FILE,
    Model,
    ModelError,
    TrainingError,
    current_version,
    load,
    save,
    train,
)

DATA = "a" * 64


def transactions(count: int = 500) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features and times of ordinary amounts, and of one that stands out as the very first."""
    chance = np.random.default_rng(3)
    seconds = chance.permutation(np.arange(count) * 3_600 + 1_735_787_045)
    cents = chance.integers(1_000, 50_000, count)
    cents[0] = 900_000
    return row_features(cents, seconds, chance.random(count) < 0.02), seconds


def trained(**options: Any) -> Model:
    return train(*transactions(), data_sha256=DATA, **{"trees": 20, **options})


@pytest.fixture(scope="module")
def model() -> Model:
    return trained()


def test_a_loaded_model_scores_as_the_saved_one(model: Model, tmp_path: Path) -> None:
    features, _ = transactions()
    folder = save(model, tmp_path)
    loaded = load(tmp_path)
    assert loaded is not None
    assert loaded.metadata == model.metadata
    assert np.array_equal(loaded.score(features), model.score(features))
    assert folder == tmp_path / model.metadata.version
    assert current_version(tmp_path) == model.metadata.version


def test_scores_are_one_a_row_and_higher_is_stranger(model: Model) -> None:
    features, _ = transactions()
    scores = model.score(features)
    assert scores.shape == (500,)
    assert ((scores > 0) & (scores <= 1)).all()
    assert scores[0] > np.quantile(scores, 0.9)
    assert model.score(features[:0]).shape == (0,)
    assert np.array_equal(model.score(features[:7]), scores[:7])


def test_the_same_data_and_seed_give_the_same_model(model: Model) -> None:
    features, _ = transactions()
    again, other = trained(), trained(seed=1)
    assert again.metadata.version == model.metadata.version
    assert again.metadata.threshold == model.metadata.threshold
    assert np.array_equal(again.score(features), model.score(features))
    assert other.metadata.version != model.metadata.version
    assert not np.array_equal(other.score(features), model.score(features))


def test_training_uses_the_earlier_part_and_the_threshold_the_later(model: Model) -> None:
    features, seconds = transactions()
    later = np.argsort(seconds)[400:]
    about = model.metadata
    assert (about.training_rows, about.held_back_rows) == (400, 100)
    assert about.training_from == str(np.datetime64(int(seconds.min()), "s")).replace("T", " ")
    assert about.training_until < str(np.datetime64(int(seconds[later].min()), "s")).replace("T", " ")
    alert_rate = np.mean(model.score(features[later]) >= about.threshold)
    assert alert_rate == about.held_back_alert_rate
    assert 0 < alert_rate <= 0.02
    assert about.feature_names == FEATURE_NAMES
    assert about.data_sha256 == DATA


def test_the_order_of_the_rows_does_not_matter(model: Model) -> None:
    features, seconds = transactions()
    backwards = train(features[::-1], seconds[::-1], data_sha256=DATA, trees=20)
    assert np.array_equal(backwards.score(features), model.score(features))


def test_too_few_rows_are_refused() -> None:
    features, seconds = transactions(MINIMUM_ROWS - 1)
    with pytest.raises(TrainingError, match=r"^99 usable rows are too few .* at least 100"):
        train(features, seconds, data_sha256=DATA)
    with pytest.raises(TrainingError, match=r"^0 usable rows"):
        train(features[:0], seconds[:0], data_sha256=DATA)
    assert train(*transactions(MINIMUM_ROWS), data_sha256=DATA, trees=5).metadata.training_rows == 80


def test_data_that_never_vary_are_refused() -> None:
    features, seconds = transactions()
    with pytest.raises(TrainingError, match="no feature varies"):
        train(np.repeat(features[:1], len(seconds), axis=0), seconds, data_sha256=DATA)
    features[:, 1:] = 0
    assert np.isfinite(train(features, seconds, data_sha256=DATA, trees=5).score(features)).all()


def test_without_a_model_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    assert load(tmp_path / "never made") is None
    assert current_version(tmp_path) is None


def test_a_new_version_replaces_the_old_one_and_leaves_it_in_its_folder(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    newer = trained(seed=1)
    save(newer, tmp_path)
    loaded = load(tmp_path)
    assert loaded is not None
    assert loaded.metadata.version == newer.metadata.version
    assert {path.name for path in tmp_path.iterdir()} == {
        CURRENT,
        model.metadata.version,
        newer.metadata.version,
    }


def test_saving_the_version_in_use_again_never_opens_its_files_for_writing(
    model: Model, tmp_path: Path
) -> None:
    folder = save(model, tmp_path)
    features, _ = transactions()
    paths = (folder / MODEL_FILE, folder / METADATA_FILE, tmp_path / CURRENT)
    with ExitStack() as readers:
        opened = [readers.enter_context(path.open("rb")) for path in paths]
        before = [path.read_bytes() for path in paths]
        save(replace(model, metadata=replace(model.metadata, trained_at="later")), tmp_path)
        assert [file.read() for file in opened] == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        [CURRENT, folder.name, MODEL_FILE, METADATA_FILE]
    )
    loaded = load(tmp_path)
    assert loaded is not None
    assert loaded.metadata.trained_at == "later"
    assert np.array_equal(loaded.score(features), model.score(features))


def _truncate(folder: Path) -> None:
    content = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(content[: len(content) // 2])


def _overwrite(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"not a model")


def _remove_model(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()


def _remove_metadata(folder: Path) -> None:
    (folder / METADATA_FILE).unlink()


def _break_metadata(folder: Path) -> None:
    (folder / METADATA_FILE).write_text("{")


def _forget_the_threshold(folder: Path) -> None:
    _change_metadata(folder, lambda document: document.pop("threshold"))


def _spoil_the_threshold(folder: Path) -> None:
    _change_metadata(folder, lambda document: document.update(threshold="high"))


def _change_metadata(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / METADATA_FILE).read_text())
    change(document)
    (folder / METADATA_FILE).write_text(json.dumps(document))


def _put_another_kind(folder: Path) -> None:
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), folder / MODEL_FILE)


def _put_a_classifier(folder: Path) -> None:
    forest = RandomForestClassifier(n_estimators=2, random_state=0).fit([[0.0], [1.0]], [0, 1])
    skops.io.dump(forest, folder / MODEL_FILE)


def _put_foreign_code(folder: Path) -> None:
    skops.io.dump(FunctionTransformer(func=json.loads), folder / MODEL_FILE)


def _put_other_width(folder: Path) -> None:
    narrow = IsolationForest(n_estimators=2, random_state=0).fit(np.arange(20.0).reshape(-1, 2))
    skops.io.dump(narrow, folder / MODEL_FILE)


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _overwrite,
        _remove_model,
        _remove_metadata,
        _break_metadata,
        _forget_the_threshold,
        _spoil_the_threshold,
        _put_another_kind,
        _put_a_classifier,
        _put_foreign_code,
        _put_other_width,
    ],
)
def test_a_model_that_is_not_as_it_was_saved_is_refused_by_name(
    spoil: Callable[[Path], None], model: Model, tmp_path: Path
) -> None:
    folder = save(model, tmp_path)
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert str(folder) in str(caught.value)


def test_foreign_types_are_named(model: Model, tmp_path: Path) -> None:
    _put_foreign_code(save(model, tmp_path))
    with pytest.raises(ModelError, match=r"not trusted: json\.loads"):
        load(tmp_path)


def test_other_features_are_refused_and_both_lists_named(model: Model, tmp_path: Path) -> None:
    _change_metadata(save(model, tmp_path), lambda document: document.update(feature_names=["Amount", "old"]))
    with pytest.raises(ModelError, match=r"features Amount, old; this version computes Amount, tod_sin"):
        load(tmp_path)


def test_a_version_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_text("iforest-gone\n")
    with pytest.raises(ModelError, match="iforest-gone"):
        load(tmp_path)


def test_the_shipped_model_was_trained_on_the_shipped_data() -> None:
    shipped = load(PROJECT_DIR / "model_output")
    assert shipped is not None
    assert shipped.metadata.data_sha256 == hashlib.sha256(TRANSACTIONS_CSV.read_bytes()).hexdigest()
