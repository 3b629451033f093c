"""The pipeline's page in a real browser: while the job runs, while it is down, and before it ever ran."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
from playwright.sync_api import expect
from sqlalchemy import Engine, text

from fraudstream.store.status import set_status
from fraudstream.store.tables import batch_metrics, dead_letters, mails
from tests.support.browsing import (
    NARROW,
    WITHIN_A_REFRESH_MS,
    Dashboard,
    expect_no_foreign_markup,
    expect_no_wider_than_the_screen,
)
from tests.support.transactions import random_transactions, store
from tests.support.waiting import wait_until

HOSTILE = "<img src=x onerror=alert(1)> **b** $x$ </script>"


def batch(committed_at: datetime, rows: int) -> dict[str, object]:
    return {
        "topic": "transactions",
        "started_at": committed_at - timedelta(seconds=1),
        "committed_at": committed_at,
        "stored": rows,
        "flagged": 1,
        "duplicates": 0,
        "rejected": 0,
        "lag": 1_234,
        "lag_by_partition": orjson.dumps({"0": 1_000, "1": 234}).decode(),
        "stage_ms": orjson.dumps({"judge": 30.0, HOSTILE: 5.0}).decode(),
        "latency_ms": orjson.dumps({"p50": 100.0, "p95": 432.0, "p99": 900.0}).decode(),
    }


def renew_lease(engine: Engine, age_s: int) -> None:
    statement = "REPLACE INTO writer_lease VALUES ('l', :holder, UTC_TIMESTAMP(6) - INTERVAL :age SECOND)"
    with engine.begin() as connection:
        connection.execute(text(statement), {"holder": f"{HOSTILE}:4242:a-token", "age": age_s})


def test_it_says_how_the_pipeline_is_letter_by_letter_up_and_down(
    engine: Engine, database: str, start_dashboard: Callable[..., str], dashboard: Dashboard
) -> None:
    page = dashboard.page
    page.goto(f"{start_dashboard(MYSQL_URL=database)}/pipeline")
    never = page.get_by_text("The job has never run on this database")
    expect(never).to_be_visible(timeout=WITHIN_A_REFRESH_MS)
    expect(page.get_by_text("No batch has been committed yet")).to_be_visible()

    now = datetime.now(UTC).replace(tzinfo=None)
    letter = {"topic_id": "i", "topic": HOSTILE, "partition_id": 0, "kafka_time": now, "rejected_at": now}
    mail = {
        "message_id": f"<{HOSTILE}>", "state": "failed", "recipients": "[]", "remaining": "[]", "attempts": 3,
        "last_error": HOSTILE, "created_at": now, "next_attempt_at": now,
    }  # fmt: skip
    store(engine, random_transactions(40, seed=5), rejected=1)
    with engine.begin() as connection:
        batches = [batch(now - timedelta(seconds=seconds), 900) for seconds in (60, 30, 0)]
        connection.execute(batch_metrics.insert(), batches)
        value = {"reason": HOSTILE, "detail": HOSTILE, "offset": 7, "value": HOSTILE.encode() + b"\xff"}
        connection.execute(dead_letters.insert(), [{**letter, **value}])
        connection.execute(mails.insert(), [mail])
    set_status(engine, HOSTILE, "error", HOSTILE)
    renew_lease(engine, 3_600)

    job = page.locator(".st-key-job")
    expect(job).to_contain_text("The job is down", timeout=WITHIN_A_REFRESH_MS)
    expect(job).to_contain_text(f"host {HOSTILE} process 4242 was last seen 1 h ago")
    expect(job).not_to_contain_text("a-token")
    expect(dashboard.kpi("Rows per second")).to_have_text("3.0")
    expect(dashboard.kpi("Lag")).to_have_text("1,234")
    expect(dashboard.kpi("Latency p95")).to_have_text("432 ms")
    dashboard.expect_column("dead_letters", "Reason", [HOSTILE])
    dashboard.expect_column("dead_letter_examples", "Message", [f"{HOSTILE}\ufffd"])
    dashboard.expect_column("mail_errors", "Last error", [HOSTILE])
    dashboard.expect_column_begins("components", "Message", [HOSTILE])
    legend = dashboard.chart("Duration-of-a-batch").locator(".legendtext")
    wait_until(
        lambda: set(legend.all_text_contents()) == {"judge", HOSTILE},
        timeout=WITHIN_A_REFRESH_MS / 1000,
        describe=lambda: f"both stages are named, not {legend.all_text_contents()}",
    )
    expect_no_foreign_markup(page)

    expect(job).to_contain_text("it goes on where it was")

    set_status(engine, "job", "error", f"{HOSTILE} offsets accept")
    page.get_by_role("button", name="Refresh").click()
    expect(job).to_contain_text(f"(Africa/Cairo): {HOSTILE} offsets accept")
    expect(job).to_contain_text("The job is down")
    expect(job).not_to_contain_text("it goes on where it was")
    expect_no_foreign_markup(page)

    set_status(engine, "job", "ok", "runs again; all passed")
    renew_lease(engine, 0)
    page.get_by_role("button", name="Refresh").click()
    expect(job).to_contain_text("The job is running")
    expect(job).not_to_contain_text("What it last said")
    dashboard.expect_column("components", "Message", [HOSTILE, "runs again; all passed"])
    page.get_by_role("radio", name="1 hour").click()
    expect(dashboard.kpi("Rows per second")).to_have_text("0.8")
    expect(page.get_by_role("radio", name="1 hour")).to_be_checked()

    page.set_viewport_size({**NARROW, "height": 2_500})
    page.reload()
    dashboard.column("components", "Message")
    dashboard.chart("Duration-of-a-batch").locator(".legendtext").first.wait_for()
    expect_no_wider_than_the_screen(page)
