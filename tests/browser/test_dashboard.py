"""The real dashboard process in a real browser on a real database, as a person would use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.status import set_status
from tests.support.browsing import WITHIN_A_REFRESH_MS, Dashboard
from tests.support.relay import Relay
from tests.support.transactions import Judged, random_transactions, store
from tests.support.waiting import wait_until

NOON = datetime.fromisoformat("2026-03-01 12:00:00")


TITLES = {
    "alerts": "Alerts",
    "transaction": "Transaction",
    "user": "User",
    "rules": "Rules & model",
    "pipeline": "Pipeline",
}


@dataclass(frozen=True)
class Filled:
    engine: Engine
    address: str

    def kpis(self, where: str = "TRUE") -> dict[str, str]:
        """The five numbers by plain SQL over `clean_data`, as they must read."""
        statement = (
            "SELECT COUNT(*), COALESCE(SUM(Is_Fraud = 'YES'), 0), "
            "COALESCE(SUM(IF(Is_Fraud = 'YES', Amount, 0)), 0), COUNT(DISTINCT Location) "
            f"FROM clean_data WHERE {where}"
        )
        with self.engine.connect() as connection:
            total, frauds, at_risk, locations = connection.execute(text(statement)).one()
        return {
            "total_transactions": f"{total:,}",
            "frauds": f"{frauds:,}",
            "fraud_rate": f"{100 * frauds / total:.1f}%",
            "amount_at_risk": f"{at_risk:,.2f}",
            "active_locations": f"{locations}",
        }

    def newest(self, where: str = "TRUE") -> list[str]:
        statement = (
            f"SELECT TransactionID FROM clean_data WHERE {where} ORDER BY Time DESC, TransactionID DESC"
        )
        with self.engine.connect() as connection:
            return list(connection.scalars(text(statement)))


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], str], start_dashboard: Callable[..., str]) -> Iterator[Filled]:
    url = new_database()
    engine = open_engine(make_url(url))
    migrate(engine)
    store(engine, random_transactions(3000, seed=11, start=NOON), duplicates=12, rejected=34)
    set_status(engine, "alerts", "warning", "Alerts wait: no sender or recipient set")
    yield Filled(engine, start_dashboard(MYSQL_URL=url))
    engine.dispose()


def test_numbers_equal_sql_and_follow_the_filter(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.expect_kpis(**filled.kpis())

    dashboard.choose("City", "Giza")
    dashboard.expect_kpis(**filled.kpis("Location = 'Giza'"))

    dashboard.toggle_fraud_only()
    dashboard.expect_kpis(**filled.kpis("Location = 'Giza' AND Is_Fraud = 'YES'"))

    dashboard.choose("City", "(missing)")
    dashboard.expect_kpis(**filled.kpis("Location IS NULL AND Is_Fraud = 'YES'"))

    dashboard.toggle_fraud_only()
    dashboard.choose("City", "All cities")
    dashboard.expect_kpis(**filled.kpis())


def test_the_filter_is_in_the_address_and_comes_back_from_it(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.choose("City", "Luxor")
    dashboard.toggle_fraud_only()
    expected = filled.kpis("Location = 'Luxor' AND Is_Fraud = 'YES'")
    dashboard.expect_kpis(**expected)
    expect(dashboard.page).to_have_url(re.compile(r"\?city=Luxor&fraud_only=true$"))

    dashboard.page.reload()
    dashboard.expect_kpis(**expected)
    expect(dashboard.page.get_by_role("checkbox", name="Fraud only")).to_be_checked()


def test_the_link_of_an_older_mail_leads_to_its_transaction(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(f"{filled.address}/?transaction=a%20b%26c%3Cb%3E")
    expect(dashboard.page.get_by_role("heading", name="Transaction", exact=True)).to_be_visible()
    expect(dashboard.page).to_have_url(re.compile(r"/transaction\?id=a(\+|%20)b%26c%3Cb%3E$"))


@pytest.mark.parametrize("path", ["alerts", "transaction", "user", "rules", "pipeline"])
def test_each_page_has_an_address_of_its_own(filled: Filled, dashboard: Dashboard, path: str):
    dashboard.page.goto(f"{filled.address}/{path}")
    shown = dashboard.page.get_by_test_id("stSidebarNav").get_by_role("link", name=TITLES[path])
    expect(shown).to_have_attribute("aria-current", "page")
    expect(dashboard.page.get_by_role("heading", level=1)).to_be_visible()
    expect(dashboard.page.get_by_test_id("stException")).to_have_count(0)


def test_a_city_that_nobody_was_in_finds_nothing_and_says_so(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(f"{filled.address}/?city=Atlantis")
    expect(dashboard.page.get_by_text("No transaction matches the filter.")).to_be_visible()
    dashboard.expect_kpis(total_transactions="0", fraud_rate="–", amount_at_risk="0.00")


def test_feed_is_the_newest_with_the_flagged_marked_and_why_and_leads_to_each(
    filled: Filled, dashboard: Dashboard
):
    dashboard.page.goto(f"{filled.address}/?city=Cairo")
    in_view = dashboard.column("feed", "Transaction")
    assert len(in_view) > 5
    assert in_view == filled.newest("Location = 'Cairo'")[: len(in_view)]
    total = filled.kpis("Location = 'Cairo'")["total_transactions"]
    expect(dashboard.page.get_by_text(f"Showing 100 of {total}, newest first")).to_be_visible()

    dashboard.toggle_fraud_only()
    frauds = filled.newest("Location = 'Cairo' AND Is_Fraud = 'YES'")
    dashboard.expect_column("feed", "Transaction", frauds[: len(in_view)])
    assert set(dashboard.column("feed", "Flagged")) == {"flagged"}
    for amount, why in zip(dashboard.column("feed", "Amount"), dashboard.column("feed", "Why"), strict=True):
        assert why == f"Amount {float(amount):,.2f} is over 2,000.00"

    dashboard.select_row("feed", 1)
    expect(dashboard.page).to_have_url(re.compile(rf"/transaction\?id={frauds[1]}$"))


def test_a_period_counts_what_lies_in_it_and_compares_it_with_the_one_before(
    filled: Filled, dashboard: Dashboard
):
    page = dashboard.page
    page.goto(filled.address)
    dashboard.expect_kpis(**filled.kpis())
    expect(page.get_by_test_id("stMetricDelta")).to_have_count(0)

    dashboard.choose_period("Day")
    day = "`Time` >= '2026-03-03 12:00' AND `Time` < '2026-03-04 12:00'"
    before = "`Time` >= '2026-03-02 12:00' AND `Time` < '2026-03-03 12:00'"
    dashboard.expect_kpis(**filled.kpis(day))
    now, then = (int(filled.kpis(where)["frauds"]) for where in (day, before))
    expect(dashboard.change("Frauds")).to_have_text(f"{100 * (now - then) / then:+.1f}%")
    expect(page.get_by_text("against the 24 hours before")).to_be_visible()
    expect(page.get_by_text("2026-03-03 12:00 to 2026-03-04 12:00, Africa/Cairo").first).to_be_visible()

    page.goto(f"{filled.address}/?period=Custom&from=2026-03-02T05:00&to=2026-03-02T07:00&device=iOS")
    dashboard.expect_kpis(
        **filled.kpis("`Time` >= '2026-03-02 05:00' AND `Time` < '2026-03-02 07:00' AND Device = 'iOS'")
    )
    expect(page.get_by_text("before it, shaded, the rest of 24 hours")).to_be_visible()
    page.goto(f"{filled.address}/?period=Custom&from=2026-03-02T05:00&to=2026-03-02T04:00")
    expect(page.get_by_text("The period ends before it starts")).to_be_visible()


def test_every_filter_applies_to_every_number(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.choose("Device", "Android")
    dashboard.choose("Merchant", "Jumia")
    where = "Device = 'Android' AND Merchant = 'Jumia'"
    dashboard.expect_kpis(**filled.kpis(where))
    # Below the totals, each part is drawn anew a moment later.
    wait_until(
        lambda: (shown := dashboard.column("feed", "Transaction")) == filled.newest(where)[: len(shown)],
        timeout=WITHIN_A_REFRESH_MS / 1000,
        describe="the feed has the newest of what the filter lets through",
    )
    for chart, names in {"Suspicious-devices": ["Android"], "Risky-merchants-by-share": ["Jumia"]}.items():
        wait_until(
            lambda chart=chart, names=names: dashboard.bar_labels(chart) == names,
            timeout=WITHIN_A_REFRESH_MS / 1000,
            describe=f"{chart} shows {names} alone",
        )
    expect(dashboard.page).to_have_url(re.compile(r"\?device=Android&merchant=Jumia$"))


def test_charts_name_what_they_show_and_can_be_read_as_tables(filled: Filled, dashboard: Dashboard):
    page = dashboard.page
    page.goto(filled.address)
    expect(page.get_by_text("Flagged share; at least 20 transactions")).to_be_visible()
    assert len(dashboard.bar_labels("Risky-merchants-by-share")) == 5
    assert len(dashboard.bar_labels("Risky-merchants-by-amount")) == 5
    devices = {"Android", "iOS", "Web", "Windows", "(missing)"}
    assert set(dashboard.bar_labels("Suspicious-devices")) == devices
    on_map = dashboard.chart("Fraud-by-location").locator(".scattergeo text")
    assert set(on_map.all_text_contents()) == {"Cairo", "Giza", "Alex", "Luxor", "Aswan", "Sharm", "Hurghada"}
    assert dashboard.column("locations", "Location")[0] in on_map.all_text_contents()

    charts = page.locator(".js-plotly-plot")
    tables = page.get_by_text("As a table")
    assert charts.count() == tables.count() + 1  # the map's table stands beside it
    page.locator("[class*='st-key-table-Suspicious-devices']").get_by_text("As a table").click()
    assert set(dashboard.column("table-Suspicious-devices", "Device")) == devices


def test_sidebar_tells_where_the_numbers_come_from(filled: Filled, dashboard: Dashboard):
    url = filled.engine.url
    dashboard.page.goto(filled.address)
    sidebar = dashboard.page.get_by_test_id("stSidebar")
    expect(sidebar).to_contain_text("Connected")
    expect(sidebar).to_contain_text(f"Server {url.host}:{url.port}")
    expect(sidebar).to_contain_text(f"Database {url.database}")
    expect(sidebar).to_contain_text("Time zone Africa/Cairo")
    expect(sidebar).to_contain_text("12 duplicates")
    expect(sidebar).to_contain_text("34 rejected")
    expect(sidebar).to_contain_text("Alerts wait: no sender or recipient set")
    assert url.password not in dashboard.page.content()


def test_from_no_tables_to_live_rows_without_a_reload(
    database: str, start_dashboard: Callable[..., str], dashboard: Dashboard, page: Page
):
    page.goto(start_dashboard(MYSQL_URL=database))
    expect(page.get_by_text("The tables do not exist yet").first).to_be_visible()
    expect(page.get_by_text("Start data_cleaning.py: it creates them")).to_be_visible()

    engine = open_engine(make_url(database))
    migrate(engine)
    expect(page.get_by_text("No transactions yet.")).to_be_visible(timeout=WITHIN_A_REFRESH_MS)
    dashboard.expect_kpis(total_transactions="0", fraud_rate="–")

    in_giza = Judged("first", "U1", Decimal("2000.01"), NOON, location="Giza")
    store(engine, [in_giza, Judged("second", "U1", Decimal("10.00"), NOON, location="Cairo")])
    page.get_by_role("button", name="Refresh").click()
    dashboard.expect_kpis(within_ms=5_000, total_transactions="2", amount_at_risk="2,000.01")

    dashboard.choose("City", "Giza")
    dashboard.toggle_fraud_only()
    dashboard.expect_kpis(total_transactions="1")
    store(engine, [Judged("third", "U1", Decimal("5000.00"), NOON, location="Giza")])
    store(engine, [Judged("fourth", "U1", Decimal("7000.00"), NOON, location="Cairo")])
    dashboard.expect_kpis(within_ms=WITHIN_A_REFRESH_MS, total_transactions="2", amount_at_risk="7,000.01")
    dashboard.expect_column("feed", "Transaction", ["third", "first"])
    engine.dispose()


def test_a_database_that_goes_away_is_named_and_its_return_is_noticed(
    engine: Engine, database: str, start_dashboard: Callable[..., str], dashboard: Dashboard, page: Page
):
    store(engine, random_transactions(40, seed=14))
    url = make_url(database)
    relay = Relay(url.host, url.port)
    through_relay = url.set(host="127.0.0.1", port=relay.port).render_as_string(hide_password=False)
    page.goto(start_dashboard(MYSQL_URL=through_relay))
    expect(page.get_by_text("The database is away").first).to_be_visible()
    expect(page.get_by_text(f"127.0.0.1:{relay.port} does not answer")).to_be_visible()
    expect(page.get_by_text("MYSQL_URL")).to_be_visible()

    try:
        relay.open()
        dashboard.expect_kpis(within_ms=WITHIN_A_REFRESH_MS, total_transactions="40")
        expect(page.get_by_text("The database is away")).to_have_count(0, timeout=WITHIN_A_REFRESH_MS)
        relay.shut()
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_text("The database is away").first).to_be_visible(timeout=5_000)
        expect(page.get_by_test_id("stMetric")).to_have_count(0)
    finally:
        relay.shut()


def test_a_refused_account_is_named_and_its_password_is_not(
    database: str, start_dashboard: Callable[..., str], page: Page
):
    url = make_url(database).set(username="nobody", password="top-secret")
    page.goto(start_dashboard(MYSQL_URL=url.render_as_string(hide_password=False)))
    expect(page.get_by_text("The database refuses the account").first).to_be_visible()
    expect(page.get_by_text("MYSQL_USER and MYSQL_PASSWORD").first).to_be_visible()
    assert "top-secret" not in page.content()


def test_settings_that_make_no_sense_are_named(start_dashboard: Callable[..., str], page: Page):
    page.goto(start_dashboard(MYSQL_URL="http://nonsense", SMTP_PORT="many"))
    expect(page.get_by_text("Settings are not usable.")).to_be_visible()
    expect(page.get_by_text("MYSQL_URL: must be")).to_be_visible()
    expect(page.get_by_text("SMTP_PORT:")).to_be_visible()


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "**bold** [link](javascript:alert(3)) `code`",
    "$$\\frac{1}{2}$$ :red[x] :smile: # head",
    "<b>b</b> &lt;i&gt; %{y} {{7*7}}",
    "😀 \u202eright to left مرحبا",
    "x" * 64,
)


def test_hostile_texts_are_shown_letter_by_letter(
    engine: Engine, database: str, start_dashboard: Callable[..., str], dashboard: Dashboard, page: Page
):
    reasons = '[{"code": "<script>alert(4)</script> **x**"}]'
    later = NOON + timedelta(hours=1)
    rows = [
        Judged(f"{number}{name}"[:64], name, Decimal(number), later, name, name, name, reasons)
        for number, name in enumerate(HOSTILE)
    ]
    many = [Judged(f"{n}", "U", Decimal(1), NOON, merchant=HOSTILE[0], reasons=reasons) for n in range(20)]
    store(engine, [*rows, *many])
    set_status(engine, HOSTILE[0], "error", HOSTILE[2])

    page.goto(start_dashboard(MYSQL_URL=database))
    dashboard.expect_kpis(total_transactions=f"{len(rows) + len(many)}")
    for column in ("User", "Location", "Device", "Merchant"):
        shown = dashboard.column("feed", column)
        assert set(HOSTILE) <= set(shown), column
    assert "<script>alert(4)</script> **x**" in dashboard.column("feed", "Why")

    shortened = {name if len(name) <= 16 else f"{name[:15]}…" for name in HOSTILE}
    assert set(HOSTILE) <= set(dashboard.column("locations", "Location"))
    assert shortened <= set(dashboard.bar_labels("Suspicious-devices"))
    assert dashboard.bar_labels("Risky-merchants-by-share") == [f"{HOSTILE[0][:15]}…"]
    assert shortened & set(dashboard.bar_labels("Risky-merchants-by-amount"))

    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar).to_contain_text(f"{HOSTILE[0]}: error")
    expect(sidebar).to_contain_text(HOSTILE[2])
    page.get_by_role("combobox", name="City").click()
    assert set(HOSTILE) <= set(page.get_by_role("option").all_text_contents())
    page.keyboard.press("Escape")

    for name in HOSTILE[:3]:
        dashboard.choose("City", name)
        dashboard.expect_kpis(total_transactions="1")
        expect(page.get_by_text(f"All transactions, Location {name}")).to_be_visible()
    page.reload()
    dashboard.expect_kpis(total_transactions="1")
    assert page.locator("#root a[href^=javascript], #root script, #root img[src=x]").count() == 0


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(filled: Filled, dashboard: Dashboard):
    page = dashboard.page
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("", "pipeline"):
        page.goto(f"{filled.address}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_test_id("stMetric").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_test_id("stSidebarNav")).not_to_be_in_viewport()


RECORD_PLACES = """
window.places = new Set();
window.recording = setInterval(() => window.places.add(JSON.stringify(
  [...document.querySelectorAll("h1, h2, h3, [data-testid=stPlotlyChart]")]
    .filter(element => element.getClientRects().length)  // not what is being replaced, and hidden
    .map(element => Math.round(element.getBoundingClientRect().y))
)), 30)
"""


def test_a_refresh_moves_nothing(filled: Filled, dashboard: Dashboard):
    """What a person looks at stays where it is when rows arrive."""
    page = dashboard.page
    page.goto(filled.address)
    dashboard.expect_kpis(**filled.kpis())
    dashboard.bar_labels("Suspicious-devices")
    dashboard.column("feed", "Transaction")
    page.evaluate(RECORD_PLACES)
    store(filled.engine, random_transactions(100, seed=22, start=NOON, prefix="S"))
    dashboard.expect_kpis(within_ms=WITHIN_A_REFRESH_MS, **filled.kpis())
    page.wait_for_timeout(500)
    places = page.evaluate("clearInterval(window.recording), [...window.places]")
    assert len(places) == 1 and places[0].count(",") > 8
