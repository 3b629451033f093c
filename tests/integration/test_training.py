"""`python train_fraud_model.py`, and the job that meets a model it cannot use."""

from __future__ import annotations

import re
from pathlib import Path

from fraudstream.config import TRANSACTIONS_CSV, child_environment
from fraudstream.model import CURRENT, load
from tests.support.jobs import run_script


def test_training_makes_a_model_that_loads_and_becomes_the_current_one(tmp_path: Path) -> None:
    data, out = tmp_path / "history.csv", tmp_path / "models"
    lines = TRANSACTIONS_CSV.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join([*lines[:1001], lines[1000]]), encoding="utf-8")
    run = run_script(
        "train_fraud_model.py", "--data", str(data), "--out", str(out), environment=child_environment()
    )
    assert run.returncode == 0, run.stderr
    said = re.fullmatch(r"model=(\S+) threshold=([\d.]+) training_rows=(\d+) .*\n", run.stdout)
    assert said is not None, run.stdout
    trained = load(out)
    assert trained is not None and trained.metadata.version == said[1]
    usable = trained.metadata.training_rows + trained.metadata.held_back_rows
    assert usable == sum("" not in (line.split(",")[2], line.split(",")[4]) for line in set(lines[1:1001]))


def test_data_that_cannot_be_trained_on_leave_no_model(tmp_path: Path) -> None:
    data, out = tmp_path / "history.csv", tmp_path / "models"
    lines = TRANSACTIONS_CSV.read_text(encoding="utf-8").splitlines(keepends=True)
    for rows, complaint in (
        ([lines[0].replace("Amount", "Sum"), *lines[1:200]], "Amount"),
        (lines[:11], "10 usable rows are too few"),
    ):
        data.write_text("".join(rows), encoding="utf-8")
        run = run_script(
            "train_fraud_model.py", "--data", str(data), "--out", str(out), environment=child_environment()
        )
        assert run.returncode == 1
        assert complaint in run.stderr and "Traceback" not in run.stderr
        assert not (out / CURRENT).exists()


def test_the_job_does_not_start_on_a_model_that_it_cannot_load(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / CURRENT).write_text("iforest-gone\n")
    run = run_script("data_cleaning.py", environment={**settings_env, "MODEL_DIR": str(tmp_path)})
    assert run.returncode == 1
    assert "iforest-gone" in run.stderr and "cannot be loaded" in run.stderr
    assert "Streaming started" not in run.stdout
    assert "Traceback" not in run.stderr
