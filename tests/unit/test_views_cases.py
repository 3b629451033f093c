"""Transaction and user as text, tables and figures, down to a user of whom nothing is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from fraudstream.stored import StoredAlert, StoredTransaction
from fraudstream.views import cases
from fraudstream.views.palette import LIGHT

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
COLUMNS = ["TransactionID", "Time", "Amount", "Location", "Device", "Merchant", "Is_Fraud", "score", "state"]
THIS = StoredTransaction(
    "T9", "U1", Decimal("2500.50"), "Giza", NOON, None, "Noon", True, 0.9,
    '[{"code":"AMOUNT_OVER_2000","amount":2500.5,"limit":2000.0}]', None, None, "topic", 3, 17,
    NOON, NOON + timedelta(seconds=2),
)  # fmt: skip


def row(number: int, **other: Any) -> dict[str, Any]:
    usual = {
        "TransactionID": f"T{number}",
        "Time": NOON + timedelta(days=number),
        "Amount": Decimal(100 + number),
        "Location": "Cairo",
        "Device": "iOS",
        "Merchant": None,
        "Is_Fraud": "NO",
        "score": 0.1,
        "state": "new",
    }
    return {**usual, **other}


def history(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS).astype({"Time": "datetime64[us]"})


NOTHING = history()


def names(table: pd.DataFrame, column: str) -> list[str]:
    return table[column].tolist()


def test_habits_are_the_most_frequent_first_and_a_missing_name_is_one_of_them() -> None:
    before = history(
        row(1), row(2), row(3, Location=None), row(4, Location="Aswan"), row(5, Location="Aswan")
    )
    table = cases.habits(before, "Location")
    assert names(table, "Location") == ["Aswan", "Cairo", "(missing)"]
    assert table["Times"].tolist() == [2, 2, 1]
    assert table["Last"].iloc[0] == NOON + timedelta(days=5)


@pytest.mark.parametrize(
    ("this", "first", "here"),
    [("Cairo", "Cairo", "yes"), ("Giza", "Giza", "new"), (None, "(missing)", "new")],
)
def test_this_transactions_own_comes_first_and_says_whether_it_is_new(
    this: str | None, first: str, here: str
) -> None:
    before = history(row(1, Location="Aswan"), row(2, Location="Aswan"), row(3))
    table = cases.habits(before, "Location", this=this, marked=True)
    assert (table["Location"].iloc[0], table["Here"].tolist()) == (first, [here, *[""] * (len(table) - 1)])


def test_a_users_first_transaction_has_new_habits_and_says_that_there_was_nothing() -> None:
    table = cases.habits(NOTHING, "Device", this="iOS", marked=True)
    assert table[["Device", "Here", "Times"]].to_numpy().tolist() == [["iOS", "new", 0]]
    assert cases.habits(NOTHING, "Device").empty
    assert cases.habit_text(NOTHING, 5.0, cut=False) == "No transaction of this user in the 30 days before."
    assert cases.history_text(NOTHING, NOON, cut=False).startswith("0 transactions from 2026-01-30 12:00")


def test_many_names_are_cut_but_never_this_transactions_own() -> None:
    before = history(*(row(n, Merchant=f"M{n:02}") for n in range(40)))
    table = cases.habits(before, "Merchant", this="rare", marked=True)
    assert (len(table), table["Merchant"].iloc[0]) == (cases.HABIT_ROWS, "rare")


def test_a_point_is_its_outcome_where_that_is_known_else_its_verdict() -> None:
    points = history(
        row(1), row(2, Is_Fraud="YES"), row(3, Is_Fraud="YES", state="legitimate"), row(4, state="fraud")
    )
    assert cases.point_kinds(points).tolist() == ["Not flagged", "Flagged", "Legitimate", "Confirmed fraud"]


def test_the_figure_marks_this_transaction_and_escapes_names() -> None:
    figure = cases.history_figure(history(row(1, Device="<b>x</b>"), row(2)), LIGHT, marked="T2")
    assert [trace.name for trace in figure.data] == ["Not flagged", "This transaction"]
    assert "&lt;b&gt;x&lt;/b&gt;" in figure.data[0].customdata[0]
    assert [shape.x0 for shape in figure.layout.shapes] == ["2026-03-03 12:00:00"]
    assert len(cases.history_figure(NOTHING, LIGHT, marked="T2").data) == 0


def test_contributions_are_the_largest_effects_of_either_sign() -> None:
    table = cases.contributions(
        [0.2, 0.0, -0.3, 0.0001], [2500.0, 1.0, 0.5, 7.0], ["Amount", "night", "x", "y"]
    )
    assert names(table, "Feature") == ["x", "the amount"]
    assert names(table, "Value") == ["0.5", "2,500"]
    figure = cases.contributions_figure(table, LIGHT)
    assert figure.data[0].text == ("-0.300", "+0.200")
    low, high = figure.layout.xaxis.range
    assert (low < -0.3, high > 0.2) == (True, True)


def test_a_score_that_no_feature_moves_is_said_to_be_so() -> None:
    table = cases.contributions([0.0], [1.0], ["Amount"])
    assert table.empty
    assert cases.contributions_text(0.01, len(table)) == "No feature alone moves the score of 0.0100."
    cases.contributions_figure(table, LIGHT)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (0.12345678, "0.1235"), (123456.789, "123,456.79"), (-1.5, "-1.5")]
)
def test_features_read_as_numbers_of_their_size(value: float, text: str) -> None:
    assert cases.feature_text(value) == text


def test_facts_verdict_and_origin_name_what_is_stored_with_the_time_zone() -> None:
    assert cases.facts_text(THIS, "Africa/Cairo").splitlines()[1:4] == [
        "2026-03-01 12:00:00 (Africa/Cairo)",
        "User U1",
        "Location Giza",
    ]
    assert "Device (missing)" in cases.facts_text(THIS, "UTC")
    assert cases.verdict_text(THIS) == (
        "• Amount 2,500.50 is over 2,000.00\n\nScore 0.9000, judged by the rules alone, without a model"
    )
    origin = cases.origin_text(THIS, StoredAlert(NOON, "sent", NOON), ZoneInfo("Africa/Cairo"))
    local = (
        f"{NOON.replace(tzinfo=UTC).astimezone(ZoneInfo('Africa/Cairo')):%Y-%m-%d %H:%M:%S} (Africa/Cairo)"
    )
    assert f"Produced {local}" in origin
    assert f"Mailed {local}" in origin


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (None, "No alert"),
        (StoredAlert(NOON), "waits to be mailed"),
        (StoredAlert(NOON, "sending"), "is being sent"),
        (StoredAlert(NOON, "failed"), "was refused"),
    ],
)
def test_what_became_of_the_alert_is_said(alert: StoredAlert | None, words: str) -> None:
    assert words in cases.origin_text(THIS, alert, ZoneInfo("UTC"))


def test_a_cut_history_says_from_when_on_it_is() -> None:
    shown = history(row(-2), row(-1))
    assert cases.history_text(shown, NOON, cut=True) == (
        "The last 2 transactions from 2026-02-27 12:00 to 2026-03-01 12:00"
    )
    assert cases.history_text(shown, NOON, cut=False).startswith("2 transactions from 2026-01-30 12:00")


def test_a_history_that_is_cut_after_the_transaction_ends_with_what_is_shown() -> None:
    shown = history(row(-1), row(0), row(1))
    assert cases.history_text(shown, NOON, cut=False, cut_after=True) == (
        "The first 3 transactions from 2026-01-30 12:00 to 2026-03-02 12:00"
    )
    assert cases.history_text(shown, NOON, cut=True, cut_after=True) == (
        "The nearest 3 transactions from 2026-02-28 12:00 to 2026-03-02 12:00"
    )


def test_what_is_said_of_a_cut_history_is_said_of_its_last_transactions() -> None:
    before = history(row(-2), row(-1))
    compared = "2 transactions in the 30 days before, median amount 98.50, highest 99.00; this one 5.00"
    assert cases.habit_text(before, 5.0, cut=False) == compared
    assert cases.habit_text(before, 5.0, cut=True) == f"The last {compared}. Earlier ones do not count here."
    assert cases.habits_text(before, cut=True).startswith("Of the last 2 transactions in the 30 days")
    assert cases.habits_text(before, cut=False).startswith("Of all 2 transactions in the 30 days")


@pytest.mark.parametrize(
    ("cut", "recent", "confirmed", "among"),
    [
        (False, "2", "Confirmed, 30 days", "in these days"),
        (True, "2 and more", "Confirmed, last 2", "among the last 2 transactions"),
    ],
)
def test_a_users_numbers_say_what_they_cover(cut: bool, recent: str, confirmed: str, among: str) -> None:
    shown = history(row(-2, state="fraud"), row(-1))
    kpis = cases.user_kpis(transactions=9, flagged=1, history=shown, cut=cut)
    assert [(kpi.label, kpi.value) for kpi in kpis[2:]] == [("Last 30 days", recent), (confirmed, "1")]
    assert kpis[3].explanation == (f"Confirmed frauds {among}; the median amount of all of these is 98.50")
