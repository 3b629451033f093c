"""The real dashboard process, and what a person reads on its page."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    ViewportSize,
    expect,
)

from fraudstream.config import PROJECT_DIR, child_environment, program_on_path
from tests.support.ports import free_port
from tests.support.waiting import wait_until

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REFRESH_MS = 10_000
# A refresh, on a machine that is busy with other tests.
WITHIN_A_REFRESH_MS = REFRESH_MS + 15_000
_STOP_S = 10
# A phone, upright.
NARROW: ViewportSize = {"width": 390, "height": 844}
ROW_PX = 33
# One call for the whole table: between two, the grid may have been drawn anew.
_CELLS_BY_COLUMN = """grids => grids.map(grid => Object.fromEntries(
    [...grid.querySelectorAll("th")].map((heading, index) => [
        heading.textContent,
        [...grid.querySelectorAll(`td[aria-colindex='${index + 1}']`)].map(cell => cell.textContent),
    ])
))"""
# The page scrolls in the element main; what lies around it is cut off, and never wider than the window.
_BEYOND_THE_RIGHT_EDGE = """main => {
    const edge = main.getBoundingClientRect().left + main.clientWidth + 0.5;
    const wider = main.scrollWidth - main.clientWidth;
    const beyond = [...main.querySelectorAll("button, input, textarea, [data-testid=stMetric]")]
        .filter(each => each.getBoundingClientRect().right > edge)
        .map(each => `${each.tagName} ${each.ariaLabel || each.textContent}`);
    return [...(wider > 0 ? [`${wider} px of the page`] : []), ...beyond];
}"""
_PROBE = re.compile(r"127\.0\.0\.1:\d+/[a-z]+/_stcore/(health|host-config)$")


def expect_no_foreign_markup(page: Page) -> None:
    """No text became a link that runs a script, a broken image, or a script beside the page's own."""
    scripts = page.locator("#root script")
    expect(scripts).not_to_have_count(0)  # the page's own may come last
    assert ["heldKeysCountOnce" in text for text in scripts.all_text_contents()] == [True]
    assert page.locator("#root a[href^=javascript], #root img[src=x]").count() == 0


def open_up(within: Page | Locator, label: str) -> None:
    """Open what is folded away under a label. While the page is still being drawn it may move under the
    mouse, and the click is lost."""
    fold = within.locator("details").filter(has_text=label)
    wait_until(
        lambda: fold.get_attribute("open") is not None or fold.locator("summary").click(),
        timeout=WITHIN_A_REFRESH_MS / 1000,
        describe=f"{label} is open",
    )


def browser_executable() -> Path | None:
    """The Chromium on the PATH; None leaves it to Playwright, which names what to install."""
    return next(filter(None, map(program_on_path, BROWSER_NAMES)), None)


@contextmanager
def running_dashboard(
    log: Path, *, folder: Path = PROJECT_DIR, port: int | None = None, **environment: str
) -> Iterator[str]:
    """The dashboard of `folder` as a process on a free port, or that one; yields its address when it answers.

    Close pages that show it before it ends: without it they fill the console with errors.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", "dashboard.py", "--server.port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=child_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: process.poll() is not None or _answers(f"{address}/_stcore/health"),
            timeout=60,
            describe=lambda: f"the dashboard answers; its log: {log.read_text()}",
        )
        assert process.poll() is None, f"the dashboard ended: {log.read_text()}"
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def expect_no_wider_than_the_screen(page: Page) -> None:
    """Nothing of what the page shows now is beyond its right edge."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    beyond = page.get_by_test_id("stMain").evaluate(_BEYOND_THE_RIGHT_EDGE)
    assert not beyond, f"beyond the right edge: {beyond}"


class Watch:
    """What went wrong in a page that a person would not see: errors, scripts that ran, requests elsewhere."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        context.route(lambda url: urlsplit(url).hostname != "127.0.0.1", self._refuse)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"script error: {error.error}"))
        context.on("dialog", lambda dialog: self.complaints.append(f"a script ran: {dialog.message}"))

    def _refuse(self, route: Route) -> None:
        if not route.request.url.startswith(("data:", "blob:")):
            self.complaints.append(f"request to another host: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def _console(self, message: ConsoleMessage) -> None:
        # Opened at a page's address, Streamlit asks first whether its server lives below that: it does not.
        if message.type == "error" and not _PROBE.search(message.location["url"]):
            self.complaints.append(f"console error: {message.text}")


class Dashboard:
    """The page as a person reads it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def expect_kpis(self, *, within_ms: float = 45_000, **values: str) -> None:
        """`expect_kpis(total_transactions="10,000", …)`: waits until each number reads so."""
        for name, value in values.items():
            expect(self.kpi(name.replace("_", " ").capitalize())).to_have_text(value, timeout=within_ms)

    def expect_refresh(self) -> None:
        """Wait until the page has just refreshed itself; the next time is REFRESH_MS away."""
        updated = self.page.get_by_text("Updated 2").first
        before = updated.text_content()
        expect(updated).not_to_have_text(before or "", timeout=WITHIN_A_REFRESH_MS)

    def choose(self, what: str, label: str) -> None:
        self.page.get_by_role("combobox", name=what).click()
        self.page.get_by_role("option", name=label, exact=True).click()

    def choose_period(self, label: str) -> None:
        self.page.get_by_role("radio", name=label, exact=True).click()

    def toggle_fraud_only(self) -> None:
        self.page.get_by_text("Fraud only", exact=True).click()

    def table(self, heading: str) -> Locator:
        """The grid's own table for screen readers; it has the rows that are in view."""
        return self.page.locator(f".st-key-{heading} table[role=grid]")

    def columns(self, heading: str) -> dict[str, list[str]]:
        """The cells of each column, of the rows in view, all of one moment (a grid may be drawn anew)."""
        grids = self.table(heading).evaluate_all(_CELLS_BY_COLUMN)
        cells: dict[str, list[str]] = grids[0] if grids else {}
        return cells

    def column(self, heading: str, name: str) -> list[str]:
        """The cells of a column, of the rows in view, as soon as there are any."""
        seen: list[str] = []

        def has_cells() -> bool:
            seen[:] = self.columns(heading).get(name, [])
            return bool(seen)

        wait_until(
            has_cells,
            timeout=WITHIN_A_REFRESH_MS / 1000,
            describe=lambda: f"{heading} has cells in a column {name}; it has {self.columns(heading)}",
        )
        return seen

    def select_row(self, heading: str, row: int) -> None:
        """Tick the box in front of a row; the grid is drawn, so the box is found by its place."""
        grid = self.page.locator(f".st-key-{heading}").get_by_test_id("stDataFrame")
        grid.scroll_into_view_if_needed()
        box = grid.bounding_box()
        assert box is not None, f"{heading} is not shown"
        self.page.mouse.click(box["x"] + 16, box["y"] + ROW_PX * (row + 1.5))

    def expect_column(self, heading: str, name: str, cells: list[str]) -> None:
        """Wait until the column shows exactly these cells: a table is drawn a moment after the totals."""
        self._expect_cells(heading, name, lambda seen: seen == cells, f"are {cells}")

    def expect_column_begins(self, heading: str, name: str, cells: list[str]) -> None:
        """Wait until the column shows these cells first, where more are in view below them."""
        self._expect_cells(heading, name, lambda seen: seen[: len(cells)] == cells, f"begin with {cells}")

    def _expect_cells(
        self, heading: str, name: str, are_right: Callable[[list[str]], bool], what: str
    ) -> None:
        seen: list[str] = []

        def shows_them() -> bool:
            columns = self.columns(heading)
            seen[:] = columns.get(name, [f"no such column: {list(columns)}"])
            return are_right(seen)

        wait_until(
            shows_them,
            timeout=WITHIN_A_REFRESH_MS / 1000,
            describe=lambda: f"the cells of {heading}.{name} {what}; they are {seen}",
        )

    def bar_labels(self, chart: str) -> list[str]:
        """The names beside the bars of a chart, from top to bottom."""
        ticks = self.chart(chart).locator(".yaxislayer-above .ytick text")
        ticks.first.wait_for(state="attached")
        return ticks.all_text_contents()

    def chart(self, name: str) -> Locator:
        return self.page.locator(f"[class*='st-key-{name}'] .js-plotly-plot")

    def kpi(self, label: str) -> Locator:
        """The number under this label."""
        name = self.page.get_by_test_id("stMetricLabel").filter(has_text=re.compile(f"^{label}"))
        return self.page.get_by_test_id("stMetric").filter(has=name).get_by_test_id("stMetricValue")

    def change(self, label: str) -> Locator:
        """How the number under this label differs from that of the period before."""
        name = self.page.get_by_test_id("stMetricLabel").filter(has_text=re.compile(f"^{label}"))
        return self.page.get_by_test_id("stMetric").filter(has=name).get_by_test_id("stMetricDelta")
