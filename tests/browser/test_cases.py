"""Transaction, user, rules and model in a real browser: what is known, and the ways between the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from fraudstream import feature_record, model_store
from fraudstream.config import PROJECT_DIR
from fraudstream.features import FEATURE_NAMES
from fraudstream.labels import Label
from fraudstream.model import Model
from fraudstream.reviews import Reviewer
from fraudstream.rules import FEATURE_PHRASES, model_reason, to_json
from fraudstream.store.labels import import_labels
from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.reviews import Seen, review
from tests.support.browsing import (
    NARROW,
    Dashboard,
    expect_no_foreign_markup,
    expect_no_wider_than_the_screen,
    open_up,
)
from tests.support.transactions import Judged, store

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
CAIRO = ZoneInfo("Africa/Cairo")
HIGH = orjson.dumps([{"code": "AMOUNT_OVER_2000", "amount": 2500.0, "limit": 2000.0}]).decode()
HOSTILE = "<script>alert(1)</script> **b** :red[x] $$y$$"
# The first page of a process, and the first that needs the model, on a machine busy with other tests.
FIRST_PAGE_MS = WITHIN_A_MODEL_MS = 60_000


@dataclass(frozen=True)
class Filled:
    address: str
    model: Model

    def open(self, page: Page, path: str) -> None:
        page.goto(f"{self.address}{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=FIRST_PAGE_MS)


@pytest.fixture(scope="module")
def model() -> Model:
    loaded = model_store.load(Path(PROJECT_DIR / "model_output"))
    assert loaded is not None
    return loaded


def strange(model: Model) -> tuple[bytes, float, str]:
    """(features, score, reasons) of a transaction whose amount and device the model finds strange."""
    features = model.scorer.usual.copy()
    for name, value in (("Amount", 2_500.0), ("device_new", 1.0), ("amount_streak", 90.0)):
        features[FEATURE_NAMES.index(name)] = value
    (score,) = model.score(features[None])
    (top,) = model.explain(features[None])
    reasons = to_json([model_reason(float(score), model.metadata.threshold, top)])
    return feature_record.pack(features[None])[0].as_py(), float(score), reasons


def transactions(model: Model) -> list[Judged]:
    """U1 as every day in Cairo, then one from a new device; one judged by an older model; hostile texts."""
    features, score, reasons = strange(model)
    usual = [
        Judged(f"usual{day}", "U1", Decimal(100 + day), NOON - timedelta(days=day)) for day in range(1, 29)
    ]
    late = Judged("long-ago", "U1", Decimal(7), NOON - timedelta(days=40))
    odd = Judged(
        "odd", "U1", Decimal(2500), NOON, "Aswan", "Windows", None, reasons, score,
        model.metadata.version, features,
    )  # fmt: skip
    older = replace(odd, transaction_id="older", time=NOON - timedelta(days=3), model_version="of-before")
    plain = replace(odd, transaction_id="plain", user_id="U2", features=None, model_version=None)
    bad = HOSTILE
    hostile = Judged(bad[:64], bad, Decimal(1), NOON, bad, bad, bad, HIGH)
    return [*usual, late, odd, older, plain, hostile]


@pytest.fixture(scope="module")
def filled(
    new_database: Callable[[], str], start_dashboard: Callable[..., str], model: Model
) -> Iterator[Filled]:
    url = new_database()
    engine = open_engine(make_url(url))
    migrate(engine)
    store(engine, transactions(model))
    label(engine)
    yield Filled(start_dashboard(MYSQL_URL=url), model)
    engine.dispose()


def label(engine: Engine) -> None:
    import_labels(engine, [Label("older", "fraud", NOON)], source="bank")
    for version, outcome in enumerate(("fraud", "legitimate")):
        note = f"{HOSTILE} {version}"
        review(engine, Seen("plain", version), outcome, note, by=Reviewer(HOSTILE), zone=CAIRO)  # type: ignore[arg-type]


def test_a_mails_link_opens_all_that_is_known_of_its_transaction(
    filled: Filled, page: Page, dashboard: Dashboard
) -> None:
    filled.open(page, "/?transaction=odd")
    expect(page).to_have_url(f"{filled.address}/transaction?id=odd")
    for words in (
        "Transaction odd",
        "2026-03-01 12:00:00 (Africa/Cairo)",
        "Location Aswan",
        "Device Windows",
        "Merchant (missing)",
        f"judged by model {filled.model.metadata.version}",
        "mostly because of: high amount after other high ones",
        "29 transactions in the 30 days before, median amount 115.00, highest 2,500.00; this one 2,500.00",
    ):
        expect(page.get_by_text(words).first).to_be_visible()
    chart = dashboard.chart("The-user-s-amounts-over-30-days")
    expect(chart.locator(".legendtext")).to_have_text(
        ["Not flagged", "Flagged", "Confirmed fraud", "This transaction"]
    )
    expect(page.get_by_text("The score is")).to_be_visible(timeout=WITHIN_A_MODEL_MS)
    labels = dashboard.bar_labels("How-much-of-the-score")
    assert labels[0] == "high amount after other high ones: 90"
    assert "new device: 1" in labels

    open_up(page, "Where it came from")
    expect(page.get_by_text("Its alert waits to be mailed")).to_be_visible()
    open_up(page, "All features")
    dashboard.expect_column("features", "Feature", [FEATURE_PHRASES[name] for name in FEATURE_NAMES])


def test_what_is_new_of_places_devices_and_merchants_comes_first(
    filled: Filled, page: Page, dashboard: Dashboard
) -> None:
    filled.open(page, "/transaction?id=older")
    dashboard.expect_column("habits_Location", "Location", ["Aswan", "Cairo"])
    dashboard.expect_column("habits_Location", "Here", ["new", ""])
    dashboard.expect_column("habits_Device", "Times", ["0", "25"])


def test_a_score_is_explained_only_by_the_model_that_gave_it(filled: Filled, page: Page) -> None:
    filled.open(page, "/transaction?id=older")
    expect(page.get_by_text("It was judged by model of-before. The present one is")).to_be_visible(
        timeout=WITHIN_A_MODEL_MS
    )
    filled.open(page, "/transaction?id=plain")
    expect(page.get_by_text("The features of this transaction were not stored.")).to_be_visible()


def test_a_transaction_is_reviewed_where_it_is_read_with_its_history(filled: Filled, page: Page) -> None:
    filled.open(page, "/transaction?id=usual1")
    expect(page.get_by_role("heading", name="Not flagged")).to_be_visible()
    page.get_by_role("textbox", name="Your name").fill("Mona")
    page.get_by_role("textbox", name="Your name").press("Enter")
    page.get_by_role("button", name="Fraud").click()
    expect(page.get_by_text("Confirmed fraud, says Mona (name not checked)")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("New: nobody has reviewed it")).to_be_visible()
    open_up(page, "All 2 changes")
    expect(page.get_by_text("Mona (name not checked): Review taken back")).to_be_visible()


def test_hostile_texts_are_shown_letter_by_letter(filled: Filled, page: Page, dashboard: Dashboard) -> None:
    filled.open(page, "/transaction")
    page.get_by_role("searchbox", name="Transaction id").fill(HOSTILE)
    page.get_by_role("searchbox", name="Transaction id").press("Enter")
    expect(page.get_by_text(f"User {HOSTILE}").first).to_be_visible()
    expect(page.get_by_text(f"Device {HOSTILE}").first).to_be_visible()
    dashboard.expect_column("habits_Merchant", "Merchant", [HOSTILE])
    filled.open(page, "/transaction?id=plain")
    open_up(page, "All 2 changes")
    expect(page.get_by_text(f"{HOSTILE}: Legitimate: {HOSTILE} 1")).to_be_visible()
    expect(page.get_by_text(f"Legitimate, says {HOSTILE}")).to_be_visible()
    filled.open(page, f"/user?id={HOSTILE}")
    expect(page.get_by_text(f"User {HOSTILE}").first).to_be_visible()
    expect_no_foreign_markup(page)


def test_a_user_has_habits_alerts_and_a_way_to_each_transaction(
    filled: Filled, page: Page, dashboard: Dashboard
) -> None:
    filled.open(page, "/transaction?id=odd")
    page.get_by_test_id("stMain").get_by_role("link", name="User").click()
    expect(page).to_have_url(f"{filled.address}/user?id=U1")
    dashboard.expect_kpis(**{"transactions,_all_time": "31"})
    expect(dashboard.kpi("Flagged, all time")).to_have_text("2 (6.5%)")
    expect(dashboard.kpi("Last 30 days")).to_have_text("30")
    expect(dashboard.kpi("Confirmed, 30 days")).to_have_text("1")
    dashboard.expect_column("user_alerts", "Transaction", ["odd", "older"])
    dashboard.expect_column("user_alerts", "Outcome", ["New", "Confirmed fraud"])
    grid = page.locator(".st-key-user_alerts").bounding_box()
    assert grid is not None
    page.mouse.click(grid["x"] + 200, grid["y"] + 35 + 52)  # the second row
    expect(page).to_have_url(f"{filled.address}/transaction?id=older")
    for found, other in (("older", "odd"), ("odd", "older")):  # and from each to the other one
        expect(page.get_by_text(f"Transaction {found}")).to_be_visible()
        dashboard.expect_column("other_alerts", "Transaction", [other])
        table = page.locator(".st-key-other_alerts")
        table.scroll_into_view_if_needed()
        grid = table.bounding_box()
        assert grid is not None
        page.mouse.click(grid["x"] + 200, grid["y"] + 52)
        expect(page).to_have_url(f"{filled.address}/transaction?id={other}")


def test_what_is_not_there_is_named(filled: Filled, page: Page) -> None:
    filled.open(page, "/transaction?id=<b>nowhere</b>")
    expect(page.get_by_text("No transaction <b>nowhere</b> is stored.")).to_be_visible()
    filled.open(page, "/user?id=nobody")
    expect(page.get_by_text("No transaction of user nobody is stored.")).to_be_visible()
    filled.open(page, "/user")
    expect(page.get_by_text("Enter a user's id above")).to_be_visible()


def test_rules_and_model_say_how_good_the_flags_are(filled: Filled, page: Page, dashboard: Dashboard) -> None:
    about = filled.model.metadata
    filled.open(page, "/rules?days=All")
    expect(page.get_by_text("Transactions of 2026-01-20 to 2026-03-01, whole days")).to_be_visible()
    expect(dashboard.kpi("Transactions")).to_have_text("33")
    expect(dashboard.kpi("Alerts")).to_have_text("4 (12.1%)")
    expect(dashboard.kpi("With an outcome")).to_have_text("2 (50.0%)")
    expect(dashboard.kpi("Precision")).to_have_text("50.0%")
    dashboard.expect_column("reasons", "Reason", ["Model", "High amount"])
    dashboard.expect_column("reasons", "Flags", ["3", "1"])
    dashboard.expect_column("reasons", "Confirmed", ["1", "0"])
    dashboard.expect_column("reasons", "Precision", ["50.0% (9% to 91%)", "–"])
    expect(page.get_by_text(f"Version {about.version}")).to_be_visible(timeout=WITHIN_A_MODEL_MS)
    expect(page.get_by_text(f"Flags a score of {about.threshold:.4f} and more")).to_be_visible()
    expect(page.get_by_text("Population stability index")).to_be_visible()
    expect(dashboard.chart("Share-of-transactions-by-score")).to_be_visible()

    page.get_by_role("radio", name="7 days").click()
    expect(page.get_by_text("Transactions of 2026-02-23 to 2026-03-01, whole days")).to_be_visible()
    expect(dashboard.kpi("Transactions")).to_have_text("10")


@pytest.mark.parametrize("path", ["/transaction?id=odd", "/user?id=U1", "/rules?days=All"])
def test_a_narrow_screen_is_not_wider_than_it_is(filled: Filled, page: Page, path: str) -> None:
    page.set_viewport_size({**NARROW, "height": 2500})
    filled.open(page, path)
    expect(
        page.get_by_role("heading", level=2).or_(page.get_by_role("heading", level=3)).first
    ).to_be_visible()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    expect_no_wider_than_the_screen(page)
