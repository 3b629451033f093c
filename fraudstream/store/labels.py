"""Confirmed outcomes of transactions: one row for each transaction and source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.mysql import insert

from fraudstream.known_outcomes import CHANGE_COLUMNS
from fraudstream.labels import Label
from fraudstream.reviews import REVIEW, WITHDRAWN
from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.locks import database_lock
from fraudstream.store.tables import clean_data, labels

SOURCE_LENGTH = 64

# One import of a million labels takes less than a minute.
_LOCK_TIMEOUT_S = 120

_LABELS_PER_STATEMENT = 2_000


@dataclass(frozen=True)
class Imported:
    """What became of the labels; `unknown` are TransactionIDs of which no row is stored (yet)."""

    new: int
    changed: int
    unchanged: int
    outdated: int
    unknown: tuple[str, ...]


def import_labels(
    engine: Engine, found: Sequence[Label], *, source: str, recorded_by: str | None = None
) -> Imported:
    """Store what `source` says of each transaction, all of it in one transaction.

    Raises ValueError for the source of the analysts' reviews, which store.reviews alone writes.

    Of one source and transaction the label counts that became known last: an older one is outdated and
    changes nothing, one of the same time replaces it. So a second call with the same labels leaves
    everything as it is, and several files may come in any order. `version` counts the changes. A label
    whose transaction is not stored is kept: it counts once the transaction arrives. Only one import at a
    time writes, so that `change_id` goes up in the order of the commits: raises TimeoutError when another
    one does not end.
    """
    if source == REVIEW:
        raise ValueError(f"the source {REVIEW!r} is that of the reviews in the dashboard")
    kinds = {"new": 0, "changed": 0, "unchanged": 0, "outdated": 0}
    unknown: list[str] = []
    in_order = sorted(found, key=lambda label: label.transaction_id)
    with only_writer_of_labels(engine, timeout_s=_LOCK_TIMEOUT_S) as (connection, change_id):
        for start in range(0, len(in_order), _LABELS_PER_STATEMENT):
            part = in_order[start : start + _LABELS_PER_STATEMENT]
            unknown += _unknown(connection, part)
            stored = _stored(connection, part, source)
            by_kind = {kind: [each for each in part if _kind(each, stored) == kind] for kind in kinds}
            for kind, of_kind in by_kind.items():
                kinds[kind] += len(of_kind)
            same = {"source": source, "recorded_by": recorded_by, "version": 1, "change_id": change_id}
            _write(connection, by_kind["new"] + by_kind["changed"], same)
    return Imported(**kinds, unknown=tuple(unknown))


def read_label_changes(connection: Connection, after: int) -> pd.DataFrame:
    """The labels whose change_id is greater than `after`, with what is stored of their transactions.

    Columns CHANGE_COLUMNS; Merchant and Time are missing where no transaction is stored (yet). Changes
    become visible in the order of their ids, so the greatest one that was read is the next `after`.
    """
    query = (
        select(
            labels.c.TransactionID,
            labels.c.source,
            labels.c.change_id,
            (labels.c.label == "fraud").label("fraud"),
            (labels.c.label == WITHDRAWN).label("withdrawn"),
            labels.c.known_at,
            clean_data.c.Merchant,
            clean_data.c.Time,
        )
        .outerjoin_from(labels, clean_data, labels.c.TransactionID == clean_data.c.TransactionID)
        .where(labels.c.change_id > after)
    )
    return pd.DataFrame(connection.execute(query).all(), columns=list(CHANGE_COLUMNS))


@contextmanager
def only_writer_of_labels(engine: Engine, *, timeout_s: float) -> Iterator[tuple[Connection, int]]:
    """A transaction that alone writes labels, and the change_id of what it writes.

    Raises TimeoutError when another one does not end in time.
    """
    with (
        engine.connect() as connection,
        database_lock(connection, "labels", timeout_s=timeout_s),
        connection.begin(),
    ):
        last = connection.scalar(select(func.max(labels.c.change_id))) or 0
        yield connection, last + 1


def _kind(label: Label, stored: dict[str, Label]) -> str:
    present = stored.get(label.transaction_id)
    if present is None:
        return "new"
    if present == label:
        return "unchanged"
    return "outdated" if label.known_at < present.known_at else "changed"


def _unknown(connection: Connection, part: Sequence[Label]) -> list[str]:
    column = clean_data.c.TransactionID
    known = set(connection.scalars(select(column).where(column.in_([each.transaction_id for each in part]))))
    return [each.transaction_id for each in part if each.transaction_id not in known]


def _stored(connection: Connection, part: Sequence[Label], source: str) -> dict[str, Label]:
    """What the source said before, locked until the transaction's end against another import."""
    columns = labels.c
    statement = (
        select(columns.TransactionID, columns.label, columns.known_at)
        .where(columns.source == source, columns.TransactionID.in_([each.transaction_id for each in part]))
        .with_for_update()
    )
    return {row.TransactionID: Label(*row) for row in connection.execute(statement)}


def _write(connection: Connection, part: Sequence[Label], same: Mapping[str, object]) -> None:
    if not part:
        return
    statement = insert(labels).values(recorded_at=SERVER_NOW)
    connection.execute(
        statement.on_duplicate_key_update(
            label=statement.inserted.label,
            known_at=statement.inserted.known_at,
            recorded_by=statement.inserted.recorded_by,
            recorded_at=statement.inserted.recorded_at,
            change_id=statement.inserted.change_id,
            # The inserted version is 1; a bound 1 would not survive the driver's one statement for all rows.
            version=labels.c.version + statement.inserted.version,
        ),
        [
            {
                "TransactionID": each.transaction_id,
                "label": each.outcome,
                "known_at": each.known_at,
                **same,
            }
            for each in part
        ],
    )
