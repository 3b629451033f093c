"""Customers and terminals on a plane behave as the published description has them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudstream.__main__ import app
from fraudstream.schema import FIELD_NAMES, TIME_FORMAT
from fraudstream.simulator import LABEL_NAMES, CardScenario, Simulation, simulate_cards

CUSTOMERS, TERMINALS, DAYS = 2_000, 4_000, 60


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate_cards(customers=CUSTOMERS, terminals=TERMINALS, days=DAYS, seed=1)


@pytest.fixture(scope="module")
def rows(simulation: Simulation) -> pd.DataFrame:
    joined = simulation.transactions.merge(simulation.labels, on="TransactionID", validate="1:1")
    joined["Amount"] = joined["Amount"].astype(float)
    joined["Time"] = pd.to_datetime(joined["Time"], format=TIME_FORMAT)
    joined["day"] = (joined["Time"] - pd.Timestamp("2018-04-01")).dt.days
    return joined


def of(rows: pd.DataFrame, scenario: CardScenario) -> pd.DataFrame:
    return rows[rows["scenario"] == scenario.value]


def test_the_same_arguments_give_the_same_frames(simulation: Simulation) -> None:
    again = simulate_cards(customers=CUSTOMERS, terminals=TERMINALS, days=DAYS, seed=1)
    pd.testing.assert_frame_equal(again.transactions, simulation.transactions)
    pd.testing.assert_frame_equal(again.labels, simulation.labels)
    other = simulate_cards(customers=CUSTOMERS, terminals=TERMINALS, days=DAYS, seed=2)
    assert not other.transactions.equals(simulation.transactions)


def test_the_frames_have_the_columns_of_a_csv(simulation: Simulation) -> None:
    assert tuple(simulation.transactions.columns) == FIELD_NAMES
    assert tuple(simulation.labels.columns) == LABEL_NAMES
    assert simulation.transactions["TransactionID"].is_unique
    assert set(simulation.transactions["Location"]) == set(simulation.transactions["Device"]) == {""}


def test_customers_pay_about_twice_a_day_around_noon(rows: pd.DataFrame) -> None:
    assert len(rows) / CUSTOMERS / DAYS == pytest.approx(2 * 0.969, rel=0.05)
    assert rows["Time"].is_monotonic_increasing
    assert rows["day"].between(0, DAYS - 1).all() and rows["day"].nunique() == DAYS
    hours = rows["Time"].dt.hour + rows["Time"].dt.minute / 60
    assert hours.mean() == pytest.approx(12, abs=0.2)


def test_each_customer_has_his_own_mean_amount(rows: pd.DataFrame) -> None:
    normal = of(rows, CardScenario.NORMAL)
    means = normal.groupby("UserID")["Amount"].mean()[normal.groupby("UserID").size() > 100]
    assert means.min() < 15 and means.max() > 90
    assert means.mean() == pytest.approx(54, abs=4)  # a little over 52.5: negative amounts are drawn again
    assert (normal["Amount"] >= 0).all()


def test_a_customer_keeps_to_terminals_within_reach(rows: pd.DataFrame) -> None:
    """A circle of radius 5 on a plane of 100 x 100 holds at most about 0.8 % of the terminals."""
    terminals = rows.groupby("UserID")["Merchant"].nunique()
    assert terminals.max() < 2 * TERMINALS * np.pi * 5**2 / 100**2
    assert rows["Merchant"].nunique() > 0.9 * TERMINALS


def test_an_amount_over_220_is_fraud_and_no_other_of_its_scenario(rows: pd.DataFrame) -> None:
    assert (rows.loc[rows["Amount"] > 220, "is_fraud"] == "1").all()
    assert (of(rows, CardScenario.HIGH_AMOUNT)["Amount"] > 220).all()


def test_a_compromised_terminal_stays_so_for_28_days(rows: pd.DataFrame) -> None:
    fraud = of(rows, CardScenario.COMPROMISED_TERMINAL)
    spans = fraud.groupby("Merchant")["day"].agg(["min", "max"])
    once = spans[spans["max"] - spans["min"] < 28]
    assert len(once) > 0.95 * len(spans)  # the others were drawn twice
    assert (once["max"] - once["min"]).max() == 27
    at_those = rows.merge(once, left_on="Merchant", right_index=True)
    between = at_those[at_those["day"].between(at_those["min"], at_those["max"])]
    assert (between["is_fraud"] == "1").mean() > 0.99
    assert len(spans) == pytest.approx(2 * DAYS, rel=0.1)


def test_a_third_of_what_is_paid_with_leaked_credentials_is_five_times_as_high(rows: pd.DataFrame) -> None:
    fraud = of(rows, CardScenario.LEAKED_CREDENTIALS)
    assert fraud.groupby("UserID")["day"].agg(lambda days: days.max() - days.min()).median() < 14
    usual = of(rows, CardScenario.NORMAL).groupby("UserID")["Amount"].mean()
    assert (fraud["Amount"] / fraud["UserID"].map(usual)).median() == pytest.approx(5, rel=0.1)
    expected = 3 * DAYS * 14 * 2 * 0.969 / 3  # leaks, days each, payments a day, a third of them
    assert len(fraud) == pytest.approx(expected, rel=0.25)


def test_so_few_that_nothing_is_paid_are_refused() -> None:
    with pytest.raises(ValueError, match="take more"):
        simulate_cards(customers=1, terminals=1, days=1)


@pytest.mark.parametrize("wrong", [{"customers": 0}, {"terminals": 0}, {"days": 0}])
def test_numbers_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        simulate_cards(**wrong)


def test_the_command_writes_them_and_takes_no_number_of_rows(tmp_path) -> None:
    files = ["--out", str(tmp_path / "t.csv"), "--labels", str(tmp_path / "l.csv")]
    chosen = ["generate", "--population", "cards", "--users", "50", "--days", "3", *files]
    done = CliRunner().invoke(app, chosen)
    assert done.exit_code == 0, done.output
    expected = simulate_cards(customers=50, days=3)
    assert (
        len(pd.read_csv(tmp_path / "t.csv")) == len(pd.read_csv(tmp_path / "l.csv")) == len(expected.labels)
    )
    assert CliRunner().invoke(app, [*chosen, "--rows", "10"]).exit_code == 2
    nobody_pays = [*chosen[:3], "--users", "1", "--days", "1", "--seed", "2", *files]
    too_few = CliRunner().invoke(app, nobody_pays)
    assert (too_few.exit_code, "take more" in too_few.output) == (2, True)
