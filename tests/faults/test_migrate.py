"""Migrations on the real server: from nothing, from an older version, at once, and never backwards."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from kafka import KafkaProducer
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fraudstream import store
from fraudstream.feature_record import unpack
from fraudstream.features import FEATURE_NAMES
from fraudstream.history import code_of
from fraudstream.store.engine import make_engine
from fraudstream.store.locks import acquire, database_lock, lock_name
from fraudstream.store.migrate import NewerDatabase, migrate
from fraudstream.store.progress import Progress, read_progress
from fraudstream.store.reads.overview import Filter, read_overview
from fraudstream.store.reads.snapshot import NewerTables, TablesMissing, open_engine
from fraudstream.store.tables import metadata
from fraudstream.store.writer import become_writer
from fraudstream.topic import ensure_topic
from tests.support.jobs import run_script, running_job
from tests.support.undisturbed import wait_for_all
from tests.support.waiting import wait_until

SCRIPTS = Path(store.__file__).with_name("migrations")
MORNING = datetime.fromisoformat("2026-01-05 08:00:00")
USERS = 4
OLD, NEW, REPEATED = 40, 60, 5


def test_the_migrations_make_the_tables_that_the_code_describes(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        collations = connection.execute(
            text(
                "SELECT TABLE_NAME, TABLE_COLLATION FROM information_schema.TABLES "
                "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME <> 'alembic_version'"
            )
        ).all()
    assert {name for name, _ in collations} == set(metadata.tables)
    assert {collation for _, collation in collations} == {"utf8mb4_bin"}


def test_several_starts_at_once_migrate_once(database: str) -> None:
    url = make_url(database)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: migrate(make_engine(url)), range(4)))
    with make_engine(url).connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM alembic_version")) == 1


def test_a_migration_that_died_half_way_is_finished(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("DROP TABLE labels"))
        connection.execute(
            text("INSERT INTO kafka_offsets VALUES ('t', 0, 'id', 42)")  # what is there stays
        )
    migrate(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM labels")) == 0
        assert connection.scalar(text("SELECT next_offset FROM kafka_offsets")) == 42


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    set_revision(engine, "9999")
    with pytest.raises(NewerDatabase, match="9999"):
        migrate(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_nobody_writes_batches_while_the_tables_change(database: str) -> None:
    """A batch of an older version would miss in what a migration adds up."""
    engine = first_version(database)
    unpooled = make_engine(make_url(database), pooled=False)
    lock = lock_name(make_url(database).database or "", "transactions")
    writer = become_writer(unpooled, lock, holder="of the older version", stopped=lambda: False)
    assert writer is not None
    with writer:
        with pytest.raises(TimeoutError, match=r"a job of it still writes to them: stop all of its jobs"):
            migrate(engine)
        assert revisions(engine) == ["0001"]
    migrate(engine)
    assert revisions(engine) == [ScriptDirectory(str(SCRIPTS)).get_current_head()]


def test_neither_a_frozen_writer_nor_one_of_another_database_keeps_tables_from_changing(
    database: str,
) -> None:
    engine = first_version(database)
    own, others = lock_name(make_url(database).database or "", "t"), lock_name("of_another_one", "t")
    with engine.connect() as frozen, engine.connect() as busy:
        for holder, name, renewed in ((frozen, own, "2026-01-01"), (busy, others, "2100-01-01")):
            lease = text("INSERT INTO writer_lease VALUES (:name, 'x', :renewed)")
            holder.execute(lease, {"name": name, "renewed": renewed})
            assert acquire(holder, name, timeout_s=0)
        migrate(engine)
        assert revisions(engine) == [ScriptDirectory(str(SCRIPTS)).get_current_head()]
        assert not is_alive(frozen) and is_alive(busy)


def test_half_migrated_tables_are_no_page_of_zeros(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    set_revision(engine, "0005")
    with pytest.raises(TablesMissing, match=r"brings those of an older version up to date"):
        read_overview(open_engine(make_url(database)), "all", Filter())


def test_a_flag_without_a_reason_cannot_be_stored(database: str) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    insert = (
        "INSERT INTO clean_data (TransactionID, UserID, Amount, `Time`, Is_Fraud, score, reasons, topic_id, "
        "partition_id, `offset`, kafka_time, processed_at) VALUES ('a', 'u', 1, '2025-01-01', :flag, 0, "
        ":reasons, 'x', 0, 0, '2025-01-01', '2025-01-01')"
    )
    for flag, reasons in (("YES", None), ("NO", "[]")):
        with engine.begin() as connection, pytest.raises(Exception, match="flag_has_reason"):
            connection.execute(text(insert), {"flag": flag, "reasons": reasons})


@dataclass(frozen=True)
class OldRow:
    """A transaction, and where Kafka holds it."""

    number: int
    value: bytes
    partition: int
    offset: int

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.value)


def message(number: int) -> bytes:
    """The transaction `T<number>`: a minute after the one before, by one of a few users in turn."""
    fields = {
        "TransactionID": f"T{number}",
        "UserID": f"U{number % USERS}",
        "Amount": 5_000 if number == OLD - 1 else number,
        "Location": "Cairo",
        "Time": str(MORNING + timedelta(minutes=number)),
        "Device": "iOS",
        "Merchant": "Amazon",
    }
    return json.dumps(fields).encode()


def send(settings_env: dict[str, str], numbers: list[int]) -> list[OldRow]:
    producer = KafkaProducer(bootstrap_servers=settings_env["KAFKA_BOOTSTRAP_SERVERS"], acks="all")
    topic, values = settings_env["KAFKA_TOPIC"], [message(number) for number in numbers]
    sent = [
        producer.send(topic, key=f"U{number % USERS}".encode(), value=value)
        for number, value in zip(numbers, values, strict=True)
    ]
    places = [each.get(timeout=30) for each in sent]
    producer.close()
    return [
        OldRow(number, value, place.partition, place.offset)
        for number, value, place in zip(numbers, values, places, strict=True)
    ]


def first_version(database: str) -> Engine:
    """A database as the first version of the tables was."""
    engine = make_engine(make_url(database))
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    return engine


def fill(engine: Engine, topic: str, topic_id: str, rows: list[OldRow]) -> None:
    """What the job of that version had stored of the rows, in the very form that it wrote."""
    common = {"topic": topic, "topic_id": topic_id, "at": MORNING}
    with engine.begin() as connection:
        for row in rows:
            reasons = '[{"code":"AMOUNT_OVER_2000","amount":5000.0,"limit":2000.0}]'
            judged = ("YES", 1.0, reasons) if row.fields["Amount"] > 2_000 else ("NO", 0.25, None)
            connection.execute(
                text(
                    "INSERT INTO clean_data (TransactionID, UserID, Amount, Location, `Time`, Device, "
                    "Merchant, Is_Fraud, score, reasons, topic_id, partition_id, `offset`, kafka_time, "
                    "processed_at) VALUES (:TransactionID, :UserID, :Amount, :Location, :Time, :Device, "
                    ":Merchant, :flag, :score, :reasons, :topic_id, :partition, :offset, :at, :at)"
                ),
                {
                    **common, **row.fields, "partition": row.partition, "offset": row.offset,
                    **dict(zip(("flag", "score", "reasons"), judged, strict=True)),
                },
            )  # fmt: skip
        for user in [*range(USERS), "gone"]:
            its = [row for row in rows if row.fields["UserID"] == f"U{user}"]
            connection.execute(
                text("INSERT INTO user_history VALUES (:user, :history)"),
                {"user": f"U{user}", "history": first_history(its)},
            )
        for statement in _OTHER_ROWS:
            connection.execute(text(statement), common)


_OTHER_ROWS = (
    "INSERT INTO kafka_offsets SELECT :topic, partition_id, :topic_id, MAX(`offset`) + 1 "
    "FROM clean_data GROUP BY 2",
    "INSERT INTO rollup_hourly SELECT DATE_FORMAT(`Time`, '%Y-%m-%d %H:00:00'), Location, Device, Merchant, "
    "Is_Fraud, COUNT(*), SUM(Amount) FROM clean_data GROUP BY 1, 2, 3, 4, 5",
    f"INSERT INTO pipeline_totals VALUES (:topic, {OLD}, 1, 0, 0, :at)",
    "INSERT INTO alerts (TransactionID, UserID, `Time`, state, created_at) "
    "SELECT TransactionID, UserID, `Time`, 'waiting', :at FROM clean_data WHERE Is_Fraud = 'YES'",
    "INSERT INTO labels (TransactionID, source, label, known_at, version, recorded_at) VALUES "
    "('T1', 'bank', 'fraud', :at, 1, :at), ('T2', 'bank', 'legitimate', :at, 3, :at)",
    "INSERT INTO component_status VALUES ('model', 'ok', 'none', :at)",
)


def first_history(rows: list[OldRow]) -> bytes:
    """A user's history as the first version stored it: version, count, what was dropped, events."""
    nothing = -(2**63)
    events = b"".join(
        struct.pack(
            "<qqIII",
            int((datetime.fromisoformat(row.fields["Time"]) - datetime(1970, 1, 1)).total_seconds()),  # noqa: DTZ001
            row.fields["Amount"] * 100,
            *(code_of(row.fields[name]) for name in ("Location", "Device", "Merchant")),
        )
        for row in rows
    )
    return struct.pack("<BIqq", 1, len(rows), nothing, nothing) + events


def old_rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Whatever the older version had stored and nobody may touch, in the columns that it knew."""
    judged = (
        "Is_Fraud, score, reasons, model_version, topic_id, partition_id, `offset`, kafka_time, processed_at"
    )
    statements = {
        "clean_data": "SELECT TransactionID, UserID, Amount, Location, `Time`, Device, Merchant, "
        f"{judged} FROM clean_data WHERE processed_at = :at",
        "labels": "SELECT TransactionID, source, label, known_at, recorded_by, note, version, recorded_at "
        "FROM labels",
        "alerts": "SELECT alert_id, TransactionID, UserID, `Time`, state, mail_id FROM alerts "
        "WHERE created_at = :at",
        "user_history": "SELECT UserID, history FROM user_history WHERE UserID = 'Ugone'",
    }
    with engine.connect() as connection:
        return {
            table: sorted(
                (tuple(row) for row in connection.execute(text(statement), {"at": MORNING})), key=repr
            )
            for table, statement in statements.items()
        }


@contextmanager
def nobody_migrates(engine: Engine) -> Iterator[Connection]:
    """Holds the lock of the migrations during the block."""
    with engine.connect() as connection, database_lock(connection, "migrate", timeout_s=5):
        yield connection


def waiting_to_migrate(engine: Engine) -> int:
    statement = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User lock' AND DB = DATABASE()"
    )
    with engine.connect() as connection:
        return connection.scalar(text(statement))


def set_revision(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def is_alive(connection: Connection) -> bool:
    try:
        return connection.scalar(text("SELECT 1")) == 1
    except DBAPIError:
        return False


def revisions(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version_num FROM alembic_version")))


@pytest.mark.timeout(300)
def test_two_jobs_bring_an_older_database_forward_and_go_on_where_it_was(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    topic_id = ensure_topic(settings_env["KAFKA_BOOTSTRAP_SERVERS"], topic, 2).topic_id
    engine = first_version(database)
    fill(engine, topic, topic_id, send(settings_env, list(range(OLD))))
    before = old_rows(engine)
    assert [len(rows) for rows in before.values()] == [OLD, 2, 1, 1]
    # The first few come once more: the older version's rows are known.
    send(settings_env, [*range(REPEATED), *range(OLD, OLD + NEW)])

    environment = {**settings_env, "MODEL_DIR": str(tmp_path)}
    logs = [tmp_path / "first.log", tmp_path / "second.log"]

    def said() -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.exists())

    with (
        running_job(environment, logs[0], "--no-alerts") as first,
        running_job(environment, logs[1], "--no-alerts") as second,
    ):
        with nobody_migrates(engine):
            wait_until(lambda: waiting_to_migrate(engine) == 2, timeout=120, describe=said)
            assert revisions(engine) == ["0001"]
        wait_for_all(engine, topic, OLD + REPEATED + NEW, logs[0])
        wait_until(
            lambda: "standing by" in said() and "Streaming started" in said(), timeout=60, describe=said
        )
        assert revisions(engine) == [ScriptDirectory(str(SCRIPTS)).get_current_head()]
        assert "Traceback" not in said() and "starting again" not in said()
        # A standby that was overtaken by an upgrade writes nothing.
        set_revision(engine, "9999")
        writer, standby, log = (
            (first, second, logs[1])
            if "Streaming started" in logs[0].read_text()
            else (second, first, logs[0])
        )
        os.killpg(writer.pid, signal.SIGKILL)
        assert standby.wait(timeout=60) == 1
        assert "Stopped: the database is at revision 9999" in " ".join(log.read_text().split())

    assert old_rows(engine) == before
    assert read_progress(engine, topic) == Progress(
        stored=OLD + NEW, flagged=1, duplicates=REPEATED, rejected=0, alerts=1
    )
    with engine.connect() as connection:
        stored = connection.execute(
            text("SELECT TransactionID, Amount, features FROM clean_data WHERE features IS NOT NULL")
        ).all()
        for rollup in (name for name in metadata.tables if name.startswith("rollup_")):
            assert connection.scalar(text(f"SELECT SUM(transactions) FROM {rollup}")) == OLD + NEW
    # Each user's new rows see those that the older version stored.
    counted = {row.TransactionID: unpack(row.features)[FEATURE_NAMES.index("tx_count_24h")] for row in stored}
    assert counted == {f"T{number}": number // USERS for number in range(OLD, OLD + NEW)}


def test_a_newer_database_is_refused_by_whoever_would_use_it(
    database: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    engine = make_engine(make_url(database))
    migrate(engine)
    set_revision(engine, "9999")
    labels = tmp_path / "labels.csv"
    labels.write_text("TransactionID,label,known_at\n")
    verbs = (
        "status", "alerts run", "alerts status", "alerts retry", "dead-letters list", "dead-letters show 0 0",
        "dead-letters replay --all", f"labels import {labels}", "offsets show", "offsets accept",
    )  # fmt: skip
    commands = [
        ["data_cleaning.py"],
        ["train_fraud_model.py", "--from-mysql"],
        *(["-m", "fraudstream", *verb.split()] for verb in verbs),
    ]
    environment = {**settings_env, "MODEL_DIR": str(tmp_path)}
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda words: run_script(*words, environment=environment), commands))
    for words, each in zip(commands, ended, strict=True):
        said = " ".join((each.stdout + each.stderr).split())
        assert each.returncode == 1, f"{words}: {said}"
        assert "revision 9999, which this version of fraudstream does not know" in said, f"{words}: {said}"
        assert "Traceback" not in said
    with pytest.raises(NewerTables, match=r"^The database is at revision 9999"):
        read_overview(open_engine(make_url(database)), "all", Filter())
    assert revisions(engine) == ["9999"]


@pytest.mark.timeout(300)
def test_a_history_of_a_form_that_is_not_known_ends_the_job_with_a_word_on_it(
    database: str, topic: str, settings_env: dict[str, str], tmp_path: Path
) -> None:
    ensure_topic(settings_env["KAFKA_BOOTSTRAP_SERVERS"], topic, 2)
    engine = make_engine(make_url(database))
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO user_history VALUES ('U1', :history)"), {"history": b"\x09later"}
        )
    send(settings_env, [1])
    ended = run_script("data_cleaning.py", environment={**settings_env, "MODEL_DIR": str(tmp_path)})
    assert ended.returncode == 1, ended.stderr[-4000:]
    last = " ".join(ended.stderr.splitlines()[-3:])
    assert "Stopped: the history of user 'U1' is of version 9" in last
    assert "run the fraudstream that wrote it" in last
    assert read_progress(engine, topic).accounted_for == 0
