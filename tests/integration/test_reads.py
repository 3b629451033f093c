"""The dashboard's reads equal plain SQL and pandas over `clean_data`, whatever the filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.store.migrate import migrate
from fraudstream.store.reads import overview as reads
from fraudstream.store.reads.overview import Filter, Overview, read_overview
from fraudstream.store.reads.snapshot import AccessRefused, DatabaseAway, TablesMissing, open_engine
from tests.support.ports import free_port
from tests.support.transactions import Judged, random_transactions, store

START = datetime.fromisoformat("2026-03-01")
LATE = datetime.fromisoformat("2025-12-31 23:59:59")
FILTERS = [
    Filter(city, fraud_only) for city in (None, "Cairo", "", "nowhere") for fraud_only in (False, True)
]


@dataclass(frozen=True)
class Filled:
    """A filled database: its engine, all its rows as the tests' own SQL sees them."""

    engine: Engine
    rows: pd.DataFrame

    def chosen(self, chosen: Filter) -> pd.DataFrame:
        rows = self.of_city(chosen.city)
        return rows[rows["Is_Fraud"] == "YES"] if chosen.fraud_only else rows

    def of_city(self, city: str | None) -> pd.DataFrame:
        return self.rows if city is None else self.rows[self.rows["Location"].fillna("") == city]


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], str]) -> Iterator[Filled]:
    engine = open_engine(make_url(new_database()))
    migrate(engine)
    store(engine, random_transactions(1500, seed=1, start=START), duplicates=7, rejected=5)
    late = random_transactions(200, seed=2, start=LATE, days=0.5, prefix="late")
    store(engine, [*late, Judged("no-names", "U1", Decimal("2500.00"), LATE, None, None, None)], duplicates=1)
    with engine.connect() as connection:
        rows = pd.read_sql(text("SELECT * FROM clean_data"), connection, coerce_float=False)
    yield Filled(engine, rows)
    engine.dispose()


@pytest.mark.parametrize("chosen", FILTERS, ids=str)
def test_totals(filled, chosen):
    rows = filled.chosen(chosen)
    flagged = rows[rows["Is_Fraud"] == "YES"]
    totals = read_overview(filled.engine, chosen).totals
    assert totals.transactions == len(rows)
    assert totals.flagged == len(flagged)
    assert totals.amount_at_risk == sum(flagged["Amount"], Decimal(0))
    assert totals.locations == rows["Location"].nunique()


@pytest.mark.parametrize("chosen", FILTERS, ids=str)
def test_feed_is_the_newest_rows_by_time(filled, chosen):
    expected = _newest(filled.chosen(chosen), reads.FEED_ROWS)
    feed = read_overview(filled.engine, chosen).feed
    assert feed["TransactionID"].tolist() == expected["TransactionID"].tolist()
    assert feed["Amount"].tolist() == expected["Amount"].tolist()
    assert feed["Location"].isna().tolist() == expected["Location"].isna().tolist()


@pytest.mark.parametrize("chosen", FILTERS, ids=str)
def test_last_flagged_are_the_newest_flagged_rows_of_the_city(filled, chosen):
    expected = _newest(filled.chosen(Filter(chosen.city, fraud_only=True)), reads.LAST_FLAGGED_ROWS)
    shown = read_overview(filled.engine, chosen).last_flagged
    assert shown["TransactionID"].tolist() == expected["TransactionID"].tolist()
    assert shown["reasons"].tolist() == expected["reasons"].tolist()


@pytest.mark.parametrize("chosen", FILTERS, ids=str)
def test_timeline_counts_each_chosen_row_once(filled, chosen):
    timeline = read_overview(filled.engine, chosen).timeline
    rows = filled.chosen(chosen)
    expected = rows.groupby(rows["Time"].dt.floor(timeline.step[0]))["Is_Fraud"].agg(
        transactions="size", flagged=lambda flags: (flags == "YES").sum()
    )
    assert timeline.frame["start"].tolist() == expected.index.tolist()
    assert timeline.frame["transactions"].tolist() == expected["transactions"].tolist()
    assert timeline.frame["flagged"].tolist() == expected["flagged"].tolist()


@pytest.mark.parametrize("city", [None, "Cairo", "", "nowhere"])
@pytest.mark.parametrize(("ranking", "column"), [("by_location", "Location"), ("by_device", "Device")])
def test_most_flagged(filled, city, ranking, column):
    expected = _groups(filled.of_city(city), column).sort_values(
        ["flagged", "transactions", "name"], ascending=[False, False, True]
    )
    shown = getattr(read_overview(filled.engine, Filter(city)), ranking)
    assert shown.frame.to_dict("records") == expected.to_dict("records")
    assert shown.groups == len(expected)


@pytest.mark.parametrize("city", [None, "Cairo", "nowhere"])
def test_risky_merchants_have_enough_transactions_and_are_in_order_of_their_share(filled, city):
    groups = _groups(filled.of_city(city), "Merchant")
    groups = groups[
        (groups["name"] != "")
        & (groups["transactions"] >= reads.MERCHANT_MIN_TRANSACTIONS)
        & (groups["flagged"] > 0)
    ]
    expected = groups.assign(share=groups["flagged"] / groups["transactions"]).sort_values(
        ["share", "flagged", "name"], ascending=[False, False, True]
    )
    shown = read_overview(filled.engine, Filter(city)).by_merchant
    assert shown.frame["name"].tolist() == expected["name"].tolist()[: reads.MERCHANT_ROWS]
    assert shown.groups == len(expected)


def test_a_merchant_with_few_transactions_is_not_ranked(engine):
    def at(merchant: str, count: int) -> list[Judged]:
        return [Judged(f"{merchant}{n}", "U", Decimal(3000), START, merchant=merchant) for n in range(count)]

    enough = reads.MERCHANT_MIN_TRANSACTIONS
    store(engine, [*at("few", enough - 1), *at("many", enough)])
    assert read_overview(engine, Filter()).by_merchant.frame["name"].tolist() == ["many"]


def test_a_share_counts_all_transactions_even_when_only_frauds_are_chosen(filled):
    everything = read_overview(filled.engine, Filter("Cairo"))
    frauds = read_overview(filled.engine, Filter("Cairo", fraud_only=True))
    for ranking in ("by_location", "by_device", "by_merchant"):
        pd.testing.assert_frame_equal(getattr(everything, ranking).frame, getattr(frauds, ranking).frame)


def test_cities_and_period_do_not_depend_on_the_filter(filled):
    for chosen in FILTERS:
        overview = read_overview(filled.engine, chosen)
        assert overview.cities == tuple(sorted(filled.rows["Location"].fillna("").unique()))
        assert overview.period == (filled.rows["Time"].min(), filled.rows["Time"].max())


def test_pipeline_counts_add_up_over_topics_and_the_outbox_is_counted(engine):
    rows = [random_transactions(30, seed=3), random_transactions(20, seed=4, prefix="S")]
    flagged = sum(row.is_fraud == "YES" for row in [*rows[0], *rows[1]])
    store(engine, rows[0], topic="one", duplicates=2, rejected=3)
    store(engine, rows[1], topic="two", duplicates=10, rejected=20)
    _execute(
        engine,
        "INSERT INTO alerts (TransactionID, UserID, Time, state, mail_id, created_at) VALUES "
        "('a', 'U', NOW(), 'waiting', NULL, NOW()), ('b', 'U', NOW(), 'waiting', NULL, NOW()), "
        "('c', 'U', NOW(), 'mailed', 1, NOW())",
        "INSERT INTO mails (message_id, state, recipients, remaining, attempts, created_at, "
        "next_attempt_at) VALUES "
        "('<1@example.com>', 'failed', '[]', '[]', 9, NOW(), NOW())",
        "INSERT INTO component_status VALUES ('alerts', 'warning', 'no sender set', NOW())",
    )
    pipeline = read_overview(engine, Filter()).pipeline
    assert (pipeline.stored, pipeline.duplicates, pipeline.rejected) == (50, 12, 23)
    assert (pipeline.alerts_waiting, pipeline.mails_failed) == (flagged + 2, 1)
    assert pipeline.components[["component", "state", "message"]].to_numpy().tolist() == [
        ["alerts", "warning", "no sender set"]
    ]


@pytest.mark.parametrize(
    ("days", "step", "starts"),
    [
        (14, "hour", [START, START + timedelta(days=14)]),
        (15, "day", [START, START + timedelta(days=15)]),
        (1096, "month", [START, datetime.fromisoformat("2029-03-01")]),
    ],
)
def test_the_longer_the_period_the_longer_the_steps(engine, days, step, starts):
    first = Judged("first", "U", Decimal(1), START + timedelta(minutes=59))
    store(engine, [first, replace(first, transaction_id="last", time=first.time + timedelta(days=days))])
    timeline = read_overview(engine, Filter()).timeline
    assert timeline.step == step
    assert timeline.frame["start"].tolist() == starts


def test_an_empty_database_is_an_empty_overview(engine):
    overview = read_overview(engine, Filter())
    assert overview.period is None
    assert overview.cities == ()
    assert overview.totals == reads.Totals(0, 0, Decimal(0), 0)
    assert overview.feed.empty and overview.last_flagged.empty and overview.timeline.frame.empty


def test_names_that_differ_in_case_or_accent_are_two(engine):
    base = Judged("T1", "U1", Decimal(10), START, location="Cairo")
    store(engine, [base, replace(base, transaction_id="T2", location="cairo")])
    store(engine, [replace(base, transaction_id="t1", location="Caïro")])
    assert read_overview(engine, Filter()).totals.locations == 3
    assert read_overview(engine, Filter("cairo")).feed["TransactionID"].tolist() == ["T2"]


def test_one_overview_is_of_one_moment(engine, monkeypatch):
    """A batch that commits while the page is read is in all of its numbers or in none."""
    store(engine, random_transactions(50, seed=5))
    real_totals = reads.totals

    def totals_then_a_batch(connection, chosen):
        totals = real_totals(connection, chosen)
        store(engine, random_transactions(50, seed=6, prefix="S"))
        return totals

    monkeypatch.setattr(reads, "totals", totals_then_a_batch)
    overview = read_overview(engine, Filter())
    assert _counted(overview) == {50}
    monkeypatch.undo()
    assert _counted(read_overview(engine, Filter())) == {100}


def test_missing_tables_are_named(database):
    engine = open_engine(make_url(database))
    with pytest.raises(TablesMissing, match=r"Start data_cleaning\.py"):
        read_overview(engine, Filter())


def test_a_server_that_is_away_is_named_with_its_address():
    closed_port = free_port()
    url = make_url(f"mysql+mysqlconnector://someone:top-secret@127.0.0.1:{closed_port}/transactions")
    with pytest.raises(DatabaseAway, match=f"127.0.0.1:{closed_port}.*MYSQL_URL") as caught:
        read_overview(open_engine(url), Filter())
    assert "top-secret" not in str(caught.value)


def test_a_refused_account_is_named_without_its_password(database):
    url = make_url(database).set(username="nobody", password="top-secret")
    with pytest.raises(AccessRefused, match=r"account nobody.*MYSQL_PASSWORD") as caught:
        read_overview(open_engine(url), Filter())
    assert "top-secret" not in str(caught.value)


def _newest(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    return rows.sort_values(["Time", "TransactionID"], ascending=False).head(count)


def _groups(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    names = rows[column].fillna("")
    return (
        (rows["Is_Fraud"] == "YES")
        .groupby(names)
        .agg(transactions="size", flagged="sum")
        .rename_axis("name")
        .reset_index()
    )


def _counted(overview: Overview) -> set[int]:
    return {
        overview.totals.transactions,
        int(overview.timeline.frame["transactions"].sum()),
        int(overview.by_device.frame["transactions"].sum()),
        len(overview.feed),
        overview.pipeline.stored,
    }


def _execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
