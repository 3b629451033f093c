"""The pictures of README and docs, from the demo as it runs: `make screenshots`.

Starts a demo of its own, waits until all of the shipped data are stored, and takes a picture of each page.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV, child_environment
from tests.support.browsing import Dashboard, browser_executable
from tests.support.waiting import wait_until

PICTURES = PROJECT_DIR / "docs" / "images"
MOST_BYTES = 300_000
RATE = 80
# Duplicates and the cool-down of mails leave less than the file has lines.
ENOUGH = 0.95
PATIENCE_S = 600
BEFORE_A_FULL_STOP_S = 60
NARROW = 390


@dataclass(frozen=True)
class Picture:
    name: str
    path: str
    width: int = 1280
    height: int = 1400
    theme: str = "light"


def pictures(flagged: str, user: str) -> list[Picture]:
    return [
        Picture("overview", "?period=Week", height=1560),
        Picture("overview-dark", "?period=Week", height=1560, theme="dark"),
        Picture("overview-narrow", "?period=Week", width=NARROW, height=1400),
        Picture("alerts", "alerts", height=1000),
        Picture("transaction", f"transaction?id={flagged}", height=1400),
        Picture("user", f"user?id={user}", height=1200),
        Picture("rules-and-model", "rules", height=1400),
        Picture("pipeline", "pipeline", height=1300),
    ]


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with running_demo() as address, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=browser_executable(), args=arguments)
        flagged, user = newest_flagged(browser, address)
        for picture in pictures(flagged, user):
            take(browser, address, picture)
        browser.close()


@contextmanager
def running_demo() -> Iterator[str]:
    """The address of the dashboard of a demo whose data are all in."""
    rows = sum(1 for _ in TRANSACTIONS_CSV.open(encoding="utf-8")) - 1
    with tempfile.TemporaryDirectory() as state, (Path(state) / "log").open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "fraudstream", "demo", "--rate", str(RATE)],
            cwd=PROJECT_DIR,
            env=child_environment(XDG_STATE_HOME=state, TZ="Africa/Cairo"),
            stdout=output,
            stderr=subprocess.STDOUT,
        )

        def said() -> str:
            return (Path(state) / "log").read_text(errors="replace")

        try:
            wait_until(
                lambda: demo.poll() is not None or _stored(said()) > ENOUGH * rows,
                timeout=PATIENCE_S,
                describe=lambda: f"the demo has stored its data; it said: {said()[-2000:]}",
            )
            address = re.search(r"^Dashboard: +(\S+)$", said(), re.MULTILINE)
            assert address is not None, said()
            yield address[1]
        finally:
            demo.send_signal(signal.SIGINT)
            try:
                demo.wait(BEFORE_A_FULL_STOP_S)
            except subprocess.TimeoutExpired:
                demo.kill()


def _stored(said: str) -> int:
    counts = re.findall(r"stored=(\d+)", said)
    return int(counts[-1]) if counts else 0


def newest_flagged(browser: Browser, address: str) -> tuple[str, str]:
    """TransactionID and UserID of the newest flagged transaction."""
    page = opened(browser, Picture("feed", ""))
    page.goto(f"{address}/?fraud_only=true")
    feed = Dashboard(page)
    found = feed.column("feed", "Transaction")[0], feed.column("feed", "User")[0]
    page.context.close()
    return found


def opened(browser: Browser, picture: Picture) -> Page:
    return browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme="dark" if picture.theme == "dark" else "light",
        reduced_motion="reduce",
    ).new_page()


def take(browser: Browser, address: str, picture: Picture) -> None:
    page = opened(browser, picture)
    page.goto(f"{address}/{picture.path}")
    page.locator(".js-plotly-plot .main-svg, [data-testid=stDataFrame] canvas").first.wait_for()
    page.wait_for_timeout(4_000)  # for whatever is below the first one
    page.get_by_test_id("stStatusWidget").wait_for(state="hidden")
    small = smallest(page.screenshot())
    page.context.close()
    assert len(small) < MOST_BYTES, f"{picture.name} has {len(small):,} bytes"
    (PICTURES / f"{picture.name}.png").write_bytes(small)
    print(f"{picture.name}.png: {len(small):,} bytes")


def smallest(png: bytes) -> bytes:
    """The same picture in 256 colours of its own."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main()
