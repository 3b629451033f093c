"""With a login only a signed-in analyst reviews, whatever the page shows; reading stays open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from streamlit.testing.v1 import AppTest

from fraudstream.store.migrate import migrate
from fraudstream.store.reads.snapshot import open_engine
from tests.support.browsing import running_dashboard
from tests.support.identity_provider import Provider, identity_provider, secrets_toml
from tests.support.ports import free_port
from tests.support.transactions import Judged, store

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
MONA = {"sub": "17", "email": "mona@example.com", "email_verified": True}


@dataclass(frozen=True)
class Served:
    engine: Engine
    address: str
    provider: Provider

    def reviews(self) -> list[tuple[str, str]]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT label, recorded_by FROM labels"))
            return [(row.label, row.recorded_by) for row in found]


@pytest.fixture(scope="module")
def served(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard with a login, as its operator's secrets.toml has it; mona and sami may review."""
    url = new_database()
    engine = open_engine(make_url(url))
    migrate(engine)
    store(engine, [Judged("T1", "U1", Decimal(2500), NOON)])
    home, port = tmp_path_factory.mktemp("home"), free_port()
    with identity_provider(MONA) as provider:
        (home / ".streamlit").mkdir()
        content = secrets_toml(provider, f"http://127.0.0.1:{port}")
        (home / ".streamlit" / "secrets.toml").write_text(content)
        with running_dashboard(
            home / "log",
            port=port,
            HOME=str(home),
            MYSQL_URL=url,
            DASHBOARD_ANALYSTS="mona@example.com, sami@example.com",
        ) as address:
            yield Served(engine, address, provider)
    engine.dispose()


def sign_in(served: Served, page: Page, **account: object) -> None:
    served.provider.account = {**MONA, **account}
    page.goto(f"{served.address}/alerts")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{served.address}/")
    page.goto(f"{served.address}/alerts")


def test_who_has_not_signed_in_reads_and_cannot_review(served: Served, page: Page) -> None:
    for path in ("/alerts", "/transaction?id=T1"):
        page.goto(f"{served.address}{path}")
        expect(page.get_by_text("Transaction T1")).to_be_visible()
        expect(page.get_by_text("Sign in first: only a signed-in analyst can review.")).to_be_visible()
        expect(page.get_by_role("button", name="Fraud")).to_have_count(0)
        expect(page.get_by_role("textbox", name="Your name")).to_have_count(0)
        page.keyboard.press("f")
    assert served.reviews() == []


def test_who_signs_in_reviews_under_the_name_that_the_provider_vouches_for(
    served: Served, page: Page
) -> None:
    sign_in(served, page)
    expect(page.get_by_text("Signed in as mona@example.com")).to_be_visible()
    page.get_by_role("button", name="Fraud").click()
    expect(page.get_by_text("Confirmed fraud: T1")).to_be_visible()
    assert served.reviews() == [("fraud", "mona@example.com")]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Undone, T1 is again: New")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{served.address}/")
    page.goto(f"{served.address}/alerts")
    expect(page.get_by_text("Sign in first")).to_be_visible()


def test_who_is_not_among_the_analysts_cannot_review(served: Served, page: Page) -> None:
    sign_in(served, page, email="eve@example.com")
    expect(page.get_by_text("is not among those who may review (DASHBOARD_ANALYSTS)")).to_be_visible()
    expect(page.get_by_role("button", name="Fraud")).to_have_count(0)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def presses_a_button_that_is_not_there() -> None:
    """What a forged event of the browser would have the dashboard do, run as a page of it."""
    import streamlit as st

    from fraudstream.dashboard import reviewing
    from fraudstream.store.reviews import Seen

    st.session_state["analyst"] = "Mona"
    reviewing.decide(Seen("T1", 0), "fraud", "note", lambda _: None)
    reviewing.undo(Seen("T1", 0), "T1", lambda _: None)
    st.text(st.session_state["told_by_reviewing"].text)


@pytest.fixture
def in_this_process(engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("MYSQL_URL", database)
    store(engine, [Judged("T1", "U1", Decimal(2500), NOON)])
    st.cache_resource.clear()
    yield AppTest.from_function(presses_a_button_that_is_not_there, default_timeout=30)
    st.cache_resource.clear()


def test_the_writing_itself_refuses_a_session_that_has_not_signed_in(
    in_this_process: AppTest, engine: Engine
) -> None:
    in_this_process.secrets["auth"] = {"client_id": "dashboard"}
    in_this_process.run()
    assert [each.value for each in in_this_process.text] == [
        "T1: Sign in first: only a signed-in analyst can review."
    ]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM labels")) == 0


def test_a_file_of_secrets_that_cannot_be_read_opens_nothing(
    in_this_process: AppTest, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text("[auth\nbroken")
    monkeypatch.chdir(tmp_path)
    in_this_process.run()
    assert [each.value for each in in_this_process.text] == [
        "T1: secrets.toml cannot be read, so nobody can sign in."
    ]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM labels")) == 0


def test_without_a_login_the_same_press_is_stored_under_the_name_given(
    in_this_process: AppTest, engine: Engine
) -> None:
    in_this_process.run()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT recorded_by FROM labels")) == "Mona (name not checked)"
