"""The simulated transactions are what the documentation says, and the committed files are their output."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudstream.__main__ import app
from fraudstream.config import LABELS_CSV, TRANSACTIONS_CSV
from fraudstream.schema import CITIES, DEVICES, FIELD_NAMES, MERCHANTS, TIME_FORMAT
from fraudstream.simulator import LABEL_NAMES, Scenario, Simulation, simulate


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate()


@pytest.fixture(scope="module")
def judged(simulation: Simulation) -> pd.DataFrame:
    """The distinct transactions that have an amount and a time, with their labels, in order of time."""
    distinct = simulation.transactions.drop_duplicates().merge(simulation.labels, on="TransactionID")
    usable = distinct[(distinct["Amount"] != "") & (distinct["Time"] != "")].copy()
    usable["Amount"] = usable["Amount"].astype(float)
    usable["Time"] = pd.to_datetime(usable["Time"], format=TIME_FORMAT)
    return usable.sort_values(["Time", "TransactionID"], ignore_index=True)


def test_generate_reproduces_the_committed_files_byte_for_byte(tmp_path):
    out, labels = tmp_path / "new" / "transactions.csv", tmp_path / "labels.csv"
    result = CliRunner().invoke(app, ["generate", "--out", str(out), "--labels", str(labels)])
    assert result.exit_code == 0, result.output
    assert "10,050 rows" in result.output
    assert out.read_bytes() == TRANSACTIONS_CSV.read_bytes()
    assert labels.read_bytes() == LABELS_CSV.read_bytes()


def test_committed_transactions_have_the_promised_rows_columns_and_names():
    transactions = pd.read_csv(TRANSACTIONS_CSV, dtype=str)
    assert tuple(transactions.columns) == FIELD_NAMES
    assert len(transactions) == 10_050
    assert transactions["UserID"].nunique() == 100
    assert set(transactions["Location"].dropna()) == set(CITIES)
    assert set(transactions["Device"].dropna()) == set(DEVICES)
    assert set(transactions["Merchant"].dropna()) == set(MERCHANTS)


def test_committed_labels_name_each_transaction_once():
    labels = pd.read_csv(LABELS_CSV, dtype=str)
    transactions = pd.read_csv(TRANSACTIONS_CSV, dtype=str)
    assert tuple(labels.columns) == LABEL_NAMES
    assert labels["TransactionID"].is_unique
    assert set(labels["TransactionID"]) == set(transactions["TransactionID"])


def test_one_in_twenty_is_fraud_in_five_equal_scenarios(simulation):
    counts = simulation.labels["scenario"].value_counts().to_dict()
    assert counts == {scenario.value: 100 for scenario in Scenario} | {"normal": 9_500}
    fraud = simulation.labels["is_fraud"] == "1"
    assert (fraud == (simulation.labels["scenario"] != "normal")).all()


def test_half_a_percent_arrives_again_unchanged_and_later(simulation):
    transactions = simulation.transactions
    again = transactions["TransactionID"].duplicated()
    assert again.sum() == 50
    assert (again == transactions.duplicated()).all()


def test_one_percent_lacks_a_cell_and_few_lack_a_required_one(simulation):
    missing = (simulation.transactions.drop_duplicates() == "").sum()
    assert missing.sum() == 100
    assert missing[["Amount", "Time"]].to_dict() == {"Amount": 3, "Time": 3}
    assert missing[["TransactionID", "UserID"]].sum() == 0
    assert (missing[["Location", "Device", "Merchant"]] > 10).all()


def test_some_rows_arrive_late_by_minutes_to_hours(simulation):
    times = pd.to_datetime(simulation.transactions.drop_duplicates()["Time"], format=TIME_FORMAT).dropna()
    behind = times.cummax() - times
    late = behind[behind > pd.Timedelta(0)]
    assert 100 < len(late) < 300
    assert late.min() < pd.Timedelta(minutes=15)
    assert pd.Timedelta(hours=3) < late.max() < pd.Timedelta(hours=6)


def test_ordinary_amounts_stay_below_the_threshold_and_high_ones_mostly_exceed_it(judged):
    over = (judged["Amount"] > 2_000).groupby(judged["scenario"]).mean()
    assert over["normal"] < 0.005
    assert 0.6 < over["high_amount"] < 0.95


def test_each_scenario_departs_from_the_habit_that_it_names(judged):
    normal = judged[judged["scenario"] == "normal"]
    usual = normal.groupby("UserID").agg(
        Device=("Device", lambda names: names[names != ""].mode()[0]), Amount=("Amount", "median")
    )
    merged = judged.join(usual, on="UserID", rsuffix="_usual")
    by_scenario = dict(list(merged.groupby("scenario")))

    high = by_scenario["high_amount"]
    assert (high["Amount"] > 5 * high["Amount_usual"]).mean() > 0.95

    device_switch = by_scenario["device_switch"]
    assert ((device_switch["Device"] == device_switch["Device_usual"]).sum()) <= 2

    previous_city = judged.groupby("UserID")["Location"].shift()
    gap = judged.groupby("UserID")["Time"].diff()
    jumped = (judged["Location"] != previous_city) & (gap <= pd.Timedelta(minutes=40))
    assert jumped[judged["scenario"] == "geo_change"].mean() > 0.9
    assert jumped[judged["scenario"] == "normal"].mean() < 0.1

    rapid = judged["scenario"] == "rapid_fire"
    assert (gap[rapid] < pd.Timedelta(seconds=45)).mean() > 0.75

    shares = normal.groupby(["UserID", "Merchant"]).size() / normal.groupby("UserID").size()
    risky = by_scenario["merchant_risk"]
    share = [shares.get((user, merchant), 0.0) for user, merchant in risky[["UserID", "Merchant"]].to_numpy()]
    assert sorted(share)[95] < 0.05


def test_the_seed_decides_everything():
    def csv(seed: int) -> str:
        buffer = io.StringIO()
        simulate(rows=300, users=5, seed=seed).transactions.to_csv(buffer, index=False)
        return buffer.getvalue()

    assert csv(1) == csv(1)
    assert csv(1) != csv(2)


@pytest.mark.parametrize(("rows", "users", "days"), [(1, 1, 1), (10, 1, 3), (25, 40, 1)])
def test_small_simulations_have_their_rows(rows, users, days):
    simulation = simulate(rows=rows, users=users, days=days)
    assert simulation.transactions["TransactionID"].nunique() == rows
    assert len(simulation.labels) == rows


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        simulate(rows=0)
