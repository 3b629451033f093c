"""The overview page at length: filter, periods, feed, charts, and what it says when the database is away."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from tests.support.browsing import (
    NARROW,
    WITHIN_A_REFRESH_MS,
    Dashboard,
    expect_no_wider_than_the_screen,
    open_up,
)
from tests.support.filled_dashboard import NOON, Filled
from tests.support.relay import Relay
from tests.support.transactions import Judged, random_transactions, store
from tests.support.waiting import wait_until


def test_the_filter_is_in_the_address_and_comes_back_from_it(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.choose("City", "Luxor")
    dashboard.toggle_fraud_only()
    expected = filled.kpis("Location = 'Luxor'", fraud_only=True)
    dashboard.expect_kpis(**expected)
    expect(dashboard.page).to_have_url(re.compile(r"\?city=Luxor&fraud_only=true$"))

    dashboard.page.reload()
    dashboard.expect_kpis(**expected)
    expect(dashboard.page.get_by_role("checkbox", name="Fraud only")).to_be_checked()


def test_the_link_of_an_older_mail_leads_to_its_transaction(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(f"{filled.address}/?transaction=a%20b%26c%3Cb%3E")
    expect(dashboard.page.get_by_role("heading", name="Transaction", exact=True)).to_be_visible()
    expect(dashboard.page).to_have_url(re.compile(r"/transaction\?id=a(\+|%20)b%26c%3Cb%3E$"))


def test_a_click_opens_what_was_shown_also_when_newer_rows_have_come(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.expect_refresh()
    shown = dashboard.column("feed", "Transaction")
    with filled.engine.connect() as connection:
        last = connection.scalar(text("SELECT MAX(Time) FROM clean_data"))
    store(filled.engine, [Judged(f"zz{number}", "U1", Decimal(1), last) for number in range(20)])
    assert not set(shown) & set(filled.newest()[:20])
    dashboard.select_row("feed", 3)
    expect(dashboard.page).to_have_url(re.compile(rf"/transaction\?id={shown[3]}$"))


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
    feed = dashboard.columns("feed")
    assert set(feed["Flagged"]) == {"flagged"}
    for amount, why in zip(feed["Amount"], feed["Why"], strict=True):
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
    expect(page.get_by_text("Choose a start, and an end that is later.")).to_be_visible()
    page.goto(f"{filled.address}/?period=Custom&from=then&to=2026-03-02T04:00")
    expect(page.get_by_text("Choose a start, and an end that is later.")).to_be_visible()


def test_a_bookmark_of_a_custom_period_counts_it_when_data_have_moved_on(
    engine: Engine, database: str, start_dashboard: Callable[..., str], dashboard: Dashboard
):
    """Custom clicked, with the usual hours; and an address that lacks an end."""
    shown = Filled(engine, start_dashboard(MYSQL_URL=database))
    page = dashboard.page
    store(engine, random_transactions(600, seed=31, start=NOON))
    usual = shown.kpis("`Time` >= '2026-03-03 12:00' AND `Time` < '2026-03-04 12:00'")
    assert usual != shown.kpis()
    page.goto(shown.address)
    dashboard.expect_kpis(**shown.kpis())
    dashboard.choose_period("Custom")
    dashboard.expect_kpis(**usual)
    both = re.compile(r"/\?period=Custom&from=2026-03-03T12(:|%3A)00&to=2026-03-04T12(:|%3A)00$")
    expect(page).to_have_url(both)
    clicked = page.url
    page.goto(f"{shown.address}/?period=Custom")
    dashboard.expect_kpis(**usual)
    expect(page).to_have_url(both)
    page.goto(f"{shown.address}/?period=Custom&from=2026-03-02T12:00")
    expect(page).to_have_url(re.compile(r"from=2026-03-02T12(:|%3A)00&to=2026-03-04T12(:|%3A)00$"))
    chosen = page.url

    store(engine, random_transactions(200, seed=32, start=NOON + timedelta(days=9), prefix="L"))
    later = page.context.new_page()
    for address, where in (
        (clicked, "`Time` >= '2026-03-03 12:00' AND `Time` < '2026-03-04 12:00'"),
        (chosen, "`Time` >= '2026-03-02 12:00' AND `Time` < '2026-03-04 12:00'"),
    ):
        later.goto(address)
        Dashboard(later).expect_kpis(**shown.kpis(where))
        expect(later).to_have_url(address)
    later.close()


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
    open_up(page.locator("[class*='st-key-table-Suspicious-devices']"), "As a table")
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


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(filled: Filled, dashboard: Dashboard):
    page = dashboard.page
    page.set_viewport_size(NARROW)
    for query in ("", "?period=Custom&from=2026-03-02T05:00&to=2026-03-03T05:00"):
        page.goto(f"{filled.address}/{query}")
        dashboard.column("feed", "Transaction")
        dashboard.bar_labels("Risky-merchants-by-amount")
        expect_no_wider_than_the_screen(page)
    expect(page.get_by_test_id("stSidebarNav")).not_to_be_in_viewport()


@pytest.mark.parametrize(
    ("too_wide", "noticed"),
    [
        ("<div style='width: 900px'>a long line</div>", "px of the page"),
        (
            "<div style='overflow: hidden'><button style='margin-left: 380px'>Send</button></div>",
            "BUTTON Send",
        ),
    ],
)
def test_what_is_wider_than_a_narrow_screen_is_noticed(
    filled: Filled, dashboard: Dashboard, too_wide: str, noticed: str
):
    page = dashboard.page
    page.set_viewport_size(NARROW)
    page.goto(filled.address)
    dashboard.column("feed", "Transaction")
    expect_no_wider_than_the_screen(page)
    page.get_by_test_id("stMainBlockContainer").evaluate(
        "(main, html) => main.insertAdjacentHTML('beforeend', html)", too_wide
    )
    with pytest.raises(AssertionError, match=noticed):
        expect_no_wider_than_the_screen(page)


def test_captions_are_as_opaque_as_their_contrast_was_tested_with(filled: Filled, dashboard: Dashboard):
    """See tests/unit/test_palette.py."""
    dashboard.page.goto(filled.address)
    expect(dashboard.page.get_by_test_id("stCaptionContainer").first).to_have_css("opacity", "0.6")


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
