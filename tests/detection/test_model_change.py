"""A running job takes up a new model between two batches, and keeps the present one when it cannot."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from kafka import KafkaProducer
from sqlalchemy import text
from sqlalchemy.engine import make_url

from fraudstream.model_store import CURRENT, METADATA_FILE, save
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from tests.support.jobs import running_job
from tests.support.models import anomaly_model
from tests.support.waiting import wait_until


@pytest.mark.timeout(200)
def test_a_new_model_judges_from_the_next_batch_on_and_one_that_does_not_fit_is_refused(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    models, log, engine = tmp_path / "models", tmp_path / "job.log", make_engine(make_url(database))
    migrate(engine)
    save(anomaly_model("first"), models)
    producer = KafkaProducer(bootstrap_servers=settings_env["KAFKA_BOOTSTRAP_SERVERS"], acks="all")

    def judged_by(transaction_id: str) -> str:
        """Send one transaction; the version of the model that its stored row names."""
        row = {"TransactionID": transaction_id, "UserID": "U1", "Amount": 10, "Time": "2025-01-01 10:00:00"}
        producer.send(topic, key=b"U1", value=orjson.dumps(row)).get(30)
        query = text("SELECT model_version FROM clean_data WHERE TransactionID = :name")

        def version() -> str | None:
            with engine.connect() as connection:
                return connection.scalar(query, {"name": transaction_id})

        return wait_until(version, timeout=100, describe=lambda: log.read_text(errors="replace")[-4000:])

    def status() -> tuple[str, str]:
        query = "SELECT state, message FROM component_status WHERE component = 'model'"
        with engine.connect() as connection:
            return tuple(connection.execute(text(query)).one())

    with running_job(settings_env | {"MODEL_DIR": str(models)}, log):
        assert judged_by("T1") == "first"
        assert status() == ("ok", "model first")

        save(anomaly_model("second", seed=1), models)
        assert judged_by("T2") == "second"
        assert status() == ("ok", "model second")

        folder = save(anomaly_model("third", seed=2), models)
        document = orjson.loads((folder / METADATA_FILE).read_bytes())
        (folder / METADATA_FILE).write_bytes(orjson.dumps(document | {"feature_names": ["Amount", "old"]}))
        assert judged_by("T3") == "second"
        state, message = status()
        assert state == "error" and "third" in message and "train_fraud_model.py" in message

        (models / CURRENT).write_text("../elsewhere\n")
        assert judged_by("T4") == "second"
        assert "elsewhere" in status()[1]

        save(anomaly_model("fourth", seed=3), models)
        assert judged_by("T5") == "fourth"
        assert status() == ("ok", "model fourth")
    producer.close()
    assert "Traceback" not in log.read_text(errors="replace")
