"""Labels from a file into the database: repeatable, in any order, each source for itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.config import child_environment
from fraudstream.labels import Label, Outcome
from fraudstream.store.engine import make_engine
from fraudstream.store.labels import Imported, import_labels
from fraudstream.store.migrate import migrate
from tests.support.jobs import run_script
from tests.support.transactions import Judged, store

KNOWN = datetime.fromisoformat("2025-01-20 08:30:00")
Say = Callable[..., Imported]


def label(transaction_id: str, outcome: Outcome = "fraud", *, days_later: int = 0) -> Label:
    return Label(transaction_id, outcome, KNOWN + timedelta(days=days_later))


def rows(engine: Engine) -> list[tuple[object, ...]]:
    columns = "TransactionID, source, label, known_at, version"
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT {columns} FROM labels ORDER BY TransactionID, source"))
        return [tuple(row) for row in found]


def test_a_second_import_changes_nothing(engine: Engine) -> None:
    many = [label(f"T{number:05}") for number in range(4_500)]
    first = import_labels(engine, many, source="bank")
    stored = rows(engine)
    assert (first.new, len(stored)) == (4_500, 4_500)
    assert import_labels(engine, many, source="bank") == Imported(
        0, 0, 4_500, 0, unknown=tuple(each.transaction_id for each in many)
    )
    assert rows(engine) == stored


def test_what_became_known_last_holds_in_any_order(engine: Engine) -> None:
    early, late = label("T1", "fraud"), label("T1", "legitimate", days_later=1)
    assert import_labels(engine, [early], source="bank").new == 1
    assert import_labels(engine, [late], source="bank").changed == 1
    assert import_labels(engine, [early], source="bank").outdated == 1
    assert rows(engine) == [("T1", "bank", "legitimate", late.known_at, 2)]


def test_a_correction_as_of_the_same_time_replaces_what_was_said(engine: Engine) -> None:
    import_labels(engine, [label("T1", "fraud")], source="bank")
    assert import_labels(engine, [label("T1", "legitimate")], source="bank").changed == 1
    assert rows(engine) == [("T1", "bank", "legitimate", KNOWN, 2)]


def test_each_source_has_its_own_word(engine: Engine) -> None:
    import_labels(engine, [label("T1")], source="bank")
    import_labels(engine, [label("T1", "legitimate")], source="shop")
    assert [(row[1], row[2]) for row in rows(engine)] == [("bank", "fraud"), ("shop", "legitimate")]


def test_ids_that_differ_in_case_are_two(engine: Engine) -> None:
    assert import_labels(engine, [label("t1"), label("T1", "legitimate")], source="bank").new == 2


def test_a_label_may_come_before_its_transaction(engine: Engine) -> None:
    store(engine, [Judged("here", "U1", Decimal(10), KNOWN)])
    assert import_labels(engine, [label("here"), label("not yet")], source="bank").unknown == ("not yet",)
    assert len(rows(engine)) == 2


@pytest.fixture
def bare_engine(database: str) -> Engine:
    """A database without tables."""
    return make_engine(make_url(database))


def test_the_command_keeps_the_good_rows_and_names_the_bad(
    bare_engine: Engine, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("\ufeffTransactionID,label,known_at\nT1,fraud,2025-01-20 08:30:00\nT2,maybe,\n", "utf-8")

    def run(*options: str) -> tuple[int, list[str], list[str]]:
        environment = child_environment(MYSQL_URL=database)
        ended = run_script(
            "-m", "fraudstream", "labels", "import", str(file), *options, environment=environment
        )
        return ended.returncode, ended.stdout.splitlines(), ended.stderr.splitlines()

    named = [
        f"{file}, line 3: label 'maybe' is neither fraud nor legitimate",
        "Not stored (yet): 1 of the transactions, such as 'T1'",
    ]
    assert run() == (1, ["new=1 changed=0 unchanged=0 outdated=0 unknown=1 bad=1"], named)
    assert run() == (1, ["new=0 changed=0 unchanged=1 outdated=0 unknown=1 bad=1"], named)
    assert rows(bare_engine) == [("T1", "import", "fraud", KNOWN, 1)]

    file.write_text("TransactionID,label,known_at\nT1,fraud,2025-01-20 08:30:00\n")
    assert run("--source", "shop")[0] == 0
    code, _, complaints = run("--source", "review")
    assert code == 2 and "reviews in the dashboard" in " ".join(complaints)
    file.write_bytes(b"TransactionID,label,known_at\nT\xff,fraud,2025-01-20 08:30:00\n")
    code, said, complaints = run()
    assert (code, said) == (1, []) and "utf-8" in complaints[0]
    assert len(rows(bare_engine)) == 2
    migrate(bare_engine)  # the tables that the command made are those that the job wants


def test_on_a_database_of_a_newer_version_the_command_says_so_and_stores_nothing(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("TransactionID,label,known_at\nT1,fraud,2025-01-20 08:30:00\n", "utf-8")
    with make_engine(make_url(database)).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    environment = child_environment(MYSQL_URL=database)
    ended = run_script("-m", "fraudstream", "labels", "import", str(file), environment=environment)
    assert ended.returncode == 1
    assert "9999" in ended.stderr and "Traceback" not in ended.stderr
    assert rows(engine) == []
