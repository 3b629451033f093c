"""Migrations on the real server: from nothing, twice, at once, and never backwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import make_url

from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import NewerDatabase, migrate
from fraudstream.store.tables import metadata


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
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabase, match="9999"):
        migrate(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


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
