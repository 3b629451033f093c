"""The model's files: loaded as they were saved, switched at once, refused when they are not ours."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV
from fraudstream.features import FEATURE_NAMES
from fraudstream.model import FRAUD, LEGITIMATE, UNKNOWN, Model, Sample, fit
from fraudstream.model_store import CURRENT, METADATA_FILE, ModelError, current_version, load, save
from tests.support.models import about, anomaly_model, features

FOREST_FILE = "isolation_forest.skops"
LEARNED_FILE = "random_forest.skops"


@cache
def learned_model() -> Model:
    outcome = np.tile(np.array([FRAUD, LEGITIMATE, UNKNOWN], np.int8), 100)
    return Model(fit(Sample(features(), outcome), trees=5), about("learned-1"))


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the learned model, to copy from: to pack one takes a second."""
    directory = tmp_path_factory.mktemp("saved")
    save(learned_model(), directory)
    return directory


@pytest.fixture
def learned_folder(saved_once: Path, tmp_path: Path) -> Path:
    """The learned model's folder below `tmp_path`, to be spoiled."""
    shutil.copytree(saved_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / learned_model().metadata.version


def loaded_from(directory: Path) -> Model:
    model = load(directory)
    assert model is not None
    return model


def refusal(directory: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(directory)
    return str(caught.value)


def names_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [anomaly_model, learned_model])
def test_a_loaded_model_is_the_saved_one(make: Callable[[], Model], tmp_path: Path) -> None:
    model = make()
    folder = save(model, tmp_path)
    loaded = loaded_from(tmp_path)
    assert folder == tmp_path / model.metadata.version
    assert current_version(tmp_path) == model.metadata.version
    assert loaded.metadata == model.metadata
    assert np.array_equal(loaded.score(features()), model.score(features()))
    assert loaded.explain(features(20)) == model.explain(features(20))


def test_a_model_has_a_file_for_each_estimator_and_no_pickle(tmp_path: Path) -> None:
    save(anomaly_model(), tmp_path)
    save(learned_model(), tmp_path)
    estimators = {
        f"anomaly-1/{FOREST_FILE}",
        *(f"learned-1/{name}" for name in (FOREST_FILE, LEARNED_FILE)),
    }
    described = {f"anomaly-1/{METADATA_FILE}", f"learned-1/{METADATA_FILE}"}
    assert names_below(tmp_path) == {CURRENT, *described, *estimators}
    for name in estimators:
        with zipfile.ZipFile(tmp_path / name) as packed:
            assert {Path(member).suffix for member in packed.namelist()} <= {".json", ".npy"}
            assert {member.compress_type for member in packed.infolist()} == {zipfile.ZIP_DEFLATED}
    for name in names_below(tmp_path):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644


def test_the_description_is_one_line_for_each_entry(tmp_path: Path) -> None:
    lines = (save(anomaly_model(), tmp_path) / METADATA_FILE).read_text().splitlines()
    assert '  "threshold": 0.25,' in lines
    assert len(lines) == len(json.loads("".join(lines))) + 2


@pytest.mark.parametrize("threshold", [0.0, 1.0, float(np.nextafter(1.0, 2.0))])
def test_a_threshold_may_be_any_score_or_just_above_the_highest(threshold: float, tmp_path: Path) -> None:
    save(replace(anomaly_model(), metadata=about("edge", threshold)), tmp_path)
    assert loaded_from(tmp_path).metadata.threshold == threshold


def test_without_a_model_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    assert load(tmp_path / "never made") is None
    assert current_version(tmp_path) is None


def test_a_new_version_replaces_the_old_one_and_leaves_it_in_its_folder(tmp_path: Path) -> None:
    save(learned_model(), tmp_path)
    save(anomaly_model(), tmp_path)
    assert loaded_from(tmp_path).metadata.version == "anomaly-1"
    (tmp_path / CURRENT).write_text("learned-1\n")
    assert np.array_equal(loaded_from(tmp_path).score(features()), learned_model().score(features()))


def test_saving_the_version_in_use_again_never_opens_its_files_for_writing(tmp_path: Path) -> None:
    model = learned_model()
    folder = save(model, tmp_path)
    names = names_below(tmp_path)
    with ExitStack() as readers:
        opened = [readers.enter_context((tmp_path / name).open("rb")) for name in sorted(names)]
        before = [(tmp_path / name).read_bytes() for name in sorted(names)]
        inodes = [(tmp_path / name).stat().st_ino for name in sorted(names)]
        save(replace(model, metadata=replace(model.metadata, trained_at="later")), tmp_path)
        assert [file.read() for file in opened] == before
        assert not {(tmp_path / name).stat().st_ino for name in names} & set(inodes)
    assert names_below(tmp_path) == names
    assert loaded_from(tmp_path).metadata.trained_at == "later"
    assert np.array_equal(loaded_from(tmp_path).score(features()), model.score(features()))
    assert folder.name == model.metadata.version


def test_who_reads_while_versions_are_saved_gets_one_of_them_whole(tmp_path: Path) -> None:
    models = [anomaly_model("anomaly-1"), anomaly_model("anomaly-2", seed=1), learned_model()]
    expected = {model.metadata.version: model.score(features()) for model in models}
    save(models[0], tmp_path)
    enough = threading.Event()
    failures: list[BaseException] = []

    def keep_saving() -> None:
        try:
            while not enough.is_set():
                for model in models:
                    save(model, tmp_path)
        except BaseException as error:
            failures.append(error)
            raise

    writer = threading.Thread(target=keep_saving)
    writer.start()
    try:
        seen = set()
        for _ in range(25):
            loaded = loaded_from(tmp_path)
            seen.add(loaded.metadata.version)
            assert np.array_equal(loaded.score(features()), expected[loaded.metadata.version])
    finally:
        enough.set()
        writer.join()
    assert not failures
    assert len(seen) > 1


def test_a_save_that_fails_midway_leaves_the_present_model_and_no_scraps(tmp_path: Path) -> None:
    save(anomaly_model(), tmp_path)
    (tmp_path / "learned-1" / METADATA_FILE).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        save(learned_model(), tmp_path)
    assert loaded_from(tmp_path).metadata.version == "anomaly-1"
    assert {name for name in names_below(tmp_path) if name.startswith("learned-1")} == {
        f"learned-1/{name}" for name in (FOREST_FILE, LEARNED_FILE)
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_not_saved(number: float, tmp_path: Path) -> None:
    model = anomaly_model()
    spoiled = replace(model, metadata=replace(model.metadata, held_back_alert_rate=number))
    with pytest.raises(ModelError, match="model anomaly-1 cannot be saved"):
        save(spoiled, tmp_path / "models")
    assert not (tmp_path / "models").exists()


NO_NAMES = ["", ".", "..", "../stolen", "a/b", "/etc", ".hidden", "a b", "a\nb", "a\\b", "é", "a" * 65]


@pytest.mark.parametrize("version", NO_NAMES)
def test_a_version_that_is_no_plain_name_is_neither_saved_nor_followed(version: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(ModelError, match="is no version"):
        save(replace(anomaly_model(), metadata=about(version)), models)
    assert not models.exists()
    save(replace(anomaly_model(), metadata=about("stolen")), tmp_path)
    models.mkdir()
    (models / CURRENT).write_text(f"{version}\n", encoding="utf-8")
    for read in (load, current_version):
        with pytest.raises(ModelError) as caught:
            read(models)
        assert str(models / CURRENT) in str(caught.value) and repr(version) in str(caught.value)


def test_a_pointer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_bytes(b"\xff\xfe")
    assert str(tmp_path / CURRENT) in refusal(tmp_path)
    (tmp_path / CURRENT).unlink()
    (tmp_path / CURRENT).mkdir()
    assert str(tmp_path / CURRENT) in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert str(tmp_path / "file" / CURRENT) in refusal(tmp_path / "file")


def test_a_version_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_text("anomaly-gone\n")
    assert f"the model in {tmp_path / 'anomaly-gone'} cannot be loaded" in refusal(tmp_path)


Spoil = Callable[[Path], object]


def _cut(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def _overwrite(name: str, content: str = "not a model") -> Spoil:
    return lambda folder: (folder / name).write_text(content)


def _remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def _put(name: str, estimator: Any) -> Spoil:
    return lambda folder: skops.io.dump(estimator, folder / name)


def _copy(source: str, target: str) -> Spoil:
    return lambda folder: (folder / target).write_bytes((folder / source).read_bytes())


def _change(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        document = json.loads((folder / METADATA_FILE).read_text())
        change(document)
        (folder / METADATA_FILE).write_text(json.dumps(document))

    return spoil


def _describe(**changed: Any) -> Spoil:
    return _change(lambda document: document.update(changed))


def _forget(name: str) -> Spoil:
    return _change(lambda document: document.pop(name))


def _change_values(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return _change(lambda document: change(document["scorer"]["values"]))


def _change_curve(name: str, **changed: Any) -> Spoil:
    return _change_values(lambda values: values["curves"][name].update(changed))


def _write_into(old: str, new: str) -> Spoil:
    def spoil(folder: Path) -> None:
        text = (folder / METADATA_FILE).read_text()
        assert old in text
        (folder / METADATA_FILE).write_text(text.replace(old, new))

    return spoil


def _classifier(width: int, classes: tuple[Any, ...] = (False, True)) -> RandomForestClassifier:
    known = np.resize(np.array(classes), 20)
    return RandomForestClassifier(n_estimators=2, random_state=0).fit(features(20)[:, :width], known)


NARROW = IsolationForest(n_estimators=2, random_state=0).fit(np.arange(20.0).reshape(-1, 2))
RISING, FALLING = [0.0, 1.0], [1.0, 0.0]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_cut(FOREST_FILE), "BadZipFile"),
        (_overwrite(FOREST_FILE), "BadZipFile"),
        (_remove(FOREST_FILE), FOREST_FILE),
        (_remove(LEARNED_FILE), LEARNED_FILE),
        (_put(FOREST_FILE, LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])), "is a LinearRegression, not"),
        (_put(FOREST_FILE, _classifier(5)), "is a RandomForestClassifier, not a IsolationForest"),
        (_copy(FOREST_FILE, LEARNED_FILE), "is a IsolationForest, not a RandomForestClassifier"),
        (_put(FOREST_FILE, NARROW), "expecting 2 features"),
        (_put(LEARNED_FILE, _classifier(7)), "expecting 7 features"),
        (_put(LEARNED_FILE, _classifier(7, ("no", "yes"))), "does not tell fraud from legitimate"),
        (_put(LEARNED_FILE, _classifier(7, (True,))), "does not tell fraud from legitimate"),
        (_remove(METADATA_FILE), METADATA_FILE),
        (_cut(METADATA_FILE), "JSONDecodeError"),
        (_overwrite(METADATA_FILE, "[]"), "earlier form"),
        (_overwrite(METADATA_FILE, "7"), "TypeError"),
        (_overwrite(METADATA_FILE, '{"scorer": {}}'), "version: Field required"),
        (_forget("scorer"), "no 'scorer'"),
        (_forget("threshold"), "threshold: Field required"),
        (_describe(threshold="high"), "threshold: Input should be a valid number"),
        (_describe(threshold="0.5"), "threshold: Input should be a valid number"),
        (_describe(threshold=True), "threshold: Input should be a valid number"),
        (_describe(threshold=-0.01), "threshold -0.01 is no score"),
        (_describe(threshold=1.01), "threshold 1.01 is no score"),
        (_describe(training_rows=1.5), "training_rows: Input should be a valid integer"),
        (_describe(held_back_scores=["many"]), "held_back_scores.0: Input should be a valid integer"),
        (_describe(mood="good"), "mood: "),
        (_describe(version="anomaly-1"), "it says that it is anomaly-1"),
        (_write_into('"threshold": 0.25', '"threshold": NaN'), "NaN, which is no finite number"),
        (_write_into('"threshold": 0.25', '"threshold": 1e999'), "1e999, which is no finite number"),
        (_write_into('"usual": [', '"usual": [-Infinity, '), "-Infinity, which is no finite number"),
        (_change_values(lambda values: values.pop("usual")), "'usual' is missing"),
        (_change_values(lambda values: values["usual"].pop()), f"usual values for {len(FEATURE_NAMES)}"),
        (_change_values(lambda values: values.update(usual=["much"] * len(FEATURE_NAMES))), "ValueError"),
        (_change_values(lambda values: values.pop("curves")), "'curves' is missing"),
        (_change_values(lambda values: values["curves"].pop("")), "'' is missing"),
        (_change_values(lambda values: values["curves"].pop("Amount")), "'Amount' is missing"),
        (_change_curve("Amount", values=[], surprises=[]), "curve of Amount is none"),
        (_change_curve("Amount", values=RISING), "curve of Amount is none"),
        (_change_curve("Amount", values=FALLING, surprises=RISING), "curve of Amount is none"),
        (_change_curve("Amount", values=RISING, surprises=FALLING), "curve of Amount is none"),
        (_change_curve("Amount", values=["a", "b"], surprises=RISING), "curve of Amount is none"),
        (_change_curve("Amount", values=[RISING], surprises=[RISING]), "curve of Amount is none"),
        (_change_curve("Amount", slope=-1.0), "curve of Amount is none"),
        (_change_curve("", values=FALLING, surprises=RISING), "curve of the joint score is none"),
        (_change(lambda document: document["scorer"].pop("estimators")), "'estimators' is missing"),
        (
            _change(lambda document: document["scorer"]["estimators"].remove("random_forest")),
            "'random_forest' is missing",
        ),
        (_change_values(lambda values: values.update(supervised=False)), "belong together"),
        (_change(lambda document: document["scorer"]["estimators"].append("../x")), "estimator '../x'"),
    ],
)
def test_a_model_that_is_not_as_it_was_saved_is_refused_by_name(
    spoil: Spoil, complaint: str, learned_folder: Path
) -> None:
    spoil(learned_folder)
    message = refusal(learned_folder.parent)
    assert str(learned_folder) in message and complaint in message
    assert message.endswith("train it again with train_fraud_model.py")


@pytest.mark.parametrize("name", [FOREST_FILE, LEARNED_FILE])
def test_foreign_types_are_named(name: str, learned_folder: Path) -> None:
    _put(name, FunctionTransformer(func=json.loads))(learned_folder)
    assert f"{name} holds types that are not trusted: json.loads" in refusal(learned_folder.parent)


def test_foreign_types_inside_an_estimator_are_named(tmp_path: Path) -> None:
    forest = IsolationForest(n_estimators=2, random_state=0).fit(features(20))
    forest.extra = FunctionTransformer(func=json.loads)
    _put(FOREST_FILE, forest)(save(anomaly_model(), tmp_path))
    assert "not trusted: json.loads" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("trained", "difference"),
    [
        (("old", *FEATURE_NAMES), "this version does not compute old;"),
        (FEATURE_NAMES[2:], f"the model lacks {', '.join(FEATURE_NAMES[:2])};"),
        (
            ("old", "older", *FEATURE_NAMES[1:]),
            f"this version does not compute old, older; the model lacks {FEATURE_NAMES[0]};",
        ),
        (FEATURE_NAMES[::-1], "those of this version, but in another order"),
    ],
)
def test_other_features_are_refused_and_the_difference_named(
    trained: tuple[str, ...], difference: str, tmp_path: Path
) -> None:
    _describe(feature_names=trained)(save(anomaly_model(), tmp_path))
    message = refusal(tmp_path)
    assert f"it was trained with other features: {difference}" in message
    assert "train it again with train_fraud_model.py" in message


def test_a_model_of_the_earlier_layout_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "iforest-0"
    folder.mkdir()
    skops.io.dump(NARROW, folder / "model.skops")
    (folder / METADATA_FILE).write_text(json.dumps({"version": "iforest-0", "feature_names": ["Amount"]}))
    (tmp_path / CURRENT).write_text("iforest-0\n")
    assert refusal(tmp_path) == (
        f"the model in {folder} cannot be loaded: model.json has no 'scorer', so it is of an earlier form; "
        "train it again with train_fraud_model.py"
    )


def test_the_shipped_model_was_trained_on_the_shipped_data() -> None:
    shipped = loaded_from(PROJECT_DIR / "model_output")
    assert shipped.metadata.data_sha256 == hashlib.sha256(TRANSACTIONS_CSV.read_bytes()).hexdigest()
