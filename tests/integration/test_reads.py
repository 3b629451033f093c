"""The overview's reads equal plain SQL and pandas over `clean_data`, whatever the period and the filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url

from fraudstream.periods import DAY, HOUR, Period
from fraudstream.store.migrate import migrate
from fraudstream.store.reads import detection
from fraudstream.store.reads import overview as reads
from fraudstream.store.reads import snapshot as snapshots
from fraudstream.store.reads.overview import Counted, Filter, Overview, read_overview
from fraudstream.store.reads.pipeline import pipeline
from fraudstream.store.reads.snapshot import (
    AccessRefused,
    DatabaseAway,
    DatabaseSlow,
    TablesMissing,
    open_engine,
    snapshot,
)
from fraudstream.store.reads.timing import read_times_ms
from tests.support.ports import free_port
from tests.support.transactions import Judged, random_transactions, store

START = datetime.fromisoformat("2026-03-01")
LATE = datetime.fromisoformat("2025-12-31 23:59:59")
# The newest transaction is in the hour before this one.
END = START + 3 * DAY
CUSTOM = Period(START + 5 * HOUR, START + 2 * DAY + 17 * HOUR)
WITHIN_A_DAY = Period(START + 5 * HOUR, START + 9 * HOUR)
OVER_MONTHS = Period(START - 50 * DAY + 5 * HOUR, START + 2 * DAY + 7 * HOUR)
# Most of its last month comes after it.
EARLY_IN_MONTH = Period(START - 50 * DAY, START + 2 * HOUR)
PERIODS = {
    "all": Period(LATE.replace(minute=0, second=0), END),
    "week": Period(END - 7 * DAY, END),
    "day": Period(END - DAY, END),
    "hour": Period(END - HOUR, END),
    CUSTOM: CUSTOM,
    WITHIN_A_DAY: WITHIN_A_DAY,
    OVER_MONTHS: OVER_MONTHS,
    EARLY_IN_MONTH: EARLY_IN_MONTH,
}
FILTERS = [
    Filter(),
    Filter(fraud_only=True),
    Filter("Cairo"),
    Filter("", fraud_only=True),
    Filter("Giza", "iOS", "Amazon"),
    Filter(None, "Web", "", fraud_only=True),
    Filter(merchant="nowhere"),
]
CASES = [
    *((asked, chosen) for asked in ("all", CUSTOM, OVER_MONTHS) for chosen in FILTERS),
    *(
        (asked, FILTERS[number])
        for asked in ("week", "day", "hour", WITHIN_A_DAY, EARLY_IN_MONTH)
        for number in (0, 4)
    ),
]
COLUMNS = ("Location", "Device", "Merchant")


@dataclass(frozen=True)
class Filled:
    """A filled database: its engine, all its rows as the tests' own SQL sees them."""

    engine: Engine
    rows: pd.DataFrame

    def named(self, period: Period, chosen: Filter) -> pd.DataFrame:
        """The rows of the period with the chosen names, flagged or not."""
        rows = self.rows[(self.rows["Time"] >= period.start) & (self.rows["Time"] < period.end)]
        names = (chosen.city, chosen.device, chosen.merchant)
        for column, name in zip(COLUMNS, names, strict=True):
            if name is not None:
                rows = rows[rows[column].fillna("") == name]
        return rows

    def chosen(self, period: Period, chosen: Filter) -> pd.DataFrame:
        rows = self.named(period, chosen)
        return rows[rows["Is_Fraud"] == "YES"] if chosen.fraud_only else rows

    def totals(self, period: Period, chosen: Filter) -> reads.Totals:
        rows = self.chosen(period, chosen)
        flagged = rows[rows["Is_Fraud"] == "YES"]
        return reads.Totals(
            transactions=len(rows),
            flagged=len(flagged),
            amount_at_risk=sum(flagged["Amount"], Decimal(0)),
            locations=rows["Location"].nunique(),
            judged=len(self.named(period, chosen)),
        )


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], str]) -> Iterator[Filled]:
    engine = open_engine(make_url(new_database()))
    migrate(engine)
    store(engine, random_transactions(1500, seed=1, start=START), duplicates=7, rejected=5)
    late = random_transactions(200, seed=2, start=LATE, days=60, prefix="late")
    store(engine, [*late, Judged("no-names", "U1", Decimal("2500.00"), LATE, None, None, None)], duplicates=1)
    store(engine, [Judged("newest", "U1", Decimal("1.00"), END - timedelta(seconds=1))])
    with engine.connect() as connection:
        rows = pd.read_sql(text("SELECT * FROM clean_data"), connection, coerce_float=False)
    yield Filled(engine, rows)
    engine.dispose()


@pytest.mark.parametrize(("asked", "chosen"), CASES, ids=str)
def test_an_overview_counts_each_chosen_row_once(filled, asked, chosen):
    overview = read_overview(filled.engine, asked, chosen)
    period = PERIODS[asked]
    assert overview.period == period
    counted = counted_of(overview)
    assert counted.totals == filled.totals(period, chosen)
    before = (
        None
        if asked == "all"
        else filled.totals(Period(period.start - (period.end - period.start), period.start), chosen)
    )
    assert counted.before == before
    # A share counts all transactions even when only frauds are chosen.
    _assert_timeline(counted.timeline, filled, period, chosen)
    _assert_weekday_hours(counted.by_weekday_hour, filled.named(period, chosen))
    for column, shown in zip(
        COLUMNS, (counted.by_location, counted.by_device, counted.by_merchant), strict=True
    ):
        assert shown.to_dict("records") == _groups(filled.named(period, chosen), column)
    _assert_feed(overview.feed, filled.chosen(period, chosen))
    # What there is to choose from depends neither on the period nor on the filter.
    names = (overview.names.cities, overview.names.devices, overview.names.merchants)
    assert names == tuple(tuple(sorted(filled.rows[column].fillna("").unique())) for column in COLUMNS)
    assert overview.extent == (filled.rows["Time"].min(), filled.rows["Time"].max())


def test_a_rare_row_is_not_searched_for_without_end(filled, monkeypatch):
    """Rows beyond the bound are not read for it: the feed is then shorter, and what it has is right."""
    monkeypatch.setattr(reads, "_MOST_ROWS_READ", 600)
    chosen = Filter("Luxor", "Web")
    expected = _newest(filled.chosen(PERIODS["all"], chosen), reads.FEED_ROWS)["TransactionID"].tolist()
    feed = read_overview(filled.engine, "all", chosen).feed["TransactionID"].tolist()
    assert 0 < len(feed) < len(expected)
    assert feed == expected[: len(feed)]


def test_the_time_of_each_read_of_each_page_can_be_taken(filled):
    times = read_times_ms(filled.engine, repeats=1)
    assert all(ms > 0 for ms in times.values())
    for page in (
        "timeline, custom",
        "feed, week",
        "batches",
        "dead letters",
        "queue, fraud, search",
        "queue, legitimate, ",
        "user",
        "rules and model",
    ):
        assert any(name.startswith(page) for name in times), page


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
    with snapshot(engine) as connection:
        state = pipeline(connection)
    assert (state.stored, state.duplicates, state.rejected) == (50, 12, 23)
    assert (state.alerts_waiting, state.mails_failed) == (flagged + 2, 1)
    assert state.components[["component", "state", "message"]].to_numpy().tolist() == [
        ["alerts", "warning", "no sender set"]
    ]


@pytest.mark.parametrize("chosen", [Filter(), Filter("Giza")], ids=["all", "Giza"])
@pytest.mark.parametrize(("days", "step"), [(13, "hour"), (14, "day"), (365, "day"), (366, "month")])
def test_the_longer_the_period_the_longer_the_steps(engine, days, step, chosen):
    first = START + timedelta(minutes=59)
    shares = {0: "Giza", 0.1: "Giza", 0.3: "Cairo", 0.5: "Giza", 0.51: "Cairo", 0.52: "Giza", 1: "Giza"}
    rows = [
        Judged(
            f"T{share}", "U", Decimal(2_500 if share == 0.5 else 1), first + days * DAY * share, location=city
        )
        for share, city in shares.items()
    ]
    store(engine, rows)
    timeline = counted_of(read_overview(engine, "all", chosen)).timeline
    frame = pd.DataFrame(rows)
    frame = frame[frame["location"] == (chosen.city or frame["location"])]
    steps = frame["time"].dt.to_period(step[0].upper() if step != "hour" else "h").dt.start_time
    expected = frame.groupby(steps).agg(transactions=("amount", "size"), at_most=("amount", "max"))
    assert timeline.step == step
    assert timeline.frame["start"].tolist() == expected.index.tolist()
    assert timeline.frame["transactions"].tolist() == expected["transactions"].tolist()
    assert timeline.frame["flagged"].tolist() == (expected["at_most"] > 2_000).astype(int).tolist()


def test_a_day_whose_rows_all_come_after_the_period_costs_the_feed_none(engine, monkeypatch):
    monkeypatch.setattr(reads, "FEED_ROWS", 4)
    store(engine, [Judged(f"T{day}", "U", Decimal(1), START + day * DAY + 9 * HOUR) for day in range(7)])
    early_in_the_last = Period(START, START + 6 * DAY + 5 * HOUR)
    feed = read_overview(engine, early_in_the_last, Filter()).feed
    assert feed["TransactionID"].tolist() == ["T5", "T4", "T3", "T2"]


def test_an_empty_database_is_an_empty_overview(engine):
    overview = read_overview(engine, "day", Filter("Cairo"))
    assert (overview.extent, overview.period, overview.counted) == (None, None, None)
    assert overview.names == reads.Names()
    assert overview.feed.empty


def test_names_that_differ_in_case_or_accent_are_two(engine):
    base = Judged("T1", "U1", Decimal(10), START, location="Cairo")
    store(engine, [base, replace(base, transaction_id="T2", location="cairo")])
    store(engine, [replace(base, transaction_id="t1", location="Caïro")])
    assert counted_of(read_overview(engine, "all", Filter())).totals.locations == 3
    assert read_overview(engine, "all", Filter("cairo")).feed["TransactionID"].tolist() == ["T2"]


@pytest.mark.parametrize(("most", "cities"), [(4, ("Alex", "Cairo", "Giza")), (2, ("Cairo", "Giza"))])
def test_of_very_many_names_the_busiest_are_offered(engine, monkeypatch, most, cities):
    visited = ["Alex", "Giza", "Giza", "Cairo", "Cairo", "Cairo"]
    rows = [
        Judged(f"T{number}", "U1", Decimal(10), START + number * 40 * DAY, location=city)
        for number, city in enumerate(visited)
    ]
    store(engine, rows)
    monkeypatch.setattr(reads, "MOST_NAMES", most)
    assert read_overview(engine, "all", Filter()).names == reads.Names(cities, ("iOS",), ("Amazon",))


def test_names_are_read_from_their_indexes_and_sums_by_name_go_through_the_key(filled):
    """Through the index of the names a server would look up each row by itself: slow with many of them."""
    with snapshot(filled.engine) as connection:
        read: list[tuple[str, object]] = []
        event.listen(
            connection, "before_cursor_execute", lambda _c, _cursor, sql, given, *_: read.append((sql, given))
        )
        reads.all_names(connection)
        reads.by_name(connection, Period(START - 9_000 * DAY, END + 9_000 * DAY), Filter(), "Location")
        *names, sums = [
            connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {sql}", given).mappings().one()
            for sql, given in list(read)
            if "rollup_monthly" in sql
        ]
    assert len(names) == 3
    for plan in names:
        assert plan["key"].startswith("rollup_monthly_by_") and "Using index" in plan["Extra"]
    assert sums["key"] == "PRIMARY"


def test_one_overview_is_of_one_moment(engine, monkeypatch):
    """A batch that commits while the page is read is in all of its numbers or in none."""
    store(engine, random_transactions(50, seed=5))
    real_timeline = reads.timeline

    def timeline_then_a_batch(connection, period, chosen):
        timeline = real_timeline(connection, period, chosen)
        store(engine, random_transactions(50, seed=6, prefix="S"))
        return timeline

    monkeypatch.setattr(reads, "timeline", timeline_then_a_batch)
    assert _numbers(read_overview(engine, "all", Filter())) == {50}
    monkeypatch.undo()
    assert _numbers(read_overview(engine, "all", Filter())) == {100}


@pytest.mark.parametrize("time", ["0001-01-01 00:30:00", "1000-01-01 00:00:00", "9999-12-31 23:59:59"])
@pytest.mark.parametrize("asked", ["week", "all"])
def test_a_time_at_the_calendars_end_is_counted(engine, time, asked):
    store(engine, [Judged("odd", "U1", Decimal(3000), datetime.fromisoformat(time))])
    overview = read_overview(engine, asked, Filter())
    assert counted_of(overview).totals.flagged == 1
    assert overview.feed["TransactionID"].tolist() == ["odd"]
    with snapshot(engine) as connection:
        covered = detection.days_covered(connection)
        assert covered is not None
        found = detection.read_detection(connection, covered)
    assert (found.transactions, found.alerts, found.looked_at) == (1, 1, 1)


def test_missing_tables_are_named(database):
    engine = open_engine(make_url(database))
    with pytest.raises(TablesMissing, match=r"Start data_cleaning\.py"):
        read_overview(engine, "all", Filter())


def test_a_server_that_is_away_is_named_with_its_address():
    closed_port = free_port()
    url = make_url(f"mysql+mysqlconnector://someone:top-secret@127.0.0.1:{closed_port}/transactions")
    with pytest.raises(DatabaseAway, match=f"127.0.0.1:{closed_port}.*MYSQL_URL") as caught:
        read_overview(open_engine(url), "all", Filter())
    assert "top-secret" not in str(caught.value)


def test_a_server_that_owes_an_answer_is_given_up_and_asked_anew(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshots, "_ANSWER_TIMEOUT_S", 1)
    impatient = open_engine(engine.url)
    with (
        pytest.raises(DatabaseSlow, match=f":{engine.url.port} owes an answer for 1 seconds"),
        snapshot(impatient) as connection,
    ):
        # The first row fills the server's buffer and comes; the next does not.
        connection.execute(text("SELECT REPEAT('x', 100000) UNION ALL SELECT SLEEP(30)")).all()

    assert read_overview(impatient, "all", Filter()).counted is None


def test_a_refused_account_is_named_without_its_password(database):
    url = make_url(database).set(username="nobody", password="top-secret")
    with pytest.raises(AccessRefused, match=r"account nobody.*MYSQL_PASSWORD") as caught:
        read_overview(open_engine(url), "all", Filter())
    assert "top-secret" not in str(caught.value)


def counted_of(overview: Overview) -> Counted:
    assert overview.counted is not None
    return overview.counted


def _assert_feed(feed: pd.DataFrame, rows: pd.DataFrame) -> None:
    expected = _newest(rows, reads.FEED_ROWS)
    for column in ("TransactionID", "Amount", "reasons"):
        assert feed[column].tolist() == expected[column].tolist()
    assert feed["Location"].isna().tolist() == expected["Location"].isna().tolist()


def _assert_timeline(timeline: reads.Timeline, filled: Filled, period: Period, chosen: Filter) -> None:
    shown = Period(min(period.start, period.end - DAY), period.end)
    assert timeline.shown == shown
    rows = filled.named(shown, chosen)
    expected = _sums(rows, rows["Time"].dt.floor(timeline.step[0]))
    assert timeline.frame["start"].tolist() == expected.index.tolist()
    assert timeline.frame["transactions"].tolist() == expected["transactions"].tolist()
    assert timeline.frame["flagged"].tolist() == expected["flagged"].tolist()


def _assert_weekday_hours(shown: pd.DataFrame, rows: pd.DataFrame) -> None:
    expected = _sums(rows, [rows["Time"].dt.weekday, rows["Time"].dt.hour])
    found = shown.set_index(["weekday", "hour"]).sort_index()
    assert found.index.tolist() == expected.index.tolist()
    assert found["transactions"].tolist() == expected["transactions"].tolist()
    assert found["flagged"].tolist() == expected["flagged"].tolist()


def _sums(rows: pd.DataFrame, by: object) -> pd.DataFrame:
    return (rows["Is_Fraud"] == "YES").groupby(by).agg(transactions="size", flagged="sum").sort_index()


def _newest(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    return rows.sort_values(["Time", "TransactionID"], ascending=False).head(count)


def _groups(rows: pd.DataFrame, column: str) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "transactions": len(of_name),
            "flagged": int((of_name["Is_Fraud"] == "YES").sum()),
            "amount_at_risk": sum(of_name[of_name["Is_Fraud"] == "YES"]["Amount"], Decimal(0)),
        }
        for name, of_name in rows.groupby(rows[column].fillna(""))
    ]


def _numbers(overview: Overview) -> set[int]:
    counted = counted_of(overview)
    return {
        counted.totals.transactions,
        int(counted.timeline.frame["transactions"].sum()),
        int(counted.by_device["transactions"].sum()),
        int(counted.by_weekday_hour["transactions"].sum()),
        len(overview.feed),
    }


def _execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
