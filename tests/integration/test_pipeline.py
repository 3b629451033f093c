"""The committed CSV, and hostile records, through Kafka, Spark and the database into mails."""

from __future__ import annotations

import email
import email.policy
import json
import os
import random
import signal
import urllib.request
from collections import Counter
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import psutil
import pytest
from kafka import KafkaProducer
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.config import PROJECT_DIR, TRANSACTIONS_CSV
from fraudstream.features import transaction_features
from fraudstream.merchant_risk import no_outcomes
from fraudstream.model_store import load
from fraudstream.rules import load_rules
from fraudstream.schema import MAX_MESSAGE_BYTES
from fraudstream.stack import Stack
from fraudstream.store.progress import Progress, read_progress
from fraudstream.streaming import FEW
from tests.support.fuzz import Message
from tests.support.fuzz_run import send_all
from tests.support.jobs import run_script, running_job
from tests.support.oracle import expected_of_csv, stored_rows, usable_transactions
from tests.support.undisturbed import open_tables
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(280)


def query(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def wait_for_records(engine: Engine, topic: str, records: int, log: Path) -> Progress:
    def done() -> Progress | None:
        progress = read_progress(engine, topic)
        return progress if progress.accounted_for >= records else None

    return wait_until(done, timeout=200, describe=lambda: log.read_text(errors="replace")[-4000:])


def mails_to(inbox: str, recipient: str) -> list[EmailMessage]:
    """What the inbox holds for one recipient, fetched as its page does, and parsed."""
    with urllib.request.urlopen(f"{inbox}/api/mails") as answer:
        listed = [mail for mail in json.load(answer) if recipient in str(mail)]
    raw = [urllib.request.urlopen(f"{inbox}/mail/{mail['id']}/raw").read() for mail in listed]
    return [email.message_from_bytes(each, policy=email.policy.default) for each in raw]


def assert_books_balance(engine: Engine) -> None:
    """What the batches wrote beside the rows says the same as the rows."""
    by_rows = query(engine, "SELECT Is_Fraud, COUNT(*), SUM(Amount) FROM clean_data GROUP BY 1 ORDER BY 1")
    by_rollup = query(
        engine, "SELECT Is_Fraud, SUM(transactions), SUM(amount) FROM rollup_hourly GROUP BY 1 ORDER BY 1"
    )
    assert by_rollup == by_rows
    flagged = {row[0] for row in query(engine, "SELECT TransactionID FROM clean_data WHERE Is_Fraud = 'YES'")}
    alerted = [row[0] for row in query(engine, "SELECT TransactionID FROM alerts")]
    assert Counter(alerted) == Counter(flagged)
    totals = query(engine, "SELECT `stored`, flagged, duplicates, rejected FROM pipeline_totals")
    batches = query(
        engine, "SELECT SUM(`stored`), SUM(flagged), SUM(duplicates), SUM(rejected) FROM batch_metrics"
    )
    assert [tuple(map(int, row)) for row in batches] == totals
    rows = query(engine, "SELECT COUNT(*) FROM clean_data")[0][0]
    dead = query(engine, "SELECT COUNT(*) FROM dead_letters")[0][0]
    assert (rows, len(flagged), dead) == (totals[0][0], totals[0][1], totals[0][3])


def expected_verdicts(path: Path) -> dict[str, tuple[float, list[str]]]:
    """Score and reasons' codes of each transaction, by one offline pass of the shipped model and rules."""
    transactions = usable_transactions(pd.read_csv(path, dtype=str, keep_default_na=False).map(str.strip))
    features = transaction_features(transactions, no_outcomes()).features
    model, rules = load(PROJECT_DIR / "model_output"), load_rules()
    assert model is not None
    scores = model.score(features)
    broken = np.column_stack([rules.broken(features), scores >= model.metadata.threshold])
    codes = (*rules.codes, "MODEL")
    return {
        transaction_id: (score, [code for code, applies in zip(codes, row, strict=True) if applies])
        for transaction_id, score, row in zip(
            transactions["TransactionID"].to_pylist(), scores.tolist(), broken.tolist(), strict=True
        )
    }


def test_the_committed_csv_arrives_as_the_oracle_says(
    stack: Stack, database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    recipient = f"{topic}@example.org"
    environment = {**settings_env, "RECEIVER_EMAIL": recipient, "ALERT_COOLDOWN_SECONDS": "0"}
    engine, log = open_tables(database), tmp_path / "job.log"
    expected = expected_of_csv(TRANSACTIONS_CSV)
    with running_job(environment, log):
        sent = run_script("producer_from_csv.py", "--rate", "0", environment=environment)
        assert sent.returncode == 0, sent.stderr
        assert "sent=10050 acknowledged=10050 failed=0" in sent.stdout + sent.stderr
        progress = wait_for_records(engine, topic, 10_050, log)
        wait_until(
            lambda: (
                query(engine, "SELECT COUNT(*) FROM alerts WHERE state = 'waiting'") == [(0,)]
                and query(engine, "SELECT COUNT(*) FROM mails WHERE state <> 'sent'") == [(0,)]
            ),
            timeout=60,
            describe="every alert is mailed",
        )

    assert stored_rows(engine) == expected.rows
    assert (progress.stored, progress.duplicates) == (len(expected.rows), expected.duplicates)
    assert sorted(row[0] for row in query(engine, "SELECT reason FROM dead_letters")) == expected.rejected
    assert_books_balance(engine)

    verdicts = expected_verdicts(TRANSACTIONS_CSV)
    seen: Counter[str] = Counter()
    for transaction_id, is_fraud, score, reasons in query(
        engine, "SELECT TransactionID, Is_Fraud, score, reasons FROM clean_data"
    ):
        expected_score, codes = verdicts[transaction_id]
        assert score == expected_score
        assert [reason["code"] for reason in orjson.loads(reasons or "[]")] == codes
        assert is_fraud == ("YES" if codes else "NO")
        seen.update(codes)
    assert {"AMOUNT_OVER_2000", "MODEL"} < set(seen), "the data must show more than one rule"

    flagged = {row[0] for row in query(engine, "SELECT TransactionID FROM clean_data WHERE Is_Fraud = 'YES'")}
    mails = mails_to(stack.addresses().inbox, recipient)
    assert len({mail["Message-ID"] for mail in mails}) == len(mails)
    for kind in ("plain", "html"):
        bodies = [mail.get_body((kind,)).get_content() for mail in mails]
        assert all(sum(transaction_id in body for body in bodies) == 1 for transaction_id in flagged)

    said = log.read_text()
    assert "Streaming started" in said and "Waiting for data..." in said and "Spark UI: http" in said
    password = make_url(database).password
    assert password and password not in said


GARBAGE: list[tuple[bytes | None, str]] = [
    (None, "null message value"),
    (b"", "not JSON"),
    (b"\xff\xfe\x00garbage", "not JSON"),
    (b"{'TransactionID': 'X'}", "not JSON"),
    (b'{"TransactionID":"X"', "not JSON"),
    (b"[1, 2]", "not an object"),
    (b"17", "not an object"),
    (b'{"TransactionID":"X"} {"TransactionID":"Y"}', "text after the object"),
    (b'{"TransactionID":"X","TransactionID":"Y"}', "a key given twice"),
    (b'{"TransactionID":{"a":1}}', "an object or array in a field"),
    (b'{"TransactionID":true}', "wrong type"),
    (b"{}", "missing TransactionID"),
    (b'{"TransactionID":"X"}', "missing UserID"),
    (b'{"TransactionID":"X","UserID":"U"}', "missing Amount"),
    (b'{"TransactionID":"X","UserID":"U","Amount":1}', "missing Time"),
    (b'{"TransactionID":"X","UserID":"U","Amount":"x","Time":"2025-01-01 00:00:00"}', "amount not a number"),
    (b'{"TransactionID":"X","UserID":"U","Amount":"NaN","Time":"2025-01-01 00:00:00"}', "amount not finite"),
    (b'{"TransactionID":"X","UserID":"U","Amount":-1,"Time":"2025-01-01 00:00:00"}', "amount negative"),
    (b'{"TransactionID":"X","UserID":"U","Amount":1e15,"Time":"2025-01-01 00:00:00"}', "amount too large"),
    (b'{"TransactionID":"X","UserID":"U","Amount":1,"Time":"yesterday"}', "time unparsable"),
    (b'{"TransactionID":"X","UserID":"U","Amount":1,"Time":"1999-12-31 23:59:59"}', "time before 2000-01-01"),
    (b'{"TransactionID":"X","UserID":"U","Amount":1,"Time":"2999-01-01 00:00:00"}',
     "time more than a day after its Kafka timestamp"),
    (b'{"TransactionID":"' + b"x" * 65 + b'","UserID":"U"}', "over-long field"),
    (b'{"TransactionID":"' + b"x" * 70_000 + b'"}', "message too long"),
]  # fmt: skip


def message(transaction_id: str, user: str, amount: object = "10.00", **more: object) -> bytes:
    fields = {"Location": "Cairo", "Time": "2025-01-01 10:00:00", "Device": "iOS", "Merchant": "Amazon"}
    return orjson.dumps({"TransactionID": transaction_id, "UserID": user, "Amount": amount, **fields, **more})


def test_times_are_in_the_zone_of_the_setting_whether_few_or_many_wait(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    environment = {**settings_env, "MODEL_DIR": str(tmp_path), "TZ": "Africa/Cairo"}
    engine, log = open_tables(database), tmp_path / "job.log"

    def send(numbers: range) -> None:
        values = [message(f"T{n}", "U", Time="2025-07-02T03:04:05Z") for n in numbers]
        send_all(environment["KAFKA_BOOTSTRAP_SERVERS"], topic, [Message(b"U", value) for value in values])

    send(range(FEW + 1))
    with running_job(environment, log, "--no-alerts"):
        wait_for_records(engine, topic, FEW + 1, log)
        send(range(FEW + 1, FEW + 2))
        wait_for_records(engine, topic, FEW + 2, log)
    assert query(engine, "SELECT CAST(`Time` AS CHAR), COUNT(*) FROM clean_data GROUP BY 1") == [
        ("2025-07-02 06:04:05", FEW + 2)
    ]


def test_python_workers_are_forked_from_a_process_that_has_their_libraries(
    database: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    environment = {**settings_env, "MODEL_DIR": str(tmp_path), "MYSQL_URL": database}
    log = tmp_path / "job.log"
    with running_job(environment, log, "--no-alerts") as job:
        wait_until(lambda: "Streaming started" in log.read_text(), timeout=90, describe="the job is warm")
        workers = [
            each
            for each in psutil.Process(job.pid).children(recursive=True)
            if each.name().startswith("python")
        ]
        (origin,) = (each for each in workers if each.parent() not in workers)
        assert len(workers) > 1, "the rehearsal needs workers"
        assert any("llvmlite" in mapped.path for mapped in origin.memory_maps())


def test_garbage_and_a_sudden_death_lose_and_double_nothing(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    environment = {**settings_env, "MODEL_DIR": str(tmp_path), "MAX_RECORDS_PER_BATCH": "2000"}
    engine, log = open_tables(database), tmp_path / "job.log"
    expected = expected_of_csv(TRANSACTIONS_CSV)
    csv_sent = run_script("producer_from_csv.py", "--rate", "0", environment=environment)
    assert csv_sent.returncode == 0, csv_sent.stderr

    good = [(f"U{n % 40}", message(f"G{n}", f"U{n % 40}", n)) for n in range(2_000)]
    twins = [
        ("U1", message("twin", "U1")),
        ("U1", message("TWIN", "U1")),
        ("U1", message("twín", "U1")),
        ("U1", message("twin ", "U1")),  # after trimming the first one again: a duplicate
        ("U1", message("twin", "U1", "11.00")),  # the same id with another amount
        ("U2", message("twin", "U2")),  # the same id for another user
        ("U3", message(" spaced ", "U3", " 1 234.565 ", Location="  cairo", Merchant="local store")),
        ("U3", message("none", "U3", 2000, Location=None, Device="", Merchant="  ")),
        ("U3", message("over", "U3", "2000.005")),
    ]
    bad = [("U9", value) for value, _ in GARBAGE] * (2_000 // len(GARBAGE) + 1)
    records = [*good, *bad[:2_000]]
    random.Random(7).shuffle(records)
    records = twins + records
    producer = KafkaProducer(bootstrap_servers=settings_env["KAFKA_BOOTSTRAP_SERVERS"], acks="all")
    sent = [producer.send(topic, key=key.encode(), value=value) for key, value in records]
    positions = {(m.partition, m.offset): record for m, record in
                 zip((future.get(30) for future in sent), records, strict=True)}  # fmt: skip
    producer.close()
    total = len(records) + 10_050

    with running_job(environment, log) as job:
        wait_until(
            lambda: (
                query(engine, "SHOW TABLES LIKE 'pipeline_totals'")
                and 0 < read_progress(engine, topic).accounted_for < total
            ),
            timeout=120,
            describe=lambda: log.read_text(errors="replace")[-4000:],
        )
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    with running_job(environment, log):
        progress = wait_for_records(engine, topic, total, log)

    assert progress.accounted_for == total
    assert_books_balance(engine)
    rows = stored_rows(engine)
    assert {name: row for name, row in rows.items() if name in expected.rows} == expected.rows
    for number in range(2_000):
        assert rows[f"G{number}"][:3] == (f"G{number}", f"U{number % 40}", Decimal(number))
    assert {name for name in rows if name.casefold().startswith("tw")} == {"twin", "TWIN", "twín"}
    assert rows["spaced"][2:4] == (Decimal("1234.57"), "Cairo") and rows["spaced"][6] == "LocalStore"
    assert (rows["none"][3], rows["none"][5], rows["none"][6]) == (None, None, None)
    assert query(engine, "SELECT Is_Fraud FROM clean_data WHERE TransactionID IN ('none', 'over') "
                         "ORDER BY TransactionID") == [("NO",), ("YES",)]  # fmt: skip

    reasons = dict(GARBAGE)
    dead = query(engine, "SELECT partition_id, `offset`, reason, `key`, `value` FROM dead_letters")
    conflicts = [letter for letter in dead if letter[2] == "conflicting duplicate"]
    # Two users sent `twin`; which of them keeps it depends on the partitions' timing, not what is counted.
    duplicates, conflicting = {"U1": (1, 2), "U2": (0, 3)}[rows["twin"][1]]
    assert (progress.duplicates, len(conflicts)) == (expected.duplicates + duplicates, conflicting)
    of_csv = [letter for letter in dead if (letter[0], letter[1]) not in positions]
    assert sorted(letter[2] for letter in of_csv) == expected.rejected
    for partition, offset, reason, key, value in dead:
        if (partition, offset) not in positions:
            continue
        sent_key, sent_value = positions[partition, offset]
        assert key == sent_key.encode()
        assert value == (sent_value and sent_value[:MAX_MESSAGE_BYTES])
        if reason != "conflicting duplicate":
            assert reason == reasons[sent_value]
    assert len(dead) == 2_000 + conflicting + len(expected.rejected)
