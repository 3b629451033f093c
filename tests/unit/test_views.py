"""What the dashboard shows reads right: numbers, states, tables, and figures of hostile names."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from fraudstream.views import overview as views
from fraudstream.views.palette import LIGHT
from fraudstream.views.texts import share, short_money, shown_of

NOON = datetime.fromisoformat("2026-03-01 12:00:00")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "–"),
        (0, 7, "0.0%"),
        (7, 7, "100.0%"),
        (1, 3, "33.3%"),
        (1, 1_000_000, "<0.1%"),
        (999_999, 1_000_000, ">99.9%"),
        (1, 1000, "0.1%"),
    ],
)
def test_share(part, whole, text):
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("2000.5", "2,000.50"),
        ("9999999.99", "9,999,999.99"),
        ("10000000.00", "10.00 million"),
        ("999999999.99", "999.99 million"),
        ("1234567890.12", "1.23 billion"),
        ("999999999999999.99", "999.99 trillion"),
    ],
)
def test_an_amount_is_exact_as_long_as_it_fits_its_box(amount, text):
    assert short_money(Decimal(amount)) == text


def test_kpis_of_no_transactions_divide_by_nothing():
    values = [
        kpi.value for kpi in views.kpis(transactions=0, flagged=0, amount_at_risk=Decimal(0), locations=0)
    ]
    assert values == ["0", "0", "–", "0.00", "0"]


def test_a_shortened_amount_is_explained_exactly():
    shown = views.kpis(transactions=1, flagged=1, amount_at_risk=Decimal("12345678.91"), locations=1)
    at_risk = next(kpi for kpi in shown if kpi.label == "Amount at risk")
    assert at_risk.value == "12.34 million"
    assert "12,345,678.91" in at_risk.explanation


def test_cities_of_the_filter_are_told_from_its_own_words():
    labels = [views.city_label(city) for city in (None, "", "Cairo", "All cities", "(missing)")]
    assert labels == ["All cities", "(missing)", "Cairo", '"All cities"', '"(missing)"']


def test_shown_of():
    assert shown_of(100, 12_345) == "Showing 100 of 12,345"
    assert shown_of(37, 37) == "Showing all 37"


def test_filter_text():
    assert views.filter_text(None, False) == "All transactions"
    assert views.filter_text("", True) == "Flagged transactions only, (missing)"


def test_period_text():
    assert views.period_text(None) == "no transactions yet"
    assert views.period_text((NOON, NOON)) == "from 2026-03-01 12:00\nto 2026-03-01 12:00"


def test_a_component_speaks_in_local_time():
    said = pd.DataFrame(
        [("alerts", "warning", "no sender set", pd.Timestamp("2026-07-01 22:30:00.5"))],
        columns=["component", "state", "message", "updated_at"],
    )
    assert views.component_texts(said, ZoneInfo("Africa/Cairo")) == [
        "alerts: warning\nno sender set\n2026-07-02 01:30"
    ]


def test_tables_say_missing_and_why_in_words():
    transactions = _transactions(
        ("T1", "U1", Decimal("999999999999.99"), None, "NO", None),
        (
            "T2",
            "U1",
            Decimal("2410.00"),
            "Giza",
            "YES",
            '[{"code": "AMOUNT_OVER_2000", "amount": 2410.0, "limit": 2000.0}]',
        ),
    )
    feed = views.feed_table(transactions, LIGHT).data
    assert feed["Location"].tolist() == ["(missing)", "Giza"]
    assert feed["Flagged"].tolist() == ["", "flagged"]
    assert feed["Amount"].map("{:,.2f}".format).tolist() == ["999,999,999,999.99", "2,410.00"]
    assert views.flagged_table(transactions[1:])["Reasons"].tolist() == ["Amount 2,410.00 is over 2,000.00"]


def test_flagged_rows_of_the_feed_stand_out():
    html = views.feed_table(_transactions(("T1", "U", Decimal(1), "Giza", "YES", "[]")), LIGHT).to_html()
    assert "background-color" in html


def test_timeline_height_is_all_and_its_lower_part_the_flagged():
    frame = pd.DataFrame({"start": [pd.Timestamp(NOON)], "transactions": [1200], "flagged": [30]})
    flagged, rest = views.timeline_figure(frame, "hour", LIGHT, fraud_only=False).data
    assert (flagged.name, list(flagged.y)) == ("Flagged", [30])
    assert (rest.name, list(rest.y)) == ("Not flagged", [1170])
    assert rest.customdata[0] == "2026-03-01 12:00<br>1,200 transactions<br>30 flagged (2.5%)"


def test_timeline_of_flagged_only_has_no_other_bars():
    frame = pd.DataFrame({"start": [pd.Timestamp(NOON)], "transactions": [30], "flagged": [30]})
    assert [bars.name for bars in views.timeline_figure(frame, "day", LIGHT, fraud_only=True).data] == [
        "Flagged"
    ]


@pytest.mark.parametrize("figure", [views.most_flagged_figure, views.flagged_share_figure])
def test_equal_date_like_and_hostile_names_are_bars_of_their_own(figure):
    names = ["", "(missing)", "2026-03-01", "12", "<b>x</b>", "a very long name of a merchant"]
    frame = pd.DataFrame({"name": names, "transactions": 10, "flagged": 5})
    drawn = figure(frame, LIGHT)
    assert list(drawn.data[0].y) == [0, 1, 2, 3, 4, 5]
    assert list(drawn.layout.yaxis.ticktext) == [
        "(missing)",
        "(missing)",
        "2026-03-01",
        "12",
        "&lt;b&gt;x&lt;/b&gt;",
        "a very long nam…",
    ]
    assert drawn.data[0].customdata[4] == "&lt;b&gt;x&lt;/b&gt;<br>5 of 10 flagged"
    assert drawn.data[0].customdata[5].startswith("a very long name of a merchant<br>")


def test_bar_texts():
    frame = pd.DataFrame({"name": ["Cairo"], "transactions": [1400], "flagged": [70]})
    assert list(views.most_flagged_figure(frame, LIGHT).data[0].text) == ["70 (5.0%)"]
    assert list(views.flagged_share_figure(frame, LIGHT).data[0].text) == ["5.0% of 1,400"]


def test_figures_of_nothing_can_be_drawn():
    nothing = pd.DataFrame({"start": pd.to_datetime([]), "name": [], "transactions": [], "flagged": []})
    assert len(views.timeline_figure(nothing, "hour", LIGHT, fraud_only=False).data[0].x) == 0
    assert len(views.most_flagged_figure(nothing, LIGHT).data[0].x) == 0
    assert len(views.flagged_share_figure(nothing, LIGHT).data[0].x) == 0


def test_a_cut_ranking_says_so():
    assert views.most_flagged_caption(7, 7, "locations") == "Number and share of flagged transactions"
    assert views.most_flagged_caption(10, 1200, "locations").endswith("the first 10 of 1,200 locations")


def _transactions(*rows: tuple) -> pd.DataFrame:
    names = ["TransactionID", "UserID", "Amount", "Location", "Is_Fraud", "reasons"]
    return pd.DataFrame(rows, columns=names).assign(
        Time=pd.Timestamp(NOON), Device="iOS", Merchant="Noon", score=0.5
    )
