"""What the dashboard shows reads right: numbers, states, tables, and figures of hostile names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go
import pytest

from fraudstream.geography import COORDINATES
from fraudstream.periods import Period
from fraudstream.views import overview as views
from fraudstream.views.map import fraud_map
from fraudstream.views.palette import LIGHT
from fraudstream.views.texts import filter_label, share, short_money, shown_of

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


@dataclass(frozen=True)
class Counts:
    transactions: int = 0
    flagged: int = 0
    amount_at_risk: Decimal = Decimal(0)
    locations: int = 0

    @property
    def judged(self) -> int:
        return self.transactions


def test_kpis_of_no_transactions_divide_by_nothing():
    assert [kpi.value for kpi in views.kpis(Counts(), None)] == ["0", "0", "–", "0.00", "0"]


def test_a_shortened_amount_is_explained_exactly():
    shown = views.kpis(Counts(1, 1, Decimal("12345678.91"), 1), None)
    at_risk = next(kpi for kpi in shown if kpi.label == "Amount at risk")
    assert at_risk.value == "12.34 million"
    assert "12,345,678.91" in at_risk.explanation


def test_more_frauds_than_before_are_worse_and_fewer_are_better():
    more, fewer = Counts(200, 30, Decimal(600), 7), Counts(100, 10, Decimal(500), 8)
    up, down = views.kpis(more, fewer), views.kpis(fewer, more)
    assert [kpi.change for kpi in up] == ["+100.0%", "+200.0%", "+5.00 pp", "+20.0%", "-1"]
    assert [kpi.mood for kpi in up] == ["neutral", "worse", "worse", "worse", "neutral"]
    assert [kpi.change for kpi in down] == ["-50.0%", "-66.7%", "-5.00 pp", "-16.7%", "+1"]
    assert [kpi.mood for kpi in down] == ["neutral", "better", "better", "better", "neutral"]


def test_a_change_from_nothing_has_no_percentage():
    changes = [kpi.change for kpi in views.kpis(Counts(5, 1, Decimal("2500"), 1), Counts())]
    assert changes == ["+5", "+1", None, "+2,500.00", "+1"]


def test_no_change_says_so_and_without_a_period_before_nothing_is_said():
    assert {kpi.change for kpi in views.kpis(Counts(5, 1), Counts(5, 1))} == {views.UNCHANGED}
    assert {kpi.change for kpi in views.kpis(Counts(5, 1), None)} == {None}


@pytest.mark.parametrize(
    ("hours", "text"), [(1, "the hour before"), (24, "the 24 hours before"), (168, "the 7 days before")]
)
def test_a_change_says_against_what(hours, text):
    period = Period(NOON, NOON + timedelta(hours=hours))
    assert views.compared_with(period) == f"against {text}"


def test_names_of_a_filter_are_told_from_its_own_words():
    labels = [filter_label(name, "All cities") for name in (None, "", "Cairo", "All cities", "(missing)")]
    assert labels == ["All cities", "(missing)", "Cairo", '"All cities"', '"(missing)"']


def test_shown_of():
    assert shown_of(100, 12_345) == "Showing 100 of 12,345"
    assert shown_of(37, 37) == "Showing all 37"


def test_filter_text():
    assert views.filter_text({}, False) == "All transactions"
    only = views.filter_text({"Location": "", "Device": "iOS"}, True)
    assert only == "Flagged transactions only, Location (missing), Device iOS"


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
    assert feed["Why"].tolist() == ["", "Amount 2,410.00 is over 2,000.00"]


def test_flagged_rows_of_the_feed_stand_out():
    html = views.feed_table(_transactions(("T1", "U", Decimal(1), "Giza", "YES", "[]")), LIGHT).to_html()
    assert "background-color" in html


HOUR = Period(NOON, NOON + timedelta(hours=1))


def _timeline(frame: pd.DataFrame, *, fraud_only: bool = False, shown: Period = HOUR) -> go.Figure:
    return views.timeline_figure(frame, "hour", shown, HOUR, LIGHT, fraud_only=fraud_only)


def test_timeline_height_is_all_its_lower_part_the_flagged_and_below_is_their_share():
    frame = pd.DataFrame({"start": [pd.Timestamp(NOON)], "transactions": [1200], "flagged": [30]})
    flagged, rest, share_of_them = _timeline(frame).data
    assert (flagged.name, list(flagged.y)) == ("Flagged", [30])
    assert (rest.name, list(rest.y)) == ("Not flagged", [1170])
    assert rest.customdata[0] == "2026-03-01 12:00<br>1,200 transactions<br>30 flagged (2.5%)"
    assert (share_of_them.name, list(share_of_them.y)) == ("Flagged share", [2.5])


def test_timeline_of_flagged_only_has_no_other_bars_and_the_share_of_all():
    frame = pd.DataFrame({"start": [pd.Timestamp(NOON)], "transactions": [40], "flagged": [10]})
    bars, share_of_all = _timeline(frame, fraud_only=True).data
    assert (bars.name, list(bars.y)) == ("Flagged", [10])
    assert list(share_of_all.y) == [25.0]


def test_what_is_shown_before_a_short_period_is_shaded():
    frame = pd.DataFrame({"start": [pd.Timestamp(NOON)], "transactions": [30], "flagged": [3]})
    assert not _timeline(frame).layout.shapes
    shaded = _timeline(frame, shown=HOUR.at_least(timedelta(days=1))).layout.shapes
    assert {(shape.x0, shape.x1) for shape in shaded} == {(HOUR.end - timedelta(days=1), NOON)}


FIGURES = [views.most_flagged_figure, views.flagged_share_figure, views.flagged_amount_figure]


@pytest.mark.parametrize("figure", FIGURES)
def test_equal_date_like_and_hostile_names_are_bars_of_their_own(figure):
    names = ["", "(missing)", "2026-03-01", "12", "<b>x</b>", "a very long name of a merchant"]
    frame = pd.DataFrame(
        {"name": names, "transactions": 10, "flagged": 5, "amount_at_risk": Decimal("2500.00")}
    )
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
    nothing = pd.DataFrame(
        {"start": pd.to_datetime([]), "weekday": [], "hour": [], "transactions": [], "flagged": []}
    ).assign(name=[], amount_at_risk=[])
    assert len(_timeline(nothing).data[0].x) == 0
    for figure in FIGURES:
        assert len(figure(nothing, LIGHT).data[0].x) == 0
    assert fraud_map(nothing, LIGHT).data
    assert views.weekday_hour_figure(nothing, LIGHT).data[0].zmax == 1


COUNTED = pd.DataFrame(
    [
        ("few but all", 3, 3, Decimal("9000.00")),
        ("many", 1000, 30, Decimal("70000.00")),
        ("risky", 20, 10, Decimal("100.00")),
        ("clean", 500, 0, Decimal("0.00")),
        ("", 100, 90, Decimal("999999.00")),
    ],
    columns=["name", "transactions", "flagged", "amount_at_risk"],
)


def test_rankings_leave_out_who_has_nothing_flagged_too_few_or_no_name():
    assert views.most_flagged(COUNTED, 2)["name"].tolist() == ["", "many"]
    assert views.riskiest(COUNTED, 5, 20)["name"].tolist() == ["risky", "many"]
    assert views.costliest(COUNTED, 5)["name"].tolist() == ["many", "few but all", "risky"]


def test_the_numbers_of_a_ranking_can_be_read_as_text():
    table = views.names_table(views.riskiest(COUNTED, 1, 20), "Merchant")
    assert table.to_dict("records") == [
        {"Merchant": "risky", "Transactions": 20, "Flagged": 10, "Share": "50.0%", "Amount at risk": "100.00"}
    ]


def test_heat_map_and_its_table_have_each_hour_of_the_week():
    frame = pd.DataFrame(
        [(0, 23, 10, 4), (6, 0, 7, 0)], columns=["weekday", "hour", "transactions", "flagged"]
    )
    (heat,) = views.weekday_hour_figure(frame, LIGHT).data
    assert (heat.z[0][23], heat.z[6][0], heat.z[3][12]) == (4, 0, None)  # nothing was there, not "no fraud"
    assert heat.customdata[0][23] == "Monday 23:00 to 24:00<br>4 of 10 flagged (40.0%)"
    table = views.weekday_hour_table(frame)
    assert table.shape == (24, 8)
    assert table.set_index("Hour").loc["23:00", "Monday"] == 4


def test_the_map_has_the_known_cities_their_counts_and_outlines_around_them():
    names = [*COORDINATES, "Atlantis", "<b>x</b>", ""]
    counted = pd.DataFrame({"name": names, "transactions": 50, "flagged": range(len(names))})
    outlines, cities = fraud_map(counted, LIGHT).data
    assert list(cities.text) == list(COORDINATES)
    assert list(cities.lat) == [north for north, _ in COORDINATES.values()]
    assert cities.customdata[1] == "Giza<br>1 of 50 flagged (2.0%)"
    assert list(cities.marker.size) == sorted(cities.marker.size)
    assert (outlines.hoverinfo, outlines.fill) == ("skip", "toself")
    rings = _rings(outlines.lon, outlines.lat)
    assert 3 < len(rings) < 60
    assert all(ring[0] == ring[-1] for ring in rings)


def _rings(longitudes: Sequence[float | None], latitudes: Sequence[float | None]) -> list[list[tuple]]:
    """What lies between the gaps of a trace."""
    rings: list[list[tuple]] = [[]]
    for place in zip(longitudes, latitudes, strict=True):
        if place == (None, None):
            rings.append([])
        else:
            rings[-1].append(place)
    return [ring for ring in rings if ring]


def test_neighbours_on_the_map_have_their_names_on_different_sides():
    _, cities = fraud_map(
        pd.DataFrame({"name": ["Cairo", "Giza"], "transactions": 1, "flagged": 1}), LIGHT
    ).data
    assert list(cities.textposition) == ["middle right", "middle left"]


def test_nothing_of_the_map_is_fetched():
    """Plotly loads its base map as soon as one of these is shown, or a place is given by its name."""
    figure = fraud_map(COUNTED, LIGHT)
    geo = figure.layout.geo
    layers = ("coastlines", "countries", "frame", "lakes", "land", "ocean", "rivers", "subunits")
    assert [geo[f"show{layer}"] for layer in layers] == [False] * len(layers)
    assert all(trace.locationmode is None and trace.locations is None for trace in figure.data)


def _transactions(*rows: tuple) -> pd.DataFrame:
    names = ["TransactionID", "UserID", "Amount", "Location", "Is_Fraud", "reasons"]
    return pd.DataFrame(rows, columns=names).assign(
        Time=pd.Timestamp(NOON), Device="iOS", Merchant="Noon", score=0.5
    )
