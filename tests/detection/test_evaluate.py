"""`python -m fraudstream evaluate` and `compare` as a user runs them: generated cards, the shipped data."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fraudstream.config import child_environment
from tests.support.jobs import run_script

FIGURES = {"auc", "ap", "cp100", "per_scenario", "precision", "recall", "alerts_per_day"}
COUNTS = {"train_rows", "test_rows", "seconds"}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_script("-m", "fraudstream", *map(str, arguments), environment=child_environment())


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(transactions, labels) of 200 customers on the 30 days of April 2018."""
    folder = tmp_path_factory.mktemp("cards")
    data, labels = folder / "cards.csv", folder / "labels.csv"
    made = run(
        "generate", "--population", "cards", "--users", 200, "--days", 30, "--out", data, "--labels", labels
    )
    assert made.returncode == 0, made.stderr
    return data, labels


def test_a_model_is_measured_on_later_days(cards: tuple[Path, Path], tmp_path: Path) -> None:
    data, labels = cards
    more, out = tmp_path / "labels.csv", tmp_path / "new" / "figures.json"
    more.write_text(labels.read_text(encoding="utf-8") + "stray,1,normal\n", encoding="utf-8")
    ended = run(
        "evaluate", "--data", data, "--labels", more, "--train-start", "2018-04-10", "--mode", "supervised",
        "--json", out,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures.keys() >= FIGURES | COUNTS
    assert (figures["mode"], figures["train_start"], figures["delay_days"]) == ("supervised", "2018-04-10", 7)
    days = [line.split(",")[4][:10] for line in data.read_text(encoding="utf-8").splitlines()[1:]]
    assert figures["train_rows"] == sum("2018-04-10" <= day <= "2018-04-16" for day in days)
    assert 0 < figures["test_rows"] < sum("2018-04-24" <= day <= "2018-04-30" for day in days)
    # High amounts and leaked credentials, which are nearly all frauds here, are easy to see.
    assert figures["test_frauds"] > 20
    assert figures["auc"] > 0.8 and figures["ap"] > 0.5
    assert 0 < figures["cp100"] < 1
    scenarios = figures["per_scenario"]
    assert sum(scenario["frauds"] for scenario in scenarios.values()) == figures["test_frauds"]
    assert scenarios["leaked_credentials"]["auc"] > 0.8

    assert "Warning: labels that name no usable transaction of the data: 1, as 'stray'" in ended.stderr
    assert f"{figures['train_rows']:,} rows of 2018-04-10 to 2018-04-16 train" in ended.stdout
    assert (
        "leaked_credentials" in ended.stdout and f"card precision@100: {figures['cp100']:.3f}" in ended.stdout
    )


def test_days_that_the_data_do_not_hold_are_named(cards: tuple[Path, Path]) -> None:
    data, labels = cards
    ended = run("evaluate", "--data", data, "--labels", labels, "--train-start", "2018-04-20")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        "Error: the data have no usable transactions of the test days 2018-05-04 to 2018-05-10; they hold "
        "2018-04-01 to 2018-04-30" in ended.stderr
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("data", "labels", "complaint"),
    [
        ("a,b\n1,2\n", "TransactionID,is_fraud\nT1,1\n", "column TransactionID: not in the header"),
        (None, "TransactionID,is_fraud\nT1,perhaps\n", "line 2: is_fraud 'perhaps' is neither 0 nor 1"),
        (None, b"TransactionID,is_fraud\nT\xff,1\n", "utf-8"),
    ],
)
def test_bad_files_are_refused_in_words(
    cards: tuple[Path, Path], tmp_path: Path, data: str | None, labels: str | bytes, complaint: str
) -> None:
    files = {"data": cards[0], "labels": tmp_path / "labels.csv"}
    files["labels"].write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    if data is not None:
        files["data"] = tmp_path / "data.csv"
        files["data"].write_text(data, encoding="utf-8")
    ended = run(
        "evaluate", "--data", files["data"], "--labels", files["labels"], "--train-start", "2018-04-10"
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    wrong = files["labels"] if data is None else files["data"]
    assert f"Error: {wrong}, " in ended.stderr and complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_rules_model_and_both_are_compared_on_the_shipped_data() -> None:
    ended = run("compare", "--json", "-")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    verdicts = figures["verdicts"]
    assert list(verdicts) == ["rules", "model", "hybrid"]
    assert verdicts["model"]["flagged_share"] <= figures["budget"] == 0.01
    assert list(figures["frauds"]) == [
        "device_switch", "geo_change", "high_amount", "merchant_risk", "rapid_fire",
    ]  # fmt: skip
    for scenario in figures["frauds"]:
        found = {way: figures_of["recalls"][scenario] for way, figures_of in verdicts.items()}
        assert max(found["rules"], found["model"]) <= found["hybrid"] <= 1
    assert verdicts["hybrid"]["recall"] >= verdicts["rules"]["recall"] > 0
    assert verdicts["hybrid"]["precision"] > 0.5
