"""An analyst's review of a transaction: its row in `labels`, of the source REVIEW.

Each change names the version that the analyst saw, and is refused where another one has come since; what
the row said before stays in it. A review takes the same lock as an import, so `change_id` orders both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row, select, update
from sqlalchemy.dialects.mysql import insert

from fraudstream.labels import Outcome
from fraudstream.reviews import NOTE_LENGTH, REVIEW, WITHDRAWN, Review, Reviewer
from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.labels import only_writer_of_labels
from fraudstream.store.migrate import refuse_newer
from fraudstream.store.reads.snapshot import problems_in_words
from fraudstream.store.tables import clean_data, labels

NOT_REVIEWED = 0
_LOCK_TIMEOUT_S = 5
_NOTHING = {"outcome": WITHDRAWN, "note": None}


class NotReviewed(Exception):
    """The review was not stored, and nothing has changed; the text says why and what to do."""


class LabelsBusy(NotReviewed):
    """An import writes labels at the moment."""


class ReviewConflict(NotReviewed):
    """Somebody else reviewed the transaction since it was shown; `present` is what is stored now."""

    def __init__(self, present: Review) -> None:
        word = present.outcome or "nothing any more"
        super().__init__(
            f"{present.reviewer} has reviewed this transaction meanwhile and says: {word}. "
            "Yours was not stored. Look again, then decide."
        )
        self.present = present


@dataclass(frozen=True)
class Seen:
    """What the analyst decides about: the transaction, and its review's version, or NOT_REVIEWED."""

    transaction_id: str
    version: int


def review(engine: Engine, seen: Seen, outcome: Outcome, note: str, *, by: Reviewer, zone: tzinfo) -> Review:
    """Store what `by` found. Raises ReviewConflict, NotReviewed, or DatabaseProblem.

    After any of these, nothing has changed; a lost connection is the exception, after which the stored
    version tells. `zone` is the one of the data (TZ).
    """
    with _one_change(engine, seen) as (connection, change_id):
        present = _for_update(connection, seen)
        known_at = _now(connection).replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, microsecond=0)
        word = {"label": outcome, "note": note.strip()[:NOTE_LENGTH] or None, "known_at": known_at}
        return _write(connection, seen, present, word, by, change_id)


def undo(engine: Engine, seen: Seen, *, by: Reviewer) -> Review:
    """Store again what the review said before its last change, or that there is none. Raises as `review`.

    Undone twice, it says again what it said.
    """
    with _one_change(engine, seen) as (connection, change_id):
        present = _for_update(connection, seen)
        if present is None:
            raise NotReviewed("There is no review of this transaction to undo.")
        earlier = _earlier(present)
        before: dict[str, Any] = earlier[-1] if earlier else {**_kept(present), **_NOTHING}
        known_at = datetime.fromisoformat(before["known_at"])
        word = {"label": before["outcome"], "note": before["note"], "known_at": known_at}
        return _write(connection, seen, present, word, by, change_id)


def review_of(row: Row[Any]) -> Review:
    """The review in a row of `labels`."""
    return Review(
        version=row.version,
        outcome=None if row.label == WITHDRAWN else row.label,
        note=row.note,
        reviewer=row.recorded_by or "",
        known_at=row.known_at,
        recorded_at=row.recorded_at,
    )


def history_of(row: Row[Any]) -> list[Review]:
    """What a row of `labels` has said, the newest first, and what it says now at the head."""
    earlier = [
        Review(
            version=each["version"],
            outcome=None if each["outcome"] == WITHDRAWN else each["outcome"],
            note=each["note"],
            reviewer=each["reviewer"],
            known_at=datetime.fromisoformat(each["known_at"]),
            recorded_at=datetime.fromisoformat(each["recorded_at"]),
        )
        for each in _earlier(row)
    ]
    return [review_of(row), *reversed(earlier)]


@contextmanager
def _one_change(engine: Engine, seen: Seen) -> Iterator[tuple[Connection, int]]:
    try:
        with (
            problems_in_words(engine),
            only_writer_of_labels(engine, timeout_s=_LOCK_TIMEOUT_S) as (connection, change_id),
        ):
            refuse_newer(connection)
            stored = select(clean_data.c.TransactionID).where(
                clean_data.c.TransactionID == seen.transaction_id
            )
            if connection.scalar(stored) is None:
                raise NotReviewed(f"There is no transaction {seen.transaction_id}.")
            yield connection, change_id
    except TimeoutError:
        raise LabelsBusy("Labels are being imported at the moment. Try again in a minute.") from None


def _for_update(connection: Connection, seen: Seen) -> Row[Any] | None:
    """The present row, locked; None where there is none. Raises ReviewConflict if it is not the one seen."""
    row = connection.execute(select(labels).where(_is_review_of(seen)).with_for_update()).one_or_none()
    if row is not None and row.version != seen.version:
        raise ReviewConflict(review_of(row))
    if row is None and seen.version != NOT_REVIEWED:
        raise NotReviewed("The review that was shown is gone from the database. Look again, then decide.")
    return row


def _write(
    connection: Connection,
    seen: Seen,
    present: Row[Any] | None,
    word: dict[str, Any],
    by: Reviewer,
    change_id: int,
) -> Review:
    """The version in the condition makes it a change of what was seen, or none at all."""
    values = {
        **word,
        "recorded_by": by.name,
        "recorded_at": SERVER_NOW,
        "version": seen.version + 1,
        "change_id": change_id,
    }
    if present is None:
        connection.execute(insert(labels).values(TransactionID=seen.transaction_id, source=REVIEW, **values))
    else:
        changed = connection.execute(
            update(labels)
            .where(_is_review_of(seen), labels.c.version == seen.version)
            .values(earlier=orjson.dumps([*_earlier(present), _kept(present)]).decode(), **values)
        )
        assert changed.rowcount == 1, "the row is locked"
    return review_of(connection.execute(select(labels).where(_is_review_of(seen))).one())


def _is_review_of(seen: Seen) -> Any:
    return (labels.c.TransactionID == seen.transaction_id) & (labels.c.source == REVIEW)


def _earlier(row: Row[Any]) -> list[dict[str, Any]]:
    return orjson.loads(row.earlier) if row.earlier else []


def _kept(row: Row[Any]) -> dict[str, Any]:
    return {
        "version": row.version,
        "outcome": row.label,
        "note": row.note,
        "reviewer": row.recorded_by,
        "known_at": row.known_at.isoformat(),
        "recorded_at": row.recorded_at.isoformat(),
    }


def _now(connection: Connection) -> datetime:
    return connection.execute(select(SERVER_NOW)).scalar_one()
