"""One Spark partition: cleaned rows + what the database already holds -> judged rows.

Pure but for the look-ups that are passed in. All rows of a user are in the same partition, and the
result does not depend on how they were cut into Arrow batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream import rules as reasons
from fraudstream.features import row_features
from fraudstream.model import Model
from fraudstream.rules import Rules
from fraudstream.schema import (
    FIELD_NAMES,
    JUDGED_ARROW,
    Outcome,
    Rejection,
)

Values = tuple[Any, ...]
Position = tuple[int, int]

# TransactionIDs -> the seven stored values of those among them that are stored, in FIELD_NAMES' order.
FindStored = Callable[[list[str]], Mapping[str, Values]]

_ARRIVAL = [("kafka_time", "ascending"), ("partition_id", "ascending"), ("offset", "ascending")]


@dataclass(frozen=True)
class Judge:
    """What decides about a transaction: the rules, and the model where there is one."""

    rules: Rules
    model: Model | None


@dataclass(frozen=True)
class Claims:
    """TransactionIDs that came under several users in one batch -> the (partition, offset) that keeps each.

    Two users' rows are judged in different partitions, so only the driver can see such a clash; it then
    has the batch judged again with the winners named here.
    """

    winners: Mapping[str, Position] = field(default_factory=dict)


def judge_partition(
    cleaned: pa.Table, *, judge: Judge, find_stored: FindStored, claims: Claims | None = None
) -> pa.Table:
    """Rows of CLEANED_ARROW (any order) -> rows of JUDGED_ARROW, each exactly once.

    A usable row becomes STORED, with its verdict; DUPLICATE, when its TransactionID is taken by a row
    with the same seven values; or REJECTED as a conflicting duplicate, when by a row with others.
    """
    rejected = cleaned.filter(pc.is_valid(cleaned["rejection"]))
    usable = cleaned.filter(pc.is_null(cleaned["rejection"])).sort_by(_ARRIVAL)
    outcomes = _decide_duplicates(usable, find_stored, claims or Claims())
    fresh = usable.filter(pa.array([outcome is Outcome.STORED for outcome in outcomes], pa.bool_()))
    repeats = [
        _unjudged(usable.filter(pa.array([outcome is kind for outcome in outcomes], pa.bool_())), kind)
        for kind in (Outcome.DUPLICATE, Outcome.REJECTED)
    ]
    return pa.concat_tables([_judged(fresh, judge), *repeats, _unjudged(rejected, Outcome.REJECTED)])


def _decide_duplicates(usable: pa.Table, find_stored: FindStored, claims: Claims) -> list[Outcome]:
    """One outcome a row; rows are in arrival order, so the first of an id that is free takes it."""
    ids: list[str] = usable["TransactionID"].to_pylist()
    outcomes = [Outcome.STORED] * len(ids)
    if not ids:
        return outcomes
    taken: dict[str, Values | None] = dict(find_stored(ids))
    for row in _suspicious_rows(ids, taken.keys() | claims.winners.keys()):
        values = _values(usable, row)
        transaction_id = ids[row]
        if transaction_id not in taken:
            winner = claims.winners.get(transaction_id)
            if winner is None or winner == _position(usable, row):
                taken[transaction_id] = values
                continue
            taken[transaction_id] = None
        outcomes[row] = Outcome.DUPLICATE if taken[transaction_id] == values else Outcome.REJECTED
    return outcomes


def _suspicious_rows(ids: list[str], taken: Iterable[str]) -> list[int]:
    """The rows whose id occurs more than once or is taken: normally none, so Python may look at each."""
    column = pa.array(ids, pa.string())
    counts = pc.value_counts(column)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    wanted = pa.concat_arrays([repeated, pa.array(list(taken), pa.string())])
    return pc.indices_nonzero(pc.is_in(column, value_set=wanted)).to_pylist()


def _values(rows: pa.Table, row: int) -> Values:
    return tuple(rows[name][row].as_py() for name in FIELD_NAMES)


def _position(rows: pa.Table, row: int) -> Position:
    return rows["partition_id"][row].as_py(), rows["offset"][row].as_py()


def _judged(fresh: pa.Table, judge: Judge) -> pa.Table:
    cents = amount_cents(fresh["Amount"])
    features = row_features(cents, time_s(fresh["Time"]), fresh["Location"].is_null().to_numpy())
    scores = judge.model.score(features) if judge.model else np.zeros(len(fresh))
    texts = _reasons(cents, scores, judge)
    flagged = np.array([text is not None for text in texts], dtype=bool)
    # Without a model a rule's verdict is all there is: 1 when one applies, else 0.
    shown_scores = scores if judge.model else flagged.astype(np.float64)
    return _table(
        fresh,
        outcome=pa.repeat(Outcome.STORED.value, len(fresh)),
        Is_Fraud=pa.array(np.where(flagged, "YES", "NO"), pa.string()),
        score=pa.array(shown_scores, pa.float64()),
        reasons=pa.array(texts, pa.string()),
    )


def _reasons(cents: np.ndarray, scores: np.ndarray, judge: Judge) -> list[str | None]:
    """The reasons of each row as JSON, None where it is not flagged; Python looks at flagged rows only."""
    rule = judge.rules.amount_over
    over = cents > rule.limit_cents
    threshold = judge.model.metadata.threshold if judge.model else np.inf
    strange = scores >= threshold
    texts: list[str | None] = [None] * len(cents)
    for row in np.flatnonzero(over | strange).tolist():
        found = [rule.reason(int(cents[row]))] if over[row] else []
        if strange[row]:
            found.append(reasons.model_reason(float(scores[row]), threshold))
        texts[row] = reasons.to_json(found)
    return texts


def _unjudged(rows: pa.Table, outcome: Outcome) -> pa.Table:
    columns: dict[str, pa.Array] = {"outcome": pa.repeat(outcome.value, len(rows))}
    if outcome is Outcome.REJECTED:
        reason = pc.coalesce(rows["rejection"], pa.scalar(Rejection.CONFLICTING_DUPLICATE.value))
        columns["rejection"] = reason
        columns["detail"] = pc.coalesce(rows["detail"], rows["TransactionID"])
    return _table(rows, **columns)


def _table(rows: pa.Table, **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    """`rows` in the form of JUDGED_ARROW, with `columns` replaced or added and the rest null."""
    present = set(rows.column_names)
    arrays = [
        columns.get(
            column.name, rows[column.name] if column.name in present else pa.nulls(len(rows), column.type)
        )
        for column in JUDGED_ARROW
    ]
    return pa.table(arrays, names=JUDGED_ARROW.names).cast(JUDGED_ARROW)


def amount_cents(amounts: pa.ChunkedArray) -> np.ndarray:
    """Decimal amounts as int64 cents, exact."""
    cents = pc.multiply(amounts.cast(pa.decimal128(20, 2)), pa.scalar(100, pa.decimal128(3, 0)))
    return pc.cast(cents, pa.int64()).to_numpy()


def time_s(times: pa.ChunkedArray) -> np.ndarray:
    """Local times as int64 seconds since 1970-01-01 00:00:00."""
    return times.cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
