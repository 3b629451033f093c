"""`python train_fraud_model.py` from files and the database, and the job that meets a model it cannot use."""

from __future__ import annotations

import csv
import random
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from fraudstream.config import child_environment
from fraudstream.labels import Label
from fraudstream.model import TrainingError
from fraudstream.model_store import CURRENT, load
from fraudstream.schema import FIELD_NAMES, TRANSACTION_ARROW
from fraudstream.store import training_data
from fraudstream.store.engine import make_engine
from fraudstream.store.labels import import_labels
from fraudstream.store.migrate import migrate
from fraudstream.store.training_data import read_training_data
from fraudstream.training_history import from_database
from tests.support.jobs import run_script
from tests.support.transactions import Judged, random_transactions, store
from train_fraud_model import app

START = datetime.fromisoformat("2025-01-01")
DELAY = timedelta(days=7)
ROWS = random_transactions(1_200, seed=8, start=START, days=20)
REPORT = "report.html"


@dataclass(frozen=True)
class Training:
    """How a run ended: its exit code, what its last line says, and what it said meanwhile."""

    code: int
    result: dict[str, str]
    log: str


def train(out: Path, *options: str, **environment: str) -> Training:
    run = run_script(
        "train_fraud_model.py", "--out", str(out), *options, environment=child_environment(**environment)
    )
    assert "Traceback" not in run.stderr, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == (1 if run.returncode == 0 else 0), run.stdout + run.stderr
    result = dict(word.split("=", 1) for word in lines[0].split()) if lines else {}
    return Training(run.returncode, result, run.stderr)


def is_fraud(row: Judged) -> bool:
    """Most of the very high amounts, and nothing else."""
    return row.amount > 1_900 and row.amount % 7 > 2


def known_at(row: Judged) -> datetime:
    return row.time + DELAY


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ROWS, the last one twice, and a row that cannot be used."""
    cells = [
        (row.transaction_id, row.user_id, row.amount, row.location, row.time, row.device, row.merchant)
        for row in [*ROWS, ROWS[-1]]
    ]
    unusable = ("bad", "U1", "much", "Cairo", START, "iOS", "Amazon")
    return write_csv(tmp_path_factory.mktemp("data") / "history.csv", [FIELD_NAMES, *cells, unusable])


@pytest.fixture(scope="module")
def supervised(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    """A model that learnt from labels, which say one thing too many, and the folder that it is in."""
    out = tmp_path_factory.mktemp("supervised")
    labels = [(row.transaction_id, int(is_fraud(row)), "high") for row in ROWS]
    truth = write_csv(
        out / "truth.csv", [("TransactionID", "is_fraud", "scenario"), *labels, ("gone", 1, "lost")]
    )
    return train(out / "models", "--data", str(data), "--labels", str(truth)), out / "models"


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the report."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != REPORT
    }


def test_labels_make_a_supervised_model_and_strangers_among_them_are_named(
    supervised: tuple[Training, Path],
) -> None:
    done, out = supervised
    assert done.code == 0, done.log
    assert done.result["kind"] == "supervised"
    assert float(done.result["average_precision"]) > 0.5
    assert "1 of 1,201 labels are left out" in done.log and "'gone'" in done.log
    model = load(out)
    assert model is not None
    about = model.metadata
    assert (about.version, str(out / about.version)) == (done.result["model"], done.result["folder"])
    assert (about.training_rows, about.held_back_rows) == (960, 240)
    assert 0 < (about.training_frauds or 0) < sum(map(is_fraud, ROWS))
    assert "Accepted: it is the current model" in (out / REPORT).read_text(encoding="utf-8")


def test_a_model_without_labels_replaces_it_only_when_forced(
    data: Path, supervised: tuple[Training, Path], database: str, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    shutil.copytree(supervised[1], out)
    before, present = contents(out), supervised[0].result["model"]
    refused = train(out, "--data", str(data))
    assert (refused.code, contents(out)) == (1, before)
    assert "No labels" in refused.log and "Refused" in refused.log
    assert present in refused.log and "--force" in refused.log
    assert "Refused: the present model stays" in (out / REPORT).read_text(encoding="utf-8")

    filled(database)
    forced = train(out, "--from-mysql", "--force", MYSQL_URL=database)
    assert (forced.code, forced.result["kind"]) == (0, "unsupervised"), forced.log
    assert (out / CURRENT).read_text() == f"{forced.result['model']}\n"
    assert 0.005 <= float(forced.result["held_back_alert_rate"]) <= 0.01
    assert "average_precision" not in forced.result
    assert "Forced" in (out / REPORT).read_text(encoding="utf-8")


def test_a_worse_supervised_model_is_refused_with_both_numbers(
    supervised: tuple[Training, Path], database: str, tmp_path: Path
) -> None:
    """Labels that mean nothing in the training period and are right for what is held back."""
    out = tmp_path / "models"
    shutil.copytree(supervised[1], out)
    before = contents(out)
    later = sorted(ROWS, key=lambda row: row.time)[960].time
    chance = random.Random(3)
    frauds = [is_fraud(row) if row.time >= later else chance.random() < 0.05 for row in ROWS]
    labels = [
        Label(row.transaction_id, "fraud" if fraud else "legitimate", known_at(row))
        for row, fraud in zip(ROWS, frauds, strict=True)
    ]
    import_labels(filled(database), labels, source="bank")
    refused = train(out, "--from-mysql", MYSQL_URL=database)
    assert (refused.code, contents(out)) == (1, before)
    assert "--force" in refused.log
    compared = re.search(
        r"hybrid-\w+ has average precision ([\d.]+), the present model (\S+) ([\d.]+)\.", refused.log
    )
    assert compared is not None, refused.log
    assert float(compared[1]) < float(compared[3])
    assert compared[2] == supervised[0].result["model"]


def test_labels_with_their_time_are_used_alike_and_bad_rows_are_named(
    data: Path, supervised: tuple[Training, Path], tmp_path: Path
) -> None:
    labels = [(row.transaction_id, "fraud" if is_fraud(row) else "legitimate", known_at(row)) for row in ROWS]
    rows = [("TransactionID", "label", "known_at"), ("T000001", "perhaps", START), *labels]
    out = tmp_path / "models"
    done = train(out, "--data", str(data), "--labels", str(write_csv(tmp_path / "labels.csv", rows)))
    assert done.code == 0, done.log
    assert "line 2: label 'perhaps' is neither fraud nor legitimate" in done.log
    assert {**done.result, "folder": ""} == {**supervised[0].result, "folder": ""}
    assert contents(out).keys() == contents(supervised[1]).keys()


def test_the_database_gives_the_model_that_a_file_of_the_same_rows_gives(
    database: str, supervised: tuple[Training, Path], tmp_path: Path
) -> None:
    """The rows came in two batches, the later ones were written first, and two sources spoke of them."""
    engine = filled(database)
    labels = [Label(row.transaction_id, outcome_of(row), known_at(row)) for row in ROWS]
    import_labels(engine, labels, source="bank")
    wrong = [
        replace(each, outcome="fraud", known_at=each.known_at - timedelta(days=1)) for each in labels[:600]
    ]
    import_labels(engine, wrong, source="import")
    import_labels(engine, [Label("gone", "fraud", START)], source="bank")
    done = train(tmp_path, "--from-mysql", MYSQL_URL=database)
    assert done.code == 0, done.log
    assert "1 of 1,201 labels are left out" in done.log and "'gone'" in done.log
    from_file = supervised[0].result
    for name in ("kind", "threshold", "training_rows", "held_back_rows", "average_precision"):
        assert done.result[name] == from_file[name]
    here, there = load(tmp_path), load(supervised[1])
    assert here is not None and there is not None
    assert here.metadata.threshold == there.metadata.threshold
    assert here.metadata.held_back_scores == there.metadata.held_back_scores


def outcome_of(row: Judged) -> str:
    return "fraud" if is_fraud(row) else "legitimate"


def filled(database: str, rows: Sequence[Judged] = ROWS) -> Engine:
    """The database with `rows` in two batches, of which the second was written first."""
    engine = make_engine(make_url(database))
    migrate(engine)
    half = len(rows) // 2
    store(engine, rows[half:])
    with engine.begin() as connection:
        connection.execute(text("UPDATE clean_data SET processed_at = processed_at + INTERVAL 1 SECOND"))
    store(engine, rows[:half])
    return engine


def test_without_labels_the_database_trains_an_anomaly_model_and_with_useless_ones_nothing(
    database: str, tmp_path: Path
) -> None:
    engine = filled(database)
    (tmp_path / CURRENT).write_text("iforest-gone\n")
    done = train(tmp_path, "--from-mysql", MYSQL_URL=database)
    assert (done.code, done.result["kind"]) == (0, "unsupervised"), done.log
    assert "No labels" in done.log
    assert "iforest-gone" in done.log and "takes over" in done.log
    assert "Reading the history: 1,200 rows" in done.log and "Training: 960 rows" in done.log

    before = contents(tmp_path)
    import_labels(engine, [Label("gone", "fraud", START)], source="bank")
    with pytest.raises(TrainingError, match=r"none of the 1 labels is of a transaction in the data.*'gone'"):
        from_database(engine, label_delay_s=0)
    legitimate = [Label(row.transaction_id, "legitimate", known_at(row)) for row in ROWS]
    import_labels(engine, legitimate, source="bank")
    refused = train(tmp_path, "--from-mysql", MYSQL_URL=database)
    assert (refused.code, contents(tmp_path)) == (1, before)
    assert "0 frauds" in refused.log

    again = train(tmp_path, "--from-mysql", "--without-labels", MYSQL_URL=database)
    assert (again.code, again.result) == (0, done.result), again.log


def test_data_that_never_vary_leave_no_model(database: str, tmp_path: Path) -> None:
    one = Judged("T", "U", Decimal(10), START)
    filled(database, [replace(one, transaction_id=f"T{n}", user_id=f"U{n}") for n in range(200)])
    refused = train(tmp_path / "models", "--from-mysql", MYSQL_URL=database)
    assert refused.code == 1
    assert "varies" in refused.log
    assert not (tmp_path / "models").exists()


def test_files_that_cannot_be_trained_on_leave_no_model(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    few, other, labels = tmp_path / "few.csv", tmp_path / "other.csv", tmp_path / "labels.csv"
    few.write_text("".join(lines[:11]), encoding="utf-8")
    other.write_text("".join([lines[0].replace("Amount", "Sum"), *lines[1:]]), encoding="utf-8")
    labels.write_text("TransactionID,outcome\nT000001,1\n", encoding="utf-8")
    for options, complaint in (
        (["--data", str(few)], "10 usable rows are too few"),
        (["--data", str(other)], "Amount"),
        (["--data", str(data), "--labels", str(labels)], "TransactionID and is_fraud, or"),
        (["--data", str(tmp_path / "none.csv")], "none.csv"),
    ):
        refused = train(out, *options)
        assert refused.code == 1
        assert complaint in refused.log
        assert not out.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "history.csv", "--from-mysql"], "leave out --data and --labels"),
        (["--without-labels"], "leave out --labels"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], complaint: str) -> None:
    ended = CliRunner().invoke(app, options)
    assert ended.exit_code == 2
    assert complaint in " ".join(ended.stderr.replace("│", " ").split())


@pytest.mark.parametrize("rows_at_once", [7, 50_000])
def test_the_database_is_read_in_order_of_arrival_whatever_the_size_of_the_parts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(training_data, "_ROWS_AT_ONCE", rows_at_once)
    rows = [replace(row, transaction_id=f"{row.amount}-{row.transaction_id}") for row in ROWS[:70]]
    store(engine, rows)
    with engine.begin() as connection:
        # The offsets are the rows' positions; the first twenty are of another partition, the last ten of
        # an earlier batch.
        connection.execute(text("UPDATE clean_data SET partition_id = 1 WHERE `offset` < 20"))
        connection.execute(
            text("UPDATE clean_data SET processed_at = processed_at - INTERVAL 1 HOUR WHERE `offset` >= 60")
        )
    for source in ("bank", "shop", "import"):
        import_labels(engine, [Label(row.transaction_id, "fraud", START) for row in rows[:25]], source=source)
    transactions, labels = read_training_data(engine)
    in_order = [*rows[60:], *rows[20:60], *rows[:20]]
    assert transactions.schema == TRANSACTION_ARROW
    assert transactions.to_pylist() == [
        dict(
            zip(
                FIELD_NAMES,
                (
                    row.transaction_id,
                    row.user_id,
                    row.amount,
                    row.location,
                    row.time,
                    row.device,
                    row.merchant,
                ),
                strict=True,
            )
        )
        for row in in_order
    ]
    assert len(labels) == 75
    assert labels["TransactionID"].value_counts().to_dict() == {row.transaction_id: 3 for row in rows[:25]}
    assert labels["fraud"].all() and (labels["known_at_s"] == 1_735_689_600).all()


def test_the_job_does_not_start_on_a_model_that_it_cannot_load(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / CURRENT).write_text("iforest-gone\n")
    run = run_script("data_cleaning.py", environment={**settings_env, "MODEL_DIR": str(tmp_path)})
    assert run.returncode == 1
    assert "iforest-gone" in run.stderr and "cannot be loaded" in run.stderr
    assert "Streaming started" not in run.stdout
    assert "Traceback" not in run.stderr
