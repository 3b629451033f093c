"""The features that the stream stores are, bit for bit, those of one offline pass over the same file."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.feature_record import pack
from fraudstream.features import FEATURE_NAMES, transaction_features
from fraudstream.history import encode, time_s, wide_name_codes
from fraudstream.labels import Label
from fraudstream.merchant_risk import Outcomes
from fraudstream.simulator import simulate
from fraudstream.store.engine import make_engine
from fraudstream.store.labels import import_labels
from fraudstream.store.migrate import migrate
from fraudstream.store.progress import read_progress
from tests.support.jobs import run_script, running_job
from tests.support.oracle import usable_transactions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(280)

DAYS = 20
# Outcomes of the first days become known at this day's end; the stream is at that day then.
KNOWN_ON_DAY = 6
LABELLED_DAYS = 5


@dataclass(frozen=True)
class Offline:
    """What must be stored: packed features by TransactionID, and histories by user."""

    features: dict[str, bytes]
    histories: dict[str, bytes]


@pytest.fixture(scope="module")
def arrivals() -> pd.DataFrame:
    """Rows as text in order of arrival, some late, some twice, some of them not usable."""
    return simulate(rows=2_400, users=30, days=DAYS, seed=11).transactions


def labels_of(transactions: pa.Table) -> tuple[list[Label], np.ndarray]:
    """Outcomes of the first days, every seventh of them fraud, and which rows they are of."""
    times = transactions["Time"].to_pylist()
    start = min(times)
    early = np.array([time < start + timedelta(days=LABELLED_DAYS) for time in times])
    known_at = start + timedelta(days=KNOWN_ON_DAY)
    ids = transactions["TransactionID"].to_pylist()
    return [
        Label(ids[row], "fraud" if row % 7 == 0 else "legitimate", known_at) for row in np.flatnonzero(early)
    ], early


def offline(transactions: pa.Table) -> Offline:
    labels, labelled = labels_of(transactions)
    rows = transactions.filter(pa.array(labelled))
    known_at = pa.chunked_array([pa.array([label.known_at for label in labels], pa.timestamp("us"))])
    outcomes = Outcomes.of(
        wide_name_codes(rows["Merchant"]),
        time_s(rows["Time"]),
        time_s(known_at),
        np.array([label.outcome == "fraud" for label in labels]),
    )
    computed = transaction_features(transactions, outcomes)
    risk = computed.features[:, FEATURE_NAMES.index("merchant_frauds_7d")]
    assert risk.any() and not risk.all(), "the data must show what is tested"
    return Offline(
        dict(
            zip(transactions["TransactionID"].to_pylist(), pack(computed.features).to_pylist(), strict=True)
        ),
        dict(zip(computed.users, encode(computed.histories), strict=True)),
    )


def stored(engine: Engine, table: str, key: str, value: str) -> dict[str, bytes]:
    with engine.connect() as connection:
        return {
            row[0]: bytes(row[1])
            for row in connection.execute(text(f"SELECT `{key}`, `{value}` FROM {table}"))
        }


def send(rows: pd.DataFrame, folder: Path, environment: dict[str, str]) -> None:
    file = folder / "arrivals.csv"
    rows.to_csv(file, index=False)
    sent = run_script("producer_from_csv.py", "--file", str(file), "--rate", "0", environment=environment)
    assert sent.returncode == 0, sent.stderr


@pytest.mark.parametrize(
    ("partitions", "batch", "options", "die"),
    [
        pytest.param(
            1, 100_000, ("--master", "local[1]"), False, id="one partition, one core, large batches"
        ),
        pytest.param(4, 230, (), True, id="four partitions, small batches, killed on the way"),
    ],
)
def test_stream_and_file_give_the_same_bits(
    partitions: int,
    batch: int,
    options: Sequence[str],
    die: bool,
    arrivals: pd.DataFrame,
    database: str,
    settings_env: dict[str, str],
    tmp_path: Path,
) -> None:
    environment = settings_env | {
        "KAFKA_PARTITIONS": str(partitions),
        "MAX_RECORDS_PER_BATCH": str(batch),
        "MODEL_DIR": str(tmp_path / "no model"),
    }
    topic, engine, log = environment["KAFKA_TOPIC"], make_engine(make_url(database)), tmp_path / "job.log"
    migrate(engine)
    transactions = usable_transactions(arrivals)
    expected = offline(transactions)
    first_day = pd.to_datetime(arrivals["Time"]).min() + timedelta(days=KNOWN_ON_DAY)
    # Behind its last row of the first days no row of the first half may see the labels yet.
    half = int(np.argmax(pd.to_datetime(arrivals["Time"]).fillna(pd.Timestamp.min) >= first_day))

    def accounted_for(records: int) -> bool:
        return read_progress(engine, topic).accounted_for >= records

    def said() -> str:
        return log.read_text(errors="replace")[-4000:]

    send(arrivals[:half], tmp_path, environment)
    with running_job(environment, log, *options) as job:
        wait_until(lambda: accounted_for(half), timeout=100, describe=said)
        import_labels(engine, labels_of(transactions)[0], source="bank")
        send(arrivals[half:], tmp_path, environment)
        if die:
            wait_until(lambda: accounted_for(half + 2 * batch), timeout=60, describe=said)
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        else:
            wait_until(lambda: accounted_for(len(arrivals)), timeout=100, describe=said)
    if die:
        assert not accounted_for(len(arrivals)), "it died too late to show anything"
        with running_job(environment, log, *options):
            wait_until(lambda: accounted_for(len(arrivals)), timeout=100, describe=said)

    assert stored(engine, "clean_data", "TransactionID", "features") == expected.features
    assert stored(engine, "user_history", "UserID", "history") == expected.histories
