"""The real dashboard process in a real browser on a real database, as a person would use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.status import set_status
from tests.support.browsing import WITHIN_A_REFRESH_MS, Dashboard, expect_no_foreign_markup
from tests.support.filled_dashboard import NOON, Filled
from tests.support.transactions import Judged, store

TITLES = {
    "alerts": "Alerts",
    "transaction": "Transaction",
    "user": "User",
    "rules": "Rules & model",
    "pipeline": "Pipeline",
}


def test_numbers_equal_sql_and_follow_the_filter(filled: Filled, dashboard: Dashboard):
    dashboard.page.goto(filled.address)
    dashboard.expect_kpis(**filled.kpis())

    dashboard.choose("City", "Giza")
    dashboard.expect_kpis(**filled.kpis("Location = 'Giza'"))

    dashboard.toggle_fraud_only()
    dashboard.expect_kpis(**filled.kpis("Location = 'Giza'", fraud_only=True))

    dashboard.choose("City", "(missing)")
    dashboard.expect_kpis(**filled.kpis("Location IS NULL", fraud_only=True))

    dashboard.toggle_fraud_only()
    dashboard.choose("City", "All cities")
    dashboard.expect_kpis(**filled.kpis())


@pytest.mark.parametrize("path", ["alerts", "transaction", "user", "rules", "pipeline"])
def test_each_page_has_an_address_of_its_own(filled: Filled, dashboard: Dashboard, path: str):
    dashboard.page.goto(f"{filled.address}/{path}")
    shown = dashboard.page.get_by_test_id("stSidebarNav").get_by_role("link", name=TITLES[path])
    expect(shown).to_have_attribute("aria-current", "page")
    expect(dashboard.page.get_by_role("heading", level=1)).to_be_visible()
    expect(dashboard.page.get_by_test_id("stException")).to_have_count(0)


def test_from_no_tables_to_live_rows_without_a_reload(
    database: str, start_dashboard: Callable[..., str], dashboard: Dashboard, page: Page
):
    page.goto(start_dashboard(MYSQL_URL=database))
    expect(page.get_by_text("The tables are not there yet").first).to_be_visible()
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
    expect_no_foreign_markup(page)
