"""The queue of alerts in a real browser: found, reviewed by keys, undone, shared by two, exported."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect
from sqlalchemy import Engine, delete, text
from sqlalchemy.engine import make_url
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from fraudstream.dashboard.alerts import ECHO_S
from fraudstream.store.migrate import migrate
from fraudstream.store.reads.queue import SEARCHED
from fraudstream.store.reads.snapshot import open_engine
from fraudstream.store.tables import metadata
from tests.support.browsing import (
    NARROW,
    WITHIN_A_REFRESH_MS,
    Dashboard,
    Watch,
    expect_no_foreign_markup,
    expect_no_wider_than_the_screen,
)
from tests.support.transactions import Judged, store
from tests.support.waiting import wait_until

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
TRAVEL = {"code": "IMPOSSIBLE_TRAVEL", "km": 500.0, "kmh": 2000.0, "limit": 900.0, "ratio": 4.5}
HIGH = {"code": "AMOUNT_OVER_2000", "amount": 2500.0, "limit": 2000.0}
# The first page of a process, on a machine that is busy with other tests.
FIRST_PAGE_MS = 60_000
HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x","y")',
    "**bold** [link](javascript:alert(3)) `code` $$x$$ :red[x] # head",
    "😀 \u202eright to left مرحبا",
)


@dataclass(frozen=True)
class Queue:
    """A page that shows the alerts, and what the test does there as an analyst."""

    page: Page

    @property
    def panel(self) -> Locator:
        return self.page.locator(".st-key-review")

    def open(self, address: str, query: str = "", *, name: str | None = "Mona") -> None:
        self.page.goto(f"{address}/alerts{query}")
        expect(self.page.get_by_role("heading", name="Alerts")).to_be_visible(timeout=FIRST_PAGE_MS)
        # A browser fetches each kind of widget when it first meets one; until then the page moves.
        expect(self.page.get_by_role("combobox", name="Reason")).to_be_visible()
        expect(self.page.get_by_role("searchbox", name="Search")).to_be_visible()
        if name is not None:
            self.introduce(name)

    def introduce(self, name: str) -> None:
        field = self.page.get_by_role("textbox", name="Your name")
        field.fill(name)
        field.press("Enter")
        expect(self.page.get_by_role("button", name="Fraud")).to_be_enabled()

    def press(self, key: str) -> None:
        self.page.get_by_role("heading", name="Alerts").click()
        self.page.keyboard.press(key)

    def expect_chosen(self, transaction_id: str) -> None:
        """All of the page is about it: what is typed before that may go to the note of the one before."""
        expect(self.panel).to_contain_text(f"Transaction {transaction_id}")
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")

    def places(self) -> list[tuple[float, float]]:
        """Where the table and the panel begin."""
        boxes = [self.page.locator(part).bounding_box() for part in (".st-key-queue", ".st-key-review")]
        assert None not in boxes
        return [(box["x"], box["y"]) for box in boxes if box]

    def expect_told(self, words: str) -> None:
        expect(self.page.locator(".st-key-told")).to_contain_text(words)


class SlowLine:
    """A page's line from the server: what comes while it is held arrives when it is let go."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._held: list[bytes | str] | None = None
        page.route_web_socket(re.compile(r"/_stcore/stream"), self._connect)

    def hold(self) -> None:
        self._held = []

    def let_go(self) -> None:
        held, self._held = self._held or [], None
        for message in held:
            self._to_page.send(message)

    def wait_for_answers(self, number: int) -> None:
        """Wait until the server has done what it was asked, so many times since the line is held."""

        def answered() -> bool:
            self._page.wait_for_timeout(20)  # messages arrive meanwhile
            kinds = [ForwardMsg.FromString(each).WhichOneof("type") for each in self._held or []]  # type: ignore[arg-type]
            return kinds.count("script_finished") >= number

        wait_until(answered, timeout=20, describe=f"{number} answers of the server")

    def _connect(self, to_page: WebSocketRoute) -> None:
        self._to_page, to_server = to_page, to_page.connect_to_server()
        to_page.on_message(to_server.send)
        to_server.on_message(self._pass_on)

    def _pass_on(self, message: bytes | str) -> None:
        if self._held is None:
            self._to_page.send(message)
        else:
            self._held.append(message)


@dataclass(frozen=True)
class Filled:
    engine: Engine
    address: str

    def word(self, transaction_id: str) -> tuple[str, str, str | None] | None:
        """(label, recorded_by, note) of the transaction's review."""
        statement = (
            "SELECT label, recorded_by, note FROM labels WHERE TransactionID = :id AND source = 'review'"
        )
        with self.engine.connect() as connection:
            row = connection.execute(text(statement), {"id": transaction_id}).one_or_none()
        return None if row is None else tuple(row)


def alert(number: int, *, prefix: str = "A", minutes: int | None = None, **other: object) -> Judged:
    reasons = orjson.dumps([TRAVEL] if number % 2 else [HIGH]).decode()
    time = NOON + timedelta(minutes=number if minutes is None else minutes)
    row = {
        "amount": Decimal(2500),
        "reasons": reasons,
        "location": "Giza" if number % 2 else "Cairo",
        **other,
    }
    return Judged(f"{prefix}{number}", f"U{number % 3}", time=time, **row)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def served(new_database: Callable[[], str], start_dashboard: Callable[..., str]) -> Iterator[Filled]:
    url = new_database()
    engine = open_engine(make_url(url))
    migrate(engine)
    yield Filled(engine, start_dashboard(MYSQL_URL=url))
    engine.dispose()


@pytest.fixture
def filled(served: Filled) -> Iterator[Filled]:
    """Nine alerts A0 to A8, the last one the newest, and a transaction that is not flagged; no reviews."""
    store(served.engine, [*(alert(number) for number in range(9)), Judged("plain", "U1", Decimal(5), NOON)])
    yield served
    empty(served.engine)


_FILLED = ("clean_data", "alerts", "labels", "rule_daily", "score_daily")


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in metadata.tables.values():
            if table.name in _FILLED or table.name.startswith("rollup_"):
                connection.execute(delete(table))


@pytest.fixture
def queue(page: Page) -> Queue:
    return Queue(page)


@pytest.fixture
def second(browser: Browser) -> Iterator[Queue]:
    """Another analyst, in a browser of their own."""
    context = browser.new_context(viewport={"width": 1280, "height": 1200})
    watch = Watch(context)
    yield Queue(context.new_page())
    context.close()
    assert watch.complaints == []


def test_the_queue_is_reviewed_by_keys_and_a_review_is_undone(
    filled: Filled, queue: Queue, dashboard: Dashboard
) -> None:
    queue.open(filled.address)
    dashboard.expect_column("queue", "Transaction", [f"A{number}" for number in range(8, -1, -1)])
    queue.expect_chosen("A8")
    expect(queue.panel).to_contain_text("Amount 2,500.00 is over 2,000.00")

    queue.press("j")
    queue.expect_chosen("A7")
    expect(queue.panel).to_contain_text("500 km in the time since the last transaction: 2,000 km/h, over 900")
    note = queue.page.get_by_role("textbox", name="Note")
    note.fill("fun at the beach, all in order")  # the letters of the keys are letters here
    note.press("Tab")
    queue.press("k")
    queue.expect_chosen("A8")
    queue.press("j")
    queue.expect_chosen("A7")
    expect(note).to_have_value("fun at the beach, all in order")  # the draft has waited
    queue.press("l")
    queue.expect_told("Legitimate: A7")
    dashboard.expect_column("queue", "Transaction", ["A8", *(f"A{number}" for number in range(6, -1, -1))])
    queue.expect_chosen("A6")
    assert filled.word("A7") == ("legitimate", "Mona (name not checked)", "fun at the beach, all in order")

    queue.press("k")
    queue.expect_chosen("A8")
    queue.press("f")
    queue.expect_told("Confirmed fraud: A8")
    assert filled.word("A8") == ("fraud", "Mona (name not checked)", None)
    queue.press("u")
    queue.expect_told("Undone, A8 is again: New")
    queue.expect_chosen("A8")
    queue.press("u")
    queue.expect_told("Undone, A7 is again: New")
    dashboard.expect_column("queue", "Transaction", [f"A{number}" for number in range(8, -1, -1)])


def test_a_request_on_its_way_takes_no_choice_back(
    filled: Filled, queue: Queue, dashboard: Dashboard
) -> None:
    """It says which row the page shows, and that is the one before the key, as long as no answer has come."""
    line = SlowLine(queue.page)
    queue.open(filled.address, name=None)
    queue.expect_chosen("A8")
    queue.press("j")
    queue.expect_chosen("A7")
    line.hold()
    queue.press("j")
    queue.page.get_by_role("button", name="Refresh").click()
    line.wait_for_answers(2)
    line.let_go()
    queue.expect_chosen("A6")
    queue.page.wait_for_timeout(ECHO_S * 1000)
    dashboard.select_row("queue", 1)  # no request from before the key is on its way any more
    queue.expect_chosen("A7")


def test_a_decision_is_about_the_alert_that_was_seen(filled: Filled, queue: Queue) -> None:
    line = SlowLine(queue.page)
    queue.open(filled.address)
    queue.expect_chosen("A8")
    line.hold()
    queue.press("j")
    line.wait_for_answers(1)
    queue.press("f")  # A8 is seen still, A7 is chosen
    queue.press("f")
    line.wait_for_answers(2)
    line.let_go()
    queue.expect_told("Confirmed fraud: A8")
    queue.expect_chosen("A7")
    assert filled.word("A7") is None
    assert filled.word("A8") == ("fraud", "Mona (name not checked)", None)

    queue.press("f")
    queue.expect_told("Confirmed fraud: A7")
    queue.expect_chosen("A6")
    line.hold()
    queue.press("u")
    line.wait_for_answers(1)
    queue.press("u")  # the review of A7 is seen to be the last one still
    line.wait_for_answers(2)
    line.let_go()
    queue.expect_told("Undone, A7 is again: New")
    assert filled.word("A8") == ("fraud", "Mona (name not checked)", None)


def test_a_key_that_is_held_decides_once_and_steps_on(filled: Filled, queue: Queue) -> None:
    queue.open(filled.address)
    queue.expect_chosen("A8")
    keyboard = queue.page.keyboard
    queue.page.get_by_role("heading", name="Alerts").click()
    keyboard.down("f")
    queue.expect_told("Confirmed fraud: A8")
    queue.expect_chosen("A7")
    keyboard.down("f")  # again, without an end of the first: that is how a browser repeats
    keyboard.down("f")
    keyboard.down("j")
    queue.expect_chosen("A6")
    keyboard.down("j")
    queue.expect_chosen("A5")
    keyboard.up("f")
    keyboard.up("j")
    assert filled.word("A7") is None

    note = queue.page.get_by_role("textbox", name="Note")
    note.focus()
    for _ in range(3):
        keyboard.down("f")
    keyboard.up("f")
    expect(note).to_have_value("fff")
    note.press("Tab")
    queue.press("f")
    queue.expect_told("Confirmed fraud: A5")
    assert filled.word("A5") == ("fraud", "Mona (name not checked)", "fff")


def test_the_second_of_two_analysts_is_told_who_was_first(
    filled: Filled, queue: Queue, second: Queue
) -> None:
    queue.open(filled.address)
    second.open(filled.address, name="Sami")
    for each in (queue, second):
        each.expect_chosen("A8")
    queue.page.get_by_role("button", name="Fraud").click()
    queue.expect_told("Confirmed fraud: A8")

    second.page.get_by_role("button", name="Legitimate").click()
    second.expect_told("Mona (name not checked) has reviewed this transaction meanwhile and says: fraud")
    expect(second.panel).to_contain_text("Confirmed fraud, says Mona")
    assert filled.word("A8") == ("fraud", "Mona (name not checked)", None)

    second.page.get_by_role("button", name="Legitimate").click()  # now with open eyes
    second.expect_told("Legitimate: A8")
    assert filled.word("A8") == ("legitimate", "Sami (name not checked)", None)
    queue.press("u")
    queue.expect_told("A8: Sami (name not checked) has reviewed this transaction meanwhile")
    queue.press("j")
    queue.expect_chosen("A6")
    expect(queue.page.get_by_text("has reviewed this transaction meanwhile")).to_have_count(0)
    assert filled.word("A8") == ("legitimate", "Sami (name not checked)", None)


def test_what_comes_meanwhile_waits_behind_a_button(
    filled: Filled, queue: Queue, dashboard: Dashboard
) -> None:
    queue.open(filled.address, name=None)
    queue.expect_chosen("A8")
    expect(queue.page.get_by_role("button", name="No newer alerts")).to_be_disabled()
    places = queue.places()
    store(filled.engine, [alert(1, prefix="later", minutes=60), alert(2, prefix="late", minutes=-60)])
    queue.page.get_by_role("button", name="Refresh").click()
    expect(queue.page.get_by_role("button", name="Show 2 newer alerts")).to_be_visible()
    assert queue.places() == places
    dashboard.expect_column("queue", "Transaction", [f"A{number}" for number in range(8, -1, -1)])
    queue.press("n")
    expected = ["later1", *(f"A{number}" for number in range(8, -1, -1)), "late2"]
    dashboard.expect_column("queue", "Transaction", expected)
    queue.expect_chosen("later1")


def test_an_undone_review_is_chosen_again_also_where_it_never_left_the_page(
    filled: Filled, queue: Queue
) -> None:
    queue.open(filled.address, "?state=All")
    queue.expect_chosen("A8")
    queue.press("f")
    queue.expect_chosen("A7")
    queue.press("k")
    queue.expect_chosen("A8")
    queue.press("u")
    queue.expect_told("Undone, A8 is again: New")
    queue.expect_chosen("A8")


def test_state_reason_and_search_find_and_are_in_the_address(
    filled: Filled, queue: Queue, dashboard: Dashboard
) -> None:
    queue.open(filled.address)
    queue.page.get_by_role("button", name="Fraud").click()
    queue.expect_told("Confirmed fraud: A8")
    queue.page.get_by_role("radio", name="Confirmed fraud").click()
    dashboard.expect_column("queue", "Transaction", ["A8"])
    queue.page.get_by_role("radio", name="All").click()
    dashboard.expect_column("queue", "State", ["Confirmed fraud", *["New"] * 8])

    queue.page.get_by_role("combobox", name="Reason").click()
    queue.page.get_by_role("option", name="Impossible travel").click()
    dashboard.expect_column("queue", "Transaction", ["A7", "A5", "A3", "A1"])
    search = queue.page.get_by_role("searchbox", name="Search")
    search.fill("U1")
    search.press("Enter")
    dashboard.expect_column("queue", "Transaction", ["A7", "A1"])
    expect(queue.page).to_have_url(re.compile(r"reason=Impossible.travel.*search=U1.*state=All"))
    queue.page.reload()
    dashboard.expect_column("queue", "Transaction", ["A7", "A1"])
    search.fill("nothing like it")
    search.press("Enter")
    expect(queue.page.get_by_text("No alert matches.")).to_be_visible()


def test_long_queues_have_pages_and_a_click_on_a_row_chooses_it(
    filled: Filled, queue: Queue, dashboard: Dashboard
) -> None:
    store(filled.engine, [alert(number, prefix="B", minutes=100 + number) for number in range(60)])
    queue.open(filled.address, name=None)
    expect(queue.page.get_by_text("50 alerts, newest first")).to_be_visible()
    queue.page.get_by_role("button", name="Older").click()
    expect(queue.page.get_by_text("19 alerts, newest first")).to_be_visible()
    dashboard.expect_column_begins("queue", "Transaction", ["B9", "B8"])
    queue.expect_chosen("B9")
    dashboard.select_row("queue", 3)
    queue.expect_chosen("B6")
    queue.page.get_by_role("button", name="Newer", exact=True).click()
    queue.expect_chosen("B59")


def test_the_export_holds_what_the_filter_shows_and_no_formula(
    filled: Filled, queue: Queue, tmp_path: Path
) -> None:
    hostile = [
        Judged(f"{name}"[:64], name, Decimal(9000), NOON + timedelta(hours=1), name, name, name)
        for name in HOSTILE
    ]
    store(filled.engine, hostile)
    queue.open(filled.address, "?state=All", name="=cmd")
    queue.page.get_by_role("button", name="Fraud").click()
    queue.expect_told("Confirmed fraud")
    with queue.page.expect_download() as started:
        queue.page.get_by_role("button", name="CSV", exact=True).click()
    started.value.save_as(tmp_path / "alerts.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "alerts.csv").read_text(encoding="utf-8-sig"))))
    assert len(rows) == 9 + len(HOSTILE)
    assert {row["Location"].removeprefix("'") for row in rows} == {*HOSTILE, "Giza", "Cairo"}
    assert [row["TransactionID"] for row in rows[-2:]] == ["A1", "A0"]
    cells = [cell for row in rows for cell in row.values()]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert "'=cmd (name not checked)" in cells


def test_hostile_texts_are_shown_letter_by_letter(filled: Filled, queue: Queue, dashboard: Dashboard) -> None:
    reasons = orjson.dumps([{"code": "<script>alert(4)</script> **x**"}]).decode()
    rows = [
        Judged(f"{n}{name}"[:64], name, Decimal(n), NOON + timedelta(hours=n), name, name, name, reasons)
        for n, name in enumerate(HOSTILE, 1)
    ]
    store(filled.engine, rows)
    queue.open(filled.address, name="<img src=x onerror=alert(5)>")
    expected = [row.transaction_id for row in reversed(rows)] + [f"A{number}" for number in range(8, -1, -1)]
    dashboard.expect_column("queue", "Transaction", expected)
    for row in reversed(rows):
        queue.expect_chosen(row.transaction_id)
        expect(queue.panel).to_contain_text(f"{row.user_id}, {row.user_id}, {row.user_id}")
        expect(queue.panel).to_contain_text("<script>alert(4)</script> **x**")
        queue.press("j")
    queue.expect_chosen("A8")
    queue.press("k")
    queue.expect_chosen(rows[0].transaction_id)
    note = queue.page.get_by_role("textbox", name="Note")
    note.fill(HOSTILE[0])
    note.press("Tab")
    queue.press("f")
    queue.expect_told(f"Confirmed fraud: {rows[0].transaction_id}")
    queue.page.goto(f"{filled.address}/alerts?state=Confirmed fraud&search={HOSTILE[0]}")
    expect(queue.panel).to_contain_text("says <img src=x onerror=alert(5)> (name not checked)")
    expect_no_foreign_markup(queue.page)


def test_a_narrow_screen_reviews_too_and_nobody_does_without_a_name(filled: Filled, queue: Queue) -> None:
    queue.page.set_viewport_size({**NARROW, "height": 1700})
    queue.open(filled.address, name=None)
    queue.expect_chosen("A8")
    expect(queue.page.get_by_role("button", name="Fraud")).to_be_disabled()
    queue.introduce("Mona")
    queue.page.get_by_role("button", name="Legitimate").click()
    queue.expect_told("Legitimate: A8")
    expect_no_wider_than_the_screen(queue.page)


def test_a_search_that_found_nothing_so_far_says_that_it_may_go_on(filled: Filled, queue: Queue) -> None:
    store(filled.engine, [alert(number, prefix="B") for number in range(SEARCHED)])
    queue.open(filled.address, "?search=nothing like it", name=None)
    expect(queue.page.get_by_text("None of the alerts looked at so far matches.")).to_be_visible()
    queue.page.get_by_role("button", name="Older").click()
    expect(queue.page.get_by_text("No alert matches.")).to_be_visible()


def test_an_empty_database_is_no_error_and_fills(served: Filled, queue: Queue, dashboard: Dashboard) -> None:
    queue.page.goto(f"{served.address}/rules")
    expect(queue.page.get_by_text("No transactions yet.")).to_be_visible()
    queue.page.goto(f"{served.address}/transaction?id=A1")
    expect(queue.page.get_by_text("No transaction A1 is stored.")).to_be_visible()
    queue.open(served.address, name=None)
    expect(queue.page.get_by_text("No alert yet.")).to_be_visible()
    store(served.engine, [alert(1)])
    expect(queue.panel).to_contain_text("Transaction A1", timeout=WITHIN_A_REFRESH_MS)  # by itself
    queue.introduce("Mona")
    queue.page.get_by_role("button", name="Fraud").click()
    expect(queue.page.get_by_text("Nothing to review.")).to_be_visible()
    store(served.engine, [alert(2)])
    dashboard.expect_column("queue", "Transaction", ["A2"])  # by itself again
    empty(served.engine)
