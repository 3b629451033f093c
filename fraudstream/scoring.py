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
from numpy.typing import NDArray

from fraudstream import feature_record, history
from fraudstream import rules as reasons
from fraudstream.features import FindHistories, transaction_features
from fraudstream.merchant_risk import DEFAULT_DELAY_S, Outcomes
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

# Which row takes an id: partitions have no common order but Kafka's time.
_EARLIEST_FIRST = [("kafka_time", "ascending"), ("partition_id", "ascending"), ("offset", "ascending")]
# A user's rows are in one partition, where Kafka's order is the offset: this one no batch can cut anew.
_ARRIVAL = [("partition_id", "ascending"), ("offset", "ascending")]


@dataclass(frozen=True)
class Judge:
    """What decides about a transaction: the rules, and the model where there is one."""

    rules: Rules
    model: Model | None

    @property
    def label_delay_s(self) -> int:
        """How late outcomes come in: merchant risk has to look as far back as the model learned it."""
        return self.model.metadata.label_delay_s if self.model else DEFAULT_DELAY_S


@dataclass(frozen=True)
class Known:
    """What is known before the batch: stored transactions, users' histories, confirmed outcomes."""

    find_stored: FindStored
    find_histories: FindHistories
    outcomes: Outcomes


@dataclass(frozen=True)
class Claims:
    """TransactionIDs that came under several users in one batch -> the (partition, offset) that keeps each.

    Two users' rows are judged in different partitions, so only the driver can see such a clash; it then
    has the batch judged again with the winners named here.
    """

    winners: Mapping[str, Position] = field(default_factory=dict)


def judge_partition(
    cleaned: pa.Table, *, judge: Judge, known: Known, claims: Claims | None = None
) -> pa.Table:
    """Rows of CLEANED_ARROW (any order) -> rows of JUDGED_ARROW, each exactly once, and new histories.

    A usable row becomes STORED, with its verdict; DUPLICATE, when its TransactionID is taken by a row
    with the same seven values; or REJECTED as a conflicting duplicate, when by a row with others. Each
    user with a STORED row gets a HISTORY row.
    """
    rejected = cleaned.filter(pc.is_valid(cleaned["rejection"]))
    usable = cleaned.filter(pc.is_null(cleaned["rejection"])).sort_by(_EARLIEST_FIRST)
    outcomes = _decide_duplicates(usable, known.find_stored, claims or Claims())
    fresh = usable.filter(pa.array([outcome is Outcome.STORED for outcome in outcomes], pa.bool_()))
    repeats = [
        _unjudged(usable.filter(pa.array([outcome is kind for outcome in outcomes], pa.bool_())), kind)
        for kind in (Outcome.DUPLICATE, Outcome.REJECTED)
    ]
    judged = _judged(fresh.sort_by(_ARRIVAL), judge, known)
    return pa.concat_tables([*judged, *repeats, _unjudged(rejected, Outcome.REJECTED)])


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


def _judged(fresh: pa.Table, judge: Judge, known: Known) -> tuple[pa.Table, pa.Table]:
    """The stored rows with their verdicts, and their users' histories after them."""
    computed = transaction_features(
        fresh, known.outcomes, find_histories=known.find_histories, delay_s=judge.label_delay_s
    )
    scores = judge.model.score(computed.features) if judge.model else np.zeros(len(fresh))
    texts = _reasons(computed.features, scores, judge)
    flagged = np.array([text is not None for text in texts], dtype=bool)
    # Without a model a rule's verdict is all there is: 1 when one applies, else 0.
    shown_scores = scores if judge.model else flagged.astype(np.float64)
    stored = _table(
        fresh,
        outcome=pa.repeat(Outcome.STORED.value, len(fresh)),
        Is_Fraud=pa.array(np.where(flagged, "YES", "NO"), pa.string()),
        score=pa.array(shown_scores, pa.float64()),
        reasons=pa.array(texts, pa.string()),
        features=feature_record.pack(computed.features),
    )
    users = pa.table({"UserID": pa.array(computed.users, pa.string())})
    histories = _table(
        users,
        outcome=pa.repeat(Outcome.HISTORY.value, len(users)),
        history=pa.array(history.encode(computed.histories), pa.binary()),
    )
    return stored, histories


def _reasons(features: NDArray[np.float64], scores: NDArray[np.float64], judge: Judge) -> list[str | None]:
    """The reasons of each row as JSON, None where it is not flagged; Python looks at flagged rows only."""
    broken = judge.rules.broken(features)
    found = {
        row: judge.rules.reasons(features[row], broken[row])
        for row in np.flatnonzero(broken.any(axis=1)).tolist()
    }
    if judge.model:
        threshold = judge.model.metadata.threshold
        strange = np.flatnonzero(scores >= threshold)
        tops = judge.model.explain(features[strange])
        for row, top in zip(strange.tolist(), tops, strict=True):
            found.setdefault(row, []).append(reasons.model_reason(float(scores[row]), threshold, top))
    return [reasons.to_json(found[row]) if row in found else None for row in range(len(features))]


def with_outcome(judged: pa.Table, outcome: Outcome) -> pa.Table:
    """Of rows of JUDGED_ARROW those with the outcome."""
    return judged.filter(pc.equal(judged["outcome"], outcome.value))


def by_outcome(judged: pa.Table) -> dict[Outcome, pa.Table]:
    """Rows of JUDGED_ARROW apart, each once."""
    return {outcome: with_outcome(judged, outcome) for outcome in Outcome}


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
