"""What a batch adds to the database, for the batch after it, which is judged while that is still written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.features import FindHistories
from fraudstream.schema import FIELD_NAMES, JUDGED_ARROW, Outcome
from fraudstream.scoring import FindStored, Values, by_outcome

_TRANSACTION = list(FIELD_NAMES)
_HISTORY = ["UserID", "history"]


@dataclass(frozen=True)
class Uncommitted:
    """The seven fields of the batch's stored transactions, and the histories of their users.

    Ask here first, then the database: a transaction in both is the same, and of two histories this one is
    the newer.
    """

    transactions: pa.Table
    histories: pa.Table

    @staticmethod
    def of(rows: Mapping[Outcome, pa.Table]) -> Uncommitted:
        """What a batch adds: of its rows of JUDGED_ARROW columns, not copies."""
        return Uncommitted(
            rows[Outcome.STORED].select(_TRANSACTION),
            rows[Outcome.HISTORY].select(_HISTORY),
        )

    @staticmethod
    def nothing() -> Uncommitted:
        return Uncommitted.of(by_outcome(JUDGED_ARROW.empty_table()))

    def without_histories(self) -> Uncommitted:
        """The transactions alone: little to keep, once the batch is committed."""
        return Uncommitted(self.transactions, self.histories.schema.empty_table())

    def find_stored(self, ids: list[str], *, otherwise: FindStored) -> dict[str, Values]:
        """Of `ids`, the values of those that are stored: here, or as `otherwise` finds the rest."""
        rows = _wanted(self.transactions, "TransactionID", ids)
        here = {row["TransactionID"]: tuple(row.values()) for row in rows.to_pylist()}
        return {**otherwise([each for each in ids if each not in here]), **here}

    def find_histories(self, users: list[str], *, otherwise: FindHistories) -> dict[str, bytes]:
        """Of `users`, the newest histories: here, or as `otherwise` finds the rest."""
        rows = _wanted(self.histories, "UserID", users)
        here = dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        return {**otherwise([each for each in users if each not in here]), **here}


def _wanted(rows: pa.Table, key: str, wanted: list[str]) -> pa.Table:
    return rows.filter(pc.is_in(rows[key], value_set=pa.array(wanted, pa.string())))
