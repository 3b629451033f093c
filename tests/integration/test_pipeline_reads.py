"""The pipeline's page reads what batches, mails and parts wrote, whether the job runs or not."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson
import pytest
from sqlalchemy import Engine, text

from fraudstream.store.reads import pipeline as reads
from fraudstream.store.reads.pipeline import read_operation
from fraudstream.store.status import set_status
from fraudstream.store.tables import batch_metrics, dead_letters
from tests.support.transactions import random_transactions, store

NEWEST = datetime.fromisoformat("2026-03-01 12:00:00")
HOUR = timedelta(hours=1)
STEP = HOUR / reads.STEPS


def batch(seconds_ago: float, stored: int, **other: object) -> dict[str, object]:
    committed_at = NEWEST - timedelta(seconds=seconds_ago)
    row = {
        "topic": "transactions",
        "started_at": committed_at - timedelta(seconds=1),
        "committed_at": committed_at,
        "stored": stored,
        "flagged": 0,
        "duplicates": 0,
        "rejected": 0,
        "lag": 0,
        "lag_by_partition": "{}",
        "stage_ms": '{"judge": 10.0, "commit": 5.0}',
        "latency_ms": "{}",
    }
    texts = {name: orjson.dumps(value).decode() for name, value in other.items() if isinstance(value, dict)}
    return {**row, **other, **texts}


def add_batches(engine: Engine, *rows: dict[str, object]) -> None:
    with engine.begin() as connection:
        connection.execute(batch_metrics.insert(), list(rows))


def batches_of(engine: Engine, window: timedelta = HOUR) -> reads.Batches:
    found = read_operation(engine, window).batches
    assert found is not None
    return found


def test_batches_are_added_up_by_steps_of_the_window_and_older_ones_are_not_in_it(engine: Engine) -> None:
    add_batches(
        engine,
        batch(3600, 1_000),
        batch(3599, 7),
        batch(61, 20, flagged=2, duplicates=3, rejected=1),
        batch(59, 30, lag=5, lag_by_partition={"0": 5}),
        batch(0, 50, lag=9, lag_by_partition={"0": 2, "1": 7}),
    )
    found = batches_of(engine)
    assert (found.until, found.step, found.sampled) == (NEWEST, STEP, 1)
    shown = found.frame[["start", "batches", "rows", "stored", "flagged", "lag"]]
    assert shown.to_numpy().tolist() == [
        [NEWEST - HOUR, 1, 7, 7, 0, 0],
        [NEWEST - 2 * STEP, 1, 24, 20, 2, 0],
        [NEWEST - STEP, 2, 80, 80, 0, 9],
    ]
    assert found.lag.to_numpy().tolist() == [[NEWEST - STEP, 0, 2], [NEWEST - STEP, 1, 7]]


def test_stages_are_means_and_latency_is_weighted_by_rows(engine: Engine) -> None:
    add_batches(
        engine,
        batch(2, 100, stage_ms={"judge": 10, "commit": 6}, latency_ms={"p50": 10, "p95": 20, "p99": 30}),
        batch(1, 300, stage_ms={"judge": 30, "commit": 8}, latency_ms={"p50": 50, "p95": 60, "p99": 90}),
        batch(0, 5_000, stage_ms={"judge": 20, "commit": 10}),
    )
    found = batches_of(engine)
    assert found.stages[["stage", "ms"]].to_numpy().tolist() == [["judge", 20.0], ["commit", 8.0]]
    assert found.latency[["p50", "p95", "p99"]].to_numpy().tolist() == [[40.0, 50.0, 90.0]]


def test_of_very_many_batches_the_json_of_some_is_read_and_all_rows_are_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "MOST_BATCHES", 10)
    add_batches(
        engine, *(batch(number, 2, latency_ms={"p50": 1, "p95": 2, "p99": 3}) for number in range(95))
    )
    found = batches_of(engine)
    assert found.sampled == 10
    assert found.frame["rows"].sum() == 190
    assert found.stages["ms"].isin([10.0, 5.0]).all()
    assert found.latency["p95"].tolist() == [2.0] * len(found.latency)


def test_without_a_batch_there_is_nothing_to_show(engine: Engine) -> None:
    operation = read_operation(engine, HOUR)
    assert operation.batches is None
    assert operation.rejected.empty and operation.examples.empty and operation.outbox.errors.empty
    assert operation.job == reads.Job(False, None, None)


def test_the_job_is_down_once_its_lease_is_old(engine: Engine) -> None:
    def lease(age_s: float) -> reads.Job:
        with engine.begin() as connection:
            renewed = text(
                "REPLACE INTO writer_lease VALUES ('l', 'h:1:t', UTC_TIMESTAMP(6) - INTERVAL :age SECOND)"
            )
            connection.execute(renewed, {"age": age_s})
        return read_operation(engine, HOUR).job

    assert lease(0).running
    down = lease(11)
    assert (down.running, down.holder) == (False, "h:1:t")
    assert down.seen_at is not None


def test_the_jobs_trouble_is_what_it_last_said_unless_all_is_well(engine: Engine) -> None:
    def trouble() -> tuple[str, str] | None:
        found = read_operation(engine, HOUR).job.trouble
        return found and (found.state, found.message)

    set_status(engine, "model", "error", "of another part")
    assert trouble() is None
    for state in ("error", "warning"):
        set_status(engine, "job", state, "what happened")  # type: ignore[arg-type]
        assert trouble() == (state, "what happened")
    set_status(engine, "job", "ok", "runs again; what happened")
    assert trouble() is None


def test_dead_letters_by_reason_with_the_newest_of_each(engine: Engine) -> None:
    common = {"topic_id": "i", "partition_id": 0, "topic": "t", "kafka_time": NEWEST}
    reasons = ["not JSON"] * 5 + ["no Amount"]
    with engine.begin() as connection:
        connection.execute(
            dead_letters.insert(),
            [
                {
                    **common,
                    "offset": n,
                    "reason": reason,
                    "value": b"x" * 1_000,
                    "rejected_at": NEWEST + n * STEP,
                }
                for n, reason in enumerate(reasons)
            ],
        )
    operation = read_operation(engine, HOUR)
    assert operation.rejected.to_numpy().tolist() == [
        ["not JSON", 5, NEWEST + 4 * STEP],
        ["no Amount", 1, NEWEST + 5 * STEP],
    ]
    assert operation.examples["offset"].tolist() == [4, 3, 2, 5]
    assert {len(value) for value in operation.examples["value"]} == {reads.SHOWN_BYTES}


def test_the_outbox_by_state_and_its_troubles(engine: Engine) -> None:
    rows = random_transactions(60, seed=3)
    store(engine, rows)
    flagged = sum(row.is_fraud == "YES" for row in rows)
    mail = (
        "INSERT INTO mails (message_id, state, recipients, remaining, attempts, last_error, created_at, "
        "next_attempt_at) VALUES ('<{0}>', '{1}', '[]', '[]', 3, {2}, NOW(), NOW())"
    )
    with engine.begin() as connection:
        for number, (state, error) in enumerate(
            [
                ("sent", "'greylisted once'"),
                ("sending", "NULL"),
                ("sending", "'421 later'"),
                ("failed", "'550 no'"),
            ]
        ):
            connection.execute(text(mail.format(number, state, error)))
    outbox = read_operation(engine, HOUR).outbox
    assert outbox.states.to_numpy().tolist() == [
        ["alerts", "waiting", flagged],
        ["mails", "sending", 2],
        ["mails", "sent", 1],
        ["mails", "failed", 1],
    ]
    assert outbox.errors["last_error"].tolist() == ["550 no", "421 later"]
    assert outbox.oldest_waiting is not None
